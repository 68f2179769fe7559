// base/: hashes against published vectors, the table of codes, what may be shown, UTF-8.
#include <algorithm>
#include <cctype>
#include <cstring>
#include <set>
#include <string>

#include "check.h"
#include "core/base/blake2b.h"
#include "core/base/blake2bp.h"
#include "core/base/clock.h"
#include "core/base/crc32c_kernels.h"
#include "core/base/hash.h"
#include "core/base/status.h"
#include "core/base/utf8.h"

using namespace assay;

namespace {

std::string pattern(size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) text.push_back(static_cast<char>(i * 37 + 11));
  return text;
}

const uint8_t* bytes_of(const std::string& text) { return reinterpret_cast<const uint8_t*>(text.data()); }

bool is_utf8(std::string_view text) { return utf8_find_bad(text) == nullptr; }

// The slow way: decode to a code point, then ask whether its shortest form is what was there.
bool is_utf8_reference(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const uint8_t lead = static_cast<uint8_t>(text[i]);
    const size_t bytes = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (bytes == 0 || i + bytes > text.size()) return false;
    uint32_t point = bytes == 1 ? lead : lead & (0xff >> (bytes + 1));
    for (size_t k = 1; k < bytes; ++k) {
      const uint8_t byte = static_cast<uint8_t>(text[i + k]);
      if (byte >> 6 != 2) return false;
      point = point << 6 | (byte & 0x3f);
    }
    const size_t shortest = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    if (shortest != bytes || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return false;
    i += bytes;
  }
  return true;
}

}  // namespace

TEST(xxh64_published_vectors) {
  CHECK_EQ(xxh64(""), 0xef46db3751d8e999u);
  CHECK_EQ(xxh64("a"), 0xd24ec4f1a98c6e5bu);
  CHECK_EQ(xxh64("abc"), 0x44bc2cf5ad770999u);
  CHECK_EQ(xxh64("Nobody inspects the spammish repetition"), 0xfbcea83c8a378bf1u);
}

TEST(xxh64_every_tail) {
  // Made with the reference implementation (xxhash 3 for Python): each length ends another way.
  struct Vector {
    size_t bytes;
    uint64_t hash;
  };
  static constexpr Vector kVectors[] = {
      {0, 0xef46db3751d8e999},   {1, 0xf592c0c7639c4cb6},   {3, 0x22c08528601d4f27},  {4, 0xfb1e5cf2f1ae4d95},
      {5, 0x9d213eca1f68f273},   {7, 0x5613ac510496c04e},   {8, 0x57cb2b7521f3e21a},  {9, 0xc3f1d09775257b66},
      {12, 0x2f53b00266039e64},  {15, 0x90a9714eb00e8d29},  {16, 0xc6843cef99721174}, {31, 0xe4a0e629e519a4ae},
      {32, 0xcc6b8aaada790b2d},  {33, 0x35ec49850475a832},  {63, 0xbf9f0ba3cf95b28a}, {64, 0x155ccce4bf32befc},
      {100, 0x4826e367566ea023}, {200, 0x2f074b6dd9094e34},
  };
  for (const Vector& vector : kVectors) CHECK_EQ(xxh64(pattern(vector.bytes)), vector.hash);
}

TEST(xxh64_does_not_care_for_alignment) {
  const std::string text = pattern(77);
  for (size_t shift = 0; shift < 8; ++shift) {
    const std::string moved = std::string(shift, 'x') + text;
    CHECK_EQ(xxh64(std::string_view(moved).substr(shift)), xxh64(text));
  }
}

TEST(crc32c_published_vectors) {
  CHECK_EQ(crc32c("", 0), 0u);
  CHECK_EQ(crc32c("123456789", 9), 0xe3069283u);
  // RFC 3720, B.4
  std::string text(32, '\0');
  CHECK_EQ(crc32c(text.data(), 32), 0x8a9136aau);
  text.assign(32, '\xff');
  CHECK_EQ(crc32c(text.data(), 32), 0x62a8ab43u);
  for (size_t i = 0; i < 32; ++i) text[i] = static_cast<char>(i);
  CHECK_EQ(crc32c(text.data(), 32), 0x46dd794eu);
  for (size_t i = 0; i < 32; ++i) text[i] = static_cast<char>(31 - i);
  CHECK_EQ(crc32c(text.data(), 32), 0x113fdb5cu);
}

TEST(crc32c_table_equals_instruction) {
  if (!crc32c_kernels::has_instruction()) return;
  auto random = check::random_engine();
  for (int i = 0; i < check::scaled(2000); ++i) {
    std::string text(random() % 300, '\0');
    for (char& byte : text) byte = static_cast<char>(random());
    const size_t shift = text.empty() ? 0 : random() % std::min<size_t>(text.size(), 8);
    const uint32_t start = static_cast<uint32_t>(random());
    CHECK_EQ(crc32c_kernels::by_table(bytes_of(text) + shift, text.size() - shift, start),
             crc32c_kernels::by_instruction(bytes_of(text) + shift, text.size() - shift, start));
  }
}

TEST(crc32c_continues) {
  const std::string text = pattern(100);
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    CHECK_EQ(crc32c(text.data() + cut, text.size() - cut, crc32c(text.data(), cut)), crc32c(text.data(), text.size()));
  }
}

TEST(code_table) {
  std::set<std::string> reasons;
  for (int i = 0; i < static_cast<int>(Code::kCount_); ++i) {
    const CodeInfo& info = code_info(static_cast<Code>(i));
    CHECK_EQ(static_cast<int>(info.code), i);
    const std::string reason = info.reason, message = info.message;
    CHECK(reasons.insert(reason).second);
    for (const char c : reason)
      CHECK(std::isupper(static_cast<unsigned char>(c)) || std::isdigit(static_cast<unsigned char>(c)) || c == '_');
    CHECK(!message.empty() && message.back() == '.');
    CHECK((info.grpc == GrpcCode::kOk) == (i == 0));
    // RetryInfo invites a retry: only a status that clients retry may carry it.
    if (info.retry_ms != 0) CHECK(info.grpc == GrpcCode::kUnavailable);
  }
  CHECK_EQ(std::string(reason_of(Code::kMalformedMessage)), "MALFORMED_MESSAGE");
  CHECK_EQ(std::string(reason_of(Code::kSlotsExhausted)), "SLOTS_EXHAUSTED");
  CHECK(code_info(Code::kDraining).retry_ms > 0 && code_info(Code::kQueueFull).retry_ms > 0);
  CHECK(code_info(Code::kShed).retry_ms > 0 && code_info(Code::kSlotsExhausted).retry_ms > 0);
  CHECK(code_info(Code::kCount_).code == Code::kInternal);  // not a code at all
}

TEST(printable_keeps_names) {
  CHECK_EQ(printable("customer_id"), "customer_id");
  CHECK_EQ(printable(""), "");
  CHECK_EQ(printable("Betr\xc3\xa4ge 2018-04-01"), "Betr\xc3\xa4ge 2018-04-01");
  CHECK_EQ(printable(std::string(64, 'a')), std::string(64, 'a'));
  CHECK_EQ(printable(std::string(65, 'a')), std::string(61, 'a') + "...");
  CHECK_EQ(printable("12345678901"), "12345678901");
}

TEST(printable_masks_card_numbers) {
  CHECK_EQ(printable("4111111111111111"), "<digits>");
  CHECK_EQ(printable("pan=4111111111111111;"), "pan=<digits>;");
  CHECK_EQ(printable("4111 1111 1111 1111"), "<digits>");
  CHECK_EQ(printable("x4111-1111-1111-1111y"), "x<digits>y");
  CHECK_EQ(printable("123456789012"), "<digits>");
  CHECK_EQ(printable(std::string(58, 'a') + "4111111111111111").find("4111"), std::string::npos);
}

TEST(printable_masks_card_numbers_however_they_are_written) {
  for (const char* between : {".", "/", "_", ",", ":", "\t", "\n", "  ", " - ", "\xc2\xa0", "\xe2\x80\x91", "\xe2\x80\x8b", "\"",
                              "\xff", "\xe2\x80\x93"}) {
    const std::string gap = between;
    CHECK_EQ(printable("4111" + gap + "1111" + gap + "1111" + gap + "1111"), "<digits>");
  }
  std::string wide, arabic, bold;
  for (int i = 0; i < 16; ++i) {
    wide += "\xef\xbc\x91";
    arabic += "\xd9\xa1";
    bold += "\xf0\x9d\x9f\x8f";
  }
  for (const std::string& digits : {wide, arabic, bold}) CHECK_EQ(printable("n " + digits), "n <digits>");
  CHECK_EQ(printable("a1b2c3d4e5f6g7h8i9j0k1l2m3"), "a1b2c3d4e5f6g7h8i9j0k1l2m3");
  CHECK_EQ(printable("12345 .... 12345 .... 12345"), "12345 .... 12345 .... 12345");
}

TEST(printable_escapes) {
  CHECK_EQ(printable("a\nb"), "a\\x0ab");
  CHECK_EQ(printable("a\"b\\"), "a\\\"b\\\\");
  CHECK_EQ(printable("\xff\xc3"), "\\xff\\xc3");
  CHECK_EQ(printable("\xe2\x80\xae"
                     "evil"),
           "\\u202eevil");  // right-to-left override
  CHECK_EQ(printable("\xc2\x85"), "\\u0085");
  CHECK_EQ(printable(std::string("\0", 1)), "\\x00");
}

TEST(printable_any_bytes) {
  auto random = check::random_engine();
  for (int i = 0; i < check::scaled(5000); ++i) {
    std::string text(random() % 100, '\0');
    const int alphabet = static_cast<int>(random() % 3);
    for (char& byte : text) {
      const uint64_t bits = random();
      byte = alphabet == 0   ? static_cast<char>(bits)
             : alphabet == 1 ? static_cast<char>('0' + bits % 11)
                             : "\xe2\x80\xa8\xf0\x9f 1"[bits % 7];
    }
    const std::string shown = printable(text);
    CHECK(shown.size() <= 64);
    CHECK(is_utf8(shown));
    int digits = 0;
    for (const char c : shown) {
      CHECK(static_cast<uint8_t>(c) >= 0x20 && c != 0x7f);
      digits = c >= '0' && c <= '9' ? digits + 1 : 0;
      CHECK(digits < 12);
    }
  }
}

TEST(utf8_edges) {
  CHECK(is_utf8("") && is_utf8("plain ascii, longer than one word") && is_utf8(std::string_view("\0", 1)));
  CHECK(is_utf8("\xc2\x80") && is_utf8("\xe0\xa0\x80") && is_utf8("\xed\x9f\xbf") && is_utf8("\xee\x80\x80"));
  CHECK(is_utf8("\xf0\x90\x80\x80") && is_utf8("\xf4\x8f\xbf\xbf") && is_utf8("\xef\xbf\xbf"));
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82", "\xf0\x8f\xbf\xbf",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf0\x90\x80", "\xff", "12345678\x80", "1234567\xc3"}) {
    CHECK(!is_utf8(bad));
  }
  const std::string_view text = "0123456789\xc3\xa4\xff";
  CHECK_EQ(utf8_find_bad(text) - text.data(), 12);
  CHECK_EQ(utf8_repaired(text), "0123456789\xc3\xa4?");
}

TEST(utf8_equals_reference) {
  auto random = check::random_engine();
  static constexpr uint8_t kBytes[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2,
                                       0xdf, 0xe0, 0xe1, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};
  int good = 0;
  for (int i = 0; i < check::scaled(20000); ++i) {
    std::string text(random() % 8, 'a');
    text.append(random() % 5, '\0');
    for (size_t k = text.size() - std::min<size_t>(text.size(), 4); k < text.size(); ++k) {
      text[k] = static_cast<char>(kBytes[random() % sizeof kBytes]);
    }
    CHECK_EQ(is_utf8(text), is_utf8_reference(text));
    good += is_utf8(text) ? 1 : 0;
  }
  CHECK(good > 100);
}

TEST(clocks) {
  const int64_t before = SystemClock::instance().now_ns();
  CHECK(SystemClock::instance().now_ns() >= before && before > 0);
  ManualClock clock;
  const int64_t start = clock.now_ns();
  clock.advance_ns(5);
  CHECK_EQ(clock.now_ns() - start, 5);
}

TEST(blake2b_is_rfc_7693s) {
  const auto hex = [](const auto& digest) {
    std::string text;
    for (const uint8_t byte : digest) text += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
    return text;
  };
  CHECK_EQ(hex(blake2b<64>("abc")),  // appendix A
           "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
           "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923");
  CHECK_EQ(hex(blake2b<32>("hello", "key")), "30002f17070c8cee9d5cc38cc0bf4ef6f2c709b2c8f556dcd5e7f8c20901bb30");
  CHECK_EQ(hex(blake2b<32>(std::string(100'000, 'x'), "key")),
           "a454d07435dc23eee8e61ebdaae85174f45cee025545333a94a451fb9c309666");
  // In pieces as in one.
  const std::string text(1'000, 'p');
  for (const size_t step : {1u, 127u, 128u, 129u, 999u}) {
    Blake2b hash(32);
    for (size_t at = 0; at < text.size(); at += step) hash.update(std::string_view(text).substr(at, step));
    std::array<uint8_t, 32> digest;
    hash.finish(digest.data());
    CHECK(digest == blake2b<32>(text));
  }
}

// Digests by Python's hashlib, in tree mode (docs/audit-format.md has the function); bytes i * 7 + 3.
TEST(blake2bp_is_hashlibs) {
  const std::pair<size_t, const char*> kDigests[] = {{0, "b5ef811a8038f70b628fa8b294daae7492b1ebe343a80eaabbf1f6ae664dd67b"},
                                                     {1, "5e577b6f2b9e5f312d87b127d7710f6b1959b16407390899e74cd6305a16c1b4"},
                                                     {128, "06082f4b297bb7152c9a626c80fe32a35e172dc7d967b97a27180f2c4ce5046c"},
                                                     {385, "3ea545dca84c1c897ea7de92a4b21d85d030e943ad82f319d48594262702b014"},
                                                     {512, "42c54d199553e1829692797696974ddd7a6decdb9ee9bec7942c9f55dfe587a3"},
                                                     {1024, "1e64303071d64d8c740f5dd5757dc0446bada36e7d57249c02f6ee3654989262"},
                                                     {1500, "fb81cde5d50fbfb8a8f8f77117d11520914966d78170e6f6ce82b5bbbecaf3d8"},
                                                     {5000, "b3b714df0e2f2f1ccf5a6de9c3eb4609a6700bc0032fdeda7290931b423dcaaa"}};
  for (const auto& [bytes, expected] : kDigests) {
    std::string text(bytes, '\0');
    for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * 7 + 3);
    for (const size_t step : {size_t{1}, size_t{100}, size_t{1024}, size_t{100'000}}) {
      Blake2bp hash;
      for (size_t at = 0; at < bytes; at += step) hash.update(std::string_view(text).substr(at, step));
      std::string found;
      for (const uint8_t byte : hash.finish()) found += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
      CHECK_EQ(found, std::string(expected));
    }
  }
}

ASSAY_TEST_MAIN
