"""Who may call what: one question to the core's policy for each caller and method, and what happens when the answer is no.

A listener without client certificates knows nobody: its handlers stand as they are and pay nothing. With client certificates
(mTLS) each call is asked for: the certificate's principals, their roles, the core's answer, which is remembered by certificate.
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import grpc

from assay._core import CODE_TABLE, ROLES, Engine, Refusal, check_access, printable
from assay.observe.logs import log_event
from assay.transport.policy import Listener
from assay.transport.principals import certificate_of, expires_at_s, principals_of
from assay.transport.proved_files import ProvedFiles
from assay.transport.roles import Roles
from assay.transport.status import abort

if TYPE_CHECKING:
    from assay.transport.grpc_types import Context, Handler

ANSWERS_MAX = 4096  # remembered, of one listener; then it starts anew
CERTIFICATE_BYTES_MAX = 8192  # a longer one is asked for at each call
LOG_LINES_MAX = 10  # of refusals, in each interval: a flood must not fill a disk
LOG_INTERVAL_S = 10.0

log = logging.getLogger("assay")

_OK = 0


class Denials:
    """Counts every refused call by its reason, and logs some of each listener's. On the event loop's thread only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._clock = clock
        # One a listener: who floods the health port must not hide what happens at the admin port.
        self._lines: dict[Listener, _Lines] = {}

    def record(self, listener: Listener, method: str, principal: str, reason: str) -> None:
        """`method` and `principal` as they came: they are made safe to show here."""
        self.counts[reason] += 1
        self.tell(listener, method, principal, reason)

    def tell(self, listener: Listener, method: str, principal: str, reason: str) -> None:
        """Only logs: of a call that somebody else counts."""
        unlogged = self._lines.setdefault(listener, _Lines()).take(self._clock())
        if unlogged is not None:
            log_event(
                log,
                logging.WARNING,
                "denied",
                listener=(listener.name or "").lower(),
                method=_shown(method),
                principal=_shown(principal) or "-",
                reason=reason,
                not_logged_before=unlogged,
            )


class Access:
    """The door of one listener. `roles`: what certificates may do; None: the listener asks for none."""

    def __init__(
        self,
        listener: Listener,
        engine: Engine,
        denials: Denials,
        roles: ProvedFiles[Roles] | None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._listener = listener
        self._now_s = now_s
        self._engine = engine
        self._denials = denials
        self._roles = roles
        self._answers: dict[tuple[str, bytes], _Answer] = {}
        self._answers_roles: Roles | None = None  # what the answers were made with

    def guard(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """The handlers, behind the door. Without client certificates: as they are."""
        if self._roles is None:
            return dict(handlers)
        return {method: _guarded(handler, self._check_of(method)) for method, handler in handlers.items()}

    def refusing(self, method: str) -> Handler:
        """A handler for a method that nothing answers here: it says so with the core's reason."""

        async def refuse(_: Any, context: Context) -> NoReturn:
            answer = self._ask(method, context.auth_context() or {})
            # A row without a handler (reflection that is switched off): the table says yes, but there is nobody.
            refusal = answer.refusal or self._engine.refuse("UNKNOWN_METHOD")
            self._denials.record(self._listener, method, answer.principal, CODE_TABLE[refusal.code].reason)
            await abort(context, refusal)

        return grpc.stream_stream_rpc_method_handler(refuse)

    # --- implementation ---

    def _check_of(self, method: str) -> _Check:
        def check(context: Context) -> Refusal | None:
            auth: Mapping[str, Any] = context.auth_context() or {}
            answer = self._answer(method, auth)
            refusal = answer.refusal
            if refusal is None and self._now_s() >= answer.expires_at_s:
                refusal = self._engine.refuse("MISSING_CERTIFICATE", "it has expired since it was shown; connect with a new one")
            if refusal is not None:
                self._denials.record(self._listener, method, answer.principal, CODE_TABLE[refusal.code].reason)
            return refusal

        return check

    def _answer(self, method: str, auth: Mapping[str, Any]) -> _Answer:
        """_ask(), remembered for as long as the roles stay the same."""
        roles = self._roles.value if self._roles is not None else None
        if roles is not self._answers_roles:
            self._answers, self._answers_roles = {}, roles
        key = (method, certificate_of(auth))
        answer = self._answers.get(key)
        if answer is None:
            answer = self._ask(method, auth)
            if len(self._answers) >= ANSWERS_MAX:
                self._answers.clear()
            if len(key[1]) <= CERTIFICATE_BYTES_MAX:
                self._answers[key] = answer
        return answer

    def _ask(self, method: str, auth: Mapping[str, Any]) -> _Answer:
        principals = principals_of(auth)
        granted = self._roles.value if self._roles is not None else {}
        roles = 0
        for principal in principals:
            roles |= granted.get(principal, 0)
        code = check_access(
            self._listener.value,
            method,
            needs_certificate=self._roles is not None,
            has_certificate=bool(certificate_of(auth)),
            roles=roles,
        )
        named = principals[0] if principals else ""
        certificate = certificate_of(auth)
        return _Answer(self._refusal(code, named, roles), named, expires_at_s(certificate) if certificate else math.inf)

    def _refusal(self, code: int, principal: str, roles: int) -> Refusal | None:
        if code == _OK:
            return None
        reason = CODE_TABLE[code].reason
        if reason != "MISSING_ROLE":
            return self._engine.refuse(reason)
        has = ", ".join(name for name, bit in ROLES.items() if roles & bit) or "none"
        return self._engine.refuse(reason, f"principal {_shown(principal) or 'without a name'}; its roles: {has}")


# --- implementation ---


class _Lines:
    """How many lines may still be written: LOG_LINES_MAX in each LOG_INTERVAL_S."""

    def __init__(self) -> None:
        self._interval_ends_s = 0.0
        self._taken_count = 0
        self._refused_count = 0

    def take(self, now_s: float) -> int | None:
        """Takes one line: how many were refused since the last one that was taken. None: there is none left."""
        if now_s >= self._interval_ends_s:
            self._interval_ends_s, self._taken_count = now_s + LOG_INTERVAL_S, 0
        if self._taken_count >= LOG_LINES_MAX:
            self._refused_count += 1
            return None
        self._taken_count += 1
        refused, self._refused_count = self._refused_count, 0
        return refused


class _Answer(NamedTuple):
    refusal: Refusal | None
    principal: str  # for the log
    expires_at_s: float  # of the certificate


_Check = Callable[["Context"], Refusal | None]


def _guarded(handler: Handler, check: _Check) -> Handler:
    """The same handler, run only where `check` finds nothing against it."""
    kinds = (
        (grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler),
        (grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler),
    )
    inner: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    make: Any = kinds[handler.request_streaming][handler.response_streaming]
    guarded = _guarded_generator(inner, check) if inspect.isasyncgenfunction(inner) else _guarded_call(inner, check)
    made: Handler = make(guarded, handler.request_deserializer, handler.response_serializer)
    return made


def _guarded_call(inner: Any, check: _Check) -> Any:
    async def call(request: Any, context: Context) -> Any:
        refusal = check(context)
        if refusal is not None:
            await abort(context, refusal)
        return await inner(request, context)

    return call


def _guarded_generator(inner: Any, check: _Check) -> Any:
    async def generate(request: Any, context: Context) -> Any:
        refusal = check(context)
        if refusal is not None:
            await abort(context, refusal)
        async with aclosing(inner(request, context)) as answers:
            async for answer in answers:
                yield answer

    return generate


def _shown(text: str) -> str:
    return printable(text.encode(errors="replace"))
