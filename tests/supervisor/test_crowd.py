"""The overseer of many children: what is done for all of them is done less often, or has more time."""

from __future__ import annotations

import pytest

from actors.messages import Routes, Stop
from odradek.protocol.messages import CreateTopics, CreateTopicsReply, NewTopic
from supervisor.catalog import Topic
from supervisor.children import Role
from supervisor.effects import Respond, TellChild
from supervisor.exits import Exit
from supervisor.noticeboard import CROWD, PAUSE_S_PER_CHILD
from supervisor.overseer import (
    BEATS_PER_S_MAX,
    BEATS_PER_TIMEOUT_MIN,
    STOP_S_PER_CHILD,
    STOP_SHARES,
)
from tests.supervisor.test_overseer import CORE, OPTIONS, Script

MANY = 2 * CROWD


def crowd(partitions: int = MANY) -> Script:
    """A tree of so many partitions in which everything serves, and a pause has passed."""
    world = Script(Topic(name="t", topic_id="id", partitions=partitions))
    world.spawn()
    world.ready(*world.processes)
    world.now_s += 1.0
    world.clear()
    world.now_s += 1.0
    return world


def test_the_routes_of_a_crowd_go_out_once_for_many_changes() -> None:
    world = crowd()
    world.die("partition:t-1")
    assert len(world.told(Routes)) == 2, "the first change is told at once, to router and coordinator"
    world.clear()
    world.die(*(f"partition:t-{number}" for number in range(2, 20)))
    assert not world.told(Routes)
    assert world.overseer.deadline() <= world.now_s + PAUSE_S_PER_CHILD * (MANY + 2)
    world.now_s = world.overseer.deadline()
    world.turn()
    assert len(world.told(Routes)) == 2
    gone = [route.partition for route in world.routes().topics[0].partitions if route.inner is None]
    assert gone == list(range(1, 20))


def test_the_routes_of_few_children_go_out_with_each_change() -> None:
    world = crowd(partitions=4)
    for number in range(4):
        world.clear()
        world.die(f"partition:t-{number}")
        assert world.told(Routes)


def test_who_is_told_that_a_topic_serves_finds_routers_that_know_it() -> None:
    world = Script(Topic(name="t", topic_id="id", partitions=CROWD))
    world.spawn()
    world.ready(*world.processes)
    world.now_s += 1.0
    world.clear()
    world.say(CreateTopics(topics=[NewTopic(name="n", partitions=3)]))
    world.spawn()
    world.clear()
    world.ready("partition:n-0", "partition:n-1", "partition:n-2")
    reply = world.reply(CreateTopicsReply)
    assert isinstance(reply.topics, list)
    assert reply.topics[0].error is None
    answered = next(index for index, effect in enumerate(world.effects) if isinstance(effect, Respond))
    before = [
        effect.message
        for effect in world.effects[:answered]
        if isinstance(effect, TellChild) and isinstance(effect.message, Routes)
    ]
    created = next(topic for topic in before[-1].topics if topic.name == "n")
    assert all(route.inner is not None for route in created.partitions)


@pytest.mark.parametrize(
    ("partitions", "interval_s"),
    [
        (4, OPTIONS.heartbeat_interval_s),
        (3 * BEATS_PER_S_MAX - len(CORE), 3.0),
        (10 * BEATS_PER_S_MAX, OPTIONS.heartbeat_timeout_s / BEATS_PER_TIMEOUT_MIN),
    ],
)
def test_the_more_partitions_the_less_often_each_beats_but_well_within_its_timeout(
    partitions: int, interval_s: float
) -> None:
    orders = Script(Topic(name="t", topic_id="id", partitions=partitions)).spawn()
    told = {order.role: order.beat_interval_s for order in orders}
    assert told[Role.PARTITION] == pytest.approx(interval_s)
    assert told[Role.ROUTER] is None, "who answers strangers looks at its memory as often as ever"


def test_only_a_successor_is_told_to_clear_sockets_away() -> None:
    world = crowd(partitions=1)
    world.die("partition:t-0")
    world.now_s = world.overseer.deadline()
    world.turn()
    orders = {order.name: order for order in world.spawn()}
    assert not orders["partition:t-0"].is_first
    assert all(order.is_first for order in Script(Topic(name="t", topic_id="id", partitions=1)).spawn())


def test_a_crowd_has_more_time_to_stop() -> None:
    world = crowd()
    world.overseer.terminate(Exit.OK, "test", world.now_s)
    world.clear()
    world.die("router:0", exit_code=0)
    assert len(world.told(Stop)) == MANY
    patience_s = OPTIONS.stop_timeout_s * STOP_SHARES[Role.PARTITION] + STOP_S_PER_CHILD * (
        MANY + len(CORE) - CROWD
    )
    world.now_s += patience_s - 0.001
    world.turn()
    assert world.state("partition:t-0") == "stopping"
    world.now_s += 0.002
    world.turn()
    assert world.state("partition:t-0") == "killed"
