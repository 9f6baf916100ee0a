// The table of commands: the documents it makes, and arguments that lack something.
#include "control/commands.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fake_store.h"

namespace cowl {
namespace {

class OneUri : public ServerFacts {
 public:
  std::vector<std::string> UrisOf(const std::string& name) const override {
    return {"nbd://localhost/" + name};
  }
};

class CommandsTest : public testing::Test {
 protected:
  absl::StatusOr<Json> Run(const std::string& verb, const Json& args = Json::object(),
                           const ServerFacts* server = nullptr) {
    Session session;
    return RunCommand(store_, server, verb, args, session);
  }
  std::string Text(const std::string& verb, const Json& args = Json::object(),
                   const ServerFacts* server = nullptr) {
    const auto result = Run(verb, args, server);
    return result.ok() ? JsonText(*result) : Message(result.status());
  }

  FakeStore store_;
};

TEST_F(CommandsTest, ImagesHaveTheFieldsOfTheContract) {
  store_.images = {{"web", "v1", "l1", 2, 1048576, 8192, 1'700'000'000'000'000'000}};
  EXPECT_EQ(
      Text("images"),
      R"({"images":[{"name":"web","tag":"v1","layer_count":2,"size_bytes":1048576,"stored_bytes":8192,)"
      R"("created":"2023-11-14T22:13:20Z"}]})");
}

TEST_F(CommandsTest, DevicesSayWhetherAServerServesThem) {
  store_.devices = {{"web", "", DeviceKind::kVolume, 512, 1, 2, 0, {"client"}}};
  EXPECT_EQ(
      Text("ls"),
      R"({"devices":[{"name":"web","image":null,"kind":"volume","size_bytes":512,"stored_bytes":1,"disk_bytes":2,)"
      R"("cap_bytes":null,"users":["client"],"served":false}]})");
  const OneUri server;
  EXPECT_NE(Text("ls", Json::object(), &server).find(R"("served":true)"), std::string::npos);
}

TEST_F(CommandsTest, InspectNamesTheUris) {
  store_.devices = {{"web", "", DeviceKind::kOverlay, 512, 1, 2, 0, {}}};
  const OneUri server;
  EXPECT_EQ(Text("inspect", {{"name", "web"}}, &server),
            R"({"kind":"overlay","name":"web","size_bytes":512,"image":null,"cap_bytes":null,)"
            R"("layers":[],"overlay":{"path":"/s/o"},"served":["nbd://localhost/web"]})");
}

TEST_F(CommandsTest, DiffIsSortedAndMerged) {
  store_.diff = {{8192, 4096, false}, {0, 4096, false}, {4096, 4096, false}, {12288, 4096, true}};
  EXPECT_EQ(Text("diff", {{"a", "web"}}),
            R"({"extents":[{"offset_bytes":0,"length_bytes":12288,"type":"data"},)"
            R"({"offset_bytes":12288,"length_bytes":4096,"type":"zero"}]})");
}

TEST_F(CommandsTest, MapHasNullForNoLayer) {
  EXPECT_EQ(
      Text("map", {{"name", "web"}}),
      R"({"extents":[{"offset_bytes":0,"length_bytes":4096,"type":"data","depth":2,"layer":"l1"},)"
      R"({"offset_bytes":4096,"length_bytes":512,"type":"zero","depth":0,"layer":null}]})");
}

TEST_F(CommandsTest, SnapshotReportsItsPauseAndCommitDoesNot) {
  const Json args = {{"device", "web"}, {"image", "w:1"}};
  EXPECT_EQ(Text("snapshot", args), R"({"image":"w:1","layer":"l2","pause_us":7})");
  EXPECT_EQ(Text("commit", args), R"({"image":"w:1","layer":"l2"})");
}

TEST_F(CommandsTest, ForceIsPassedOn) {
  ASSERT_TRUE(Run("rm", {{"device", "web"}, {"force", true}}).ok());
  ASSERT_TRUE(Run("rm", {{"device", "db"}}).ok());
  EXPECT_EQ(store_.Notes(), (std::vector<std::string>{"rm web force", "rm db"}));
}

TEST_F(CommandsTest, EveryCommandRefusesArgumentsThatAreMissingOrOfAnotherType) {
  for (const char* verb :
       {"history", "inspect", "map",    "diff",     "check_free", "create", "volume create",
        "clone",   "reset",   "resize", "rm",       "snapshot",   "commit", "flatten",
        "tag",     "rename",  "rmi",    "register", "freeze",     "release"}) {
    EXPECT_EQ(Run(verb).status().code(), absl::StatusCode::kInvalidArgument) << verb;
    const Json wrong = {{"image", 1}, {"name", 1}, {"device", nullptr},
                        {"a", 1},     {"old", 2},  {"token", true}};
    EXPECT_EQ(Run(verb, wrong).status().code(), absl::StatusCode::kInvalidArgument) << verb;
  }
}

TEST_F(CommandsTest, AnUnknownCommandIsAnError) {
  EXPECT_EQ(Run("halt").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CommandsTest, OnlyTheVerbsThatReadMayOpenTheStoreForReading) {
  for (const char* verb :
       {"images", "ls", "history", "inspect", "tree", "df", "map", "diff", "check"}) {
    EXPECT_TRUE(ReadsOnly(verb, Json::object())) << verb;
  }
  EXPECT_FALSE(ReadsOnly("check", {{"repair", true}}));
  for (const char* verb : {"create", "rm", "gc", "freeze", "snapshot", "no such verb"}) {
    EXPECT_FALSE(ReadsOnly(verb, Json::object())) << verb;
  }
}

}  // namespace
}  // namespace cowl
