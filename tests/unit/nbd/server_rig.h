// server_rig.h: a server over a unix socket, with disks in memory: "disk", "other", "image"
// (read-only), "odd", and "gate".
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "../../nbd/memory_exports.h"
#include "gate_device.h"
#include "nbd/server.h"
#include "support/status_matchers.h"
#include "support/temp_directory.h"
#include "test_client.h"

namespace cowl::nbd {

using namespace std::chrono_literals;

// Waits up to ten seconds for `condition`.
template <typename Condition>
bool Eventually(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return condition();
}

class ServerTest : public testing::TestWithParam<IoBackend> {
 protected:
  static constexpr uint64_t kDiskBytes = 8 * kMiB;

  ServerTest() {
    options_.io = GetParam();
    auto exports = MemoryExports::Make(GetParam(), 2);
    COWL_CHECK(exports.ok());
    exports_ = *std::move(exports);
    auto gate = std::make_unique<GateDevice>(kDiskBytes);
    gate_ = gate.get();
    exports_->Add("disk", "a disk", std::make_unique<MemoryDevice>(kDiskBytes));
    exports_->Add("gate", "", std::move(gate));
    gate_->LiveOn(exports_->loop_of("gate"));
    exports_->Add("other", "", std::make_unique<MemoryDevice>(kDiskBytes));
    exports_->Add("image", "", std::make_unique<MemoryDevice>(kDiskBytes, true));
    exports_->Add("odd", "", std::make_unique<MemoryDevice>(100'001));
  }
  ~ServerTest() override { OpenGate(); }

  // With the options as they are now.
  NbdServer& StartServer() {
    auto server = NbdServer::Start(options_, *exports_);
    COWL_CHECK(server.ok());
    server_ = *std::move(server);
    const auto uri = server_->Listen("unix:" + socket_path());
    EXPECT_OK(uri);
    return *server_;
  }
  NbdServer& server() { return server_ ? *server_ : StartServer(); }
  std::string socket_path() const { return directory_ / "s"; }

  TestClient Connect() {
    server();
    return TestClient::Connect(socket_path());
  }
  TestClient ConnectTo(std::string_view name, bool structured = true,
                       std::vector<std::string_view> contexts = {}) {
    TestClient client = Connect();
    client.Go(name, structured, std::move(contexts));
    return client;
  }

  // Returns when it is done.
  template <typename Work>
  void OnGateLoop(Work work) {
    std::promise<void> done;
    exports_->loop_of("gate").Post([&] {
      work();
      done.set_value();
    });
    done.get_future().wait();
  }
  void CloseGate() {
    OnGateLoop([gate = gate_] { gate->CloseGate(); });
  }
  void OpenGate() {
    OnGateLoop([gate = gate_] { gate->OpenGate(); });
  }

  ServerOptions options_;
  const TempDirectory directory_;
  std::unique_ptr<MemoryExports> exports_;
  GateDevice* gate_ = nullptr;
  std::unique_ptr<NbdServer> server_;  // goes first
};

inline std::string BackendName(const testing::TestParamInfo<IoBackend>& info) {
  return info.param == IoBackend::kUring ? "uring" : "sync";
}

}  // namespace cowl::nbd
