# engine/device/cow_device_control.cc
# What the overlay hides is taken for durable without a flush.
/^Task<absl::StatusOr<BlockRanges>> CowDevice::DurablyHiddenIn(/,/^}$/s/^  COWL_CO_RETURN_IF_ERROR(co_await Flush());$//
