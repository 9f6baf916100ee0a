// rows.h: what the catalog remembers, one struct a table.
// Units: bytes; times are nanoseconds since 1970 UTC. A nil Uuid means none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/uuid.h"

namespace cowl {

// An immutable layer. Its id is also the name of its file (layers/ID.cowl).
struct LayerRow {
  Uuid id;
  Uuid parent;
  uint64_t size_bytes = 0;    // of the disk this layer is the top of
  uint64_t stored_bytes = 0;  // live data blocks of its map x 4096
  int64_t created_ns = 0;
  std::string created_by;
};

// A name for the top of a chain.
struct ImageRow {
  std::string name;
  std::string tag;
  Uuid layer;
  int64_t created_ns = 0;

  std::string ToString() const { return name + ":" + tag; }
};

struct DeviceRow {
  enum class Kind { kOverlay = 0, kVolume = 1 };

  std::string name;
  Kind kind = Kind::kOverlay;
  std::string image;  // NAME:TAG it was made from, as a hint for reports; empty: from nothing
  Uuid image_layer;   // what reset goes back to
  Uuid
      base_layer;  // the top of the chain below the overlay; differs from image_layer after a clone
  Uuid overlay;    // of the writable file, given out when the device is made (kVolume: of its raw
                   // file)
  bool overlay_written =
      false;             // that file exists and is durable; false: the device was never written
  Uuid pending_overlay;  // the successor while the overlay is being sealed into a layer
  bool pending_written = false;  // that one has a file, which device writes may be in already
  std::string volume_file;       // kVolume: its file below volumes/
  uint64_t size_bytes = 0;
  uint64_t cap_bytes = 0;  // 0: none
  int64_t created_ns = 0;
};

// A layer that somebody outside the store reads (export, import --parent) and that must stay
// meanwhile.
struct PinRow {
  std::string token;
  Uuid layer;
  std::string owner;  // what tells whether the owner still lives; the store knows how to read it
  int64_t created_ns = 0;
};

// Who refers to a layer.
struct LayerUse {
  uint64_t image_count = 0;
  uint64_t device_image_count = 0;  // devices that would be reset to it
  uint64_t device_base_count = 0;   // devices whose overlay sits on it
  uint64_t pin_count = 0;
  uint64_t child_count = 0;
};

}  // namespace cowl
