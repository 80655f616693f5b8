"""A real broker against the golden messages, and the short clients against a real broker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from odradek.protocol.codec import REPLY_DECODERS, Encoding, encoding_of
from odradek.protocol.messages import APIS, Request
from tests.support.broker import BrokerProcess

CLIENTS = Path(__file__).resolve().parents[2] / "clients"
REPLY_MS_MAX = 40_000

pytestmark = pytest.mark.processes


def golden(name: str) -> list[dict[str, Any]]:
    """The cases of one file."""
    cases: list[dict[str, Any]] = json.loads((CLIENTS / "conformance" / name).read_text())
    return cases


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in golden(name)]


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    with BrokerProcess() as broker:
        yield broker.bootstrap


@pytest.fixture
def dealer(bootstrap: str) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.RCVTIMEO, REPLY_MS_MAX)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(bootstrap)
    yield socket
    context.destroy(linger=0)


def reply_to(request: type[Request], frames: list[bytes]) -> Any:
    return REPLY_DECODERS[request].decode(frames[0])


@pytest.mark.parametrize("case", cases("requests.json"))
def test_golden_request_is_answered_in_both_encodings(
    dealer: zmq.Socket[bytes], case: dict[str, Any]
) -> None:
    """Whatever the state of the broker: an answer of the right shape, with the id, never a reading error."""
    payload = [bytes.fromhex(frame) for frame in case["payload_hex"]]
    if case["means"].get("acks") == 0:
        pytest.skip("asks for no reply")
    for header in (case["json"].encode(), bytes.fromhex(case["msgpack_hex"])):
        dealer.send_multipart([header, *payload])
        frames = dealer.recv_multipart()
        assert encoding_of(frames[0]) is encoding_of(header)
        reply = reply_to(APIS[case["api"]], frames)
        assert reply.id == case["means"].get("id")
        assert reply.error is None or reply.error.name not in {"INVALID_REQUEST", "UNSUPPORTED_VERSION"}


@pytest.mark.parametrize("case", cases("requests-refused.json"))
def test_refused_request_says_why(dealer: zmq.Socket[bytes], case: dict[str, Any]) -> None:
    header = bytes.fromhex(case["header_hex"])
    if not header:
        pytest.skip("an empty first frame is the delimiter of a REQ socket")
    dealer.send(header)
    frames = dealer.recv_multipart()
    reply = reply_to(APIS["ping"], frames)
    assert (reply.id, reply.error.code, reply.error.name) == (case["id"], case["code"], case["error"])
    assert encoding_of(frames[0]) is (Encoding.MSGPACK if header[0] == 0x82 else Encoding.JSON)


@pytest.mark.parametrize("case", cases("dialogs.json"))
def test_dialog_frame_by_frame(dealer: zmq.Socket[bytes], case: dict[str, Any]) -> None:
    dealer.send_multipart([bytes.fromhex(frame) for frame in case["C"]])
    assert [frame.hex() for frame in dealer.recv_multipart()] == case["S"]


def test_golden_batches_come_back_as_they_went_in(dealer: zmq.Socket[bytes]) -> None:
    """Only base offset and leader epoch change. Sequences that do not start at 0 are left out."""
    place = {"topic": "golden", "partition": 0, "format": "batch"}
    for case in golden("batches.json"):
        if case["base_sequence"] > 0:
            continue
        batch = bytes.fromhex(case["hex"])
        dealer.send_multipart([json.dumps({"api": "produce", "id": case["name"]} | place).encode(), batch])
        reply = reply_to(APIS["produce"], dealer.recv_multipart())
        assert (reply.id, reply.error, reply.count) == (case["name"], None, len(case["records"]))
        dealer.send(json.dumps({"api": "fetch", "offset": reply.offset, "max_bytes": 0} | place).encode())
        fetched = b"".join(dealer.recv_multipart()[1:])
        assert fetched[16 : len(batch)] == batch[16:]
        assert int.from_bytes(fetched[:8], "big") == reply.offset


@pytest.mark.parametrize("case", cases("batches-refused.json"))
def test_refused_batch_is_not_stored(dealer: zmq.Socket[bytes], case: dict[str, Any]) -> None:
    place = {"topic": "refused", "partition": 0}
    dealer.send_multipart(
        [json.dumps({"api": "produce", "format": "batch"} | place).encode(), bytes.fromhex(case["hex"])]
    )
    reply = reply_to(APIS["produce"], dealer.recv_multipart())
    assert (reply.error.code, reply.error.name) == (case["code"], case["error"])
    dealer.send(json.dumps({"api": "list_offsets", "at": "latest"} | place).encode())
    assert reply_to(APIS["list_offsets"], dealer.recv_multipart()).offset == 0


# -- short clients ---------------------------------------------------------------------------------


def output_of(bootstrap: str, *command: str | Path, cwd: Path) -> str:
    result = subprocess.run(
        [*command, bootstrap], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_python_hello(bootstrap: str) -> None:
    said = output_of(bootstrap, sys.executable, "hello.py", cwd=CLIENTS / "examples" / "python")
    assert said.endswith(": user-7 = hello from Python\n")


def test_python_pipelined(bootstrap: str) -> None:
    said = output_of(bootstrap, sys.executable, "pipelined.py", cwd=CLIENTS / "examples" / "python")
    assert said == "1000 records are durable\n"


def test_node_hello(bootstrap: str) -> None:
    directory = CLIENTS / "examples" / "node"
    if shutil.which("node") is None or not (directory / "node_modules" / "zeromq").is_dir():
        pytest.skip("needs Node.js, and `npm install` in clients/examples/node")
    assert output_of(bootstrap, "node", "hello.js", cwd=directory).endswith(": user-7 = hello from Node.js\n")
