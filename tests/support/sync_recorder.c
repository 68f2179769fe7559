// Preloaded into a server: writes down how far each file was written when it was last synced, so that a test can make of a killed
// process's files what a machine that lost its power would have left.
//
// ASSAY_SYNC_RECORD names the journal. A line for each sync that has ended, "file PATH BYTES" (what had been written when it began) or
// "directory PATH 0", and for each rename, "rename FROM TO". Only what lies in an audit log's directory is told. A file that is not in
// the journal was never synced.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096
static off_t written[FILES_MAX];  // by descriptor: the end of what was written
static int journal = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void tell(const char* kind, int fd, off_t bytes) {
  char link[64], path[PATH_MAX], line[PATH_MAX + 64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0 || journal < 0) return;
  path[length] = 0;
  if (strstr(path, "/writer-") == NULL) return;
  const int line_bytes = snprintf(line, sizeof line, "%s %s %lld\n", kind, path, (long long)bytes);
  if (write(journal, line, (size_t)line_bytes) != line_bytes) abort();
}

__attribute__((constructor)) static void begin(void) {
  const char* const path = getenv("ASSAY_SYNC_RECORD");
  if (path != NULL) journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

ssize_t pwrite(int fd, const void* bytes, size_t count, off_t offset) {
  static ssize_t (*next)(int, const void*, size_t, off_t);
  if (next == NULL) next = (ssize_t(*)(int, const void*, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
  const ssize_t done = next(fd, bytes, count, offset);
  if (done > 0 && fd < FILES_MAX) {
    pthread_mutex_lock(&lock);
    if (offset + done > written[fd]) written[fd] = offset + done;
    pthread_mutex_unlock(&lock);
  }
  return done;
}
ssize_t pwrite64(int fd, const void* bytes, size_t count, off_t offset) { return pwrite(fd, bytes, count, offset); }

static off_t bytes_of(int fd) {
  if (fd < 0 || fd >= FILES_MAX) return 0;
  pthread_mutex_lock(&lock);
  const off_t bytes = written[fd];
  pthread_mutex_unlock(&lock);
  return bytes;
}

static int synced(int fd, off_t bytes, int result) {
  struct stat known;
  if (result == 0 && fstat(fd, &known) == 0) tell(S_ISDIR(known.st_mode) ? "directory" : "file", fd, bytes);
  return result;
}

int fdatasync(int fd) {
  static int (*next)(int);
  if (next == NULL) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  const off_t bytes = bytes_of(fd);
  return synced(fd, bytes, next(fd));
}
int fsync(int fd) {
  static int (*next)(int);
  if (next == NULL) next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  const off_t bytes = bytes_of(fd);
  return synced(fd, bytes, next(fd));
}

int renameat(int from_directory, const char* from, int to_directory, const char* to) {
  static int (*next)(int, const char*, int, const char*);
  if (next == NULL) next = (int (*)(int, const char*, int, const char*))dlsym(RTLD_NEXT, "renameat");
  const int result = next(from_directory, from, to_directory, to);
  char line[512];
  const int bytes = snprintf(line, sizeof line, "rename %s %s\n", from, to);
  if (result == 0 && journal >= 0 && write(journal, line, (size_t)bytes) != bytes) abort();
  return result;
}

int close(int fd) {
  static int (*next)(int);
  if (next == NULL) next = (int (*)(int))dlsym(RTLD_NEXT, "close");
  if (fd >= 0 && fd < FILES_MAX) {
    pthread_mutex_lock(&lock);
    written[fd] = 0;
    pthread_mutex_unlock(&lock);
  }
  return next(fd);
}
