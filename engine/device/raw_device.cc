#include "device/raw_device.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

constexpr uint64_t kZeroChunkBytes = kMiB;

}  // namespace

absl::Status RawDevice::CheckRange(uint64_t offset_bytes, uint64_t length_bytes) const {
  if (offset_bytes <= size_bytes_ && length_bytes <= size_bytes_ - offset_bytes)
    return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(file_->path(), ": ", length_bytes, " bytes at ",
                                            offset_bytes, " pass the end of the disk at ",
                                            size_bytes_));
}

absl::Status RawDevice::CheckWritable(uint64_t offset_bytes, uint64_t length_bytes) const {
  if (read_only_)
    return absl::PermissionDeniedError(absl::StrCat(file_->path(), ": opened for reading only"));
  if (!sync_failure_.ok()) return sync_failure_;
  return CheckRange(offset_bytes, length_bytes);
}

Task<absl::Status> RawDevice::Read(uint64_t offset_bytes, std::span<std::byte> into) {
  traffic_.Count();
  COWL_CO_RETURN_IF_ERROR(CheckRange(offset_bytes, into.size()));
  if (into.empty()) co_return absl::OkStatus();
  co_return co_await file_->Read(offset_bytes, into);
}

Task<absl::Status> RawDevice::Write(uint64_t offset_bytes, std::span<const std::byte> from,
                                    WriteOptions options) {
  traffic_.Count();
  COWL_CO_RETURN_IF_ERROR(CheckWritable(offset_bytes, from.size()));
  if (!from.empty()) COWL_CO_RETURN_IF_ERROR(co_await file_->Write(offset_bytes, from));
  co_return co_await Finish(options.fua);
}

Task<absl::Status> RawDevice::Flush() { return Finish(true); }

Task<absl::Status> RawDevice::Finish(bool fua) {
  if (!fua || read_only_) co_return absl::OkStatus();
  COWL_CO_RETURN_IF_ERROR(sync_failure_);
  const absl::Status status = co_await file_->Sync();
  if (!status.ok())
    sync_failure_ = Annotate(
        status, "an earlier flush failed, so that data may be lost; close the device and check it");
  co_return status;
}

Task<absl::Status> RawDevice::Discard(uint64_t offset_bytes, uint64_t length_bytes,
                                      WriteOptions options) {
  traffic_.Count();
  COWL_CO_RETURN_IF_ERROR(CheckWritable(offset_bytes, length_bytes));
  const uint64_t begin = RoundUp(offset_bytes, kBlockBytes);
  const uint64_t end = (offset_bytes + length_bytes) / kBlockBytes * kBlockBytes;
  if (begin < end) {
    // Whole blocks read as zeros after a discard, here as on every other device.
    absl::StatusOr<bool> is_zero = co_await PunchToZero(begin, end - begin);
    if (!is_zero.ok()) co_return is_zero.status();
    if (!*is_zero) COWL_CO_RETURN_IF_ERROR(co_await FillWithZeros(begin, end - begin));
  }
  co_return co_await Finish(options.fua);
}

Task<absl::Status> RawDevice::WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                          ZeroOptions options) {
  traffic_.Count();
  COWL_CO_RETURN_IF_ERROR(CheckWritable(offset_bytes, length_bytes));
  const uint64_t end_bytes = offset_bytes + length_bytes;
  const uint64_t begin = RoundUp(offset_bytes, kBlockBytes);
  const uint64_t end = end_bytes / kBlockBytes * kBlockBytes;
  const bool may_punch = !options.no_hole && begin < end;
  if (options.fast_only && !(may_punch && punch_is_known_to_work_)) {
    co_return Unimplemented(
        absl::StrCat(file_->path(), ": zeroing is no faster than writing here"));
  }
  bool punched = false;
  if (may_punch) {
    absl::StatusOr<bool> is_zero = co_await PunchToZero(begin, end - begin);
    if (!is_zero.ok()) co_return is_zero.status();
    punched = *is_zero;
  }
  if (punched) {
    COWL_CO_RETURN_IF_ERROR(co_await FillWithZeros(offset_bytes, begin - offset_bytes));
    COWL_CO_RETURN_IF_ERROR(co_await FillWithZeros(end, end_bytes - end));
  } else {
    COWL_CO_RETURN_IF_ERROR(co_await FillWithZeros(offset_bytes, length_bytes));
  }
  co_return co_await Finish(options.fua);
}

Task<absl::StatusOr<bool>> RawDevice::PunchToZero(uint64_t offset_bytes, uint64_t length_bytes) {
  const absl::StatusOr<uint64_t> before = file_->DiskBytes();
  COWL_CO_RETURN_IF_ERROR(co_await file_->PunchHole(offset_bytes, length_bytes));
  if (punch_is_known_to_work_) co_return true;
  const absl::StatusOr<uint64_t> after = file_->DiskBytes();
  if (before.ok() && after.ok() && *after < *before) {
    punch_is_known_to_work_ = true;
    co_return true;
  }
  std::vector<std::byte> chunk(std::min(length_bytes, kZeroChunkBytes));
  for (uint64_t done = 0; done < length_bytes;) {
    const std::span<std::byte> part(chunk.data(),
                                    std::min<uint64_t>(chunk.size(), length_bytes - done));
    COWL_CO_RETURN_IF_ERROR(co_await file_->Read(offset_bytes + done, part));
    if (!IsZero(part)) co_return false;
    done += part.size();
  }
  co_return true;
}

Task<absl::Status> RawDevice::FillWithZeros(uint64_t offset_bytes, uint64_t length_bytes) {
  const std::vector<std::byte> zeros(std::min(length_bytes, kZeroChunkBytes));
  while (length_bytes > 0) {
    const std::span<const std::byte> part(zeros.data(),
                                          std::min<uint64_t>(zeros.size(), length_bytes));
    COWL_CO_RETURN_IF_ERROR(co_await file_->Write(offset_bytes, part));
    offset_bytes += part.size();
    length_bytes -= part.size();
  }
  co_return absl::OkStatus();
}

Task<absl::Status> RawDevice::Prefetch(uint64_t offset_bytes, uint64_t length_bytes) {
  co_return CheckRange(offset_bytes, length_bytes);
}

absl::StatusOr<std::vector<MapExtent>> RawDevice::Map(uint64_t offset_bytes, uint64_t length_bytes,
                                                      size_t) {
  COWL_RETURN_IF_ERROR(CheckRange(offset_bytes, length_bytes));
  if (length_bytes == 0) return std::vector<MapExtent>();
  return std::vector<MapExtent>{{offset_bytes, length_bytes, MapExtent::Type::kData, 1}};
}

}  // namespace cowl
