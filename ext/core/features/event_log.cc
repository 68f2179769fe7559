#include "core/features/event_log.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/features/checks.h"
#include "core/features/event_json.h"

namespace assay {
namespace {

constexpr size_t kBlockBytes = 4 << 20;

bool is_decimal(std::string_view id) noexcept {
  for (const char c : id) {
    if (c < '0' || c > '9') return false;
  }
  return !id.empty();
}

std::string_view significant_digits(std::string_view id) noexcept {
  const size_t first = id.find_first_not_of('0');
  return first == std::string_view::npos ? std::string_view() : id.substr(first);
}

// Where one event lies and where it sorts. 24 bytes.
struct IndexEntry {
  int64_t event_time_us;
  const char* line;  // then, if the id was written with escapes, the id itself; before it, its place if it is from a topic
  uint32_t line_bytes;
  uint32_t id_offset : 24;  // from line
  uint32_t id_bytes : 8;

  std::string_view text() const noexcept { return {line, line_bytes}; }
  std::string_view id() const noexcept { return {line + id_offset, id_bytes}; }
  Fence place() const noexcept {
    Fence place;
    std::memcpy(&place, line - sizeof place, sizeof place);
    return place;
  }
};
static_assert(sizeof(IndexEntry) == 24 && limits::kIdBytesMax < 256 && limits::kEventLineBytesMax < (1 << 24));

bool is_before(const IndexEntry& a, const IndexEntry& b) noexcept {
  if (a.event_time_us != b.event_time_us) return a.event_time_us < b.event_time_us;
  return precedes(a.id(), b.id());
}

// Text that never moves.
class TextBlocks {
 public:
  // A place for `bytes` bytes.
  char* take(size_t bytes) {
    if (bytes > left_) {
      left_ = std::max(bytes, kBlockBytes);
      blocks_.emplace_back(new char[left_]);
      at_ = blocks_.back().get();
    }
    char* const place = at_;
    at_ += bytes;
    left_ -= bytes;
    return place;
  }

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  char* at_ = nullptr;
  size_t left_ = 0;
};

// Decodes stored lines again.
class Decoder {
 public:
  explicit Decoder(const FeaturePlan& plan) : plan_(plan), event_(new Transaction) {}

  Transaction& decode(const IndexEntry& entry) {
    ASSAY_ASSERT(decode_event_json(entry.text(), plan_, *event_, scratch_, violations_));  // append() took it
    return *event_;
  }

 private:
  const FeaturePlan& plan_;
  std::unique_ptr<Transaction> event_;
  std::string scratch_;
  Violations violations_;
};

void count(const EventOutcome& outcome, IngestReport* report) noexcept {
  ++report->event_count;
  // What a view lacks must show though another has it: of a partition that lags, terminals may lack what customers have.
  const Code code = outcome.code == Code::kOk && outcome.is_late ? Code::kEventTooLate : outcome.code;
  switch (code) {
    case Code::kOk: ++report->recorded_count; return;
    case Code::kEventDuplicate: ++report->duplicate_count; return;
    case Code::kEventTooLate: ++report->late_count; return;
    default: break;
  }
  ++report->refused_count;
  if (report->refused_code == Code::kOk) report->refused_code = code;
}

}  // namespace

bool precedes(std::string_view a, std::string_view b) noexcept {
  const bool is_number = is_decimal(a);
  if (is_number != is_decimal(b)) return is_number;
  if (is_number) {
    const std::string_view x = significant_digits(a), y = significant_digits(b);
    if (x.size() != y.size()) return x.size() < y.size();
    if (const int order = x.compare(y); order != 0) return order < 0;
  }
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

struct EventLog::Impl {
  Impl(std::shared_ptr<const FeaturePlan> p, int64_t ahead_us) : plan(std::move(p)), ahead_us_max(ahead_us) {}

  void append_line(std::string_view line, size_t rejections_max, const Fence* place);
  bool decode(std::string_view line);
  void check_ahead(const char* field, int64_t time_us);
  void keep(std::string_view line, const Fence* place);
  void reject(size_t rejections_max);

  std::shared_ptr<const FeaturePlan> plan;
  const int64_t ahead_us_max;
  TextBlocks blocks;
  std::vector<IndexEntry> index;
  bool has_places = false;
  std::vector<EventRejection> rejections;
  uint64_t rejected_count = 0;
  std::array<uint64_t, limits::kRequestFeaturesMax> accepted_ints{};
  uint64_t line_count = 0;    // so far, this line included
  uint64_t offset_bytes = 0;  // of this line
  std::unique_ptr<Transaction> event{new Transaction};
  std::string scratch;
  Violations violations;
};

void EventLog::Impl::append_line(std::string_view line, size_t rejections_max, const Fence* place) {
  ++line_count;
  if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
  if (decode(line)) {
    event->accepted_ints.for_each([this](size_t feature) { ++accepted_ints[feature]; });
    keep(line, place);
  } else {
    reject(rejections_max);
  }
}

bool EventLog::Impl::decode(std::string_view line) {
  if (!decode_event_json(line, *plan, *event, scratch, violations)) return false;
  if (ahead_us_max == 0) return true;
  check_ahead("event_time", event->event_time_us);
  check_ahead("label_time", event->label_time_us);  // kNoTime is long ago
  return violations.empty();
}

void EventLog::Impl::check_ahead(const char* field, int64_t time_us) {
  if (time_us <= wall_now_us() + ahead_us_max) return;
  const std::string seconds = std::to_string(ahead_us_max / 1'000'000);
  violations.add(Code::kEventInFuture, field,
                 "expected at most " + seconds + " s ahead of this machine's clock; check its unit, its zone and both clocks");
}

void EventLog::Impl::keep(std::string_view line, const Fence* place) {
  const std::string_view id = event->id;
  const bool is_inside = id.data() >= line.data() && id.data() <= line.data() + line.size();
  const size_t place_bytes = place == nullptr ? 0 : sizeof *place;
  char* const text = blocks.take(place_bytes + line.size() + (is_inside ? 0 : id.size())) + place_bytes;
  if (place != nullptr) std::memcpy(text - place_bytes, place, place_bytes);
  std::memcpy(text, line.data(), line.size());
  if (!is_inside) std::memcpy(text + line.size(), id.data(), id.size());
  IndexEntry entry;
  entry.event_time_us = event->event_time_us;
  entry.line = text;
  entry.line_bytes = static_cast<uint32_t>(line.size());
  entry.id_offset = static_cast<uint32_t>(is_inside ? static_cast<size_t>(id.data() - line.data()) : line.size()) & 0xffffff;
  entry.id_bytes = static_cast<uint8_t>(id.size());
  index.push_back(entry);
}

void EventLog::Impl::reject(size_t rejections_max) {
  ++rejected_count;
  if (rejections.size() >= rejections_max) return;
  EventRejection rejection;
  rejection.line = line_count;
  rejection.offset_bytes = offset_bytes;
  rejection.transaction_id = printable(event->id);
  rejection.violations = violations.list();
  rejections.push_back(std::move(rejection));
}

EventLog::EventLog(std::shared_ptr<const FeaturePlan> plan, int64_t ahead_us_max)
    : impl_(new Impl(std::move(plan), ahead_us_max)) {}
EventLog::~EventLog() = default;

void EventLog::append(std::string_view lines, size_t rejections_max, const Fence* places) {
  ASSAY_ASSERT(impl_->index.empty() || impl_->has_places == (places != nullptr));
  impl_->has_places = places != nullptr;
  while (!lines.empty()) {
    const size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    impl_->append_line(line, rejections_max, places == nullptr ? nullptr : places++);
    const size_t taken = end == std::string_view::npos ? lines.size() : end + 1;
    impl_->offset_bytes += taken;
    lines.remove_prefix(taken);
  }
}

uint64_t EventLog::event_count() const noexcept { return impl_->index.size(); }
uint64_t EventLog::rejected_count() const noexcept { return impl_->rejected_count; }
const std::vector<EventRejection>& EventLog::rejections() const noexcept { return impl_->rejections; }

uint64_t EventLog::accepted_ints(size_t feature) const noexcept { return impl_->accepted_ints[feature]; }

void EventLog::sort() {
  std::vector<IndexEntry>& index = impl_->index;
  if (std::is_sorted(index.begin(), index.end(), is_before)) return;  // files usually are, and the sort wants memory
  std::stable_sort(index.begin(), index.end(), is_before);
}

void EventLog::add_records(const EventWriter& writer, uint64_t from, uint64_t to, std::vector<RecordRef>* records) const {
  ASSAY_ASSERT(from <= to && to <= impl_->index.size());
  Decoder decoder(*impl_->plan);
  for (uint64_t i = from; i < to; ++i) writer.add_records_of(decoder.decode(impl_->index[i]), records);
}

uint64_t EventLog::position_at(int64_t time_us) const noexcept {
  const auto is_earlier = [](const IndexEntry& entry, int64_t time) { return entry.event_time_us < time; };
  const auto& index = impl_->index;
  return static_cast<uint64_t>(std::lower_bound(index.begin(), index.end(), time_us, is_earlier) - index.begin());
}

void EventLog::ingest(const EventWriter& writer, uint64_t from, uint64_t to, IngestReport* report) const {
  ASSAY_ASSERT(from <= to && to <= impl_->index.size());
  Decoder decoder(*impl_->plan);
  std::vector<FenceMove> moves;
  for (uint64_t i = from; i < to; ++i) {
    Transaction& event = decoder.decode(impl_->index[i]);
    if (impl_->has_places) event.place = impl_->index[i].place();
    count(writer.write(event, &moves), report);
  }
  writer.move_fences(FenceKind::kEvents, moves);
}

void EventLog::replay(const FeatureReader& reader, const EventWriter& writer, uint64_t from, uint64_t to, uint8_t* rows,
                      uint8_t* valid, int64_t* event_times_us, IngestReport* report, uint64_t* missing) const {
  ASSAY_ASSERT(from <= to && to <= impl_->index.size());
  const FeaturePlan& plan = *impl_->plan;
  const size_t row_bytes = plan.row_bytes();
  const size_t mask_words = (plan.spec().inputs.size() + 63) / 64;
  std::vector<uint64_t> unkept(mask_words), imputed(mask_words);
  std::vector<FoldResult> views(plan.views().size());
  const std::unique_ptr<ReadScratch> scratch(new ReadScratch);
  Decoder decoder(plan);
  Violations violations;
  std::vector<FenceMove> moves;  // none: a replay knows no places
  for (uint64_t i = from; i < to; ++i) {
    const Transaction& event = decoder.decode(impl_->index[i]);
    uint8_t* const row = rows + (i - from) * row_bytes;
    violations.clear();
    check_required(plan, TransactionUse::kScore, event, violations);  // an event may say less than a request must
    uint64_t* const mask = missing == nullptr ? unkept.data() : missing + (i - from) * mask_words;
    const RowOut out = {row, mask, imputed.data(), views.data()};
    const bool is_valid = violations.empty() && reader.read(event, *scratch, out, violations);
    if (!is_valid) {
      std::memset(row, 0, row_bytes);
      std::fill_n(mask, mask_words, uint64_t{0});
    }
    valid[i - from] = is_valid ? 1 : 0;
    event_times_us[i - from] = event.event_time_us;
    count(writer.write(event, &moves), report);
  }
}

std::string_view EventLog::transaction_id(uint64_t index) const noexcept { return impl_->index[index].id(); }

}  // namespace assay
