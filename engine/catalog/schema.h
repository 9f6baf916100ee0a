// schema.h: the tables of the catalog, their version, and whether a file is a catalog at all.
// Errors: FailedPrecondition for a file of somebody else's and for a newer version, DataLoss for
// one that is damaged.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "catalog/database.h"

namespace cowl {

// Raised with every change that an older cowl would misread.
inline constexpr uint32_t kCatalogVersion = 1;
// "COWL": SQLite keeps it in the file's header.
inline constexpr uint32_t kCatalogApplicationId = 0x434f574c;

absl::Status CreateSchema(Database& database);
// Is the file ours? To be asked before SQLite may touch it: opening somebody else's database could
// already change it.
absl::Status CheckHeader(const std::string& path);
// Is it of a version we know, and whole? Costs a read of the file.
absl::Status CheckSchema(Database& database);

}  // namespace cowl
