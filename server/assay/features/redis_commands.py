"""Many commands to one server at once: all are sent before the first answer is read.

redis-py connects and authenticates; the core sends and receives in one go each, without the GIL; hiredis packs and reads. What a
pipeline of redis-py is for, which packs commands and handles answers in Python and gives the GIL several times on the way. Over
TLS, where only Python has the keys, redis-py's connection does it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis
from redis.connection import DefaultParser

from assay import _core

PUSHED_VALUES_MAX = 64

Command = tuple[str | bytes | int, ...]

_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub knows tuples of one


class AnswersTooLargeError(redis.InvalidResponse):
    pass


class Commands:
    """For one server, on a connection that is theirs meanwhile: answers() once; send() before it where others are to be sent
    before the first answer is read. All raise redis.RedisError, OSError, and others where an answer to redis-py's handshake is
    not Redis's; then the connection is closed, for it may have an answer under way that nobody would read."""

    def __init__(self, client: redis.Redis, commands: Sequence[Command]) -> None:
        """Connects."""
        self._count = len(commands)
        # An answer has no more values than its command has words; and some for pushes, which nobody asked for.
        self._values_max = sum(map(len, commands)) + PUSHED_VALUES_MAX
        self._unsent: bytes | None = b"".join(map(_pack, commands))
        self._pool = client.connection_pool
        self._connection: Any = self._pool.get_connection()
        self._has_tls = isinstance(self._connection._sock, ssl.SSLSocket)

    def send(self, deadline_s: float) -> None:
        try:
            if self._has_tls:
                self._connection.send_packed_command([self._unsent])
            else:
                self._exchange(0, deadline_s)
        except BaseException:
            self._give_up()
            raise
        self._unsent = None

    def answers(self, deadline_s: float) -> list[Any]:
        """What the server says of each command, a redis.ResponseError included."""
        if self._has_tls and self._unsent is not None:
            self.send(deadline_s)
        try:
            found = self._read_tls(deadline_s) if self._has_tls else self._read(deadline_s)
        except BaseException:
            self._give_up()
            raise
        self._pool.release(self._connection)
        return found

    # --- implementation ---

    def _read(self, deadline_s: float) -> list[Any]:
        reader = hiredis.Reader(protocolError=redis.InvalidResponse, replyError=DefaultParser.parse_error)
        reader.feed(self._exchange(self._count, deadline_s))
        found: list[Any] = []
        while len(found) < self._count:
            one = reader.gets()
            if isinstance(one, hiredis.PushNotification):  # which nobody asked for
                continue
            found.append(one)
            # Of the server, not of one command: it is loading, or no longer the primary that a Sentinel named.
            if isinstance(one, Exception) and (isinstance(one, redis.ReadOnlyError) or not isinstance(one, redis.ResponseError)):
                raise one
        if reader.has_data():
            raise redis.InvalidResponse("answers without a question")
        return found

    def _exchange(self, answer_count: int, deadline_s: float) -> bytes:
        try:
            return _core.exchange(self._connection._sock, self._unsent, answer_count, self._values_max, deadline_s)
        except TimeoutError as error:
            raise redis.TimeoutError(str(error)) from None
        except ConnectionError as error:
            raise redis.ConnectionError(str(error)) from None
        except OverflowError as error:
            raise AnswersTooLargeError(str(error)) from None
        except ValueError as error:
            raise redis.InvalidResponse(str(error)) from None

    def _read_tls(self, deadline_s: float) -> list[Any]:
        found = []
        for _ in range(self._count):
            if not self._connection.can_read(max(0.0, deadline_s - time.monotonic())):
                raise redis.TimeoutError("no answer in time")
            try:
                found.append(self._connection.read_response())
            except redis.ReadOnlyError:
                raise
            except redis.ResponseError as error:
                found.append(error)
        return found

    def _give_up(self) -> None:
        self._connection.disconnect()
        self._pool.release(self._connection)


def answers(client: redis.Redis, commands: Sequence[Command], timeout_s: float) -> list[Any]:
    """What the server says of each, a redis.ResponseError included. Raises what Commands raise."""
    return Commands(client, commands).answers(time.monotonic() + timeout_s)
