// verify.h: whether what a record says still stands, and undoing what one left.
// Threads and processes: the caller holds the record's lock. Errors: as attach.h.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "attach/mount_table.h"
#include "attach/record.h"

namespace cowl {

// The kernel has the device, and it is the very one that was attached.
bool IsAlive(const Record& record);

// The topmost mount at the attachment's directory is its device.
bool IsOurMount(const Attachment& attachment, const std::vector<MountEntry>& table);
// Its device is mounted there, perhaps below something else.
bool HasMount(const Attachment& attachment, const std::vector<MountEntry>& table);

// Takes away whatever there is of an attachment that is half made or half gone, and the record.
absl::Status UndoRecord(const std::string& store_dir, const Record& record);

}  // namespace cowl
