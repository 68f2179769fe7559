# The native transport: an HTTP/2 listener whose threads never come here.

TransportStats = _namedtuple(
    "TransportStats",
    "accepted_connections open_connections closed_connections lingering_sockets cut_sockets open_streams open_forwarded_calls "
    "waiting_calls held_bytes accept_rests denied_calls",
    module="assay._core",
)

HAS_NATIVE_TRANSPORT = bool(CNativeTransport.is_built())


cdef inline int64_t _ns(object seconds) except? -1:
    return int(seconds * 1e9)


@cython.final
@cython.no_gc_clear
cdef class NativeTransport:
    """One port of the whole service. See ext/core/transport/native_transport.h."""

    cdef Engine _engine  # its threads submit to it
    cdef unique_ptr[CNativeTransport] _transport
    cdef pid_t _process

    def __cinit__(
        self,
        engine: Engine,
        forward_path: str,
        *,
        io_threads: int = 1,
        receive_message_bytes_max: int = 4 << 20,
        send_message_bytes_max: int = 16 << 20,
        metadata_bytes_max: int = 16 << 10,
        connections_max: int = 10_000,
        connection_streams_max: int = 1000,
        forwarded_streams_max: int = 128,
        streams_max: int = 256,
        stream_messages_max: int = 64,
        held_bytes_max: int = 256 << 20,
        stream_age_s_max: float = 540.0,
        handshake_s_max: float = 10.0,
        request_s_max: float = 60.0,
        ping_interval_s_min: float = 10.0,
        keepalive_s: float = 60.0,
        keepalive_timeout_s: float = 20.0,
        idle_s_max: float = 300.0,
        age_s_max: float = 600.0,
        age_grace_s: float = 600.0,
        test_only_methods: Sequence[str] = (),
    ):
        cdef TransportOptions given
        given.forward_path = string_of_str(forward_path)
        given.io_threads = io_threads
        given.receive_message_bytes_max = receive_message_bytes_max
        given.send_message_bytes_max = send_message_bytes_max
        given.metadata_bytes_max = metadata_bytes_max
        given.connections_max = connections_max
        given.connection_streams_max = connection_streams_max
        given.forwarded_streams_max = forwarded_streams_max
        given.streams_max = streams_max
        given.stream_messages_max = stream_messages_max
        given.held_bytes_max = held_bytes_max
        given.stream_age_ns_max = _ns(stream_age_s_max)
        given.handshake_ns_max = _ns(handshake_s_max)
        given.request_ns_max = _ns(request_s_max)
        given.ping_interval_ns_min = _ns(ping_interval_s_min)
        given.keepalive_ns = _ns(keepalive_s)
        given.keepalive_timeout_ns = _ns(keepalive_timeout_s)
        given.idle_ns_max = _ns(idle_s_max)
        given.age_ns_max = _ns(age_s_max)
        given.age_grace_ns = _ns(age_grace_s)
        for method in test_only_methods:
            given.test_only_methods.push_back(string_of_str(method))
        if not 1 <= given.io_threads <= 64:
            raise ValueError(f"io_threads: expected 1..64, not {given.io_threads}")
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
        closed = {kCloseReasonNames[i].decode(): stats.closed_connections[i] for i in range(kCloseReasonCount)}
        return TransportStats(
            stats.accepted_connections, stats.open_connections, closed, stats.lingering_sockets, stats.cut_sockets,
            stats.open_streams, stats.open_forwarded_calls, stats.waiting_calls, stats.held_bytes, stats.accept_rests, denied,
        )
