#include "image/layer_sink.h"

#include "base/status.h"

namespace cowl {
namespace {

Task<absl::StatusOr<std::unique_ptr<LayerWriter>>> MakeWriter(Storage* storage,
                                                              const std::string* name,
                                                              const LayerWriterOptions* options) {
  co_return LayerWriter::Create(*storage, *name, *options);
}

Task<absl::Status> Drop(std::unique_ptr<LayerWriter> writer) {
  writer.reset();
  co_return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LayerSink> LayerSink::Create(Loop& loop, Storage& storage, const std::string& name,
                                            const LayerWriterOptions& options) {
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<LayerWriter> writer,
                        RunOn(loop, MakeWriter(&storage, &name, &options)));
  return LayerSink(loop, std::move(writer), options.size_bytes);
}

LayerSink::~LayerSink() {
  if (writer_ != nullptr) RunOn(loop_, Drop(std::move(writer_))).IgnoreError();
}

absl::StatusOr<SinkSummary> LayerSink::Finish() {
  COWL_ASSIGN_OR_RETURN(const LayerSummary summary, RunOn(loop_, writer_->Finish()));
  return SinkSummary{summary.id.ToString(), summary.stored_bytes};
}

}  // namespace cowl
