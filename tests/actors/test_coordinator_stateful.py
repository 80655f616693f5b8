"""Members that join, stall, leave and miss replies, full disks, dying coordinators: what always holds.

- No partition is ever held by two members that could act on it, and no commit of a former holder counts.
- What was acknowledged is there after a crash; what was read never goes back.
- When the trouble ends, every partition is held, evenly, and all know the same epoch.
- Meanwhile the internal log is compacted again and again, some members follow a pattern instead of names,
  one is static and comes back under new ids, and what nobody uses for a week is forgotten.
"""

from __future__ import annotations

from itertools import count
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors import compaction
from actors.coordinator import HEARTBEAT_INTERVAL_MS_MIN
from odradek.protocol.errors import KafkaStorageError
from odradek.protocol.messages import GroupDescribe, GroupDescribeReply, OffsetCommitReply
from tests.support.coordinating import Coordinating, FakeMember, commit, heartbeat

SESSION_S = 45.0
ROUNDS_TO_SETTLE_MAX = 40
MEMBER_IDS = st.sampled_from("abcde")
FOLLOWS_A_PATTERN, IS_STATIC = "de", "e"
TOPICS = ("events", "extra")
WEEK_S = 7 * 86_400.0


class GroupMachine(RuleBasedStateMachine):
    """One group of up to five clients on two topics, one of which comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.c = Coordinating(topics={"events": 5})
        self.members: dict[str, FakeMember] = {}
        self.heard_s: dict[str, float] = {}
        """When each client last got a reply: one that hears nothing for a session lets go by itself."""
        self.acknowledged: dict[int, int] = {}
        self.unknown: dict[int, set[int]] = {}
        """Offsets whose commit was neither acknowledged nor refused."""
        self.seen: dict[int, int] = {}
        self.next_offset = 1
        self.epoch = 0
        self.restarts = count(1)
        self.makings = count(1)
        self.small = patch.multiple(compaction, LOG_BYTES_MIN=2000, PIECE_ENTRIES_MAX=3, RETRY_BYTES=500)
        self.small.start()

    @initialize(partitions=st.integers(1, 6))
    def begin(self, partitions: int) -> None:
        self.c.tell_topics({"events": partitions})

    # -- what clients do -----------------------------------------------------------------------------

    @rule(name=MEMBER_IDS)
    def beat(self, name: str) -> None:
        """A heartbeat and its reply; a client that is not there yet joins."""
        member = self.members.setdefault(name, self.client(name, name))
        if member.beat().error is None or member.epoch == 0:
            self.heard_s[name] = self.c.clock.monotonic_s

    def client(self, name: str, member_id: str) -> FakeMember:
        """Their subscriptions come to the same; they say it in two ways."""
        fields: dict[str, object] = {"instance_id": name} if name in IS_STATIC else {}
        if name in FOLLOWS_A_PATTERN:
            return FakeMember(self.c, member_id, (), topic_pattern="ev.*|extra", **fields)
        return FakeMember(self.c, member_id, TOPICS, **fields)

    @rule(says_so=st.booleans())
    @precondition(lambda self: IS_STATIC in self.members)
    def restart_static_member(self, says_so: bool) -> None:
        """It comes back under another member id, at once where it took its leave."""
        before = self.members[IS_STATIC]
        if says_so and before.epoch > 0:
            self.c.ask_any(heartbeat(before.id, -2))
        self.members[IS_STATIC] = self.client(IS_STATIC, f"{IS_STATIC}{next(self.restarts)}")

    @rule(name=MEMBER_IDS)
    @precondition(lambda self: self.members)
    def lose_reply(self, name: str) -> None:
        """The coordinator hears the member, who does not hear it."""
        if name in self.members:
            self.c.ask_any(self.members[name].request())

    @rule(name=MEMBER_IDS, graceful=st.booleans())
    @precondition(lambda self: self.members)
    def end(self, name: str, graceful: bool) -> None:
        member = self.members.pop(name, None)
        if member is not None and graceful and member.epoch > 0:
            member.epoch, member.held = -1, {}
            self.c.ask_any(member.request())

    @rule(name=MEMBER_IDS)
    @precondition(lambda self: self.members)
    def commit(self, name: str) -> None:
        """A member commits further offsets for all that it holds; only what it holds may count."""
        member = self.members.get(name)
        offsets = self.next_offsets(member)
        if member is None or not offsets:
            return
        reply = self.c.ask_any(commit(offsets, member.id, member.epoch))
        if reply.error is not None:
            if reply.error.name == "KAFKA_STORAGE_ERROR":
                return
            assert reply.error.name in ("STALE_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID"), reply.error
            return
        assert isinstance(reply, OffsetCommitReply)
        assert isinstance(reply.offsets, list)
        for result in reply.offsets:
            if result.error is None:
                assert self.owner_of(result.partition) in (None, member.id), (
                    "a former holder's commit counted"
                )
                self.acknowledged[result.partition] = offsets[result.partition]
                self.unknown.pop(result.partition, None)

    # -- what happens to them ------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 20.0, 46.0]))
    def wait(self, seconds: float) -> None:
        """A client that has heard nothing for a session knows that it is out, and lets go."""
        self.c.pass_time(seconds)
        for name, member in self.members.items():
            if self.c.clock.monotonic_s - self.heard_s.get(name, 0.0) >= SESSION_S:
                member.epoch, member.held = 0, {}

    @rule(partitions=st.integers(1, 6))
    def change_topics(self, partitions: int) -> None:
        """More partitions; a topic never loses one."""
        if partitions > self.c.topics["events"]:
            self.c.tell_topics({**self.c.topics, "events": partitions})

    @rule(partitions=st.integers(0, 3))
    def make_or_delete_the_other_topic(self, partitions: int) -> None:
        """The coordinator may hear of both at once: it is another topic of the same name."""
        extra = {"extra": partitions} if partitions else {}
        ids = {"extra": f"extra-{next(self.makings)}"}
        self.c.tell_topics({"events": self.c.topics["events"], **extra}, ids)

    @rule()
    @precondition(lambda self: self.c.log.fail_writes is None)
    def rest_for_more_than_a_week(self) -> None:
        """Nobody says anything: all are expelled, the group is empty, and in the end it is forgotten."""
        self.wait(WEEK_S + 3600)
        assert self.c.committed() == {}
        assert "group" not in self.c.actor._state.groups
        self.acknowledged, self.unknown, self.seen, self.epoch = {}, {}, {}, 0

    @rule()
    def fill_disk(self) -> None:
        self.c.log.fail_writes = KafkaStorageError("no space left on device")

    @rule()
    def free_disk(self) -> None:
        self.c.log.fail_writes = None

    @rule(data=st.data(), name=MEMBER_IDS, kept=st.integers(0, 2))
    def crash(self, data: st.DataObject, name: str, kept: int) -> None:
        """kill -9 with a request half way: written or not, synced or not, its outcome is unknown."""
        member = self.members.get(name)
        offsets = self.next_offsets(member)
        if member is not None and offsets:
            self.c.send(commit(offsets, member.id, member.epoch))
            for number, offset in offsets.items():
                self.unknown.setdefault(number, set()).add(offset)
        elif member is not None:
            self.c.send(member.request())
        if data.draw(st.booleans(), "settled"):
            self.c.settle()
        self.c.crash(kept=min(kept, self.c.log.unsynced))

    def next_offsets(self, member: FakeMember | None) -> dict[int, int]:
        """Further offsets for all that a member holds of the topic that stays."""
        held = [] if member is None else [number for topic, number in member.slots() if topic == "events"]
        offset, self.next_offset = self.next_offset, self.next_offset + 1
        return dict.fromkeys(held, offset)

    # -- what always holds ---------------------------------------------------------------------------

    def owner_of(self, partition: int) -> str | None:
        return self.c.actor._state.group_or_new("group").owners.get(("events", partition))

    @invariant()
    def nobody_holds_what_another_may_have(self) -> None:
        """Of the members that the coordinator counts in, each holds only what is its alone."""
        group = self.c.actor._state.group_or_new("group")
        claimed: set[tuple[str, int]] = set()
        for name, member in group.members.items():
            assert claimed.isdisjoint(member.standing.held), "two owners"
            claimed |= member.standing.held
            client = next((each for each in self.members.values() if each.id == name), None)
            if client is not None and client.epoch > 0 and client.epoch >= member.standing.previous_epoch:
                assert client.slots() <= member.standing.held, "a client holds what the coordinator gave away"
        assert claimed == group.owners.keys()

    @invariant()
    def epochs_only_rise(self) -> None:
        group = self.c.actor._state.groups.get("group")
        if group is not None:
            assert group.head.epoch >= group.head.target_epoch
            assert all(member.standing.epoch <= group.head.epoch for member in group.members.values())
            assert group.head.epoch >= self.epoch
            self.epoch = group.head.epoch

    @invariant()
    def offsets_never_go_back(self) -> None:
        committed = {number: offset for (_, number), offset in self.c.committed().items()}
        for number, offset in self.acknowledged.items():
            assert committed.get(number, -1) in {offset} | self.unknown.get(number, set())
        for number, offset in self.seen.items():
            assert committed.get(number, -1) >= offset, "a reader saw more than is there now"
        self.seen = committed

    # -- when the trouble ends -----------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.settle_down()
        finally:
            self.small.stop()

    def settle_down(self) -> None:
        """Those who live beat on; in the end all is even, complete and agreed."""
        self.c.log.fail_writes = None
        names = list(self.members) or ["a"]
        for _ in range(2):
            for name in names:
                self.beat(name)
            self.wait(30.0)
        for _ in range(ROUNDS_TO_SETTLE_MAX):
            for name in names:
                self.beat(name)
            self.c.pass_time(0.1)
            self.nobody_holds_what_another_may_have()
        described = self.c.ask(GroupDescribe(group="group"), GroupDescribeReply)
        assert described.state == "Stable"
        assert {member.epoch for member in self.members.values()} == {described.epoch}
        sizes = [len(member.slots()) for member in self.members.values()]
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) == sum(self.c.topics.values())
        assert {member.interval_ms for member in self.members.values()} == {HEARTBEAT_INTERVAL_MS_MIN}
        self.offsets_never_go_back()


TestGroups = GroupMachine.TestCase
TestGroups.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
