// transport/grpc_text: the texts of gRPC's headers, each with what is nearly one.
#include "core/transport/grpc_text.h"

#include <openssl/evp.h>

#include "check.h"
#include "core/base/utf8.h"

using namespace assay;

namespace {

constexpr int64_t kMalformed = -1;

int64_t timeout_ns(std::string_view text) {
  int64_t ns = kMalformed;
  const bool is_timeout = parse_grpc_timeout(text, &ns);
  CHECK_EQ(is_timeout, ns != kMalformed);
  return ns;
}

// As OpenSSL reads it.
std::string decoded(std::string text) {
  const size_t padding = (4 - text.size() % 4) % 4;
  text.append(padding, '=');
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  CHECK_EQ(size, static_cast<int>(bytes.size()));
  bytes.resize(bytes.size() - padding);
  return bytes;
}

int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

// What a client reads; aborts the test on what it may not be sent.
std::string message_as_read(std::string_view encoded) {
  std::string text;
  for (size_t i = 0; i < encoded.size(); ++i) {
    CHECK(encoded[i] >= ' ' && encoded[i] <= '~');
    if (encoded[i] != '%') {
      text.push_back(encoded[i]);
      continue;
    }
    if (i + 2 >= encoded.size() || hex_digit(encoded[i + 1]) < 0 || hex_digit(encoded[i + 2]) < 0) {
      CHECK(false);
      return text;
    }
    text.push_back(static_cast<char>(hex_digit(encoded[i + 1]) * 16 + hex_digit(encoded[i + 2])));
    i += 2;
  }
  CHECK(encoded.empty() || (encoded.front() != ' ' && encoded.back() != ' '));
  return text;
}

// Mostly text, in one to four bytes a letter, and some bytes that are none.
std::string random_text(std::mt19937_64& random) {
  static const char* const kPieces[] = {"a",    " ",   "%", "~", "\n", "\x7f", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
                                        "\xff", "\xc3"};
  std::string text;
  for (uint64_t pieces = random() % 24; pieces > 0; --pieces) text += kPieces[random() % std::size(kPieces)];
  return text;
}

}  // namespace

// --- grpc-timeout ---

TEST(timeouts_in_each_unit) {
  CHECK_EQ(timeout_ns("1n"), 1);
  CHECK_EQ(timeout_ns("20u"), 20'000);
  CHECK_EQ(timeout_ns("300m"), 300'000'000);
  CHECK_EQ(timeout_ns("4S"), 4'000'000'000);
  CHECK_EQ(timeout_ns("5M"), 300'000'000'000);
  CHECK_EQ(timeout_ns("6H"), 21'600'000'000'000);
  CHECK_EQ(timeout_ns("0n"), 0);
  CHECK_EQ(timeout_ns("0H"), 0);
  CHECK_EQ(timeout_ns("00000007S"), 7'000'000'000);
}

TEST(timeouts_have_a_longest) {
  CHECK_EQ(timeout_ns("99999999n"), 99'999'999);
  CHECK_EQ(timeout_ns("99999999S"), 99'999'999'000'000'000);
  CHECK_EQ(timeout_ns("876000H"), kGrpcTimeoutNsMax);  // a hundred years
  CHECK_EQ(timeout_ns("875999H"), kGrpcTimeoutNsMax - int64_t{3600} * 1'000'000'000);
  CHECK_EQ(timeout_ns("876001H"), kGrpcTimeoutNsMax);
  CHECK_EQ(timeout_ns("99999999H"), kGrpcTimeoutNsMax);
  CHECK_EQ(timeout_ns("99999999M"), kGrpcTimeoutNsMax);
  CHECK(kGrpcTimeoutNsMax < std::numeric_limits<int64_t>::max() / 2);
}

TEST(timeouts_that_are_none) {
  for (const char* text : {"",    "n",    "1",  "12", "100000000n", "000000001n", "1 n",  " 1n",    "1n ", "-1n",
                           "+1n", "1.5S", "1s", "1h", "1N",         "1mS",        "0x1n", "1,000m", "S1",  "\xd9\xa1n"}) {
    CHECK_EQ(timeout_ns(text), kMalformed);
  }
  CHECK_EQ(timeout_ns(std::string_view("1\0n", 3)), kMalformed);
  CHECK_EQ(timeout_ns(std::string_view("1n\0", 3)), kMalformed);
}

// --- content-type ---

TEST(content_types) {
  for (const char* text : {"application/grpc", "application/grpc+proto", "Application/GRPC", "APPLICATION/gRPC+Proto",
                           "application/grpc;charset=utf-8", "application/grpc; charset=utf-8", "application/grpc+proto;",
                           "application/grpc ;a=b;c=d", "application/grpc\t;"}) {
    CHECK(is_grpc_content_type(text));
  }
  for (const char* text :
       {"", ";", "application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text", "application/grpc+json",
        "application/grpc+", "application/grpc+protobuf", "application/grpc+proto+gzip", "application/grp", " application/grpc",
        "application/grpc,application/grpc", "application/json", "text/application/grpc", "application/grpcs"}) {
    CHECK(!is_grpc_content_type(text));
  }
}

// --- grpc-message ---

TEST(messages_escape_what_a_header_cannot_have) {
  CHECK_EQ(encode_grpc_message(""), "");
  CHECK_EQ(encode_grpc_message("not found: model \"card\" (~)"), "not found: model \"card\" (~)");
  CHECK_EQ(encode_grpc_message("100% sure"), "100%25 sure");
  CHECK_EQ(encode_grpc_message("a\r\nb\tc"), "a%0D%0Ab%09c");
  CHECK_EQ(encode_grpc_message("caf\xc3\xa9 \xe2\x82\xac"), "caf%C3%A9 %E2%82%AC");
  CHECK_EQ(encode_grpc_message("\x7f\x1f"), "%7F%1F");
  CHECK_EQ(encode_grpc_message("\xff"), "%FF");
  CHECK_EQ(encode_grpc_message(std::string_view("\0", 1)), "%00");
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = "a" + std::string(1, static_cast<char>(byte)) + "z";
    const bool stays = byte >= 0x20 && byte <= 0x7e && byte != '%';
    CHECK_EQ(encode_grpc_message(text).size(), stays ? 3u : 5u);
    CHECK_EQ(message_as_read(encode_grpc_message(text)), text);
  }
}

TEST(messages_neither_begin_nor_end_with_a_space) {
  CHECK_EQ(encode_grpc_message(" a b "), "%20a b%20");
  CHECK_EQ(encode_grpc_message(" "), "%20");
  CHECK_EQ(encode_grpc_message("  "), "%20%20");
  CHECK_EQ(encode_grpc_message("ab  cd", 4), "ab");  // cut where only spaces would be last
  CHECK_EQ(encode_grpc_message(" bc", 2), "");
}

TEST(messages_are_cut_between_characters) {
  CHECK_EQ(encode_grpc_message("abcdef", 6), "abcdef");
  CHECK_EQ(encode_grpc_message("abcdef", 5), "abcde");
  CHECK_EQ(encode_grpc_message("abcdef", 0), "");
  CHECK_EQ(encode_grpc_message("ab%", 5), "ab%25");
  CHECK_EQ(encode_grpc_message("ab%", 4), "ab");
  CHECK_EQ(encode_grpc_message("a\xe2\x82\xac", 10), "a%E2%82%AC");
  for (size_t bytes_max = 1; bytes_max < 10; ++bytes_max) CHECK_EQ(encode_grpc_message("a\xe2\x82\xac", bytes_max), "a");
  CHECK_EQ(encode_grpc_message("a\xff\xff", 6), "a%FF");  // no UTF-8: any escape is a place to cut
}

TEST(a_cut_message_begins_the_whole_one) {
  auto random = check::random_engine();
  for (int round = 0; round < check::scaled(5000); ++round) {
    const std::string text = random_text(random);
    const std::string whole = encode_grpc_message(text);
    CHECK_EQ(message_as_read(whole), text);
    const size_t bytes_max = random() % (whole.size() + 2);
    const std::string cut = encode_grpc_message(text, bytes_max);
    CHECK(cut.size() <= bytes_max && whole.compare(0, cut.size(), cut) == 0);
    if (utf8_find_bad(text) == nullptr) CHECK_EQ(utf8_find_bad(message_as_read(cut)), nullptr);
    if (bytes_max >= whole.size()) CHECK_EQ(cut, whole);
  }
}

// --- -bin ---

TEST(base64_published_vectors) {
  const std::pair<const char*, const char*> kVectors[] = {
      {"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"}, {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : kVectors) CHECK_EQ(encode_base64(bytes), text);
  CHECK_EQ(encode_base64("\xfb\xff\xbf"), "+/+/");
}

TEST(base64_is_read_by_openssl) {
  auto random = check::random_engine();
  for (int round = 0; round < check::scaled(2000); ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const std::string text = encode_base64(bytes);
    CHECK_EQ(text.size(), (bytes.size() * 4 + 2) / 3);
    CHECK_EQ(decoded(text), bytes);
  }
}

ASSAY_TEST_MAIN
