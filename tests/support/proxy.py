"""FaultProxy: a TCP proxy on loopback between clients and a broker that can be told to misbehave.

It runs on an event loop in a thread of its own. A mode holds for every connection from the moment it is
set, for those that are open too, until the next one is.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
import threading
from contextlib import suppress

CHUNK_BYTES = 65_536
DELAY_S = 0.1
TRICKLE_BYTES = 16
TRICKLE_PAUSE_S = 0.002
START_S = 30.0
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 s: closing sends RST."""


class Mode(enum.Enum):
    """How the network behaves."""

    WELL = "all bytes pass"
    DEAF = "half-open: connections stand, no byte passes in either direction"
    ONE_WAY = "requests pass, replies are lost"
    OTHER_WAY = "replies pass, requests are lost"
    SLOW = "each chunk is late"
    TRICKLE = "a few bytes at a time"
    REFUSED = "open connections are reset, new ones too"
    TWICE = "each request reaches the broker twice, over two connections"


class FaultProxy:
    """Listens on ``endpoint`` and passes on to ``host`` and ``port``. A context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.mode = Mode.WELL
        self.endpoint = ""
        self.connections = 0

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(START_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(START_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)
        self._loop.close()

    def set(self, mode: Mode) -> None:
        """From now on the network is like that. What was lost before does not come back."""
        self.mode = mode
        if mode in (Mode.REFUSED, Mode.TWICE):
            self.reset()

    def reset(self) -> None:
        """Ends every connection with RST."""
        self._loop.call_soon_threadsafe(self._reset)

    # -- on the loop -------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.endpoint = f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        opened = [writer]
        try:
            if self.mode is Mode.REFUSED:
                return
            with suppress(OSError):
                await self._carry(reader, writer, opened)
        finally:
            for each in opened:
                self._writers.discard(each)
                _reset(each)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opened: list[asyncio.StreamWriter]
    ) -> None:
        count = 2 if self.mode is Mode.TWICE else 1
        servers = [await asyncio.open_connection(*self._target) for _ in range(count)]
        opened += [server for _, server in servers]
        self._writers.update(opened)
        pumps = [asyncio.ensure_future(self._pump(reader, [server for _, server in servers], Mode.OTHER_WAY))]
        for place, (replies, _) in enumerate(servers):
            # What answers the second copy is read and thrown away.
            pumps.append(
                asyncio.ensure_future(self._pump(replies, [writer] if place == 0 else [], Mode.ONE_WAY))
            )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter], losing: Mode
    ) -> None:
        """Carries one direction until it ends; ``losing`` is the mode in which this direction is cut."""
        while chunk := await reader.read(CHUNK_BYTES):
            if self.mode in (Mode.DEAF, losing):
                # Bytes of a TCP connection do not vanish singly: what was lost stays lost, and what comes
                # behind it would make no sense. So this connection stays silent for good.
                await self._swallow(reader)
                return
            if self.mode is Mode.SLOW:
                await asyncio.sleep(DELAY_S)
            for writer in writers:
                await self._write(writer, chunk)

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(CHUNK_BYTES):
            pass

    async def _write(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        if self.mode is not Mode.TRICKLE:
            writer.write(chunk)
            await writer.drain()
            return
        for start in range(0, len(chunk), TRICKLE_BYTES):
            writer.write(chunk[start : start + TRICKLE_BYTES])
            await writer.drain()
            await asyncio.sleep(TRICKLE_PAUSE_S)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
