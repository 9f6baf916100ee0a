#include "catalog/queries.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "cowl/names.h"

namespace cowl {
namespace {

uint64_t SizeAt(Statement& row, int column) {
  const uint64_t size_bytes = row.NumberAt(column);
  if (size_bytes < kDeviceBytesMin || size_bytes > kDeviceBytesMax ||
      size_bytes % kSectorBytes != 0)
    row.MarkMalformed("size");
  return size_bytes;
}

LayerRow ReadLayer(Statement& row) {
  LayerRow layer;
  layer.id = row.IdAt(0);
  layer.parent = row.IdAt(1);
  layer.size_bytes = SizeAt(row, 2);
  layer.stored_bytes = row.NumberAt(3);
  layer.created_ns = static_cast<int64_t>(row.NumberAt(4));
  layer.created_by = row.TextAt(5);
  return layer;
}

ImageRow ReadImage(Statement& row) {
  ImageRow image;
  image.name = row.TextAt(0);
  image.tag = row.TextAt(1);
  image.layer = row.IdAt(2);
  image.created_ns = static_cast<int64_t>(row.NumberAt(3));
  if (!ParseImageName(image.ToString()).ok()) row.MarkMalformed("image name");
  return image;
}

DeviceRow ReadDevice(Statement& row) {
  DeviceRow device;
  device.name = row.TextAt(0);
  device.kind = row.NumberAt(1) == 1 ? DeviceRow::Kind::kVolume : DeviceRow::Kind::kOverlay;
  device.image = row.TextAt(2);
  device.image_layer = row.IdAt(3);
  device.base_layer = row.IdAt(4);
  device.overlay = row.IdAt(5);
  device.overlay_written = row.NumberAt(6) == 1;
  device.pending_overlay = row.IdAt(7);
  device.pending_written = row.NumberAt(8) == 1;
  device.volume_file = row.TextAt(9);
  device.size_bytes = SizeAt(row, 10);
  device.cap_bytes = row.NumberAt(11);
  device.created_ns = static_cast<int64_t>(row.NumberAt(12));
  if (!ValidateDeviceName(device.name).ok()) row.MarkMalformed("device name");
  if (device.volume_file.find('/') != std::string::npos) row.MarkMalformed("volume file name");
  return device;
}

PinRow ReadPin(Statement& row) {
  PinRow pin;
  pin.token = row.TextAt(0);
  pin.layer = row.IdAt(1);
  pin.owner = row.TextAt(2);
  pin.created_ns = static_cast<int64_t>(row.NumberAt(3));
  return pin;
}

Uuid ReadId(Statement& row) { return row.IdAt(0); }
std::string ReadText(Statement& row) { return row.TextAt(0); }

// All rows of the answer.
template <typename Row>
absl::StatusOr<std::vector<Row>> Collect(Statement statement, Row (*read)(Statement&)) {
  std::vector<Row> rows;
  while (true) {
    COWL_ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) return rows;
    rows.push_back(read(statement));
    COWL_RETURN_IF_ERROR(statement.RowStatus());
  }
}

// The one row of the answer, or NotFound with `missing`.
template <typename Row>
absl::StatusOr<Row> One(Statement statement, Row (*read)(Statement&), const std::string& missing) {
  COWL_ASSIGN_OR_RETURN(const bool found, statement.Step());
  if (!found) return NotFound(missing);
  Row row = read(statement);
  COWL_RETURN_IF_ERROR(statement.RowStatus());
  return row;
}

absl::StatusOr<bool> Exists(Statement statement) { return statement.Step(); }

#define LAYER_COLUMNS "id, parent, size_bytes, stored_bytes, created_ns, created_by"
#define IMAGE_COLUMNS "name, tag, layer, created_ns"
#define DEVICE_COLUMNS                                                                      \
  "name, kind, image, image_layer, base_layer, overlay, overlay_written, pending_overlay, " \
  "pending_written, "                                                                       \
  "volume_file, size_bytes, cap_bytes, created_ns"

}  // namespace

absl::StatusOr<uint64_t> CatalogQueries::CountOf(Statement statement) {
  COWL_ASSIGN_OR_RETURN(const bool found, statement.Step());
  const uint64_t count = found ? statement.NumberAt(0) : 0;
  COWL_RETURN_IF_ERROR(statement.RowStatus());
  return count;
}

absl::StatusOr<std::vector<LayerRow>> CatalogQueries::Layers() {
  return Collect(database_.Prepare("SELECT " LAYER_COLUMNS " FROM layer ORDER BY created_ns, id"),
                 ReadLayer);
}

absl::StatusOr<LayerRow> CatalogQueries::FindLayer(const Uuid& id) {
  return One(
      std::move(database_.Prepare("SELECT " LAYER_COLUMNS " FROM layer WHERE id = ?").Id(id)),
      ReadLayer, absl::StrCat("layer ", id.ToString(), ": not in the catalog"));
}

absl::StatusOr<std::vector<LayerRow>> CatalogQueries::Chain(const Uuid& top) {
  std::vector<LayerRow> chain;
  for (Uuid id = top; !id.IsNil(); id = chain.back().parent) {
    if (chain.size() == kChainLayersMax) {
      return DataLoss(absl::StrCat(database_.path(), ": damaged (the chain of layer ",
                                   top.ToString(), " has more than ", kChainLayersMax,
                                   " layers); restore the file from a backup"));
    }
    COWL_ASSIGN_OR_RETURN(LayerRow layer, FindLayer(id));
    chain.push_back(std::move(layer));
  }
  return chain;
}

absl::StatusOr<std::vector<LayerRow>> CatalogQueries::Children(const Uuid& layer) {
  return Collect(std::move(database_
                               .Prepare("SELECT " LAYER_COLUMNS
                                        " FROM layer WHERE parent = ? ORDER BY created_ns, id")
                               .Id(layer)),
                 ReadLayer);
}

absl::StatusOr<LayerUse> CatalogQueries::UseOf(const Uuid& layer) {
  Statement statement = database_.Prepare(
      "SELECT (SELECT count(*) FROM image WHERE layer = ?1), (SELECT count(*) FROM device WHERE "
      "image_layer = ?1), "
      "(SELECT count(*) FROM device WHERE base_layer = ?1), (SELECT count(*) FROM pin WHERE layer "
      "= ?1), "
      "(SELECT count(*) FROM layer WHERE parent = ?1)");
  statement.Id(layer);
  COWL_RETURN_IF_ERROR(statement.Step().status());
  const LayerUse use{statement.NumberAt(0), statement.NumberAt(1), statement.NumberAt(2),
                     statement.NumberAt(3), statement.NumberAt(4)};
  COWL_RETURN_IF_ERROR(statement.RowStatus());
  return use;
}

absl::StatusOr<std::vector<Uuid>> CatalogQueries::UnnamedLayers() {
  return Collect(
      database_.Prepare(
          "SELECT id FROM layer WHERE NOT EXISTS (SELECT 1 FROM image WHERE image.layer = "
          "layer.id) "
          "AND NOT EXISTS (SELECT 1 FROM device WHERE image_layer = layer.id) "
          "AND NOT EXISTS (SELECT 1 FROM device WHERE base_layer = layer.id) "
          "AND NOT EXISTS (SELECT 1 FROM pin WHERE pin.layer = layer.id) ORDER BY created_ns, id"),
      ReadId);
}

absl::StatusOr<std::vector<Uuid>> CatalogQueries::FilesOf(const Uuid& layer) {
  return Collect(
      std::move(
          database_.Prepare("SELECT file FROM layer_file WHERE layer = ? ORDER BY file").Id(layer)),
      ReadId);
}

absl::StatusOr<std::vector<Uuid>> CatalogQueries::LayersUsing(const Uuid& file) {
  return Collect(
      std::move(
          database_.Prepare("SELECT layer FROM layer_file WHERE file = ? ORDER BY layer").Id(file)),
      ReadId);
}

absl::StatusOr<std::unordered_set<Uuid>> CatalogQueries::NamedFiles() {
  COWL_ASSIGN_OR_RETURN(
      const std::vector<Uuid> ids,
      Collect(database_.Prepare(
                  "SELECT id FROM layer UNION SELECT file FROM layer_file "
                  "UNION SELECT overlay FROM device WHERE kind = 0 UNION SELECT pending_overlay "
                  "FROM device WHERE pending_overlay IS NOT NULL"),
              ReadId));
  return std::unordered_set<Uuid>(ids.begin(), ids.end());
}

absl::StatusOr<bool> CatalogQueries::IsNamedFile(const Uuid& file) {
  Statement statement = database_.Prepare(
      "SELECT 1 FROM layer WHERE id = ?1 UNION ALL SELECT 1 FROM layer_file WHERE file = ?1 UNION "
      "ALL "
      "SELECT 1 FROM device WHERE overlay = ?1 UNION ALL SELECT 1 FROM device WHERE "
      "pending_overlay = ?1 LIMIT 1");
  statement.Id(file);
  return statement.Step();
}

absl::StatusOr<std::vector<Uuid>> CatalogQueries::LayerFiles() {
  return Collect(database_.Prepare("SELECT DISTINCT file FROM layer_file ORDER BY file"), ReadId);
}

absl::StatusOr<std::vector<std::string>> CatalogQueries::VolumeFiles() {
  return Collect(database_.Prepare("SELECT volume_file FROM device WHERE kind = 1 ORDER BY name"),
                 ReadText);
}

absl::StatusOr<std::vector<ImageRow>> CatalogQueries::Images() {
  return Collect(database_.Prepare("SELECT " IMAGE_COLUMNS " FROM image ORDER BY name, tag"),
                 ReadImage);
}

absl::StatusOr<ImageRow> CatalogQueries::FindImage(const std::string& name,
                                                   const std::string& tag) {
  return One(
      std::move(database_.Prepare("SELECT " IMAGE_COLUMNS " FROM image WHERE name = ? AND tag = ?")
                    .Text(name)
                    .Text(tag)),
      ReadImage,
      absl::StrCat("image ", name, ":", tag,
                   ": not in this store; `cowl images` lists those that are"));
}

absl::StatusOr<std::vector<ImageRow>> CatalogQueries::ImagesOn(const Uuid& layer) {
  return Collect(std::move(database_
                               .Prepare("SELECT " IMAGE_COLUMNS
                                        " FROM image WHERE layer = ? ORDER BY name, tag")
                               .Id(layer)),
                 ReadImage);
}

absl::StatusOr<bool> CatalogQueries::HasImageNamed(const std::string& name) {
  return Exists(
      std::move(database_.Prepare("SELECT 1 FROM image WHERE name = ? LIMIT 1").Text(name)));
}

absl::Status CatalogQueries::CheckImageFree(const std::string& name, const std::string& tag,
                                            bool move_tag) {
  COWL_ASSIGN_OR_RETURN(const bool is_device, HasDevice(name));
  if (is_device) {
    return AlreadyExists(
        absl::StrCat("image ", name,
                     ": a device has this name; images and devices share one name space, "
                     "choose another"));
  }
  if (move_tag) return absl::OkStatus();
  const absl::Status taken = FindImage(name, tag).status();
  if (absl::IsNotFound(taken)) return absl::OkStatus();
  if (!taken.ok()) return taken;
  return AlreadyExists(
      absl::StrCat("image ", name, ":", tag,
                   ": there is one already; choose another name, or move the tag with "
                   "--force"));
}

absl::StatusOr<std::vector<DeviceRow>> CatalogQueries::Devices() {
  return Collect(database_.Prepare("SELECT " DEVICE_COLUMNS " FROM device ORDER BY name"),
                 ReadDevice);
}

absl::StatusOr<DeviceRow> CatalogQueries::FindDevice(const std::string& name) {
  return One(
      std::move(
          database_.Prepare("SELECT " DEVICE_COLUMNS " FROM device WHERE name = ?").Text(name)),
      ReadDevice,
      absl::StrCat("device ", Quoted(name), ": not in this store; `cowl ls` lists those that are"));
}

absl::StatusOr<std::vector<DeviceRow>> CatalogQueries::DevicesOn(const Uuid& base_layer) {
  return Collect(std::move(database_
                               .Prepare("SELECT " DEVICE_COLUMNS
                                        " FROM device WHERE base_layer = ? ORDER BY name")
                               .Id(base_layer)),
                 ReadDevice);
}

absl::StatusOr<std::vector<DeviceRow>> CatalogQueries::PendingDevices() {
  return Collect(database_.Prepare("SELECT " DEVICE_COLUMNS
                                   " FROM device WHERE pending_overlay IS NOT NULL ORDER BY name"),
                 ReadDevice);
}

absl::Status CatalogQueries::CheckDeviceFree(const std::string& name) {
  COWL_ASSIGN_OR_RETURN(const bool is_image, HasImageNamed(name));
  if (is_image) {
    return AlreadyExists(
        absl::StrCat("device ", name,
                     ": an image has this name; images and devices share one name space, "
                     "choose another"));
  }
  COWL_ASSIGN_OR_RETURN(const bool is_device, HasDevice(name));
  if (!is_device) return absl::OkStatus();
  return AlreadyExists(
      absl::StrCat("device ", name, ": there is one already; choose another name"));
}

absl::StatusOr<bool> CatalogQueries::HasDevice(const std::string& name) {
  return Exists(
      std::move(database_.Prepare("SELECT 1 FROM device WHERE name = ? LIMIT 1").Text(name)));
}

absl::StatusOr<std::vector<PinRow>> CatalogQueries::Pins() {
  return Collect(database_.Prepare(
                     "SELECT token, layer, owner, created_ns FROM pin ORDER BY created_ns, token"),
                 ReadPin);
}

absl::StatusOr<std::string> CatalogQueries::Setting(const std::string& key) {
  Statement statement = database_.Prepare("SELECT value FROM setting WHERE key = ?");
  statement.Text(key);
  COWL_ASSIGN_OR_RETURN(const bool found, statement.Step());
  std::string value = found ? statement.TextAt(0) : "";
  COWL_RETURN_IF_ERROR(statement.RowStatus());
  return value;
}

}  // namespace cowl
