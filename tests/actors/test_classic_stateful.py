"""Classic members that join, stall and miss replies, full disks, dying coordinators: what always holds.

- Two members that may commit at the same time never hold the same partition: within a generation each has
  what the leader gave it, and a generation has one leader and one assignment.
- No generation begins twice with other members, though the coordinator be killed in the middle of it.
- What was acknowledged is there after a crash, and is never taken back by a member of an older generation.
- Every request gets one answer, and when the trouble ends, all share all.
"""

from __future__ import annotations

from itertools import count
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors import compaction
from actors.consumer_protocol import assigned_partitions, assignment, subscription
from actors.messages import (
    ClassicCommit,
    ClassicHeartbeat,
    ClassicJoin,
    ClassicJoinReply,
    ClassicLeave,
    ClassicLeaver,
    ClassicProtocol,
    ClassicSync,
    ClassicSyncReply,
)
from odradek.protocol.errors import KafkaStorageError
from odradek.protocol.messages import (
    CommitOffset,
    GroupDescribe,
    GroupDescribeReply,
    OffsetCommitReply,
    Reply,
)
from tests.support.coordinating import Coordinating

PARTITIONS = 4
SESSION_S = 10.0
REBALANCE_S = 20.0
NAMES = st.sampled_from("abcd")
IS_STATIC = "d"
ROUNDS_TO_SETTLE_MAX = 60
RETRIED = {
    "KAFKA_STORAGE_ERROR",
    "COORDINATOR_NOT_AVAILABLE",
    "REBALANCE_IN_PROGRESS",
    "ILLEGAL_GENERATION",
    "UNKNOWN_MEMBER_ID",
    "MEMBER_ID_REQUIRED",
    "FENCED_INSTANCE_ID",
}


class Client:
    """A client that keeps to the rules: one request at a time, and it does what the answer says."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.member_id: str | None = None
        self.generation = -1
        self.held: frozenset[int] = frozenset()
        self.doing = "join"
        self.leads: list[str] = []
        self.waits: int | None = None

    def request(self) -> ClassicJoin | ClassicSync | ClassicHeartbeat:
        instance = self.name if self.name in IS_STATIC else None
        if self.doing == "join":
            return ClassicJoin(
                group="group",
                member_id=self.member_id,
                protocol_type="consumer",
                protocols=[ClassicProtocol("range", subscription(["events"]))],
                session_timeout_ms=int(SESSION_S * 1000),
                rebalance_timeout_ms=int(REBALANCE_S * 1000),
                instance_id=instance,
            )
        assert self.member_id is not None
        if self.doing == "sync":
            shares = {
                name: assignment({"events": [n for n in range(PARTITIONS) if n % len(self.leads) == index]})
                for index, name in enumerate(self.leads)
            }
            return ClassicSync(
                group="group",
                member_id=self.member_id,
                generation=self.generation,
                instance_id=instance,
                assignments=shares,
            )
        return ClassicHeartbeat(
            group="group", member_id=self.member_id, generation=self.generation, instance_id=instance
        )

    def hear(self, reply: Reply) -> None:
        if isinstance(reply, ClassicJoinReply) and reply.error is None:
            assert isinstance(reply.generation, int)
            self.member_id, self.generation = str(reply.member_id), reply.generation
            members = reply.members if isinstance(reply.members, list) else []
            self.leads = [member.member_id for member in members]
            self.doing = "sync"
        elif isinstance(reply, ClassicSyncReply) and reply.error is None:
            assert isinstance(reply.assignment, bytes)
            self.held = frozenset(number for _, number in assigned_partitions(reply.assignment))
            self.doing = "beat"
        elif reply.error is not None:
            assert reply.error.name in RETRIED, reply.error
            self._err(reply.error.name, reply.error.message)

    def _err(self, name: str, message: str) -> None:
        if name in ("KAFKA_STORAGE_ERROR", "COORDINATOR_NOT_AVAILABLE") and self.doing == "beat":
            return
        if name != "REBALANCE_IN_PROGRESS" or self.doing == "sync":
            self.held = frozenset()
        if name == "MEMBER_ID_REQUIRED":
            self.member_id = message
        elif name in ("UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID"):
            self.member_id = None
        self.doing = "join"


class ClassicMachine(RuleBasedStateMachine):
    """One classic group of up to four clients on one topic of four partitions."""

    def __init__(self) -> None:
        super().__init__()
        self.c = Coordinating(topics={"events": PARTITIONS})
        self.clients: dict[str, Client] = {}
        self.given: dict[int, dict[str, frozenset[int]]] = {}
        """What each member was given in each generation."""
        self.leaders: dict[int, str] = {}
        self.acknowledged: dict[int, tuple[int, int]] = {}
        """Partition -> (offset, the generation that committed it)."""
        self.unknown: dict[int, set[int]] = {}
        self.offsets = count(1)
        self.generation = 0
        self.small = patch.multiple(compaction, LOG_BYTES_MIN=2000, PIECE_ENTRIES_MAX=3, RETRY_BYTES=500)
        self.small.start()

    def listen(self) -> None:
        """Every client hears what has been answered to it."""
        for client in self.clients.values():
            if client.waits is not None and client.waits in self.c.replies:
                reply = self.c.replies[client.waits]
                client.waits = None
                self._note(client, reply)
                client.hear(reply)

    def _note(self, client: Client, reply: Reply) -> None:
        if reply.error is not None:
            return
        if isinstance(reply, ClassicJoinReply):
            assert isinstance(reply.generation, int)
            leader = self.leaders.setdefault(reply.generation, client.name if reply.members else "")
            if reply.members:
                assert leader in ("", client.name), "a generation with two leaders"
                self.leaders[reply.generation] = client.name
        if isinstance(reply, ClassicSyncReply):
            assert isinstance(reply.assignment, bytes)
            held = frozenset(number for _, number in assigned_partitions(reply.assignment))
            given = self.given.setdefault(client.generation, {})
            for name, others in given.items():
                assert name == client.name or held.isdisjoint(others), (
                    "one partition, two members, one generation"
                )
            given[client.name] = held

    # -- what clients do -----------------------------------------------------------------------------

    @rule(name=NAMES)
    def act(self, name: str) -> None:
        """The next request of a client that waits for no answer; a client that is not there yet comes."""
        client = self.clients.setdefault(name, Client(name))
        if client.waits is None:
            client.waits = self.c.send(client.request())
            self.c.run()
        self.listen()

    @rule(name=NAMES, graceful=st.booleans())
    @precondition(lambda self: self.clients)
    def end(self, name: str, graceful: bool) -> None:
        client = self.clients.pop(name, None)
        if client is not None and graceful and client.member_id is not None and name not in IS_STATIC:
            self.c.send(ClassicLeave(group="group", members=[ClassicLeaver(member_id=client.member_id)]))
            self.c.run()
        self.listen()

    @rule(name=NAMES)
    @precondition(lambda self: self.clients)
    def lose_connection(self, name: str) -> None:
        """The client gives up waiting, and will ask again."""
        if name in self.clients:
            self.clients[name].waits = None

    @rule(name=NAMES)
    @precondition(lambda self: self.clients)
    def commit(self, name: str) -> None:
        client = self.clients.get(name)
        if client is None or not client.held or client.member_id is None:
            return
        offset = next(self.offsets)
        reply = self.c.ask_any(self._commit(client, offset))
        if reply.error is not None:
            assert reply.error.name in RETRIED, reply.error
            return
        assert isinstance(reply, OffsetCommitReply)
        for partition in client.held:
            assert self.acknowledged.get(partition, (0, 0))[1] <= client.generation, (
                "a member of an older generation took a position back"
            )
            self.acknowledged[partition] = (offset, client.generation)
            self.unknown.pop(partition, None)

    def _commit(self, client: Client, offset: int) -> ClassicCommit:
        return ClassicCommit(
            group="group",
            member_id=client.member_id,
            member_epoch=client.generation,
            offsets=[CommitOffset(topic="events", partition=number, offset=offset) for number in client.held],
        )

    # -- what happens to them ------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 11.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.c.pass_time(seconds)
        self.listen()

    @rule()
    def fill_disk(self) -> None:
        self.c.log.fail_writes = KafkaStorageError("no space left on device")

    @rule()
    def free_disk(self) -> None:
        self.c.log.fail_writes = None

    @rule(name=NAMES, kept=st.integers(0, 2), settled=st.booleans())
    def crash(self, name: str, kept: int, settled: bool) -> None:
        """kill -9 with a request half way: written or not, synced or not, its outcome is unknown."""
        client = self.clients.get(name)
        if client is not None and client.held and client.member_id is not None:
            offset = next(self.offsets)
            self.c.send(self._commit(client, offset))
            for number in client.held:
                self.unknown.setdefault(number, set()).add(offset)
        elif client is not None and client.waits is None:
            self.c.send(client.request())
        if settled:
            self.c.settle()
        self.c.crash(kept=min(kept, self.c.log.unsynced))
        for each in self.clients.values():
            each.waits = None

    # -- what always holds ---------------------------------------------------------------------------

    @invariant()
    def generations_only_rise(self) -> None:
        group = self.c.actor._state.groups.get("group")
        durable = 0 if group is None else group.head.epoch
        live = self.c.actor._classic.group("group")
        assert live is None or live.generation >= durable
        heard = max((client.generation for client in self.clients.values()), default=0)
        if self.c.log.fail_writes is None:
            assert heard <= max(durable, self.generation), "a member knows a generation that is not durable"
        self.generation = max(self.generation, durable)

    @invariant()
    def offsets_never_go_back(self) -> None:
        committed = {number: offset for (_, number), offset in self.c.committed().items()}
        for number, (offset, _) in self.acknowledged.items():
            assert committed.get(number, -1) in {offset} | self.unknown.get(number, set())

    def teardown(self) -> None:
        try:
            self.settle_down()
        finally:
            self.small.stop()

    def settle_down(self) -> None:
        """Those who live go on; in the end all share all."""
        self.c.log.fail_writes = None
        if not self.clients:
            self.act("a")
        self.wait(1.5 * REBALANCE_S)
        for _ in range(ROUNDS_TO_SETTLE_MAX):
            for name in list(self.clients):
                self.act(name)
            self.wait(1.0)
        described = self.c.ask(GroupDescribe(group="group"), GroupDescribeReply)
        assert described.state == "Stable"
        assert {client.generation for client in self.clients.values()} == {described.epoch}
        held = [number for client in self.clients.values() for number in client.held]
        assert sorted(held) == list(range(PARTITIONS))


TestClassicGroups = ClassicMachine.TestCase
TestClassicGroups.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
