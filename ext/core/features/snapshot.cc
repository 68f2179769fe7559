#include "core/features/snapshot.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "core/base/hash.h"
#include "core/features/record_layout.h"

namespace assay {
namespace {

constexpr uint64_t kMagic = 0x31'50'4e'53'59'53'53'41;  // "ASSYSNP1"
constexpr size_t kFileHeaderBytes = 16;                 // magic u64, version u32, crc u32 of those 12 bytes
constexpr size_t kFrameHeaderBytes = 16;                // type u32, payload bytes u32, payload crc u32, crc u32 of those 12 bytes
constexpr size_t kBufferBytes = 1 << 20;
constexpr uint32_t kViewFrame = 1, kRecordFrame = 2, kEndFrame = 3;
constexpr uint32_t kViewPayloadBytes = 40;      // hash 32, kind bytes u32, 0 u32; then the kind, padded to 8
constexpr uint32_t kRecordPayloadBytes = 16;    // view u32, id bytes u32, record bytes u32, 0 u32; then id, padded, record
constexpr uint32_t kEndPayloadBytes = 24;       // records u64, views u64, file bytes up to this frame u64
constexpr uint32_t kPayloadBytesMax = 8 << 20;  // over the longest record of any view
constexpr int kTemporaryNamesMax = 100;

size_t padded(size_t bytes) { return (bytes + 7) & ~size_t{7}; }

void append(std::vector<uint8_t>& out, const void* data, size_t bytes) {
  const uint8_t* from = static_cast<const uint8_t*>(data);
  out.insert(out.end(), from, from + bytes);
}

void append_padded(std::vector<uint8_t>& out, std::string_view text) {
  append(out, text.data(), text.size());
  out.resize(out.size() + padded(text.size()) - text.size(), 0);
}

// A new file beside `path`; never one that is there already, so that two writers cannot mix.
int create_temporary(const std::string& path, std::string* temporary_path) {
  static std::atomic<uint64_t> counter{0};
  for (int attempt = 0; attempt < kTemporaryNamesMax; ++attempt) {
    *temporary_path = path + ".tmp." + std::to_string(::getpid()) + "." + std::to_string(counter.fetch_add(1));
    const int file = ::open(temporary_path->c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file >= 0 || errno != EEXIST) return file;
  }
  return -1;
}

// Makes a rename durable. Returns 0 or errno.
int sync_directory_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int file = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return errno;
  const int error = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  return error;
}

// Why nothing may be put in this path's place, or null. A rename over a device or a pipe would take it away from everybody.
const char* refusal_of(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos) return "is not a path";
  struct stat facts{};
  if (::lstat(path.c_str(), &facts) != 0 || S_ISREG(facts.st_mode) || S_ISLNK(facts.st_mode)) return nullptr;
  return "is there and is not a regular file";
}

std::string errno_text(int error) { return std::generic_category().message(error); }

}  // namespace

// --- writing

SnapshotWriter::~SnapshotWriter() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_path_.c_str());
}

Status SnapshotWriter::failed(const char* what, int error) {
  return Status(Code::kIo, "snapshot " + path_ + ": " + what + ": " + errno_text(error));
}

Status SnapshotWriter::open(const std::string& path) {
  ASSAY_ASSERT(file_ < 0);
  path_ = path;
  if (const char* refusal = refusal_of(path)) return Status(Code::kIo, "snapshot " + path + ": " + refusal);
  file_ = create_temporary(path, &temporary_path_);
  if (file_ < 0) return failed("cannot make a file beside it", errno);
  buffer_.reserve(kBufferBytes + kPayloadBytesMax / 8);
  uint8_t start[kFileHeaderBytes];
  store_le(start, kMagic);
  store_le(start + 8, kSnapshotVersion);
  store_le(start + 12, crc32c(start, 12));
  append(buffer_, start, sizeof start);
  return Status();
}

Status SnapshotWriter::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t written = ::write(file_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("cannot write", errno);
    done += static_cast<size_t>(written);
  }
  bytes_ += buffer_.size();
  buffer_.clear();
  return Status();
}

Status SnapshotWriter::add_frame(uint32_t type, const std::vector<uint8_t>& payload) {
  uint8_t frame[kFrameHeaderBytes];
  store_le(frame, type);
  store_le(frame + 4, static_cast<uint32_t>(payload.size()));
  store_le(frame + 8, crc32c(payload.data(), payload.size()));
  store_le(frame + 12, crc32c(frame, 12));
  append(buffer_, frame, sizeof frame);
  append(buffer_, payload.data(), payload.size());
  return buffer_.size() < kBufferBytes ? Status() : flush();
}

Status SnapshotWriter::add_view(const std::array<uint8_t, 32>& view_hash, std::string_view entity_kind) {
  payload_.clear();
  append(payload_, view_hash.data(), view_hash.size());
  const uint32_t sizes[2] = {static_cast<uint32_t>(entity_kind.size()), 0};
  append(payload_, sizes, sizeof sizes);
  append_padded(payload_, entity_kind);
  ++view_count_;
  return add_frame(kViewFrame, payload_);
}

Status SnapshotWriter::add_record(uint32_t view, std::string_view id, const uint8_t* record, uint32_t record_bytes) {
  ASSAY_ASSERT(view < view_count_);
  payload_.clear();
  const uint32_t sizes[4] = {view, static_cast<uint32_t>(id.size()), record_bytes, 0};
  append(payload_, sizes, sizeof sizes);
  append_padded(payload_, id);
  append(payload_, record, record_bytes);
  ++record_count_;
  return add_frame(kRecordFrame, payload_);
}

Status SnapshotWriter::finish() {
  payload_.clear();
  const uint64_t totals[3] = {record_count_, view_count_, bytes_ + buffer_.size()};
  append(payload_, totals, sizeof totals);
  if (Status status = add_frame(kEndFrame, payload_); !status.ok()) return status;
  if (Status status = flush(); !status.ok()) return status;
  if (::fsync(file_) != 0) return failed("cannot sync", errno);
  if (::rename(temporary_path_.c_str(), path_.c_str()) != 0) return failed("cannot rename", errno);
  const int file = std::exchange(file_, -1);  // the temporary file is no more: nothing to remove
  if (::close(file) != 0) return failed("cannot close", errno);
  const int error = sync_directory_of(path_);
  return error == 0 ? Status() : failed("cannot sync its directory", error);
}

// --- reading

SnapshotReader::~SnapshotReader() {
  if (file_ >= 0) ::close(file_);
}

Status SnapshotReader::failure(Code code, const std::string& what) const {
  const uint64_t offset = std::min<uint64_t>(item_offset_, std::numeric_limits<uint32_t>::max());
  return Status(code, "snapshot " + path_ + ", byte " + std::to_string(item_offset_) + ": " + what,
                static_cast<uint32_t>(offset));
}

Status SnapshotReader::open(const std::string& path) {
  ASSAY_ASSERT(file_ < 0);
  path_ = path;
  if (path.find('\0') != std::string::npos) return failure(Code::kIo, "is not a path");
  file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not hold us here
  if (file_ < 0) return failure(Code::kIo, "cannot open: " + errno_text(errno));
  struct stat facts{};
  if (::fstat(file_, &facts) != 0) return failure(Code::kIo, "cannot stat: " + errno_text(errno));
  if (!S_ISREG(facts.st_mode)) return failure(Code::kIo, "is not a regular file");
  bytes_ = static_cast<uint64_t>(facts.st_size);
  buffer_.resize(std::clamp<uint64_t>(bytes_, 1, kBufferBytes));

  uint8_t start[kFileHeaderBytes];
  const size_t there = std::min<uint64_t>(bytes_, sizeof start);
  if (Status status = read(start, there); !status.ok()) return status;
  uint8_t magic[8];
  store_le(magic, kMagic);
  if (std::memcmp(start, magic, std::min<size_t>(there, 8)) != 0)
    return failure(Code::kSnapshotMagic, "is not an assay snapshot");
  if (there < sizeof start) return failure(Code::kSnapshotTruncated, "ends within its header");
  const uint32_t version = load_le<uint32_t>(start + 8);
  if (version != kSnapshotVersion) {
    return failure(Code::kSnapshotVersion,
                   "has version " + std::to_string(version) + "; this build reads version " + std::to_string(kSnapshotVersion));
  }
  if (load_le<uint32_t>(start + 12) != crc32c(start, 12)) return failure(Code::kSnapshotChecksum, "its header is damaged");
  return Status();
}

Status SnapshotReader::read(uint8_t* out, size_t bytes) {
  while (bytes > 0) {
    if (buffer_at_ == buffer_end_) {
      const ssize_t got = ::read(file_, buffer_.data(), buffer_.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return failure(Code::kIo, "cannot read: " + errno_text(errno));
      if (got == 0)
        return failure(Code::kSnapshotTruncated, "the file ends before its end mark; it was cut or is still being copied");
      buffer_at_ = 0;
      buffer_end_ = static_cast<size_t>(got);
    }
    const size_t part = std::min(bytes, buffer_end_ - buffer_at_);
    std::memcpy(out, buffer_.data() + buffer_at_, part);
    out += part;
    bytes -= part;
    buffer_at_ += part;
    offset_ += part;
  }
  return Status();
}

Status SnapshotReader::next(SnapshotItem* item) {
  item_offset_ = offset_;
  uint8_t frame[kFrameHeaderBytes];
  if (Status status = read(frame, sizeof frame); !status.ok()) return status;
  if (load_le<uint32_t>(frame + 12) != crc32c(frame, 12)) return failure(Code::kSnapshotChecksum, "a frame's header is damaged");
  const uint32_t type = load_le<uint32_t>(frame), payload_bytes = load_le<uint32_t>(frame + 4);
  if (payload_bytes > kPayloadBytesMax) return failure(Code::kSnapshotChecksum, "a frame is longer than any can be");
  payload_.resize(payload_bytes);
  if (Status status = read(payload_.data(), payload_bytes); !status.ok()) return status;
  if (load_le<uint32_t>(frame + 8) != crc32c(payload_.data(), payload_bytes)) {
    return failure(Code::kSnapshotChecksum, "a frame is damaged");
  }
  switch (type) {
    case kViewFrame: return parse_view(item);
    case kRecordFrame: return parse_record(item);
    case kEndFrame: item->type = SnapshotItem::Type::kEnd; return parse_end();
    default: return failure(Code::kSnapshotVersion, "holds a kind of frame that this build does not know");
  }
}

Status SnapshotReader::parse_view(SnapshotItem* item) {
  const uint8_t* at = payload_.data();
  if (payload_.size() < kViewPayloadBytes) return failure(Code::kSnapshotView, "a view's frame is too short");
  const uint32_t kind_bytes = load_le<uint32_t>(at + 32);
  if (kind_bytes > limits::kNameBytesMax || payload_.size() != kViewPayloadBytes + padded(kind_bytes)) {
    return failure(Code::kSnapshotView, "a view's frame has the wrong length");
  }
  item->type = SnapshotItem::Type::kView;
  std::memcpy(item->view_hash.data(), at, item->view_hash.size());
  item->entity_kind = {reinterpret_cast<const char*>(at + kViewPayloadBytes), kind_bytes};
  ++view_count_;
  return Status();
}

Status SnapshotReader::parse_record(SnapshotItem* item) {
  uint8_t* at = payload_.data();
  if (payload_.size() < kRecordPayloadBytes) return failure(Code::kSnapshotView, "a record's frame is too short");
  const uint32_t id_bytes = load_le<uint32_t>(at + 4), record_bytes = load_le<uint32_t>(at + 8);
  if (id_bytes > limits::kIdBytesMax || payload_.size() != kRecordPayloadBytes + padded(id_bytes) + record_bytes) {
    return failure(Code::kSnapshotView, "a record's frame has the wrong length");
  }
  item->view = load_le<uint32_t>(at);
  if (item->view >= view_count_) return failure(Code::kSnapshotView, "a record names a view that the file has not described");
  item->type = SnapshotItem::Type::kRecord;
  item->id = {reinterpret_cast<const char*>(at + kRecordPayloadBytes), id_bytes};
  item->record = at + kRecordPayloadBytes + padded(id_bytes);
  item->record_bytes = record_bytes;
  ++record_count_;
  return Status();
}

Status SnapshotReader::parse_end() {
  const uint8_t* at = payload_.data();
  if (payload_.size() != kEndPayloadBytes) return failure(Code::kSnapshotView, "the end mark has the wrong length");
  if (load_le<uint64_t>(at) != record_count_ || load_le<uint64_t>(at + 8) != view_count_ ||
      load_le<uint64_t>(at + 16) != item_offset_) {
    return failure(Code::kSnapshotTruncated, "records are missing from its middle");
  }
  if (offset_ != bytes_) return failure(Code::kSnapshotChecksum, "something stands behind its end mark");
  return Status();
}

}  // namespace assay
