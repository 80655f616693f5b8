"""SimDisk: a file system in memory that can lose power at any operation.

What was synced stays. Of what was not, ``crash`` keeps any subset of the writes, each maybe torn at
512 bytes, file sizes with zeros where data did not arrive, and of every directory's changes a prefix; or any
of them, as POSIX would allow.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from odradek.protocol.batch import Buffer

SECTOR = 512


class PowerCut(BaseException):
    """The machine is off. Not an Exception: nothing in the product may handle it."""


@dataclass
class Inode:
    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(position, bytes) of a write, (size, None) of a change of size."""


Name = tuple[Path, str]


class SimDisk:
    """Implements partitions.files.Files. Directories are durable at once; their entries are not."""

    def __init__(self) -> None:
        self.names: dict[Path, dict[str, Inode]] = {}
        self.durable_names: dict[Path, dict[str, Inode]] = {}
        self.pending_names: dict[Path, list[dict[str, Inode | None]]] = {}
        self.descriptors: dict[int, Inode] = {}
        self.locked: set[int] = set()
        self.operations = 0
        self.cut_at: int | None = None
        self.fail_at: int | None = None
        self.bytes_read = 0
        self.capacity: int | None = None
        self.sync_error: OSError | None = None
        self.allocate_error: OSError | None = None
        self.read_error: OSError | None = None
        self.trace: list[str] = []
        self._next_descriptor = 3

    # -- faults

    def _step(self, name: str) -> None:
        self.operations += 1
        self.trace.append(name)
        if self.operations == self.fail_at:
            raise OSError(errno.EIO, "Input/output error")
        if self.cut_at is not None and self.operations >= self.cut_at:
            raise PowerCut

    def crash(self, seed: int, *, keep: str = "subset") -> SimDisk:
        """The disk after the power came back.

        ``keep``: "subset" of un-synced work, "scattered" with names that do not wait for one another, "none"
        or "all".
        """
        dice = random.Random(seed)
        after = SimDisk()
        images: dict[int, Inode] = {}
        for folder in self.names:
            entries = dict(self.durable_names.get(folder, {}))
            changes = self.pending_names.get(folder, [])
            count = {"none": 0, "all": len(changes)}.get(keep, dice.randint(0, len(changes)))
            if keep == "scattered":
                changes = [change for change in changes if dice.random() < 0.5]
                count = len(changes)
            for change in changes[:count]:
                _apply(entries, change)
            after.names[folder] = {
                name: images.setdefault(id(inode), _survivor(inode, dice, keep))
                for name, inode in entries.items()
            }
            after.durable_names[folder] = dict(after.names[folder])
        return after

    def content(self, path: Path) -> bytearray:
        """The bytes of a file, to look at or to damage."""
        return self.names[path.parent][path.name].content

    def damage(self, path: Path, content: bytes) -> None:
        """Replaces what the disk holds, behind the product's back."""
        inode = self.names[path.parent][path.name]
        inode.content[:] = content
        inode.durable[:] = content
        inode.pending.clear()

    def remove(self, path: Path) -> None:
        for names in (self.names, self.durable_names):
            names.get(path.parent, {}).pop(path.name, None)

    def release(self) -> None:
        """The process is dead: its descriptors and locks are gone, the cache is not."""
        self.descriptors.clear()
        self.locked.clear()
        self.cut_at = None

    def used(self) -> int:
        return sum(len(inode.content) for folder in self.names.values() for inode in folder.values())

    # -- Files

    def open(self, path: Path, *, create: bool) -> int:
        folder = self.names.setdefault(path.parent, {})
        if path.name not in folder:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            self._step("create")
            self._change(path.parent, {path.name: Inode()})
        return self._descriptor(folder[path.name])

    def _descriptor(self, inode: Inode) -> int:
        self._next_descriptor += 1
        self.descriptors[self._next_descriptor] = inode
        return self._next_descriptor

    def _change(self, folder: Path, change: dict[str, Inode | None]) -> None:
        _apply(self.names.setdefault(folder, {}), change)
        self.pending_names.setdefault(folder, []).append(change)

    def close(self, descriptor: int) -> None:
        inode = self.descriptors.pop(descriptor)
        self.locked.discard(id(inode))

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], position: int) -> int:
        data = b"".join(bytes(buffer) for buffer in buffers)
        inode = self.descriptors[descriptor]
        if self.capacity is not None:
            growth = max(0, position + len(data) - len(inode.content))
            data = data[: len(data) - max(0, growth - max(0, self.capacity - self.used()))]
            if not data:
                raise OSError(errno.ENOSPC, "no space left on device")
        inode.pending.append((position, data))
        _put(inode.content, position, data)
        self._step("write")
        return len(data)

    def pread(self, descriptor: int, size: int, position: int) -> bytes:
        if self.read_error is not None:
            raise self.read_error
        data = bytes(self.descriptors[descriptor].content[position : position + size])
        self.bytes_read += len(data)
        return data

    def fdatasync(self, descriptor: int) -> None:
        self._step("sync")
        inode = self.descriptors[descriptor]
        if self.sync_error is not None:
            inode.pending.clear()  # as Linux does: the pages are clean now, and the data is lost
            raise self.sync_error
        inode.durable[:] = inode.content
        inode.pending.clear()

    def fsync_directory(self, path: Path) -> None:
        self._step("sync directory")
        self.durable_names[path] = dict(self.names.get(path, {}))
        self.pending_names[path] = []

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename")
        if source.name not in self.names.get(source.parent, {}):
            raise FileNotFoundError(errno.ENOENT, "no such file", str(source))
        self._change(source.parent, {source.name: None, target.name: self.names[source.parent][source.name]})

    def unlink(self, path: Path) -> None:
        self._step("unlink")
        if path.name in self.names.get(path.parent, {}):
            self._change(path.parent, {path.name: None})

    def truncate(self, descriptor: int, size: int) -> None:
        self._step("truncate")
        inode = self.descriptors[descriptor]
        inode.pending.append((size, None))
        _resize(inode.content, size)

    def allocate(self, descriptor: int, position: int, size: int) -> None:
        if self.allocate_error is not None:
            raise self.allocate_error
        inode = self.descriptors[descriptor]
        end = position + size
        if self.capacity is not None and self.used() + end - len(inode.content) > self.capacity:
            raise OSError(errno.ENOSPC, "no space left on device")
        self._step("allocate")
        if end > len(inode.content):
            inode.pending.append((end, None))
            _resize(inode.content, end)

    def forget_cached(self, descriptor: int, position: int) -> None:
        inode = self.descriptors[descriptor]
        if not inode.pending:
            inode.content[position:] = inode.durable[position:]

    def list_directory(self, path: Path) -> list[str]:
        return list(self.names.get(path, {}))

    def make_directory(self, path: Path) -> None:
        self.names.setdefault(path, {})

    def size(self, path: Path) -> int:
        try:
            return len(self.names[path.parent][path.name].content)
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from None

    def free_bytes(self, path: Path) -> int:
        return 1 << 60 if self.capacity is None else max(0, self.capacity - self.used())

    def lock(self, path: Path) -> int:
        descriptor = self.open(path, create=True)
        inode = self.descriptors[descriptor]
        if id(inode) in self.locked:
            del self.descriptors[descriptor]
            raise BlockingIOError(errno.EWOULDBLOCK, "locked")
        self.locked.add(id(inode))
        return descriptor


def _apply(entries: dict[str, Inode], change: dict[str, Inode | None]) -> None:
    for name, inode in change.items():
        if inode is None:
            entries.pop(name, None)
        else:
            entries[name] = inode


def _put(content: bytearray, position: int, data: bytes) -> None:
    if len(content) < position:
        content.extend(bytes(position - len(content)))
    content[position : position + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _survivor(inode: Inode, dice: random.Random, keep: str) -> Inode:
    image = bytearray(inode.durable)
    for position, data in inode.pending:
        if keep == "none" or (keep in ("subset", "scattered") and dice.random() < 0.3):
            continue
        if data is None:
            _resize(image, position)
        elif keep == "all" or dice.random() < 0.5:
            _put(image, position, data)
        else:
            _tear(image, position, data, dice)
    return Inode(bytearray(image), bytearray(image))


def _tear(image: bytearray, position: int, data: bytes, dice: random.Random) -> None:
    """Any of the sectors arrive; where they do not, the old bytes stay, or zeros where there were none."""
    end = position + len(data)
    cursor = position
    if len(image) < end and dice.random() < 0.5:
        _resize(image, end)
    while cursor < end:
        stop = min(end, (cursor // SECTOR + 1) * SECTOR)
        if dice.random() < 0.5:
            _put(image, cursor, data[cursor - position : stop - position])
        cursor = stop
