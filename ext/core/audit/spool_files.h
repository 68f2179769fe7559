// SpoolFiles: the files of one spool directory, as little as a spool needs. The seam at which tests make disks fail.
//
// Errors are errno values; 0 is success. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace assay::audit {

struct FileEntry {
  std::string name;
  uint64_t bytes = 0;
  int64_t changed_us = 0;  // wall clock, when it was last written to
};

class SpoolFiles {
 public:
  virtual ~SpoolFiles() = default;

  virtual int list(std::vector<FileEntry>& out) = 0;
  // A new file of zeros for which the disk has set room aside: to write into it needs no more. `file` is its handle.
  virtual int create(const std::string& name, uint64_t bytes, int* file) = 0;
  virtual int write(int file, uint64_t offset, std::string_view bytes) = 0;
  // What was written survives the machine.
  virtual int sync(int file) = 0;
  virtual void close(int file) = 0;
  // Names survive the machine.
  virtual int sync_directory() = 0;
  virtual int rename(const std::string& from, const std::string& to) = 0;
  virtual int remove(const std::string& name) = 0;
  // Shortens a file and syncs it.
  virtual int truncate(const std::string& name, uint64_t bytes) = 0;
  // At most `bytes_max` of it: EFBIG if it is larger.
  virtual int read(const std::string& name, uint64_t bytes_max, std::string& out) = 0;
};

// Of a directory that exists. No name of a link is followed. kIo.
Status open_disk_files(const std::string& directory, std::unique_ptr<SpoolFiles>* out);

}  // namespace assay::audit
