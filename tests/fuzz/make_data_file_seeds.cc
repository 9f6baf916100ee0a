// make_data_file_seeds FOLDER: writes the seeds of the data files' fuzz targets into
// FOLDER/fuzz_layer_file and FOLDER/fuzz_overlay_file. The engine makes them, on files in memory.
// Where its first journal chunk of 64 KiB would make most of the file, the file is begun by the
// format's own encoders instead: a fuzzer gets further with little.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "base/status.h"
#include "format/journal_record.h"
#include "io/memory_storage.h"
#include "layer/layer.h"
#include "layer/layer_writer.h"
#include "overlay/overlay.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;
using OverlayPointer = std::unique_ptr<Overlay>;
using Type = JournalRecord::Type;

// One byte a block: the fuzzer has nothing to gain from data.
Bytes Data(uint64_t blocks, uint8_t value) {
  Bytes bytes(blocks * kBlockBytes);
  for (uint64_t i = 0; i < blocks; ++i) bytes[i * kBlockBytes] = std::byte{value};
  return bytes;
}

Uuid Id(uint8_t number) {
  Uuid id;
  id.bytes.fill(number);
  return id;
}

void Must(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "make_data_file_seeds: %s\n", Message(status).c_str());
  std::exit(1);
}

void Save(MemoryStorage& storage, const std::string& name, const std::string& to) {
  const MemoryStorage::Content& content = *storage.files().at(name);
  Bytes bytes(content.size_bytes);
  Must(ReadContent(content, 0, bytes));
  std::filesystem::create_directories(std::filesystem::path(to).parent_path());
  std::ofstream(to, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

// An overlay as a kill leaves it: its journal chunk of one block, and data behind that.
class SmallOverlay {
 public:
  explicit SmallOverlay(uint64_t resume_order) {
    root_.kind = DataFileKind::kOverlay;
    root_.id = Id(1);
    root_.secret = 77;
    root_.size_bytes = kMiB;
    root_.incarnation = 1;
    root_.resume_order = resume_order;
    root_.journal_block = Superblock::kFirstFreeBlock;
    root_.journal_blocks = 1;
  }
  void Add(JournalRecord record) {
    record.order = ++last_order_;
    record.previous_check = last_check_;
    record.incarnation = 1;
    last_check_ = EncodeRecord(record, root_.secret, journal_);
  }
  // What comes next goes to another chunk.
  void Link(const JournalRecord& record) {
    Add(record);
    WriteContent(*content_, BlockOffsetBytes(chunk_), journal_);
    journal_.clear();
    chunk_ = record.chunk.physical;
  }
  void Write(uint64_t start, const std::vector<SlotRun>& runs, uint64_t durable_order) {
    JournalRecord record;
    record.start = start;
    record.durable_order = durable_order;
    record.runs = runs;
    for (const SlotRun& run : runs) {
      const Bytes data = Data(run.blocks, static_cast<uint8_t>(run.physical));
      record.sums.insert(record.sums.end(), run.blocks, Xxh3(std::span(data).first(kBlockBytes)));
      WriteContent(*content_, BlockOffsetBytes(run.physical), data);
    }
    Add(record);
  }
  void Store(MemoryStorage& storage) {
    for (root_.generation = 1; root_.generation <= 2; ++root_.generation) {
      Bytes block(kBlockBytes);
      EncodeSuperblock(root_, block);
      WriteContent(*content_, BlockOffsetBytes(Superblock::SlotOf(root_.generation)), block);
    }
    WriteContent(*content_, BlockOffsetBytes(chunk_), journal_);
    storage.files()[DataFileName(root_.id)] = content_;
  }

 private:
  Superblock root_;
  Bytes journal_;  // of the last chunk
  uint64_t chunk_ = Superblock::kFirstFreeBlock;
  uint64_t last_order_ = 0;
  uint64_t last_check_ = 0;
  std::shared_ptr<MemoryStorage::Content> content_ = std::make_shared<MemoryStorage::Content>();
};

JournalRecord Zeros(uint64_t start, uint64_t blocks) {
  JournalRecord record;
  record.type = Type::kZero;
  record.start = start;
  record.blocks = blocks;
  return record;
}

void MakeOverlays(const std::string& folder) {
  InlineLoop loop;
  const auto open = [&](MemoryStorage& storage) {
    auto opened = RunInline(Overlay::Open(loop, storage, Id(1), OpenMode::kReadWrite, false));
    Must(opened.status());
    return *std::move(opened);
  };
  const std::string name = DataFileName(Id(1));
  MemoryStorage storage;
  SmallOverlay journal(/*resume_order=*/0);
  journal.Write(4, {{3, 1}}, 0);
  journal.Write(8, {{4, 2}, {7, 1}}, 1);
  journal.Write(4, {{6, 1}}, 1);
  journal.Add(Zeros(9, 5));
  JournalRecord mark;
  mark.type = Type::kMark;
  journal.Add(mark);
  journal.Store(storage);
  Save(storage, name, folder + "/journal");

  OverlayPointer overlay = open(storage);
  Must(RunInline(overlay->Zero(14, 1)));
  Must(RunInline(overlay->Close()));
  Save(storage, name, folder + "/closed");
  overlay = open(storage);
  Must(RunInline(overlay->Zero(8, 1)));
  Must(RunInline(overlay->Zero(200, 30)));
  Must(RunInline(overlay->Flush()));
  Must(RunInline(overlay->Seal(Id(2))).status());
  Save(storage, name, folder + "/closed_then_sealed");

  // A successor whose journal takes two chunks; the kill took data of its last record.
  SmallOverlay linked(/*resume_order=*/1);
  JournalRecord record;
  record.type = Type::kContinue;
  record.peer = Id(3);
  linked.Add(record);
  linked.Write(0, {{4, 2}}, 1);
  record = {};
  record.type = Type::kLink;
  record.chunk = {3, 1};
  linked.Link(record);
  linked.Add(Zeros(1, 1));
  linked.Write(30, {{6, 1}}, 2);
  linked.Write(31, {{7, 1}}, 2);
  linked.Store(storage);
  PunchContent(*storage.files().at(name), BlockOffsetBytes(7), kBlockBytes);
  Save(storage, name, folder + "/linked");

  overlay = open(storage);
  Must(RunInline(overlay->SealToLayer(kMiB, Id(4), "a seed")));
  Save(storage, name, folder + "/../fuzz_layer_file/overlay");
}

void MakeLayers(const std::string& folder) {
  MemoryStorage storage;
  LayerWriterOptions options;
  options.size_bytes = kMiB;
  options.parent = Id(4);
  options.created_by = "a seed";
  const std::string name = "layers/seed";
  auto writer = LayerWriter::Create(storage, name, options);
  Must(writer.status());
  Must(RunInline((*writer)->Write(7, Data(2, 1))));
  Must(RunInline((*writer)->Write(3, Data(1, 2))));
  Must(RunInline((*writer)->Zero(100, 120)));
  Must(RunInline((*writer)->Finish()).status());
  Save(storage, name, folder + "/imported");

  auto layer = RunInline(LoadLayerMap(storage, name));
  Must(layer.status());
  LayerMap parent = **layer;
  parent.map.files = {Id(4), Id(5)};
  parent.map.extents = ExtentArray({Extent::Data(0, 1, 1, 2), Extent::Data(50, 70, 0, 600)});
  Must(RunInline(RewriteMap(storage, name, MergeParentInto(**layer, parent), Uuid())));
  Save(storage, name, folder + "/merged");
  Must(RunInline(WriteMapOnlyLayer(storage, {Id(6), Id(4), kMiB, "a seed"}, parent.map)));
  Save(storage, DataFileName(Id(6)), folder + "/map_only");
}

}  // namespace
}  // namespace cowl

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_data_file_seeds FOLDER\n");
    return 2;
  }
  cowl::MakeOverlays(std::string(argv[1]) + "/fuzz_overlay_file");
  cowl::MakeLayers(std::string(argv[1]) + "/fuzz_layer_file");
  return 0;
}
