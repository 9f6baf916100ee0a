// An overlay's file, fed with anything behind checksums that hold. Where it opens it must serve:
// what could be read stays as it was, and what is written is there again after a kill, after a
// close, and as a layer.
#include <algorithm>
#include <cstdio>
#include <map>
#include <vector>

#include "base/status.h"
#include "io/memory_storage.h"
#include "layer/layer.h"
#include "mend_checksums.h"
#include "overlay/overlay.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;
using OverlayPointer = std::unique_ptr<Overlay>;

constexpr size_t kPiecesRead = 32;
constexpr uint64_t kBlocksWritten = 3;  // by each write

// What an overlay says of a block. `bytes` is empty where it has none, or cannot read them.
struct Found {
  Segment::Kind kind = Segment::Kind::kAbsent;
  Bytes bytes;
};
using Model = std::map<uint64_t, Found>;

Found ReadBlock(Overlay& overlay, uint64_t block) {
  const uint64_t ticket = overlay.EnterRead();
  Segment segment;
  overlay.VisitRange(block, block + 1, [&](const Segment& piece) { segment = piece; });
  Found found{segment.kind, {}};
  if (segment.kind == Segment::Kind::kData) {
    found.bytes.resize(kBlockBytes);
    if (!RunInline(overlay.ReadSlots(segment.physical, found.bytes)).ok()) found.bytes.clear();
  }
  overlay.LeaveRead(ticket);
  return found;
}

// The ends of some pieces of the map.
Model ReadSome(Overlay& overlay) {
  std::vector<uint64_t> blocks;
  overlay.VisitRange(0, Extent::kStartLimit, [&](const Segment& piece) {
    if (blocks.size() >= 2 * kPiecesRead) return;
    blocks.push_back(piece.start);
    blocks.push_back(piece.end() - 1);
  });
  Model model;
  for (const uint64_t block : blocks) model[block] = ReadBlock(overlay, block);
  return model;
}

void CheckHolds(Overlay& overlay, const Model& model) {
  for (const auto& [block, expected] : model) {
    const Found found = ReadBlock(overlay, block);
    COWL_CHECK(found.kind == expected.kind);
    COWL_CHECK(expected.bytes.empty() || found.bytes == expected.bytes);
  }
}

// Of what opened once, these alone are reasons not to write: a file that is as long as may be, and
// one whose numbers are used up.
void CheckMayFail(const absl::Status& status) {
  if (status.ok() || absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status))
    return;
  std::fprintf(stderr, "refused: %s\n", Message(status).c_str());
  COWL_CHECK(false);
}

void WriteBlocks(Overlay& overlay, uint64_t block, uint8_t value, Model& model) {
  const Bytes data(kBlocksWritten * kBlockBytes, std::byte{value});
  const absl::Status status = RunInline(overlay.Write(block, data));
  CheckMayFail(status);
  for (uint64_t i = 0; status.ok() && i < kBlocksWritten; ++i)
    model[block + i] = {Segment::Kind::kData, Bytes(kBlockBytes, std::byte{value})};
}

void ZeroBlocks(Overlay& overlay, uint64_t block, uint64_t blocks, Model& model) {
  const absl::Status status = RunInline(overlay.Zero(block, blocks));
  CheckMayFail(status);
  if (!status.ok()) return;
  for (auto& [at, found] : model) {
    if (at >= block && at < block + blocks) found = {Segment::Kind::kZero, {}};
  }
}

// Over pieces that are there and where nothing is, with a flush between.
void Change(Overlay& overlay, Model& model) {
  std::vector<uint64_t> blocks = {0};
  for (const auto& [block, found] : model) {
    if (found.kind != Segment::Kind::kAbsent && block + kBlocksWritten <= Extent::kStartLimit)
      blocks.push_back(block);
  }
  WriteBlocks(overlay, blocks.front(), 1, model);
  WriteBlocks(overlay, blocks.back(), 2, model);
  ZeroBlocks(overlay, blocks[blocks.size() / 2], 2, model);
  const absl::Status status = RunInline(overlay.Flush());
  CheckMayFail(status);
  WriteBlocks(overlay, blocks[blocks.size() / 3], 3, model);
  CheckHolds(overlay, model);
}

// Of a file that opened before: it must open again.
OverlayPointer Open(Loop& loop, MemoryStorage& storage, const Uuid& id, const Model& model) {
  absl::StatusOr<OverlayPointer> opened =
      RunInline(Overlay::Open(loop, storage, id, OpenMode::kReadWrite, false));
  if (!opened.ok()) std::fprintf(stderr, "lost: %s\n", Message(opened.status()).c_str());
  COWL_CHECK(opened.ok());
  CheckHolds(**opened, model);
  return *std::move(opened);
}

void CheckAsLayer(Overlay& overlay, MemoryStorage& storage) {
  const uint64_t stored = overlay.stored_blocks();
  const absl::Status sealed = RunInline(overlay.SealToLayer(kGiB, Uuid(), "fuzzed"));
  if (!sealed.ok()) return;  // a checksum page that cannot be read, for one
  const auto layer = RunInline(LoadLayerMap(storage, DataFileName(overlay.id())));
  COWL_CHECK(layer.ok() && (*layer)->superblock.stored_blocks == stored);
  COWL_CHECK((*layer)->map.extents.DataBlocks() == stored);
}

void Run(std::span<const uint8_t> input) {
  Bytes bytes(input.size());
  std::ranges::transform(input, bytes.begin(), [](uint8_t byte) { return std::byte{byte}; });
  MendChecksums(bytes);
  if (bytes.size() < 2 * kBlockBytes) return;
  const auto superblock = ChooseSuperblock(std::span(bytes).first(2 * kBlockBytes), "");
  const Uuid id = superblock.ok() ? superblock->id : Uuid();
  MemoryStorage storage;
  auto content = std::make_shared<MemoryStorage::Content>();
  WriteContent(*content, 0, bytes);
  storage.files()[DataFileName(id)] = std::move(content);

  InlineLoop loop;
  for (const bool journal_is_durable : {true, false}) {
    const absl::StatusOr<OverlayPointer> read_only =
        RunInline(Overlay::Open(loop, storage, id, OpenMode::kRead, journal_is_durable));
    if (read_only.ok()) CheckHolds(**read_only, ReadSome(**read_only));
  }
  absl::StatusOr<OverlayPointer> opened =
      RunInline(Overlay::Open(loop, storage, id, OpenMode::kReadWrite, false));
  if (!opened.ok()) return;
  OverlayPointer overlay = *std::move(opened);
  Model model = ReadSome(*overlay);
  Change(*overlay, model);
  MemoryStorage killed = storage.Clone();
  OverlayPointer after_kill = Open(loop, killed, id, model);
  Model model_after_kill = model;
  ZeroBlocks(*after_kill, 7, 1, model_after_kill);
  loop.WakeSleepers();  // an epoch ends, and freed space is given back
  CheckHolds(*after_kill, model_after_kill);
  CheckAsLayer(*after_kill, killed);

  const absl::Status closed = RunInline(overlay->Close());
  static_cast<void>(closed);  // as sealing
  overlay.reset();
  overlay = Open(loop, storage, id, model);
}

}  // namespace
}  // namespace cowl

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cowl::Run({data, size});
  return 0;
}
