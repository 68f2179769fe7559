#include "core/serving/slot.h"

#include <cstring>

namespace assay {
namespace {

constexpr uint16_t bit(SlotState state) { return static_cast<uint16_t>(1u << static_cast<unsigned>(state)); }

// Row: from. Bits: where it may go. Every stage may end in kDone (refused, cancelled, expired, shed, failed).
constexpr uint16_t kMoves[] = {
    bit(SlotState::kDecoded),                          // kFree
    bit(SlotState::kLookup) | bit(SlotState::kDone),   // kDecoded
    bit(SlotState::kQueued) | bit(SlotState::kDone),   // kLookup
    bit(SlotState::kBatched) | bit(SlotState::kDone),  // kQueued
    bit(SlotState::kRunning) | bit(SlotState::kDone),  // kBatched
    bit(SlotState::kScored) | bit(SlotState::kBatched) |
        bit(SlotState::kDone),  // kRunning; back to kBatched when its batch is halved
    bit(SlotState::kExplaining) | bit(SlotState::kCommitting) | bit(SlotState::kDone),  // kScored
    bit(SlotState::kCommitting) | bit(SlotState::kDone),                                // kExplaining
    bit(SlotState::kDone),                                                              // kCommitting
    bit(SlotState::kFree),                                                              // kDone
};

}  // namespace

void Slot::set_transaction_id(std::string_view text) noexcept {
  id_bytes = text.size() <= id.size() ? static_cast<uint8_t>(text.size()) : 0;
  if (id_bytes > 0) std::memcpy(id.data(), text.data(), id_bytes);  // an id that was not sent points nowhere
}

bool may_move(SlotState from, SlotState to) noexcept { return (kMoves[static_cast<size_t>(from)] & bit(to)) != 0; }

void move_slot(Slot& slot, SlotState to) noexcept {
  ASSAY_ASSERT(may_move(slot.state, to));
  slot.state = to;
}

}  // namespace assay
