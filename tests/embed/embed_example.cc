// The engine inside a program of one's own: a store, a device, a write, a snapshot, and a look
// back. Ends with status 0 when what it reads is what it should be. Usage: embed_example DIRECTORY
// (that does not exist yet).
#include <cowl/device.h>
#include <cowl/store.h>

#include <cstdio>
#include <string_view>
#include <vector>

namespace {

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

absl::Status Demonstrate(const std::string& directory) {
  if (absl::Status status = cowl::Store::Init(directory); !status.ok()) return status;
  auto store = cowl::Store::Open(directory, {});
  if (!store.ok()) return store.status();
  auto created = (*store)->CreateEmpty("disk", {.size_bytes = 64 << 20});
  if (!created.ok()) return created.status();

  auto disk = cowl::Device::Open(**store, "disk");
  if (!disk.ok()) return disk.status();
  if (absl::Status status = (*disk)->Write(5000, Bytes("first"), /*fua=*/true); !status.ok())
    return status;
  auto sealed = (*store)->Snapshot("disk", "before", /*force=*/false);
  if (!sealed.ok()) return sealed.status();
  if (absl::Status status = (*disk)->Write(5000, Bytes("later")); !status.ok()) return status;

  auto before = cowl::Device::Open(**store, "before:latest");
  if (!before.ok()) return before.status();
  std::vector<std::byte> now(5), then(5);
  if (absl::Status status = (*disk)->Read(5000, now); !status.ok()) return status;
  if (absl::Status status = (*before)->Read(5000, then); !status.ok()) return status;
  std::printf("now: %.5s  before: %.5s\n", reinterpret_cast<char*>(now.data()),
              reinterpret_cast<char*>(then.data()));
  const bool right = std::equal(now.begin(), now.end(), Bytes("later").begin()) &&
                     std::equal(then.begin(), then.end(), Bytes("first").begin());
  return right ? absl::OkStatus() : absl::DataLossError("a snapshot changed with its device");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const absl::Status status = Demonstrate(argv[1]);
  if (!status.ok())
    std::fprintf(stderr, "embed_example: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
