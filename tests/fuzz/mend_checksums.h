// mend_checksums.h: makes the checksums of a data file that a fuzzer changed hold again, so that
// what it changed is looked at. Without that no change gets past the first check. Ownership: none,
// the bytes are changed in place. Threads: pure function. Errors: none; what is beyond mending (a
// superblock with fields that cannot be) stays as it is. A file that is whole comes out as it went
// in.
#pragma once

#include <cstddef>
#include <span>

namespace cowl {

// Mends, by the newest superblock: the records of the journal and how they follow each other, the
// checksums of the data that records and map name, the pages of those, the sections, and both
// superblocks.
void MendChecksums(std::span<std::byte> file);

}  // namespace cowl
