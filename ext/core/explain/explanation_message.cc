#include "core/explain/explanation_message.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "core/wire/wire_writer.h"

namespace assay::explain {
namespace {

constexpr uint64_t kRaisesRisk = 1;  // assay.v1.ReasonDirection

// assay.v1.MarginSpace.
uint64_t margin_space(const Attribution& found) noexcept { return found.is_log_odds ? 1 : 2; }

// A player that did nothing is nobody's reason and no contribution.
std::vector<uint32_t> strongest_first(const std::vector<double>& values) {
  std::vector<uint32_t> players;
  for (uint32_t player = 0; player < values.size(); ++player) {
    if (values[player] != 0.0) players.push_back(player);
  }
  std::stable_sort(players.begin(), players.end(),
                   [&](uint32_t a, uint32_t b) { return std::abs(values[a]) > std::abs(values[b]); });
  return players;
}

// The strongest of those that push the risk up and have something to be told.
std::vector<uint32_t> reasons_of(const ExplainedRow& row, const std::vector<uint32_t>& players) {
  std::vector<uint32_t> found;
  if (row.players != Players::kGroups || row.model.reasons.empty()) return found;
  for (const uint32_t player : players) {
    if (found.size() == kReasonsMax) break;
    if (row.attribution.values[player] > 0.0 && !row.model.reasons[player].code.empty()) found.push_back(player);
  }
  return found;
}

void number(WireWriter& out, uint32_t field, double value) {
  if (value != 0.0) out.put_double(field, value);
}

void append_contribution(WireWriter& out, const ExplainedRow& row, uint32_t player, double score_per_margin) {
  const double value = row.attribution.values[player];
  out.message(7, [&] {
    out.text(1, row.model.names(row.players)[player]);
    out.put_double(2, value);
    if (!row.attribution.errors.empty()) number(out, 3, row.attribution.errors[player]);
    number(out, 4, value * score_per_margin);
  });
}

void append_reason(WireWriter& out, const ExplainedRow& row, uint32_t player) {
  const Reason& reason = row.model.reasons[player];
  out.message(9, [&] {
    out.text(1, reason.code);
    out.text(2, row.model.group_names[player]);
    out.varint(3, kRaisesRisk);
    out.put_double(4, row.attribution.values[player]);
    out.text(5, reason.analyst_text);
    out.text(6, reason.customer_text);
  });
}

// The share of the way from base_score to score that a margin of 1 is worth; none where there is no way.
double score_per_margin(const Attribution& found) noexcept {
  const double margin = found.margin - found.base_margin;
  return margin == 0.0 ? 0.0 : (found.score - found.base_score) / margin;
}

void append_doubles(WireWriter& out, uint32_t field, const std::vector<double>& values) {
  if (values.empty()) return;
  out.put_delimited(field, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)});
}

}  // namespace

void append_explanation(const ExplainedRow& row, std::string& bytes) {
  const Attribution& found = row.attribution;
  std::vector<uint32_t> players = strongest_first(found.values);
  const std::vector<uint32_t> reasons = reasons_of(row, players);
  const size_t listed = row.top_k == 0 ? players.size() : std::min<size_t>(row.top_k, players.size());
  const double rest = std::accumulate(players.begin() + static_cast<std::ptrdiff_t>(listed), players.end(), 0.0,
                                      [&](double sum, uint32_t player) { return sum + found.values[player]; });
  const double per_margin = score_per_margin(found);
  WireWriter out(bytes);
  out.varint(1, static_cast<uint64_t>(row.model.method()));
  out.text(2, row.model.background_sha256);
  number(out, 3, found.base_margin);
  number(out, 4, found.margin);
  number(out, 5, found.base_score);
  number(out, 6, found.residual);
  for (size_t i = 0; i < listed; ++i) append_contribution(out, row, players[i], per_margin);
  number(out, 8, rest);
  for (const uint32_t player : reasons) append_reason(out, row, player);
  if (row.players == Players::kGroups) out.text(10, row.model.reasons_version);
  out.varint(11, margin_space(found));
}

void append_explanation_numbers(const ExplainedRow& row, std::string& out) {
  const Attribution& found = row.attribution;
  const auto append = [&out](double value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (const uint32_t input : row.model.element_inputs) append(found.values[input]);
  append(found.base_margin);
  for (const uint32_t input : row.model.element_inputs) append(found.errors.empty() ? 0.0 : found.errors[input]);
  append(found.residual);
}

void append_explanation_record(const ExplainedRow& row, std::string& bytes) {
  const Attribution& found = row.attribution;
  WireWriter out(bytes);
  out.varint(3, static_cast<uint64_t>(row.model.method()));
  number(out, 4, found.base_margin);
  number(out, 5, found.margin);
  number(out, 6, found.residual);
  out.varint(7, static_cast<uint64_t>(row.players));
  append_doubles(out, 8, found.values);
  append_doubles(out, 9, found.errors);
  for (const uint32_t player : reasons_of(row, strongest_first(found.values))) out.text(10, row.model.reasons[player].code);
  out.varint(12, margin_space(found));
}

size_t explanation_record_bytes_max(const ExplainedModel& model) noexcept {
  const size_t players = std::max(model.group_names.size(), model.input_names.size());
  size_t code_bytes = 0;
  for (const Reason& reason : model.reasons) code_bytes = std::max(code_bytes, reason.code.size());
  return 2 * (players * sizeof(double) + 16) + kReasonsMax * (code_bytes + 16) + 64;
}

}  // namespace assay::explain
