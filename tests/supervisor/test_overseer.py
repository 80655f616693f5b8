"""Transcripts of the overseer: what it is told, what it decides."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import UNSET, UnsetType

from actors.actor import Envelope
from actors.effects import Sender
from actors.messages import ChildBeat, ChildFailed, ChildReady, Configure, Routes, Stop
from odradek.protocol.codec import Encoding
from odradek.protocol.errors import KafkaStorageError
from odradek.protocol.messages import (
    AlterConfigs,
    ConfigsReply,
    CreatePartitions,
    CreatePartitionsReply,
    CreateTopics,
    CreateTopicsReply,
    DeleteTopics,
    DeleteTopicsReply,
    DescribeConfigs,
    ErrorReply,
    NewTopic,
    Ping,
    Reply,
    Request,
    Status,
)
from supervisor.access import AccessList
from supervisor.catalog import Catalog, CatalogRules, Topic
from supervisor.children import TRANSITIONS, Event, InvalidTransition, State, router_child
from supervisor.effects import (
    Effect,
    KillChild,
    Note,
    Respond,
    RespondStatus,
    SpawnOrder,
    TellChild,
    UnlinkDiscarded,
    UnlinkSockets,
)
from supervisor.exits import Exit
from supervisor.gatekeeper import Gatekeeper
from supervisor.overseer import Overseer, OverseerOptions
from supervisor.restarts import RestartHistory, RestartPolicy
from supervisor.topics import Topics

EffectT = TypeVar("EffectT", bound=Effect)
ReplyT = TypeVar("ReplyT", bound=Reply)
ItemT = TypeVar("ItemT")
CLIENT = Sender("control", b"router:0#1", False, Encoding.MSGPACK, 7)
OPTIONS = OverseerOptions(
    heartbeat_interval_s=1.0,
    heartbeat_timeout_s=15.0,
    start_timeout_s=120.0,
    stop_timeout_s=8.0,
    restart=RestartPolicy(crashes_max=3, boot_failures_max=2),
)
CORE = ["coordinator", "router:0"]


class FakeStorage:
    """Remembers what was made durable, in order; fails when told to."""

    def __init__(self) -> None:
        self.history: list[str] = []
        self.error: OSError | None = None
        self.saved: Catalog | None = None

    def save_access(self, access: AccessList) -> None:
        if self.error is not None:
            raise self.error
        self.history.append("access")

    def save(self, catalog: Catalog) -> None:
        if self.error is not None:
            raise self.error
        self.saved = catalog
        self.history.append(
            "save " + ",".join(f"{topic.name}:{topic.partitions}" for topic in catalog.topics)
        )

    def discard(self, topic: str, partitions: int) -> None:
        if self.error is not None:
            raise self.error
        self.history.append(f"discard {topic}:{partitions}")


class Script:
    """Plays the world around one overseer: processes, their words, the clock."""

    def __init__(
        self, *topics: Topic, options: OverseerOptions = OPTIONS, catalog: Catalog | None = None
    ) -> None:
        self.now_s = 1_000.0
        self.storage = FakeStorage()
        ids = (f"id-{number}" for number in itertools.count())
        catalog = catalog or Catalog(cluster_id="cluster", offsets_topic_id="offsets", topics=topics)
        self.topics = Topics(catalog, CatalogRules(partitions_max=100), self.storage, lambda: next(ids))
        self.gatekeeper = Gatekeeper(AccessList(), self.storage)
        self.overseer = Overseer(options, self.topics, self.gatekeeper, 1, self.now_s)
        self.processes: dict[str, int] = {}  # name -> incarnation of the process that lives
        self.pids = itertools.count(100)
        self.effects: list[Effect] = []
        self.overseer.start()
        self.turn()

    def turn(self) -> list[Effect]:
        """One turn of the loop without new messages."""
        self.overseer.tick(self.now_s)
        self.overseer.settle(self.now_s)
        new = self.overseer.take()
        self.effects += new
        return new

    def clear(self) -> None:
        self.turn()
        self.effects.clear()

    def of(self, kind: type[EffectT]) -> list[EffectT]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def told(self, message: type[Request]) -> list[str]:
        return [effect.name for effect in self.of(TellChild) if isinstance(effect.message, message)]

    def reply(self, kind: type[ReplyT]) -> ReplyT:
        replies = [effect.reply for effect in self.of(Respond)]
        assert len(replies) == 1, replies
        assert isinstance(replies[0], kind), replies[0]
        return replies[0]

    def routes(self) -> Routes:
        messages = [effect.message for effect in self.of(TellChild) if isinstance(effect.message, Routes)]
        assert messages, "no routes were published"
        return messages[-1]

    def state(self, name: str) -> str:
        return next(row.state for row in self.overseer.statuses(self.now_s) if row.name == name)

    # -- the world -------------------------------------------------------------------------------------

    def spawn(self) -> list[SpawnOrder]:
        """Starts every process that is wanted now."""
        orders = []
        while (order := self.overseer.next_spawn()) is not None:
            assert order.name not in self.processes, f"two processes of {order.name}"
            self.processes[order.name] = order.incarnation
            self.overseer.spawned(order.name, next(self.pids), self.now_s)
            orders.append(order)
        self.turn()
        return orders

    def say(self, message: Request) -> None:
        self.overseer.receive(Envelope(CLIENT, message), self.now_s)
        self.turn()

    def ready(self, *names: str) -> None:
        for name in names:
            self.say(
                ChildReady(
                    name=name,
                    incarnation=self.processes[name],
                    inner=f"ipc://{name}.inner",
                    endpoints=[f"tcp://{name}"],
                    leader_epoch=self.processes[name],
                )
            )

    def beat(self, *names: str) -> None:
        for name in names or list(self.processes):
            self.say(ChildBeat(name=name, incarnation=self.processes[name]))

    def die(self, *names: str, exit_code: int | None = -9) -> None:
        for name in names:
            self.overseer.died(name, self.processes.pop(name), exit_code, self.now_s)
            self.turn()

    def after(self, seconds: float) -> None:
        """Time passes in steps that the loop would take, and every living process beats."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s = min(until_s, self.now_s + OPTIONS.heartbeat_interval_s)
            self.beat()

    def silence(self, seconds: float, *silent: str) -> None:
        """Time passes and ``silent`` do not beat."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s = min(until_s, self.now_s + OPTIONS.heartbeat_interval_s)
            for name in [each for each in self.processes if each not in silent]:
                self.say(ChildBeat(name=name, incarnation=self.processes[name]))
            self.turn()

    def serve(self) -> None:
        """Everything that is wanted starts and serves."""
        self.ready(*(order.name for order in self.spawn()))


def topic(name: str = "events", partitions: int = 2) -> Topic:
    return Topic(name=name, topic_id=f"id-of-{name}", partitions=partitions)


def serving(*topics: Topic) -> Script:
    script = Script(*topics)
    script.serve()
    script.clear()
    return script


def only(results: list[ItemT] | UnsetType) -> ItemT:
    assert results is not UNSET
    (result,) = results
    return result


def error_names(errors: Sequence[object]) -> list[str | None]:
    return [getattr(error, "name", None) for error in errors]


# -- starting ------------------------------------------------------------------------------------------


def test_the_coordinator_and_routers_start_before_the_partitions() -> None:
    orders = Script(topic()).spawn()
    assert [order.name for order in orders] == [*CORE, "partition:events-0", "partition:events-1"]
    assert orders[2].topic == topic()


def test_ready_when_every_child_serves() -> None:
    script = Script(topic())
    script.spawn()
    script.ready(*CORE, "partition:events-0")
    assert not script.overseer.ready
    script.ready("partition:events-1")
    assert script.overseer.ready
    assert script.overseer.routers == ["tcp://router:0"]


def test_routes_tell_routers_and_coordinator_where_everything_is() -> None:
    script = Script(topic())
    script.serve()
    assert set(script.told(Routes)) == {"router:0", "coordinator"}
    routes = script.routes()
    assert routes.coordinator == "ipc://coordinator.inner"
    assert routes.routers == ["tcp://router:0"]
    (route,) = routes.topics
    assert route.config["segment.bytes"] == 1 << 30
    assert [partition.inner for partition in route.partitions] == [
        "ipc://partition:events-0.inner",
        "ipc://partition:events-1.inner",
    ]


def test_routes_are_published_once_a_turn_and_only_when_something_changed() -> None:
    script = serving(topic(partitions=20))
    script.overseer.receive(
        Envelope(CLIENT, CreateTopics(topics=[NewTopic(name="b", partitions=5)])), 1_000.0
    )
    script.turn()
    assert script.told(Routes) == ["router:0", "coordinator"]
    script.clear()
    script.beat()
    assert script.told(Routes) == []


def test_a_starting_child_that_beats_may_take_its_time_and_a_silent_one_not() -> None:
    script = Script(topic())
    script.spawn()
    script.ready(*CORE)
    script.silence(119, "partition:events-0")
    assert script.of(KillChild) == []
    script.silence(2, "partition:events-0")
    assert [kill.name for kill in script.of(KillChild)] == ["partition:events-0"]
    assert script.state("partition:events-1") == "starting"


# -- death and succession ------------------------------------------------------------------------------


def test_a_crashed_child_is_replaced_at_once_and_its_route_says_so() -> None:
    script = serving(topic())
    script.die("partition:events-0")
    assert script.routes().topics[0].partitions[0].inner is None
    script.clear()
    (order,) = script.spawn()
    assert order.name == "partition:events-0"
    script.ready("partition:events-0")
    assert script.routes().topics[0].partitions[0].inner is not None
    row = next(row for row in script.overseer.statuses(script.now_s) if row.name == "partition:events-0")
    assert (row.state, row.restarts) == ("serving", 1)


def test_a_router_comes_back_where_clients_know_it() -> None:
    script = serving()
    script.die("router:0")
    assert script.overseer.routers == ["tcp://router:0"]
    (order,) = script.spawn()
    assert order.endpoints == ("tcp://router:0",)


def test_a_hung_child_is_killed_and_replaced_only_when_reaped() -> None:
    script = serving(topic())
    script.silence(15.5, "partition:events-0")
    (kill,) = script.of(KillChild)
    assert (kill.name, kill.incarnation) == ("partition:events-0", script.processes["partition:events-0"])
    assert script.state("partition:events-0") == "killed"
    script.after(60)
    assert script.spawn() == []  # killed, and not ended: a successor would share its log
    assert any(note.event == "killed process does not end" for note in script.of(Note))
    script.die("partition:events-0")
    assert [order.name for order in script.spawn()] == ["partition:events-0"]


def test_words_of_a_dead_incarnation_are_not_heard() -> None:
    script = serving(topic())
    old = script.processes["partition:events-0"]
    script.die("partition:events-0")
    script.spawn()
    script.clear()
    script.say(ChildReady(name="partition:events-0", incarnation=old, inner="ipc://old"))
    assert script.state("partition:events-0") == "starting"
    script.say(ChildFailed(name="partition:events-0", incarnation=old, error=KafkaStorageError().wire()))
    assert script.state("partition:events-0") == "starting"
    script.overseer.died("partition:events-0", old, 1, script.now_s)
    assert script.state("partition:events-0") == "starting"
    assert script.told(Routes) == []


def test_a_supervisor_that_slept_kills_nobody() -> None:
    script = serving(topic())
    script.now_s += 3_600.0
    script.turn()
    assert script.of(KillChild) == []
    script.after(30)
    assert script.of(KillChild) == []


def test_the_loop_wakes_often_enough_to_tell_sleep_from_silence() -> None:
    script = serving(topic())
    while script.of(KillChild) == []:
        script.now_s = script.overseer.deadline()  # nobody says a word
        script.turn()
        assert script.now_s < 1_017.0
    assert len(script.of(KillChild)) == 4


def test_back_off_grows_and_then_the_partition_is_given_up_with_its_reason() -> None:
    script = serving(topic())
    waits_s = []
    for _ in range(3):
        script.die("partition:events-0", exit_code=1)
        began_s = script.now_s
        while not script.spawn():
            script.now_s = script.overseer.deadline()
            script.turn()
        waits_s.append(round(script.now_s - began_s, 3))
        script.ready("partition:events-0")
    assert waits_s == [0.0, 0.05, 0.1]
    script.clear()
    script.die("partition:events-0", exit_code=1)
    assert script.state("partition:events-0") == "failed"
    error = script.routes().topics[0].partitions[0].error
    assert error is not None
    assert error.name == "KAFKA_STORAGE_ERROR"
    assert "exit code 1" in error.message
    assert script.routes().topics[0].partitions[1].inner is not None
    script.after(600)
    assert script.spawn() == []
    assert script.overseer.exit is None


def test_a_child_that_says_why_it_failed_is_quoted() -> None:
    script = Script(topic(partitions=1))
    for _ in range(3):
        script.after(5)
        script.ready(*(order.name for order in script.spawn() if order.name in CORE))
        error = KafkaStorageError("the log is damaged").wire()
        name = "partition:events-0"
        script.say(ChildFailed(name=name, incarnation=script.processes[name], error=error))
        assert script.state(name) == "ending"
        script.die(name, exit_code=Exit.CHILD_FAILED)
    assert script.state(name) == "failed"
    assert script.overseer.ready
    error_found = script.routes().topics[0].partitions[0].error
    assert error_found is not None
    assert "could not start, 3 times in a row; the last time: the log is damaged" in error_found.message


def test_a_child_that_fails_and_lingers_is_killed() -> None:
    script = serving(topic())
    name = "partition:events-0"
    script.say(ChildFailed(name=name, incarnation=script.processes[name], error=KafkaStorageError().wire()))
    script.after(3)
    assert [kill.name for kill in script.of(KillChild)] == [name]


def test_a_child_that_contradicts_itself_is_killed_and_the_supervisor_lives() -> None:
    script = serving(topic())
    script.ready("partition:events-0")
    assert [kill.name for kill in script.of(KillChild)] == ["partition:events-0"]
    script.die("partition:events-0")
    assert script.spawn()


@pytest.mark.parametrize("name", CORE)
def test_a_router_or_coordinator_that_cannot_start_ends_the_broker(name: str) -> None:
    script = Script(topic())
    for _ in range(3):
        assert script.overseer.exit is None
        script.ready(*(order.name for order in script.spawn() if order.name != name))
        script.die(name, exit_code=1)
        script.after(5)
    assert script.overseer.exit is Exit.GAVE_UP
    assert "partition:events-0" in script.told(Stop) or name != "router:0"


@pytest.mark.parametrize("name", CORE)
def test_a_router_or_coordinator_that_once_served_may_die_as_often_as_it_likes(name: str) -> None:
    script = serving(topic())
    for _ in range(30):
        script.die(name, exit_code=1)
        assert script.state(name) in ("backing-off", "waiting")
        script.after(OPTIONS.restart.delay_max_s)
        script.serve()
    for _ in range(10):  # nor does it matter that it cannot even start for a while
        script.die(name, exit_code=1)
        script.after(OPTIONS.restart.delay_max_s)
        assert [order.name for order in script.spawn()] == [name]
    script.ready(name)
    assert script.overseer.exit is None
    assert script.overseer.ready


def test_an_essential_child_that_crashes_at_once_each_time_is_started_no_more_often_than_allowed() -> None:
    script = serving()
    starts_s: list[float] = []
    while len(starts_s) < 20:
        script.die("router:0", exit_code=1)
        while not script.spawn():
            script.now_s = script.overseer.deadline()
            script.turn()
        starts_s.append(script.now_s)
        script.ready("router:0")
    window_s = OPTIONS.restart.window_s
    for end_s in starts_s:
        recent = [start_s for start_s in starts_s if end_s - window_s < start_s <= end_s]
        assert len(recent) <= OPTIONS.restart.crashes_max + 1 + window_s / OPTIONS.restart.delay_max_s


def test_a_taken_port_ends_the_broker_with_its_own_code() -> None:
    script = Script()
    script.spawn()
    script.die("router:0", exit_code=Exit.PORT_IN_USE)
    assert script.overseer.exit is Exit.PORT_IN_USE


def test_a_port_that_is_taken_while_the_router_restarts_is_waited_for() -> None:
    script = serving()
    script.die("router:0", exit_code=1)
    script.spawn()
    script.die("router:0", exit_code=Exit.PORT_IN_USE)
    assert script.overseer.exit is None
    script.after(1)
    script.serve()
    assert script.overseer.ready


def test_a_process_that_cannot_be_forked_is_tried_again() -> None:
    script = serving(topic())
    script.die("partition:events-0")
    order = script.overseer.next_spawn()
    assert order is not None
    script.overseer.spawn_failed(order.name, "out of memory", script.now_s)
    script.after(1)
    assert [order.name for order in script.spawn()] == ["partition:events-0"]


# -- topics --------------------------------------------------------------------------------------------


def test_a_topic_is_durable_before_its_processes_start_and_answered_when_all_serve() -> None:
    script = serving()
    script.storage.error = OSError(28, "No space left on device")
    script.say(CreateTopics(topics=[NewTopic(name="a", partitions=2)]))
    error = script.reply(ErrorReply).error
    assert error is not None
    assert "No space left on device; nothing was changed" in error.message
    assert script.spawn() == []
    script.storage.error = None
    script.clear()
    script.say(CreateTopics(topics=[NewTopic(name="a", partitions=2)]))
    assert script.storage.history == ["save a:2"]
    assert len(script.spawn()) == 2
    script.ready("partition:a-0")
    assert script.of(Respond) == []
    script.ready("partition:a-1")
    created = only(script.reply(CreateTopicsReply).topics)
    assert (created.name, created.error) == ("a", None)
    assert created.topic_id is not None


def test_each_topic_of_one_request_has_its_own_result() -> None:
    script = serving(topic())
    wanted = [
        NewTopic(name="good"),
        NewTopic(name="events"),
        NewTopic(name="../bad"),
        NewTopic(name="twice"),
        NewTopic(name="twice"),
        NewTopic(name="odd", config={"x": 1}),
    ]
    script.say(CreateTopics(topics=wanted))
    script.serve()
    results = script.reply(CreateTopicsReply).topics
    assert results
    assert error_names([result.error for result in results]) == [
        None,
        "TOPIC_ALREADY_EXISTS",
        "INVALID_TOPIC_EXCEPTION",
        "INVALID_REQUEST",
        "INVALID_REQUEST",
        "INVALID_CONFIG",
    ]
    assert script.storage.history == ["save events:2,good:1"]


def test_validate_only_creates_nothing() -> None:
    script = serving()
    script.say(CreateTopics(topics=[NewTopic(name="a"), NewTopic(name="/")], validate_only=True))
    results = script.reply(CreateTopicsReply).topics
    assert results
    assert error_names([result.error for result in results]) == [None, "INVALID_TOPIC_EXCEPTION"]
    assert script.storage.history == []
    assert script.spawn() == []


def test_a_create_that_takes_too_long_says_what_is_unknown() -> None:
    script = serving()
    script.say(CreateTopics(topics=[NewTopic(name="a", partitions=2)], timeout_ms=5_000))
    script.spawn()
    script.ready("partition:a-0")
    script.after(4.5)
    assert script.of(Respond) == []
    script.after(1)
    created = only(script.reply(CreateTopicsReply).topics)
    assert created.error is not None
    assert created.error.name == "REQUEST_TIMED_OUT"
    assert "1 of its 2 partitions serve" in created.error.message
    script.clear()
    script.ready("partition:a-1")
    assert script.of(Respond) == []


def test_a_delete_ends_the_processes_then_the_directories_then_answers() -> None:
    script = serving(topic())
    script.say(DeleteTopics(names=["events", "none"]))
    assert script.storage.history == ["save "]
    assert script.routes().topics == []
    assert script.told(Stop) == ["partition:events-0", "partition:events-1"]
    script.die("partition:events-0", exit_code=0)
    assert script.storage.history == ["save "]  # the other one still has its files open
    assert script.of(Respond) == []
    script.die("partition:events-1", exit_code=0)
    assert script.storage.history == ["save ", "discard events:2", "save "]
    assert script.of(UnlinkDiscarded)
    assert [effect.name for effect in script.of(UnlinkSockets)] == [
        "partition:events-0",
        "partition:events-1",
    ]
    results = script.reply(DeleteTopicsReply).topics
    assert results
    assert error_names([result.error for result in results]) == [None, "UNKNOWN_TOPIC_OR_PARTITION"]
    assert [row.name for row in script.overseer.statuses(script.now_s)] == ["supervisor", *CORE]


def test_a_partition_that_does_not_stop_for_a_delete_is_killed_first() -> None:
    script = serving(topic(partitions=1))
    script.say(DeleteTopics(names=["events"]))
    script.silence(5, "partition:events-0")
    assert [kill.name for kill in script.of(KillChild)] == ["partition:events-0"]
    assert "discard events:1" not in script.storage.history
    script.die("partition:events-0")
    assert "discard events:1" in script.storage.history
    assert script.spawn() == []


def test_a_delete_whose_rename_fails_is_told_and_can_be_repeated() -> None:
    script = serving(topic(partitions=1))
    script.say(DeleteTopics(names=["events"]))
    script.storage.error = OSError(5, "Input/output error")
    script.die("partition:events-0", exit_code=0)
    deleted = only(script.reply(DeleteTopicsReply).topics)
    assert deleted.error is not None
    assert "delete it again" in deleted.error.message
    script.clear()
    script.storage.error = None
    script.say(DeleteTopics(names=["events"]))
    deleted = only(script.reply(DeleteTopicsReply).topics)
    assert deleted.error is None
    assert script.storage.history[-2:] == ["discard events:1", "save "]


def test_a_deletion_that_a_crash_interrupted_is_finished_before_anything_starts() -> None:
    catalog = Catalog(cluster_id="c", offsets_topic_id="o", topics=(topic(),)).with_deleting("events")
    script = Script(catalog=catalog)
    assert script.storage.history == ["discard events:2", "save "]
    assert [order.name for order in script.spawn()] == CORE


def test_a_topic_deleted_while_it_is_created_answers_both() -> None:
    script = serving()
    script.say(CreateTopics(topics=[NewTopic(name="a")]))
    script.say(DeleteTopics(names=["a"]))
    replies = [effect.reply for effect in script.of(Respond)]
    assert [type(reply) for reply in replies] == [CreateTopicsReply, DeleteTopicsReply]
    assert isinstance(replies[0], CreateTopicsReply)
    assert error_names([result.error for result in replies[0].topics or ()]) == ["UNKNOWN_TOPIC_OR_PARTITION"]
    assert script.spawn() == []


def test_a_topic_created_again_starts_afresh() -> None:
    script = serving(topic(partitions=1))
    old = script.processes["partition:events-0"]
    script.say(DeleteTopics(names=["events"]))
    script.die("partition:events-0", exit_code=0)
    script.clear()
    script.say(CreateTopics(topics=[NewTopic(name="events")]))
    (order,) = script.spawn()
    assert order.incarnation > old
    assert order.topic is not None
    assert order.topic.topic_id != "id-of-events"


def test_partitions_are_added_while_the_others_serve() -> None:
    script = serving(topic())
    script.say(CreatePartitions(topic="events", partitions=4))
    assert script.storage.history == ["save events:4"]
    assert [order.name for order in script.spawn()] == ["partition:events-2", "partition:events-3"]
    script.ready("partition:events-2", "partition:events-3")
    assert script.reply(CreatePartitionsReply).error is None
    assert len(script.routes().topics[0].partitions) == 4
    script.clear()
    script.say(CreatePartitions(topic="events", partitions=3))
    assert error_names([script.reply(ErrorReply).error]) == ["INVALID_PARTITIONS"]


def test_new_settings_are_durable_and_reach_partitions_routers_and_successors() -> None:
    script = serving(topic())
    script.die("partition:events-1")
    script.spawn()
    script.clear()
    script.say(AlterConfigs(topic="events", config={"segment.bytes": "4096"}))
    assert script.storage.history == ["save events:2"]
    assert script.told(Configure) == ["partition:events-0"]
    assert script.routes().topics[0].config["segment.bytes"] == 4096
    config = script.reply(ConfigsReply).config
    assert config
    assert (config["segment.bytes"].value, config["segment.bytes"].default) == (4096, 1 << 30)
    script.ready("partition:events-1")  # it was started with the old settings
    assert script.told(Configure) == ["partition:events-0", "partition:events-1"]
    script.clear()
    script.say(DescribeConfigs(topic="events"))
    assert (script.reply(ConfigsReply).config or {})["segment.bytes"].value == 4096


def test_what_was_not_delivered_is_said_again() -> None:
    script = serving(topic())
    script.say(AlterConfigs(topic="events", config={"segment.bytes": 4096}))
    lost = [effect for effect in script.of(TellChild) if effect.name in ("partition:events-0", "router:0")]
    for effect in lost:
        script.overseer.undelivered(effect)
    script.clear()
    script.beat()
    assert script.told(Configure) == ["partition:events-0"]
    assert script.told(Routes) == ["router:0"]


def test_requests_that_are_not_for_the_supervisor_are_refused() -> None:
    script = serving()
    script.say(Ping())
    assert error_names([script.reply(ErrorReply).error]) == ["INVALID_REQUEST"]


def test_status_names_everybody() -> None:
    script = serving(topic())
    script.say(Status())
    (effect,) = script.of(RespondStatus)
    assert [row.name for row in effect.rows] == [
        "supervisor",
        *CORE,
        "partition:events-0",
        "partition:events-1",
    ]
    assert {row.state for row in effect.rows} == {"serving"}
    assert all(row.pid for row in effect.rows)


# -- stopping ------------------------------------------------------------------------------------------


def test_a_stop_goes_from_routers_over_partitions_to_the_coordinator() -> None:
    script = serving(topic())
    script.overseer.terminate(Exit.OK, "told to", script.now_s)
    script.turn()
    assert script.told(Stop) == ["router:0"]
    script.die("router:0", exit_code=0)
    assert script.told(Stop) == ["router:0", "partition:events-0", "partition:events-1"]
    script.die("partition:events-0", "partition:events-1", exit_code=0)
    assert script.told(Stop)[-1] == "coordinator"
    assert not script.overseer.finished
    script.die("coordinator", exit_code=0)
    assert script.overseer.finished
    assert script.overseer.exit is Exit.OK
    assert script.spawn() == []


def test_a_stop_answers_what_waits_and_refuses_what_comes() -> None:
    script = serving()
    script.say(CreateTopics(topics=[NewTopic(name="a")]))
    script.overseer.terminate(Exit.OK, "told to", script.now_s)
    script.turn()
    script.say(CreateTopics(topics=[NewTopic(name="b")]))
    errors = [effect.reply.error for effect in script.of(Respond)]
    assert error_names(errors) == ["LEADER_NOT_AVAILABLE", "LEADER_NOT_AVAILABLE"]
    assert script.spawn() == []


def test_a_stop_is_over_in_time_though_everybody_hangs() -> None:
    script = serving(topic())
    script.overseer.terminate(Exit.OK, "told to", script.now_s)
    began_s = script.now_s
    while not script.overseer.finished:
        script.now_s = script.overseer.deadline()
        script.turn()
        for kill in script.of(KillChild):
            if kill.name in script.processes:
                script.die(kill.name)
    assert script.now_s - began_s <= OPTIONS.stop_timeout_s + 0.1
    assert script.overseer.exit is Exit.FORCED
    assert script.processes == {}


def test_a_stop_does_not_wait_for_ever_for_what_kill_does_not_end() -> None:
    script = serving(topic(partitions=1))
    script.overseer.terminate(Exit.OK, "told to", script.now_s)
    began_s = script.now_s
    while not script.overseer.finished:
        script.now_s = script.overseer.deadline()
        script.turn()
    assert script.now_s - began_s <= OPTIONS.stop_timeout_s + 1.1
    assert script.overseer.exit is Exit.FORCED


def test_a_second_signal_kills() -> None:
    script = serving(topic())
    script.overseer.terminate(Exit.OK, "told to", script.now_s)
    script.overseer.kill_all(script.now_s)
    script.turn()
    assert {kill.name for kill in script.of(KillChild)} == set(script.processes)
    script.die(*list(script.processes))
    assert script.overseer.finished
    assert script.overseer.exit is Exit.FORCED


# -- the table -----------------------------------------------------------------------------------------


def test_a_pair_without_an_entry_names_both() -> None:
    child = router_child(0, RestartHistory(RestartPolicy()))
    with pytest.raises(InvalidTransition, match=r"router:0.* is waiting; ready cannot happen"):
        child.apply(Event.READY)
    assert child.state is State.WAITING


def test_a_successor_is_reached_only_through_death() -> None:
    into = {
        state: {before for (before, _), after in TRANSITIONS.items() if after is state} for state in State
    }
    assert into[State.STARTING] == {State.WAITING}
    assert into[State.WAITING] == {State.BACKING_OFF}
    assert into[State.BACKING_OFF] == {State.DEAD}
    assert {event for (_, event), after in TRANSITIONS.items() if after is State.DEAD} == {Event.DIED}


class OverseerMachine(RuleBasedStateMachine):
    """Anything may happen in any order: never two processes of one name, and all comes right in the end."""

    def __init__(self) -> None:
        super().__init__()
        options = OverseerOptions(restart=RestartPolicy(crashes_max=1_000, boot_failures_max=1_000))
        self.script = Script(topic(), options=options)
        self.names = itertools.count()
        self.asked = 0

    @rule()
    def spawn(self) -> None:
        self.script.spawn()  # asserts that no predecessor lives

    @rule(data=st.data())
    @precondition(lambda self: self.script.processes)
    def becomes_ready(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.script.processes)))
        if self.script.state(name) == "starting":
            self.script.ready(name)

    @rule(data=st.data(), exit_code=st.sampled_from([0, 1, -9, None]))
    @precondition(lambda self: self.script.processes)
    def dies(self, data: st.DataObject, exit_code: int | None) -> None:
        self.script.die(data.draw(st.sampled_from(sorted(self.script.processes))), exit_code=exit_code)

    @rule(seconds=st.floats(0.01, 40))
    def silence(self, seconds: float) -> None:
        self.script.silence(seconds, *self.script.processes)

    @rule(partitions=st.integers(1, 3))
    def create(self, partitions: int) -> None:
        wanted = NewTopic(name=f"t{next(self.names)}", partitions=partitions)
        self.script.say(CreateTopics(topics=[wanted]))
        self.asked += 1

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        topics = self.script.topics.catalog.topics
        if topics:
            name = data.draw(st.sampled_from([each.name for each in topics]))
            self.script.say(DeleteTopics(names=[name]))
            self.asked += 1

    @invariant()
    def every_partition_of_the_catalogue_has_a_child(self) -> None:
        rows = {row.name for row in self.script.overseer.statuses(self.script.now_s)}
        for each in self.script.topics.catalog.topics:
            assert {f"partition:{each.name}-{number}" for number in range(each.partitions)} <= rows

    def teardown(self) -> None:
        """The world behaves from now on: what is killed or told to stop ends, what starts serves."""
        script = self.script
        for _ in range(20):
            script.after(1)
            for name in list(script.processes):
                state = script.state(name)
                if state in ("killed", "stopping"):
                    script.die(name, exit_code=-9 if state == "killed" else 0)
                elif state == "starting":
                    script.ready(name)
            script.serve()
        script.after(60)
        assert script.overseer.ready, script.overseer.statuses(script.now_s)
        assert script.topics.catalog.deleting == ()
        assert len(script.of(Respond)) == self.asked


TestOverseerMachine = OverseerMachine.TestCase
TestOverseerMachine.settings = hypothesis_settings(max_examples=40, stateful_step_count=30, deadline=None)
