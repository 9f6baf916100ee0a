// Loops: posted work, sleepers, helpers, switching, waiting, the drain.
#include "io/loop.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <thread>

#include "io/limits.h"
#include "io/loop_thread.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using Clock = std::chrono::steady_clock;

Task<absl::Status> Nothing() { co_return absl::OkStatus(); }

class LoopTest : public IoRigTest {
 protected:
  IoLoop& loop() { return rig().io_loop(); }
  void Settle() { EXPECT_OK(Run(Nothing())); }
};

TEST_P(LoopTest, PostedWorkRunsOnTheLoopInEachThreadsOrder) {
  constexpr int kThreads = 8, kPosts = 5000;
  std::vector<std::vector<int>> seen(kThreads);
  std::atomic<int> elsewhere = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        loop().Post([&, t, i] {
          seen[t].push_back(i);
          if (!loop().OnLoop()) ++elsewhere;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Settle();
  EXPECT_EQ(elsewhere, 0);
  EXPECT_FALSE(loop().OnLoop());
  for (const auto& numbers : seen) {
    ASSERT_EQ(numbers.size(), static_cast<size_t>(kPosts));
    EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
  }
}

TEST_P(LoopTest, WorkPostedFromTheLoopRunsLaterNotInside) {
  std::vector<int> order;
  loop().Post([&] {
    loop().Post([&] { order.push_back(2); });
    order.push_back(1);
  });
  Settle();
  Settle();
  EXPECT_THAT(order, ElementsAre(1, 2));
}

Task<void> SleepAndNote(Loop* loop, milliseconds delay, std::vector<int>* order, int number) {
  co_await Sleep(*loop, delay);
  order->push_back(number);
}

Task<absl::Status> SleepTogether(Loop* loop, std::vector<int>* order) {
  StartDetached(SleepAndNote(loop, milliseconds(30), order, 30));
  StartDetached(SleepAndNote(loop, milliseconds(10), order, 10));
  StartDetached(SleepAndNote(loop, milliseconds(20), order, 20));
  StartDetached(SleepAndNote(loop, milliseconds(0), order, 0));
  EXPECT_TRUE(order->empty());
  co_await Sleep(*loop, milliseconds(60));
  co_return absl::OkStatus();
}

TEST_P(LoopTest, SleepersWakeInTheOrderOfTheirTimes) {
  std::vector<int> order;
  const auto began = Clock::now();
  EXPECT_OK(Run(SleepTogether(&loop(), &order)));
  EXPECT_GE(Clock::now() - began, milliseconds(60));
  EXPECT_THAT(order, ElementsAre(0, 10, 20, 30));
}

Task<absl::Status> OffloadOnce(Loop* loop, std::thread::id* helper, bool* back) {
  const auto work = [helper] { *helper = std::this_thread::get_id(); };
  auto aside = Offload(*loop, work);
  co_await aside;
  *back = loop->OnLoop();
  co_return absl::OkStatus();
}

Task<std::thread::id> LoopThreadId() { co_return std::this_thread::get_id(); }

TEST_P(LoopTest, OffloadedWorkRunsOnAHelperAndTheTaskGoesOnOnTheLoop) {
  std::thread::id helper;
  bool back = false;
  EXPECT_OK(Run(OffloadOnce(&loop(), &helper, &back)));
  EXPECT_TRUE(back);
  EXPECT_NE(helper, std::this_thread::get_id());
  EXPECT_NE(helper, Run(LoopThreadId()));
}

Task<void> OffloadAndCount(Loop* loop, std::atomic<int>* sum, int* left, WaitQueue* done) {
  const auto work = [sum] { ++*sum; };
  auto aside = Offload(*loop, work);
  co_await aside;
  if (--*left == 0) done->WakeAll();
}

Task<absl::Status> OffloadMany(Loop* loop, std::atomic<int>* sum) {
  WaitQueue done;
  int left = 1000;
  for (int i = 0; i < 1000; ++i) StartDetached(OffloadAndCount(loop, sum, &left, &done));
  while (left > 0) co_await done.Wait();
  co_return absl::OkStatus();
}

TEST_P(LoopTest, ManyOffloadsAllRun) {
  std::atomic<int> sum = 0;
  EXPECT_OK(Run(OffloadMany(&loop(), &sum)));
  EXPECT_EQ(sum, 1000);
}

Task<absl::Status> PingPong(Loop* here, Loop* there, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    co_await SwitchTo(*there);
    if (!there->OnLoop() || here->OnLoop()) co_return Internal("not there");
    co_await SwitchTo(*here);
    if (!here->OnLoop() || there->OnLoop()) co_return Internal("not here");
  }
  co_return absl::OkStatus();
}

TEST_P(LoopTest, ATaskSwitchesBetweenLoops) {
  IoRig other(GetParam());
  EXPECT_OK(Run(PingPong(&loop(), &other.loop(), 1000)));
}

Task<void> SleepLong(Loop* loop, bool* woken) {
  co_await Sleep(*loop, std::chrono::hours(1));
  *woken = true;
}

Task<void> WriteAndSync(File* file, int* done) {
  const std::vector<std::byte> bytes(1 << 20, std::byte{7});
  const absl::Status written = co_await file->Write(0, bytes);
  const absl::Status synced = co_await file->Sync();
  if (written.ok() && synced.ok()) ++*done;
}

TEST_P(LoopTest, StoppingDrainsRequestsHelpersAndSleepers) {
  bool woken = false;
  int synced = 0, offloaded = 1;
  std::atomic<int> sum = 0;
  WaitQueue nobody;
  {
    IoRig ending(GetParam());
    std::vector<std::unique_ptr<File>> files;
    for (int i = 0; i < 8; ++i)
      files.push_back(*ending.storage().Open(std::to_string(i), OpenMode::kCreate));
    ending.loop().Spawn(SleepLong(&ending.loop(), &woken));
    for (const auto& file : files) ending.loop().Spawn(WriteAndSync(file.get(), &synced));
    ending.loop().Spawn(OffloadAndCount(&ending.loop(), &sum, &offloaded, &nobody));
    ending.EndThread();  // the files are still there
  }
  EXPECT_TRUE(woken);
  EXPECT_EQ(synced, 8);
  EXPECT_EQ(offloaded, 0);
}

TEST_P(LoopTest, ALoopThatNeverRanForgetsItsWork) {
  bool ran = false;
  {
    const auto idle = *MakeIoLoop(GetParam().backend);
    idle->Post([&] { ran = true; });
    idle->Spawn(SleepLong(idle.get(), &ran));
  }
  EXPECT_FALSE(ran);
}

INSTANTIATE_TEST_SUITE_P(AllLoops, LoopTest, testing::ValuesIn(BothLoops()), RigName);

Task<void> WaitAndNote(WaitQueue* queue, std::vector<int>* order, int number, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    co_await queue->Wait();
    order->push_back(number);
  }
}

TEST(WaitQueue, WakesInTheOrderOfWaiting) {
  WaitQueue queue;
  std::vector<int> order;
  for (int i = 0; i < 4; ++i) StartDetached(WaitAndNote(&queue, &order, i, 1));
  queue.WakeAll();
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3));
  EXPECT_TRUE(queue.empty());
  queue.WakeAll();
}

TEST(WaitQueue, WakeAllWakesOnceWhoWaitsAgain) {
  WaitQueue queue;
  std::vector<int> order;
  for (int i = 0; i < 2; ++i) StartDetached(WaitAndNote(&queue, &order, i, 2));
  queue.WakeAll();
  EXPECT_THAT(order, ElementsAre(0, 1));
  queue.WakeAll();
  EXPECT_THAT(order, ElementsAre(0, 1, 0, 1));
}

Task<void> CountSleeps(Loop* loop, int* count) {
  for (;;) {
    co_await Sleep(*loop, milliseconds(1));
    if (++*count == 2) co_return;
  }
}

TEST(InlineLoop, SleepersWakeWhenTold) {
  InlineLoop loop;
  int count = 0;
  loop.Spawn(CountSleeps(&loop, &count));
  EXPECT_EQ(count, 0);
  loop.WakeSleepers();
  EXPECT_EQ(count, 1);
  loop.WakeSleepers();
  EXPECT_EQ(count, 2);
}

// Runs `body` in a child process; its status is what the child exits with.
template <typename Body>
int InChild(Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int ForbidIoUring(int error_number) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error_number)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{std::size(program), program};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

TEST(MakeIoLoop, NamesASeccompFilterAndTheRemedy) {
  for (const int error_number : {EPERM, ENOSYS}) {
    EXPECT_EQ(InChild([error_number] {
                if (ForbidIoUring(error_number) != 0) return 10;
                const absl::Status status = MakeIoLoop(IoBackend::kUring).status();
                const std::string message = Message(status);
                if (status.code() != absl::StatusCode::kUnavailable) return 11;
                if (message.find("seccomp") == std::string::npos) return 12;
                if (message.find("--io sync") == std::string::npos) return 13;
                return MakeIoLoop(IoBackend::kSync).ok() ? 0 : 14;
              }),
              0);
  }
}

TEST(Limits, OpenFilesGoUpToTheHardLimit) {
  EXPECT_EQ(InChild([] {
              rlimit limit;
              if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 10;
              const rlim_t hard = limit.rlim_max;
              limit.rlim_cur = 100;
              if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return 11;
              const absl::StatusOr<uint64_t> raised = RaiseOpenFileLimit();
              if (!raised.ok() || *raised != hard) return 12;
              ::getrlimit(RLIMIT_NOFILE, &limit);
              return limit.rlim_cur == hard ? 0 : 13;
            }),
            0);
}

}  // namespace
}  // namespace cowl
