# Commands to a Redis and its answers, over a socket that Python has connected.


def exchange(connection: object, commands: bytes | None, answer_count: int, values_max: int, deadline_s: float) -> bytes:
    """Sends `commands` (None: they were sent before) and waits for this many answers (0: for none) of at most `values_max` values:
    their bytes, one behind the other. See ext/core/features/resp_exchange.h. `deadline_s`: of time.monotonic(). Releases the GIL.

    TimeoutError, ConnectionError, OverflowError, ValueError: the socket must be closed then."""
    # fileno() and this in one go: nobody else can run between them and close the socket.
    cdef unique_ptr[COwnSocket] own = make_unique[COwnSocket](<int>connection.fileno())
    cdef int number = own.get().number()
    cdef size_t count = answer_count, values = values_max
    cdef int64_t deadline_ns = <int64_t>(<double>deadline_s * 1e9)
    cdef string answers
    cdef string_view text
    cdef CExchangeEnd end = CExchangeEnd.kDone
    cdef cbool sends = commands is not None
    if number < 0:
        raise ConnectionError("the connection was closed, or no more files can be opened")
    if sends:
        text = view_of_bytes(commands)
    with nogil:
        if sends:
            end = send_commands(number, text, deadline_ns, CSystemClock.instance())
        if end == CExchangeEnd.kDone and count > 0:
            end = receive_answers(number, count, values, deadline_ns, CSystemClock.instance(), &answers)
    if end == CExchangeEnd.kDone:
        return bytes_of_string(answers)
    if end == CExchangeEnd.kTimeout:
        raise TimeoutError("no answer in time")
    if end == CExchangeEnd.kClosed:
        raise ConnectionError("the server has closed the connection")
    if end == CExchangeEnd.kTooLarge:
        raise OverflowError("the answers are too large")
    raise ValueError("not what Redis answers")
