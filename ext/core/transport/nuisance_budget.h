// NuisanceBudget: how many frames that bring no request (pings, settings, resets, window updates, empty data) a client may send.
//
// Each is cheap and each is legal, so floods of them (CVE-2019-9512, -9515, -9518, CVE-2023-44487 and kin) are told by their
// number: every connection has a stock, which fills with time and with answered requests. An honest client sends a few a request.
#pragma once

#include <algorithm>
#include <cstdint>

namespace assay {

class NuisanceBudget {
 public:
  static constexpr int64_t kStockMax = 10'000;
  static constexpr int64_t kPerSecond = 1'000;
  static constexpr int64_t kPerRequest = 8;

  explicit NuisanceBudget(int64_t now_ns) noexcept : filled_ns_(now_ns) {}

  void earn_request() noexcept { stock_ = std::min(kStockMax, stock_ + kPerRequest); }
  // False: the stock is gone.
  bool spend(int64_t now_ns, int64_t count = 1) noexcept {
    constexpr int64_t kFullAfterNs = kStockMax / kPerSecond * 1'000'000'000;
    const int64_t filled = std::min(now_ns - filled_ns_, kFullAfterNs) * kPerSecond / 1'000'000'000;
    if (filled > 0) {
      filled_ns_ = now_ns;
      stock_ = std::min(kStockMax, stock_ + filled);
    }
    stock_ -= count;
    return stock_ >= 0;
  }

 private:
  int64_t filled_ns_;
  int64_t stock_ = kStockMax;
};

}  // namespace assay
