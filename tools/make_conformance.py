"""Writes the golden messages of ``clients/conformance``, which every client must pass.

Nothing here uses the codec under test: headers are written by the standard library's ``json`` and a
MessagePack writer of a few lines, batches byte by byte after Kafka's description, checksums and key
hashes by the textbook. So a golden file and the SDK can only agree if both are right.

Run it when the protocol gained something, look at the difference, and commit it. A golden message that
is there already must not change.
"""

from __future__ import annotations

import base64
import gzip
import json
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cramjam

CONFORMANCE = Path(__file__).resolve().parent.parent / "clients" / "conformance"
TIMESTAMP_MS = 1_700_000_000_000
Header = tuple[str, bytes | None]


# -- RecordBatch v2, byte by byte ------------------------------------------------------------------


def zigzag_varint(number: int) -> bytes:
    """A signed number as Kafka's records hold it: zigzag, then seven bits a byte, lowest first."""
    rest = (number << 1) ^ (number >> 63)
    rest &= (1 << 64) - 1
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), bit by bit: slow and plain."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Kafka's ``Utils.murmur2`` as a signed 32-bit number."""
    factor, mask = 0x5BD1E995, 0xFFFFFFFF
    mixed = (0x9747B28C ^ len(key)) & mask
    whole = len(key) & ~3
    for position in range(0, whole, 4):
        word = int.from_bytes(key[position : position + 4], "little") * factor & mask
        word = (word ^ word >> 24) * factor & mask
        mixed = mixed * factor & mask ^ word
    if whole < len(key):
        mixed = (mixed ^ int.from_bytes(key[whole:], "little")) * factor & mask
    mixed = (mixed ^ mixed >> 13) * factor & mask
    mixed ^= mixed >> 15
    return mixed - (1 << 32) if mixed >> 31 else mixed


@dataclass(frozen=True, slots=True)
class GoldenRecord:
    """One record; ``None`` is null, which is not the same as empty."""

    key: bytes | None
    value: bytes | None
    timestamp: int = TIMESTAMP_MS
    headers: Sequence[Header] = ()

    def encode(self, offset_delta: int, base_timestamp: int) -> bytes:
        """length, attributes, timestamp delta, offset delta, key, value, headers."""
        body = b"\x00" + zigzag_varint(self.timestamp - base_timestamp) + zigzag_varint(offset_delta)
        body += _nullable(self.key) + _nullable(self.value) + zigzag_varint(len(self.headers))
        for name, value in self.headers:
            body += _nullable(name.encode()) + _nullable(value)
        return zigzag_varint(len(body)) + body


def _nullable(data: bytes | None) -> bytes:
    return zigzag_varint(-1) if data is None else zigzag_varint(len(data)) + data


@dataclass(frozen=True, slots=True)
class GoldenBatch:
    """One batch and all that its header says."""

    name: str
    says: str
    records: Sequence[GoldenRecord]
    compression: str = "none"
    base_offset: int = 0
    leader_epoch: int = 0
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1

    def encode(self) -> bytes:
        """The whole batch."""
        base_timestamp = self.records[0].timestamp
        body = b"".join(record.encode(delta, base_timestamp) for delta, record in enumerate(self.records))
        signed = struct.pack(
            ">hiqqqhii",
            list(COMPRESS).index(self.compression),
            len(self.records) - 1,
            base_timestamp,
            max(record.timestamp for record in self.records),
            self.producer_id,
            self.producer_epoch,
            self.base_sequence,
            len(self.records),
        ) + COMPRESS[self.compression](body)
        placed = struct.pack(
            ">qiibI", self.base_offset, len(signed) + 9, self.leader_epoch, 2, crc32c(signed)
        )
        return placed + signed

    def golden(self) -> dict[str, object]:
        """The batch as the JSON file holds it."""
        return {
            "name": self.name,
            "says": self.says,
            "hex": self.encode().hex(),
            "base_offset": self.base_offset,
            "leader_epoch": self.leader_epoch,
            "compression": self.compression,
            "producer_id": self.producer_id,
            "producer_epoch": self.producer_epoch,
            "base_sequence": self.base_sequence,
            "records": [
                {
                    "offset": self.base_offset + delta,
                    "timestamp": record.timestamp,
                    "key_hex": _hex(record.key),
                    "value_hex": _hex(record.value),
                    "headers": [[name, _hex(value)] for name, value in record.headers],
                }
                for delta, record in enumerate(self.records)
            ],
        }


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()


def _snappy_framed(data: bytes) -> bytes:
    """The framing of snappy-java, which Kafka's clients write: a magic, then blocks with a length each."""
    block = bytes(cramjam.snappy.compress_raw(data))
    return b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, len(block)) + block


def _lz4_frame(data: bytes) -> bytes:
    """The frame format with independent blocks: Kafka's Java client refuses linked ones (KIP-57)."""
    compressor = cramjam.lz4.Compressor(block_linked=False, content_checksum=False)
    compressor.compress(data)
    return bytes(compressor.finish())


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "snappy": _snappy_framed,
    "lz4": _lz4_frame,
    "zstd": lambda data: bytes(cramjam.zstd.compress(data)),
}
"""By name, in the order of the numbers that stand in a batch's attributes."""


def batches() -> list[GoldenBatch]:
    """Every batch that a client must read, and the uncompressed ones also write."""
    words = [GoldenRecord(b"key-%d" % n, b"value %d " % n * 8, TIMESTAMP_MS + n) for n in range(20)]
    one = GoldenBatch("one-record", "one record without a key", [GoldenRecord(None, b"hello")])
    plain = [
        one,
        GoldenBatch(
            "null-and-empty",
            "null key, null value (a tombstone), empty key, empty value: four different things",
            [
                GoldenRecord(None, b"value"),
                GoldenRecord(b"key", None),
                GoldenRecord(b"", b"value"),
                GoldenRecord(b"key", b""),
            ],
        ),
        GoldenBatch(
            "headers",
            "headers in order, one name twice, a null value, an empty value, a name beyond ASCII",
            [
                GoldenRecord(
                    b"k",
                    b"v",
                    headers=[
                        ("trace", b"1"), ("trace", b"2"), ("none", None), ("empty", b""), ("größe", b"\xff")
                    ],
                )
            ],
        ),
        GoldenBatch(
            "binary", "all 256 byte values", [GoldenRecord(bytes(range(256)), bytes(range(255, -1, -1)))]
        ),
        GoldenBatch(
            "timestamps",
            "timestamps that go back: deltas are signed, the greatest one stands in the header",
            [GoldenRecord(None, b"a", TIMESTAMP_MS + delta) for delta in (0, 60_000, -60_000, 1)],
        ),
        GoldenBatch(
            "placed", "as the broker returns it: base offset and leader epoch set, same checksum", words[:3],
            base_offset=41, leader_epoch=7,
        ),
        GoldenBatch(
            "large-offset", "a base offset that needs more than 32 bits", words[:2], base_offset=2**40 + 3
        ),
        GoldenBatch(
            "idempotent", "producer id, epoch and base sequence", words[:5],
            producer_id=4711, producer_epoch=2, base_sequence=95,
        ),
        GoldenBatch(
            "sequence-wraps", "the base sequence is the last one there is; the next record has 0", words[:2],
            producer_id=1, producer_epoch=0, base_sequence=2**31 - 1,
        ),
        GoldenBatch("twenty-records", "varints of more than one byte", words),
    ]  # fmt: skip
    packed = [
        GoldenBatch(f"{name}-compressed", f"twenty records, {name}", words, compression=name)
        for name in COMPRESS
        if name != "none"
    ]
    return plain + packed


def refused_batches() -> list[dict[str, object]]:
    """Batches that neither a broker nor a consumer may take, and the error."""
    good = GoldenBatch("good", "", [GoldenRecord(b"key", b"value"), GoldenRecord(None, b"second")]).encode()
    flipped = bytearray(good)
    flipped[-1] ^= 1
    old_magic = good[:16] + b"\x01" + good[17:]
    wrong_count = good[:57] + struct.pack(">i", 3) + good[61:]
    unknown_codec = good[:21] + struct.pack(">h", 5) + good[23:]
    no_sequence = replace(
        GoldenBatch("", "", [GoldenRecord(None, b"x")]), producer_id=9, producer_epoch=0, base_sequence=-1
    ).encode()
    cases = {
        "empty": ("nothing at all", b""),
        "short-header": ("60 of the 61 bytes of a header", good[:60]),
        "cut": ("the last byte is missing", good[:-1]),
        "longer": ("one byte behind the batch", good + b"\x00"),
        "two-batches": ("two batches in one frame of a produce request", good + good),
        "bit-flip": ("one bit of the last record", bytes(flipped)),
        "old-magic": ("message format 1", old_magic),
        "wrong-count": ("the record count is not the last offset delta + 1", _signed_again(wrong_count)),
        "unknown-codec": ("compression 5 does not exist", _signed_again(unknown_codec)),
        "no-sequence": ("a producer id without a sequence", no_sequence),
    }
    return [
        {"name": name, "says": says, "hex": batch.hex(), "code": 2, "error": "CORRUPT_MESSAGE"}
        for name, (says, batch) in cases.items()
    ]


def _signed_again(batch: bytes) -> bytes:
    return batch[:17] + struct.pack(">I", crc32c(batch[21:])) + batch[21:]


# -- headers ---------------------------------------------------------------------------------------


def msgpack(value: Any) -> bytes:
    """MessagePack in its shortest forms; bytes become bin, text becomes str."""
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return _msgpack_int(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return _sized(len(text), 0xA0, 31, (0xD9, 0xDA, 0xDB)) + text
    if isinstance(value, bytes):
        return _sized(len(value), 0, -1, (0xC4, 0xC5, 0xC6)) + value
    if isinstance(value, Mapping):
        items = b"".join(msgpack(key) + msgpack(item) for key, item in value.items())
        return _sized(len(value), 0x80, 15, (None, 0xDE, 0xDF)) + items
    return _sized(len(value), 0x90, 15, (None, 0xDC, 0xDD)) + b"".join(map(msgpack, value))


def _msgpack_int(number: int) -> bytes:
    if -32 <= number < 128:
        return struct.pack("b", number) if number < 0 else bytes([number])
    forms = ("BHIQ", (0xCC, 0xCD, 0xCE, 0xCF)) if number >= 0 else ("bhiq", (0xD0, 0xD1, 0xD2, 0xD3))
    for form, start in zip(*forms, strict=True):
        try:
            return bytes([start]) + struct.pack(f">{form}", number)
        except struct.error:
            continue
    raise OverflowError(f"{number} needs more than 64 bits")


def _sized(size: int, short: int, short_max: int, starts: tuple[int | None, int, int]) -> bytes:
    if size <= short_max:
        return bytes([short | size])
    if size <= 0xFF and starts[0] is not None:
        return bytes([starts[0], size])
    if size <= 0xFFFF:
        return bytes([starts[1]]) + struct.pack(">H", size)
    return bytes([starts[2]]) + struct.pack(">I", size)


def for_json(value: Any) -> Any:
    """Bytes as the protocol writes them in JSON."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {key: for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(item) for item in value]
    return value


def with_hex(value: Any) -> Any:
    """Bytes as this directory's files write them: an object with ``hex``."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, Mapping):
        return {key: with_hex(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_hex(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class GoldenMessage:
    """A request or a reply: what it means, and the frames behind its header."""

    name: str
    api: str
    header: dict[str, Any]
    payload: Sequence[bytes] = field(default_factory=tuple)

    def golden(self) -> dict[str, object]:
        """The message as the JSON file holds it."""
        text = json.dumps(for_json(self.header), ensure_ascii=False, separators=(",", ":"))
        return {
            "name": self.name,
            "api": self.api,
            "means": with_hex(self.header),
            "json": text,
            "msgpack_hex": msgpack(self.header).hex(),
            "payload_hex": [frame.hex() for frame in self.payload],
        }


def request(name: str, api: str, payload: Sequence[bytes] = (), **fields: Any) -> GoldenMessage:
    return GoldenMessage(name, api, {"api": api, **fields}, payload)


def reply(name: str, api: str, payload: Sequence[bytes] = (), **fields: Any) -> GoldenMessage:
    return GoldenMessage(name, api, {"id": 1, "error": None} | fields, payload)


def _error(code: int, name: str, retriable: bool, message: str) -> dict[str, object]:
    return {"code": code, "name": name, "message": message, "retriable": retriable}


UNKNOWN_TOPIC = _error(3, "UNKNOWN_TOPIC_OR_PARTITION", True, "there is no topic 'nowhere'")
ACL = {
    "principal": "User:till",
    "operation": "write",
    "resource_type": "topic",
    "resource_name": "sales-",
    "pattern_type": "prefixed",
    "permission": "allow",
    "host": "*",
}
CREDENTIAL = {
    "mechanism": "SCRAM-SHA-256",
    "iterations": 4096,
    "salt": "W22ZaJ0SNY7soEsUEjb6gQ==",
    "stored_key": "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
    "server_key": "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
}
BATCH = GoldenBatch("", "", [GoldenRecord(b"key", b"value")]).encode()
NOT_UTF8 = b"\x00\xff\xfe"


def requests() -> list[GoldenMessage]:
    """At least one request of every api, and the forms in which a field may come."""
    return [
        request("ping", "ping"),
        request("ping-string-id", "ping", id="a7", client_id="till-3", timeout_ms=250, v=1),
        request("ping-unknown-field", "ping", id=2, colour="green"),
        request("versions", "versions", id=1),
        request("metadata-all", "metadata", id=1, topics=None),
        request("metadata-some", "metadata", id=1, topics=["events", "größe"], allow_auto_create=True),
        request(
            "create-topics",
            "create_topics",
            id=1,
            topics=[
                {"name": "events", "partitions": 8, "config": {"segment.bytes": 1048576}},
                {"name": "plain"},
            ],
            validate_only=True,
        ),
        request("delete-topics", "delete_topics", id=1, names=["events"]),
        request("create-partitions", "create_partitions", id=1, topic="events", partitions=16),
        request("describe-configs", "describe_configs", id=1, topic="events"),
        request("alter-configs", "alter_configs", id=1, topic="events", config={"segment.bytes": None}),
        request("delete-records", "delete_records", id=1, topic="events", partition=0, before_offset=-1),
        request("produce-one", "produce", [b"hello"], id=1, topic="events", key=b"user-7"),
        request(
            "produce-one-binary",
            "produce",
            [b"\x00"],
            id=1,
            topic="events",
            partition=3,
            acks=1,
            key=NOT_UTF8,
            headers=[["trace", NOT_UTF8], ["none", None]],
            timestamp=TIMESTAMP_MS,
        ),
        request("produce-tombstone", "produce", [], id=1, topic="events", key=b"user-7", acks="all"),
        request(
            "produce-many",
            "produce",
            [b"one", b""],
            id=1,
            topic="events",
            records=[{"key": b"a", "headers": [["n", b"1"]]}, {"key": b"b", "null": True}],
        ),
        request(
            "produce-batch", "produce", [BATCH], id=1, topic="events", partition=0, format="batch", acks="all"
        ),
        request("produce-no-reply", "produce", [b"hello"], topic="events", acks=0),
        request("fetch", "fetch", id=1, topic="events", partition=3, offset=0),
        request(
            "fetch-batch",
            "fetch",
            id=1,
            topic="events",
            partition=3,
            offset=2**40,
            max_bytes=4096,
            min_bytes=1,
            max_wait_ms=0,
            format="batch",
        ),
        request("list-offsets-place", "list_offsets", id=1, topic="events", partition=0, at="latest"),
        request("list-offsets-time", "list_offsets", id=1, topic="events", partition=0, at=TIMESTAMP_MS),
        request("init-producer-id", "init_producer_id", id=1),
        request(
            "group-join",
            "group_heartbeat",
            id=1,
            group="billing",
            member_epoch=0,
            topics=["events"],
            owned=[],
        ),
        request(
            "group-stay",
            "group_heartbeat",
            id=1,
            group="billing",
            member_id="m-1",
            member_epoch=4,
            assignor="range",
            instance_id="till-3",
            rebalance_timeout_ms=60000,
            owned=[{"topic": "events", "partitions": [0, 2]}],
        ),
        request("group-leave", "group_heartbeat", id=1, group="billing", member_id="m-1", member_epoch=-1),
        request(
            "offset-commit",
            "offset_commit",
            id=1,
            group="billing",
            member_id="m-1",
            member_epoch=4,
            offsets=[{"topic": "events", "partition": 0, "offset": 42, "metadata": "before lunch"}],
        ),
        request("offset-fetch-all", "offset_fetch", id=1, group="billing", topics=None),
        request(
            "offset-fetch-some",
            "offset_fetch",
            id=1,
            group="billing",
            topics=["events", {"topic": "plain", "partitions": [1]}],
        ),
        request("group-list", "group_list", id=1),
        request("group-describe", "group_describe", id=1, group="billing"),
        request("group-delete", "group_delete", id=1, group="billing"),
        request(
            "describe-acls",
            "describe_acls",
            id=1,
            filter={"resource_name": "events", "pattern_type": "match"},
        ),
        request(
            "create-acls", "create_acls", id=1, acls=[ACL, ACL | {"permission": "deny", "host": "10.0.0.7"}]
        ),
        request("delete-acls", "delete_acls", id=1, filters=[{"principal": "User:till"}]),
        request("describe-users", "describe_users", id=1, names=None),
        request(
            "alter-users",
            "alter_users",
            id=1,
            removals=[{"name": "old"}, {"name": "till", "mechanism": "SCRAM-SHA-512"}],
            credentials=[{"name": "till", "credential": CREDENTIAL}],
        ),
        request("status", "status", id=1),
    ]


def replies() -> list[GoldenMessage]:
    """Replies that a client must be able to read."""
    at: dict[str, Any] = {"topic": "events", "partition": 3}
    return [
        reply("ping", "ping"),
        reply("ping-no-id", "ping", id=None),
        reply("unknown-field", "ping", colour="green"),
        reply("versions", "versions", server="odradek 0.1.0", protocol=1, apis={"ping": [1, 1]}),
        reply(
            "metadata",
            "metadata",
            cluster_id="c-1",
            routers=["tcp://127.0.0.1:5559"],
            topics=[
                {
                    "name": "events",
                    "topic_id": "6a1b5a3e-4f2d-4a60-9c55-0f3e0a8c9d21",
                    "internal": False,
                    "error": None,
                    "partitions": [
                        {"partition": 0, "leader_epoch": 3, "endpoints": ["ipc:///run/p0"], "error": None}
                    ],
                },
                {
                    "name": "nowhere",
                    "topic_id": None,
                    "internal": False,
                    "error": UNKNOWN_TOPIC,
                    "partitions": [],
                },
            ],
        ),
        reply(
            "create-topics",
            "create_topics",
            topics=[{"name": "events", "topic_id": "6a1b5a3e-4f2d-4a60-9c55-0f3e0a8c9d21", "error": None}],
        ),
        reply("delete-topics", "delete_topics", topics=[{"name": "nowhere", "error": UNKNOWN_TOPIC}]),
        reply("create-partitions", "create_partitions"),
        reply(
            "describe-configs",
            "describe_configs",
            config={
                "segment.bytes": {"value": 1048576, "default": 1073741824, "doc": "The size of a segment."}
            },
        ),
        reply("delete-records", "delete_records", log_start_offset=42),
        reply("produce-one", "produce", **at, offset=0, timestamp=TIMESTAMP_MS),
        reply("produce-batch", "produce", **at, offset=41, count=3),
        reply(
            "produce-many-one-failed",
            "produce",
            topic="events",
            offsets=[[1, 17], [2, None]],
            errors={1: _error(5, "LEADER_NOT_AVAILABLE", True, "partition 2 of events is restarting")},
        ),
        reply("produce-failed", "produce", error=UNKNOWN_TOPIC),
        reply(
            "fetch-records",
            "fetch",
            [b"hello", b""],
            **at,
            high_watermark=2,
            log_start_offset=0,
            records=[
                {
                    "offset": 0,
                    "timestamp": TIMESTAMP_MS,
                    "key": b"user-7",
                    "headers": [["n", b"1"]],
                    "null": False,
                },
                {"offset": 1, "timestamp": TIMESTAMP_MS, "key": NOT_UTF8, "headers": [], "null": True},
            ],
        ),
        reply("fetch-batch", "fetch", [BATCH], **at, high_watermark=1, log_start_offset=0),
        reply(
            "fetch-out-of-range",
            "fetch",
            **at,
            high_watermark=1,
            log_start_offset=0,
            error=_error(1, "OFFSET_OUT_OF_RANGE", False, "offset 99 is outside of 0 to 1"),
        ),
        reply("list-offsets", "list_offsets", offset=41, timestamp=TIMESTAMP_MS),
        reply("list-offsets-none", "list_offsets", offset=-1, timestamp=-1),
        reply("init-producer-id", "init_producer_id", producer_id=4711, producer_epoch=0),
        reply(
            "group-assigned",
            "group_heartbeat",
            member_id="m-1",
            member_epoch=5,
            heartbeat_interval_ms=3000,
            assignment=[{"topic": "events", "partitions": [0, 2]}],
        ),
        reply(
            "group-unchanged",
            "group_heartbeat",
            member_id="m-1",
            member_epoch=5,
            heartbeat_interval_ms=3000,
            assignment=None,
        ),
        reply(
            "group-fenced",
            "group_heartbeat",
            error=_error(110, "FENCED_MEMBER_EPOCH", False, "epoch 4 is old"),
        ),
        reply("offset-commit", "offset_commit", offsets=[{"topic": "events", "partition": 0, "error": None}]),
        reply(
            "offset-fetch",
            "offset_fetch",
            offsets=[
                {"topic": "events", "partition": 0, "offset": 42, "metadata": "before lunch"},
                {"topic": "events", "partition": 1, "offset": -1, "metadata": None},
            ],
        ),
        reply("describe-acls", "describe_acls", acls=[ACL], enforced=True),
        reply("create-acls", "create_acls", results=[{"error": None}], enforced=False),
        reply("delete-acls", "delete_acls", results=[{"acls": [ACL], "error": None}]),
        reply(
            "describe-users",
            "describe_users",
            users=[
                {
                    "name": "till",
                    "mechanisms": [{"mechanism": "SCRAM-SHA-256", "iterations": 4096}],
                    "error": None,
                }
            ],
        ),
        reply("alter-users", "alter_users", users=[{"name": "till", "error": None}]),
        reply(
            "status",
            "status",
            actors=[
                {
                    "name": "partition:events-0",
                    "role": "partition",
                    "pid": 4711,
                    "state": "serving",
                    "restarts": 0,
                    "uptime_s": 12.5,
                    "pss_bytes": 6291456,
                    "cpu_percent": None,
                }
            ],
        ),
        reply(
            "unknown-error-code", "ping", error=_error(9999, "NEW_IN_A_LATER_VERSION", False, "what happened")
        ),
    ]


def refused_requests() -> list[dict[str, object]]:
    """Headers that a server answers with an error, in the encoding and with the id shown."""
    cases: list[tuple[str, str, bytes, object, int]] = [
        ("empty-header", "a header frame without a byte", b"", None, 42),
        ("not-a-map", "JSON, but an array", b"[1,2]", None, 42),
        ("broken-json", "JSON that ends too early", b'{"api":"ping","id":3', None, 42),
        ("broken-msgpack", "a map of two that holds one", b"\x82\xa3api\xa4ping", None, 42),
        ("no-api", "no api", b'{"id":4}', 4, 42),
        ("api-not-text", "an api that is a number", b'{"api":7,"id":"x"}', "x", 42),
        ("unknown-api", "an api that does not exist", b'{"api":"pong","id":5}', 5, 42),
        ("unknown-api-msgpack", "the same in MessagePack", msgpack({"api": "pong", "id": 5}), 5, 42),
        ("missing-field", "a fetch without an offset",
         b'{"api":"fetch","id":6,"topic":"t","partition":0}', 6, 42),
        ("wrong-type", "a partition that is text",
         b'{"api":"fetch","id":7,"topic":"t","partition":"0","offset":0}', 7, 42),
        ("negative-partition", "a partition below 0",
         b'{"api":"fetch","id":8,"topic":"t","partition":-1,"offset":0}', 8, 42),
        ("wrong-acks", "acks that do not exist", b'{"api":"produce","id":9,"topic":"t","acks":2}', 9, 42),
        ("bad-base64", "a key whose base64 is none",
         b'{"api":"produce","id":10,"topic":"t","key":{"base64":"%%"}}', 10, 42),
        ("key-is-a-number", "a key that is neither text nor base64",
         b'{"api":"produce","id":11,"topic":"t","key":7}', 11, 42),
        ("old-version", "version 0", b'{"api":"ping","id":12,"v":0}', 12, 35),
        ("future-version", "version 99", b'{"api":"ping","id":13,"v":99}', 13, 35),
    ]  # fmt: skip
    names = {42: "INVALID_REQUEST", 35: "UNSUPPORTED_VERSION"}
    return [
        {
            "name": name,
            "says": says,
            "header_hex": header.hex(),
            "id": wanted,
            "code": code,
            "error": names[code],
        }
        for name, says, header, wanted, code in cases
    ]


def blobs() -> list[dict[str, object]]:
    """Bytes in a JSON header: every way to write them, and what they are."""
    texts: dict[str, bytes] = {
        '"user-7"': b"user-7",
        '""': b"",
        '"größe"': "größe".encode(),
        '"\\u0000"': b"\x00",
        '{"base64":""}': b"",
        '{"base64":"dXNlci03"}': b"user-7",
        '{"base64":"AP/+"}': NOT_UTF8,
        '{"base64":"/w=="}': b"\xff",
    }
    # Whether a server writes these bytes as a string or as base64 follows from UTF-8 alone.
    return [{"json": text, "hex": data.hex(), "reply_json": for_json(data)} for text, data in texts.items()]


def keys() -> list[dict[str, object]]:
    """Keys, Kafka's murmur2 of them, and the partition of each among 1, 3, 8 and 200.

    The first six are the ones of Kafka's own ``UtilsTest.testMurmur2``.
    """
    texts = [
        b"21", b"foobar", b"a-little-bit-long-string", b"a-little-bit-longer-string",
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", b"abc",
        b"", b"a", b"ab", b"abcd", b"N328AA", "größe".encode(), NOT_UTF8, bytes(range(256)),
    ]  # fmt: skip
    counts = (1, 3, 8, 200)
    return [
        {
            "key_hex": key.hex(),
            "murmur2": murmur2(key),
            "partitions": {str(count): (murmur2(key) & 0x7FFFFFFF) % count for count in counts},
        }
        for key in texts
    ]


def dialogs() -> list[dict[str, object]]:
    """Whole messages as a client's socket sees them, frame by frame."""
    ping, pong = b'{"api":"ping","id":7}', b'{"id":7,"error":null}'
    packed = msgpack({"api": "ping", "id": 7}), msgpack({"id": 7, "error": None})
    return [
        {
            "name": name,
            "says": says,
            "C": [frame.hex() for frame in sent],
            "S": [frame.hex() for frame in heard],
        }
        for name, says, sent, heard in (
            ("dealer", "no delimiter either way", [ping], [pong]),
            ("req", "the delimiter that a REQ socket puts and takes off by itself", [b"", ping], [b"", pong]),
            ("dealer-msgpack", "the reply uses the encoding of the request", [packed[0]], [packed[1]]),
        )
    ]


def files() -> dict[str, object]:
    """Every golden file's content by its name."""
    return {
        "batches.json": [batch.golden() for batch in batches()],
        "batches-refused.json": refused_batches(),
        "blobs.json": blobs(),
        "dialogs.json": dialogs(),
        "keys.json": keys(),
        "replies.json": [message.golden() for message in replies()],
        "requests.json": [message.golden() for message in requests()],
        "requests-refused.json": refused_requests(),
    }


def text_of(content: object) -> str:
    """A golden file's text."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the files; say which changed."""
    CONFORMANCE.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        path = CONFORMANCE / name
        if not path.exists() or path.read_text() != text_of(content):
            path.write_text(text_of(content))
            sys.stderr.write(f"wrote {path.relative_to(CONFORMANCE.parent.parent)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
