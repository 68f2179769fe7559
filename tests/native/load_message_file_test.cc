// Files of messages: what is right is read, whatever is damaged is refused with a reason.
#include "core/load/message_file.h"

#include "check.h"
#include "load_fixture.h"

using namespace assay;
using namespace assay::load;
using load_fixture::big_endian;
using load_fixture::encode_messages;
using load_fixture::TemporaryFile;

namespace {

using File = std::shared_ptr<const MessageFile>;

bool is_refused(const std::string& bytes, const char* why) {
  File file;
  const Status status = MessageFile::parse(bytes, "FILE", &file);
  const bool is_said = status.detail.find(why) != std::string::npos && status.detail.compare(0, 6, "FILE: ") == 0;
  if (!is_said) std::fprintf(stderr, "%s\n", status.detail.c_str());
  return status.code == Code::kInvalidRequest && file == nullptr && is_said;
}

}  // namespace

TEST(messages_are_read_as_grpc_has_them) {
  const std::vector<std::string> messages = {"one", "", std::string(70'000, 'x')};
  const TemporaryFile source(encode_messages(messages));
  File file;
  REQUIRE(MessageFile::read(source.path(), &file).ok());
  REQUIRE(file->count() == 3);
  for (size_t i = 0; i < 3; ++i) {
    const std::string wanted = std::string(1, '\0') + big_endian(static_cast<uint32_t>(messages[i].size())) + messages[i];
    CHECK_EQ(file->frame(i), wanted);
  }
}

TEST(a_file_cut_anywhere_is_refused) {
  const std::string bytes = encode_messages({"first", "second", "third"});
  for (size_t size = 0; size < bytes.size(); ++size) {
    File file;
    CHECK_EQ(MessageFile::parse(bytes.substr(0, size), "FILE", &file).code, Code::kInvalidRequest);
  }
}

TEST(any_damage_is_refused_or_read_within_bounds) {
  auto random = check::random_engine();
  const std::string good = encode_messages({"first", "second", "third"});
  for (int round = 0; round < check::scaled(20'000); ++round) {
    std::string bytes = good;
    for (uint64_t i = 0; i <= random() % 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    File file;
    if (!MessageFile::parse(bytes, "FILE", &file).ok()) continue;
    size_t total = 16;
    for (size_t i = 0; i < file->count(); ++i) total += file->frame(i).size();
    CHECK_EQ(total, bytes.size());
  }
}

TEST(each_fault_is_named) {
  const std::string magic = "assaymsg";
  CHECK(is_refused("", "not a file of messages"));
  CHECK(is_refused("{\"transaction_id\": 1, \"event_time\": 2}", "assay bench prepare makes one"));
  CHECK(is_refused(magic + big_endian(2) + big_endian(1) + std::string(5, '\0'), "another version"));
  CHECK(is_refused(magic + big_endian(1) + big_endian(0), "no messages"));
  CHECK(is_refused(magic + big_endian(1) + big_endian(UINT32_MAX) + std::string(5, '\0'), "more messages claimed"));
  CHECK(is_refused(magic + big_endian(1) + big_endian(1) + "\1" + big_endian(0), "compressed"));
  const size_t most = MessageFile::kMessageBytesMax;
  const auto message = [&](size_t size) { return encode_messages({std::string(size, 'x')}); };
  File file;
  CHECK(MessageFile::parse(message(most), "FILE", &file).ok());
  CHECK(is_refused(message(most + 1), "longer than 4 MiB"));
  CHECK(is_refused(message(3).substr(0, 22), "ends within a message at byte 16"));
  CHECK(is_refused(message(3) + "x", "more bytes than messages at byte 24"));
}

TEST(what_is_no_file_is_refused) {
  File file;
  Status status = MessageFile::read("/nonexistent/messages.bin", &file);
  CHECK_EQ(status.code, Code::kIo);
  CHECK(status.detail.find("No such file") != std::string::npos);
  status = MessageFile::read("/tmp", &file);
  CHECK_EQ(status.code, Code::kInvalidRequest);
  CHECK(status.detail.find("not a file") != std::string::npos);
}

ASSAY_TEST_MAIN
