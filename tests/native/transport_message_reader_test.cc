// transport/message_reader: the same bytes are the same messages however they are cut, and nothing a prefix or a compressed stream
// claims costs memory.
#include "core/transport/message_reader.h"

#include <malloc.h>

#include <algorithm>
#include <memory>
#include <new>

#include "check.h"
#include "message_fixture.h"

using namespace assay;
using namespace fixture;
using Next = MessageReader::Next;

// --- what is allocated through operator new: all of the reader's, none of zlib's ---

namespace {
size_t live_bytes = 0, peak_bytes = 0;  // tests have one thread
size_t allocation_count = 0;
}  // namespace

void* operator new(size_t bytes) {
  void* const block = std::malloc(bytes);
  if (block == nullptr) std::abort();
  live_bytes += malloc_usable_size(block);
  peak_bytes = std::max(peak_bytes, live_bytes);
  ++allocation_count;
  return block;
}
void operator delete(void* block) noexcept {
  if (block != nullptr) live_bytes -= malloc_usable_size(block);
  std::free(block);
}
void operator delete(void* block, size_t) noexcept { operator delete(block); }

namespace {

constexpr size_t kLimit = 4 << 20;

// The most that was allocated at once in its lifetime, above what was there before.
class PeakMemory {
 public:
  PeakMemory() : before_(live_bytes) { peak_bytes = live_bytes; }
  size_t bytes() const { return peak_bytes - before_; }

 private:
  size_t before_;
};

StreamRead read_whole(std::string_view bytes, MessageEncoding encoding = MessageEncoding::kIdentity, size_t bytes_max = kLimit) {
  const auto all = [] { return std::numeric_limits<size_t>::max(); };
  return read_in_pieces(bytes, encoding, bytes_max, all, all);
}

// What a stream of these bytes is refused for; "" if it is not.
std::string refusal(std::string_view bytes, MessageEncoding encoding = MessageEncoding::kIdentity, size_t bytes_max = kLimit) {
  const StreamRead read = read_whole(bytes, encoding, bytes_max);
  CHECK_EQ(read.error == MessageError::kNone, read.error_text.empty());
  return read.error_text;
}

std::string random_payload(std::mt19937_64& random) {
  const size_t bytes = random() % 4 == 0 ? random() % 3000 : random() % 40;
  std::string payload(bytes, '\0');
  for (char& byte : payload) byte = static_cast<char>(random() % 4);  // compresses, and holds zeros and ones that look like flags
  return payload;
}

// A stream of some messages, some compressed, and now and then with something wrong.
std::string random_stream(std::mt19937_64& random, MessageEncoding encoding) {
  std::string bytes;
  for (uint64_t count = random() % 6; count > 0; --count) {
    const std::string payload = random_payload(random);
    const bool is_plain = encoding == MessageEncoding::kIdentity || random() % 2 == 0;
    bytes +=
        is_plain ? framed(payload) : framed(compressed(payload, encoding == MessageEncoding::kGzip ? kGzipBits : kZlibBits), 1);
  }
  if (random() % 3 == 0 && !bytes.empty()) bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
  if (random() % 3 == 0) bytes.resize(random() % (bytes.size() + 1));
  return bytes;
}

MessageReader reader_of(MessageEncoding encoding = MessageEncoding::kIdentity) { return MessageReader(kLimit, encoding); }

}  // namespace

// --- the frame ---

TEST(prefixes) {
  std::string bytes = "x";
  append_message("abc", &bytes);
  append_message("", &bytes);
  append_message_prefix(0x01020304, &bytes);
  CHECK_EQ(bytes, std::string("x\0\0\0\0\3abc\0\0\0\0\0\0\1\2\3\4", 19));
  const MessagePrefix read = read_message_prefix("\x01\xff\xfe\xfd\xfc");
  CHECK_EQ(read.flag, 1);
  CHECK_EQ(read.payload_bytes, 0xfffefdfcu);
}

TEST(names_of_encodings) {
  MessageEncoding encoding = MessageEncoding::kDeflate;
  CHECK(parse_message_encoding("gzip", &encoding) && encoding == MessageEncoding::kGzip);
  CHECK(parse_message_encoding("deflate", &encoding) && encoding == MessageEncoding::kDeflate);
  CHECK(parse_message_encoding("identity", &encoding) && encoding == MessageEncoding::kIdentity);
  for (const char* name : {"", "GZIP", "snappy", "gzip,deflate", "gzip ", "x-gzip", "zstd"})
    CHECK(!parse_message_encoding(name, &encoding));
  CHECK(encoding == MessageEncoding::kIdentity);
}

// --- the fast path ---

TEST(a_whole_message_is_a_view_and_costs_nothing) {
  const std::string bytes = framed("hello");
  const size_t allocations = allocation_count;
  MessageReader reader = reader_of();
  std::string_view message;
  reader.append(bytes);
  CHECK(reader.next(&message) == Next::kMessage);
  CHECK(message.data() == bytes.data() + kMessagePrefixBytes && message.size() == 5);
  CHECK(reader.next(&message) == Next::kMore);
  reader.end();
  CHECK(reader.next(&message) == Next::kEnd && reader.next(&message) == Next::kEnd);
  CHECK_EQ(allocation_count, allocations);
  CHECK_EQ(reader.memory_bytes(), 0u);
}

TEST(many_messages_of_one_append_are_views) {
  const std::string bytes = framed("a") + framed("") + framed("ccc");
  const size_t allocations = allocation_count;
  MessageReader reader = reader_of();
  reader.append(bytes);
  std::string_view message;
  CHECK(reader.next(&message) == Next::kMessage && message == "a");
  CHECK(reader.next(&message) == Next::kMessage && message.empty());
  CHECK(reader.next(&message) == Next::kMessage && message == "ccc");
  CHECK(message.data() == bytes.data() + bytes.size() - 3);
  CHECK(reader.next(&message) == Next::kMore);
  CHECK_EQ(allocation_count, allocations);
}

TEST(behind_a_message_in_pieces_the_rest_is_views_again) {
  const std::string bytes = framed("first") + framed("second");
  MessageReader reader = reader_of();
  std::string_view message;
  reader.append(std::string_view(bytes).substr(0, 7));
  CHECK(reader.next(&message) == Next::kMore);
  reader.append(std::string_view(bytes).substr(7));
  CHECK(reader.next(&message) == Next::kMessage && message == "first");
  CHECK(reader.next(&message) == Next::kMessage && message == "second");
  CHECK(message.data() == bytes.data() + bytes.size() - 6);
}

// --- any pieces ---

TEST(nothing_is_no_message) {
  CHECK(read_whole("").messages.empty());
  MessageReader reader = reader_of();
  std::string_view message;
  CHECK(reader.next(&message) == Next::kMore);
  reader.append("");
  CHECK(reader.next(&message) == Next::kMore);
  reader.end();
  CHECK(reader.next(&message) == Next::kEnd);
}

TEST(two_pieces_cut_anywhere) {
  const std::string bytes = framed("one") + framed(compressed("two two two two two", kGzipBits), 1) + framed("");
  const std::vector<std::string> expected = {"one", "two two two two two", ""};
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    bool is_first = true;
    const auto piece = [&] { return std::exchange(is_first, false) ? cut : bytes.size(); };
    const auto all = [] { return std::numeric_limits<size_t>::max(); };
    CHECK(read_in_pieces(bytes, MessageEncoding::kGzip, kLimit, piece, all).messages == expected);
  }
}

TEST(the_same_bytes_are_the_same_messages) {
  auto random = check::random_engine();
  int failed = 0, messages = 0;
  const int rounds = check::scaled(3000);
  for (int round = 0; round < rounds; ++round) {
    const auto encoding = static_cast<MessageEncoding>(random() % 3);
    const size_t bytes_max = random() % 8 == 0 ? random() % 100 : 3000;
    const std::string bytes = random_stream(random, encoding);
    const StreamRead whole = read_whole(bytes, encoding, bytes_max);
    const size_t piece_max = size_t{1} << random() % 12;
    const auto piece = [&] { return random() % (piece_max + 1); };
    const auto taken = [&] { return random() % 2 == 0 ? random() % 3 : std::numeric_limits<size_t>::max(); };
    CHECK(read_in_pieces(bytes, encoding, bytes_max, piece, taken) == whole);
    const StreamRead simple = read_simply(bytes, encoding, bytes_max);
    CHECK(simple.messages == whole.messages && simple.error == whole.error);
    failed += whole.error == MessageError::kNone ? 0 : 1;
    messages += static_cast<int>(whole.messages.size());
  }
  CHECK(failed > rounds / 10 && failed < rounds * 9 / 10 && messages > rounds);
}

TEST(kept_messages_are_taken_later) {
  MessageReader reader = reader_of();
  StreamRead read;
  for (int i = 0; i < 100; ++i) {
    const auto block = std::make_unique<std::string>(framed("message " + std::to_string(i)) + framed("x"));
    reader.append(*block);
    if (i % 10 == 0) read_on(reader, read, 1);
    reader.keep();
    reader.keep();  // nothing is left to keep
  }
  reader.end();
  CHECK(read_on(reader, read));
  REQUIRE(read.messages.size() == 200);
  for (int i = 0; i < 100; ++i) CHECK_EQ(read.messages[static_cast<size_t>(2 * i)], "message " + std::to_string(i));
  CHECK(read.error == MessageError::kNone);
}

TEST(a_buffer_that_never_runs_empty_does_not_grow) {
  MessageReader reader = reader_of();
  StreamRead read;
  const std::string block = framed(std::string(95, 'x'));
  for (int i = 0; i < 8; ++i) {
    reader.append(block);
    reader.keep();
  }
  for (int i = 0; i < 10'000; ++i) {
    reader.append(block);
    reader.keep();
    CHECK(!read_on(reader, read, 1));
    read.messages.clear();
  }
  CHECK(reader.memory_bytes() < 8 * 1024);
}

// --- what is refused ---

TEST(limits_of_a_message) {
  CHECK_EQ(refusal(framed(std::string(100, 'x')), MessageEncoding::kIdentity, 100), "");
  CHECK_EQ(refusal(framed(std::string(101, 'x')), MessageEncoding::kIdentity, 100), "the message is 101 bytes; the limit is 100");
  CHECK_EQ(refusal(framed(""), MessageEncoding::kIdentity, 0), "");
  CHECK_EQ(refusal(framed("x"), MessageEncoding::kIdentity, 0), "the message is 1 bytes; the limit is 0");
  CHECK_EQ(refusal(prefix(0, 5'000'000)), "the message is 5,000,000 bytes; the limit is 4,194,304");
  CHECK_EQ(refusal(prefix(0, 0xffffffff)), "the message is 4,294,967,295 bytes; the limit is 4,194,304");
  CHECK(read_whole(prefix(0, kLimit + 1)).error == MessageError::kTooLarge);
  CHECK(read_whole(prefix(0, kLimit)).error == MessageError::kTruncated);
}

TEST(limits_of_an_inflated_message) {
  const std::string compressed_text = compressed(std::string(100'000, 'x'), kGzipBits);
  CHECK_EQ(refusal(framed(compressed_text, 1), MessageEncoding::kGzip, 100'000), "");
  CHECK_EQ(refusal(framed(compressed_text, 1), MessageEncoding::kGzip, 99'999),
           "the message inflates to more bytes than the limit, which is 99,999");
  const std::string incompressible = compressed("x", kGzipBits);  // larger than what is in it
  CHECK_EQ(refusal(framed(incompressible, 1), MessageEncoding::kGzip, incompressible.size()), "");
  CHECK(read_whole(framed(incompressible, 1), MessageEncoding::kGzip, incompressible.size() - 1).error ==
        MessageError::kTooLarge);
}

TEST(flags) {
  for (int flag = 2; flag < 256; ++flag) {
    CHECK(read_whole(framed("x", static_cast<uint8_t>(flag)), MessageEncoding::kGzip).error == MessageError::kBadFlag);
  }
  CHECK_EQ(refusal(framed("x", 7)), "a message's compressed flag is 7, not 0 or 1: these are no gRPC messages");
  CHECK_EQ(refusal(framed("x", 1)), "a message is flagged as compressed, but grpc-encoding does not say with what");
  CHECK(read_whole(framed("", 1)).error == MessageError::kNoEncoding);
  // With an encoding both are legal, message by message.
  const auto read = read_whole(framed("a") + framed(compressed("b", kZlibBits), 1) + framed("c"), MessageEncoding::kDeflate);
  CHECK(read.messages == (std::vector<std::string>{"a", "b", "c"}) && read.error == MessageError::kNone);
  CHECK(read_whole(framed("", 1), MessageEncoding::kGzip).messages == std::vector<std::string>{""});
}

TEST(damage) {
  CHECK_EQ(
      refusal(framed("no gzip", 1), MessageEncoding::kGzip),
      "the message is not one stream of gzip data, as grpc-encoding says: it is damaged, cut short, or has bytes behind its end");
  CHECK(read_whole(framed(compressed("x", kGzipBits), 1), MessageEncoding::kDeflate).error == MessageError::kDamaged);
  CHECK(read_whole(framed(compressed("x", kRawBits), 1), MessageEncoding::kDeflate).error == MessageError::kDamaged);
}

TEST(every_truncation_point) {
  const std::string bytes = framed("one") + framed(compressed("two", kGzipBits), 1);
  const size_t first_bytes = framed("one").size();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const StreamRead read = read_whole(std::string_view(bytes).substr(0, size), MessageEncoding::kGzip);
    const bool is_whole = size == 0 || size == first_bytes;
    CHECK(read.error == (is_whole ? MessageError::kNone : MessageError::kTruncated));
    CHECK_EQ(read.messages.size(), size >= first_bytes ? 1u : 0u);
  }
  CHECK_EQ(refusal(prefix(0, 5000).substr(0, 3)), "the stream ended inside a message: 3 of the 5 bytes in front of it came");
  CHECK_EQ(refusal(prefix(0, 5000)), "the stream ended inside a message: 0 of its 5,000 bytes came");
  CHECK_EQ(refusal(prefix(0, 5000) + "abc"), "the stream ended inside a message: 3 of its 5,000 bytes came");
}

TEST(an_error_stays) {
  MessageReader reader = reader_of();
  std::string_view message;
  const std::string good = framed("good"), bytes = good + framed("x", 9);
  reader.append(bytes);
  CHECK(reader.next(&message) == Next::kMessage);
  CHECK(reader.error() == MessageError::kNone);
  CHECK(reader.next(&message) == Next::kFailed);
  reader.append(good);
  reader.append(good);
  reader.keep();
  CHECK(reader.next(&message) == Next::kFailed);
  reader.end();
  CHECK(reader.next(&message) == Next::kFailed && reader.error() == MessageError::kBadFlag);
  CHECK_EQ(reader.memory_bytes(), 0u);
}

TEST(statuses) {
  CHECK(grpc_code(MessageError::kNone) == GrpcCode::kOk);
  CHECK(grpc_code(MessageError::kTooLarge) == GrpcCode::kResourceExhausted);
  CHECK(grpc_code(MessageError::kInflatedTooLarge) == GrpcCode::kResourceExhausted);
  for (const auto error : {MessageError::kBadFlag, MessageError::kNoEncoding, MessageError::kDamaged, MessageError::kTruncated}) {
    CHECK(grpc_code(error) == GrpcCode::kInternal);
  }
}

// --- memory ---

TEST(a_claimed_length_costs_nothing) {
  const std::string bytes = prefix(0, kLimit) + std::string(1000, 'x');
  const PeakMemory peak;
  MessageReader reader = reader_of();
  std::string_view message;
  for (size_t at = 0; at < bytes.size(); at += 10) {
    reader.append(std::string_view(bytes).substr(at, 10));
    CHECK(reader.next(&message) == Next::kMore);
    CHECK(reader.memory_bytes() <= std::max<size_t>(2 * (at + 10), 32));
  }
  CHECK(peak.bytes() < 4096);
}

TEST(a_refused_body_is_not_kept) {
  const std::string bytes = prefix(0, kLimit + 1) + std::string(1 << 20, 'x');
  const PeakMemory peak;
  MessageReader reader = reader_of();
  std::string_view message;
  reader.append(bytes);
  CHECK(reader.next(&message) == Next::kFailed);
  CHECK_EQ(peak.bytes(), 0u);
}

TEST(a_large_message_in_pieces_is_held_once_and_given_back) {
  const std::string bytes = framed(std::string(kLimit, 'x'));
  const PeakMemory peak;
  MessageReader reader = reader_of();
  std::string_view message;
  size_t messages = 0;
  for (size_t at = 0; at < bytes.size(); at += 16'384) {
    reader.append(std::string_view(bytes).substr(at, 16'384));
    while (reader.next(&message) == Next::kMessage) {
      messages += message.size() == kLimit ? 1 : 0;
      CHECK(reader.memory_bytes() == bytes.size());  // the last step of growth stops at what is wanted
    }
  }
  CHECK_EQ(messages, 1u);
  CHECK(peak.bytes() < 2 * kLimit + 4096);
  CHECK_EQ(reader.memory_bytes(), 0u);
}

TEST(a_bomb_costs_the_limit_and_no_more) {
  const size_t bomb_bytes = 64 << 20;
  for (const auto& [encoding, bits] :
       {std::pair(MessageEncoding::kGzip, kGzipBits), std::pair(MessageEncoding::kDeflate, kZlibBits)}) {
    const std::string bytes = framed(compressed(std::string(bomb_bytes, '\0'), bits, 9), 1);
    CHECK(bytes.size() < bomb_bytes / 1000);
    const PeakMemory peak;
    MessageReader reader = reader_of(encoding);
    std::string_view message;
    reader.append(bytes);
    CHECK(reader.next(&message) == Next::kFailed && reader.error() == MessageError::kInflatedTooLarge);
    CHECK(peak.bytes() < 2 * kLimit + 4096);
    CHECK_EQ(reader.memory_bytes(), 0u);
  }
}

TEST(a_small_message_with_a_lying_trailer_costs_what_it_is) {
  std::string stream = compressed("hello", kGzipBits);
  for (size_t i = 1; i <= 4; ++i) stream[stream.size() - i] = '\x7f';  // gzip's own word for its size: 2 GB
  const std::string bytes = framed(stream, 1);
  const PeakMemory peak;
  MessageReader reader = reader_of(MessageEncoding::kGzip);
  std::string_view message;
  reader.append(bytes);
  CHECK(reader.next(&message) == Next::kFailed && reader.error() == MessageError::kDamaged);
  CHECK(peak.bytes() < 2048);
}

TEST(an_inflated_message_is_given_back) {
  const std::string bytes = framed(compressed(std::string(kLimit, 'x'), kGzipBits), 1) + framed("x");
  MessageReader reader = reader_of(MessageEncoding::kGzip);
  std::string_view message;
  reader.append(bytes);
  CHECK(reader.next(&message) == Next::kMessage && message.size() == kLimit);
  CHECK(reader.memory_bytes() >= kLimit);
  CHECK(reader.next(&message) == Next::kMessage && message == "x");
  CHECK_EQ(reader.memory_bytes(), 0u);
}

ASSAY_TEST_MAIN
