# engine/overlay/overlay.cc
# The journal names data that has not been written yet.
s/^    status = co_await file_->Write(BlockOffsetBytes(run.physical), part);$//
s/^  const absl::Status status = co_await Append(std::move(record));$/&\
  std::span<const std::byte> rest = data;\
  for (const SlotRun\& run : runs) {\
    const std::span<const std::byte> part = rest.first(BlockOffsetBytes(run.blocks));\
    rest = rest.subspan(part.size());\
    COWL_CO_RETURN_IF_ERROR(co_await file_->Write(BlockOffsetBytes(run.physical), part));\
  }/
