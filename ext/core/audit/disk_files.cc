#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/audit/spool_files.h"

namespace assay::audit {
namespace {

constexpr mode_t kOwnerOnly = 0600;

class DiskFiles final : public SpoolFiles {
 public:
  explicit DiskFiles(int directory) : directory_(directory) {}
  ~DiskFiles() override { ::close(directory_); }
  DiskFiles(const DiskFiles&) = delete;
  DiskFiles& operator=(const DiskFiles&) = delete;

  int list(std::vector<FileEntry>& out) override {
    out.clear();
    const int copy = openat(directory_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);  // closedir() closes it
    DIR* const stream = copy < 0 ? nullptr : fdopendir(copy);
    if (stream == nullptr) {
      const int error = errno;
      if (copy >= 0) ::close(copy);
      return error;
    }
    errno = 0;
    while (const dirent* const entry = readdir(stream)) {
      struct stat known;
      if (fstatat(directory_, entry->d_name, &known, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(known.st_mode)) continue;
      const int64_t changed_us = known.st_mtim.tv_sec * int64_t{1'000'000} + known.st_mtim.tv_nsec / 1000;
      out.push_back({entry->d_name, static_cast<uint64_t>(known.st_size), changed_us});
      errno = 0;
    }
    const int error = errno;
    closedir(stream);
    return error;
  }

  int create(const std::string& name, uint64_t bytes, int* file) override {
    const int made = open(name, O_RDWR | O_CREAT | O_EXCL, kOwnerOnly);
    if (made < 0) return errno;
    // Where the file system cannot set room aside, glibc writes into every block of it: the same promise, more slowly.
    const int error = posix_fallocate(made, 0, static_cast<off_t>(bytes));
    if (error == 0) {
      *file = made;
      return 0;
    }
    ::close(made);
    unlinkat(directory_, name.c_str(), 0);
    return error;
  }

  int write(int file, uint64_t offset, std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return written < 0 ? errno : EIO;
      bytes.remove_prefix(static_cast<size_t>(written));
      offset += static_cast<uint64_t>(written);
    }
    return 0;
  }

  int sync(int file) override { return fdatasync(file) == 0 ? 0 : errno; }
  void close(int file) override { ::close(file); }
  int sync_directory() override { return fsync(directory_) == 0 ? 0 : errno; }

  int rename(const std::string& from, const std::string& to) override {
    return renameat(directory_, from.c_str(), directory_, to.c_str()) == 0 ? 0 : errno;
  }
  int remove(const std::string& name) override { return unlinkat(directory_, name.c_str(), 0) == 0 ? 0 : errno; }

  int truncate(const std::string& name, uint64_t bytes) override {
    const int file = open(name, O_RDWR, 0);
    if (file < 0) return errno;
    int error = ftruncate(file, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
    if (error == 0) error = fsync(file) == 0 ? 0 : errno;
    ::close(file);
    return error;
  }

  int read(const std::string& name, uint64_t bytes_max, std::string& out) override {
    const int file = open(name, O_RDONLY, 0);
    if (file < 0) return errno;
    const int error = read_all(file, bytes_max, out);
    ::close(file);
    return error;
  }

 private:
  int open(const std::string& name, int flags, mode_t mode) const {
    return openat(directory_, name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, mode);
  }

  static int read_all(int file, uint64_t bytes_max, std::string& out) {
    struct stat known;
    if (fstat(file, &known) != 0) return errno;
    if (static_cast<uint64_t>(known.st_size) > bytes_max) return EFBIG;
    out.resize(static_cast<size_t>(known.st_size));
    size_t filled = 0;
    while (filled < out.size()) {
      const ssize_t got = pread(file, out.data() + filled, out.size() - filled, static_cast<off_t>(filled));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno;
      if (got == 0) break;  // it became shorter meanwhile
      filled += static_cast<size_t>(got);
    }
    out.resize(filled);
    return 0;
  }

  const int directory_;
};

}  // namespace

Status open_disk_files(const std::string& directory, std::unique_ptr<SpoolFiles>* out) {
  const int opened = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (opened < 0) return Status(Code::kIo, "the audit spool's directory cannot be opened: " + std::string(std::strerror(errno)));
  *out = std::make_unique<DiskFiles>(opened);
  return Status();
}

}  // namespace assay::audit
