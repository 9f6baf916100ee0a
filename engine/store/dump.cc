#include "store/dump.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/status.h"
#include "catalog/dump_catalog.h"
#include "format/checksum_page.h"
#include "format/extent.h"
#include "format/journal_record.h"
#include "format/superblock.h"
#include "io/loop_thread.h"
#include "overlay/replay.h"

namespace cowl {
namespace {

constexpr char kSqliteMagic[] = "SQLite format 3";
// A damaged count must not ask for terabytes.
constexpr uint64_t kSectionBytesMax = 1ull << 32;

// What is read of the file, and where the text goes.
class Dumper {
 public:
  Dumper(File& file, uint64_t size_bytes, std::ostream& out)
      : file_(file), size_bytes_(size_bytes), out_(out) {}

  Task<absl::Status> Dump();

 private:
  Task<absl::Status> DumpSuperblocks(std::optional<Superblock>* newest);
  void DumpSuperblock(const Superblock& superblock);
  Task<absl::Status> DumpMap(const Superblock& superblock);
  Task<absl::Status> DumpSumPages(const Superblock& superblock);
  Task<absl::Status> DumpJournal(const Superblock& superblock);
  bool DumpChunk(const Superblock& superblock, std::span<const std::byte> bytes,
                 JournalPosition& position);
  void DumpRecord(const JournalRecord& record);
  // The entries of a section as far as the file has them; says what is wrong.
  Task<absl::StatusOr<std::vector<std::byte>>> ReadSection(const Section section,
                                                           uint64_t entry_bytes, const char* what);
  Task<absl::StatusOr<std::vector<std::byte>>> ReadUpTo(uint64_t offset_bytes,
                                                        uint64_t length_bytes);

  File& file_;
  const uint64_t size_bytes_;
  std::ostream& out_;
};

Task<absl::StatusOr<std::vector<std::byte>>> Dumper::ReadUpTo(uint64_t offset_bytes,
                                                              uint64_t length_bytes) {
  const uint64_t end = std::min(size_bytes_, offset_bytes + length_bytes);
  std::vector<std::byte> bytes(offset_bytes < end ? end - offset_bytes : 0);
  if (!bytes.empty()) COWL_CO_RETURN_IF_ERROR(co_await file_.Read(offset_bytes, bytes));
  co_return bytes;
}

Task<absl::StatusOr<std::vector<std::byte>>> Dumper::ReadSection(const Section section,
                                                                 uint64_t entry_bytes,
                                                                 const char* what) {
  const uint64_t length = section.entries * entry_bytes;
  if (length > kSectionBytesMax) {
    out_ << "  damaged: the " << what << " section would be " << length << " bytes long\n";
    co_return std::vector<std::byte>();
  }
  absl::StatusOr<std::vector<std::byte>> bytes =
      co_await ReadUpTo(BlockOffsetBytes(section.block), length);
  if (!bytes.ok()) co_return bytes.status();
  if (bytes->size() < length) {
    out_ << "  damaged: the " << what << " section lies beyond the end of the file\n";
  } else if (length > 0 && Xxh3(*bytes) != section.check) {
    out_ << "  damaged: the " << what << " section fails its checksum\n";
  }
  co_return bytes;
}

Task<absl::Status> Dumper::Dump() {
  out_ << file_.path() << ": cowl data file, " << size_bytes_ << " bytes\n";
  std::optional<Superblock> newest;
  COWL_CO_RETURN_IF_ERROR(co_await DumpSuperblocks(&newest));
  if (!newest) {
    out_ << "no valid superblock: nothing more can be told\n";
    co_return absl::OkStatus();
  }
  COWL_CO_RETURN_IF_ERROR(co_await DumpMap(*newest));
  COWL_CO_RETURN_IF_ERROR(co_await DumpSumPages(*newest));
  if (newest->journal_block != 0) COWL_CO_RETURN_IF_ERROR(co_await DumpJournal(*newest));
  co_return absl::OkStatus();
}

Task<absl::Status> Dumper::DumpSuperblocks(std::optional<Superblock>* newest) {
  for (uint64_t slot = 0; slot < 2; ++slot) {
    absl::StatusOr<std::vector<std::byte>> block =
        co_await ReadUpTo(BlockOffsetBytes(slot), kBlockBytes);
    if (!block.ok()) co_return block.status();
    out_ << "superblock in block " << slot << ":\n";
    if (block->size() < kBlockBytes) {
      out_ << "  damaged: beyond the end of the file\n";
      continue;
    }
    if (IsZero(*block)) {
      out_ << "  not written yet\n";
      continue;
    }
    absl::StatusOr<Superblock> superblock = DecodeSuperblock(*block, file_.path());
    if (!superblock.ok()) {
      out_ << "  damaged: " << Message(superblock.status()) << "\n";
      continue;
    }
    DumpSuperblock(*superblock);
    if (!*newest || (*newest)->generation < superblock->generation) *newest = *superblock;
  }
  co_return absl::OkStatus();
}

void Dumper::DumpSuperblock(const Superblock& superblock) {
  const auto section = [&](const char* name, const Section& s) {
    out_ << "  " << name << ": " << s.entries << " entries in " << s.blocks << " blocks from block "
         << s.block << "\n";
  };
  out_ << "  kind: " << (superblock.kind == DataFileKind::kLayer ? "layer" : "overlay") << "\n"
       << "  id: " << superblock.id.ToString() << "\n"
       << "  parent: " << (superblock.parent.IsNil() ? "none" : superblock.parent.ToString())
       << "\n"
       << "  generation: " << superblock.generation << "\n"
       << "  size_bytes: " << superblock.size_bytes << "\n"
       << "  stored_blocks: " << superblock.stored_blocks << "\n"
       << "  incarnation: " << superblock.incarnation
       << (superblock.clean ? ", closed in order" : "") << "\n"
       << "  created_ns: " << superblock.created_ns << "\n"
       << "  created_by: " << superblock.created_by << "\n"
       << "  checkpoint_order: " << superblock.checkpoint_order
       << ", resume_order: " << superblock.resume_order << "\n"
       << "  journal: " << superblock.journal_blocks << " blocks from block "
       << superblock.journal_block << "\n";
  section("map", superblock.map);
  section("checksum page table", superblock.sum_pages);
  section("other data files", superblock.files);
}

Task<absl::Status> Dumper::DumpMap(const Superblock& superblock) {
  out_ << "other data files:\n";
  absl::StatusOr<std::vector<std::byte>> files =
      co_await ReadSection(superblock.files, sizeof(Uuid), "data file");
  if (!files.ok()) co_return files.status();
  for (size_t i = 0; i + sizeof(Uuid) <= files->size(); i += sizeof(Uuid)) {
    Uuid id;
    std::memcpy(id.bytes.data(), files->data() + i, id.bytes.size());
    out_ << "  " << i / sizeof(Uuid) + 1 << ": " << id.ToString() << "\n";
  }
  out_ << "map (blocks of the disk: where):\n";
  absl::StatusOr<std::vector<std::byte>> map =
      co_await ReadSection(superblock.map, sizeof(Extent), "map");
  if (!map.ok()) co_return map.status();
  for (size_t i = 0; i + sizeof(Extent) <= map->size(); i += sizeof(Extent)) {
    const Extent extent = LoadLittle<Extent>(map->data() + i);
    out_ << "  " << extent.start() << " +" << extent.length() << ": ";
    if (!extent.IsValid()) {
      out_ << "damaged\n";
    } else if (extent.is_data()) {
      out_ << "block " << extent.physical() << " of file " << extent.source() << "\n";
    } else {
      out_ << "zero\n";
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Dumper::DumpSumPages(const Superblock& superblock) {
  out_ << "checksum pages (index: block):\n";
  absl::StatusOr<std::vector<std::byte>> table =
      co_await ReadSection(superblock.sum_pages, 8, "checksum page table");
  if (!table.ok()) co_return table.status();
  for (size_t i = 0; i + 8 <= table->size(); i += 8) {
    const uint64_t block = LoadLittle<uint64_t>(table->data() + i);
    if (block == 0) continue;
    out_ << "  " << i / 8 << ": " << block;
    absl::StatusOr<std::vector<std::byte>> page =
        co_await ReadUpTo(BlockOffsetBytes(block), kBlockBytes);
    if (!page.ok()) co_return page.status();
    const bool whole =
        page->size() == kBlockBytes && VerifySumPage(*page, i / 8, file_.path()).ok();
    out_ << (whole ? "\n" : "  damaged\n");
  }
  co_return absl::OkStatus();
}

Task<absl::Status> Dumper::DumpJournal(const Superblock& superblock) {
  JournalPosition position{{superblock.journal_block, superblock.journal_blocks},
                           0,
                           superblock.checkpoint_order,
                           superblock.journal_check};
  bool goes_on = true;
  while (goes_on) {
    const SlotRun chunk = position.chunk;
    out_ << "journal chunk of " << chunk.blocks << " blocks from block " << chunk.physical << ":\n";
    if (chunk.blocks > JournalRecord::kChunkBlocksMax) {
      out_ << "  damaged: no chunk is that long\n";
      co_return absl::OkStatus();
    }
    absl::StatusOr<std::vector<std::byte>> bytes =
        co_await ReadUpTo(BlockOffsetBytes(chunk.physical), BlockOffsetBytes(chunk.blocks));
    if (!bytes.ok()) co_return bytes.status();
    goes_on = DumpChunk(superblock, *bytes, position);
  }
  co_return absl::OkStatus();
}

// Moves `position` along; true when the chunk ends with a link to another.
bool Dumper::DumpChunk(const Superblock& superblock, std::span<const std::byte> bytes,
                       JournalPosition& position) {
  while (true) {
    size_t length = 0;
    const std::optional<JournalRecord> record =
        DecodeRecord(bytes.subspan(position.offset_bytes), superblock.secret, &length);
    if (!record || !FollowsOn(*record, position, superblock)) {
      out_ << "  ends at byte " << position.offset_bytes << " of the chunk, after record "
           << position.last_order << "\n";
      return false;
    }
    DumpRecord(*record);
    position = After(*record, position, length);
    if (record->type == JournalRecord::Type::kLink) return true;
  }
}

void Dumper::DumpRecord(const JournalRecord& record) {
  out_ << "  " << record.order << " (durable " << record.durable_order << ", incarnation "
       << record.incarnation << "): ";
  switch (record.type) {
    case JournalRecord::Type::kWrite:
      out_ << "write " << record.start << " +" << record.blocks << " to";
      for (const SlotRun& run : record.runs) out_ << " " << run.physical << " +" << run.blocks;
      break;
    case JournalRecord::Type::kZero:
      out_ << "zero " << record.start << " +" << record.blocks;
      break;
    case JournalRecord::Type::kLink:
      out_ << "goes on in block " << record.chunk.physical << " +" << record.chunk.blocks;
      break;
    case JournalRecord::Type::kSeal:
      out_ << "sealed; successor " << record.peer.ToString();
      break;
    case JournalRecord::Type::kContinue:
      out_ << "continues " << record.peer.ToString() << " after its record " << record.peer_order;
      break;
    case JournalRecord::Type::kMark:
      out_ << "mark";
      break;
  }
  out_ << "\n";
}

Task<absl::Status> DumpDataFile(Storage& storage, std::string name, std::ostream& out) {
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(name, OpenMode::kRead);
  if (!file.ok()) co_return file.status();
  absl::StatusOr<uint64_t> size = (*file)->SizeBytes();
  if (!size.ok()) co_return size.status();
  std::vector<std::byte> magic(std::min<uint64_t>(*size, sizeof(kSqliteMagic)));
  if (!magic.empty()) COWL_CO_RETURN_IF_ERROR(co_await (*file)->Read(0, magic));
  if (AsText(magic) == std::string_view(kSqliteMagic, sizeof(kSqliteMagic))) {
    out << (*file)->path() << ": the catalog, an SQLite database\n";
    DumpCatalog((*file)->path(), out);
    co_return absl::OkStatus();
  }
  Dumper dumper(**file, *size, out);
  co_return co_await dumper.Dump();
}

}  // namespace

absl::Status DumpFile(const std::string& path, std::ostream& out) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, "open", path);
  if (!S_ISREG(info.st_mode)) {
    return InvalidArgument(
        absl::StrCat(path, ": not a regular file; name a file of a store, such as layers/ID.cowl"));
  }
  absl::StatusOr<std::unique_ptr<LoopThread>> thread =
      LoopThread::Start(IoBackend::kSync, "cowl-dump");
  if (!thread.ok()) return thread.status();
  const std::filesystem::path whole = std::filesystem::absolute(path);
  const std::unique_ptr<Storage> storage =
      (*thread)->loop().OpenStorage(whole.parent_path().string());
  return RunOn((*thread)->loop(), DumpDataFile(*storage, whole.filename().string(), out));
}

}  // namespace cowl
