"""What the core takes for the end of a Redis's answers, against hiredis, which reads them: on right ones and on damaged ones."""

from __future__ import annotations

import socket
import time
from typing import Any

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from assay import _core

SIMPLE = st.one_of(
    st.binary(max_size=40).map(lambda text: b"$%d\r\n%s\r\n" % (len(text), text)),
    st.integers(-(2**62), 2**62).map(lambda number: b":%d\r\n" % number),
    st.sampled_from(
        [b"_\r\n", b"$-1\r\n", b"*-1\r\n", b"+OK\r\n", b"-MOVED 7 other:1\r\n", b"#t\r\n", b",1.5\r\n", b"(12345\r\n"]
    ),
)
ANSWER = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: b"*%d\r\n%s" % (len(items), b"".join(items))),
        st.lists(st.tuples(SIMPLE, inner), max_size=3).map(
            lambda pairs: b"%%%d\r\n%s" % (len(pairs), b"".join(key + value for key, value in pairs))
        ),
    ),
    max_leaves=12,
)
PUSH = st.sampled_from([b"", b"", b">2\r\n+MOVING\r\n:1\r\n", b">0\r\n"])
MORE = object()


def exchanged(data: bytes, count: int) -> bytes | None:
    """None: refused."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        try:
            return _core.exchange(ours, None, count, 1_000, time.monotonic() + 10)
        except (ConnectionError, OverflowError, ValueError):
            return None


def read_all(data: bytes) -> list[Any]:
    """By hiredis: answers, pushes left out, and at the end MORE if something is cut there."""
    reader = hiredis.Reader(notEnoughData=MORE)
    reader.feed(data)
    found = []
    while (one := reader.gets()) is not MORE:
        if not isinstance(one, hiredis.PushNotification):
            found.append(one)
    return [*found, MORE] if reader.has_data() else found


@given(st.lists(st.tuples(PUSH, ANSWER), min_size=1, max_size=4))
def test_answers_are_brought_whole(parts: list[tuple[bytes, bytes]]) -> None:
    data = b"".join(push + answer for push, answer in parts)
    assert exchanged(data, len(parts)) == data
    assert len(read_all(data)) == len(parts)
    assert exchanged(data[:-1], len(parts)) is None
    assert exchanged(data + b":1\r\n", len(parts)) is None


@given(st.lists(ANSWER, min_size=1, max_size=3), st.data())
def test_damage_never_leaves_an_answer_open(parts: list[bytes], data: st.DataObject) -> None:
    """What the core takes for whole, hiredis does not wait for more of. Whether it is what was asked for, others see."""
    damaged = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.sampled_from(b"+-:_#,($=!*~%>0129\r\nx"))
    found = exchanged(bytes(damaged), len(parts))
    if found is None:
        return
    assert found == bytes(damaged)
    try:
        answers = read_all(found)
    except hiredis.ProtocolError:  # such as a number that is none
        return
    assert MORE not in answers
    assert len(answers) == len(parts)
