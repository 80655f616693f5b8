"""Kafka's protocol for tests: requests from plain trees, answers through kio's own reader, and two rigs.

``KafkaSocket`` talks to a real listener. ``GatewayRig`` drives a gateway actor without one.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader

from actors.actor import Answer, Envelope, KafkaClosed, KafkaEnvelope, KafkaPeer, Lost, Message, Undeliverable
from actors.effects import Effect, Forward, KafkaReply, Log, Sender
from actors.gateway import GatewayActor
from actors.kafka.handling import GatewayOptions
from actors.kafka.registry import HANDLERS, SERVED
from actors.messages import (
    GatewayRoute,
    PartitionRoute,
    Routes,
    TopicRoute,
    partition_address,
)
from odradek.protocol.batch import Buffer
from odradek.protocol.codec import Encoding
from odradek.protocol.errors import OdradekError
from odradek.protocol.messages import Reply
from tests.support.clock import FakeClock
from transport.kafka.codec import encode_response, read_request
from transport.kafka.encoding import entity_encoder

API_VERSIONS = 18
PRODUCE_READABLE_FROM = 3
SOCKET_TIMEOUT_S = 40.0


def request_frame(
    api_key: int, version: int, correlation_id: int, body: Mapping[str, Any], client_id: str | None = "test"
) -> bytes:
    """A request without its length. Produce before version 3 is version 3 without its first field."""
    readable = max(version, PRODUCE_READABLE_FROM) if api_key == 0 else version
    schema: Any = load_request_schema(api_key, readable)
    out = bytearray(struct.pack(">hhi", api_key, version, correlation_id))
    if client_id is None:
        out += struct.pack(">h", -1)
    else:
        out += struct.pack(">h", len(client_id)) + client_id.encode()
    if schema.__flexible__:
        out.append(0)
    encoded = bytearray()
    entity_encoder(schema)(encoded, body)
    out += encoded[2:] if readable != version else encoded
    return bytes(out)


def framed(frame: bytes) -> bytes:
    """A frame behind its length."""
    return struct.pack(">i", len(frame)) + frame


def read_response(api_key: int, version: int, frame: bytes) -> tuple[int, Any]:
    """(correlation id, kio's object) of a response without its length; every byte must belong to it."""
    schema: Any = load_response_schema(api_key, version)
    position = 4
    if schema.__flexible__ and api_key != API_VERSIONS:
        assert frame[4] == 0
        position = 5
    body, size = entity_reader(schema)(memoryview(frame).toreadonly(), position)
    assert position + size == len(frame)
    return struct.unpack_from(">i", frame)[0], body


def produce_body(
    batches: Mapping[tuple[str, int], bytes | None], acks: int = -1, timeout_ms: int = 30_000
) -> dict[str, Any]:
    """The body of a produce request: one batch for each place."""
    topics: dict[str, list[dict[str, Any]]] = {}
    for (topic, partition), records in batches.items():
        topics.setdefault(topic, []).append({"index": partition, "records": records})
    return {
        "transactional_id": None,
        "acks": acks,
        "timeout": timeout_ms,
        "topic_data": [{"name": name, "partition_data": data} for name, data in topics.items()],
    }


def fetch_body(
    places: Sequence[tuple[str, int, int]],
    *,
    wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 8 << 20,
    partition_max_bytes: int = 1 << 20,
    **more: Any,
) -> dict[str, Any]:
    """The body of a fetch request: (topic, partition, offset) of each place."""
    topics: dict[str, list[dict[str, Any]]] = {}
    for topic, partition, offset in places:
        asked = {
            "partition": partition,
            "fetch_offset": offset,
            "partition_max_bytes": partition_max_bytes,
            **more,
        }
        topics.setdefault(topic, []).append(asked)
    return {
        "max_wait": wait_ms,
        "min_bytes": min_bytes,
        "max_bytes": max_bytes,
        "topics": [{"topic": name, "partitions": parts} for name, parts in topics.items()],
        "forgotten_topics_data": [],
        "rack_id": "",
        **{name: more[name] for name in ("session_id", "session_epoch") if name in more},
    }


class KafkaSocket:
    """A client that says exactly what a test wants said."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=SOCKET_TIMEOUT_S)
        self._correlation_id = 0

    def __enter__(self) -> KafkaSocket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, api_key: int, version: int, body: Mapping[str, Any]) -> int:
        """Send a request; its correlation id."""
        self._correlation_id += 1
        self.socket.sendall(framed(request_frame(api_key, version, self._correlation_id, body)))
        return self._correlation_id

    def receive_frame(self) -> bytes:
        """The next response without its length. Raises ConnectionError at the end of the connection."""
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self.socket.recv(count - len(parts))
            if not part:
                raise ConnectionError(f"the connection ended after {len(parts)} of {count} bytes")
            parts += part
        return bytes(parts)

    def receive(self, api_key: int, version: int) -> tuple[int, Any]:
        """(correlation id, kio's object) of the next response."""
        return read_response(api_key, version, self.receive_frame())

    def call(self, api_key: int, version: int, body: Mapping[str, Any]) -> Any:
        """Ask and wait for the answer."""
        asked = self.send(api_key, version, body)
        answered, response = self.receive(api_key, version)
        assert answered == asked
        return response

    def is_closed(self) -> bool:
        """Whether the server ends the connection, waiting for it; what it still sends is thrown away."""
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True


class GatewayRig:
    """A gateway actor, its clock, what it asked and what it answered."""

    def __init__(
        self, options: GatewayOptions | None = None, topics: Mapping[str, int] | None = None
    ) -> None:
        self.clock = FakeClock()
        self.actor = GatewayActor(options or GatewayOptions(index=0), HANDLERS)
        self.forwards: list[Forward] = []
        self.replies: list[KafkaReply] = []
        self.logs: list[Log] = []
        self._version = 0
        self._requests = 0
        self.route(topics if topics is not None else {"t": 2})

    def route(
        self,
        topics: Mapping[str, int],
        *,
        coordinator: bool = True,
        down: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        leader_epoch: int = 5,
        gateways: int = 1,
    ) -> None:
        """Tell the gateway which topics there are; ``down`` names addresses that do not serve."""
        self._version += 1

        def partition(topic: str, index: int) -> PartitionRoute:
            address = partition_address(topic, index)
            inner = None if address in down else f"ipc://{address}#{self._version if down else 0}"
            return PartitionRoute(partition=index, inner=inner, leader_epoch=leader_epoch)

        routes = Routes(
            version=self._version,
            cluster_id="cluster",
            routers=[],
            coordinator="ipc://coordinator" if coordinator else None,
            topics=[
                TopicRoute(
                    name=name,
                    topic_id="AAAAAAAAAAAAAAAAAAAAAA",
                    config={"max.message.bytes": 1_000_000, **(config or {})},
                    partitions=[partition(name, index) for index in range(count)],
                )
                for name, count in topics.items()
            ],
            gateways=[
                GatewayRoute(index=index, endpoints={"PLAINTEXT": f"127.0.0.1:{9092 + index}"})
                for index in range(gateways)
            ],
        )
        self.tell(Envelope(Sender("control", b"", False, Encoding.MSGPACK, None), routes))

    def tell(self, message: Message) -> list[Effect]:
        """One message to the actor."""
        return self.note(self.actor.receive(message, self.clock.now()))

    def settle(self) -> list[Effect]:
        """The end of a turn."""
        return self.note(self.actor.settle(self.clock.now()))

    def note(self, effects: Sequence[Effect]) -> list[Effect]:
        """Keep what the effects are."""
        for effect in effects:
            match effect:
                case Forward():
                    self.forwards.append(effect)
                case KafkaReply():
                    self.replies.append(effect)
                case Log():
                    self.logs.append(effect)
        return list(effects)

    def ask(
        self, api_key: int, version: int, body: Mapping[str, Any], *, connection: bytes = b"one"
    ) -> list[Effect]:
        """A request as a client would send it, through the real reader."""
        self._requests += 1
        frame = request_frame(api_key, version, self._requests, body)
        request = read_request(frame, SERVED)
        sender = Sender("kafka", connection, False, Encoding.MSGPACK, self._requests)
        peer = KafkaPeer("127.0.0.1", "PLAINTEXT")
        return self.tell(
            KafkaEnvelope(sender, peer, api_key, version, request.client_id, request.body, len(frame))
        )

    def close(self, connection: bytes = b"one") -> None:
        """The client went away."""
        self.tell(KafkaClosed(connection))

    def take(self) -> list[Forward]:
        """What was asked since the last call."""
        forwards, self.forwards = self.forwards, []
        return forwards

    def answer(self, forward: Forward, reply: Reply, payload: Sequence[Buffer] = ()) -> list[Effect]:
        """The actor that was asked replies."""
        return self.tell(Answer(forward.token, reply, payload))

    def fail(self, forward: Forward, error: OdradekError) -> list[Effect]:
        """The request could not be delivered."""
        return self.tell(Undeliverable(forward.token, error))

    def lose(self, address: str) -> list[Effect]:
        """The connection to an actor broke."""
        return self.tell(Lost(address))

    def response(self) -> Any:
        """kio's object of the only answer so far, through the real writer and kio's reader."""
        (reply,) = self.replies
        self.replies = []
        assert reply.body is not None, "the answer is silence"
        encoded = b"".join(
            bytes(part) for part in encode_response(reply.api_key, reply.version, 7, reply.body)
        )
        (size,) = struct.unpack_from(">i", encoded)
        assert size == len(encoded) - 4
        correlation_id, response = read_response(reply.api_key, reply.version, encoded[4:])
        assert correlation_id == 7
        return response
