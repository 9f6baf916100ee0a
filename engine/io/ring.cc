#include "io/ring.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr unsigned kSubmissionEntries = 256;
constexpr unsigned kCompletionEntries = 4096;

// From the best to what Linux 5.11 has. All start disabled, so that the thread that runs the loop
// becomes the issuer.
constexpr unsigned kSetups[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    0,
};

struct Needed {
  int op;
  const char* name;
};
constexpr Needed kNeededOps[] = {
    {IORING_OP_READV, "readv"},         {IORING_OP_WRITEV, "writev"},
    {IORING_OP_READ, "read"},           {IORING_OP_FSYNC, "fsync"},
    {IORING_OP_RECV, "recv"},           {IORING_OP_SENDMSG, "sendmsg"},
    {IORING_OP_ACCEPT, "accept"},       {IORING_OP_POLL_ADD, "poll"},
    {IORING_OP_ASYNC_CANCEL, "cancel"}, {IORING_OP_FALLOCATE, "fallocate"},
};

constexpr char kRemedy[] = "use --io sync";

// The first integer in a file of /proc; -1 where there is none.
int ReadNumber(const char* path) {
  std::ifstream in(path);
  int value = -1;
  in >> value;
  return in ? value : -1;
}

bool UnderSeccomp() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("Seccomp:")) return line.find('2') != std::string::npos;
  }
  return false;
}

std::string CauseOf(int error_number) {
  const int disabled = ReadNumber("/proc/sys/kernel/io_uring_disabled");
  switch (error_number) {
    case EPERM:
    case EACCES:
      if (disabled > 0) {
        return absl::StrCat("sysctl kernel.io_uring_disabled is ", disabled, "; set it to 0, or ",
                            kRemedy);
      }
      if (UnderSeccomp())
        return absl::StrCat("a seccomp filter forbids it (containers' default); allow it, or ",
                            kRemedy);
      return absl::StrCat("a security policy forbids it; ", kRemedy);
    case ENOSYS:
      if (UnderSeccomp())
        return absl::StrCat("the kernel lacks it or a seccomp filter hides it; ", kRemedy);
      return absl::StrCat("the kernel lacks it (Linux 5.11 or newer is needed); ", kRemedy);
    case EINVAL:
      return absl::StrCat("the kernel is too old (Linux 5.11 or newer is needed); ", kRemedy);
    case ENOMEM:
      return absl::StrCat("no memory for it: raise the limit of locked memory (ulimit -l), or ",
                          kRemedy);
    case EMFILE:
    case ENFILE:
      return "too many open files: raise the limit (ulimit -n)";
    default:
      return std::string(kRemedy);
  }
}

class CancelOp final : public RingOp {
 public:
  explicit CancelOp(RingOp& target) : target_(&target) {}
  void Prepare(io_uring_sqe* entry) override { io_uring_prep_cancel(entry, target_, 0); }
  void Complete(int) override { delete this; }

 private:
  RingOp* const target_;  // an address to match, never followed
};

}  // namespace

absl::StatusOr<std::unique_ptr<Ring>> Ring::Make() {
  std::unique_ptr<Ring> ring(new Ring);
  COWL_RETURN_IF_ERROR(ring->SetUp());
  COWL_RETURN_IF_ERROR(ring->CheckFeatures());
  return ring;
}

absl::Status Ring::SetUp() {
  int error_number = EINVAL;
  for (const unsigned flags : kSetups) {
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = kCompletionEntries;
    const int result = io_uring_queue_init_params(kSubmissionEntries, &ring_, &params);
    if (result == 0) {
      is_set_up_ = true;
      return absl::OkStatus();
    }
    error_number = -result;
    if (error_number != EINVAL) break;  // only EINVAL means "these flags"
  }
  return Unavailable(absl::StrCat("io_uring cannot be used (", std::strerror(error_number),
                                  "): ", CauseOf(error_number)));
}

absl::Status Ring::CheckFeatures() {
  constexpr unsigned kFeatures = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
                                 IORING_FEAT_RW_CUR_POS | IORING_FEAT_FAST_POLL |
                                 IORING_FEAT_EXT_ARG;
  if ((ring_.features & kFeatures) != kFeatures) {
    return Unavailable(absl::StrCat("io_uring of this kernel lacks features (has 0x",
                                    absl::Hex(ring_.features), ", needs 0x", absl::Hex(kFeatures),
                                    "): ", CauseOf(EINVAL)));
  }
  const std::unique_ptr<io_uring_probe, void (*)(io_uring_probe*)> probe(
      io_uring_get_probe_ring(&ring_), io_uring_free_probe);
  if (probe == nullptr)
    return Unavailable(absl::StrCat("io_uring cannot be probed: ", CauseOf(EINVAL)));
  for (const Needed& needed : kNeededOps) {
    if (!io_uring_opcode_supported(probe.get(), needed.op)) {
      return Unavailable(
          absl::StrCat("io_uring of this kernel lacks ", needed.name, ": ", CauseOf(EINVAL)));
    }
  }
  return absl::OkStatus();
}

Ring::~Ring() {
  if (is_set_up_) io_uring_queue_exit(&ring_);
}

void Ring::Enable() {
  // As io_uring_enable_rings does, which liburing 2.3 declares but does not export.
  const long result =
      ::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  COWL_CHECK(result == 0);
  io_uring_register_ring_fd(&ring_);  // spares a look-up per system call; older kernels go without
}

void Ring::Disable() { io_uring_unregister_ring_fd(&ring_); }

bool Ring::Prepare(RingOp& op) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) {
    io_uring_submit(&ring_);  // errors show again, and are handled, at the next Enter
    entry = io_uring_get_sqe(&ring_);
  }
  if (entry == nullptr) return false;
  op.Prepare(entry);
  io_uring_sqe_set_data(entry, &op);
  return true;
}

void Ring::Submit(RingOp& op) {
  ++in_flight_count_;
  // Behind a backlog nobody overtakes, so that a cancellation never comes before what it cancels.
  if (!backlog_.empty() || !Prepare(op)) backlog_.push_back(&op);
}

void Ring::Cancel(RingOp& op) { Submit(*new CancelOp(op)); }

void Ring::PrepareBacklog() {
  while (!backlog_.empty() && Prepare(*backlog_.front())) backlog_.pop_front();
}

void Ring::Enter(std::chrono::nanoseconds timeout) {
  int result;
  if (timeout.count() == 0 || !backlog_.empty()) {
    result = io_uring_submit_and_get_events(&ring_);
  } else if (timeout.count() < 0) {
    result = io_uring_submit_and_wait(&ring_, 1);
  } else {
    __kernel_timespec limit{timeout.count() / 1'000'000'000, timeout.count() % 1'000'000'000};
    io_uring_cqe* first = nullptr;
    result = io_uring_submit_and_wait_timeout(&ring_, &first, 1, &limit, nullptr);
  }
  // EINTR: a signal. ETIME: the timeout. EAGAIN, EBUSY: no memory, or completions to be fetched
  // first; they are, and the next turn tries again. Anything else is a bug of ours.
  COWL_CHECK(result >= 0 || result == -EINTR || result == -ETIME || result == -EAGAIN ||
             result == -EBUSY);
}

unsigned Ring::Dispatch() {
  // Copied out first: completing resumes coroutines, which submit, and may even enter the kernel.
  struct Completion {
    RingOp* op;
    int result;
  };
  std::array<Completion, 64> batch;
  unsigned count = 0;
  unsigned head;
  io_uring_cqe* cqe;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    batch[count++] = {static_cast<RingOp*>(io_uring_cqe_get_data(cqe)), cqe->res};
    if (count == batch.size()) break;
  }
  io_uring_cq_advance(&ring_, count);
  for (unsigned i = 0; i < count; ++i) {
    --in_flight_count_;
    batch[i].op->Complete(batch[i].result);
  }
  return count;
}

bool Ring::HasCompletions() const {
  return io_uring_cq_ready(&ring_) > 0 ||
         (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) != 0;
}

bool Ring::LookOutFor(std::chrono::nanoseconds time) {
  Enter(std::chrono::nanoseconds(0));
  const auto end = LookOut::Clock::now() + time;
  while (!HasCompletions()) {
    if (LookOut::Clock::now() >= end) return false;
    LookOut::Pause();
  }
  return true;
}

void Ring::WaitAndDispatch(std::chrono::nanoseconds timeout) {
  PrepareBacklog();
  if (timeout.count() == 0) {
    Enter(timeout);
  } else {
    const auto began = LookOut::Clock::now();
    const auto look_out_time = look_out_.TimeFor(timeout);
    const bool sleeps = look_out_time.count() == 0 || !LookOutFor(look_out_time);
    if (sleeps) {
      Enter(timeout.count() < 0 ? timeout : timeout - look_out_time);
    } else if (io_uring_cq_ready(&ring_) == 0) {
      Enter(std::chrono::nanoseconds(0));
    }
    look_out_.NoteWait(LookOut::Clock::now() - began, sleeps);
  }
  // As many as the queue can hold; what comes on top waits a turn, so that posted work and sleepers
  // get theirs.
  for (unsigned done = 0; done < kCompletionEntries;) {
    const unsigned count = Dispatch();
    if (count == 0) break;
    done += count;
  }
}

}  // namespace cowl
