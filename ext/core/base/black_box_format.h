// The black box's file, version 1. Little-endian; every part stands at a fixed place. server/assay/observe/crash_file.py reads it.
//
//   Header    who wrote it; written at the start                                             0
//   Crash     how it ended; written at the end                                           4,096
//   Model     64 of them                                                                 8,192
//   Module    256: what was loaded where                                                20,480
//   Record    64 errors, then 4,096 slots: rings, by sequence number                    61,440
//
// A crash is whole if the CRCs of Header and Crash are right, and that of the rest (models to slots) is the one in Crash.
#pragma once

#include <cstddef>
#include <cstdint>

namespace assay::black_box {

inline constexpr char kMagic[8] = {'A', 'S', 'S', 'A', 'Y', 'B', 'O', 'X'};
inline constexpr uint32_t kFormat = 1;
inline constexpr size_t kModels = 64;
inline constexpr size_t kModules = 256;
inline constexpr size_t kErrors = 64;
inline constexpr size_t kSlots = 4096;
inline constexpr size_t kFrames = 64;
inline constexpr size_t kCounters = 24;
inline constexpr uint16_t kNoModel = UINT16_MAX;
inline constexpr uint32_t kNotReached = UINT32_MAX;  // in EndedSlot::stamps
inline constexpr int64_t kStampNs = 100;             // their unit

struct Header {
  char magic[8];
  uint32_t format;
  uint32_t pid;
  uint64_t file_bytes;
  int64_t started_wall_ns;  // since 1970
  int64_t started_ns;       // monotonic
  char assay[64];           // texts: UTF-8, cut to fit, the rest zero
  char build[128];
  char python[64];
  uint8_t unused[4096 - 300];
  uint32_t crc;  // of all before it
};
static_assert(sizeof(Header) == 4096);

enum class End : uint32_t {
  kRunning = 1,  // or ended by what no handler hears of: SIGKILL, the power
  kClean = 2,
  kCrashed = 3,
};

struct Counter {
  char name[24];
  uint64_t value;
};

struct Crash {
  uint32_t end;  // End
  uint32_t rest_crc;
  int64_t ended_wall_ns;
  int64_t ended_ns;  // monotonic
  int32_t signal;
  int32_t signal_code;  // siginfo's: above 0 the kernel's own, else somebody sent it
  uint64_t fault_address;
  uint64_t instruction;  // where the thread was
  uint32_t thread;       // its number
  uint32_t sender_pid;   // of a signal that was sent
  char thread_name[16];
  char reason[256];  // of a broken invariant
  char runtime[64];  // ONNX Runtime's version
  uint64_t slots;    // records ever written, and so which are the last
  uint64_t errors;
  uint32_t frame_count;
  uint32_t counter_count;
  uint64_t frames[kFrames];  // return addresses, innermost first; the handler's own come first
  Counter counters[kCounters];
  uint8_t unused[4096 - 1700];
  uint32_t crc;  // of all before it
};
static_assert(sizeof(Crash) == 4096);

struct Model {
  char model[64];
  char version[64];
  char sha256[64];
};

struct Module {
  uint64_t start;
  uint64_t end;
  uint64_t file_offset;  // of `start` in the file
  char path[136];
};
static_assert(sizeof(Module) == 160);

// One row, when its slot is freed. No id and no value of it.
struct EndedSlot {
  int64_t received_ns;  // monotonic; 0: it never was
  uint32_t stamps[7];   // decoded, queued, batched, run started, scored, committed, done: kStampNs after received_ns
  uint32_t generation;  // of its call's first slot
  uint32_t slot;
  uint16_t batch_rows;  // of the run that scored it
  uint16_t model;       // index into the models; kNoModel
  uint8_t outcome;      // Code
  uint8_t kind;
  uint8_t decision;
  uint8_t priority;
  uint8_t is_degraded;
  uint8_t unused;
  uint16_t sequence_low;  // the record's own, written by the box
};

// A failure that was the server's fault: of a row, or of a call as a whole.
struct Failed {
  int64_t now_ns;  // monotonic
  char reason[40];
  uint32_t rows;
  uint16_t model;
  uint16_t sequence_low;
};

// In its ring each of the two stands behind its sequence number, which counts from 1: number n at place (n - 1) % size. A record is
// whole if `sequence_low` is the low 16 bits of that number.
static_assert(sizeof(EndedSlot) == 56 && sizeof(Failed) == 56);
inline constexpr size_t kRecordBytes = 64;

struct Layout {
  static constexpr size_t kHeader = 0;
  static constexpr size_t kCrash = 4096;
  static constexpr size_t kModelTable = 8192;
  static constexpr size_t kModuleTable = kModelTable + kModels * sizeof(Model);
  static constexpr size_t kErrorRing = kModuleTable + kModules * sizeof(Module);
  static constexpr size_t kSlotRing = kErrorRing + kErrors * kRecordBytes;
  static constexpr size_t kEnd = kSlotRing + kSlots * kRecordBytes;
};
static_assert(Layout::kModuleTable == 20'480 && Layout::kErrorRing == 61'440 && Layout::kSlotRing == 65'536);

inline constexpr size_t kFileBytes = Layout::kEnd;
static_assert(kFileBytes == 327'680);

}  // namespace assay::black_box
