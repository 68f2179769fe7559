"""One question to several Redis servers at once: all are asked before the first answer is read, so it takes as long as the
slowest of them.

One server is asked with MGET; the nodes of a cluster with a pipeline of GETs each, because MGET wants all its keys in one slot;
those who write, with GETRANGE, which also tells a key that holds no string, and of one that is too long gives no more than shows
that. A key whose slot has moved is asked for once more, where its node says.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import AskError, ClusterError, MovedError

from assay.features.redis_commands import Command, Commands
from assay.features.redis_errors import is_wrong_type
from assay.features.redis_servers import Part, RedisServers, address_of, name_of
from assay.store_url import Address

RECORD_BYTES_MAX: Final = 4 << 20  # no view's record is as long


@dataclass
class Answer:
    """What became of one part: a record or None for each of its keys, or why there is none. `waited_s`: for this answer alone."""

    part: Part
    records: list[bytes | redis.ResponseError | None]
    error: Exception | None = None
    waited_s: float = 0.0


class Way(enum.Enum):
    """How a server is asked for records."""

    MGET = "MGET"
    GET = "GET"
    GETRANGE = "GETRANGE"


def ask(servers: RedisServers, parts: Sequence[Part], timeout_s: float, *, to_write: bool = False) -> list[Answer]:
    """One answer a part, in order, in about `timeout_s` at most (connecting takes its own time). Never raises. `to_write`: a key
    that holds no string has a redis.ResponseError (is_wrong_type) for a record, else None as if there were none."""
    way = Way.GETRANGE if to_write else Way.GET if servers.is_cluster else Way.MGET
    questions = [_Question(part, timeout_s, way) for part in parts]
    deadline_s = time.monotonic() + timeout_s  # now that all are connected: else one that is far is never asked
    answers = [question.answer(deadline_s) for question in questions]
    if servers.is_cluster:
        _follow(servers, answers, way, deadline_s)
    return answers


class _Question:
    """One part on its way: sent when it is made (MGET, which is alone, with the wait for its answer); answer() once."""

    def __init__(self, part: Part, timeout_s: float, way: Way, *, says_asking: bool = False) -> None:
        self._part = part
        self._way = way
        self._says_asking = says_asking
        self._sent: Commands | None = None
        self._error: Exception | None = None
        try:
            if part.client is None:
                raise ClusterError("no server has these slots")
            commands = Commands(part.client, self._commands())
            if way is not Way.MGET:
                commands.send(time.monotonic() + timeout_s)
            self._sent = commands
        except Exception as error:  # redis-py raises others too where an answer to its handshake is not Redis's
            self._error = error

    def answer(self, deadline_s: float) -> Answer:
        if self._sent is None:
            return Answer(self._part, [], self._error)
        started_s = time.monotonic()
        try:
            records = self._records(self._sent.answers(deadline_s))
        except Exception as error:
            return Answer(self._part, [], error, time.monotonic() - started_s)
        return Answer(self._part, records, None, time.monotonic() - started_s)

    # --- implementation ---

    def _commands(self) -> list[Command]:
        if self._way is Way.MGET:
            return [("MGET", *self._part.keys)]
        whole: Command = () if self._way is Way.GET else (0, RECORD_BYTES_MAX)  # the last byte of this range is one too many
        asks: list[Command] = [(self._way.value, key, *whole) for key in self._part.keys]
        return [command for one in asks for command in (("ASKING",), one)] if self._says_asking else asks

    def _records(self, said: list[Any]) -> list[bytes | redis.ResponseError | None]:
        """Raises redis.RedisError: of the whole question, or because it is not what Redis answers."""
        allowed: tuple[type, ...] = (bytes, type(None))
        if self._way is Way.MGET:
            (found,) = said
            if isinstance(found, Exception):
                raise found
        else:
            found = said[1::2] if self._says_asking else said
            allowed = (*allowed, redis.ResponseError)  # of this key alone
        if not isinstance(found, list) or len(found) != len(self._part.keys):
            raise redis.InvalidResponse("not as many records as keys")
        if self._way is Way.GET:
            found = [None if is_wrong_type(one) else one for one in found]  # as MGET has it
        elif self._way is Way.GETRANGE:
            found = [one or None for one in found]
        if not all(isinstance(one, allowed) for one in found):
            raise redis.InvalidResponse("not what Redis answers")
        return found


def _follow(servers: RedisServers, answers: Sequence[Answer], way: Way, deadline_s: float) -> None:
    """Asks for the keys of slots that are elsewhere, or on their way there, once more."""
    where: dict[tuple[Address, bool], list[tuple[Answer, int]]] = {}
    for answer in answers:
        for place, record in enumerate(answer.records):
            if isinstance(record, AskError):  # MovedError is one
                address = address_of(record, answer.part)
                where.setdefault((address, not isinstance(record, MovedError)), []).append((answer, place))
                if isinstance(record, MovedError):
                    servers.forget_slots()
    questions = []
    for (address, is_asking), wanted in where.items():
        if time.monotonic() >= deadline_s:  # to connect takes time of its own
            break
        try:
            client = servers.at(address)
        except redis.RedisError:  # one more node than there may be
            continue
        keys = [answer.part.keys[place] for answer, place in wanted]
        left_s = deadline_s - time.monotonic()
        questions.append((_Question(Part(name_of(address), client, keys, []), left_s, way, says_asking=is_asking), wanted))
    for question, wanted in questions:
        again = question.answer(deadline_s)
        for index, (answer, place) in enumerate(wanted):
            if again.error is None:
                answer.records[place] = again.records[index]
