#include "core/features/event_json.h"

#include <array>

#include "core/base/utf8.h"
#include "core/features/checks.h"
#include "core/features/json_reader.h"

namespace assay {
namespace {

enum class Key : uint8_t { kTransactionId, kEventTime, kEntities, kFeatures, kIsFraud, kUnknown };

constexpr const char* kKeyNames[] = {"transaction_id", "event_time", "entities", "features", "is_fraud"};

Key key_of(std::string_view name) noexcept {
  for (size_t i = 0; i < std::size(kKeyNames); ++i) {
    if (name == kKeyNames[i]) return static_cast<Key>(i);
  }
  return Key::kUnknown;
}

// Decodes one line, top down. A value that was there but wrong has its violation; a stand-in keeps it from being
// reported missing as well.
class EventDecoder {
 public:
  EventDecoder(std::string_view line, const FeaturePlan& plan, Transaction& event, std::string& scratch, Violations& violations)
      : reader_(line, scratch), plan_(plan), event_(event), violations_(violations) {}

  bool run();

 private:
  void read_member(Key key, std::string_view name);
  void read_transaction_id();
  void read_event_time();
  void read_entities();
  void read_entity(size_t index);
  void read_features();
  void read_feature(size_t index);
  void read_number(size_t index);
  void keep(size_t index, Value value);
  void read_is_fraud();

  // The found value has the wrong type: says so and skips it.
  void refuse(std::string field, const char* expected);
  // For each member of an object: read(index), or a violation where the name is unknown or stands twice.
  template <typename Find, typename Read>
  void read_map(const char* field, Code unknown, const Find& find, std::array<bool, limits::kRequestFeaturesMax>& seen, const Read& read);

  JsonReader reader_;
  const FeaturePlan& plan_;
  Transaction& event_;
  Violations& violations_;
  uint8_t seen_keys_ = 0;
  bool has_time_ = false;
};

}  // namespace
}  // namespace assay
