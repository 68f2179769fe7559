// The black box: what the server did last, in memory, and in a file when the process dies by a fault.
//
// WHAT. The last 4,096 slots that ended (times, outcome, batch; no id, no value), the last 64 errors that were the server's fault,
// counters, versions, loaded libraries. On SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT (so on a broken invariant and on
// std::terminate) the handler adds the signal, the thread and its stack, writes all of it, puts the former action back and lets the
// signal strike again: exit status and core dump are what they were without it, and Python's faulthandler still has its say. Where the
// former action lets the process live (a signal that was sent, and is ignored or handled), it lives, and its next death is told, too.
//
// WHERE. A file whose blocks were allocated before (posix_fallocate, by whoever opens it): writing needs no free space. Nothing is
// written to it between start and death: no disk can slow a score down. black_box_format.h has the layout.
//
// COST. One relaxed load while it is closed; one atomic addition and eight stores a slot while it is open.
//
// THE HANDLER calls nothing but system calls, memcpy, CRC-32C and backtrace(). POSIX does not name backtrace() async-signal-safe; glibc's is
// after a first call, which opens its unwinder: open() makes that call. Everything else is in the file before it is asked, and if it has
// not come back after two seconds the process dies without it.
//
// One a process. THREADS: record functions any; open() and close() one at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "core/base/black_box_format.h"
#include "core/base/status.h"

namespace assay::black_box {

struct Identity {
  std::string_view assay;    // version
  std::string_view build;    // compiler and flags
  std::string_view python;   // version
  std::string_view runtime;  // ONNX Runtime's version; may be told later
};

// Starts to record, and installs the handlers. `file`: open for writing, kFileBytes of allocated blocks; it is the box's from here
// on if kOk comes back. kIo. REQUIRES: not open.
Status open(int file, const Identity& identity);
// Says in the file that the process ended as it should, gives the handlers back and closes the file. Idempotent.
void close() noexcept;

// Whether anything is recorded. A caller that has work to do for a record asks first.
extern std::atomic<bool> is_recording;
inline bool is_open() noexcept { return is_recording.load(std::memory_order_relaxed); }

// --- what stands in the box beside the rings. Cold
void name_runtime(std::string_view version) noexcept;
// Returns the model's number for records; the oldest of kModels gives way. kNoModel while closed.
uint16_t add_model(std::string_view model, std::string_view version, std::string_view sha256) noexcept;
// Looks at the libraries that are loaded now. kIo.
Status read_modules();
// `value` is read at death. False: there are kCounters already. It must be taken out before it goes.
bool add_counter(std::string_view name, const std::atomic<uint64_t>& value) noexcept;
void remove_counter(const std::atomic<uint64_t>& value) noexcept;

// --- records. Any thread, never wait
void slot_ended(EndedSlot slot) noexcept;
void failed(std::string_view reason, int64_t now_ns, uint16_t model, uint32_t rows) noexcept;
// The reason of the death that follows: a broken invariant's own words.
void note_fatal(const char* condition, const char* file, int line) noexcept;

}  // namespace assay::black_box
