"""RawClient: the native protocol as a stranger would write it, with nothing of Odradek's own code.

Only pyzmq, json, msgspec's MessagePack and crc32c stand between a test and the wire. The RecordBatch v2
encoder, its decoder and murmur2 are written from Kafka's description, so that a mistake in the product's
own codec cannot hide behind the same mistake here.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import crc32c
import msgspec
import zmq

from tests.support.broker import BrokerProcess

REPLY_TIMEOUT_MS = 30_000

EncodingName = Literal["json", "msgpack"]
SocketName = Literal["DEALER", "REQ"]
ENCODINGS: tuple[EncodingName, ...] = ("json", "msgpack")
SOCKETS: tuple[SocketName, ...] = ("DEALER", "REQ")

# Kafka's codes, by the names that the specification uses.
OFFSET_OUT_OF_RANGE = 1
CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_OR_PARTITION = 3
REQUEST_TIMED_OUT = 7
MESSAGE_TOO_LARGE = 10
OFFSET_METADATA_TOO_LARGE = 12
INVALID_TOPIC_EXCEPTION = 17
INVALID_GROUP_ID = 24
UNKNOWN_MEMBER_ID = 25
UNSUPPORTED_VERSION = 35
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
INVALID_CONFIG = 40
INVALID_REQUEST = 42
POLICY_VIOLATION = 44
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_PRODUCER_EPOCH = 47
KAFKA_STORAGE_ERROR = 56
UNKNOWN_PRODUCER_ID = 59
NON_EMPTY_GROUP = 68
GROUP_ID_NOT_FOUND = 69
FENCED_MEMBER_EPOCH = 110
UNRELEASED_INSTANCE_ID = 111
UNSUPPORTED_ASSIGNOR = 112
STALE_MEMBER_EPOCH = 113

ERROR_FIELDS = {"code", "name", "message", "retriable"}


class NoReply(AssertionError):
    """The broker stayed silent where the specification promises a reply."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """What came back: the decoded header, the payload frames, and the form in which it came."""

    header: dict[str, Any]
    payload: list[bytes]
    encoding: EncodingName
    delimiter: bool

    @property
    def code(self) -> int | None:
        """The error's code; None where the request went well."""
        error = self.header["error"]
        return None if error is None else int(error["code"])

    @property
    def message(self) -> str:
        return str(self.header["error"]["message"])

    def __getitem__(self, name: str) -> Any:
        return self.header[name]

    def ok(self) -> RawReply:
        """Itself, where it carries no error."""
        assert self.header["error"] is None, self.header
        return self


class RawClient:
    """One connection. A context manager.

    ``call`` sends one request and returns the reply to it; ``send`` and ``receive`` are its halves.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        encoding: EncodingName = "json",
        socket: SocketName = "DEALER",
        timeout_ms: int = REPLY_TIMEOUT_MS,
        curve: tuple[str, str, str] | None = None,
    ) -> None:
        """``curve``: the server's public key, the client's own and its secret one, for CURVE."""
        self.encoding: EncodingName = encoding
        self.kind: SocketName = socket
        self._context = zmq.Context()
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.REQ if socket == "REQ" else zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
        self.socket.setsockopt(zmq.SNDTIMEO, timeout_ms)
        if curve is not None:
            server_key, public_key, secret_key = curve
            self.socket.curve_serverkey = server_key.encode()
            self.socket.curve_publickey = public_key.encode()
            self.socket.curve_secretkey = secret_key.encode()
        self.socket.connect(endpoint)
        self._ids = itertools.count(1)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close(0)
        self._context.term()

    # -- requests --------------------------------------------------------------------------------------

    def call(self, api: str, *payload: bytes, **fields: Any) -> RawReply:
        """One request and the reply to it, whose id and form are checked on the way."""
        request_id = self.send(api, *payload, **fields)
        reply = self.receive()
        assert reply["id"] == request_id, f"{api}: the reply is to {reply['id']!r}, not to {request_id!r}"
        assert reply.encoding == self.encoding, f"{api}: asked in {self.encoding}, answered otherwise"
        assert not reply.delimiter, f"{api}: a delimiter that the request did not have"
        return reply

    def send(self, api: str, *payload: bytes, **fields: Any) -> Any:
        """Sends one request; its id, which is a new number unless ``id`` is among the fields."""
        header = {"api": api, "id": next(self._ids), **fields}
        self.send_frames(self.encode(header), *payload)
        return header["id"]

    def send_frames(self, *frames: bytes) -> None:
        """Sends these frames as they are (a REQ socket puts its delimiter before them)."""
        self.socket.send_multipart(frames)

    def receive(self) -> RawReply:
        """The next reply. Raises NoReply after the time limit."""
        try:
            frames = self.socket.recv_multipart()
        except zmq.Again:
            raise NoReply("no reply came") from None
        return read_reply(frames)

    def receive_by_id(self, count: int) -> dict[Any, RawReply]:
        """The next replies, by id; each id once."""
        replies = [self.receive() for _ in range(count)]
        by_id = {reply["id"]: reply for reply in replies}
        assert len(by_id) == count, f"two replies to one id among {[reply['id'] for reply in replies]}"
        return by_id

    def waiting(self) -> bool:
        """Whether a reply is there already."""
        return bool(self.socket.poll(0))

    # -- forms -----------------------------------------------------------------------------------------

    def encode(self, header: Mapping[str, Any]) -> bytes:
        if self.encoding == "json":
            return json.dumps(header).encode()
        return msgspec.msgpack.encode(header)

    def bytes_field(self, value: bytes | None) -> Any:
        """How bytes are written into a header of this encoding."""
        if value is None or self.encoding == "msgpack":
            return value
        return {"base64": base64.b64encode(value).decode()}

    # -- what most tests need --------------------------------------------------------------------------

    def create(self, name: str, partitions: int = 1, **config: Any) -> str:
        """Creates a topic (``max_message_bytes=...`` becomes ``max.message.bytes``); its name."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        reply = self.call(
            "create_topics", topics=[{"name": name, "partitions": partitions, "config": settings}]
        ).ok()
        assert reply["topics"][0]["error"] is None, reply.header
        return name

    def produce(self, topic: str, value: bytes, partition: int | None = 0, **fields: Any) -> RawReply:
        return self.call("produce", value, topic=topic, partition=partition, **fields).ok()

    def produce_batch(self, topic: str, batch: bytes, partition: int = 0, **fields: Any) -> RawReply:
        return self.call("produce", batch, topic=topic, partition=partition, format="batch", **fields)

    def fetch(self, topic: str, offset: int = 0, partition: int = 0, **fields: Any) -> RawReply:
        fields = {"max_wait_ms": 0, **fields}
        return self.call("fetch", topic=topic, partition=partition, offset=offset, **fields)

    def records(self, topic: str, partition: int = 0, offset: int = 0) -> list[FetchedRecord]:
        """Every record from an offset on, over as many fetches as that takes."""
        found: list[FetchedRecord] = []
        while True:
            reply = self.fetch(topic, offset, partition).ok()
            page = fetched_records(reply)
            if not page:
                assert offset == reply["high_watermark"]
                return found
            found += page
            offset = page[-1].offset + 1

    def offset_of(self, topic: str, at: str | int, partition: int = 0) -> int:
        return int(self.call("list_offsets", topic=topic, partition=partition, at=at).ok()["offset"])

    def ping(self) -> None:
        """The connection works: a ping is answered."""
        self.call("ping").ok()


def read_reply(frames: Sequence[bytes]) -> RawReply:
    """Splits and decodes the frames of one reply, and checks what every reply must have."""
    rest = list(frames)
    delimiter = rest[0] == b""
    if delimiter:
        rest = rest[1:]
    raw = rest[0]
    encoding: EncodingName = "json" if raw[:1] == b"{" else "msgpack"
    header = json.loads(raw) if encoding == "json" else msgspec.msgpack.decode(raw)
    assert isinstance(header, dict), f"the reply's header is no map: {raw[:100]!r}"
    assert {"id", "error"} <= header.keys(), f"a reply without id or error: {raw[:100]!r}"
    check_error(header["error"])
    return RawReply(header, rest[1:], encoding, delimiter)


def check_error(error: Any) -> None:
    """An error has the four fields of the specification, with their types."""
    if error is None:
        return
    assert error.keys() >= ERROR_FIELDS, error
    assert type(error["code"]) is int and type(error["retriable"]) is bool, error
    assert error["name"] and error["name"] == error["name"].upper(), error
    assert isinstance(error["message"], str) and error["message"], error


# -- records ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FetchedRecord:
    """A record of a fetch in the format "records"."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def fetched_records(reply: RawReply) -> list[FetchedRecord]:
    """The records of a fetch reply; checks that each has its payload frame."""
    rows = reply["records"]
    assert len(rows) == len(reply.payload), "one payload frame a record"
    found = []
    for row, value in zip(rows, reply.payload, strict=True):
        if row["null"]:
            assert value == b"", "the frame of a null value is empty"
        headers = [(name, from_field(content)) for name, content in row["headers"]]
        found.append(
            FetchedRecord(
                row["offset"],
                row["timestamp"],
                from_field(row["key"]),
                None if row["null"] else value,
                headers,
            )
        )
    return found


def from_field(value: Any) -> bytes | None:
    """Bytes of a reply's header, as the specification writes them."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    assert set(value) == {"base64"}, value
    content = base64.b64decode(value["base64"], validate=True)
    try:
        content.decode()
    except UnicodeDecodeError:
        return content
    raise AssertionError(f"{value} is valid UTF-8 and so comes as a string")


# RecordBatch v2, Kafka's:
#   base_offset i64 | length i32 | leader_epoch i32 | magic i8 = 2 | crc u32 | attributes i16 |
#   last_offset_delta i32 | base_timestamp i64 | max_timestamp i64 | producer_id i64 | producer_epoch i16 |
#   base_sequence i32 | count i32 | records
# `length` counts from leader_epoch on, the CRC-32C from attributes on. A record, all lengths zigzag varints:
#   length | attributes i8 | timestamp delta | offset delta | key length, key | value length, value |
#   header count, then name length, name, value length, value of each
PREFIX = struct.Struct(">qiibI")
BODY = struct.Struct(">hiqqqhii")
BATCH_HEADER_BYTES = PREFIX.size + BODY.size
LENGTH_FROM = 12
CRC_FROM = PREFIX.size


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record to encode, or decoded from a batch."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class RawBatch:
    """A decoded batch."""

    base_offset: int
    leader_epoch: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: list[RawRecord] = field(default_factory=list)


def varint(value: int) -> bytes:
    """Zigzag, then seven bits a byte, the lowest first."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    shift = value = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7


def _sized(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


def _read_sized(data: bytes, position: int) -> tuple[bytes | None, int]:
    size, position = read_varint(data, position)
    return (None, position) if size < 0 else (data[position : position + size], position + size)


def encode_record(record: RawRecord, offset_delta: int, base_timestamp: int) -> bytes:
    body = b"\0" + varint(record.timestamp - base_timestamp) + varint(offset_delta)
    body += _sized(record.key) + _sized(record.value) + varint(len(record.headers))
    for name, content in record.headers:
        body += _sized(name.encode()) + _sized(content)
    return varint(len(body)) + body


def encode_batch(
    records: Sequence[RawRecord],
    *,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    count: int | None = None,
    last_offset_delta: int | None = None,
    magic: int = 2,
    attributes: int = 0,
) -> bytes:
    """One RecordBatch v2; the optional fields allow batches that contradict themselves, with a right CRC."""
    base_timestamp = records[0].timestamp if records else 0
    body = BODY.pack(
        attributes,
        len(records) - 1 if last_offset_delta is None else last_offset_delta,
        base_timestamp,
        max((record.timestamp for record in records), default=0),
        producer_id,
        producer_epoch,
        base_sequence,
        len(records) if count is None else count,
    )
    body += b"".join(encode_record(record, index, base_timestamp) for index, record in enumerate(records))
    length = PREFIX.size - LENGTH_FROM + len(body)
    return PREFIX.pack(0, length, -1, magic, crc32c.crc32c(body)) + body


def batch_of_bytes(size: int) -> bytes:
    """A batch of one record that is exactly so long."""
    return encode_batch([RawRecord(b"x" * value_bytes_for(size))])


def value_bytes_for(batch_bytes: int, key: bytes | None = None) -> int:
    """How long the value of a single record is whose batch is so long."""
    guess = batch_bytes - len(encode_batch([RawRecord(b"", key)]))
    while len(encode_batch([RawRecord(b"x" * guess, key)])) > batch_bytes:
        guess -= 1
    assert len(encode_batch([RawRecord(b"x" * guess, key)])) == batch_bytes, "no value gives that size"
    return guess


def decode_batches(data: bytes) -> list[RawBatch]:
    """Whole batches, one after the other; every CRC is checked and nothing may be left over."""
    batches = []
    position = 0
    while position < len(data):
        end = position + LENGTH_FROM + struct.unpack_from(">i", data, position + 8)[0]
        assert end <= len(data), "the frames end within a batch"
        batches.append(_decode_batch(data[position:end]))
        position = end
    return batches


def _decode_batch(data: bytes) -> RawBatch:
    base_offset, _length, leader_epoch, magic, crc = PREFIX.unpack_from(data)
    assert magic == 2
    assert crc == crc32c.crc32c(data[CRC_FROM:]), "CRC-32C"
    attributes, last_delta, first_ms, last_ms, producer_id, epoch, sequence, count = BODY.unpack_from(
        data, CRC_FROM
    )
    batch = RawBatch(
        base_offset, leader_epoch, attributes, last_delta, first_ms, last_ms, producer_id, epoch, sequence
    )
    position = BATCH_HEADER_BYTES
    for index in range(count):
        size, position = read_varint(data, position)
        batch.records.append(_decode_record(data[position : position + size], index, first_ms))
        position += size
    assert position == len(data)
    return batch


def _decode_record(data: bytes, index: int, base_timestamp: int) -> RawRecord:
    timestamp_delta, position = read_varint(data, 1)
    offset_delta, position = read_varint(data, position)
    assert offset_delta == index
    key, position = _read_sized(data, position)
    value, position = _read_sized(data, position)
    count, position = read_varint(data, position)
    headers = []
    for _ in range(count):
        name, position = _read_sized(data, position)
        content, position = _read_sized(data, position)
        assert name is not None
        headers.append((name.decode(), content))
    return RawRecord(value, key, tuple(headers), base_timestamp + timestamp_delta)


# -- placement ----------------------------------------------------------------------------------------


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2, seed 0x9747b28c, unsigned."""
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    value = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        word = word * multiplier & mask
        word ^= word >> 24
        value = value * multiplier & mask ^ word * multiplier & mask
    tail = data[whole:]
    if tail:
        value ^= int.from_bytes(tail, "little")
        value = value * multiplier & mask
    value ^= value >> 13
    value = value * multiplier & mask
    return value ^ value >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's default placement."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


# -- the broker of a module ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Served:
    """A running broker as its clients see it."""

    process: BrokerProcess

    @property
    def endpoint(self) -> str:
        return self.process.bootstrap

    @property
    def data(self) -> Path:
        return self.process.data

    def client(
        self, encoding: EncodingName = "json", socket: SocketName = "DEALER", **options: Any
    ) -> RawClient:
        return RawClient(self.endpoint, encoding=encoding, socket=socket, **options)

    def actors(self) -> dict[str, dict[str, Any]]:
        """The rows of `status` by name."""
        with self.client() as client:
            return {row["name"]: row for row in client.call("status").ok()["actors"]}


@contextmanager
def serve(**settings: object) -> Iterator[Served]:
    """A broker for a module's tests. At the end, nothing in it may have died or been started again."""
    with BrokerProcess(**settings) as process:  # type: ignore[arg-type]
        served = Served(process)
        before = served.actors()
        yield served
        assert_unharmed(before, served.actors())


def assert_unharmed(before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]) -> None:
    """The processes of ``before`` are the same in ``after``, and nothing was ever started twice."""
    for name, row in after.items():
        assert row["restarts"] == 0, f"{name} was started again: {row}"
        assert row["pid"] is not None, f"{name} does not run: {row}"
    for name, row in before.items():
        if name in after:
            assert after[name]["pid"] == row["pid"], f"{name} is another process now"
    lost = {name for name in before if name not in after and not name.startswith("partition:")}
    assert not lost, f"gone: {lost}"
