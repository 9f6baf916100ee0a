#include "store/device_table.h"

namespace cowl {

LockedDevice DeviceTable::Lock(const std::string& name) {
  while (true) {
    LockedDevice locked;
    {
      std::lock_guard lock(mutex_);
      std::shared_ptr<DeviceEntry>& entry = entries_[name];
      if (entry == nullptr) entry = std::make_shared<DeviceEntry>();
      locked.entry = entry;
    }
    locked.gate = std::unique_lock(locked.entry->gate);
    // While this waited the device may have been renamed or removed; its name may mean another by
    // now.
    std::lock_guard lock(mutex_);
    const auto found = entries_.find(name);
    if (found == entries_.end() || found->second != locked.entry) continue;
    locked.entry->name = name;
    return locked;
  }
}

void DeviceTable::Rename(const std::string& old_name, const std::string& new_name) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(old_name);
  if (found == entries_.end()) return;
  std::shared_ptr<DeviceEntry> entry = std::move(found->second);
  entries_.erase(found);
  entry->name = new_name;
  // Somebody who asked for the new name too early may have made an entry; it is replaced, and that
  // one starts over.
  entries_[new_name] = std::move(entry);
}

void DeviceTable::Erase(const std::string& name) {
  std::lock_guard lock(mutex_);
  entries_.erase(name);
}

std::shared_ptr<DeviceEntry> DeviceTable::Find(const std::string& name) {
  std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : found->second;
}

std::vector<std::string> DeviceTable::Names() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

}  // namespace cowl
