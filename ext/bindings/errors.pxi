# The only place where the core's codes become Python exceptions, and refusals Python values.

CodeRow = _namedtuple("CodeRow", "number reason grpc_code retry_ms message", module="assay._core")
Refusal = _namedtuple("Refusal", "code grpc_code message rpc_status", module="assay._core")


cdef tuple _code_table():
    cdef int number
    rows = []
    for number in range(<int>Code.kCount_):
        info = code_info(<Code>number)
        rows.append(CodeRow(number, info.reason.decode(), <int>info.grpc, info.retry_ms, info.message.decode()))
    return tuple(rows)


CODE_TABLE = _code_table()


# Not in C++: the core knows no Python. Success costs a branch; only failure takes the GIL.
cdef int check_status(const Status& status) except -1 nogil:
    if status.ok():
        return 0
    with gil:
        raise _error_of(status)


cdef object _error_of(const Status& status):
    cdef const CodeInfo* info = &code_info(status.code)
    message = str_of_string(rpc_message(status, NULL))
    return _CoreError(<int>status.code, info.reason.decode(), <int>info.grpc, message, status.offset)


# For what the bindings themselves check.
cdef object _core_error(Code code, str detail):
    return _error_of(Status(code, string_of_str(detail)))


# From parts that the core has encoded already.
cdef object refusal_of(Code code, const string& message, const string& rpc_status):
    return Refusal(<int>code, <int>code_info(code).grpc, str_of_string(message), bytes_of_string(rpc_status))


cdef object refusal_of_status(const Status& status, const Violations* violations):
    return refusal_of(status.code, rpc_message(status, violations), encode_rpc_status(status, violations))


# The refusal of one transaction: malformed, or a list of violations.
cdef object refusal_of_violations(const Violations& violations):
    return refusal_of_status(Status(Code.kInvalidRequest), &violations)


# (reason, field, description) of each.
cdef tuple violations_of(const vector[Violation]& violations):
    cdef size_t i
    return tuple([
        (
            code_info(violations[i].code).reason.decode(),
            str_of_string(violations[i].field),
            str_of_string(violations[i].description),
        )
        for i in range(violations.size())
    ])


# object.__new__(cls) of a class that only the module makes.
cdef int require_factory(object key, str name, str maker) except -1:
    if key is not _FACTORY:
        raise TypeError(f"{name} is made by {maker}")
    return 0
