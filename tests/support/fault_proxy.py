"""A TCP proxy on loopback that does to answers what networks and broken servers do: late, cut, reset, never, half, garbled."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import socket
import struct
import threading
from collections.abc import Iterator

WAIT_S = 20.0
CHUNK_BYTES = 65_536


class Fault(enum.Enum):
    NONE = "answers pass"
    DELAY = "answers come DELAY_S late"
    CUT = "connections are closed, also new ones"
    RESET = "connections are reset, also new ones"
    HALF_OPEN = "connections stand, nothing comes back"
    TRUNCATE = "half of an answer, then the connection is closed"
    GARBLE = "a byte of each answer is another"


DELAY_S = 0.05


class FaultProxy:
    """Passes bytes to 127.0.0.1:`port` and back. `fault` may be set at any moment, and counts for answers from then on."""

    def __init__(self, port: int, seed: int = 0) -> None:
        self.fault = Fault.NONE
        self._behind = port
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._thread.start()

    def set(self, fault: Fault) -> None:
        """From now on. CUT and RESET end the connections there are."""
        self.fault = fault
        if fault in (Fault.CUT, Fault.RESET):
            asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result(WAIT_S)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._listener.close()

    # --- on the proxy's thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault in (Fault.CUT, Fault.RESET):
            return self._end(writer)
        with contextlib.suppress(OSError):
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
            self._writers |= {writer, behind_writer}
            try:
                await asyncio.gather(self._ask(reader, behind_writer), self._answer(behind_reader, writer))
            finally:
                self._writers -= {writer, behind_writer}
                self._end(behind_writer)
        self._end(writer)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            fault = self.fault
            if fault is Fault.DELAY:
                await asyncio.sleep(DELAY_S)
            if fault is Fault.HALF_OPEN:
                continue
            if fault is Fault.GARBLE:
                data = self._garbled(data)
            writer.write(data[: len(data) // 2] if fault is Fault.TRUNCATE else data)
            await writer.drain()
            if fault is Fault.TRUNCATE:
                break
        writer.close()

    def _garbled(self, data: bytes) -> bytes:
        place = self._random.randrange(len(data))
        return data[:place] + bytes([data[place] ^ self._random.randrange(1, 256)]) + data[place + 1 :]

    def _end(self, writer: asyncio.StreamWriter) -> None:
        if self.fault is Fault.RESET:
            connection = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async def _end_all(self) -> None:
        for writer in list(self._writers):
            self._end(writer)


@contextlib.contextmanager
def fault_proxy(port: int, seed: int = 0) -> Iterator[FaultProxy]:
    proxy = FaultProxy(port, seed)
    try:
        yield proxy
    finally:
        proxy.close()
