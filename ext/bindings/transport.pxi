# The native transport: an HTTP/2 listener whose threads never come here.

TransportStats = _namedtuple("TransportStats", "accepted_connections open_connections open_streams waiting_calls accept_rests denied_calls", module="assay._core")

HAS_NATIVE_TRANSPORT = bool(CNativeTransport.is_built())

# Settings of TransportOptions and how much of them one of Python's unit is: counts and bytes as they are, seconds to nanoseconds.
cdef int _set_option(TransportOptions& options, str name, object value) except -1:
    if name == "io_threads":
        options.io_threads = value
    elif name == "receive_message_bytes_max":
        options.receive_message_bytes_max = value
    elif name == "send_message_bytes_max":
        options.send_message_bytes_max = value
    elif name == "metadata_bytes_max":
        options.metadata_bytes_max = value
    elif name == "connection_streams_max":
        options.connection_streams_max = value
    elif name == "streams_max":
        options.streams_max = value
    elif name == "stream_messages_max":
        options.stream_messages_max = value
    elif name == "stream_age_s_max":
        options.stream_age_ns_max = int(value * 1e9)
    elif name == "connections_max":
        options.connections_max = value
    elif name == "forwarded_streams_max":
        options.forwarded_streams_max = value
    elif name == "ping_interval_s_min":
        options.ping_interval_ns_min = int(value * 1e9)
    elif name == "keepalive_s":
        options.keepalive_ns = int(value * 1e9)
    elif name == "keepalive_timeout_s":
        options.keepalive_timeout_ns = int(value * 1e9)
    elif name == "idle_s_max":
        options.idle_ns_max = int(value * 1e9)
    elif name == "age_s_max":
        options.age_ns_max = int(value * 1e9)
    elif name == "age_grace_s":
        options.age_grace_ns = int(value * 1e9)
    elif name == "handshake_s_max":
        options.handshake_ns_max = int(value * 1e9)
    elif name == "request_s_max":
        options.request_ns_max = int(value * 1e9)
    elif name == "test_only_methods":
        for method in value:
            options.test_only_methods.push_back(string_of_str(method))
    else:
        raise TypeError(f"NativeTransport: no option {name!r}")
    return 0


@cython.final
@cython.no_gc_clear
cdef class NativeTransport:
    """One port of the whole service. See ext/core/transport/native_transport.h."""

    cdef Engine _engine  # its threads submit to it
    cdef unique_ptr[CNativeTransport] _transport
    cdef pid_t _process

    def __cinit__(self, engine: Engine, forward_path: str, **options):
        cdef TransportOptions given
        given.forward_path = string_of_str(forward_path)
        for name, value in options.items():
            _set_option(given, name, value)
        if not 1 <= given.io_threads <= 16:
            raise ValueError(f"io_threads: expected 1..16, not {given.io_threads}")
        self._engine = engine
        self._transport.reset(new CNativeTransport(dereference(engine._engine), dereference(engine._clock), given))
        self._process = getpid()

    def __dealloc__(self):
        if self._transport.get() != NULL and self._process != getpid():
            self._transport.release()   # as Engine: a fork has no threads to end
        with nogil:
            self._transport.reset()

    def start(self, fd: int) -> None:
        """Takes connections from the listening socket `fd`, and owns it. Once."""
        cdef int descriptor = fd
        cdef Status status
        with nogil:
            status = self._transport.get().start(descriptor)
        check_status(status)

    def protect(self, certificate: bytes, key: bytes, client_authorities: bytes | None, roles: Mapping[str, int] | None) -> None:
        """TLS with these PEM texts; with `client_authorities` mTLS, and `roles` says what each principal may do."""
        cdef TransportPem pem
        cdef vector[pair[string, uint8_t]] rows
        cdef pair[string, uint8_t] row
        if (client_authorities is None) != (roles is None):
            raise ValueError("client_authorities and roles: expected both or neither")
        pem.certificate = certificate
        pem.key = key
        if client_authorities is not None:
            pem.client_authorities = client_authorities
            for principal, sum_of_roles in roles.items():
                row.first = string_of_str(principal)
                row.second = sum_of_roles
                rows.push_back(row)
        check_status(self._transport.get().protect(pem, &rows if roles is not None else NULL))

    def drain_denials(self) -> list[tuple[str, bytes, bytes]]:
        """(reason, method, principal) of calls that the policy refused since the last time: the first of them, where there were many."""
        cdef vector[CDeniedCall] denials = self._transport.get().drain_denials()
        cdef size_t i
        return [
            (code_info(denials[i].code).reason.decode(), bytes_of_string(denials[i].method), bytes_of_string(denials[i].principal))
            for i in range(denials.size())
        ]

    def drain(self, grace_s: float) -> None:
        """No more connections; those there are asked to go, and cut after `grace_s`. Returns at once."""
        self._transport.get().drain(int(grace_s * 1e9))

    def wait_closed(self, timeout_s: float) -> bool:
        """Whether no connection is open any more. Releases the GIL."""
        cdef int64_t timeout_ns = int(timeout_s * 1e9)
        cdef cbool is_closed
        with nogil:
            is_closed = self._transport.get().wait_closed(timeout_ns)
        return bool(is_closed)

    def stop(self) -> None:
        """Cuts what is open, ends the threads. Idempotent. Releases the GIL."""
        with nogil:
            self._transport.get().stop()

    def stats(self) -> TransportStats:
        cdef CTransportStats stats = self._transport.get().stats()
        denied = {row.reason: stats.denied_calls[row.number] for row in CODE_TABLE if stats.denied_calls[row.number]}
        return TransportStats(
            stats.accepted_connections, stats.open_connections, stats.open_streams, stats.waiting_calls, stats.accept_rests, denied
        )
