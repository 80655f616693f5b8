"""Rehearsal: what a partition does first, done once in the fork server before it forks.

CPython and msgspec learn while they run: caches of attributes, what a message consists of, counters
inside of code. What is learned before the fork is shared by all processes; what each learns by itself is
written into pages that it then has alone, 0.3 MB of them. The files of the rehearsal are in memory only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from actors.actor import Envelope, Message, Synced
from actors.effects import Effect, Reply, Sender, Sync
from actors.partition import PartitionActor
from odradek.protocol.codec import Encoding, encode, public_decoder
from odradek.protocol.messages import Fetch, ListOffsets, Produce, Request
from odradek.protocol.records import RecordToWrite, encode_batch
from partitions.files import OsFiles
from partitions.log import Log
from partitions.settings import LogSettings
from transport.clock import read_clock
from transport.frames import reply_frames
from transport.links import inner_decoder

ROUNDS = 2
"""Starts of the log: of an empty one, then of one with records. Each costs the fork server
3 ms; two more saved another 0.03 MB."""
TURNS = 2
TOPIC = "rehearsal"
TOPIC_ID = "00000000-0000-0000-0000-000000000000"
CHECK_INTERVAL_S = 300.0
DIRECTORY = Path("/rehearsal")
"""Exists nowhere."""


class MemoryFiles(OsFiles):
    """Files without a name on any disk; gone with ``close``. What takes a descriptor is the real thing."""

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}

    def close_all(self) -> None:
        """Gives every file back."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def open(self, path: Path, *, create: bool) -> int:
        if path not in self._descriptors:
            if not create:
                raise FileNotFoundError(path)
            self._descriptors[path] = os.memfd_create(path.name)
        return os.dup(self._descriptors[path])

    def fsync_directory(self, path: Path) -> None:
        """Nothing of it shall last."""

    def rename(self, source: Path, target: Path) -> None:
        self.unlink(target)
        self._descriptors[target] = self._descriptors.pop(source)

    def unlink(self, path: Path) -> None:
        if path in self._descriptors:
            os.close(self._descriptors.pop(path))

    def allocate(self, descriptor: int, position: int, size: int) -> None:
        """Extends the file with a hole: reserved, it would be memory."""
        os.ftruncate(descriptor, max(position + size, os.fstat(descriptor).st_size))

    def list_directory(self, path: Path) -> list[str]:
        return [found.name for found in self._descriptors if found.parent == path]

    def make_directory(self, path: Path) -> None:
        """A file's path is its name here, and all that there is."""

    def size(self, path: Path) -> int:
        if path not in self._descriptors:
            raise FileNotFoundError(path)
        return os.fstat(self._descriptors[path]).st_size

    def free_bytes(self, path: Path) -> int:
        return 1 << 40

    def lock(self, path: Path) -> int:
        return self.open(path, create=True)


class Rehearsal:
    """One start of a partition that is written to and read; ``replies`` counts what it answered."""

    def __init__(self, files: MemoryFiles) -> None:
        self.replies = 0
        self._log = Log.open(
            DIRECTORY,
            LogSettings.from_config({}),
            files=files,
            wall_ms=read_clock().wall_ms,
            topic_id=TOPIC_ID,
        )
        self._actor = PartitionActor(TOPIC, 0, self._log, CHECK_INTERVAL_S)

    def run(self) -> None:
        """Some turns, then the end in order."""
        batch = encode_batch([RecordToWrite(read_clock().wall_ms, None, b"value")])
        for _ in range(TURNS):
            self._ask(ListOffsets(topic=TOPIC, partition=0, at="latest", id=1))
            # It waits for the record that comes next.
            self._ask(Fetch(topic=TOPIC, partition=0, offset=self._log.end_offset, format="batch", id=2))
            self._ask(Produce(topic=TOPIC, partition=0, format="batch", id=3), batch)
            self._ask(Fetch(topic=TOPIC, partition=0, offset=0, format="batch", id=4))
        self._perform(self._actor.stop(read_clock()))
        self._log.close()

    def _ask(self, request: Request, *payload: bytes) -> None:
        """As a client and as a router would: both decoders are asked."""
        for socket, decoder in (("direct", public_decoder()), ("inner", inner_decoder())):
            decoded, encoding = decoder.decode(encode(request, Encoding.MSGPACK))
            sender = Sender(socket, b"peer", False, encoding, decoded.id)
            self._receive(Envelope(sender, decoded, payload))
            self._perform(self._actor.settle(read_clock()))
            self._actor.deadline()

    def _receive(self, message: Message) -> None:
        self._perform(self._actor.receive(message, read_clock()))

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply():
                    reply_frames(effect.to, effect.reply, effect.payload)
                    self.replies += 1
                case Sync():
                    effect.ticket.run()
                    self._receive(Synced(effect.ticket))
                case _:
                    raise TypeError(f"nobody rehearsed {effect!r}")


def rehearse() -> int:
    """How many replies there were. Raises OSError or OdradekError where the system has no files in memory."""
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "this Python was built without memfd_create")
    replies = 0
    with ExitStack() as undo:
        files = MemoryFiles()
        undo.callback(files.close_all)
        for _ in range(ROUNDS):
            rehearsal = Rehearsal(files)
            rehearsal.run()
            replies += rehearsal.replies
    return replies
