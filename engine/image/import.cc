#include "image/import.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "image/diff_sink.h"
#include "image/frozen_source.h"
#include "image/layer_sink.h"
#include "io/loop_thread.h"

namespace cowl {
namespace {

// A file that goes away unless it is kept.
class TentativeFile {
 public:
  explicit TentativeFile(const std::string& path) : path_(path) {}
  ~TentativeFile() {
    if (!kept_) unlink(path_.c_str());
  }
  void Keep() { kept_ = true; }

 private:
  const std::string path_;
  bool kept_ = false;
};

absl::StatusOr<Uuid> ParentId(const FrozenView& parent) {
  if (parent.layers.empty()) return Uuid{};
  const auto id = Uuid::Parse(parent.layers[0].id);
  if (!id.has_value()) {
    return Internal(
        absl::StrCat("the parent's layer has no id, but \"", parent.layers[0].id, "\""));
  }
  return *id;
}

absl::StatusOr<SinkSummary> Pour(Importer& importer, BlockSink& layer,
                                 const ImportOptions& options) {
  if (options.parent.layers.empty()) {
    COWL_RETURN_IF_ERROR(importer.Pour(layer, options.progress));
    return layer.Finish();
  }
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<BlockSource> parent, OpenFrozenView(options.parent));
  DiffSink difference(layer, *parent);
  COWL_RETURN_IF_ERROR(importer.Pour(difference, options.progress));
  return difference.Finish();
}

}  // namespace

absl::StatusOr<ImportResult> Import(const ImportOptions& options) {
  COWL_ASSIGN_OR_RETURN(const Uuid parent_id, ParentId(options.parent));
  ImportSourceOptions source = options.source;
  source.size_bytes_min = options.parent.size_bytes;
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<Importer> importer,
                        OpenImporter(source, options.progress));

  // Plain system calls: one large write at a time gains nothing from a ring.
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<LoopThread> thread,
                        LoopThread::Start(IoBackend::kSync, "cowl-import"));
  const std::unique_ptr<Storage> storage =
      thread->loop().OpenStorage(FolderOf(options.staged_path));
  LayerWriterOptions layer_options;
  layer_options.size_bytes = importer->size_bytes();
  layer_options.parent = parent_id;
  layer_options.created_by = options.created_by;
  COWL_ASSIGN_OR_RETURN(
      LayerSink layer,
      LayerSink::Create(thread->loop(), *storage, NameIn(options.staged_path), layer_options));
  TentativeFile staged(options.staged_path);
  COWL_ASSIGN_OR_RETURN(const SinkSummary summary, Pour(*importer, layer, options));
  staged.Keep();

  ImportResult result;
  result.staged_path = options.staged_path;
  result.layer_id = summary.layer_id;
  if (!parent_id.IsNil()) result.parent_id = parent_id.ToString();
  result.size_bytes = importer->size_bytes();
  result.stored_bytes = summary.stored_bytes;
  return result;
}

}  // namespace cowl
