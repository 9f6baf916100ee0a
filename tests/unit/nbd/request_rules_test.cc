// Which requests are taken, which are refused, and with what error: the whole table.
#include "nbd/request_rules.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>

#include "base/status.h"

namespace cowl::nbd {
namespace {

constexpr uint64_t kSize = 10 * kMiB + 777;

ExportFacts Writable() { return {kSize, false, true, ContextSet::All()}; }
ExportFacts ReadOnly() { return {kSize, true, true, ContextSet::All()}; }
ExportFacts Simple() { return {kSize, false, false, {}}; }

Request Ask(uint16_t type, uint64_t offset_bytes, uint32_t length_bytes, uint16_t flags = 0) {
  return {flags, type, 1, offset_bytes, length_bytes};
}

struct Case {
  const char* what;
  ExportFacts facts;
  Request request;
  Error error;
};

class RulesTest : public testing::TestWithParam<Case> {};

TEST_P(RulesTest, JudgesTheRequest) {
  const Case& c = GetParam();
  const Verdict verdict = ValidateRequest(c.request, c.facts);
  EXPECT_EQ(verdict.error, c.error) << c.what;
  EXPECT_EQ(verdict.reason.empty(), c.error == kOk) << c.what;
}

constexpr uint32_t k32M = 32 * kMiB;
constexpr uint16_t kAllFlags =
    kCmdFlagFua | kCmdFlagNoHole | kCmdFlagDf | kCmdFlagReqOne | kCmdFlagFastZero;
const ExportFacts kHuge{64 * kTiB, false, true, ContextSet::All()};
const ExportFacts kHugeSimple{64 * kTiB, false, false, {}};

const Case kCases[] = {
    {"read", Writable(), Ask(kCmdRead, 0, 4096), kOk},
    {"read at odd offset", Writable(), Ask(kCmdRead, 1, 1), kOk},
    {"read to the very end", Writable(), Ask(kCmdRead, kSize - 1, 1), kOk},
    {"read beyond the end", Writable(), Ask(kCmdRead, kSize - 1, 2), kErrInval},
    {"read behind the end", Writable(), Ask(kCmdRead, kSize + 1, 1), kErrInval},
    {"read whose end wraps around", Writable(), Ask(kCmdRead, ~0ull, 2), kErrInval},
    {"read of nothing", Writable(), Ask(kCmdRead, 0, 0), kOk},
    {"read of nothing at the end", Writable(), Ask(kCmdRead, kSize, 0), kOk},
    {"read of nothing behind the end", Writable(), Ask(kCmdRead, kSize + 1, 0), kErrInval},
    {"read of 32 MiB", kHuge, Ask(kCmdRead, 0, k32M), kOk},
    {"read of more, structured", kHuge, Ask(kCmdRead, 0, k32M + 1), kErrOverflow},
    {"read of more, simple", kHugeSimple, Ask(kCmdRead, 0, k32M + 1), kErrInval},
    {"read with FUA", Writable(), Ask(kCmdRead, 0, 1, kCmdFlagFua), kOk},
    {"read with DF", Writable(), Ask(kCmdRead, 0, 1, kCmdFlagDf), kOk},
    {"read with DF that was not offered", Simple(), Ask(kCmdRead, 0, 1, kCmdFlagDf), kErrInval},
    {"read with NO_HOLE", Writable(), Ask(kCmdRead, 0, 1, kCmdFlagNoHole), kErrInval},
    {"read of a read-only export", ReadOnly(), Ask(kCmdRead, 0, 1), kOk},

    {"write", Writable(), Ask(kCmdWrite, 0, 4096), kOk},
    {"write with FUA", Writable(), Ask(kCmdWrite, 3, 1, kCmdFlagFua), kOk},
    {"write to the very end", Writable(), Ask(kCmdWrite, kSize - 10, 10), kOk},
    {"write beyond the end", Writable(), Ask(kCmdWrite, kSize - 10, 11), kErrNoSpc},
    {"write behind the end", Writable(), Ask(kCmdWrite, ~0ull, 4096), kErrNoSpc},
    {"write of nothing", Writable(), Ask(kCmdWrite, 0, 0), kOk},
    {"write to a read-only export", ReadOnly(), Ask(kCmdWrite, 0, 1), kErrPerm},
    {"write beyond the end of a read-only export", ReadOnly(), Ask(kCmdWrite, kSize, 1), kErrPerm},
    {"write with a flag of another command", Writable(), Ask(kCmdWrite, 0, 1, kCmdFlagNoHole),
     kErrInval},
    {"write with an unknown flag", Writable(), Ask(kCmdWrite, 0, 1, 1 << 5), kErrInval},

    {"flush", Writable(), Ask(kCmdFlush, 0, 0), kOk},
    {"flush of a read-only export", ReadOnly(), Ask(kCmdFlush, 0, 0), kOk},
    {"flush with FUA", Writable(), Ask(kCmdFlush, 0, 0, kCmdFlagFua), kOk},
    {"flush with an offset", Writable(), Ask(kCmdFlush, 1, 0), kErrInval},
    {"flush with a length", Writable(), Ask(kCmdFlush, 0, 1), kErrInval},

    {"trim", Writable(), Ask(kCmdTrim, 1, 10'000), kOk},
    {"trim with FUA", Writable(), Ask(kCmdTrim, 0, 1, kCmdFlagFua), kOk},
    {"trim of almost 4 GiB", kHuge, Ask(kCmdTrim, 0, ~0u), kOk},
    {"trim beyond the end", Writable(), Ask(kCmdTrim, 0, kSize + 1), kErrInval},
    {"trim of a read-only export", ReadOnly(), Ask(kCmdTrim, 0, 1), kErrPerm},

    {"cache", Writable(), Ask(kCmdCache, 0, kSize), kOk},
    {"cache of a read-only export", ReadOnly(), Ask(kCmdCache, 0, 1), kOk},
    {"cache beyond the end", Writable(), Ask(kCmdCache, kSize, 1), kErrInval},
    {"cache with an unknown flag", Writable(), Ask(kCmdCache, 0, 1, 1 << 15), kErrInval},

    {"write zeroes", Writable(), Ask(kCmdWriteZeroes, 0, 1), kOk},
    {"write zeroes with all its flags", Writable(),
     Ask(kCmdWriteZeroes, 0, 1, kCmdFlagFua | kCmdFlagNoHole | kCmdFlagFastZero), kOk},
    {"write zeroes of almost 4 GiB", kHuge, Ask(kCmdWriteZeroes, 0, ~0u), kOk},
    {"write zeroes beyond the end", Writable(), Ask(kCmdWriteZeroes, kSize, 1), kErrNoSpc},
    {"write zeroes of a read-only export", ReadOnly(), Ask(kCmdWriteZeroes, 0, 1), kErrPerm},
    {"write zeroes with DF", Writable(), Ask(kCmdWriteZeroes, 0, 1, kCmdFlagDf), kErrInval},

    {"block status", Writable(), Ask(kCmdBlockStatus, 0, kSize), kOk},
    {"block status of one extent", ReadOnly(), Ask(kCmdBlockStatus, 5, 5, kCmdFlagReqOne), kOk},
    {"block status of nothing", Writable(), Ask(kCmdBlockStatus, 0, 0), kErrInval},
    {"block status beyond the end", Writable(), Ask(kCmdBlockStatus, 0, kSize + 1), kErrInval},
    {"block status without a context",
     {kSize, false, true, {}},
     Ask(kCmdBlockStatus, 0, 1),
     kErrInval},

    {"unknown command", Writable(), Ask(8, 0, 0), kErrInval},
    {"unknown command of a read-only export", ReadOnly(), Ask(0xffff, 0, 0), kErrInval},
    {"any command with all flags", Writable(), Ask(kCmdBlockStatus, 0, 1, kAllFlags), kErrInval},
};

INSTANTIATE_TEST_SUITE_P(Table, RulesTest, testing::ValuesIn(kCases));

TEST(RulesTest, EveryCommandTakesItsOwnFlagsAndNoOther) {
  const std::map<uint16_t, uint16_t> taken = {
      {kCmdRead, kCmdFlagFua | kCmdFlagDf},
      {kCmdWrite, kCmdFlagFua},
      {kCmdFlush, kCmdFlagFua},
      {kCmdTrim, kCmdFlagFua},
      {kCmdCache, kCmdFlagFua},
      {kCmdWriteZeroes, kCmdFlagFua | kCmdFlagNoHole | kCmdFlagFastZero},
      {kCmdBlockStatus, kCmdFlagFua | kCmdFlagReqOne},
  };
  for (const auto& [type, its_flags] : taken) {
    for (uint32_t flags = 0; flags <= 0xffff; ++flags) {
      const uint32_t length_bytes = type == kCmdFlush ? 0 : 512;
      const Request request = Ask(type, 0, length_bytes, static_cast<uint16_t>(flags));
      const Error expected = (flags & ~its_flags) == 0 ? kOk : kErrInval;
      ASSERT_EQ(ValidateRequest(request, Writable()).error, expected) << type << ' ' << flags;
    }
  }
}

TEST(RulesTest, OnlyWritesCarryAPayload) {
  EXPECT_EQ(PayloadBytes(Ask(kCmdWrite, 0, 77)), 77u);
  for (const uint16_t type :
       {kCmdRead, kCmdTrim, kCmdWriteZeroes, kCmdCache, kCmdBlockStatus, Command{99}}) {
    EXPECT_EQ(PayloadBytes(Ask(type, 0, 77)), 0u) << type;
  }
  EXPECT_FALSE(PayloadIsTooLarge(Ask(kCmdWrite, 0, k32M)));
  EXPECT_TRUE(PayloadIsTooLarge(Ask(kCmdWrite, 0, k32M + 1)));
  EXPECT_FALSE(PayloadIsTooLarge(Ask(kCmdTrim, 0, ~0u)));
}

TEST(RulesTest, FlagsOfAnExportFollowWhatItIs) {
  EXPECT_EQ(TransmissionFlags(Writable()), 1 | 4 | 8 | 32 | 64 | 128 | 256 | 1024 | 2048);
  EXPECT_EQ(TransmissionFlags(ReadOnly()), 1 | 2 | 4 | 8 | 128 | 256 | 1024);
  EXPECT_EQ(TransmissionFlags(Simple()), 1 | 4 | 8 | 32 | 64 | 256 | 1024 | 2048);
}

TEST(RulesTest, EveryStatusHasItsError) {
  const Request write = Ask(kCmdWrite, 0, 1);
  const auto of = [&write](const absl::Status& status) { return ErrorOf(status, write); };
  EXPECT_EQ(of(absl::OkStatus()), kOk);
  EXPECT_EQ(of(OutOfSpace("the cap is reached")), kErrNoSpc);
  EXPECT_EQ(of(ErrnoStatus(ENOSPC, "write", "f")), kErrNoSpc);
  EXPECT_EQ(of(ErrnoStatus(EDQUOT, "write", "f")), kErrNoSpc);
  EXPECT_EQ(of(ErrnoStatus(EFBIG, "write", "f")), kErrNoSpc);
  EXPECT_EQ(of(ErrnoStatus(ENOMEM, "write", "f")), kErrNoMem);
  EXPECT_EQ(of(ErrnoStatus(EIO, "write", "f")), kErrIo);
  EXPECT_EQ(of(ErrnoStatus(EBADF, "write", "f")), kErrIo);
  EXPECT_EQ(of(absl::PermissionDeniedError("read-only")), kErrPerm);
  EXPECT_EQ(of(ErrnoStatus(EROFS, "write", "f")), kErrPerm);
  EXPECT_EQ(of(absl::OutOfRangeError("end")), kErrInval);
  EXPECT_EQ(of(InvalidArgument("bad")), kErrInval);
  EXPECT_EQ(of(DataLoss("block 7 of layer x")), kErrIo);
  EXPECT_EQ(of(Internal("bug")), kErrIo);
  EXPECT_EQ(of(Unavailable("closing")), kErrShutdown);
  EXPECT_EQ(of(absl::CancelledError("closing")), kErrShutdown);
}

TEST(RulesTest, NotSupportedIsForFastZeroAlone) {
  const absl::Status status = Unimplemented("not faster");
  EXPECT_EQ(ErrorOf(status, Ask(kCmdWriteZeroes, 0, 1, kCmdFlagFastZero)), kErrNotSup);
  EXPECT_EQ(ErrorOf(status, Ask(kCmdWriteZeroes, 0, 1)), kErrInval);
  EXPECT_EQ(ErrorOf(status, Ask(kCmdTrim, 0, 1)), kErrInval);
}

}  // namespace
}  // namespace cowl::nbd
