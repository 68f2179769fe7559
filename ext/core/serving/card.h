// Card: one CUDA device, as the lanes that run on it share it: whether it may be used, and what went wrong with it.
//
// STATES  in use -> hot (too warm: no new batches) -> in use;  any -> dead (a sticky error, or a run that hung: no later run of this
// process is worth a try). Dead is for ever. Whoever is refused runs its rows on the CPU (card_run.h).
//
// THREADS. Everything: any thread. Counters and states are atomics; the mutex guards the text and the list of uses, and is taken
// once a failure and by who looks. No GIL.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/serving/counters.h"

namespace assay {

struct CardOptions {
  int64_t hang_ns_max = 5'000'000'000;    // a run that takes longer has hung: the card is dead
  int64_t hold_ns_min = 10'000'000'000;   // how long a smaller batch cap holds at first (batch_cap.h)
  int64_t hold_ns_max = 600'000'000'000;  // and at most
  int64_t patience_ns_min = 20'000'000;   // so long every run may take before its rows are given to the CPU
};

// Things that happened. As the metric assay_card_faults_total names them.
enum class CardFault : uint8_t { kOutOfMemory = 0, kFailed, kLate, kHung, kSticky, kNotFinite };
inline constexpr std::array<const char*, 6> kCardFaultNames = {"out_of_memory", "failed", "late", "hung", "sticky", "not_finite"};

// Why rows of a lane on a card were run by the CPU. As assay_card_cpu_rows_total names them.
enum class CpuCause : uint8_t { kOutOfMemory = 0, kFailed, kLate, kDead, kHot, kNotFinite };
inline constexpr std::array<const char*, 6> kCpuCauseNames = {"out_of_memory", "failed", "late", "dead", "hot", "not_finite"};

// One runner's use of the card, for who looks. Written by the runner's thread.
struct CardUse {
  std::string model;
  std::string version;
  uint32_t rows_max = 0;
  std::atomic<uint32_t> rows{0};             // the batch cap; 0: it rests
  std::atomic<int64_t> overdue_since_ns{0};  // a run that began then was given up and has not come back; 0: none
};

struct CardUseStats {
  std::string model;
  std::string version;
  uint32_t rows_max = 0;
  uint32_t rows = 0;
};

struct CardStats {
  bool is_dead = false;
  bool is_hot = false;
  std::string why;         // of its death
  std::string last_fault;  // text of the newest failure, whatever became of it
  uint64_t runs = 0;       // that gave scores
  std::array<uint64_t, kCardFaultNames.size()> faults{};
  std::array<uint64_t, kCpuCauseNames.size()> cpu_rows{};
  std::vector<CardUseStats> uses;
};

class Card {
 public:
  explicit Card(const CardOptions& options) : options_(options) {}

  const CardOptions& options() const noexcept { return options_; }

  bool is_dead() const noexcept { return is_dead_.load(std::memory_order_acquire); }
  bool is_hot() const noexcept { return is_hot_.load(std::memory_order_relaxed); }
  // No new batches while it is hot.
  void set_hot(bool is_hot) noexcept { is_hot_.store(is_hot, std::memory_order_relaxed); }

  void count_run() noexcept { runs_.add(1); }
  void count_fault(CardFault fault, const std::string& text) noexcept;
  void count_cpu_rows(CpuCause cause, uint64_t rows) noexcept { cpu_rows_[static_cast<size_t>(cause)].add(rows); }
  // Counts the fault too. The first reason stays.
  void die(CardFault fault, const std::string& why) noexcept;

  std::shared_ptr<CardUse> add_use(const std::string& model, const std::string& version, uint32_t rows_max);
  // A run that began at `started_ns` and is not back: past the limit it has hung. Returns whether the card is dead.
  bool check_overdue(int64_t started_ns, int64_t now_ns) noexcept;
  // What is known now; runs that are overdue are looked at first, so a card that no row comes to is found dead too.
  CardStats stats(int64_t now_ns);

 private:
  const CardOptions options_;
  std::atomic<bool> is_dead_{false};
  std::atomic<bool> is_hot_{false};
  Counter runs_;
  std::array<Counter, kCardFaultNames.size()> faults_;
  std::array<Counter, kCpuCauseNames.size()> cpu_rows_;
  std::mutex mutex_;
  std::string why_;                           // guarded by mutex_
  std::string last_fault_;                    // guarded by mutex_
  std::vector<std::weak_ptr<CardUse>> uses_;  // guarded by mutex_
};

}  // namespace assay
