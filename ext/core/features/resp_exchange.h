// An exchange with a Redis over a connected socket: commands out, answers in, without the GIL. By sockets of Python a look-up
// gives the GIL and takes it again seven times, and each time may cost a switch of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/clock.h"

namespace assay {

enum class ExchangeEnd : uint8_t {
  kDone,      // all answers are there
  kTimeout,   // not before the deadline
  kClosed,    // the other side has closed the connection, or it broke
  kNotResp,   // what came is no answer of a Redis, or nobody asked for it
  kTooLarge,  // the answers pass RespScanner's limits
};

// `socket`: a connected, non-blocking stream socket without TLS, of nobody else meanwhile. After anything but kDone it must be
// closed. `deadline_ns`: of `clock`; what is there by then is taken, however late it is asked for. Both block, on any thread.

// Sends commands. What came before them is kNotResp: nobody asked for it.
ExchangeEnd send_commands(int socket, std::string_view commands, int64_t deadline_ns, const Clock& clock) noexcept;

// Waits for this many answers. `answers`: their bytes, one behind the other; cleared first. Throws std::bad_alloc.
ExchangeEnd receive_answers(int socket, size_t answer_count, int64_t deadline_ns, const Clock& clock, std::string* answers);

}  // namespace assay
