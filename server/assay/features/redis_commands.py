"""Many commands to one server at once: all are sent before the first answer is read.

What a pipeline of redis-py is for. That one packs commands and handles answers in Python, which was half of the time of a write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import hiredis
import redis

Command = tuple[str | bytes | int, ...]

_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub knows tuples of one


class Commands:
    """On their way to one server, on a connection that is theirs meanwhile: sent when it is made, then read() once for each
    command, then close(). After any error but one of read() that is a redis.ResponseError: give_up()."""

    def __init__(self, client: redis.Redis, commands: Iterable[Command]) -> None:
        """Raises redis.RedisError, OSError, and others where an answer to redis-py's handshake is not Redis's."""
        self._pool = client.connection_pool
        self._connection: Any = self._pool.get_connection()
        try:
            self._connection.send_packed_command([b"".join(map(_pack, commands))])  # type: ignore[no-untyped-call]
        except BaseException:
            self.give_up()
            raise

    def read(self, deadline_s: float) -> Any:
        """The next answer. Raises redis.ResponseError where that is what the server says of this command alone, and what
        redis-py makes of an answer that is not Redis's."""
        if not self._connection.can_read(max(0.0, deadline_s - time.monotonic())):
            raise redis.TimeoutError("no answer in time")
        return self._connection.read_response()

    def close(self) -> None:
        """All answers have been read."""
        connection, self._connection = self._connection, None
        self._pool.release(connection)

    def give_up(self) -> None:
        """The connection may have an answer under way that nobody would read: it is closed. Idempotent."""
        if self._connection is not None:
            self._connection.disconnect()
            self.close()


def answers(client: redis.Redis, commands: Sequence[Command], timeout_s: float) -> list[Any]:
    """What the server says of each, a redis.ResponseError included. Raises what Commands raise."""
    under_way = Commands(client, commands)
    deadline_s = time.monotonic() + timeout_s
    found: list[Any] = []
    try:
        for _ in commands:
            try:
                found.append(under_way.read(deadline_s))
            except redis.ResponseError as error:
                found.append(error)
    except BaseException:
        under_way.give_up()
        raise
    under_way.close()
    return found
