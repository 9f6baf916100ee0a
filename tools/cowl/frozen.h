// frozen.h: a state of an image or device that stays as it is while this process reads it, outside
// the store's lock. Ownership: a lease ends with End or its destructor; when this process is
// killed, the server notices, and without one the next opening of the store.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "control/control_client.h"
#include "cowl/store.h"
#include "tools/cowl/invocation.h"

namespace cowl {

class FrozenLease {
 public:
  static absl::StatusOr<FrozenLease> Take(const Invocation& invocation, const std::string& name);
  FrozenLease(FrozenLease&& other) noexcept;
  FrozenLease& operator=(FrozenLease&& other) noexcept;
  ~FrozenLease();

  const FrozenView& view() const { return view_; }
  absl::Status End();

 private:
  explicit FrozenLease(const Invocation& invocation) : invocation_(&invocation) {}

  const Invocation* invocation_;  // null: nothing to give back
  FrozenView view_;
};

}  // namespace cowl
