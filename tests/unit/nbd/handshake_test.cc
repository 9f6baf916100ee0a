// The handshake as a state machine: what a client says, byte for byte, and what it hears.
#include "nbd/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/bytes.h"
#include "static_table.h"

namespace cowl::nbd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using State = Handshake::State;

constexpr uint64_t kDiskBytes = 10'000'001;

struct Answer {
  uint32_t option = 0;
  uint32_t type = 0;
  std::string data;
};

std::vector<Answer> ParseAnswers(std::string_view out) {
  std::vector<Answer> answers;
  while (!out.empty()) {
    const auto header = DecodeOptionReplyHeader(AsBytes(out));
    if (!header || out.size() < sizeof(WireOptionReply) + header->data_bytes) {
      ADD_FAILURE() << "bytes that are no option reply";
      break;
    }
    answers.push_back({header->option, header->type, std::string(out.substr(sizeof(WireOptionReply), header->data_bytes))});
    out.remove_prefix(sizeof(WireOptionReply) + header->data_bytes);
  }
  return answers;
}

std::vector<uint32_t> Types(const std::vector<Answer>& answers) {
  std::vector<uint32_t> types;
  for (const Answer& answer : answers) types.push_back(answer.type);
  return types;
}

std::string Number32(uint32_t value) {
  std::string out;
  WireWriter(out).U32(value);
  return out;
}

class HandshakeTest : public testing::Test {
 protected:
  HandshakeTest() {
    table_.Add("disk", "a disk", kDiskBytes);
    table_.Add("image:latest", "", 4096, true);
    table_.Add("", "the default", 512);
    Restart();
  }

  void Restart() { handshake_ = std::make_unique<Handshake>(table_, "test client"); }

  // Says `bytes` and returns all that is heard.
  std::string Say(std::string_view bytes) {
    pending_ += bytes;
    std::string out;
    for (;;) {
      const size_t taken = handshake_->Step(AsBytes(pending_), out);
      if (taken == 0) break;
      pending_.erase(0, taken);
    }
    return out;
  }
  void SayFlags(uint32_t flags = kClientFixedNewstyle | kClientNoZeroes) { EXPECT_EQ(Say(Number32(flags)), ""); }

  std::vector<Answer> SayOption(uint32_t option, std::string_view data = {}) {
    std::string bytes;
    AppendOption(option, data, bytes);
    return ParseAnswers(Say(bytes));
  }
  std::vector<Answer> SayInfo(uint32_t option, std::string_view name, std::vector<uint16_t> requests = {}) {
    return SayOption(option, EncodeInfoQuery({name, std::move(requests)}));
  }
  std::vector<Answer> SayContexts(uint32_t option, std::string_view name, std::vector<std::string_view> queries) {
    return SayOption(option, EncodeMetaContextQuery({name, std::move(queries)}));
  }
  State state() const { return handshake_->state(); }

  StaticTable table_;
  std::unique_ptr<Handshake> handshake_;
  std::string pending_;
};

// --- Flags -----------------------------------------------------------------------------------------------------------------

TEST_F(HandshakeTest, WaitsForAllFourBytesOfTheFlags) {
  EXPECT_EQ(Say(std::string_view("\0\0\0", 3)), "");
  EXPECT_EQ(state(), State::kClientFlags);
  EXPECT_EQ(Say("\x01"), "");
  EXPECT_EQ(state(), State::kOptions);
}

TEST_F(HandshakeTest, ClosesOnUnknownClientFlags) {
  for (const uint32_t flags : {4u, 0x80000000u, ~0u, 7u}) {
    Restart();
    pending_.clear();
    SayFlags(flags);
    EXPECT_EQ(state(), State::kClosed) << flags;
    EXPECT_THAT(std::string(handshake_->close_reason()), HasSubstr("client flags"));
  }
}

TEST_F(HandshakeTest, TakesClientsThatKnowOnlyPlainNewstyle) {
  SayFlags(0);
  EXPECT_EQ(state(), State::kOptions);
}

// --- Export name -----------------------------------------------------------------------------------------------------------

TEST_F(HandshakeTest, ExportNameEntersTransmissionWithoutAReplyHeader) {
  SayFlags();
  std::string option;
  AppendOption(kOptExportName, "disk", option);
  std::string expected;
  WireWriter(expected).U64(kDiskBytes).U16(kFlagHasFlags | kFlagSendFlush | kFlagSendFua | kFlagSendTrim |
                                           kFlagSendWriteZeroes | kFlagCanMultiConn | kFlagSendCache | kFlagSendFastZero);
  EXPECT_EQ(Say(option), expected);
  EXPECT_EQ(state(), State::kTransmission);
}

TEST_F(HandshakeTest, ExportNamePadsWithZeroesForClientsThatWantThem) {
  SayFlags(kClientFixedNewstyle);
  std::string option;
  AppendOption(kOptExportName, "disk", option);
  const std::string heard = Say(option);
  ASSERT_EQ(heard.size(), 10 + 124);
  EXPECT_EQ(heard.substr(10), std::string(124, '\0'));
}

TEST_F(HandshakeTest, ExportNameOfTheDefaultIsEmpty) {
  SayFlags();
  std::string option;
  AppendOption(kOptExportName, "", option);
  EXPECT_EQ(Say(option).size(), 10u);
  EXPECT_EQ(handshake_->TakeResult().disk->device().size_bytes(), 512u);
}

TEST_F(HandshakeTest, ExportNameThatIsUnknownCloses) {
  SayFlags();
  std::string option;
  AppendOption(kOptExportName, "none", option);
  EXPECT_EQ(Say(option), "");
  EXPECT_EQ(state(), State::kClosed);
  EXPECT_THAT(std::string(handshake_->close_reason()), HasSubstr("no such export"));
}

TEST_F(HandshakeTest, ExportNameBeyondTheProtocolsLengthCloses) {
  for (const size_t size : {size_t{4097}, Handshake::kOptionDataBytesMax + 1}) {
    Restart();
    pending_.clear();
    SayFlags();
    std::string option;
    AppendOption(kOptExportName, std::string(size, 'x'), option);
    EXPECT_EQ(Say(option), "");
    EXPECT_EQ(state(), State::kClosed) << size;
  }
}

// --- Info and go -----------------------------------------------------------------------------------------------------------

TEST_F(HandshakeTest, GoWithoutRequestsTellsSizeAndFlags) {
  SayFlags();
  const auto answers = SayInfo(kOptGo, "disk");
  ASSERT_THAT(Types(answers), ElementsAre(kRepInfo, kRepAck));
  WireReader reader(AsBytes(answers[0].data));
  EXPECT_EQ(reader.U16(), kInfoExport);
  EXPECT_EQ(reader.U64(), kDiskBytes);
  EXPECT_EQ(*reader.U16() & (kFlagReadOnly | kFlagSendDf | kFlagRotational), 0);
  EXPECT_EQ(reader.left(), 0u);
  EXPECT_EQ(state(), State::kTransmission);
}

TEST_F(HandshakeTest, GoAnswersEveryInformationRequest) {
  SayFlags();
  const auto answers = SayInfo(kOptGo, "disk", {kInfoBlockSize, kInfoDescription, kInfoName, kInfoExport, 999});
  ASSERT_THAT(Types(answers), ElementsAre(kRepInfo, kRepInfo, kRepInfo, kRepInfo, kRepAck));
  EXPECT_EQ(answers[1].data, std::string("\0\1disk", 6));
  EXPECT_EQ(answers[2].data, std::string("\0\2a disk", 8));
  EXPECT_EQ(answers[3].data, std::string("\0\3\0\0\0\1\0\0\x10\0\2\0\0\0", 14));
}

TEST_F(HandshakeTest, InfoAnswersAsGoAndStaysInTheHandshake) {
  SayFlags();
  const auto info = SayInfo(kOptInfo, "disk", {kInfoName});
  EXPECT_EQ(state(), State::kOptions);
  const auto go = SayInfo(kOptGo, "disk", {kInfoName});
  ASSERT_EQ(info.size(), go.size());
  for (size_t i = 0; i < info.size(); ++i) EXPECT_EQ(info[i].data, go[i].data);
  EXPECT_EQ(state(), State::kTransmission);
}

TEST_F(HandshakeTest, ReadOnlyExportsOfferNoWrites) {
  SayFlags();
  const auto answers = SayInfo(kOptGo, "image:latest");
  const uint16_t flags = LoadBig<uint16_t>(answers[0].data.data() + 10);
  EXPECT_NE(flags & kFlagReadOnly, 0);
  EXPECT_EQ(flags & (kFlagSendTrim | kFlagSendWriteZeroes | kFlagSendFastZero), 0);
}

TEST_F(HandshakeTest, DontFragmentIsOfferedOnlyWithStructuredReplies) {
  SayFlags();
  SayOption(kOptStructuredReply);
  const auto answers = SayInfo(kOptGo, "disk");
  EXPECT_NE(LoadBig<uint16_t>(answers[0].data.data() + 10) & kFlagSendDf, 0);
  EXPECT_TRUE(handshake_->TakeResult().structured);
}

TEST_F(HandshakeTest, GoForAnUnknownExportIsRefusedWithAMessage) {
  SayFlags();
  const auto answers = SayInfo(kOptGo, "none");
  ASSERT_THAT(Types(answers), ElementsAre(kRepErrUnknown));
  EXPECT_THAT(answers[0].data, HasSubstr("no such export"));
  EXPECT_EQ(state(), State::kOptions);
  EXPECT_THAT(Types(SayInfo(kOptGo, "disk")), ElementsAre(kRepInfo, kRepAck));
}

TEST_F(HandshakeTest, NamesOf4096BytesReachTheTableAndLongerOnesDoNot) {
  const std::string longest(4096, 'n');
  table_.Add(longest, "", 512);
  SayFlags();
  EXPECT_THAT(Types(SayInfo(kOptInfo, longest)), ElementsAre(kRepInfo, kRepAck));
  EXPECT_THAT(Types(SayInfo(kOptInfo, longest + "n")), ElementsAre(kRepErrInvalid));
}

TEST_F(HandshakeTest, WhyAnExportCannotBeOpenedDecidesTheReply) {
  SayFlags();
  table_.FailWith(absl::PermissionDeniedError("not you"));
  EXPECT_THAT(Types(SayInfo(kOptGo, "disk")), ElementsAre(kRepErrPolicy));
  table_.FailWith(Unavailable("closing"));
  EXPECT_THAT(Types(SayInfo(kOptGo, "disk")), ElementsAre(kRepErrShutdown));
  table_.FailWith(DataLoss("layer broken"));
  const auto answers = SayInfo(kOptGo, "disk");
  ASSERT_THAT(Types(answers), ElementsAre(kRepErrUnknown));
  EXPECT_EQ(answers[0].data, "layer broken");
}

TEST_F(HandshakeTest, InfoThenGoOpensTheDiskOnce) {
  SayFlags();
  SayOption(kOptStructuredReply);
  SayInfo(kOptInfo, "disk");
  SayContexts(kOptSetMetaContext, "disk", {"base:allocation"});
  SayInfo(kOptGo, "disk");
  EXPECT_EQ(table_.disk("disk").opened_count, 1);
  EXPECT_EQ(table_.last_client(), "test client");
}

TEST_F(HandshakeTest, AHandshakeHoldsOneDiskAtMostAndNoneAfterItsEnd) {
  SayFlags();
  SayInfo(kOptInfo, "disk");
  SayInfo(kOptInfo, "image:latest");
  EXPECT_EQ(table_.disk("disk").open_count, 0);
  EXPECT_EQ(table_.disk("image:latest").open_count, 1);
  handshake_.reset();
  EXPECT_EQ(table_.disk("image:latest").open_count, 0);
}

TEST_F(HandshakeTest, MalformedInfoIsRefusedAndTheStreamStaysInSync) {
  SayFlags();
  const std::string good = EncodeInfoQuery({"disk", {kInfoName}});
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(Types(SayOption(kOptGo, good.substr(0, size))), ElementsAre(kRepErrInvalid)) << size;
  }
  EXPECT_THAT(Types(SayOption(kOptGo, good + "x")), ElementsAre(kRepErrInvalid));
  EXPECT_THAT(Types(SayOption(kOptInfo, Number32(~0u) + "disk")), ElementsAre(kRepErrInvalid));
  EXPECT_THAT(Types(SayOption(kOptGo, good)), ElementsAre(kRepInfo, kRepInfo, kRepAck));
}

// --- Lists, abort, TLS, what is unknown ------------------------------------------------------------------------------------

TEST_F(HandshakeTest, ListNamesEveryExportAndItsDescription) {
  SayFlags();
  const auto answers = SayOption(kOptList);
  ASSERT_THAT(Types(answers), ElementsAre(kRepServer, kRepServer, kRepServer, kRepAck));
  EXPECT_EQ(answers[0].data, Number32(0) + "the default");
  EXPECT_EQ(answers[1].data, Number32(4) + "diska disk");
  EXPECT_EQ(answers[2].data, Number32(12) + "image:latest");
}

TEST_F(HandshakeTest, ListWithDataIsInvalid) {
  SayFlags();
  EXPECT_THAT(Types(SayOption(kOptList, "x")), ElementsAre(kRepErrInvalid));
}

TEST_F(HandshakeTest, ListThatFailsSaysWhy) {
  SayFlags();
  table_.FailWith(Internal("the catalog cannot be read"));
  const auto answers = SayOption(kOptList);
  ASSERT_THAT(Types(answers), ElementsAre(kRepErrUnknown));
  EXPECT_EQ(answers[0].data, "the catalog cannot be read");
}

TEST_F(HandshakeTest, AbortIsAcknowledgedEvenWithData) {
  SayFlags();
  EXPECT_THAT(Types(SayOption(kOptAbort, "bye")), ElementsAre(kRepAck));
  EXPECT_EQ(state(), State::kClosed);
}

TEST_F(HandshakeTest, StartTlsIsUnsupported) {
  SayFlags();
  EXPECT_THAT(Types(SayOption(kOptStartTls)), ElementsAre(kRepErrUnsup));
  EXPECT_EQ(state(), State::kOptions);
}

TEST_F(HandshakeTest, UnknownOptionsAreUnsupportedWhateverTheirData) {
  SayFlags();
  for (const uint32_t option : {0u, 4u, 11u, 12u, 1000u, ~0u}) {
    const auto answers = SayOption(option, std::string(option % 100, 'd'));
    ASSERT_THAT(Types(answers), ElementsAre(kRepErrUnsup)) << option;
    EXPECT_EQ(answers[0].option, option);
  }
  EXPECT_EQ(state(), State::kOptions);
}

TEST_F(HandshakeTest, OptionsWithoutTheMagicClose) {
  SayFlags();
  EXPECT_EQ(Say(std::string(16, 'x')), "");
  EXPECT_EQ(state(), State::kClosed);
}

TEST_F(HandshakeTest, OptionsTooLongToReadAreSkippedAndRefused) {
  SayFlags();
  for (const uint32_t option : {kOptList, kOptGo, kOptInfo, kOptStructuredReply, kOptSetMetaContext, Option{77}}) {
    const auto answers = SayOption(option, std::string(Handshake::kOptionDataBytesMax + 1, 'x'));
    ASSERT_THAT(Types(answers), ElementsAre(kRepErrTooBig)) << option;
    EXPECT_EQ(answers[0].option, option);
  }
  EXPECT_THAT(Types(SayInfo(kOptInfo, "disk")), ElementsAre(kRepInfo, kRepAck));
}

TEST_F(HandshakeTest, AbortWithAnyAmountOfDataIsAcknowledged) {
  SayFlags();
  EXPECT_THAT(Types(SayOption(kOptAbort, std::string(Handshake::kOptionDataBytesMax + 1, 'x'))), ElementsAre(kRepAck));
  EXPECT_EQ(state(), State::kClosed);
}

TEST_F(HandshakeTest, OptionsOfAbsurdLengthClose) {
  SayFlags();
  std::string option;
  WireWriter(option).U64(kOptionMagic).U32(kOptGo).U32(~0u);
  EXPECT_EQ(Say(option), "");
  EXPECT_EQ(state(), State::kClosed);
}

TEST_F(HandshakeTest, NothingIsTakenAfterTheEnd) {
  SayFlags();
  SayOption(kOptAbort);
  EXPECT_THAT(SayOption(kOptList), IsEmpty());
}

// --- Structured replies and contexts ---------------------------------------------------------------------------------------

TEST_F(HandshakeTest, StructuredReplyIsAcknowledgedAndTakesNoData) {
  SayFlags();
  EXPECT_THAT(Types(SayOption(kOptStructuredReply, "x")), ElementsAre(kRepErrInvalid));
  EXPECT_THAT(Types(SayOption(kOptStructuredReply)), ElementsAre(kRepAck));
}

TEST_F(HandshakeTest, ContextsNeedStructuredReplies) {
  SayFlags();
  EXPECT_THAT(Types(SayContexts(kOptListMetaContext, "disk", {})), ElementsAre(kRepErrInvalid));
  EXPECT_THAT(Types(SayContexts(kOptSetMetaContext, "disk", {"base:allocation"})), ElementsAre(kRepErrInvalid));
}

class ContextTest : public HandshakeTest {
 protected:
  ContextTest() {
    SayFlags();
    SayOption(kOptStructuredReply);
  }
};

std::vector<std::string> Names(const std::vector<Answer>& answers) {
  std::vector<std::string> names;
  for (const Answer& answer : answers) {
    if (answer.type == kRepMetaContext) names.push_back(answer.data.substr(4));
  }
  return names;
}

TEST_F(ContextTest, ListWithoutQueriesNamesAll) {
  const auto answers = SayContexts(kOptListMetaContext, "disk", {});
  EXPECT_THAT(Types(answers), ElementsAre(kRepMetaContext, kRepMetaContext, kRepAck));
  EXPECT_THAT(Names(answers), ElementsAre("base:allocation", "cowl:depth"));
}

TEST_F(ContextTest, ListTakesWildcards) {
  EXPECT_THAT(Names(SayContexts(kOptListMetaContext, "disk", {"base:"})), ElementsAre("base:allocation"));
  EXPECT_THAT(Names(SayContexts(kOptListMetaContext, "disk", {"cowl:"})), ElementsAre("cowl:depth"));
  EXPECT_THAT(Names(SayContexts(kOptListMetaContext, "disk", {"cowl:", "base:", "cowl:depth"})),
              ElementsAre("base:allocation", "cowl:depth"));
}

TEST_F(ContextTest, ListOfUnknownContextsIsEmptyAndFine) {
  EXPECT_THAT(Types(SayContexts(kOptListMetaContext, "disk", {"qemu:", "base:nothing", "x-y:z"})), ElementsAre(kRepAck));
}

TEST_F(ContextTest, SetChoosesByFullNameAlone) {
  EXPECT_THAT(Names(SayContexts(kOptSetMetaContext, "disk", {"base:", "cowl:depth", "qemu:dirty-bitmap:x"})),
              ElementsAre("cowl:depth"));
  SayInfo(kOptGo, "disk");
  const Negotiated result = handshake_->TakeResult();
  EXPECT_TRUE(result.contexts.Has(kDepthContext));
  EXPECT_FALSE(result.contexts.Has(kAllocationContext));
}

TEST_F(ContextTest, SetGivesEachContextAnIdOfItsOwn) {
  const auto answers = SayContexts(kOptSetMetaContext, "disk", {"base:allocation", "cowl:depth", "base:allocation"});
  ASSERT_THAT(Types(answers), ElementsAre(kRepMetaContext, kRepMetaContext, kRepAck));
  EXPECT_NE(answers[0].data.substr(0, 4), answers[1].data.substr(0, 4));
}

TEST_F(ContextTest, SetWithoutQueriesChoosesNone) {
  SayContexts(kOptSetMetaContext, "disk", {"base:allocation"});
  EXPECT_THAT(Types(SayContexts(kOptSetMetaContext, "disk", {})), ElementsAre(kRepAck));
  SayInfo(kOptGo, "disk");
  EXPECT_TRUE(handshake_->TakeResult().contexts.empty());
}

TEST_F(ContextTest, SetThatFailsForgetsWhatWasChosen) {
  for (const std::string& data : {std::string("short"), EncodeMetaContextQuery({"disk", {"no colon"}}),
                                  EncodeMetaContextQuery({"none", {"base:allocation"}}),
                                  std::string(Handshake::kOptionDataBytesMax + 1, 'x')}) {
    SayContexts(kOptSetMetaContext, "disk", {"base:allocation"});
    const auto answers = SayOption(kOptSetMetaContext, data);
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_NE(answers[0].type & kReplyErrorBit, 0u);
    SayInfo(kOptGo, "disk");
    EXPECT_TRUE(handshake_->TakeResult().contexts.empty());
    Restart();
    SayFlags();
    SayOption(kOptStructuredReply);
  }
}

TEST_F(ContextTest, ContextsChosenForAnotherExportDoNotCount) {
  SayContexts(kOptSetMetaContext, "image:latest", {"base:allocation"});
  SayInfo(kOptGo, "disk");
  EXPECT_TRUE(handshake_->TakeResult().contexts.empty());
}

TEST_F(ContextTest, ContextsOfAnUnknownExportAreRefused) {
  EXPECT_THAT(Types(SayContexts(kOptSetMetaContext, "none", {"base:allocation"})), ElementsAre(kRepErrUnknown));
  EXPECT_THAT(Types(SayContexts(kOptListMetaContext, "none", {})), ElementsAre(kRepErrUnknown));
}

TEST_F(ContextTest, QueriesWithoutANamespaceAreInvalid) {
  for (const std::string_view query : {"", "base", ":", ":allocation"}) {
    EXPECT_THAT(Types(SayContexts(kOptListMetaContext, "disk", {query})), ElementsAre(kRepErrInvalid)) << query;
  }
}

// --- Cuts and noise --------------------------------------------------------------------------------------------------------

std::string WholeConversation() {
  std::string bytes = Number32(kClientFixedNewstyle | kClientNoZeroes);
  AppendOption(kOptStructuredReply, "", bytes);
  AppendOption(kOptList, "", bytes);
  AppendOption(99, "unknown", bytes);
  AppendOption(kOptSetMetaContext, EncodeMetaContextQuery({"disk", {"base:allocation"}}), bytes);
  AppendOption(kOptInfo, EncodeInfoQuery({"disk", {kInfoBlockSize}}), bytes);
  AppendOption(kOptGo, EncodeInfoQuery({"disk", {kInfoName, kInfoBlockSize}}), bytes);
  return bytes;
}

TEST_F(HandshakeTest, TheSizeOfThePiecesItArrivesInDoesNotMatter) {
  const std::string bytes = WholeConversation();
  const std::string heard_at_once = Say(bytes);
  ASSERT_EQ(state(), State::kTransmission);
  for (const size_t piece_bytes : {1, 2, 3, 7, 16, 17}) {
    Restart();
    std::string heard;
    for (size_t at = 0; at < bytes.size(); at += piece_bytes) heard += Say(std::string_view(bytes).substr(at, piece_bytes));
    EXPECT_EQ(heard, heard_at_once) << piece_bytes;
    EXPECT_EQ(state(), State::kTransmission);
  }
}

TEST_F(HandshakeTest, WhatFollowsTheHandshakeIsLeftForTheSession) {
  Say(WholeConversation() + "REQUEST");
  EXPECT_EQ(pending_, "REQUEST");
}

TEST_F(HandshakeTest, OnlyWholeOptionsThatNeedItAskTheTable) {
  SayFlags();
  std::string option;
  AppendOption(kOptGo, EncodeInfoQuery({"disk", {}}), option);
  for (size_t size = 0; size < option.size(); ++size) EXPECT_FALSE(handshake_->AsksTable(AsBytes(option).first(size))) << size;
  EXPECT_TRUE(handshake_->AsksTable(AsBytes(option)));
  option.clear();
  AppendOption(kOptStructuredReply, "", option);
  EXPECT_FALSE(handshake_->AsksTable(AsBytes(option)));
}

TEST_F(HandshakeTest, FlippedBitsNeverBreakTheServersSide) {
  const std::string good = WholeConversation();
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    Restart();
    pending_.clear();
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    const std::string heard = Say(bad);
    // Whatever it says is well-formed. (NBD_OPT_LIST is one bit from NBD_OPT_EXPORT_NAME, whose reply has no header.)
    if (state() != State::kTransmission) ParseAnswers(heard);
  }
}

TEST_F(HandshakeTest, NoiseNeverBreaksTheServersSide) {
  std::mt19937_64 random(20240607);
  for (int round = 0; round < 2000; ++round) {
    Restart();
    pending_.clear();
    std::string bytes = Number32(random() % 4);
    for (int i = 0; i < 4; ++i) {
      std::string data(random() % 40, '\0');
      for (char& c : data) c = static_cast<char>(random() % 3 == 0 ? random() : random() % 3);
      AppendOption(2 + random() % 10, data, bytes);
    }
    ParseAnswers(Say(bytes));
  }
}

}  // namespace
}  // namespace cowl::nbd
