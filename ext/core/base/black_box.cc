#include "core/base/black_box.h"

#include <errno.h>
#include <execinfo.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <mutex>

#include "core/base/alt_stack.h"
#include "core/base/hash.h"

namespace assay::black_box {

std::atomic<bool> is_recording{false};

namespace {

constexpr std::array<int, 5> kSignals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
constexpr time_t kUnwindSecondsMax = 2;
constexpr int kTurnMsMax = 5'000;  // that a thread waits for the end that another one brings
constexpr int kTurnLookMs = 20;
constexpr int kNoTimer = -1;
constexpr size_t kWords = kRecordBytes / sizeof(uint64_t);

// A ring of records of 64 bytes. Writers share a counter and nothing else.
template <size_t kSize>
class Ring {
 public:
  template <typename Value>
  void add(Value value) noexcept {
    const uint64_t sequence = written_.fetch_add(1, std::memory_order_relaxed) + 1;
    value.sequence_low = static_cast<uint16_t>(sequence);
    uint64_t words[kWords - 1];
    std::memcpy(words, &value, sizeof words);
    auto& record = records_[(sequence - 1) % kSize];
    for (size_t i = kWords - 1; i > 0; --i) record[i].store(words[i - 1], std::memory_order_relaxed);
    record[0].store(sequence, std::memory_order_release);
  }
  uint64_t written() const noexcept { return written_.load(std::memory_order_relaxed); }
  void copy_to(uint8_t* out) const noexcept {
    for (const auto& record : records_) {
      for (const auto& word : record) {
        const uint64_t value = word.load(std::memory_order_relaxed);
        std::memcpy(out, &value, sizeof value);
        out += sizeof value;
      }
    }
  }
  void clear() noexcept {
    for (auto& record : records_) {
      for (auto& word : record) word.store(0, std::memory_order_relaxed);
    }
    written_.store(0, std::memory_order_relaxed);
  }

 private:
  alignas(64) std::atomic<uint64_t> written_{0};
  alignas(64) std::array<std::array<std::atomic<uint64_t>, kWords>, kSize> records_{};
};

struct NamedCounter {
  char name[24];
  std::atomic<const std::atomic<uint64_t>*> value{nullptr};
};

// All of it is static: a handler must find it, whatever became of the heap; a thread that still records while the box is closed
// writes to memory that is there. Pages that are never touched cost nothing.
Header g_header;
Crash g_crash;
Model g_models[kModels];
Module g_modules[kModules];
Ring<kErrors> g_errors;
Ring<kSlots> g_slots;
alignas(64) uint8_t g_image[kFileBytes];  // what is written: a copy, so that it fits its CRC while others record
NamedCounter g_counters[kCounters];
std::mutex g_mutex;  // of models, modules, counters, open and close; never taken by the handler
size_t g_models_named = 0;
int g_file = -1;
pid_t g_process = 0;
struct sigaction g_before[kSignals.size()];
std::atomic<int> g_dying_thread{0};
std::atomic<bool> g_is_copying{false};  // nobody begins a record meanwhile: at most one a thread is copied half written

bool may_record() noexcept { return is_open() && !g_is_copying.load(std::memory_order_relaxed); }

template <size_t kSize>
void set_text(char (&to)[kSize], std::string_view text) noexcept {
  std::memset(to, 0, kSize);
  std::memcpy(to, text.data(), std::min(text.size(), kSize - 1));
}

int64_t time_ns(clockid_t clock) noexcept {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// --- writing. Async-signal-safe from here to on_signal()

bool write_at(const uint8_t* bytes, size_t size, size_t at) noexcept {
  while (size > 0) {
    const ssize_t count = ::pwrite(g_file, bytes, size, static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes += count, size -= static_cast<size_t>(count), at += static_cast<size_t>(count);
  }
  return true;
}

bool write_crash() noexcept {
  g_crash.crc = crc32c(&g_crash, offsetof(Crash, crc));
  return write_at(reinterpret_cast<const uint8_t*>(&g_crash), sizeof g_crash, Layout::kCrash);
}

bool write_rest() noexcept {
  std::memcpy(g_image + Layout::kModelTable, g_models, sizeof g_models);
  std::memcpy(g_image + Layout::kModuleTable, g_modules, sizeof g_modules);
  g_is_copying.store(true);
  g_errors.copy_to(g_image + Layout::kErrorRing);
  g_slots.copy_to(g_image + Layout::kSlotRing);
  g_is_copying.store(false);
  const uint8_t* const rest = g_image + Layout::kModelTable;
  g_crash.rest_crc = crc32c(rest, kFileBytes - Layout::kModelTable);
  return write_at(rest, kFileBytes - Layout::kModelTable, Layout::kModelTable);
}

uint64_t instruction_of(const void* context) noexcept {
  if (context == nullptr) return 0;
  const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<uint64_t>(machine.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return machine.pc;
#else
  return (void)machine, 0;
#endif
}

void note_signal(int signal, const siginfo_t& info, const void* context) noexcept {
  g_crash.end = static_cast<uint32_t>(End::kCrashed);
  g_crash.ended_wall_ns = time_ns(CLOCK_REALTIME);
  g_crash.ended_ns = time_ns(CLOCK_MONOTONIC);
  g_crash.signal = signal;
  g_crash.signal_code = info.si_code;
  const bool is_sent = info.si_code <= 0;
  g_crash.fault_address = is_sent ? 0 : reinterpret_cast<uint64_t>(info.si_addr);
  g_crash.sender_pid = is_sent ? static_cast<uint32_t>(info.si_pid) : 0;
  g_crash.instruction = instruction_of(context);
  g_crash.thread = static_cast<uint32_t>(::syscall(SYS_gettid));
  ::prctl(PR_GET_NAME, g_crash.thread_name);
  g_crash.slots = g_slots.written();
  g_crash.errors = g_errors.written();
}

// What might itself fault: a broken stack, a counter that is going. By now the file has everything else.
void note_stack_and_counters() noexcept {
  void* frames[kFrames];
  const int count = ::backtrace(frames, static_cast<int>(kFrames));
  g_crash.frame_count = static_cast<uint32_t>(std::max(count, 0));
  for (uint32_t i = 0; i < g_crash.frame_count; ++i) g_crash.frames[i] = reinterpret_cast<uint64_t>(frames[i]);
  g_crash.counter_count = 0;
  for (const NamedCounter& counter : g_counters) {
    const auto* const value = counter.value.load(std::memory_order_acquire);
    if (value == nullptr) continue;
    Counter& out = g_crash.counters[g_crash.counter_count++];
    std::memcpy(out.name, counter.name, sizeof out.name);
    out.value = value->load(std::memory_order_relaxed);
  }
}

// The action that was there before ours.
void put_back(int signal) noexcept {
  const auto* const known = std::find(kSignals.begin(), kSignals.end(), signal);
  ::sigaction(signal, &g_before[static_cast<size_t>(known - kSignals.begin())], nullptr);
}

// Unwinding may wait for the loader's lock, and whoever has it may wait for ever. So the signal, whose action is the former one by
// now, comes again after a while. Returns the timer for strike_no_more().
int strike_later(int signal, int thread) noexcept {
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = signal;
  event._sigev_un._tid = thread;
  int timer = 0;  // the kernel's own: glibc's timer_create() is none that a handler may call
  if (::syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) != 0) return kNoTimer;
  itimerspec when{};
  when.it_value.tv_sec = kUnwindSecondsMax;
  ::syscall(SYS_timer_settime, timer, 0, &when, nullptr);
  return timer;
}

void strike_no_more(int timer) noexcept {
  if (timer != kNoTimer) ::syscall(SYS_timer_delete, timer);
}

void let_through(int signal) noexcept {
  sigset_t only;
  ::sigemptyset(&only);
  ::sigaddset(&only, signal);
  ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
}

// One thread writes, and ends the process; the others wait for that. False: this thread had its turn before, or the other has not
// brought the end in all that time, so that this one has to: a process that is stuck is worse than one that is dead.
bool take_turn(int thread) noexcept {
  for (int waited_ms = 0; waited_ms < kTurnMsMax; waited_ms += kTurnLookMs) {
    int nobody = 0;
    if (g_dying_thread.compare_exchange_strong(nobody, thread)) return true;
    if (nobody == thread) return false;
    ::poll(nullptr, 0, kTurnLookMs);
  }
  return false;
}

void on_signal(int signal, siginfo_t* info, void* context);

struct sigaction our_action() noexcept {
  struct sigaction action{};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigfillset(&action.sa_mask);
  return action;
}

// Everything into the file, with the former action in place before the stack is looked at.
void tell(int signal, const siginfo_t& info, const void* context, int thread) noexcept {
  note_signal(signal, info, context);
  write_rest();
  write_crash();
  put_back(signal);
  const int timer = strike_later(signal, thread);
  let_through(signal);
  note_stack_and_counters();
  write_crash();
  strike_no_more(timer);
}

void on_signal(int signal, siginfo_t* info, void* context) {
  const int error_before = errno;
  const int thread = static_cast<int>(::syscall(SYS_gettid));
  // A child that was forked has the handler, but the file is its parent's; one of vfork() has its parent's memory, too.
  const bool is_ours = ::getpid() == g_process && is_recording.load();
  const bool is_first = is_ours && take_turn(thread);
  if (is_first) {
    tell(signal, *info, context, thread);
  } else {
    put_back(signal);
  }
  errno = error_before;
  // The kernel's own strikes again when the instruction is done again, with all that belongs to it; one that was sent has to be sent.
  if (info->si_code > 0) return;
  ::syscall(SYS_tgkill, ::getpid(), thread, signal);
  if (!is_first) return;  // it comes when this returns
  // The former action let the process live: it ignores the signal, or is a handler that returns. The next death is told, too.
  const struct sigaction action = our_action();
  ::sigaction(signal, &action, nullptr);
  g_dying_thread.store(0);
}

Status install() {
  const struct sigaction action = our_action();
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (::sigaction(kSignals[i], &action, &g_before[i]) != 0) return Status(Code::kIo, std::strerror(errno));
  }
  return Status();
}

// Those that are still ours: whoever came later keeps his place.
void uninstall() noexcept {
  for (size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction present{};
    ::sigaction(kSignals[i], nullptr, &present);
    if ((present.sa_flags & SA_SIGINFO) != 0 && present.sa_sigaction == on_signal)
      ::sigaction(kSignals[i], &g_before[i], nullptr);
  }
}

bool write_start(const Identity& identity) noexcept {
  std::memset(&g_header, 0, sizeof g_header);
  std::memcpy(g_header.magic, kMagic, sizeof kMagic);
  g_header.format = kFormat;
  g_header.pid = static_cast<uint32_t>(g_process);
  g_header.file_bytes = kFileBytes;
  g_header.started_wall_ns = time_ns(CLOCK_REALTIME);
  g_header.started_ns = time_ns(CLOCK_MONOTONIC);
  set_text(g_header.assay, identity.assay);
  set_text(g_header.build, identity.build);
  set_text(g_header.python, identity.python);
  g_header.crc = crc32c(&g_header, offsetof(Header, crc));
  std::memset(&g_crash, 0, sizeof g_crash);
  g_crash.end = static_cast<uint32_t>(End::kRunning);
  set_text(g_crash.runtime, identity.runtime);
  return write_rest() && write_crash() && write_at(reinterpret_cast<const uint8_t*>(&g_header), sizeof g_header, Layout::kHeader);
}

Status find_modules() {
  const std::unique_ptr<FILE, int (*)(FILE*)> maps(std::fopen("/proc/self/maps", "re"), &std::fclose);
  if (maps == nullptr) return Status(Code::kIo, std::string("/proc/self/maps: ") + std::strerror(errno));
  std::memset(g_modules, 0, sizeof g_modules);
  char line[4096];
  size_t count = 0;
  while (count < kModules && std::fgets(line, sizeof line, maps.get()) != nullptr) {
    unsigned long long start = 0, end = 0, offset = 0;
    char mode[5] = {};
    int path_at = 0;
    if (std::sscanf(line, "%llx-%llx %4s %llx %*s %*s %n", &start, &end, mode, &offset, &path_at) != 4) continue;
    if (mode[2] != 'x' || line[path_at] != '/') continue;
    Module& module = g_modules[count++];
    module.start = start, module.end = end, module.file_offset = offset;
    std::string_view path(line + path_at);
    if (!path.empty() && path.back() == '\n') path.remove_suffix(1);
    if (path.size() >= sizeof module.path) path.remove_prefix(path.size() - sizeof module.path + 1);  // the name is at the end
    set_text(module.path, path);
  }
  return Status();
}

}  // namespace

Status open(int file, const Identity& identity) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  ASSAY_ASSERT(g_file < 0);
  static const AltStack of_the_first_thread;  // of the process that opens it, usually the main thread
  void* frame = nullptr;
  ::backtrace(&frame, 1);  // opens the unwinder, which a handler could not
  g_file = file;
  g_process = ::getpid();
  g_models_named = 0;
  std::memset(g_models, 0, sizeof g_models);
  g_errors.clear();
  g_slots.clear();
  for (NamedCounter& counter : g_counters) counter.value.store(nullptr);
  g_dying_thread.store(0);
  Status status = find_modules();
  if (status.ok() && !write_start(identity)) status = Status(Code::kIo, std::strerror(errno));
  if (status.ok()) status = install();
  if (!status.ok()) {
    uninstall();
    g_file = -1;
    return status;
  }
  is_recording.store(true);
  return Status();
}

void close() noexcept {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (g_file < 0) return;
  is_recording.store(false);
  if (::getpid() == g_process) {
    uninstall();
    g_crash.end = static_cast<uint32_t>(End::kClean);
    g_crash.ended_wall_ns = time_ns(CLOCK_REALTIME);
    g_crash.ended_ns = time_ns(CLOCK_MONOTONIC);
    write_crash();
  }
  ::close(g_file);
  g_file = -1;
}

void name_runtime(std::string_view version) noexcept {
  const std::lock_guard<std::mutex> lock(g_mutex);
  set_text(g_crash.runtime, version);
}

uint16_t add_model(std::string_view model, std::string_view version, std::string_view sha256) noexcept {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (!is_open()) return kNoModel;
  const size_t index = g_models_named++ % kModels;
  set_text(g_models[index].model, model);
  set_text(g_models[index].version, version);
  set_text(g_models[index].sha256, sha256);
  return static_cast<uint16_t>(index);
}

Status read_modules() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  return find_modules();
}

bool add_counter(std::string_view name, const std::atomic<uint64_t>& value) noexcept {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (!is_open()) return false;
  for (NamedCounter& counter : g_counters) {
    if (counter.value.load() != nullptr) continue;
    set_text(counter.name, name);
    counter.value.store(&value, std::memory_order_release);
    return true;
  }
  return false;
}

void remove_counter(const std::atomic<uint64_t>& value) noexcept {
  const std::lock_guard<std::mutex> lock(g_mutex);
  for (NamedCounter& counter : g_counters) {
    if (counter.value.load() == &value) counter.value.store(nullptr);
  }
}

void slot_ended(EndedSlot slot) noexcept {
  if (may_record()) g_slots.add(slot);
}

void failed(std::string_view reason, int64_t now_ns, uint16_t model, uint32_t rows) noexcept {
  if (!may_record()) return;
  Failed record{};
  record.now_ns = now_ns;
  set_text(record.reason, reason);
  record.rows = rows;
  record.model = model;
  g_errors.add(record);
}

void note_fatal(const char* condition, const char* file, int line) noexcept {
  if (is_open()) std::snprintf(g_crash.reason, sizeof g_crash.reason, "broken invariant: %s (%s:%d)", condition, file, line);
}

}  // namespace assay::black_box
