#include "tools/cowl/frozen.h"

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "control/describe.h"
#include "tools/cowl/call.h"

namespace cowl {

absl::StatusOr<FrozenLease> FrozenLease::Take(const Invocation& invocation,
                                              const std::string& name) {
  FrozenLease lease(invocation);
  const Json args = {{"name", name}};
  COWL_ASSIGN_OR_RETURN(const Json frozen, Call(invocation, "freeze", args));
  lease.view_ = FrozenFromJson(frozen);
  return lease;
}

FrozenLease::FrozenLease(FrozenLease&& other) noexcept
    : invocation_(std::exchange(other.invocation_, nullptr)), view_(std::move(other.view_)) {}

FrozenLease& FrozenLease::operator=(FrozenLease&& other) noexcept {
  if (this == &other) return *this;
  End();
  invocation_ = std::exchange(other.invocation_, nullptr);
  view_ = std::move(other.view_);
  return *this;
}

FrozenLease::~FrozenLease() { End(); }

void FrozenLease::End() {
  const Invocation* invocation = std::exchange(invocation_, nullptr);
  if (invocation == nullptr || view_.token.empty()) return;
  const Json args = {{"token", view_.token}};
  Call(*invocation, "release", args).status().IgnoreError();
}

}  // namespace cowl
