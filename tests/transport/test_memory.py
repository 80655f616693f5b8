"""MemoryNetwork: the twin keeps what ZeroMQ promises, and takes away what it does not."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from actors.actor import Answer, Envelope, Message, Moment, Undeliverable
from actors.effects import Effect, Forward, Link, Reply, Unlink
from actors.messages import Configure
from odradek.protocol.messages import ListOffsets, ListOffsetsReply, PingReply
from tests.support.clock import FakeClock
from transport.memory import Faults, MemoryNetwork


class Echo:
    """Answers every request with its payload."""

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        assert isinstance(message, Envelope)
        reply = ListOffsetsReply(offset=1) if isinstance(message.request, ListOffsets) else PingReply()
        return (Reply(message.sender, reply, message.payload),)

    def settle(self, now: Moment) -> Sequence[Effect]:
        return ()

    def deadline(self) -> float | None:
        return None

    def stop(self, now: Moment) -> Sequence[Effect]:
        return ()


class Relay(Echo):
    """Passes list_offsets to "echo", where Configure says it listens."""

    def __init__(self) -> None:
        self.came: list[Message] = []

    def receive(self, message: Message, now: Moment) -> Sequence[Effect]:
        match message:
            case Envelope(request=Configure(config={"endpoint": str(endpoint)})):
                return (Link("echo", endpoint),)
            case Envelope(request=Configure()):
                return (Unlink("echo"),)
            case Envelope(request=ListOffsets() as request, payload=payload):
                return (Forward("echo", request, 5, payload),)
            case Answer() | Undeliverable():
                self.came.append(message)
        return ()


class Rig:
    def __init__(self, seed: int = 0, faults: Faults | None = None) -> None:
        self.clock = FakeClock()
        self.network = MemoryNetwork(self.clock, seed, faults)
        self.heard: list[tuple[int | None, list[bytes]]] = []
        self.network.client("c", self._hear)
        self.endpoint = self.network.host("echo", Echo)
        self.relay = Relay()
        self.network.host("relay", lambda: self.relay)

    def _hear(self, frames: list[bytes]) -> None:
        self.heard.append((json.loads(frames[0])["id"], frames[1:]))

    def pings(self, count: int) -> list[int | None]:
        for number in range(count):
            self.network.send("c", "echo", [b'{"api":"ping","id":%d}' % number])
        self.network.run()
        return [number for number, _ in self.heard]

    def relayed(self) -> list[Message]:
        self.network.send(
            "c", "relay", [b'{"api":"list_offsets","topic":"t","partition":0,"at":"latest"}', b"p"]
        )
        self.network.run()
        return self.relay.came


def test_without_faults_everything_arrives_once_and_in_order() -> None:
    for seed in range(5):
        assert Rig(seed).pings(30) == list(range(30))


@pytest.mark.parametrize(
    "faults",
    [Faults(drop=0.5), Faults(duplicate=0.5), Faults(reorder=0.5), Faults(drop=0.3, delay_s_max=2.0)],
)
def test_faults_happen_and_a_seed_repeats_them(faults: Faults) -> None:
    first, again, other = (Rig(seed, faults).pings(60) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first != list(range(60))
    assert (sorted(filter(None, first)) == list(range(1, 60))) == (faults.drop == faults.duplicate == 0)


def test_delays_pass_in_the_time_of_the_clock() -> None:
    rig = Rig(faults=Faults(delay_s_max=2.0))
    before_s = rig.clock.now().monotonic_s
    assert rig.pings(20) == list(range(20)), "a delay alone does not change the order"
    assert 0 < rig.clock.now().monotonic_s - before_s <= 4.0


def test_what_cannot_be_read_is_answered() -> None:
    rig = Rig()
    rig.network.send("c", "echo", [b"{"])
    rig.network.run()
    assert rig.heard == [(None, [])]


def test_a_forward_and_its_answer_travel_as_frames() -> None:
    rig = Rig()
    rig.network.tell("relay", Configure(config={"endpoint": rig.endpoint}))
    rig.network.run()
    (answer,) = rig.relayed()
    assert isinstance(answer, Answer)
    assert (answer.token, [bytes(frame) for frame in answer.payload]) == (5, [b"p"])
    assert isinstance(answer.reply, ListOffsetsReply)


def test_without_a_link_a_forward_is_undeliverable() -> None:
    rig = Rig()
    assert [type(message) for message in rig.relayed()] == [Undeliverable]


def test_a_dead_endpoint_swallows_and_only_the_new_one_answers() -> None:
    rig = Rig()
    rig.network.tell("relay", Configure(config={"endpoint": rig.endpoint}))
    rig.network.run()
    rig.network.crash("echo")
    assert rig.relayed() == []
    endpoint = rig.network.restart("echo")
    assert endpoint != rig.endpoint
    assert rig.relayed() == [], "the link still leads to the dead one"
    rig.network.tell("relay", Configure(config={"endpoint": endpoint}))
    rig.network.run()
    assert len(rig.relayed()) == 1


def test_a_stopped_actor_is_gone_and_may_come_back() -> None:
    rig = Rig()
    with pytest.raises(ValueError, match="runs"):
        rig.network.restart("echo")
    rig.network.stop("echo")
    assert rig.pings(3) == []
    rig.network.restart("echo")
    assert rig.pings(3) == [0, 1, 2]


def test_waiting_for_what_never_comes_is_an_error() -> None:
    rig = Rig()
    rig.network.run(lambda: True)
    with pytest.raises(RuntimeError, match="nothing is left"):
        rig.network.run(lambda: False)
