// paths.h: where things are in a store's directory. Threads: value type.
#pragma once

#include <array>
#include <string>

#include "base/uuid.h"
#include "layer/layer.h"

namespace cowl {

inline constexpr char kLayersFolder[] = "layers";    // data files of layers and overlays: UUID.cowl
inline constexpr char kVolumesFolder[] = "volumes";  // NAME-UUID.raw
inline constexpr char kStagingFolder[] =
    "staging";                                     // what imports write before they are registered
inline constexpr char kAttachFolder[] = "attach";  // what is attached to this host's kernel
inline constexpr std::array kFolders = {kLayersFolder, kVolumesFolder, kStagingFolder,
                                        kAttachFolder};
inline constexpr char kDataSuffix[] = ".cowl";
inline constexpr char kVolumeSuffix[] = ".raw";
inline constexpr char kReserveFile[] = "reserve";  // space kept back for when the disk is full
inline constexpr char kLockFile[] = "lock";
inline constexpr char kCatalogFile[] = "catalog.db";

struct StorePaths {
  std::string root;  // absolute

  std::string Of(const std::string& name) const { return root + "/" + name; }
  std::string DataFile(const Uuid& id) const { return Of(DataFileName(id)); }
};

}  // namespace cowl
