#include "support/temp_directory.h"

#include <cstdlib>
#include <system_error>

#include "base/status.h"

namespace cowl {

TempDirectory::TempDirectory(const std::string& parent) {
  const char* const from_environment = std::getenv("TMPDIR");
  path_ = !parent.empty() ? parent : from_environment != nullptr ? from_environment : "/tmp";
  path_ += "/cowl-test-XXXXXX";
  COWL_CHECK(::mkdtemp(path_.data()) != nullptr);
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace cowl
