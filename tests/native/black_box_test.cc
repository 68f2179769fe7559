// The black box: what stands in the file after a death of each kind, and that dying is what it was without it.
#include "core/base/black_box.h"

#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "check.h"
#include "core/base/alt_stack.h"
#include "core/base/hash.h"

using namespace assay;
using namespace assay::black_box;

namespace {

struct File {
  Header header;
  Crash crash;
  Model models[kModels];
  Module modules[kModules];
  uint8_t errors[kErrors][kRecordBytes];
  uint8_t slots[kSlots][kRecordBytes];
};
static_assert(sizeof(File) == kFileBytes);

template <typename Value>
bool read_record(const uint8_t* record, uint64_t* sequence, Value* value) {
  std::memcpy(sequence, record, sizeof *sequence);
  std::memcpy(value, record + sizeof *sequence, sizeof *value);
  return *sequence != 0 && static_cast<uint16_t>(*sequence) == value->sequence_low;
}

int make_file() {
  char path[] = "/tmp/assay-black-box-XXXXXX";
  const int file = ::mkstemp(path);
  CHECK(file >= 0 && ::posix_fallocate(file, 0, kFileBytes) == 0);
  ::unlink(path);
  return file;
}

// Runs `body` in a child that has a box, and returns how it ended. A sanitizer's own handlers would end it otherwise.
int in_child(int file, const std::function<void()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) ::signal(number, SIG_DFL);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    if (!open(::dup(file), {"1.2.3", "a compiler", "3.11", "1.31"}).ok()) ::_exit(99);
    body();
    ::_exit(0);
  }
  int status = 0;
  pid_t ended = 0;
  for (int i = 0; i < 3'000 && ended == 0; ++i) {  // one that hangs has 30 s
    ::poll(nullptr, 0, 10);
    ended = ::waitpid(child, &status, WNOHANG);
  }
  if (ended == 0) {
    ::kill(child, SIGKILL);
    ended = ::waitpid(child, &status, 0);
  }
  CHECK(child > 0 && ended == child);
  return status;
}

File read_file(int file) {
  File found{};
  CHECK(::pread(file, &found, sizeof found, 0) == static_cast<ssize_t>(sizeof found));
  CHECK_EQ(found.header.crc, crc32c(&found.header, offsetof(Header, crc)));
  CHECK_EQ(found.crash.crc, crc32c(&found.crash, offsetof(Crash, crc)));
  CHECK_EQ(found.crash.rest_crc, crc32c(&found.models, kFileBytes - Layout::kModelTable));
  CHECK_EQ(std::string(found.header.assay), "1.2.3");
  CHECK_EQ(std::string(found.crash.runtime), "1.31");
  return found;
}

EndedSlot ended(uint32_t number) {
  EndedSlot slot{};
  slot.received_ns = number;
  slot.slot = number;
  return slot;
}

// Opens the box again, with `before` as the former action of SIGABRT.
void open_behind(int file, sighandler_t before) {
  close();
  ::signal(SIGABRT, before);
  if (!open(::dup(file), {"1.2.3", "", "", "1.31"}).ok()) ::_exit(99);
}

// Which signal the file tells of; then it tells of none.
int take_signal(int file) {
  Crash crash{};
  const Crash none{};
  if (::pread(file, &crash, sizeof crash, Layout::kCrash) != static_cast<ssize_t>(sizeof crash)) return 0;
  if (::pwrite(file, &none, sizeof none, Layout::kCrash) != static_cast<ssize_t>(sizeof none)) return 0;
  return crash.end == static_cast<uint32_t>(End::kCrashed) ? crash.signal : 0;
}

void touch_nowhere() {
  volatile int* volatile nowhere = reinterpret_cast<int*>(uintptr_t{0x1230});
  *nowhere = 1;
}

__attribute__((noinline)) int overflow_stack(int depth) {
  volatile char page[4096];
  page[0] = static_cast<char>(depth);
  return depth == 0 ? 0 : overflow_stack(depth + 1) + page[0];
}

}  // namespace

TEST(each_signal_is_told_and_then_kills_as_ever) {
  for (const int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
    const int file = make_file();
    const int status = in_child(file, [number] { ::raise(number); });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == number);
    const File found = read_file(file);
    CHECK_EQ(found.crash.end, static_cast<uint32_t>(End::kCrashed));
    CHECK_EQ(found.crash.signal, number);
    CHECK(found.crash.signal_code <= 0 && found.crash.sender_pid == found.header.pid);
    CHECK(found.crash.frame_count > 2 && found.crash.instruction != 0);
    ::close(file);
  }
}

TEST(a_fault_has_its_address) {
  const int file = make_file();
  const int status = in_child(file, touch_nowhere);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  const File found = read_file(file);
  CHECK_EQ(found.crash.fault_address, 0x1230u);
  CHECK(found.crash.signal_code > 0);
  bool is_in_a_module = false;
  for (const Module& module : found.modules)
    is_in_a_module |= module.start <= found.crash.instruction && found.crash.instruction < module.end;
  CHECK(is_in_a_module);
  ::close(file);
}

TEST(a_broken_invariant_says_which) {
  const int file = make_file();
  const int status = in_child(file, [] { ASSAY_ASSERT(1 + 1 == 3); });
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  CHECK(std::string(read_file(file).crash.reason).find("1 + 1 == 3") != std::string::npos);
  ::close(file);
}

TEST(a_stack_that_overflows_is_told_by_a_thread_with_another) {
  const int file = make_file();
  const int status = in_child(file, [] {
    std::thread([] {
      const AltStack stack;
      overflow_stack(1);
    }).join();
  });
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  CHECK_EQ(read_file(file).crash.end, static_cast<uint32_t>(End::kCrashed));
  ::close(file);
}

TEST(a_handler_that_was_there_before_has_its_say) {
  const int file = make_file();
  const int status = in_child(file, [&] {
    close();
    ::signal(SIGSEGV, [](int) { ::_exit(42); });
    if (!open(::dup(file), {"1.2.3", "", "", "1.31"}).ok()) ::_exit(99);
    ::raise(SIGSEGV);
  });
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
  CHECK_EQ(read_file(file).crash.signal, SIGSEGV);
  ::close(file);
}

TEST(the_rings_keep_the_last_and_counters_their_values) {
  const int file = make_file();
  in_child(file, [] {
    static std::atomic<uint64_t> counter{7};
    if (add_model("fraud", "2", "abc") != 0 || !add_counter("rows", counter)) ::_exit(1);
    for (uint32_t i = 1; i <= kSlots + 10; ++i) slot_ended(ended(i));
    for (uint32_t i = 1; i <= kErrors + 3; ++i) failed("MODEL_RUN_FAILED", i, 0, i);
    counter = 8;
    ::abort();
  });
  const File found = read_file(file);
  CHECK_EQ(found.crash.slots, kSlots + 10);
  CHECK_EQ(std::string(found.models[0].model), "fraud");
  CHECK_EQ(found.crash.counter_count, 1u);
  CHECK_EQ(found.crash.counters[0].value, 8u);
  uint64_t sequence = 0;
  for (size_t i = 0; i < kSlots; ++i) {
    EndedSlot slot;
    REQUIRE(read_record(found.slots[i], &sequence, &slot));
    CHECK_EQ(sequence, i < 10 ? kSlots + i + 1 : i + 1);
    CHECK_EQ(slot.slot, sequence);
  }
  Failed error;
  REQUIRE(read_record(found.errors[0], &sequence, &error));
  CHECK_EQ(sequence, kErrors + 1);
  CHECK_EQ(std::string(error.reason), "MODEL_RUN_FAILED");
  ::close(file);
}

TEST(threads_record_while_another_dies) {
  constexpr int kThreads = 4;
  const int file = make_file();
  in_child(file, [] {
    std::vector<std::thread> threads;
    std::atomic<uint32_t> next{1};
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&next] {
        for (;;) slot_ended(ended(next.fetch_add(1)));
      });
    }
    while (next.load() < 2 * kSlots) std::this_thread::yield();
    ::abort();
  });
  const File found = read_file(file);
  size_t whole = 0;
  for (size_t i = 0; i < kSlots; ++i) {
    uint64_t sequence = 0;
    EndedSlot slot;
    whole += read_record(found.slots[i], &sequence, &slot);
  }
  // Of each thread one that was being written, and one over which it wrote the rest of an older: it had lost its core in the middle
  // of that for as long as the others took to come round.
  CHECK(whole >= kSlots - 2 * kThreads);
  ::close(file);
}

TEST(a_loader_that_is_locked_does_not_keep_it_alive) {
  const int file = make_file();
  const int status = in_child(file, [] {
    static std::atomic<bool> is_locked{false};
    std::thread([] {
      ::dl_iterate_phdr(
          [](dl_phdr_info*, size_t, void*) {
            is_locked = true;
            for (;;) ::pause();
            return 0;
          },
          nullptr);
    }).detach();
    while (!is_locked) std::this_thread::yield();
    ::raise(SIGSEGV);
  });
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  CHECK_EQ(read_file(file).crash.signal, SIGSEGV);
  ::close(file);
}

TEST(it_needs_no_room_that_it_does_not_have) {
  const int file = make_file();
  const int status = in_child(file, [] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit as_it_is{kFileBytes, kFileBytes};
    ::setrlimit(RLIMIT_FSIZE, &as_it_is);
    ::raise(SIGBUS);
  });
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
  CHECK_EQ(read_file(file).crash.signal, SIGBUS);
  ::close(file);
}

TEST(a_forked_child_leaves_its_parents_box_alone) {
  const int file = make_file();
  const int status = in_child(file, [] {
    const pid_t child = ::fork();
    if (child == 0) ::raise(SIGSEGV);
    int ended_by = 0;
    ::waitpid(child, &ended_by, 0);
    if (!WIFSIGNALED(ended_by) || WTERMSIG(ended_by) != SIGSEGV) ::_exit(1);
  });
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_EQ(read_file(file).crash.end, static_cast<uint32_t>(End::kRunning));
  ::close(file);
}

TEST(one_that_a_former_action_survives_is_told_and_so_is_the_next_death) {
  for (const bool is_ignored : {true, false}) {
    const int file = make_file();
    const int status = in_child(file, [&] {
      static std::atomic<int> handled{0};
      open_behind(file, is_ignored ? SIG_IGN : +[](int) { ++handled; });
      for (int i = 0; i < 3; ++i) {
        ::raise(SIGABRT);
        if (take_signal(file) != SIGABRT) ::_exit(1);
      }
      if (handled != (is_ignored ? 0 : 3)) ::_exit(2);
      std::thread(touch_nowhere).join();
    });
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    CHECK_EQ(read_file(file).crash.signal, SIGSEGV);
    ::close(file);
  }
}

TEST(no_signal_comes_late_to_one_that_lives_on) {
  const int file = make_file();
  const int status = in_child(file, [&] {
    open_behind(file, SIG_IGN);
    ::raise(SIGABRT);
    // A timer of the handler's would be in the list of the process.
    char timers[64] = {};
    const int list = ::open("/proc/self/timers", O_RDONLY | O_CLOEXEC);
    if (list >= 0 && ::read(list, timers, sizeof timers - 1) != 0) ::_exit(1);
  });
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  ::close(file);
}

TEST(a_child_that_shares_memory_leaves_the_box_to_its_parent) {
  const int file = make_file();
  const int status = in_child(file, [] {
    const pid_t child = ::vfork();
    if (child == 0) {
      touch_nowhere();
      ::_exit(0);
    }
    int ended_by = 0;
    ::waitpid(child, &ended_by, 0);
    if (!WIFSIGNALED(ended_by) || WTERMSIG(ended_by) != SIGSEGV) ::_exit(1);
    std::thread([] { ::raise(SIGBUS); }).join();
  });
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
  CHECK_EQ(read_file(file).crash.signal, SIGBUS);
  ::close(file);
}

TEST(a_thread_that_never_comes_to_its_end_keeps_no_other_alive) {
  const int file = make_file();
  const int status = in_child(file, [&] {
    static std::atomic<bool> hangs{false};
    open_behind(file, [](int) {
      hangs = true;
      for (;;) ::pause();
    });
    std::thread([] { ::raise(SIGABRT); }).detach();
    while (!hangs) std::this_thread::yield();
    touch_nowhere();
  });
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  CHECK_EQ(read_file(file).crash.signal, SIGABRT);
  ::close(file);
}

TEST(a_good_end_is_one_and_closes_what_was_open) {
  const int file = make_file();
  const int status = in_child(file, [] {
    slot_ended(ended(1));
    close();
    close();
    slot_ended(ended(2));
    failed("INTERNAL", 1, kNoModel, 1);
    if (add_model("fraud", "1", "") != kNoModel || is_open()) ::_exit(1);
    struct sigaction present{};
    ::sigaction(SIGSEGV, nullptr, &present);
    if (present.sa_handler != SIG_DFL) ::_exit(2);
  });
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_EQ(read_file(file).crash.end, static_cast<uint32_t>(End::kClean));
  ::close(file);
}

TEST(counters_past_the_limit_are_left_out) {
  const int file = make_file();
  const int status = in_child(file, [] {
    static std::atomic<uint64_t> counters[kCounters + 1];
    for (size_t i = 0; i < kCounters; ++i) {
      if (!add_counter("one", counters[i])) ::_exit(1);
    }
    if (add_counter("past", counters[kCounters])) ::_exit(2);
    remove_counter(counters[0]);
    if (!add_counter("in its place", counters[kCounters])) ::_exit(3);
    ::abort();
  });
  CHECK(WIFSIGNALED(status));
  CHECK_EQ(read_file(file).crash.counter_count, kCounters);
  ::close(file);
}

TEST(models_past_the_limit_take_the_oldest_place) {
  const int file = make_file();
  in_child(file, [] {
    for (size_t i = 0; i < kModels; ++i) add_model("fraud", std::to_string(i), "");
    if (add_model(std::string(100, 'x'), "new", "") != 0) ::_exit(1);
    ::abort();
  });
  const File found = read_file(file);
  CHECK_EQ(std::string(found.models[0].model), std::string(63, 'x'));
  CHECK_EQ(std::string(found.models[1].version), "1");
  ::close(file);
}

ASSAY_TEST_MAIN
