// libFuzzer on the transport's messages: `make fuzz`. The first byte picks the encoding and the limit, the second the pieces, the
// rest is what a stream brings.
//
// Beside what the sanitizers see, it holds: however the bytes are cut, and whenever messages are taken, they are the same messages
// and the same refusal as the simple reader's; no message is over the limit; no buffer is much larger than what came.
#include <cstdint>
#include <random>
#include <string>

#include "core/transport/grpc_text.h"
#include "message_fixture.h"

using namespace assay;

namespace {

constexpr size_t kLimits[] = {0, 16, 300, 1 << 16};

void check_alike(const fixture::StreamRead& read, const fixture::StreamRead& simple, size_t bytes_max) {
  ASSAY_ASSERT(read.messages == simple.messages && read.error == simple.error);
  for (const std::string& message : read.messages) ASSAY_ASSERT(message.size() <= bytes_max);
  ASSAY_ASSERT((read.error == MessageError::kNone) == (grpc_code(read.error) == GrpcCode::kOk));
  ASSAY_ASSERT(read.error_text.empty() == (read.error == MessageError::kNone));
  ASSAY_ASSERT(encode_grpc_message(read.error_text) == read.error_text);
}

// One byte at a time, nothing compressed: what is allocated follows what came.
void check_memory(std::string_view bytes, size_t bytes_max) {
  MessageReader reader(bytes_max);
  std::string_view message;
  for (size_t at = 0; at < bytes.size(); ++at) {
    const std::string byte(bytes.substr(at, 1));
    reader.append(byte);
    while (reader.next(&message) == MessageReader::Next::kMessage) continue;
    ASSAY_ASSERT(reader.memory_bytes() <= 2 * (at + 1));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const auto encoding = static_cast<MessageEncoding>(data[0] % 3);
  const size_t bytes_max = kLimits[data[0] / 3 % 4];
  const size_t piece_max = size_t{1} << (data[1] % 8);
  std::mt19937 random(data[1]);

  const auto simple = fixture::read_simply(bytes, encoding, bytes_max);
  const auto all = [] { return std::numeric_limits<size_t>::max(); };
  check_alike(fixture::read_in_pieces(bytes, encoding, bytes_max, all, all), simple, bytes_max);
  const auto piece = [&] { return random() % (piece_max + 1); };
  check_alike(fixture::read_in_pieces(bytes, encoding, bytes_max, piece, all), simple, bytes_max);
  const auto taken = [&] { return random() % 3; };
  check_alike(fixture::read_in_pieces(bytes, encoding, bytes_max, piece, taken), simple, bytes_max);
  check_memory(bytes, bytes_max);
  return 0;
}
