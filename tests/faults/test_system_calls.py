"""A real partition process is killed, refused or kept waiting at its n-th system call, by strace.

The kill comes as the call begins: at fdatasync the records are written and on no disk, at a send they are
durable and nobody has been told.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.broker import BrokerProcess
from tests.support.load import Load
from tests.support.rawclient import RawClient, RawRecord, encode_batch
from tests.support.strace import RENAMES, SENDS, UNLINKS, WRITES, Injection, needs_strace
from tests.support.tiers import in_tier, long
from tests.support.victims import eventually, fork_server, is_gone, serving_child, within

pytestmark = [pytest.mark.processes, pytest.mark.faults, needs_strace]

PARTITIONS = 2
VICTIM = "partition events-0"
RECORDS_BETWEEN = 20
DEATH_S = in_tier(25.0, 20.0)
TOPIC_CONFIG = {"segment_bytes": 16_384, "index_interval_bytes": 512}
"""Small segments: each roll makes, syncs and renames files."""
PATIENT = {"restarts_max": 1_000, "boot_failures_max": 1_000, "restart_delay_max_s": 0.1}
"""So that no death is the last."""
SLOW_SYNC_MICROSECONDS = 200_000
STALL_MICROSECONDS = 10_000_000
EIO = "error=EIO"
MEMORY_BYTES_MAX = 256 << 20
FLOOD_BATCHES = 1_500
FLOOD_BATCH_BYTES = 64_000


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(**PATIENT) as running:  # type: ignore[arg-type]
        with RawClient(running.bootstrap) as client:
            client.create("events", PARTITIONS, **TOPIC_CONFIG)
        yield running


def load_of(broker: BrokerProcess) -> Load:
    return Load(lambda: broker.bootstrap, "events", PARTITIONS)


# -- killed ----------------------------------------------------------------------------------------------

CALLS = {
    "write": WRITES,
    "sync of a file": "fdatasync",
    "sync of a directory": "fsync",
    "rename": RENAMES,
    "truncate": "ftruncate",
    "reservation": "fallocate",
    "send": SENDS,
    "wake-up of a thread": "write",
}
KILLS = in_tier(
    [("write", 3), ("rename", 1), ("send", 4)],
    [(name, count) for name in CALLS for count in (1, 3, 8)],
)


def test_killed_at_any_system_call_under_load(broker: BrokerProcess) -> None:
    """Rows 3 and 33: the supervisor brings the partition back each time, and no promise is broken."""
    deaths = 0
    with load_of(broker) as load:
        load.wait_for(RECORDS_BETWEEN)
        for name, count in KILLS:
            victim = serving_child(broker, VICTIM)
            with Injection(victim.pid, CALLS[name], f"signal=KILL:when={count}"):
                deaths += within(lambda victim=victim: is_gone(victim), DEATH_S)  # type: ignore[misc]
            serving_child(broker, VICTIM)
            load.wait_for(RECORDS_BETWEEN)
    print(f"{deaths} of {len(KILLS)} kills met their call; {load.judge()}")
    assert deaths >= len(KILLS) * 3 // 4, "the calls are not made any more: this test tests nothing"


@pytest.mark.parametrize(("name", "is_kept"), [("write", False), ("sync of a file", True), ("send", True)])
def test_a_retry_after_a_crash_finds_its_record_or_writes_it_once(
    broker: BrokerProcess, name: str, is_kept: bool
) -> None:
    """Row 33: one batch alone, killed before the write, before the sync, before the reply."""
    with RawClient(broker.bootstrap) as client:
        session = client.call("init_producer_id").ok()

        def send(sequence: int) -> int | None:
            batch = encode_batch(
                [RawRecord(b"%d" % sequence)],
                producer_id=session["producer_id"],
                producer_epoch=session["producer_epoch"],
                base_sequence=sequence,
            )
            reply = client.produce_batch("events", batch)
            return int(reply["offset"]) if reply["error"] is None else None

        assert [send(0), send(1)] == [0, 1]
        victim = serving_child(broker, VICTIM)
        with Injection(victim.pid, CALLS[name], "signal=KILL:when=1"):
            if name == "send":
                # The beat to the supervisor is a send too, of another thread: it may come first.
                eventually(lambda: send(2) is None or is_gone(victim))
            else:
                assert send(2) is None, "the reply came though the process died before it"
            eventually(lambda: is_gone(victim))
        eventually(lambda: send(2) == 2)
        assert [send(2), send(3), send(2)] == [2, 3, 2]
        values = [record.value for record in client.records("events")]
        assert values == [b"0", b"1", b"2", b"3"]
    served = [event for event in broker.events("serving") if event["name"] == "partition:events-0"]
    if name != "send":
        assert (served[-1]["end_offset"] == 3) is is_kept


@long
def test_killed_again_and_again_while_it_recovers(broker: BrokerProcess) -> None:
    """Row 34: each successor dies at a later call of its start; the last one serves all that was promised."""
    with load_of(broker) as load:
        load.wait_for(in_tier(200, 1_000))
    with Injection(fork_server(broker).pid, f"{WRITES},fdatasync,fsync,{RENAMES}", "signal=KILL:when=1+"):
        serving_child(broker, VICTIM).kill()
        eventually(lambda: len(broker.events("process ended")) > in_tier(3, 20))
    serving_child(broker, VICTIM)
    print(load.judge())


@long
@pytest.mark.parametrize("count", range(1, 9))
def test_killed_at_the_nth_call_of_a_start(broker: BrokerProcess, count: int) -> None:
    """Row 34: a start that gets a little further each time; a second one always finishes the work."""
    with load_of(broker) as load:
        load.wait_for(200)
        calls = f"{WRITES},fdatasync,fsync,ftruncate,fallocate,{RENAMES},{UNLINKS}"
        with Injection(fork_server(broker).pid, calls, f"signal=KILL:when={count}"):
            ended = len(broker.events("process ended"))
            serving_child(broker, VICTIM).kill()
            within(lambda: len(broker.events("process ended")) > ended + 2, 3.0)
        load.wait_for(RECORDS_BETWEEN)
    load.judge()


# -- refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", in_tier([1], [1, 2, 3, 5]))
def test_a_sync_that_fails_once_acknowledges_nothing_and_stops_the_partition(
    broker: BrokerProcess, count: int
) -> None:
    """Row 9: the process ends with a named error, its successor serves; the other partition never notices."""
    with load_of(broker) as load:
        load.wait_for(RECORDS_BETWEEN)
        victim = serving_child(broker, VICTIM)
        with Injection(victim.pid, "fdatasync", f"{EIO}:when={count}"):
            eventually(lambda: is_gone(victim))
        load.wait_for(RECORDS_BETWEEN)
        failed = broker.events("child failed") or broker.events()
        assert any("Input/output error" in str(event) for event in failed), broker.log()
    print(load.judge())
    names = {event["name"] for event in broker.events("process ended")}
    assert names == {"partition:events-0"}


@long
def test_while_every_sync_fails_nothing_is_acknowledged(broker: BrokerProcess) -> None:
    """Row 9, for ever: each successor meets the same disk; once that is well, so is the partition."""
    with load_of(broker) as load:
        load.wait_for(RECORDS_BETWEEN)
        with Injection(fork_server(broker).pid, "fdatasync,fsync", f"{EIO}:when=1+"):
            serving_child(broker, VICTIM).kill()
            eventually(lambda: len(broker.events("process ended")) > in_tier(2, 6))
            before = acknowledged(load, 0)
            load.wait_for(RECORDS_BETWEEN)  # of the other partition
            assert acknowledged(load, 0) == before, "acknowledged though no sync works"
        serving_child(broker, VICTIM)
        eventually(lambda: acknowledged(load, 0) > before)
    print(load.judge())


def acknowledged(load: Load, partition: int) -> int:
    """How many records of one partition were acknowledged."""
    return sum(1 for place in list(load.ledger.acknowledged) if place[0] == partition)


# -- kept waiting ----------------------------------------------------------------------------------------


@long
def test_a_slow_disk_slows_its_partition_and_nothing_else(broker: BrokerProcess) -> None:
    """Row 29: every sync takes 0.2 s. Nobody is taken for dead, and memory is bounded."""
    with RawClient(broker.bootstrap) as client, load_of(broker) as load:
        client.create("slow", 1, max_message_bytes=1 << 20)
        slow, router = serving_child(broker, "partition slow-0"), serving_child(broker, "router 0")
        with Injection(slow.pid, "fdatasync", f"delay_enter={SLOW_SYNC_MICROSECONDS}") as injection:
            batch = encode_batch([RawRecord(b"x" * FLOOD_BATCH_BYTES)])
            for _ in range(FLOOD_BATCHES):
                client.send("produce", batch, topic="slow", partition=0, format="batch")
            eventually(lambda: injection.injected() >= 5)
            load.wait_for(RECORDS_BETWEEN)
            used = [process.memory_info().rss for process in (slow, router)]
            assert max(used) < MEMORY_BYTES_MAX, used
        answers = client.receive_by_id(FLOOD_BATCHES)
        kept = [answer["offset"] for answer in answers.values() if answer.code is None]
        refused = {answer["error"]["name"] for answer in answers.values() if answer.code is not None}
        assert sorted(kept) == list(range(len(kept))), "each acknowledged batch has an offset of its own"
        print(f"{len(kept)} of {FLOOD_BATCHES} taken, the others {refused}; {max(used) >> 20} MiB at most")
        assert client.offset_of("slow", "latest") == len(kept)
        assert {row["restarts"] for row in client.call("status").ok()["actors"]} == {0}
    print(load.judge())


@long
def test_a_disk_that_stands_still_for_ten_seconds_is_waited_for(broker: BrokerProcess) -> None:
    """Row 29: less than ``heartbeat_timeout_s``; the sync runs on the loop, or not, and nobody is killed."""
    with load_of(broker) as load:
        load.wait_for(RECORDS_BETWEEN)
        victim = serving_child(broker, VICTIM)
        before = acknowledged(load, 0)
        with Injection(victim.pid, "fdatasync", f"delay_enter={STALL_MICROSECONDS}:when=1") as injection:
            eventually(lambda: injection.injected() > 0, 2 * STALL_MICROSECONDS / 1e6)
        eventually(lambda: acknowledged(load, 0) > before + RECORDS_BETWEEN)
    assert broker.events("killing") == []
    print(load.judge())
