// transport/inflate: what is the format, what is nearly it, and where it ends.
#include "core/transport/inflate.h"

#include "check.h"
#include "message_fixture.h"

using namespace assay;
using namespace fixture;

namespace {

constexpr size_t kPlenty = 1 << 20;

// Text that deflate shortens to about a third, with a seed in it.
std::string sample(size_t bytes, uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  std::string text;
  while (text.size() < bytes) text += "customer_" + std::to_string(random() % 1000) + " ";
  text.resize(bytes);
  return text;
}

InflateResult result_of(CompressedFormat format, std::string_view bytes, size_t bytes_max = kPlenty) {
  const std::vector<char> exact(bytes.begin(), bytes.end());  // so that ASAN sees a read past its end
  std::vector<char> out{'o', 'l', 'd'};
  const InflateResult result = inflate_bytes(format, {exact.data(), exact.size()}, bytes_max, &out);
  CHECK(result == InflateResult::kOk || out.empty());
  return result;
}
bool is_damaged(CompressedFormat format, std::string_view bytes) { return result_of(format, bytes) == InflateResult::kDamaged; }

std::string inflated(CompressedFormat format, std::string_view bytes, size_t bytes_max = kPlenty) {
  std::vector<char> out;
  CHECK(inflate_bytes(format, bytes, bytes_max, &out) == InflateResult::kOk);
  return {out.begin(), out.end()};
}

struct Format {
  CompressedFormat format;
  int bits;
};
constexpr Format kFormats[] = {{CompressedFormat::kGzip, kGzipBits}, {CompressedFormat::kZlib, kZlibBits}};

}  // namespace

TEST(what_was_compressed_comes_back) {
  for (const auto& [format, bits] : kFormats) {
    for (const size_t bytes : {0, 1, 100, 511, 512, 513, 2048, 100'000}) {
      for (const int level : {0, 1, 9}) CHECK_EQ(inflated(format, compressed(sample(bytes), bits, level)), sample(bytes));
    }
    CHECK_EQ(inflated(format, compressed(std::string(500'000, 'a'), bits)), std::string(500'000, 'a'));  // grows more than once
  }
}

TEST(a_limit_is_the_last_size_that_passes) {
  for (const auto& [format, bits] : kFormats) {
    for (const size_t bytes : {1, 511, 512, 513, 100'000}) {
      const std::string stream = compressed(sample(bytes), bits);
      CHECK_EQ(inflated(format, stream, bytes), sample(bytes));
      CHECK(result_of(format, stream, bytes - 1) == InflateResult::kTooLarge);
      CHECK(result_of(format, stream, 0) == InflateResult::kTooLarge);
    }
    CHECK_EQ(inflated(format, compressed("", bits), 0), "");
  }
}

TEST(every_truncation_is_damaged) {
  for (const auto& [format, bits] : kFormats) {
    const std::string stream = compressed(sample(3000), bits);
    for (size_t bytes = 0; bytes < stream.size(); ++bytes) CHECK(is_damaged(format, stream.substr(0, bytes)));
  }
}

TEST(nothing_may_follow_the_end) {
  for (const auto& [format, bits] : kFormats) {
    const std::string stream = compressed(sample(3000), bits);
    CHECK(is_damaged(format, stream + '\0'));
    CHECK(is_damaged(format, stream + "garbage"));
    CHECK(is_damaged(format, stream + stream));  // of gzip: several members, legal in a file
  }
}

TEST(a_flipped_bit_never_passes) {
  auto random = check::random_engine();
  for (const auto& [format, bits] : kFormats) {
    const std::string text = sample(3000);
    const std::string stream = compressed(text, bits);
    for (int round = 0; round < check::scaled(2000); ++round) {
      std::string flipped = stream;
      flipped[random() % flipped.size()] ^= static_cast<char>(1 << random() % 8);
      std::vector<char> out;
      const InflateResult result = inflate_bytes(format, flipped, kPlenty, &out);
      CHECK(result != InflateResult::kOk ||
            text == std::string(out.begin(), out.end()));  // gzip's header has bits without a meaning
    }
  }
}

TEST(one_format_is_not_the_other) {
  const std::string gzip = compressed("hello", kGzipBits), zlib = compressed("hello", kZlibBits),
                    raw = compressed("hello", kRawBits);
  CHECK(is_damaged(CompressedFormat::kGzip, zlib) && is_damaged(CompressedFormat::kGzip, raw));
  CHECK(is_damaged(CompressedFormat::kZlib, gzip) && is_damaged(CompressedFormat::kZlib, raw));
  CHECK(is_damaged(CompressedFormat::kGzip, "hello") && is_damaged(CompressedFormat::kZlib, "hello"));
}

TEST(a_dictionary_is_damage) {
  z_stream stream{};
  REQUIRE(deflateInit(&stream, 6) == Z_OK);
  const std::string dictionary = "customer_1", text = "customer_1 customer_1";
  REQUIRE(deflateSetDictionary(&stream, reinterpret_cast<const Bytef*>(dictionary.data()), 10) == Z_OK);
  std::string out(200, '\0');
  stream.next_in = reinterpret_cast<const Bytef*>(text.data());
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(&out[0]);
  stream.avail_out = static_cast<uInt>(out.size());
  CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  CHECK(is_damaged(CompressedFormat::kZlib, out));
}

TEST(a_gzip_header_may_have_all_its_fields) {
  // Flags: header checksum left out; extra field, name, comment.
  const std::string plain = compressed("hello", kGzipBits);
  std::string full = plain.substr(0, 10);
  full[3] = 0x04 | 0x08 | 0x10;
  full += std::string("\x03\x00xyz", 5) + std::string("name\0", 5) + std::string("comment\0", 8) + plain.substr(10);
  CHECK_EQ(inflated(CompressedFormat::kGzip, full), "hello");
  full[4] = 0x7f;  // the time: it is nobody's business
  CHECK_EQ(inflated(CompressedFormat::kGzip, full), "hello");
}

TEST(random_bytes_are_damaged) {
  auto random = check::random_engine();
  for (int round = 0; round < check::scaled(2000); ++round) {
    std::string bytes(random() % 100, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    CHECK(result_of(CompressedFormat::kGzip, bytes) == InflateResult::kDamaged);
    CHECK(result_of(CompressedFormat::kZlib, bytes) == InflateResult::kDamaged);
  }
}

ASSAY_TEST_MAIN
