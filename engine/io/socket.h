// socket.h: byte streams and listeners on a loop.
// Threads: a Stream belongs to one loop at a time; Detach/attach moves it to another. Ownership: as
// File. Errors: absl::Status; the peer's orderly end is a Receive of 0 bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "io/file.h"
#include "io/loop.h"
#include "io/task.h"

namespace cowl {

class Stream {
 public:
  virtual ~Stream() = default;
  // At least one byte, or 0 at the orderly end of the stream.
  virtual Task<absl::StatusOr<size_t>> Receive(std::span<std::byte> into) = 0;
  // All bytes of all buffers, in order. One Send at a time.
  virtual Task<absl::Status> Send(std::span<const iovec> buffers) = 0;
  // Makes pending and later Receives and Sends end soon, with Cancelled. Any task on the loop;
  // resumes nobody inside the call.
  virtual void Shutdown() = 0;
  // Takes the descriptor out, to be wrapped on another loop. Nothing may be pending. Not valid for
  // a pair, which stays.
  virtual UniqueFd Detach() = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  // The next connection, one Accept at a time; Cancelled after Close. ResourceExhausted (no
  // descriptor left) passes: wait a moment and try again.
  virtual Task<absl::StatusOr<UniqueFd>> Accept() = 0;
  virtual void Close() = 0;
};

// What a loop with a thread offers besides Loop: it opens things that complete on it.
class IoLoop : public Loop {
 public:
  // Runs on the calling thread until Stop, once in its life. Then it drains: every stream and
  // listener is shut down, every sleeper woken once, and it goes on until no request, posted work
  // or helper is under way. A task that sleeps or waits in a queue beyond that is abandoned: end
  // your tasks before you stop their loop.
  virtual void Run() = 0;
  virtual void Stop() = 0;  // any thread
  virtual std::unique_ptr<Stream> WrapStream(UniqueFd fd) = 0;
  // A pair such as stdin and stdout.
  virtual std::unique_ptr<Stream> WrapStreamPair(UniqueFd in, UniqueFd out) = 0;
  virtual std::unique_ptr<Listener> WrapListener(UniqueFd fd) = 0;
  // Files below `directory`, completing on this loop.
  virtual std::unique_ptr<Storage> OpenStorage(const std::string& directory) = 0;
};

enum class IoBackend { kUring, kSync };

// A new loop, not running yet. Unavailable names what the kernel lacks or forbids, and the remedy
// (--io sync).
absl::StatusOr<std::unique_ptr<IoLoop>> MakeIoLoop(IoBackend backend);

}  // namespace cowl
