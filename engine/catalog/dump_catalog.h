// dump_catalog.h: the catalog's tables as text, a line a row, for people who look into a store.
// Threads: any. Errors: what cannot be read is a line of the text.
// Writes nothing, also beside a server that has the file open: what is dumped then is what it has
// committed.
#pragma once

#include <ostream>
#include <string>

namespace cowl {

void DumpCatalog(const std::string& path, std::ostream& out);

}  // namespace cowl
