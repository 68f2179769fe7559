#include "core/transport/inflate.h"

#define ZLIB_CONST  // next_in is a pointer to const
#include <zlib.h>

#include <algorithm>
#include <limits>

#include "core/base/status.h"

namespace assay {
namespace {

constexpr size_t kFirstBytesMin = 512;
constexpr int kWindowBits = MAX_WBITS;
constexpr int kGzipOnly = 16;  // added to the window's bits: gzip's header and no other

// zlib's state, ended with its scope.
class Inflater {
 public:
  Inflater(CompressedFormat format, std::string_view compressed) noexcept {
    ASSAY_ASSERT(compressed.size() <= std::numeric_limits<uInt>::max());
    stream_.next_in = reinterpret_cast<const Bytef*>(compressed.data());
    stream_.avail_in = static_cast<uInt>(compressed.size());
    ASSAY_ASSERT(inflateInit2(&stream_, kWindowBits + (format == CompressedFormat::kGzip ? kGzipOnly : 0)) == Z_OK);
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Inflates into `room` and returns zlib's word for how it went; `*count` is how many bytes came out.
  int step(char* room, size_t room_bytes, size_t* count) noexcept {
    const uInt offered = static_cast<uInt>(std::min<size_t>(room_bytes, std::numeric_limits<uInt>::max()));
    stream_.next_out = reinterpret_cast<Bytef*>(room);
    stream_.avail_out = offered;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    ASSAY_ASSERT(result != Z_MEM_ERROR && result != Z_STREAM_ERROR);
    *count = offered - stream_.avail_out;
    return result;
  }

  bool is_all_read() const noexcept { return stream_.avail_in == 0; }

 private:
  z_stream stream_{};
};

// vector::resize alone would make twice the room it has, whatever is asked.
void resize_exactly(std::vector<char>* out, size_t bytes) noexcept {
  out->reserve(bytes);
  out->resize(bytes);
}

// Fills `*out` until the stream ends, the limit is passed or the input turns out to be damaged. Leaves it larger than what came.
InflateResult inflate_into(Inflater& inflater, size_t bytes_max, std::vector<char>* out, size_t* bytes) noexcept {
  for (;;) {
    size_t count = 0;
    const int result = inflater.step(out->data() + *bytes, out->size() - *bytes, &count);
    *bytes += count;
    if (*bytes > bytes_max) return InflateResult::kTooLarge;
    if (result == Z_STREAM_END) return inflater.is_all_read() ? InflateResult::kOk : InflateResult::kDamaged;
    // There is room, and zlib stopped before it was full: it has nothing to go on with. (Z_NEED_DICT is here too: nobody has one.)
    if (result != Z_OK || *bytes < out->size()) return InflateResult::kDamaged;
    resize_exactly(out, std::min(bytes_max + 1, out->size() * 2));
  }
}

}  // namespace

InflateResult inflate_bytes(CompressedFormat format, std::string_view compressed, size_t bytes_max,
                            std::vector<char>* out) noexcept {
  Inflater inflater(format, compressed);
  out->clear();
  out->resize(
      std::min(bytes_max + 1, std::max(compressed.size() * 4, kFirstBytesMin)));  // one byte more shows who passes the limit
  size_t bytes = 0;
  const InflateResult result = inflate_into(inflater, bytes_max, out, &bytes);
  out->resize(result == InflateResult::kOk ? bytes : 0);
  return result;
}

}  // namespace assay
