"""Bytes to bodies: readers made once from kio's schemas, for bytes that may come from anybody.

kio's own reader is written in another language and ends the whole process where a list is said to have
more items than there is memory for. Here a length is compared with what follows before anything is made.

As Kafka does, a reader skips tags that it does not know, so that newer clients may say more than we
understand, and says where the body ended. A body is a named tuple of the fields of that version: a tag
that is missing has kio's default, times are ``timedelta``, records a view of the frame.
"""

from __future__ import annotations

import dataclasses
import struct
import uuid
from collections import namedtuple
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple, get_args, get_type_hints

TAGS_MAX = 100
ITEMS_MAX = 200_000
"""Items of all lists of one request together: two bytes of a stranger each, and more of our time."""
_FORMS = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "timedelta_i32": "i",
    "timedelta_i64": "q",
    "error_code": "h",
}
_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
_UUID_BYTES = 16

Read = Callable[[memoryview, int], tuple[Any, int]]
"""From a frame and a position to a value and the position behind it."""


class Unreadable(Exception):
    """Bytes that are not this message."""


class _Items:
    """How many more items the request that is being read may have; there is one loop in a process."""

    left = ITEMS_MAX


def begin_request() -> None:
    """To be called before each request is read."""
    _Items.left = ITEMS_MAX


def take_items(count: int) -> None:
    """The request has a list of so many. Raises Unreadable where it has too many in all."""
    _Items.left -= count
    if _Items.left < 0:
        raise too_many_items()


def too_many_items() -> Unreadable:
    """Why a request is not read whose lists have more than ITEMS_MAX items."""
    return Unreadable(f"the request has more than {ITEMS_MAX} items in its lists")


class _Step(NamedTuple):
    """Fields of fixed size that follow one another (``form``), or one field of another kind (``read``)."""

    form: struct.Struct | None
    read: Read | None


def read_varint(frame: memoryview, position: int) -> tuple[int, int]:
    """Seven bits of each byte, the lowest first."""
    value = shift = 0
    while shift < 35:
        byte = frame[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise Unreadable("a varint has more than five bytes")


def skip_tags(frame: memoryview, position: int) -> int:
    """The position behind tags of which none is wanted."""
    return _read_tags(frame, position, {}, [])


def _taken(frame: memoryview, position: int, size: int) -> memoryview:
    if size > len(frame) - position:
        raise Unreadable(f"{size} bytes are said to follow, {len(frame) - position} do")
    return frame[position : position + size]


def _read_uuid(frame: memoryview, position: int) -> tuple[Any, int]:
    raw = bytes(_taken(frame, position, _UUID_BYTES))
    return uuid.UUID(bytes=raw) if any(raw) else None, position + _UUID_BYTES


def _length(form: struct.Struct, *, flexible: bool) -> Callable[[memoryview, int], tuple[int, int]]:
    """A length; below zero for null."""

    def read_compact(frame: memoryview, position: int) -> tuple[int, int]:
        value, position = read_varint(frame, position)
        return value - 1, position

    def read_fixed(frame: memoryview, position: int) -> tuple[int, int]:
        (value,) = form.unpack_from(frame, position)
        return value, position + form.size

    return read_compact if flexible else read_fixed


def _sized(kafka_type: str, *, flexible: bool, nullable: bool) -> Read:
    is_text = kafka_type == "string"
    read_length = _length(_INT16 if is_text else _INT32, flexible=flexible)
    convert: Callable[[memoryview], Any] = bytes
    if is_text:
        convert = _text
    elif kafka_type == "records":
        convert = memoryview

    def read(frame: memoryview, position: int) -> tuple[Any, int]:
        size, position = read_length(frame, position)
        if size < 0:
            if not nullable:
                raise Unreadable("null for a field that is never null")
            return None, position
        return convert(_taken(frame, position, size)), position + size

    return read


def _text(raw: memoryview) -> str:
    return str(raw, "utf-8")


def _array(read_item: Read, *, flexible: bool, nullable: bool) -> Read:
    read_length = _length(_INT32, flexible=flexible)

    def read(frame: memoryview, position: int) -> tuple[Any, int]:
        count, position = read_length(frame, position)
        if count < 0:
            if not nullable:
                raise Unreadable("null for a list that is never null")
            return None, position
        if count > len(frame) - position:
            raise Unreadable(f"a list is said to have {count} items, more than bytes follow")
        take_items(count)
        items = []
        for _ in range(count):
            item, position = read_item(frame, position)
            items.append(item)
        return tuple(items), position

    return read


def _primitive(kafka_type: str, *, flexible: bool, nullable: bool) -> Read:
    if kafka_type in ("string", "bytes", "records"):
        return _sized(kafka_type, flexible=flexible, nullable=nullable)
    if kafka_type == "uuid":
        return _read_uuid
    form = struct.Struct(">" + _FORMS[kafka_type])
    is_time = kafka_type.startswith("timedelta")

    def read(frame: memoryview, position: int) -> tuple[Any, int]:
        (value,) = form.unpack_from(frame, position)
        return timedelta(milliseconds=value) if is_time else value, position + form.size

    return read


def _field_reader(field: dataclasses.Field[Any], kind: Any, *, flexible: bool) -> Read:
    arguments = get_args(kind)
    nullable = type(None) in arguments
    bare: Any = next((each for each in arguments if each is not type(None)), kind) if nullable else kind
    items: Any = get_args(bare)
    if items and items[-1] is Ellipsis:
        if dataclasses.is_dataclass(items[0]):
            entity: Any = items[0]
            read_item = entity_reader(entity)
        else:
            read_item = _primitive(field.metadata["kafka_type"], flexible=flexible, nullable=False)
        return _array(read_item, flexible=flexible, nullable=nullable)
    if "kafka_type" not in field.metadata:
        return entity_reader(bare)
    return _primitive(field.metadata["kafka_type"], flexible=flexible, nullable=nullable)


def _is_list(kind: Any) -> bool:
    return any(get_args(each)[-1:] == (Ellipsis,) for each in (kind, *get_args(kind)))


def _steps(fields: list[dataclasses.Field[Any]], hints: dict[str, Any], *, flexible: bool) -> list[_Step]:
    steps: list[_Step] = []
    run: list[dataclasses.Field[Any]] = []

    def end_run() -> None:
        if run:
            forms = "".join(_FORMS[field.metadata["kafka_type"]] for field in run)
            steps.append(_Step(struct.Struct(">" + forms), None))
            run.clear()

    for field in fields:
        if field.metadata.get("kafka_type") in _FORMS and not _is_list(hints[field.name]):
            run.append(field)
            continue
        end_run()
        steps.append(_Step(None, _field_reader(field, hints[field.name], flexible=flexible)))
    end_run()
    return steps


@cache
def entity_reader(entity: Any) -> Read:
    """What reads this message of kio's, or this part of one. It raises Unreadable and errors like it."""
    hints = get_type_hints(entity)
    flexible = entity.__flexible__
    fields = dataclasses.fields(entity)
    plain = [field for field in fields if field.metadata.get("tag") is None]
    tagged = [field for field in fields if field.metadata.get("tag") is not None]
    made: Any = namedtuple(entity.__name__, [field.name for field in (*plain, *tagged)])  # type: ignore[misc]
    make = made._make
    tags = {
        field.metadata["tag"]: (
            len(plain) + number,
            _field_reader(field, hints[field.name], flexible=flexible),
        )
        for number, field in enumerate(tagged)
    }
    defaults = [None if field.default is dataclasses.MISSING else field.default for field in tagged]
    steps = _steps(plain, hints, flexible=flexible)
    times = [
        number
        for number, field in enumerate(plain)
        if field.metadata.get("kafka_type", "").startswith("timedelta")
    ]

    if len(steps) == 1 and steps[0].form is not None and not times and not tagged:
        return _run_reader(steps[0].form, make, flexible=flexible)

    def read_entity(frame: memoryview, position: int) -> tuple[Any, int]:
        values: list[Any] = []
        for form, read in steps:
            if form is not None:
                values += form.unpack_from(frame, position)
                position += form.size
            else:
                assert read is not None
                value, position = read(frame, position)
                values.append(value)
        for number in times:
            values[number] = timedelta(milliseconds=values[number])
        values += defaults
        if flexible:
            position = _read_tags(frame, position, tags, values)
        return make(values), position

    return read_entity


def _run_reader(form: struct.Struct, make: Callable[[Any], Any], *, flexible: bool) -> Read:
    """A part of nothing but fields of fixed size, such as a partition of a fetch: there may be thousands."""
    unpack, size = form.unpack_from, form.size

    def read_run(frame: memoryview, position: int) -> tuple[Any, int]:
        made = make(unpack(frame, position))
        position += size
        return made, _read_tags(frame, position, {}, []) if flexible else position

    return read_run


def _read_tags(
    frame: memoryview, position: int, known: Mapping[int, tuple[int, Read]], values: list[Any]
) -> int:
    """Puts what is known into its place among the values; the position behind the tags."""
    count = frame[position]
    if count == 0:
        return position + 1
    count, position = read_varint(frame, position)
    if count > TAGS_MAX:
        raise Unreadable(f"there are {count} tagged fields")
    for _ in range(count):
        tag, position = read_varint(frame, position)
        size, position = read_varint(frame, position)
        value = _taken(frame, position, size)
        if tag in known:
            number, read = known[tag]
            values[number], _ = read(value, 0)
        position += size
    return position
