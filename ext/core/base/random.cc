#include "core/base/random.h"

#include <errno.h>
#include <sys/random.h>

#include <array>

#include "core/base/status.h"

namespace assay {
namespace {

constexpr uint64_t rotate_left(uint64_t x, int bits) noexcept { return x << bits | x >> (64 - bits); }

// xoshiro256** by Blackman and Vigna.
class Generator {
 public:
  Generator() noexcept {
    ssize_t got = 0;
    do { got = getrandom(state_.data(), sizeof state_, 0); } while (got < 0 && errno == EINTR);
    ASSAY_ASSERT(got == static_cast<ssize_t>(sizeof state_));
  }

  uint64_t next() noexcept {
    const uint64_t result = rotate_left(state_[1] * 5, 7) * 9;
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate_left(state_[3], 45);
    return result;
  }

 private:
  std::array<uint64_t, 4> state_{};
};

}  // namespace

uint64_t random_u64() noexcept {
  thread_local Generator mine;
  return mine.next();
}

uint64_t random_id() noexcept {
  uint64_t id = 0;
  while (id == 0) id = random_u64();
  return id;
}

}  // namespace assay
