// Snapshot files: the embedded store's records on disk. docs/row-record.md, "Snapshots", has the bytes.
//
// A file is a header, then frames (a view, a record, ..., the end), each with a checksum of its own header and one of its
// payload. A file that was cut anywhere has no end frame; a flipped bit fails a checksum. Errors say the path is fine to show and
// the byte offset.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/limits.h"
#include "core/base/status.h"

namespace assay {

inline constexpr uint32_t kSnapshotVersion = 1;

// Writes `path` atomically: a new file beside it, fsync, rename, fsync of the directory. Until finish() returns ok, `path` is
// what it was; an unfinished writer removes its file. Not thread-safe.
class SnapshotWriter {
 public:
  SnapshotWriter() = default;
  ~SnapshotWriter();
  SnapshotWriter(const SnapshotWriter&) = delete;
  SnapshotWriter& operator=(const SnapshotWriter&) = delete;

  Status open(const std::string& path);
  // Views are numbered 0, 1, ... in the order in which they are added; a record names a view added before it.
  Status add_view(const std::array<uint8_t, 32>& view_hash, std::string_view entity_kind);
  // `record` must be sealed.
  Status add_record(uint32_t view, std::string_view id, const uint8_t* record, uint32_t record_bytes);
  Status finish();

 private:
  Status add_frame(uint32_t type, const std::vector<uint8_t>& payload);
  Status flush();
  Status failed(const char* what, int error);

  std::string path_, temporary_path_;
  int file_ = -1;
  std::vector<uint8_t> buffer_, payload_;
  uint64_t bytes_ = 0, record_count_ = 0, view_count_ = 0;
};

// One thing read from a snapshot. Pointers are into the reader and hold until next() is called again.
struct SnapshotItem {
  enum class Type : uint8_t { kView, kRecord, kEnd };
  Type type = Type::kEnd;
  std::array<uint8_t, 32> view_hash{};  // kView
  std::string_view entity_kind;         // kView
  uint32_t view = 0;                    // kRecord: number of its view
  std::string_view id;                  // kRecord
  uint8_t* record = nullptr;            // kRecord; checked no further than its frame's checksum
  uint32_t record_bytes = 0;
};

class SnapshotReader {
 public:
  SnapshotReader() = default;
  ~SnapshotReader();
  SnapshotReader(const SnapshotReader&) = delete;
  SnapshotReader& operator=(const SnapshotReader&) = delete;

  Status open(const std::string& path);
  // The next item. kEnd comes once, after everything was found to be there; until then nothing must be believed.
  Status next(SnapshotItem* item);
  uint64_t bytes_read() const noexcept { return offset_; }
  uint64_t bytes() const noexcept { return bytes_; }
  // A failure at the current item, for the caller's own checks.
  Status failure(Code code, const std::string& what) const;

 private:
  Status read(uint8_t* out, size_t bytes);
  Status parse_view(SnapshotItem* item);
  Status parse_record(SnapshotItem* item);
  Status parse_end();

  std::string path_;
  int file_ = -1;
  std::vector<uint8_t> buffer_, payload_;
  size_t buffer_at_ = 0, buffer_end_ = 0;
  uint64_t bytes_ = 0, offset_ = 0, item_offset_ = 0, record_count_ = 0, view_count_ = 0;
};

}  // namespace assay
