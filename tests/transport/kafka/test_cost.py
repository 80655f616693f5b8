"""What one request costs the gateway in calls of Python functions: time would depend on the machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import msgspec
import pytest
import zmq

from actors.effects import Effect, Forward, KafkaReply
from actors.kafka.registry import SERVED
from actors.messages import ClassicHeartbeat, ClassicHeartbeatReply
from odradek.protocol.batch import Buffer
from odradek.protocol.codec import Encoding, encode
from odradek.protocol.messages import Fetch, FetchReply, Produce, ProduceReply, Reply, Request
from tests.support.batches import make_batch
from tests.support.kafka import GatewayRig, KafkaSocket, fetch_body, produce_body
from transport.kafka.server import KafkaListener, KafkaServer, KafkaServerOptions
from transport.links import read_answer, stamp

TURNS_MAX = 5_000
WARM_UP_REQUESTS = 3
PRODUCE, FETCH, HEARTBEAT = 0, 1, 12
BATCH = make_batch(1, payload=bytes(100))
HEARTBEAT_BODY = {"group_id": "g", "generation_id": 1, "member_id": "m", "group_instance_id": None}


def _replies(request: Request) -> tuple[Reply, list[Buffer]]:
    match request:
        case Produce():
            return ProduceReply(topic="t", partition=0, offset=5, timestamp=1, count=1), []
        case Fetch():
            return FetchReply(topic="t", partition=0, high_watermark=9, log_start_offset=0), [BATCH]
        case ClassicHeartbeat():
            return ClassicHeartbeatReply(), []
    raise AssertionError(request)


class Gateway:
    """Server, actor and the bytes to and from other actors, turned as the host turns them."""

    def __init__(self) -> None:
        self.rig = GatewayRig(topics={"t": 1})
        self.server = KafkaServer(
            KafkaServerOptions((KafkaListener("PLAINTEXT", "127.0.0.1", 0),), SERVED), lambda *_: None
        )
        self.address = self.server.bind()["PLAINTEXT"]
        self.forwarded: list[tuple[bytes, Forward]] = []
        self.answered = 0

    def turn(self) -> None:
        """What came over the listener."""
        now = self.rig.clock.now()
        for message in self.server.receive(now):
            self._perform(self.rig.actor.receive(message, now))
        self._settle()

    def take(self, frames: list[zmq.Frame]) -> None:
        """What came from another actor."""
        answer = read_answer(frames[0], frames[1:])
        self._perform(self.rig.actor.receive(answer, self.rig.clock.now()))
        self._settle()

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Forward):
                self.forwarded.append((stamp(effect.request, effect.token), effect))
            elif isinstance(effect, KafkaReply):
                self.server.reply(effect)
                self.answered += 1

    def _settle(self) -> None:
        now = self.rig.clock.now()
        self._perform(self.rig.actor.settle(now))
        self.server.flush(now)
        self.rig.actor.deadline()
        self.server.deadline()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.server.close()


def _calls(work: Callable[[], None]) -> int:
    """How many functions of Python are called meanwhile."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    gc.disable()  # what it would call is not the request's
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def _serve(gateway: Gateway) -> int:
    """Serve the one request that is on its way; the calls of the turns in which something was done."""
    calls = 0
    for _ in range(TURNS_MAX):
        if gateway.forwarded or gateway.answered:
            break
        calls = _calls(gateway.turn)  # the last one counts: those before found nothing yet
    for header, forward in gateway.forwarded:
        reply, payload = _replies(forward.request)
        reply.id = msgspec.msgpack.decode(header)["id"]
        frames = [zmq.Frame(encode(reply, Encoding.MSGPACK)), *map(zmq.Frame, payload)]
        calls += _calls(lambda frames=frames: gateway.take(frames))  # type: ignore[misc]
    assert gateway.answered == 1
    gateway.forwarded, gateway.answered = [], 0
    return calls


@pytest.mark.parametrize(
    ("api_key", "version", "body", "calls_max"),
    [
        pytest.param(PRODUCE, 7, produce_body({("t", 0): BATCH}), 108, id="produce"),
        pytest.param(FETCH, 11, fetch_body([("t", 0, 0)], session_id=0, session_epoch=-1), 137, id="fetch"),
        pytest.param(HEARTBEAT, 3, HEARTBEAT_BODY, 108, id="heartbeat"),
    ],
)
def test_a_request_takes_few_calls(
    gateway: Gateway, api_key: int, version: int, body: dict[str, Any], calls_max: int
) -> None:
    """Some ten are of this test itself. Each further one costs every request a third of a microsecond."""
    with KafkaSocket(gateway.address) as client:
        for _ in range(WARM_UP_REQUESTS):
            client.send(api_key, version, body)
            _serve(gateway)
            client.receive(api_key, version)
        client.send(api_key, version, body)
        calls = _serve(gateway)
        assert client.receive(api_key, version)[0] == WARM_UP_REQUESTS + 1
    assert 0 < calls <= calls_max
