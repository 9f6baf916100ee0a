#include "image/layer_sink.h"

#include "base/status.h"

namespace cowl {
namespace {

Task<absl::Status> Drop(std::unique_ptr<LayerWriter> writer) {
  writer.reset();
  co_return absl::OkStatus();
}

}  // namespace

LayerSink::~LayerSink() { RunOn(loop_, Drop(std::move(writer_))).IgnoreError(); }

absl::StatusOr<SinkSummary> LayerSink::Finish() {
  COWL_ASSIGN_OR_RETURN(const LayerSummary summary, RunOn(loop_, writer_->Finish()));
  return SinkSummary{summary.id.ToString(), summary.stored_bytes};
}

}  // namespace cowl
