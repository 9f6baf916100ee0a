#include "attach/run_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "attach/text_file.h"
#include "base/status.h"
#include "base/unique_fd.h"

extern char** environ;

namespace cowl {
namespace {

constexpr size_t kOutputBytesMax = 64 << 10;

std::string ReadToEnd(int fd) {
  std::string text;
  char chunk[4096];
  while (true) {
    const ssize_t n = read(fd, chunk, sizeof(chunk));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    if (text.size() < kOutputBytesMax) text.append(chunk, static_cast<size_t>(n));
  }
}

}  // namespace

std::string FindProgram(const std::string& name) {
  const char* path = getenv("PATH");
  const std::string folders =
      std::string(path != nullptr ? path : "") + ":/usr/sbin:/usr/bin:/sbin:/bin";
  for (const std::string_view folder : SplitWords(folders, ':')) {
    const std::string program = std::string(folder) + "/" + name;
    if (access(program.c_str(), X_OK) == 0) return program;
  }
  return "";
}

absl::StatusOr<ProgramResult> RunProgram(const std::vector<std::string>& arguments) {
  const std::string program = FindProgram(arguments[0]);
  if (program.empty()) return NotFound("the program " + arguments[0] + " is not installed");
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe", arguments[0]);
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);

  std::vector<std::string> words = arguments;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, writing.get(), 2);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoStatus(error, "start", program);
  writing.Reset();

  ProgramResult result;
  result.output = ReadToEnd(reading.get());
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace cowl
