// EngineCalls: the calls of one I/O thread that the engine has, by the tokens that it gives back.
//
// A token is a place and how often the place was used: a completion of a call that nobody waits for any more finds nobody.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/status.h"

namespace assay {

struct Answer;

// Waits for the engine's answer.
class EngineCaller {
 public:
  virtual void on_answer(const Answer& answer) noexcept = 0;

 protected:
  ~EngineCaller() = default;
};

class EngineCalls {
 public:
  uint64_t add(EngineCaller& caller) {
    if (free_.empty()) {
      free_.push_back(static_cast<uint32_t>(places_.size()));
      places_.emplace_back();
    }
    const uint32_t index = free_.back();
    free_.pop_back();
    places_[index].caller = &caller;
    ++size_;
    return uint64_t{places_[index].uses} << 32 | index;
  }
  // Who waits; null: nobody any more. Forgets it.
  EngineCaller* take(uint64_t token) noexcept {
    const auto index = static_cast<uint32_t>(token);
    if (index >= places_.size() || places_[index].uses != static_cast<uint32_t>(token >> 32)) return nullptr;
    EngineCaller* caller = places_[index].caller;
    places_[index].caller = nullptr;
    ++places_[index].uses;
    free_.push_back(index);
    --size_;
    return caller;
  }
  size_t size() const noexcept { return size_; }

 private:
  struct Place {
    EngineCaller* caller = nullptr;
    uint32_t uses = 0;
  };
  std::vector<Place> places_;  // as many as were ever waiting at once: the engine's slots bound them
  std::vector<uint32_t> free_;
  size_t size_ = 0;
};

}  // namespace assay
