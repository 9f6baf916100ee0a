// frozen.h: a state of an image or device that stays as it is while this process reads it, outside
// the store's lock. Ownership: a lease ends with its destructor. What could not be given back then,
// or was held by a process that was killed, is let go by the server, or by the next opening of the
// store: so that is no error.
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

 private:
  void End();
  explicit FrozenLease(const Invocation& invocation) : invocation_(&invocation) {}

  const Invocation* invocation_;  // null: nothing to give back
  FrozenView view_;
};

}  // namespace cowl
