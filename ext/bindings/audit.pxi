# The audit log: who writes it, and who reads its segments.

AuditStats = _namedtuple(
    "AuditStats",
    "state bytes next_sequence shipped_sequence unshipped_bytes oldest_unshipped_us recorded dropped ring_dropped "
    "write_failures sync_failures allocation_failures lost_records torn_bytes blocks buffer_bytes buffer_bytes_max is_refusing last_error",
    module="assay._core",
)
AuditBlockPlace = _namedtuple("AuditBlockPlace", "offset end_offset first_sequence end_sequence", module="assay._core")
AuditBlock = _namedtuple("AuditBlock", "first_sequence written_us offset chain records", module="assay._core")

cdef dict _SPOOL_STATES = {
    <int>CSpoolState.kWriting: "writing",
    <int>CSpoolState.kReserve: "reserve",
    <int>CSpoolState.kFull: "full",
}


@cython.final
cdef class AuditLog:
    """Records of scores, on their way to a spool directory. See ext/core/audit/audit_log.h. Engines that use it keep it alive."""

    cdef shared_ptr[CAuditLog] _log
    cdef AuditPolicy _policy
    cdef pid_t _process

    def __cinit__(
        self,
        *,
        directory: str,
        key: bytes,
        level: int,
        bytes_max: int = 1 << 30,
        has_sink: bool = False,
        age_s_max: int = 0,
        inputs: int = 0,
        sample_one_in: int = 100,
        refuses: bool = True,
        full_one_in: int = 100,
        software: str = "",
        threads: bool = True,
    ):
        cdef CSpoolOptions spool_options
        cdef CAuditOptions options
        cdef unique_ptr[CSpoolFiles] files
        cdef unique_ptr[CSpool] spool
        cdef string path = string_of_str(directory)
        cdef Status status
        if len(key) != 32:
            raise ValueError(f"key: expected 32 bytes, not {len(key)}")
        if sample_one_in < 1 or full_one_in < 1:
            raise ValueError("sample_one_in and full_one_in: expected at least 1")
        options.level = <CAuditLevel>enum_number(level, AUDIT_LEVELS, "level")
        options.when_full = CWhenFull.kRefuse if refuses else CWhenFull.kSample
        options.full_one_in = full_one_in
        options.has_thread = threads
        options.inputs = string_of_str(_name_of(AUDIT_INPUTS, inputs, "inputs"))
        options.software = string_of_str(software)
        spool_options.bytes_max = bytes_max
        spool_options.has_sink = has_sink
        spool_options.is_durable = options.level == CAuditLevel.kFsync
        spool_options.age_us_max = <int64_t>age_s_max * 1_000_000
        spool_options.key_id = key_id(view_of_bytes(key))
        self._policy.inputs = <CAuditInputs>inputs
        self._policy.sample_one_in = sample_one_in
        self._policy.key = string(view_of_bytes(key).data(), 32)
        with nogil:
            status = open_disk_files(path, &files)
            if status.ok():
                status = CSpool.open(spool_options, move(files), wall_now_us(), &spool)
        check_status(status)
        self._log = make_shared[CAuditLog](options, move(spool))
        check_status(self._log.get().start())
        self._process = getpid()

    def __dealloc__(self):
        if self._log.get() != NULL and self._process != getpid():
            new shared_ptr[CAuditLog](self._log)   # a fork has the memory but not the thread: the log is never destroyed there
        with nogil:
            self._log.reset()

    def append_record(self, record: bytes) -> bool:
        """An AuditRecord that is nobody's score. False: there was no room."""
        if len(record) > <Py_ssize_t>kAuditRecordBytesMax:
            raise ValueError(f"record: at most {kAuditRecordBytesMax} bytes, not {len(record)}")
        return bool(self._log.get().append_record(view_of_bytes(record)))

    def commit(self, records: list[bytes]) -> bool:
        """Appends them and waits until they are where the level wants them. Releases the GIL. See ext/core/audit/audit_log.h."""
        cdef vector[string] taken
        cdef cbool is_kept
        for record in records:
            if len(record) > <Py_ssize_t>kAuditRecordBytesMax:
                raise ValueError(f"records: at most {kAuditRecordBytesMax} bytes each, not {len(record)}")
            taken.push_back(string(view_of_bytes(record)))
        with nogil:
            is_kept = self._log.get().commit(taken)
        return bool(is_kept)

    @property
    def is_refusing(self) -> bool:
        """Calls are turned away (AUDIT_UNAVAILABLE)."""
        return bool(self._log.get().is_refusing())

    def set_shipped(self, sequence: int) -> None:
        """The sink has everything up to here: its segments may go."""
        self._log.get().set_shipped(sequence)

    def flush(self) -> None:
        """Waits until what was appended before is written. Releases the GIL."""
        with nogil:
            self._log.get().flush()

    def close(self) -> None:
        """Writes what is left, syncs, ends the thread. After the engines have stopped. Releases the GIL. Idempotent."""
        with nogil:
            self._log.get().close()

    def step(self) -> None:
        """Without a thread: writes what has gathered. Tests."""
        with nogil:
            self._log.get().step()

    def stats(self) -> AuditStats:
        cdef CAuditStats stats = self._log.get().stats()
        dropped = {
            drop_name(<CAuditDrop><int>i).decode(): stats.counts.dropped[i] for i in range(<int>CAuditDrop.kCount_)
        }
        return AuditStats(
            _SPOOL_STATES[<int>stats.spool.state], stats.spool.bytes, stats.spool.next_sequence,
            stats.spool.shipped_sequence, stats.spool.unshipped_bytes, stats.spool.oldest_unshipped_us, stats.counts.recorded, dropped,
            stats.counts.ring_dropped, stats.spool.write_failures, stats.spool.sync_failures,
            stats.spool.allocation_failures, stats.spool.lost_records, stats.spool.torn_bytes, stats.blocks, stats.buffer_bytes,
            stats.buffer_bytes_max, bool(stats.is_refusing), str_of_string(stats.last_error),
        )


@cython.final
cdef class AuditSegment:
    """Reads one segment of an audit log, block by block, believing nothing. See ext/core/audit/segment_reader.h."""

    cdef SegmentReader _reader
    cdef bytes _data   # the reader's views are into it

    def __cinit__(self, data: bytes):
        self._data = data
        check_status(Status(SegmentReader.open(view_of_bytes(data), &self._reader)))

    @property
    def first_sequence(self) -> int:
        return self._reader.header().first_sequence

    @property
    def made_us(self) -> int:
        return self._reader.header().made_us

    @property
    def log_id(self) -> bytes:
        return bytes_of_string(bytes_of_array(self._reader.header().log_id))

    @property
    def key_id(self) -> bytes:
        return bytes_of_string(bytes_of_array(self._reader.header().key_id))

    @property
    def chain(self) -> bytes:
        """After the last block that was read."""
        return bytes_of_string(bytes_of_array(self._reader.chain()))

    @property
    def offset(self) -> int:
        """Where the next block begins, or would."""
        return self._reader.offset()

    @property
    def next_sequence(self) -> int:
        return self._reader.next_sequence()

    @property
    def why(self) -> str:
        """After next_block() gave None: OK, or the reason why the next block is not read."""
        return code_info(self._reader.why()).reason.decode()

    def next_block(self, *, checks_chain: bool = True) -> AuditBlock | None:
        cdef CAuditBlock block
        cdef string_view payload, record
        if not self._reader.next(checks_chain, &block):
            return None
        payload = block.payload
        records = []
        while next_audit_record(payload, &record):
            records.append(PyBytes_FromStringAndSize(record.data(), <Py_ssize_t>record.size()))
        chain = bytes_of_string(bytes_of_array(block.chain))
        return AuditBlock(block.first_sequence, block.written_us, block.offset, chain, records)


def find_audit_block(data: bytes, starts_end: int, sequence_min: int, sequence_end: int) -> AuditBlockPlace | None:
    """The first block in `data` that is whole, wherever its chain comes from. See ext/core/audit/segment_reader.h."""
    cdef CAuditBlock block
    cdef string_view view = view_of_bytes(data)
    cdef size_t begin_max = starts_end
    cdef uint64_t first = sequence_min, end = sequence_end
    cdef cbool is_found
    with nogil:
        is_found = find_block(view, begin_max, first, end, &block)
    if not is_found:
        return None
    end_offset = block.offset + audit_block_bytes(block.payload.size())
    return AuditBlockPlace(block.offset, end_offset, block.first_sequence, block.first_sequence + block.record_count)


def tokenised(text: str, key: bytes) -> str:
    """`text` as the audit log writes it: with tokens in place of card numbers."""
    cdef string out
    if not 1 <= len(key) <= 64:
        raise ValueError(f"key: expected 1 to 64 bytes, not {len(key)}")
    append_tokenised(view_of_str(text), view_of_bytes(key), out)
    return str_of_string(out)


def keyed_digest(data: bytes, key: bytes) -> bytes:
    """BLAKE2b-128 of a row and its bits of missing inputs, as the audit log writes it."""
    if not 1 <= len(key) <= 64:
        raise ValueError(f"key: expected 1 to 64 bytes, not {len(key)}")
    return bytes_of_string(bytes_of_array(blake2b_16(view_of_bytes(data), view_of_bytes(key))))


def audit_key_id(key: bytes) -> bytes:
    """What segments call the key by: tells nothing about it."""
    if not 1 <= len(key) <= 64:
        raise ValueError(f"key: expected 1 to 64 bytes, not {len(key)}")
    return bytes_of_string(bytes_of_array(key_id(view_of_bytes(key))))


cdef str _name_of(dict numbers, int number, str what):
    for name, value in numbers.items():
        if value == number:
            return name
    raise ValueError(f"{what}: expected one of {sorted(numbers.values())}, not {number}")
