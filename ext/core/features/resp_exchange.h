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

// The same socket by a number of its own, which is closed with this. So another thread that closes the first one, whose number is
// then given to whatever is opened next, ends an exchange and does not turn it to somebody else.
class OwnSocket {
 public:
  explicit OwnSocket(int socket) noexcept;
  ~OwnSocket();
  OwnSocket(const OwnSocket&) = delete;
  OwnSocket& operator=(const OwnSocket&) = delete;
  int number() const noexcept { return number_; }  // -1: there is none to be had

 private:
  int number_;
};

// `socket`: a connected, non-blocking stream socket without TLS, of nobody else meanwhile. After anything but kDone it must be
// closed. `deadline_ns`: of `clock`; what is there by then is taken, however late it is asked for, and no more than that. Both
// block, on any thread.

// Sends commands. What came before them is kNotResp: nobody asked for it.
ExchangeEnd send_commands(int socket, std::string_view commands, int64_t deadline_ns, const Clock& clock) noexcept;

// Waits for this many answers of at most `values_max` values (RespScanner). `answers`: their bytes, one behind the other; cleared
// first. Throws std::bad_alloc.
ExchangeEnd receive_answers(int socket, size_t answer_count, size_t values_max, int64_t deadline_ns, const Clock& clock,
                            std::string* answers);

}  // namespace assay
