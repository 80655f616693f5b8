"""Fuzz targets: one function for each thing that reads bytes it did not write.

Each takes any bytes and may raise nothing: the errors that the reader promises are caught here, all else is
a bug. hypothesis calls them in the test run (``test_fuzz``), atheris in ``make fuzz`` (``__main__``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import zmq

from actors.ledger import decode_entry
from actors.messages import TO_CHILD
from actors.patterns import compile_pattern
from odradek.protocol.batch import HEADER_BYTES, check_batch, checksum, iterate_headers, read_header
from odradek.protocol.codec import (
    REPLY_DECODERS,
    BadRequest,
    Encoding,
    RequestDecoder,
    encode,
    public_decoder,
)
from odradek.protocol.errors import (
    CorruptMessage,
    InvalidGroupId,
    InvalidRegularExpression,
    InvalidRequest,
    InvalidTopic,
    MessageTooLarge,
    UnsupportedCompressionType,
)
from odradek.protocol.messages import APIS, Fetch, GroupHeartbeat, Ping, Produce, Request, failure
from odradek.protocol.names import check_group_name, check_topic_name
from odradek.protocol.records import RecordToWrite, decode_batch, decode_batches, encode_batch
from partitions.checkpoint import load_checkpoint, load_start_offset
from partitions.epochs import format_epochs, parse_epochs
from partitions.settings import LogSettings
from partitions.witness import load_witness
from supervisor.catalog import CatalogDamaged, decode_catalog
from tests.partitions.harness import DIRECTORY, append_synced, open_log, read_all
from tests.support.batches import make_batch
from tests.support.simdisk import SimDisk
from transport.frames import MalformedError, read_request, reply_frames

DECODED_RECORDS_MAX = 100_000
LOG = DIRECTORY / f"{0:020d}.log"
CACHES = ("odradek-checkpoint", "log-start-offset", "durable-position", "leader-epoch-checkpoint")
SETTINGS = LogSettings(index_interval_bytes=64, preallocate=False)

_public = public_decoder()
_control: RequestDecoder[Request] = RequestDecoder(TO_CHILD)
_SAFE_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def request_header(data: bytes) -> None:
    """A public header: a request that can be written again, or a refusal that can be sent."""
    for decoder in (_public, _control):
        try:
            request, encoding = decoder.decode(data)
        except BadRequest as bad:
            assert bad.error.message
            encode(failure(bad.error), bad.encoding)
            continue
        again, _ = decoder.decode(encode(request, encoding))
        assert again == request


def request_frames(data: bytes) -> None:
    """A whole message, cut into frames at the byte 0xFE, as a ROUTER receives it."""
    frames = [zmq.Frame(part) for part in (b"peer", *data.split(b"\xfe"))]
    try:
        envelope = read_request("public", frames, _public)
    except MalformedError as malformed:
        reply_frames(malformed.sender, failure(malformed.error), ())
        return
    reply_frames(envelope.sender, failure(InvalidRequest("no")), ())


def reply_header(data: bytes) -> None:
    """What a client may get from something that is no broker."""
    for api in APIS.values():
        try:
            REPLY_DECODERS[api].decode(data)
        except InvalidRequest:
            continue


def batch(data: bytes) -> None:
    """A batch as a producer sends it; what passes can be walked through and taken apart."""
    try:
        header = check_batch(data)
    except CorruptMessage:
        return
    assert header.size_bytes == len(data)
    assert [position for position, _ in iterate_headers(data)] == [0]
    _take_apart(data)


def signed_batch(data: bytes) -> None:
    """The same with a right checksum over whatever is inside, so that the checks behind it are reached."""
    body = data[:2_000]
    whole = bytearray(make_batch(1, payload=body[32:]))
    whole[HEADER_BYTES - 40 : HEADER_BYTES - 40 + len(body[:8])] = body[:8]
    whole[22 : 22 + min(2, len(body))] = body[:2]
    whole[17:21] = checksum(whole).to_bytes(4, "big")
    batch(bytes(whole))


def _take_apart(data: bytes) -> None:
    try:
        for number, _ in enumerate(decode_batch(data)):
            if number >= DECODED_RECORDS_MAX:
                return
    except (CorruptMessage, MessageTooLarge, UnsupportedCompressionType):
        return


def batches(data: bytes) -> None:
    """What a consumer is sent: whole batches, so it is told."""
    try:
        for number, _ in enumerate(decode_batches(data)):
            if number >= DECODED_RECORDS_MAX:
                return
    except (CorruptMessage, MessageTooLarge, UnsupportedCompressionType):
        return


def recovery(data: bytes) -> None:
    """Any bytes in a segment file, alone or behind sound batches: the log opens, and again with no change."""
    sound = make_batch(2, payload=b"sound") + make_batch(1, payload=b"too", base_offset=2)
    for front, durable in ((b"", 0), (sound, 3)):
        disk = SimDisk()
        disk.close(disk.open(LOG, create=True))
        disk.damage(LOG, front + data)
        log = open_log(disk, SETTINGS)
        reading = read_all(log)
        assert log.end_offset >= durable
        if durable:
            assert {0, 2} <= set(reading.batches), "what is sound is served"
        append_synced(log, make_batch(payload=b"goes on"))
        expected = read_all(log)
        log.close()
        disk.release()
        assert read_all(open_log(disk, SETTINGS)) == expected


def caches(data: bytes) -> None:
    """The small files beside a log: believed or not, the log is the same."""
    kind, content = CACHES[data[0] % len(CACHES)] if data else CACHES[0], data[1:]
    disk = SimDisk()
    log = open_log(disk, SETTINGS)
    append_synced(log, make_batch(3, payload=b"one"), make_batch(2, payload=b"two"))
    expected = read_all(log)
    log.close()
    if kind in disk.names[DIRECTORY]:
        disk.damage(DIRECTORY / kind, content)
    load_checkpoint(disk, DIRECTORY, "owner")
    load_start_offset(disk, DIRECTORY)
    load_witness(disk, DIRECTORY, "owner", 0)
    epochs = parse_epochs(content)
    if epochs is not None:
        assert parse_epochs(format_epochs(epochs)) is not None
    disk.release()
    again = open_log(disk, SETTINGS)
    found = read_all(again)
    assert found.batches.items() <= expected.batches.items()
    assert again.end_offset >= 5 or kind == "log-start-offset"


def catalog(data: bytes) -> None:
    """The catalogue of topics: whole, or refused by name."""
    try:
        decode_catalog(data, Path("/data/catalog.json"))
    except CatalogDamaged:
        return


def coordinator_entry(data: bytes) -> None:
    """An entry of the coordinator's log, key and value cut at the byte 0xFE."""
    key, _, value = data.partition(b"\xfe")
    for given in (value, None):
        try:
            decode_entry(key, given)
        except CorruptMessage:
            continue


def names(data: bytes) -> None:
    """A topic's name, which becomes a path, and a group's."""
    name = data.decode("utf-8", "surrogateescape")
    try:
        check_topic_name(name)
    except InvalidTopic:
        assert not _SAFE_NAME.fullmatch(name) or name in (".", "..")
    else:
        path = (Path("/data") / f"{name}-0").resolve()
        assert path.parent == Path("/data"), name
        assert _SAFE_NAME.fullmatch(name)
    try:
        check_group_name(name)
    except InvalidGroupId:
        return
    assert 1 <= len(name.encode()) <= 255


def pattern(data: bytes) -> None:
    """A topic pattern of a member: built within its budget, or refused."""
    try:
        found = compile_pattern(data.decode("utf-8", "replace"))
    except InvalidRegularExpression:
        return
    for name in ("", "events", "a.b-c_9" * 30):
        found.matches(name)


def header_of_a_batch(data: bytes) -> None:
    """Sixty-one bytes are a header, fewer are not."""
    try:
        read_header(data)
    except CorruptMessage:
        assert len(data) < HEADER_BYTES


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        request_header,
        request_frames,
        reply_header,
        batch,
        signed_batch,
        batches,
        recovery,
        caches,
        catalog,
        coordinator_entry,
        names,
        pattern,
        header_of_a_batch,
    )
}


def seeds() -> list[bytes]:
    """Where a search begins: one sound example of each kind."""
    examples: list[bytes] = [b"", b"\0" * 100, b"events", b"(a|b)*[^.]+", b"0\n1\n0 0\n"]
    for request in (Ping(id=1), Fetch(topic="t", partition=0, offset=1), Produce(topic="t", partition=0)):
        examples += [encode(request, encoding) for encoding in Encoding]
    examples.append(encode(GroupHeartbeat(group="g", topics=["t"]), Encoding.MSGPACK))
    record = RecordToWrite(1_700_000_000_000, b"key", b"value" * 20, [("name", b"value")])
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        examples.append(encode_batch([record, record], compression=codec))
    examples.append(make_batch(2) + make_batch(1, base_offset=2))
    return examples
