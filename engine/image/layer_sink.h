// layer_sink.h: a new layer file as a sink.
// Ownership: `loop` and `storage` must outlive it. Threads: any one but the loop's. Errors: as
// LayerWriter.
#pragma once

#include <memory>
#include <string>

#include "image/block_sink.h"
#include "io/loop.h"
#include "layer/layer_writer.h"

namespace cowl {

class LayerSink : public BlockSink {
 public:
  static absl::StatusOr<LayerSink> Create(Loop& loop, Storage& storage, const std::string& name,
                                          const LayerWriterOptions& options);
  LayerSink(LayerSink&&) = default;
  LayerSink& operator=(LayerSink&&) = delete;
  // The writer's files belong to the loop, so they go there.
  ~LayerSink() override;

  uint64_t size_bytes() const override { return size_bytes_; }
  absl::Status Write(uint64_t block, std::span<const std::byte> data) override {
    return RunOn(loop_, writer_->Write(block, data));
  }
  absl::Status Zero(uint64_t begin_block, uint64_t end_block) override {
    return RunOn(loop_, writer_->Zero(begin_block, end_block));
  }
  absl::StatusOr<SinkSummary> Finish() override;

 private:
  LayerSink(Loop& loop, std::unique_ptr<LayerWriter> writer, uint64_t size_bytes)
      : loop_(loop), writer_(std::move(writer)), size_bytes_(size_bytes) {}

  Loop& loop_;
  std::unique_ptr<LayerWriter> writer_;
  const uint64_t size_bytes_;
};

}  // namespace cowl
