"""Gateways in the tree: where they are is told to all, as long as they serve, and they end first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from actors.messages import ChildReady, Routes, Stop
from supervisor.effects import TellChild
from supervisor.exits import Exit
from tests.supervisor.test_overseer import CORE, OPTIONS, Script, topic

GATEWAYS = ["gateway:0", "gateway:1"]


def ready(script: Script, name: str) -> None:
    index = int(name[-1])
    script.say(
        ChildReady(
            name=name,
            incarnation=script.processes[name],
            endpoints=[f"127.0.0.1:{9092 + index}"],
            listeners={"PLAINTEXT": f"127.0.0.1:{9092 + index}"},
        )
    )


@pytest.fixture
def script() -> Script:
    """A broker with two gateways that serves."""
    made = Script(topic(), options=replace(OPTIONS, gateways=2))
    orders = [order.name for order in made.spawn()]
    made.ready(*(name for name in orders if name not in GATEWAYS))
    for name in GATEWAYS:
        assert not made.overseer.ready
        ready(made, name)
    assert made.overseer.ready
    return made


def gateways(script: Script) -> list[tuple[int, str]]:
    return [(each.index, each.endpoints["PLAINTEXT"]) for each in script.routes().gateways]


def test_everybody_hears_where_the_gateways_are(script: Script) -> None:
    assert gateways(script) == [(0, "127.0.0.1:9092"), (1, "127.0.0.1:9093")]
    assert set(script.told(Routes)) == {*CORE, *GATEWAYS}
    assert script.overseer.gateways == ["127.0.0.1:9092", "127.0.0.1:9093"]


def test_one_that_died_is_not_named_until_it_serves_again_and_comes_back_where_it_was(script: Script) -> None:
    script.clear()
    script.die("gateway:1")
    assert gateways(script) == [(0, "127.0.0.1:9092")]
    script.after(2)
    (order,) = script.spawn()
    assert (order.name, order.endpoints) == ("gateway:1", ("127.0.0.1:9093",))
    ready(script, "gateway:1")
    assert gateways(script) == [(0, "127.0.0.1:9092"), (1, "127.0.0.1:9093")]


def test_they_end_before_all_others(script: Script) -> None:
    script.clear()
    script.overseer.terminate(Exit.OK, "told", script.now_s)
    script.turn()
    assert script.told(Stop) == GATEWAYS
    script.die(*GATEWAYS, exit_code=0)
    assert script.told(Stop) == [*GATEWAYS, "router:0"]


def test_a_taken_port_ends_a_broker_that_never_served() -> None:
    script = Script(options=replace(OPTIONS, gateways=1))
    script.spawn()
    script.ready(*CORE)
    script.die("gateway:0", exit_code=Exit.PORT_IN_USE)
    assert script.overseer.exit is Exit.PORT_IN_USE


def test_one_that_served_is_never_given_up(script: Script) -> None:
    for _ in range(8):
        script.die("gateway:0")
        script.after(40)
        script.spawn()
        ready(script, "gateway:0")
    assert script.overseer.exit is None
    assert script.state("gateway:0") == "serving"


def test_no_gateway_is_wanted_unless_asked_for() -> None:
    orders = Script().spawn()
    assert not any(order.name.startswith("gateway") for order in orders)
    assert [effect for effect in Script().of(TellChild) if effect.name.startswith("gateway")] == []
