"""The bare path: what the machine gives to the same bytes without Odradek around them.

Three roles, each a process: ``serve`` (ROUTER over ipc; receive, check the CRC, pwritev, fdatasync
beside the loop, acknowledge: group commit), ``produce`` (the compiled codec into batches of about
1 MB, a few in flight) and ``consume`` (the same batches back, each record's offset, key and value
touched). There is no topic, no retry, no sequence number, no index and no second client: it is the
ceiling, not a product.
"""

from __future__ import annotations

import argparse
import os
import struct
import threading
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import zmq
from aiokafka.record.default_records import DefaultRecordBatch

from bench.records import BATCH_BYTES_MAX, BATCHES_IN_FLIGHT, values
from bench.worker import say
from odradek.protocol.batch import check_batch, placed_prefix
from odradek.protocol.records import new_builder

PRODUCE, FETCH, STOP = b"P", b"F", b"Q"
DRAIN_MAX = 64
REPLY_MS_MAX = 30_000
_BATCH_NUMBER = struct.Struct(">I")


class BareLog:
    """One file of batches, the position of each, and a thread that syncs it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        self._positions = [0]
        self._next_offset = 0
        self._wanted = threading.Semaphore(0)
        self.synced_fd = os.eventfd(0)
        threading.Thread(target=self._sync_for_ever, daemon=True).start()

    def append(self, batches: list[memoryview]) -> None:
        """Check and write some batches with one system call."""
        pieces: list[bytes | memoryview] = []
        position = start = self._positions[-1]
        for batch in batches:
            header = check_batch(batch)
            pieces += (placed_prefix(header, self._next_offset, 0), batch[16:])
            self._next_offset += header.record_count
            position += len(batch)
            self._positions.append(position)
        written = os.pwritev(self._fd, pieces, start)
        if written != position - start:
            raise OSError(f"short write: {written} of {position - start} bytes")

    def read(self, number: int) -> bytes | None:
        """The batch of that number, or None behind the last."""
        if number + 1 >= len(self._positions):
            return None
        start, end = self._positions[number], self._positions[number + 1]
        return os.pread(self._fd, end - start, start)

    def sync(self) -> None:
        """Make durable what is written; ``synced_fd`` is readable afterwards."""
        self._wanted.release()

    def _sync_for_ever(self) -> None:
        while True:
            self._wanted.acquire()
            os.fdatasync(self._fd)
            os.eventfd_write(self.synced_fd, 1)


def serve(endpoint: str, path: Path) -> None:
    """Serve one log until a client says STOP."""
    log = BareLog(path)
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(endpoint)
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    poller.register(log.synced_fd, zmq.POLLIN)
    written: list[bytes] = []
    syncing: list[bytes] = []
    while True:
        ready = dict(poller.poll())
        if router in ready:
            arrived, stop = _drain(router, log)
            written += arrived
            if stop:
                return
        if log.synced_fd in ready:
            os.eventfd_read(log.synced_fd)
            for sender in syncing:
                router.send_multipart([sender, b"ok"])
            syncing = []
        if written and not syncing:
            written, syncing = [], written
            log.sync()


def _drain(router: zmq.Socket[bytes], log: BareLog) -> tuple[list[bytes], bool]:
    """Handle what is in the inbox; who waits for a sync, and whether to stop."""
    senders: list[bytes] = []
    batches: list[memoryview] = []
    stop = False
    for _ in range(DRAIN_MAX):
        try:
            sender, kind, payload = router.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            break
        if kind.bytes == PRODUCE:
            senders.append(sender.bytes)
            batches.append(payload.buffer)
        elif kind.bytes == FETCH:
            batch = log.read(_BATCH_NUMBER.unpack(payload.buffer)[0])
            router.send_multipart([sender.bytes, batch or b""], copy=False)
        else:
            stop = True
    if batches:
        log.append(batches)
    return senders, stop


def connect(endpoint: str) -> zmq.Socket[bytes]:
    """A DEALER whose receive gives up instead of hanging."""
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.setsockopt(zmq.RCVTIMEO, REPLY_MS_MAX)
    dealer.setsockopt(zmq.LINGER, 1000)
    dealer.connect(endpoint)
    return dealer


def produce(endpoint: str, record_count: int) -> None:
    """Encode, send and see acknowledged ``record_count`` records."""
    dealer = connect(endpoint)
    source = cycle(values())
    in_flight = 0
    begun = time.perf_counter()
    for batch in _batches(source, record_count):
        if in_flight == BATCHES_IN_FLIGHT:
            dealer.recv()
            in_flight -= 1
        dealer.send_multipart([PRODUCE, batch], copy=False)
        in_flight += 1
    for _ in range(in_flight):
        dealer.recv()
    say(records=record_count, seconds=time.perf_counter() - begun)


def _batches(source: Iterator[bytes], record_count: int) -> Iterator[bytearray]:
    left = record_count
    while left:
        builder = new_builder(BATCH_BYTES_MAX)
        append = builder.append
        timestamp = int(time.time() * 1000)
        count = 0
        for value in source:
            if append(count, timestamp, None, value, []) is None:
                break
            count += 1
            if count == left:
                break
        left -= count
        yield builder.build()


def consume(endpoint: str, record_count: int) -> None:
    """Fetch every batch and read the five fields of every record, as anybody must who hands it out.

    The codec makes a field's value only when it is read, so reading them is a part of decoding.
    """
    dealer = connect(endpoint)
    begun = time.perf_counter()
    for number in range(BATCHES_IN_FLIGHT):
        dealer.send_multipart([FETCH, _BATCH_NUMBER.pack(number)])
    asked, seen, value_bytes = BATCHES_IN_FLIGHT, 0, 0
    while seen < record_count:
        batch = dealer.recv()
        dealer.send_multipart([FETCH, _BATCH_NUMBER.pack(asked)])
        asked += 1
        check_batch(batch)
        for record in DefaultRecordBatch(batch):
            offset, _, key, value, _ = (
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                record.headers,
            )
            if offset != seen or key is not None:
                raise RuntimeError(f"record {seen} came back as offset {offset}")
            value_bytes += len(value)
            seen += 1
    say(records=seen, seconds=time.perf_counter() - begun, value_bytes=value_bytes)


def stop(endpoint: str) -> None:
    """Tell a server to end."""
    connect(endpoint).send_multipart([STOP, b""])


def main() -> None:
    parser = argparse.ArgumentParser(description="A role of the bare path.")
    parser.add_argument("role", choices=("serve", "produce", "consume"))
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--path", type=Path, default=Path("bare.log"))
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args()
    if options.role == "serve":
        serve(options.endpoint, options.path)
    elif options.role == "produce":
        produce(options.endpoint, options.records)
    else:
        consume(options.endpoint, options.records)


if __name__ == "__main__":
    main()
