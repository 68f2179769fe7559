#include "core/load/message_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

namespace assay::load {
namespace {

constexpr char kMagic[] = "assaymsg";
constexpr size_t kMagicBytes = sizeof kMagic - 1;
constexpr size_t kPrefixBytes = 5;

uint32_t big_endian(const char* at) noexcept {
  uint32_t number;
  std::memcpy(&number, at, sizeof number);
  return __builtin_bswap32(number);
}

Status io_error(const std::string& path) { return Status(Code::kIo, path + ": " + std::strerror(errno)); }

// Reads all of a regular file of bounded size.
Status read_all(int fd, const std::string& path, std::string* bytes) {
  struct stat found{};
  if (fstat(fd, &found) != 0) return io_error(path);
  if (!S_ISREG(found.st_mode)) return Status(Code::kInvalidRequest, path + ": not a file");
  if (static_cast<uint64_t>(found.st_size) > MessageFile::kFileBytesMax) {
    return Status(Code::kInvalidRequest, path + ": larger than 1 GiB; prepare fewer messages");
  }
  bytes->resize(static_cast<size_t>(found.st_size));
  size_t at = 0;
  while (at < bytes->size()) {
    const ssize_t got = ::read(fd, bytes->data() + at, bytes->size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(path);
    if (got == 0) break;  // it became shorter: parse() sees that
    at += static_cast<size_t>(got);
  }
  bytes->resize(at);
  return {};
}

}  // namespace

Status MessageFile::read(const std::string& path, std::shared_ptr<const MessageFile>* out) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not be waited for
  if (fd < 0) return io_error(path);
  std::string bytes;
  Status status = read_all(fd, path, &bytes);
  ::close(fd);
  return status.ok() ? parse(std::move(bytes), path, out) : status;
}

Status MessageFile::parse(std::string bytes, const std::string& name, std::shared_ptr<const MessageFile>* out) {
  const auto damaged = [&](const char* what, size_t offset) {
    const std::string text = name + ": " + what + " at byte " + std::to_string(offset) + "; make it anew: assay bench prepare";
    return Status(Code::kInvalidRequest, text, static_cast<uint32_t>(offset));
  };
  if (bytes.size() < kHeaderBytes || std::memcmp(bytes.data(), kMagic, kMagicBytes) != 0) {
    return Status(Code::kInvalidRequest, name + ": not a file of messages; assay bench prepare makes one");
  }
  if (big_endian(bytes.data() + kMagicBytes) != kVersion) {
    return Status(Code::kInvalidRequest, name + ": of another version of assay; make it anew: assay bench prepare");
  }
  const uint32_t count = big_endian(bytes.data() + kMagicBytes + 4);
  if (count == 0) return damaged("no messages", kMagicBytes + 4);
  // Memory follows what is there, not what the file claims.
  if (count > (bytes.size() - kHeaderBytes) / kPrefixBytes)
    return damaged("more messages claimed than there is room for", kMagicBytes + 4);
  auto file = std::make_shared<MessageFile>();
  file->ends_.reserve(count);
  size_t at = kHeaderBytes;
  for (uint32_t i = 0; i < count; ++i) {
    if (bytes.size() - at < kPrefixBytes) return damaged("the file ends within a message", at);
    if (bytes[at] != 0) return damaged("a message that is compressed, or no message,", at);
    const uint32_t size = big_endian(bytes.data() + at + 1);
    if (size > kMessageBytesMax) return damaged("a message longer than 4 MiB", at);
    if (bytes.size() - at - kPrefixBytes < size) return damaged("the file ends within a message", at);
    at += kPrefixBytes + size;
    file->ends_.push_back(at);
  }
  if (at != bytes.size()) return damaged("more bytes than messages", at);
  file->bytes_ = std::move(bytes);
  *out = std::move(file);
  return {};
}

}  // namespace assay::load
