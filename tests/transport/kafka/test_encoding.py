"""Every version of every answer, against kio's own writer; and what a handler may get wrong."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import io
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kio.index import load_response_schema
from kio.serial import entity_writer
from kio.static.primitive import Records

from actors.kafka.versions import VERSIONS
from transport.kafka.encoding import EncodingError, entity_encoder

READABLE = [
    (api_key, version)
    for api_key, (low, high) in VERSIONS.items()
    for version in range(max(low, 3) if api_key == 0 else low, high + 1)
]
st.register_type_strategy(Records, st.binary().map(Records))


def tree(value: Any) -> Any:
    """kio's object as the plain tree that a handler returns; default tags are left out, as kio does."""
    if dataclasses.is_dataclass(value):
        return {
            each.name: tree(getattr(value, each.name))
            for each in dataclasses.fields(value)
            if not ("tag" in each.metadata and getattr(value, each.name) == each.default)
        }
    if isinstance(value, tuple):
        return [tree(each) for each in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.timedelta):
        return round(value.total_seconds() * 1000)
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    return value.bytes if isinstance(value, uuid.UUID) else value


@pytest.mark.parametrize(("api_key", "version"), READABLE)
def test_an_answer_is_what_kio_writes(api_key: int, version: int) -> None:
    schema: Any = load_response_schema(api_key, version)
    encode = entity_encoder(schema)

    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.from_type(schema))
    def check(response: Any) -> None:
        expected = io.BytesIO()
        entity_writer(schema)(expected, response)
        written = bytearray()
        encode(written, tree(response))
        assert bytes(written) == expected.getvalue()

    check()


def encode(api_key: int, version: int, body: dict[str, Any]) -> bytes:
    schema: Any = load_response_schema(api_key, version)
    out = bytearray()
    entity_encoder(schema)(out, body)
    return bytes(out)


def test_what_a_version_does_not_know_is_ignored_and_defaults_stand_for_the_rest() -> None:
    body = {"error_code": 5, "protocols": "x", "no such field": 1}
    assert encode(12, 0, body) == b"\0\x05"
    assert encode(12, 1, body) == b"\0\0\0\0\0\x05"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "needs 'error_code'"),
        ({"error_code": None}, "error_code = None"),
        ({"error_code": "5"}, "error_code = '5'"),
        ({"error_code": 1 << 20}, "error_code = 1048576"),
    ],
)
def test_a_handlers_fault_is_named(body: dict[str, Any], says: str) -> None:
    with pytest.raises(EncodingError, match=says):
        encode(12, 0, body)
