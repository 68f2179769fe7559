#include "core/wire/row_cost.h"

#include <ctime>
#include <memory>

#include "core/wire/score_request.h"

namespace assay {
namespace {

// Processor time of this thread: what a row costs, whoever else wants the core.
int64_t thread_cpu_ns() noexcept {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Everything one thread needs to make rows, as a slot and its thread would hold it.
struct RowBench {
  explicit RowBench(const FeaturePlan& plan)
      : row(plan.row_bytes() / sizeof(uint64_t)), bits(2 * ((plan.spec().inputs.size() + 63) / 64)), views(plan.views().size()) {
    out.row = reinterpret_cast<uint8_t*>(row.data());
    out.missing = bits.data();
    out.imputed = bits.data() + bits.size() / 2;
    out.views = views.data();
  }

  TransactionScan scan;
  Transaction transaction;
  ReadScratch scratch;
  Violations violations;
  std::vector<uint64_t> row;
  std::vector<uint64_t> bits;
  std::vector<FoldResult> views;
  RowOut out;
};

}  // namespace

Status measure_rows(const FeatureReader& reader, const std::vector<std::string_view>& messages, uint32_t rounds,
                    int64_t* total_ns) {
  const auto bench = std::make_unique<RowBench>(reader.plan());
  const int64_t start_ns = thread_cpu_ns();
  for (uint32_t round = 0; round < rounds; ++round) {
    for (std::string_view message : messages) {
      if (Status status = scan_score_request(message, bench->scan); !status.ok()) return status;
      const bool is_row =
          decode_transaction(bench->scan, reader.plan(), TransactionUse::kScore, bench->transaction, bench->violations) &&
          reader.read(bench->transaction, bench->scratch, bench->out, bench->violations);
      if (!is_row) return Status(Code::kInvalidRequest, bench->violations.list().front().description);
    }
  }
  *total_ns = thread_cpu_ns() - start_ns;
  return Status();
}

}  // namespace assay
