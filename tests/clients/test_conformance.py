"""The Python codec passes every golden message of ``clients/conformance``."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from odradek.protocol.batch import (
    COMPRESSIONS,
    BatchHeader,
    check_batch,
    placed_prefix,
    read_header,
)
from odradek.protocol.codec import (
    REPLY_DECODERS,
    BadRequest,
    Encoding,
    encode,
    peek_reply,
    public_decoder,
)
from odradek.protocol.errors import ERRORS, CorruptMessage, UnknownServerError, error_from_wire
from odradek.protocol.messages import APIS, Blob
from odradek.protocol.partitioning import partition_for_key
from odradek.protocol.records import decode_batch, new_builder
from tools import make_conformance

CONFORMANCE = Path(__file__).resolve().parents[2] / "clients" / "conformance"
DECODER = public_decoder()


def golden(name: str) -> list[Any]:
    """The cases of one file, each under its name."""
    cases = json.loads((CONFORMANCE / name).read_text())
    return [
        pytest.param(case, id=case.get("name") or case.get("key_hex") or case.get("json")) for case in cases
    ]


def meaning(value: Any) -> Any:
    """A golden file's ``means`` with its bytes as bytes."""
    if isinstance(value, dict):
        if value.keys() == {"hex"}:
            return bytes.fromhex(value["hex"])
        return {key: meaning(item) for key, item in value.items()}
    return [meaning(item) for item in value] if isinstance(value, list) else value


def assert_says(message: Any, means: Any) -> None:
    """``message`` says all of ``means``; what ``means`` leaves out, the protocol's defaults fill."""
    if isinstance(means, dict) and not isinstance(message, dict):
        for name, wanted in means.items():
            if name == "api":
                assert message.__struct_config__.tag == wanted
            elif hasattr(message, name):
                assert_says(getattr(message, name), wanted)
            else:
                assert name == "colour"  # the one field that no message has: it is ignored
    elif isinstance(means, dict):
        assert {str(name) for name in message} == means.keys()
        for name, value in message.items():
            assert_says(value, means[str(name)])
    elif isinstance(means, list):
        assert len(message) == len(means)
        for item, wanted in zip(message, means, strict=True):
            assert_says(item, wanted)
    else:
        assert message == means
        assert isinstance(message, bool) == isinstance(means, bool)
        assert isinstance(message, bytes) == isinstance(means, bytes)


# -- requests and replies --------------------------------------------------------------------------


@pytest.mark.parametrize("case", golden("requests.json"))
def test_request(case: dict[str, Any]) -> None:
    for frame, encoding in both_encodings(case):
        request, found = DECODER.decode(frame)
        assert found is encoding
        assert_says(request, meaning(case["means"]))
        for again in Encoding:
            assert DECODER.decode(encode(request, again)) == (request, again)


@pytest.mark.parametrize("case", golden("replies.json"))
def test_reply(case: dict[str, Any]) -> None:
    decoder = REPLY_DECODERS[APIS[case["api"]]]
    optional = case["means"]["error"] is None
    for frame, _ in both_encodings(case):
        assert_says(peek_reply(frame), {name: case["means"][name] for name in ("id", "error")})
        reply = decoder.decode(frame)
        assert_says(reply, meaning(case["means"]))
        for again in Encoding:
            assert decoder.decode(encode(reply, again)) == reply
    assert optional or error_from_wire(peek_reply(case["json"].encode()).error)  # type: ignore[arg-type]


def both_encodings(case: dict[str, Any]) -> list[tuple[bytes, Encoding]]:
    return [
        (case["json"].encode(), Encoding.JSON),
        (bytes.fromhex(case["msgpack_hex"]), Encoding.MSGPACK),
    ]


def test_every_api_has_a_golden_request() -> None:
    assert {case.values[0]["api"] for case in golden("requests.json")} == APIS.keys()


@pytest.mark.parametrize("case", golden("requests-refused.json"))
def test_refused_request(case: dict[str, Any]) -> None:
    header = bytes.fromhex(case["header_hex"])
    with pytest.raises(BadRequest) as refused:
        DECODER.decode(header)
    assert (refused.value.error.code, refused.value.error.name) == (case["code"], case["error"])
    assert refused.value.request_id == case["id"]
    readable = Encoding.MSGPACK if header[:1] == b"\x82" else Encoding.JSON
    assert refused.value.encoding is readable


def test_an_error_code_from_the_future_keeps_its_number_and_name() -> None:
    case = next(case.values[0] for case in golden("replies.json") if case.id == "unknown-error-code")
    wire = peek_reply(case["json"].encode()).error
    assert wire is not None
    assert wire.code not in ERRORS
    error = error_from_wire(wire)
    assert isinstance(error, UnknownServerError)
    assert "NEW_IN_A_LATER_VERSION" in str(error)
    assert "9999" in str(error)


@pytest.mark.parametrize("case", golden("dialogs.json"))
def test_dialog(case: dict[str, Any]) -> None:
    sent, heard = ([bytes.fromhex(frame) for frame in case[side]] for side in "CS")
    assert (sent[0] == b"") == (heard[0] == b"")
    request, encoding = DECODER.decode(sent[-1])
    reply = REPLY_DECODERS[type(request)].decode(heard[-1])
    assert reply.id == request.id
    assert encode(reply, encoding) == heard[-1]


# -- bytes and keys --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", golden("blobs.json"))
def test_blob(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["hex"])
    request, _ = DECODER.decode(b'{"api":"produce","topic":"t","key":' + case["json"].encode() + b"}")
    assert request.key == data  # type: ignore[attr-defined]
    written = json.loads(encode(request, Encoding.JSON))["key"]
    assert written == case["reply_json"]
    if isinstance(written, dict):
        assert base64.b64decode(written["base64"], validate=True) == data
    as_bin = msgspec.msgpack.encode({"api": "produce", "topic": "t", "key": data})
    assert DECODER.decode(as_bin)[0].key == Blob(data)  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", golden("keys.json"))
def test_key_to_partition(case: dict[str, Any]) -> None:
    key = bytes.fromhex(case["key_hex"])
    for count, partition in case["partitions"].items():
        assert partition_for_key(key, int(count)) == partition
        assert (case["murmur2"] & 0x7FFFFFFF) % int(count) == partition


# -- batches ---------------------------------------------------------------------------------------


def header_of(case: dict[str, Any]) -> BatchHeader:
    return check_batch(bytes.fromhex(case["hex"]))


@pytest.mark.parametrize("case", golden("batches.json"))
def test_batch_is_read(case: dict[str, Any]) -> None:
    header = header_of(case)
    for name in ("base_offset", "leader_epoch", "producer_id", "producer_epoch", "base_sequence"):
        assert getattr(header, name) == case[name]
    assert COMPRESSIONS[header.compression] == case["compression"]
    timestamps = [record["timestamp"] for record in case["records"]]
    assert (header.base_timestamp, header.max_timestamp) == (timestamps[0], max(timestamps))
    found = [
        {
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key_hex": None if record.key is None else record.key.hex(),
            "value_hex": None if record.value is None else record.value.hex(),
            "headers": [[name, None if value is None else value.hex()] for name, value in record.headers],
        }
        for record in decode_batch(bytes.fromhex(case["hex"]))
    ]
    assert found == case["records"]


@pytest.mark.parametrize("case", golden("batches.json"))
def test_batch_is_written(case: dict[str, Any]) -> None:
    builder = new_builder(
        compression=case["compression"],
        producer_id=case["producer_id"],
        producer_epoch=case["producer_epoch"],
        base_sequence=case["base_sequence"],
    )
    for index, record in enumerate(case["records"]):
        key, value = (
            None if record[name] is None else bytes.fromhex(record[name]) for name in ("key_hex", "value_hex")
        )
        headers = [(name, None if held is None else bytes.fromhex(held)) for name, held in record["headers"]]
        assert builder.append(index, record["timestamp"], key, value, headers) is not None
    built = bytes(builder.build())
    placed = placed_prefix(read_header(built), case["base_offset"], case["leader_epoch"]) + built[16:]
    if case["compression"] == "none":
        assert placed.hex() == case["hex"]
    else:  # two compressors may disagree about the bytes, not about what they mean
        assert list(decode_batch(placed)) == list(decode_batch(bytes.fromhex(case["hex"])))


@pytest.mark.parametrize("case", golden("batches-refused.json"))
def test_refused_batch(case: dict[str, Any]) -> None:
    with pytest.raises(CorruptMessage):
        header_of(case)
    assert (case["code"], case["error"]) == (CorruptMessage.code, CorruptMessage.name)


def test_every_compression_has_a_golden_batch() -> None:
    assert {case.values[0]["compression"] for case in golden("batches.json")} == set(COMPRESSIONS)


# -- the generator ---------------------------------------------------------------------------------

UTILS_TEST = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""What Kafka's own ``UtilsTest.testMurmur2`` expects."""


def test_key_hashes_are_those_of_kafka() -> None:
    listed = {case.values[0]["key_hex"]: case.values[0]["murmur2"] for case in golden("keys.json")}
    for text, wanted in UTILS_TEST.items():
        assert make_conformance.murmur2(text.encode()) == wanted
        assert listed[text.encode().hex()] == wanted


def test_checksum_of_the_generator_is_castagnoli() -> None:
    assert make_conformance.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("name", [name for name in make_conformance.files() if name != "batches.json"])
def test_golden_files_are_what_the_generator_writes(name: str) -> None:
    content = make_conformance.files()[name]
    assert (CONFORMANCE / name).read_text() == make_conformance.text_of(content)
