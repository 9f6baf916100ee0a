#include "control/json.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {
namespace {

const Json* Find(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

// Guards against documents whose nesting would overrun the stack of the parser's destructor.
constexpr int kDepthMax = 64;

bool IsTooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDepthMax) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

std::string JsonText(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string JsonDocument(const Json& value) {
  return value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<Json> ParseJson(std::string_view text) {
  if (IsTooDeep(text)) return InvalidArgument("JSON is nested too deeply");
  Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return InvalidArgument("not valid JSON");
  return value;
}

absl::StatusOr<std::string> GetText(const Json& object, const char* key) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_string()) {
    return InvalidArgument(absl::StrCat("field \"", key, "\" is missing or no text"));
  }
  return *value->get_ptr<const Json::string_t*>();
}

absl::StatusOr<uint64_t> GetNumber(const Json& object, const char* key) {
  const Json* value = Find(object, key);
  if (value == nullptr || !value->is_number_unsigned()) {
    return InvalidArgument(absl::StrCat("field \"", key, "\" is missing or no whole number"));
  }
  return *value->get_ptr<const Json::number_unsigned_t*>();
}

std::string TextOr(const Json& object, const char* key, std::string_view otherwise) {
  auto text = GetText(object, key);
  return text.ok() ? *std::move(text) : std::string(otherwise);
}

uint64_t NumberOr(const Json& object, const char* key, uint64_t otherwise) {
  return GetNumber(object, key).value_or(otherwise);
}

bool FlagOr(const Json& object, const char* key, bool otherwise) {
  const Json* value = Find(object, key);
  return value != nullptr && value->is_boolean() ? *value->get_ptr<const Json::boolean_t*>()
                                                 : otherwise;
}

}  // namespace cowl
