#include "catalog/edits.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cowl/names.h"

namespace cowl {
namespace {

Statement& BindDevice(Statement& statement, const DeviceRow& device) {
  return statement.Number(static_cast<uint64_t>(device.kind))
      .Text(device.image)
      .Id(device.image_layer)
      .Id(device.base_layer)
      .Id(device.overlay)
      .Number(device.overlay_written ? 1 : 0)
      .Id(device.pending_overlay)
      .Number(device.pending_written ? 1 : 0)
      .Text(device.volume_file)
      .Number(device.size_bytes)
      .Number(device.cap_bytes)
      .Number(static_cast<uint64_t>(device.created_ns));
}

}  // namespace

absl::Status CatalogEdits::RequireOneRow(Statement statement, const std::string& what) {
  COWL_RETURN_IF_ERROR(statement.Run());
  if (database_.changed_row_count() == 1) return absl::OkStatus();
  return NotFound(absl::StrCat(what, ": not in this store"));
}

absl::Status CatalogEdits::AddFiles(const Uuid& layer, const std::vector<Uuid>& files) {
  for (const Uuid& file : files) {
    Statement statement = database_.Prepare("INSERT INTO layer_file (layer, file) VALUES (?, ?)");
    COWL_RETURN_IF_ERROR(statement.Id(layer).Id(file).Run());
  }
  return absl::OkStatus();
}

absl::Status CatalogEdits::AddLayer(const LayerRow& layer, const std::vector<Uuid>& files) {
  Statement statement = database_.Prepare(
      "INSERT INTO layer (id, parent, size_bytes, stored_bytes, created_ns, created_by) VALUES (?, "
      "?, ?, ?, ?, ?)");
  COWL_RETURN_IF_ERROR(statement.Id(layer.id)
                           .Id(layer.parent)
                           .Number(layer.size_bytes)
                           .Number(layer.stored_bytes)
                           .Number(static_cast<uint64_t>(layer.created_ns))
                           .Text(layer.created_by)
                           .Run());
  return AddFiles(layer.id, files);
}

absl::Status CatalogEdits::UpdateLayer(const LayerRow& layer, const std::vector<Uuid>& files) {
  Statement update = database_.Prepare(
      "UPDATE layer SET parent = ?, size_bytes = ?, stored_bytes = ?, created_ns = ?, created_by = "
      "? WHERE id = ?");
  update.Id(layer.parent)
      .Number(layer.size_bytes)
      .Number(layer.stored_bytes)
      .Number(static_cast<uint64_t>(layer.created_ns))
      .Text(layer.created_by)
      .Id(layer.id);
  COWL_RETURN_IF_ERROR(
      RequireOneRow(std::move(update), absl::StrCat("layer ", layer.id.ToString())));
  Statement forget = database_.Prepare("DELETE FROM layer_file WHERE layer = ?");
  COWL_RETURN_IF_ERROR(forget.Id(layer.id).Run());
  return AddFiles(layer.id, files);
}

absl::Status CatalogEdits::RemoveLayer(const Uuid& id) {
  Statement forget = database_.Prepare("DELETE FROM layer_file WHERE layer = ?");
  COWL_RETURN_IF_ERROR(forget.Id(id).Run());
  Statement remove = database_.Prepare("DELETE FROM layer WHERE id = ?");
  remove.Id(id);
  return RequireOneRow(std::move(remove), absl::StrCat("layer ", id.ToString()));
}

absl::Status CatalogEdits::PutImage(const ImageRow& image, bool move_tag) {
  COWL_RETURN_IF_ERROR(ParseImageName(image.ToString()).status());
  COWL_RETURN_IF_ERROR(CheckImageFree(image.name, image.tag, move_tag));
  Statement statement = database_.Prepare(
      "INSERT INTO image (name, tag, layer, created_ns) VALUES (?1, ?2, ?3, ?4) "
      "ON CONFLICT (name, tag) DO UPDATE SET layer = ?3, created_ns = ?4");
  return statement.Text(image.name)
      .Text(image.tag)
      .Id(image.layer)
      .Number(static_cast<uint64_t>(image.created_ns))
      .Run();
}

absl::Status CatalogEdits::RemoveImage(const std::string& name, const std::string& tag) {
  COWL_RETURN_IF_ERROR(FindImage(name, tag).status());
  Statement statement = database_.Prepare("DELETE FROM image WHERE name = ? AND tag = ?");
  return statement.Text(name).Text(tag).Run();
}

absl::Status CatalogEdits::RenameOrigin(const std::string& old_image,
                                        const std::string& new_image) {
  Statement statement = database_.Prepare("UPDATE device SET image = ? WHERE image = ?");
  return statement.Text(new_image).Text(old_image).Run();
}

absl::Status CatalogEdits::AddDevice(const DeviceRow& device) {
  COWL_RETURN_IF_ERROR(ValidateDeviceName(device.name));
  COWL_RETURN_IF_ERROR(CheckDeviceFree(device.name));
  Statement statement = database_.Prepare(
      "INSERT INTO device (name, kind, image, image_layer, base_layer, overlay, overlay_written, "
      "pending_overlay, "
      "pending_written, volume_file, size_bytes, cap_bytes, created_ns) VALUES (?, ?, ?, ?, ?, ?, "
      "?, ?, ?, ?, ?, ?, ?)");
  statement.Text(device.name);
  return BindDevice(statement, device).Run();
}

absl::Status CatalogEdits::UpdateDevice(const DeviceRow& device) {
  Statement statement = database_.Prepare(
      "UPDATE device SET kind = ?, image = ?, image_layer = ?, base_layer = ?, overlay = ?, "
      "overlay_written = ?, "
      "pending_overlay = ?, pending_written = ?, volume_file = ?, size_bytes = ?, cap_bytes = ?, "
      "created_ns = ? WHERE name = ?");
  BindDevice(statement, device).Text(device.name);
  return RequireOneRow(std::move(statement), absl::StrCat("device ", device.name));
}

absl::Status CatalogEdits::MarkOverlayWritten(const Uuid& overlay) {
  Statement statement =
      database_.Prepare("UPDATE device SET overlay_written = 1 WHERE overlay = ?");
  statement.Id(overlay);
  return RequireOneRow(std::move(statement), absl::StrCat("overlay ", overlay.ToString()));
}

absl::Status CatalogEdits::RenameDevice(const std::string& old_name, const std::string& new_name) {
  COWL_ASSIGN_OR_RETURN(DeviceRow device, FindDevice(old_name));
  if (old_name == new_name) return absl::OkStatus();
  COWL_RETURN_IF_ERROR(RemoveDevice(old_name));
  device.name = new_name;
  return AddDevice(device);
}

absl::Status CatalogEdits::RemoveDevice(const std::string& name) {
  COWL_RETURN_IF_ERROR(FindDevice(name).status());
  Statement statement = database_.Prepare("DELETE FROM device WHERE name = ?");
  return statement.Text(name).Run();
}

absl::Status CatalogEdits::AddPin(const PinRow& pin) {
  Statement statement =
      database_.Prepare("INSERT INTO pin (token, layer, owner, created_ns) VALUES (?, ?, ?, ?)");
  return statement.Text(pin.token)
      .Id(pin.layer)
      .Text(pin.owner)
      .Number(static_cast<uint64_t>(pin.created_ns))
      .Run();
}

absl::Status CatalogEdits::RemovePin(const std::string& token) {
  Statement statement = database_.Prepare("DELETE FROM pin WHERE token = ?");
  statement.Text(token);
  return RequireOneRow(std::move(statement), absl::StrCat("frozen state ", Quoted(token)));
}

absl::Status CatalogEdits::SetSetting(const std::string& key, const std::string& value) {
  Statement statement = database_.Prepare(
      "INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = "
      "?2");
  return statement.Text(key).Text(value).Run();
}

}  // namespace cowl
