#include "core/serving/lookup_hops.h"

#include <string>
#include <vector>

#include "core/features/resp_exchange.h"
#include "core/features/resp_mget.h"

namespace assay {
namespace {

// What one connection needs for its hops; kept from one to the next.
struct Buffers {
  std::string command;
  std::string answer;
  std::vector<FetchedRecord> records;
};

ExchangeEnd ask(const LookupBatch& batch, int socket, int64_t deadline_ns, const Clock& clock, Buffers& buffers) {
  write_mget(batch.keys, &buffers.command);
  buffers.records.resize(batch.keys.size());
  const ExchangeEnd sent = send_commands(socket, buffers.command, deadline_ns, clock);
  if (sent != ExchangeEnd::kDone) return sent;
  const size_t values_max = batch.keys.size() + 1;
  const ExchangeEnd received = receive_answers(socket, 1, values_max, deadline_ns, clock, &buffers.answer);
  if (received != ExchangeEnd::kDone) return received;
  return read_mget(buffers.answer, &buffers.records) ? ExchangeEnd::kDone : ExchangeEnd::kNotResp;
}

}  // namespace

HopsResult run_hops(Lookups& lookups, int socket, const HopLimits& limits, const Clock& clock) {
  Buffers buffers;
  HopsResult result;
  while ((result.batch = lookups.take(limits.rows_max, true)) != nullptr) {
    const int64_t asked_ns = clock.now_ns();
    const ExchangeEnd end = ask(*result.batch, socket, asked_ns + limits.timeout_ns, clock, buffers);
    if (end != ExchangeEnd::kDone) {
      result.end = end == ExchangeEnd::kTimeout ? HopsEnd::kTimeout : HopsEnd::kOdd;
      return result;
    }
    const bool is_slow = clock.now_ns() - asked_ns > limits.slow_ns;
    lookups.give(*result.batch, buffers.records.data());
    result.batch.reset();
    ++result.hop_count;
    if (is_slow) {
      result.end = HopsEnd::kSlow;
      return result;
    }
  }
  result.end = HopsEnd::kStopped;
  return result;
}

}  // namespace assay
