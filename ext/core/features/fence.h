// Fences: how far a record has come in the topics that feed it. docs/row-record.md says what they are for.
#pragma once

#include <cstdint>
#include <tuple>

namespace assay {

// A place in a partition of a topic; in a record, the furthest such place whose message changed it.
struct Fence {
  uint32_t source = 0;  // names topic and partition; 0: not from a topic
  uint32_t epoch = 0;   // of the partition's leader: within a partition it only grows, and after it the offset
  int64_t offset = 0;
};

enum class FenceKind : uint8_t { kEvents = 0, kLabels = 1 };  // where it stands in a record's header

// What a record's fence says of a message.
enum class Passage : uint8_t {
  kUnknown,  // nothing: the message is not from a topic, or the record follows another
  kFirst,    // no message from a topic has changed the record
  kPassed,   // the record has been there
  kNew,      // the record has never come so far
};

inline bool is_beyond(const Fence& a, const Fence& b) noexcept {
  return std::tie(a.epoch, a.offset) > std::tie(b.epoch, b.offset);
}

inline Passage passage_of(const Fence& place, const Fence& fence) noexcept {
  if (place.source == 0) return Passage::kUnknown;
  if (fence.source == 0) return Passage::kFirst;
  if (place.source != fence.source) return Passage::kUnknown;
  return is_beyond(place, fence) ? Passage::kNew : Passage::kPassed;
}

// What happens to events that are older than a record's ring though it has not come as far as they are.
enum class LateEvents : uint8_t {
  kRefuse,  // too late
  kApply,   // into a tile, where what no window can reach any more is still refused
};

}  // namespace assay
