"""The dialogs of ``docs/protocol.md``, held with a real broker in the order in which they stand there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq

from odradek.protocol.records import RecordToWrite, encode_batch
from tests.support.broker import BrokerProcess

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
REPLY_MS_MAX = 40_000
PARTITIONS_OF_EVENTS = 8
"""As the page says."""
SAID_EXACTLY = ("topic", "partition", "offset", "offsets", "count", "high_watermark", "log_start_offset")

pytestmark = pytest.mark.processes


class Exchange(NamedTuple):
    """A ``C:`` line and the ``S:`` line below it."""

    request: str
    payload: list[bytes]
    reply: dict[str, Any]
    answer: list[bytes]


def exchanges() -> list[Exchange]:
    """Every exchange of the page, in order."""
    frames = r"\[ (\{.*?\}) \]((?: \[ [^{].*? \])*)$"
    found = re.findall(f"^C: {frames}\nS: {frames}", PAGE.read_text(), re.M)
    return [
        Exchange(request, payload_of(asked), json.loads(reply), payload_of(answered))
        for request, asked, reply, answered in found
    ]


def payload_of(frames: str) -> list[bytes]:
    shown = re.findall(r"\[ (.*?) \]", frames)
    return [three_records() if frame.startswith("<RecordBatch") else frame.encode() for frame in shown]


def three_records() -> bytes:
    """What the page calls a RecordBatch; the broker changes nothing of it behind the first 16 bytes."""
    return encode_batch([RecordToWrite(1_700_000_000_000, b"key", b"value")] * 3)


def unplaced(frame: bytes) -> bytes:
    """A batch as its producer sent it; any other frame unchanged."""
    sent = three_records()
    return sent if frame[16:] == sent[16:] else frame


@pytest.fixture
def dealer() -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVTIMEO, REPLY_MS_MAX)
    socket.setsockopt(zmq.LINGER, 0)
    with BrokerProcess() as broker:
        socket.connect(broker.bootstrap)
        yield socket
    context.destroy(linger=0)


def shape(reply: dict[str, Any]) -> set[str]:
    """Which fields a reply has, those of its error included."""
    error = reply["error"] or {}
    return reply.keys() | {f"error.{name}" for name in error}


def test_the_broker_answers_as_the_page_says(dealer: zmq.Socket[bytes]) -> None:
    topics = [{"name": "events", "partitions": PARTITIONS_OF_EVENTS}]
    dealer.send(json.dumps({"api": "create_topics", "topics": topics}).encode())
    assert json.loads(dealer.recv())["topics"][0]["error"] is None
    held = exchanges()
    assert len(held) >= 8
    for exchange in held:
        dealer.send_multipart([exchange.request.encode(), *exchange.payload])
        header, *payload = dealer.recv_multipart()
        reply = json.loads(header)
        assert reply["id"] == exchange.reply["id"], exchange.request
        assert shape(reply) == shape(exchange.reply), exchange.request
        assert (reply["error"] or {}).get("code") == (exchange.reply["error"] or {}).get("code")
        for name in SAID_EXACTLY:
            assert reply.get(name) == exchange.reply.get(name), exchange.request
        assert [frame[16:] for frame in payload] == [frame[16:] for frame in exchange.answer], (
            exchange.request
        )
