"""Load: writers, a reader and a committer that tell a ``Ledger`` every word of the broker.

Writers are idempotent: a batch is sent again, with the same producer id, epoch and sequence, until it is
acknowledged; what was under way when the load ended is of unknown outcome. All speak the native protocol
with nothing of Odradek's own code (``RawClient``), each on a thread and a connection of its own.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.ledger import PROBLEMS_SHOWN_MAX, Figures, Ledger
from tests.support.rawclient import NoReply, RawClient, RawRecord, RawReply, decode_batches, encode_batch

REQUEST_TIMEOUT_MS = 1_500
FINAL_TIMEOUT_MS = 60_000
FETCH_BYTES = 1 << 20
GROUP = "committers"
PAUSE_S = 0.02
RECORDS_PER_BATCH_MAX = 8
FILLER_BYTES_MAX = 300
JOIN_S = 30.0


Role = Callable[[int, random.Random], None]


class Load:
    """Writers, a reader and a committer on threads, from ``start`` (or ``with``) to ``stop``.

    ``endpoint`` is asked at each connection. Several loads may follow each other on one topic with one
    ``ledger``; ``name`` tells their writers apart.
    """

    def __init__(
        self,
        endpoint: Callable[[], str],
        topic: str,
        partitions: int,
        *,
        writers: int = 4,
        seed: int = 0,
        name: str = "w",
        ledger: Ledger | None = None,
        timeout_ms: int = REQUEST_TIMEOUT_MS,
    ) -> None:
        self.ledger = ledger or Ledger()
        self._endpoint = endpoint
        self._topic = topic
        self._partitions = partitions
        self._name = name
        self._timeout_ms = timeout_ms
        self._end = threading.Event()
        roles: list[tuple[Role, int]] = [(self._write, number) for number in range(writers)]
        roles += [(self._read, writers), (self._commit, writers + 1)]
        self._threads = [
            threading.Thread(target=self._guarded, args=(role, number, seed), daemon=True)
            for role, number in roles
        ]

    def __enter__(self) -> Load:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def end_soon(self) -> None:
        """Tells every thread to end; ``stop`` waits for them."""
        self._end.set()

    def stop(self) -> None:
        """Returns when every thread has ended."""
        self.end_soon()
        for thread in self._threads:
            thread.join(JOIN_S)
            assert not thread.is_alive(), "a client hangs"

    def wait_for(self, records: int, timeout_s: float = 60.0) -> None:
        """Returns when so many more records were acknowledged than at the call."""
        wanted = self.ledger.acknowledged_count() + records
        deadline_s = time.monotonic() + timeout_s
        while self.ledger.acknowledged_count() < wanted:
            assert time.monotonic() < deadline_s, f"not {records} more records within {timeout_s:g} s"
            assert not self.ledger.problems, self.ledger.problems[:PROBLEMS_SHOWN_MAX]
            threading.Event().wait(PAUSE_S)

    def judge(self, *, after_power_cut: bool = False) -> Figures:
        """Reads everything and compares it with what the clients were told."""
        with RawClient(self._endpoint(), timeout_ms=FINAL_TIMEOUT_MS) as client:
            kept = read_all(client, self._topic, self._partitions)
            if after_power_cut:
                self.ledger.figures.forgiven += self.ledger.forgive_last_sync(kept)
            self.ledger.check_commit(_offset(patiently(_committed, client, self._topic)))
            return self.ledger.judge(kept)

    # -- threads -----------------------------------------------------------------------------------

    def _connect(self) -> RawClient:
        return RawClient(self._endpoint(), timeout_ms=self._timeout_ms)

    def _guarded(self, role: Role, number: int, seed: int) -> None:
        try:
            role(number, random.Random(f"{seed}/{number}"))
        except Exception as error:
            self.ledger.note_problem(f"client {number}: {error!r}")

    def _write(self, number: int, dice: random.Random) -> None:
        partition = number % self._partitions
        session: dict[str, Any] | None = None
        client: RawClient | None = None
        sequence = 0
        values: list[bytes] = []
        since_s = 0.0
        try:
            while not self._end.is_set():
                if not values:
                    values = _values(f"{self._name}{number}", sequence, dice)
                    since_s = time.monotonic()
                    self.ledger.note_sent(values)
                try:
                    client = client or self._connect()
                    session = session or self._begin_session(client)
                    offset = self._send(client, partition, values, session, sequence) if session else None
                except NoReply:
                    self.ledger.note_retry("no reply", partition)
                    client = _forget(client)
                    continue
                if offset is None:
                    self._end.wait(PAUSE_S)
                    continue
                self.ledger.note_acknowledged(partition, offset, values, time.monotonic() - since_s)
                sequence += len(values)
                values = []
        finally:
            _forget(client)

    def _begin_session(self, client: RawClient) -> dict[str, Any] | None:
        reply = client.call("init_producer_id")
        return None if self._must_wait(reply["error"]) else reply.header

    def _must_wait(self, error: dict[str, Any] | None, partition: int | None = None) -> bool:
        """Whether the broker asks to try again. An error of another kind is a problem, and raised."""
        if error is None:
            return False
        assert error["retriable"], error
        self.ledger.note_retry(error["name"], partition)
        return True

    def _send(
        self, client: RawClient, partition: int, values: list[bytes], session: dict[str, Any], sequence: int
    ) -> int | None:
        """The offset; None where the broker asks to try again."""
        batch = encode_batch(
            [RawRecord(value) for value in values],
            producer_id=session["producer_id"],
            producer_epoch=session["producer_epoch"],
            base_sequence=sequence,
        )
        reply = client.produce_batch(self._topic, batch, partition)
        return None if self._must_wait(reply["error"], partition) else int(reply["offset"])

    def _read(self, _number: int, _dice: random.Random) -> None:
        client: RawClient | None = None
        positions = dict.fromkeys(range(self._partitions), 0)
        try:
            while not self._end.is_set():
                for partition, position in positions.items():
                    try:
                        client = client or self._connect()
                        reply = client.fetch(self._topic, position, partition, format="batch")
                    except NoReply:
                        client = _forget(client)
                        continue
                    if self._must_wait(reply["error"]):
                        continue
                    values = _fetched(reply.payload, position)
                    self.ledger.note_read(partition, position, values)
                    positions[partition] += len(values)
                self._end.wait(PAUSE_S)
        finally:
            _forget(client)

    def _commit(self, _number: int, _dice: random.Random) -> None:
        """Commits ever higher offsets for a group without members, and looks whether one is forgotten."""
        client: RawClient | None = None
        try:
            while not self._end.wait(PAUSE_S):
                try:
                    client = client or self._connect()
                    offset = self.ledger.next_commit()
                    row = {"topic": self._topic, "partition": 0, "offset": offset}
                    reply = client.call("offset_commit", group=GROUP, offsets=[row])
                    error = reply["error"] or reply["offsets"][0]["error"]
                    if error is None:
                        self.ledger.note_commit(offset)
                        reply = _committed(client, self._topic)
                        error = reply["error"]
                        if error is None:
                            self.ledger.check_commit(_offset(reply))
                    self._must_wait(error)
                except NoReply:
                    client = _forget(client)
        finally:
            _forget(client)


def _committed(client: RawClient, topic: str) -> RawReply:
    return client.call("offset_fetch", group=GROUP, topics=[{"topic": topic, "partitions": [0]}])


def _offset(reply: RawReply) -> int:
    return max(0, int(reply["offsets"][0]["offset"]))


def _values(writer: str, first: int, dice: random.Random) -> list[bytes]:
    return [
        f"{writer}-{first + index}-".encode() + dice.randbytes(dice.randint(0, FILLER_BYTES_MAX))
        for index in range(dice.randint(1, RECORDS_PER_BATCH_MAX))
    ]


def _forget(client: RawClient | None) -> RawClient | None:
    """Closes a connection; None, to be kept in its place."""
    if client is not None:
        client.close()
    return None


def _fetched(payload: list[bytes], position: int) -> list[bytes]:
    """The values from ``position`` on; batches are whole, so earlier ones may come along."""
    values: list[bytes] = []
    for batch in decode_batches(b"".join(payload)):
        for index, record in enumerate(batch.records):
            if batch.base_offset + index >= position:
                assert batch.base_offset + index == position + len(values), "offsets are dense"
                assert record.value is not None
                values.append(record.value)
    return values


def patiently(ask: Callable[..., RawReply], *words: Any) -> RawReply:
    """The reply without an error, asked for until the broker is ready to give it."""
    deadline_s = time.monotonic() + FINAL_TIMEOUT_MS / 1000
    while True:
        reply = ask(*words)
        error = reply["error"]
        if error is None or not error["retriable"] or time.monotonic() > deadline_s:
            return reply.ok()
        threading.Event().wait(PAUSE_S)


def _fetch_all(client: RawClient, topic: str, offset: int, partition: int) -> RawReply:
    return client.fetch(topic, offset, partition, format="batch", max_bytes=FETCH_BYTES)


def read_all(client: RawClient, topic: str, partitions: int) -> dict[int, list[bytes]]:
    """Every value of a topic, which begins at offset 0, by partition; each CRC is checked."""
    kept: dict[int, list[bytes]] = {}
    for partition in range(partitions):
        values: list[bytes] = []
        while True:
            reply = patiently(_fetch_all, client, topic, len(values), partition)
            page = _fetched(reply.payload, len(values))
            values += page
            if not page:
                assert len(values) == reply["high_watermark"], "a log that ends before its durable end"
                break
        kept[partition] = values
    return kept
