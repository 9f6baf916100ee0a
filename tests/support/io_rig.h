// io_rig.h: one test suite over every storage: memory, and real files on each loop.
// Use: class MyTest : public IoRigTest {}; TEST_P(MyTest, ...) { EXPECT_OK(Run(SomeTask(storage(),
// ...))); }
//      INSTANTIATE_TEST_SUITE_P(AllStorages, MyTest, testing::ValuesIn(AllRigs()), RigName);
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "io/loop_thread.h"
#include "io/memory_storage.h"
#include "support/temp_directory.h"

namespace cowl {

struct RigKind {
  std::string name;
  bool is_memory = false;
  IoBackend backend = IoBackend::kUring;
  std::string parent;  // of the directory; empty: the usual one
};

inline void PrintTo(const RigKind& kind, std::ostream* out) { *out << kind.name; }

std::vector<RigKind> AllRigs();   // memory, uring and sync on the usual file system, uring on tmpfs
std::vector<RigKind> LoopRigs();  // those with a thread
std::vector<RigKind> BothLoops();  // one of each back end: for what has no file in it
inline std::string RigName(const testing::TestParamInfo<RigKind>& info) { return info.param.name; }

// A loop and a storage on it. Tests call from their own thread; Run carries the task over.
class IoRig {
 public:
  explicit IoRig(const RigKind& kind);
  ~IoRig();

  Loop& loop() { return *loop_; }
  IoLoop& io_loop() { return thread_->loop(); }  // not of a memory rig
  Storage& storage() { return *storage_; }
  // Stops, drains and joins, the files still open. No Run after it.
  void EndThread();
  std::string directory() const { return directory_ ? directory_->path() : ""; }

  template <typename T>
  T Run(Task<T> task) {
    return RunOn(*loop_, std::move(task));
  }

 private:
  InlineLoop inline_loop_;
  std::unique_ptr<TempDirectory> directory_;
  std::unique_ptr<LoopThread> thread_;
  Loop* loop_ = nullptr;
  std::unique_ptr<Storage> storage_;
};

class IoRigTest : public testing::TestWithParam<RigKind> {
 protected:
  IoRigTest() : rig_(GetParam()) {}
  IoRig& rig() { return rig_; }
  Storage& storage() { return rig_.storage(); }
  template <typename T>
  T Run(Task<T> task) {
    return rig_.Run(std::move(task));
  }

 private:
  IoRig rig_;
};

}  // namespace cowl
