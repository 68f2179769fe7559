# The policy table and its one question. There is no second copy in Python.

PolicyRow = _namedtuple("PolicyRow", "method listeners roles", module="assay._core")

LISTENERS = {
    "public": <int>Listener.kPublic,
    "admin": <int>Listener.kAdmin,
    "health": <int>Listener.kHealth,
}

ROLES = {
    "score": <int>Role.kScore,
    "read": <int>Role.kRead,
    "write": <int>Role.kWrite,
    "admin": <int>Role.kAdmin,
    "anyone": <int>Role.kAnyone,
}


cdef object _policy_row(const CPolicyRow& row):
    return PolicyRow(str_of_view(row.method), <int>row.listeners, <int>row.roles)


POLICY_TABLE = tuple([_policy_row(policy_row(index)) for index in range(policy_row_count())])

_CALLER_ROLES = sum(ROLES.values()) - ROLES["anyone"]


def check_access(listener: int, method: str, *, needs_certificate: bool, has_certificate: bool, roles: int) -> int:
    """Whether a call may be answered: OK's number, or that of the code which says why not."""
    cdef Caller caller
    cdef Listener where = <Listener>enum_number(listener, LISTENERS, "listener")
    if roles & ~_CALLER_ROLES:
        raise ValueError(f"roles: expected a sum of {ROLES} without anyone, not {roles}")
    caller.needs_certificate = needs_certificate
    caller.has_certificate = has_certificate
    caller.roles = roles
    return <int>c_check_access(where, view_of_str(method), caller)
