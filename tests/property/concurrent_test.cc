// Many requests in flight on a few blocks, snapshots, checkpoints and deletions meanwhile,
// everything completed in an order that the seed picks: each sector must behave as if requests had
// come one by one.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "register_check.h"
#include "stack/seeds.h"
#include "stack/shuffled_loop.h"
#include "stack/stack.h"

namespace cowl {
namespace {

constexpr uint64_t kSectors = 6 * 8 + 3;
constexpr uint64_t kSizeBytes = kSectors * kSectorBytes;

// Each write fills its sectors with its own number.
std::vector<std::byte> Stamped(uint64_t stamp, uint64_t sectors) {
  std::vector<std::byte> bytes(sectors * kSectorBytes);
  for (size_t at = 0; at < bytes.size(); at += sizeof(stamp))
    std::memcpy(bytes.data() + at, &stamp, sizeof(stamp));
  return bytes;
}

class Storm {
 public:
  explicit Storm(uint64_t seed)
      : random_(seed),
        loop_(std::make_unique<ShuffledLoop>(storage_, random_())),
        stack_(*loop_, storage_, StackCatalog{kSizeBytes, {}, {}, {}}),
        registers_(kSectors) {}

  std::string Run(int clients, int requests, bool with_control) {
    if (const absl::Status status = loop_->Drive(stack_.Open()); !status.ok())
      return status.ToString();
    for (int life = 0; life < 2 && failure_.empty(); ++life) {
      requests_left_ = requests;
      running_ = clients + (with_control ? 1 : 0);
      for (int i = 0; i < clients; ++i) StartDetached(Client());
      if (with_control) StartDetached(Control());
      while (running_ > 0) {
        if (!loop_->Step()) loop_->WakeSomeSleeper();
      }
      Note(loop_->Drive(ReadRange(0, kSectors)));
      Note(loop_->Drive(random_() % 2 == 0 ? stack_.Close() : stack_.Drop()));
      Note(loop_->Drive(stack_.Open()));
      if (stack_.is_open()) Note(loop_->Drive(ReadRange(0, kSectors)));
    }
    if (stack_.is_open()) Note(loop_->Drive(stack_.Close()));
    for (size_t sector = 0; sector < kSectors && failure_.empty(); ++sector) {
      const std::string wrong = registers_[sector].Check();
      if (!wrong.empty()) failure_ = absl::StrCat("sector ", sector, ": ", wrong);
    }
    return failure_;
  }

 private:
  void Note(const absl::Status& status) {
    if (!status.ok() && failure_.empty()) failure_ = status.ToString();
  }

  Task<void> Client() {
    while (requests_left_ > 0 && failure_.empty()) {
      --requests_left_;
      const uint64_t sector = random_() % kSectors;
      const uint64_t most = std::min<uint64_t>(kSectors - sector, 1 + random_() % 20);
      const uint64_t sectors = 1 + random_() % most;
      Note(co_await Request(sector, sectors));
    }
    --running_;
  }

  Task<absl::Status> Request(uint64_t sector, uint64_t sectors) {
    const uint64_t dice = random_() % 10;
    if (dice < 4) co_return co_await WriteRange(sector, sectors);
    if (dice < 8) co_return co_await ReadRange(sector, sectors);
    if (dice < 9) co_return co_await ZeroRange(sector, sectors, random_() % 2 == 0);
    co_return co_await stack_.device().Flush();
  }

  Task<absl::Status> WriteRange(uint64_t sector, uint64_t sectors) {
    const uint64_t stamp = ++last_stamp_;
    const std::vector<std::byte> bytes = Stamped(stamp, sectors);
    const uint64_t begin = ++clock_;
    const WriteOptions options{.fua = random_() % 8 == 0};
    const absl::Status status =
        co_await stack_.device().Write(sector * kSectorBytes, bytes, options);
    const uint64_t end = ++clock_;
    for (uint64_t i = 0; i < sectors; ++i) registers_[sector + i].Write(stamp, begin, end);
    co_return status;
  }

  Task<absl::Status> ZeroRange(uint64_t sector, uint64_t sectors, bool discard) {
    const uint64_t begin = ++clock_;
    absl::Status status;
    uint64_t first = sector;
    uint64_t last = sector + sectors;
    if (discard) {
      status = co_await stack_.device().Discard(sector * kSectorBytes, sectors * kSectorBytes, {});
      first = RoundUp(first, 8);
      last = last == kSectors ? last : last / 8 * 8;
    } else {
      const ZeroOptions options{.no_hole = random_() % 2 == 0};
      status = co_await stack_.device().WriteZeroes(sector * kSectorBytes, sectors * kSectorBytes,
                                                    options);
    }
    const uint64_t end = ++clock_;
    for (uint64_t i = first; i < last; ++i) registers_[i].Write(0, begin, end);
    co_return status;
  }

  Task<absl::Status> ReadRange(uint64_t sector, uint64_t sectors) {
    std::vector<std::byte> bytes(sectors * kSectorBytes);
    const uint64_t begin = ++clock_;
    const absl::Status status = co_await stack_.device().Read(sector * kSectorBytes, bytes);
    const uint64_t end = ++clock_;
    if (!status.ok()) co_return status;
    for (uint64_t i = 0; i < sectors; ++i) {
      uint64_t stamp;
      std::memcpy(&stamp, bytes.data() + i * kSectorBytes, sizeof(stamp));
      const std::vector<std::byte> whole = Stamped(stamp, 1);
      if (std::memcmp(whole.data(), bytes.data() + i * kSectorBytes, kSectorBytes) != 0) {
        co_return DataLoss(absl::StrCat("sector ", sector + i, " is torn"));
      }
      registers_[sector + i].Read(stamp, begin, end);
    }
    co_return status;
  }

  Task<void> Control() {
    while (requests_left_ > 0 && failure_.empty()) {
      co_await Sleep(*loop_, std::chrono::milliseconds(1));
      Note(co_await ControlOnce());
    }
    --running_;
  }

  Task<absl::Status> ControlOnce() {
    if (!stack_.device().has_overlay()) co_return absl::OkStatus();
    const size_t layers = stack_.catalog().layers.size();
    switch (random_() % 6) {
      case 0:
        if (layers < 2) co_return absl::OkStatus();
        co_return co_await stack_.DeleteLayer(1 + random_() % (layers - 1));
      case 1: {
        absl::StatusOr<uint64_t> freed = co_await stack_.CollectGarbage();
        co_return freed.status();
      }
      case 2:
        co_return co_await stack_.device().overlay()->Checkpoint();
      case 3:
        if (layers < 1) co_return absl::OkStatus();
        co_return co_await stack_.DropHidden();
      default:
        co_return co_await stack_.Snapshot();
    }
  }

  RecordingStorage storage_;
  std::mt19937_64 random_;
  std::unique_ptr<ShuffledLoop> loop_;
  Stack stack_;
  std::vector<RegisterCheck> registers_;
  uint64_t clock_ = 0;
  uint64_t last_stamp_ = 0;
  int requests_left_ = 0;
  int running_ = 0;
  std::string failure_;
};

TEST(Concurrent, EverySectorIsARegister) {
  const char* const only = std::getenv("COWL_STORY");
  TestSeed();
  std::mt19937_64 random = TestRandom(10);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(TestSteps(6));
  int storms = 0;
  do {
    const uint64_t seed = only != nullptr ? std::strtoull(only, nullptr, 0) : random();
    Storm storm(seed);
    const std::string wrong = storm.Run(1 + static_cast<int>(seed % 12), 60, seed % 3 != 0);
    ASSERT_EQ(wrong, "") << "COWL_STORY=" << seed << " repeats this storm";
    ++storms;
  } while (only == nullptr && std::chrono::steady_clock::now() < deadline);
  std::printf("%d storms\n", storms);
}

// The judge is judged: it must see what is wrong, and accept what is right.
TEST(RegisterCheck, TellsRightFromWrong) {
  RegisterCheck right;
  right.Write(1, 1, 4);
  right.Read(0, 2, 3);
  right.Read(1, 3, 6);
  right.Write(2, 5, 8);
  right.Read(2, 9, 10);
  right.Write(0, 11, 12);
  right.Read(0, 13, 14);
  EXPECT_EQ(right.Check(), "");

  RegisterCheck lost_write;
  lost_write.Write(1, 1, 2);
  lost_write.Write(2, 3, 4);
  lost_write.Read(1, 5, 6);
  EXPECT_NE(lost_write.Check(), "");

  RegisterCheck new_then_old;
  new_then_old.Write(1, 1, 2);
  new_then_old.Write(2, 3, 10);
  new_then_old.Read(2, 4, 5);
  new_then_old.Read(1, 6, 7);
  EXPECT_NE(new_then_old.Check(), "");

  RegisterCheck lost_to_zero;
  lost_to_zero.Write(1, 1, 2);
  lost_to_zero.Read(0, 3, 4);
  EXPECT_NE(lost_to_zero.Check(), "");

  RegisterCheck from_nowhere;
  from_nowhere.Read(7, 1, 2);
  EXPECT_NE(from_nowhere.Check(), "");
}

}  // namespace
}  // namespace cowl
