// The codec: golden bytes that other implementations agree on, round trips, and input that does not decode.
#include "nbd/codec.h"

#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "base/bytes.h"
#include "base/status.h"

namespace cowl::nbd {
namespace {

std::string Hex(std::string_view text) { return absl::BytesToHexString(Absl(text)); }
std::string Hex(std::span<const std::byte> bytes) { return Hex(AsText(bytes)); }
std::string Bytes(const char* hex) { return absl::HexStringToBytes(hex); }

TEST(CodecTest, GreetingIsTheBytesOfTheProtocol) {
  std::string out;
  AppendGreeting(kFlagFixedNewstyle | kFlagNoZeroes, out);
  EXPECT_EQ(Hex(out), "4e42444d41474943" "49484156454f5054" "0003");
}

TEST(CodecTest, OptionAndItsReplyAreTheBytesOfTheProtocol) {
  std::string out;
  AppendOption(kOptGo, "ab", out);
  EXPECT_EQ(Hex(out), "49484156454f5054" "00000007" "00000002" "6162");
  out.clear();
  AppendOptionReply(kOptList, kRepErrInvalid, "no", out);
  EXPECT_EQ(Hex(out), "0003e889045565a9" "00000003" "80000003" "00000002" "6e6f");
}

TEST(CodecTest, RequestIsTheBytesOfTheProtocol) {
  const Request request{kCmdFlagFua, kCmdWrite, 0x0102030405060708, 0x1112131415161718, 0x21222324};
  EXPECT_EQ(Hex(EncodeRequest(request)), "25609513" "0001" "0001" "0102030405060708" "1112131415161718" "21222324");
}

TEST(CodecTest, RepliesAreTheBytesOfTheProtocol) {
  EXPECT_EQ(Hex(EncodeSimpleReply({kErrNoSpc, 0x0102030405060708})), "67446698" "0000001c" "0102030405060708");
  EXPECT_EQ(Hex(EncodeChunk({kReplyFlagDone, kChunkNone, 7, 0})), "668e33ef" "0001" "0000" "0000000000000007" "00000000");
  EXPECT_EQ(Hex(EncodeOffsetDataHead(7, false, 0x1000, 0x200)),
            "668e33ef" "0000" "0001" "0000000000000007" "00000208" "0000000000001000");
  EXPECT_EQ(Hex(EncodeOffsetHole(7, true, 0x1000, 0x200)),
            "668e33ef" "0001" "0002" "0000000000000007" "0000000c" "0000000000001000" "00000200");
}

TEST(CodecTest, ChunksWithListsAreTheBytesOfTheProtocol) {
  std::string out;
  AppendErrorChunk(7, kErrIo, "bad", out);
  EXPECT_EQ(Hex(out), "668e33ef" "0001" "8001" "0000000000000007" "00000009" "00000005" "0003" "626164");
  out.clear();
  const StatusExtent extents[] = {{4096, 0}, {512, 3}};
  AppendStatusChunk(7, true, 1, extents, out);
  EXPECT_EQ(Hex(out), "668e33ef" "0001" "0005" "0000000000000007" "00000014" "00000001" "0000100000000000" "0000020000000003");
}

TEST(CodecTest, RequestSurvivesTheRoundTrip) {
  const Request request{0xffff, 0xfffe, ~0ull, 1ull << 63, ~0u};
  EXPECT_EQ(DecodeRequest(EncodeRequest(request)), request);
}

TEST(CodecTest, RepliesSurviveTheRoundTrip) {
  const SimpleReply simple{108, ~0ull};
  EXPECT_EQ(DecodeSimpleReply(EncodeSimpleReply(simple)), simple);
  const Chunk chunk{1, kChunkErrorOffset, 99, ~0u};
  EXPECT_EQ(DecodeChunk(EncodeChunk(chunk)), chunk);
}

TEST(CodecTest, TooFewBytesDoNotDecode) {
  const RequestBytes bytes = EncodeRequest({});
  for (size_t size = 0; size < bytes.size(); ++size) EXPECT_FALSE(DecodeRequest(std::span(bytes).first(size))) << size;
  std::string option;
  AppendOption(kOptList, "", option);
  for (size_t size = 0; size < option.size(); ++size) EXPECT_FALSE(DecodeOptionHeader(AsBytes(option).first(size))) << size;
}

TEST(CodecTest, AnyWrongBitOfTheMagicDoesNotDecode) {
  for (int bit = 0; bit < 32; ++bit) {
    RequestBytes bytes = EncodeRequest({});
    bytes[bit / 8] ^= std::byte(1 << bit % 8);
    EXPECT_FALSE(DecodeRequest(bytes)) << bit;
  }
}

TEST(CodecTest, InfoQuerySurvivesTheRoundTrip) {
  const std::string data = EncodeInfoQuery({"disk", {kInfoName, kInfoBlockSize, 77}});
  const auto query = DecodeInfoQuery(AsBytes(data));
  ASSERT_TRUE(query);
  EXPECT_EQ(query->name, "disk");
  EXPECT_EQ(query->requests, (std::vector<uint16_t>{1, 3, 77}));
}

TEST(CodecTest, InfoQueryWithAnyWrongLengthDoesNotDecode) {
  const std::string data = EncodeInfoQuery({"disk", {kInfoName}});
  for (size_t size = 0; size < data.size(); ++size) EXPECT_FALSE(DecodeInfoQuery(AsBytes(data.substr(0, size)))) << size;
  EXPECT_FALSE(DecodeInfoQuery(AsBytes(data + "x")));
  EXPECT_FALSE(DecodeInfoQuery(AsBytes(Bytes("ffffffff0000"))));            // a name of 4 GiB
  EXPECT_FALSE(DecodeInfoQuery(AsBytes(Bytes("00000000ffff0001"))));        // 65,535 requests, one there
  EXPECT_TRUE(DecodeInfoQuery(AsBytes(Bytes("000000000000"))));             // no name, no requests
}

TEST(CodecTest, MetaContextQuerySurvivesTheRoundTrip) {
  const std::string data = EncodeMetaContextQuery({"disk", {"base:allocation", ""}});
  const auto query = DecodeMetaContextQuery(AsBytes(data));
  ASSERT_TRUE(query);
  EXPECT_EQ(query->name, "disk");
  EXPECT_EQ(query->queries, (std::vector<std::string_view>{"base:allocation", ""}));
}

TEST(CodecTest, MetaContextQueryWithAnyWrongLengthDoesNotDecode) {
  const std::string data = EncodeMetaContextQuery({"disk", {"base:allocation", "cowl:"}});
  for (size_t size = 0; size < data.size(); ++size) EXPECT_FALSE(DecodeMetaContextQuery(AsBytes(data.substr(0, size)))) << size;
  EXPECT_FALSE(DecodeMetaContextQuery(AsBytes(data + "x")));
  EXPECT_FALSE(DecodeMetaContextQuery(AsBytes(Bytes("00000000" "ffffffff"))));             // 4 G queries, none there
  EXPECT_FALSE(DecodeMetaContextQuery(AsBytes(Bytes("00000000" "00000001" "ffffffff"))));  // a query of 4 GiB
}

TEST(CodecTest, ReaderStaysEmptyAfterTheFirstMiss) {
  const std::string data = Bytes("00010002");
  WireReader reader(AsBytes(data));
  EXPECT_EQ(reader.U16(), 1);
  EXPECT_EQ(reader.U32(), std::nullopt);
  EXPECT_EQ(reader.U16(), std::nullopt);
}

TEST(CodecTest, WireTextIsPrintableAndShort) {
  EXPECT_EQ(WireText("a\n\x7f\xff\x01z"), "a????z");
  EXPECT_LE(WireText(std::string(100'000, 'x')).size(), kStringBytesMax);
}

}  // namespace
}  // namespace cowl::nbd
