// libFuzzer on what answers where a Redis should: `make fuzz`. The first byte says how many answers are waited for.
//
// Beside what the sanitizers see, it holds: however the bytes are cut, the scanner finds the same; what is whole is not whole without
// its last byte, and one byte more is one too many. What is whole may be taken for the answer to an MGET of any number of keys.
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/features/resp_mget.h"
#include "core/features/resp_scanner.h"

using namespace assay;

namespace {

using Found = RespScanner::Found;

constexpr size_t kValuesMax = 64;

Found by_steps(std::string_view bytes, size_t count, size_t step) {
  RespScanner scanner(count, kValuesMax);
  for (size_t size = 0; size < bytes.size(); size += step) {
    const Found found = scanner.scan(bytes.substr(0, size));
    if (found == Found::kNotResp || found == Found::kTooLarge) return found;
  }
  return scanner.scan(bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t count = 1 + data[0] % 4;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Found found = RespScanner(count, kValuesMax).scan(bytes);
  const Found cut = by_steps(bytes, count, 1 + data[0] % 7);
  if (found == Found::kMore) ASSAY_ASSERT(cut == Found::kMore);
  if (found == Found::kAll) {
    std::vector<FetchedRecord> records(data[0] % 8);
    if (read_mget(bytes, &records)) {
      size_t size_sum = 0;
      for (const FetchedRecord& record : records) {
        ASSAY_ASSERT(record.bytes.data() == nullptr || (record.bytes.data() > bytes.data() && record.bytes.data() < bytes.end()));
        size_sum += record.bytes.size();
      }
      ASSAY_ASSERT(size_sum < bytes.size());
    }
    ASSAY_ASSERT(cut == Found::kAll);
    ASSAY_ASSERT(bytes.empty() || RespScanner(count, kValuesMax).scan(bytes.substr(0, bytes.size() - 1)) == Found::kMore);
  }
  if (found == Found::kNotResp || found == Found::kTooLarge) ASSAY_ASSERT(cut == Found::kNotResp || cut == Found::kTooLarge);
  return 0;
}
