"""Writes ``docs/protocol.md`` and ``docs/configuration.md`` from the definitions in the code.

The prose lives in ``tools/templates``; ``{{name}}`` there is replaced by what this module makes of the
message classes, the error table and the tables of settings. With ``--check`` nothing is written, and
the exit code is 1 where a page is stale.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import inspect

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from odradek.protocol import messages, names  # noqa: E402
from odradek.protocol.errors import ERRORS  # noqa: E402
from odradek.protocol.messages import REPLY_OF, Blob, Reply, Request, api_name  # noqa: E402
from partitions.settings import TOPIC_SETTINGS, TopicSetting  # noqa: E402
from supervisor.setting import Setting  # noqa: E402
from supervisor.settings import SETTINGS  # noqa: E402

TEMPLATES = PROJECT / "tools" / "templates"
DOCS = PROJECT / "docs"
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

FIELD_SENTENCES = {
    "allow_auto_create": "Create what does not exist.",
    "api": "The name of the request.",
    "apis": "Lowest and highest version of each api.",
    "assignment": "The partitions that a member holds.",
    "assignor": "How the coordinator shares out partitions.",
    "client_id": "The name that the client gave itself.",
    "cluster_id": "Made once, when the data directory was.",
    "code": "The number that programs compare.",
    "committed_at_ms": "When the offset was committed, in milliseconds since 1970.",
    "config": "Settings by name.",
    "cpu_percent": "Of one core, since the last look; null where unknown.",
    "default": "The value without a setting.",
    "doc": "What the setting does, in a sentence.",
    "epoch": "Raised whenever the group's target assignment changes.",
    "error": "null, or what went wrong with this entry.",
    "format": '"records": one payload frame for each record; "batch": whole RecordBatches.',
    "group": "The group's name.",
    "groups": "Every group.",
    "headers": "Pairs of name and value, in order.",
    "heartbeat_interval_ms": "How long to wait before the next heartbeat.",
    "host": "The IP address that a rule is about.",
    "high_watermark": "The next offset after the last that is durable.",
    "instance_id": "The name of a static member; null for others.",
    "internal": "The broker's own; clients read it at most.",
    "key": "null: no key.",
    "leader_epoch": "Raised at each start of the partition's actor.",
    "log_start_offset": "The first offset that is kept.",
    "max_bytes": "About how much to return at most.",
    "max_wait_ms": "How long to wait for min_bytes.",
    "mechanism": "How a user proves who it is.",
    "member_epoch": "The member's epoch, as the coordinator's last reply gave it.",
    "member_id": "The coordinator's name for a member.",
    "members": "The members of the group, or how many there are.",
    "message": "What happened, for people.",
    "metadata": "A string of the client's, stored with the offset.",
    "min_bytes": "Answer as soon as this much is there.",
    "name": "The name.",
    "names": "The topics' names.",
    "null": "The value is null; its payload frame is empty.",
    "offset": "The record's place in its partition.",
    "offsets": "One entry for each partition.",
    "operation": "What a rule is about.",
    "owned": "What the member holds.",
    "partition": "The partition's number, from 0.",
    "partitions": "The partitions.",
    "permission": "Whether a rule allows or denies.",
    "pid": "The process id; null where no process runs.",
    "producer_epoch": "Goes with the producer id into every batch.",
    "producer_id": "A number that no other producer has.",
    "pss_bytes": "Memory, shared pages counted by share; null where unknown.",
    "resource_name": "The name that a rule's pattern has.",
    "resource_type": "What kind of thing a rule is about.",
    "rebalance_timeout_ms": "How long the member may take to give up partitions.",
    "restarts": "How often it was started again.",
    "retriable": "Whether the same request may succeed later.",
    "role": "What kind of process it is.",
    "state": "The state's name.",
    "timestamp": "Milliseconds since 1970.",
    "topic": "The topic's name.",
    "topic_id": "A UUID; a topic that is deleted and created again gets another.",
    "topics": "One entry for each topic.",
    "type": "The group's protocol.",
    "uptime_s": "Seconds since the process was started.",
    "value": "The value in force.",
    "actors": "One entry for each process.",
}
"""What a field means wherever its definition does not say so itself."""


class MissingSentence(LookupError):
    """A field has no sentence, neither at its definition nor in FIELD_SENTENCES."""


def protocol_page() -> str:
    """The text of ``docs/protocol.md``."""
    shapes = _Shapes()
    requests = "\n\n".join(_request_section(request, reply, shapes) for request, reply in REPLY_OF.items())
    return _fill(
        "protocol.md",
        protocol_version=str(messages.PROTOCOL_VERSION),
        frame_bytes_max=f"{messages.FRAME_BYTES_MAX >> 20} MiB",
        topic_name_characters_max=str(names.TOPIC_NAME_CHARACTERS_MAX),
        group_name_bytes_max=str(names.GROUP_NAME_BYTES_MAX),
        common_request=_common_request(shapes),
        common_reply=_common_reply(shapes),
        request_index="\n".join(map(_index_row, REPLY_OF)),
        requests=requests,
        shapes=shapes.sections(),
        errors="\n".join(
            f"| {code} | `{error.name}` | {'yes' if error.retriable else 'no'} | {error.sentence()} |"
            for code, error in ERRORS.items()
        ),
    )


def configuration_page() -> str:
    """The text of ``docs/configuration.md``."""
    return _fill(
        "configuration.md",
        broker_settings="\n\n".join(map(_broker_setting, SETTINGS.values())),
        topic_settings="\n\n".join(map(_topic_setting, TOPIC_SETTINGS.values())),
    )


PAGES: dict[str, Callable[[], str]] = {
    "protocol.md": protocol_page,
    "configuration.md": configuration_page,
}


def stale_pages(docs: Path = DOCS) -> list[str]:
    """The names of the pages in ``docs`` that differ from what the code says now."""
    return [name for name, page in PAGES.items() if _read(docs / name) != page()]


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _fill(template: str, **texts: str) -> str:
    """The template with every ``{{name}}`` replaced; one that is missing or left over is an error."""
    text = (TEMPLATES / template).read_text()
    wanted = set(re.findall(r"\{\{(\w+)\}\}", text))
    if wanted != texts.keys():
        raise KeyError(f"{template}: {sorted(wanted ^ texts.keys())} stand only on one side")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: texts[found[1]], text)


# -- requests, replies, shapes ---------------------------------------------------------------------


class _Shapes:
    """The structures inside of messages, in the order in which they are met."""

    def __init__(self) -> None:
        self._found: dict[str, inspect.StructType] = {}

    def link(self, struct: inspect.StructType) -> str:
        name = struct.cls.__name__
        self._found.setdefault(name, struct)
        return f"[{name}](#{name.lower()})"

    def sections(self) -> str:
        """One section each; a shape may mention further ones."""
        written: dict[str, str] = {}
        while pending := [name for name in self._found if name not in written]:
            for name in pending:
                rows = _field_rows(self._found[name].cls, self._found[name].fields, self)
                written[name] = f"### {name}\n\n{_table(rows)}"
        return "\n\n".join(written.values())


def _common_request(shapes: _Shapes) -> str:
    api = "| `api` | string | *required* | The name of the request. |"
    rows = [api, *_field_rows(Request, _fields_of(Request), shapes)]
    return "Every request:\n\n" + _table(rows)


def _common_reply(shapes: _Shapes) -> str:
    return "Every reply:\n\n" + _table(_field_rows(Reply, _fields_of(Reply), shapes))


def _index_row(request: type[Request]) -> str:
    return (
        f"| [`{api_name(request)}`](#api-{api_name(request)}) | {_versions(request)} | {_sentence(request)} |"
    )


def _request_section(request: type[Request], reply: type[Reply], shapes: _Shapes) -> str:
    parts = [f'<a id="api-{api_name(request)}"></a>\n\n### `{api_name(request)}`', _sentence(request)]
    asked = _own_fields(request, Request)
    parts.append("Request:\n\n" + _table(_field_rows(request, asked, shapes)) if asked else "No fields.")
    answered = _own_fields(reply, Reply)
    if answered:
        parts.append("Reply:\n\n" + _table(_field_rows(reply, answered, shapes)))
    else:
        parts.append(f"Reply: {_sentence(reply)}")
    return "\n\n".join(parts)


def _versions(request: type[Request]) -> str:
    lowest, highest = request.versions
    return str(lowest) if lowest == highest else f"{lowest} to {highest}"


def _sentence(documented: type) -> str:
    if not documented.__doc__:
        raise MissingSentence(f"{documented.__name__} has no docstring")
    return documented.__doc__.strip().splitlines()[0]


def _fields_of(struct: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(struct)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{struct.__name__} is not a struct")
    return info.fields


def _own_fields(struct: type[msgspec.Struct], base: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    inherited = {field.name for field in _fields_of(base)}
    return tuple(field for field in _fields_of(struct) if field.name not in inherited)


def _table(rows: Iterable[str]) -> str:
    return "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows])


def _field_rows(owner: type, fields: Iterable[inspect.Field], shapes: _Shapes) -> list[str]:
    rows = []
    for field in fields:
        cells = [f"`{field.encode_name}`", _type(field.type, shapes), _default(field), _meaning(owner, field)]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _meaning(owner: type, field: inspect.Field) -> str:
    description = _description(field.type) or FIELD_SENTENCES.get(field.name)
    if description is None:
        raise MissingSentence(
            f"{owner.__name__}.{field.name} has no sentence; give it a Meta(description=...)"
        )
    return description.replace("|", "\\|")


def _description(kind: inspect.Type) -> str | None:
    if not isinstance(kind, inspect.Metadata):
        return None
    return (kind.extra_json_schema or {}).get("description") or _description(kind.type)


def _default(field: inspect.Field) -> str:
    if field.required:
        return "*required*"
    if field.default is not msgspec.NODEFAULT:
        return f"`{json.dumps(field.default)}`"
    if callable(field.default_factory):
        return f"`{json.dumps(field.default_factory())}`"
    return "*may be absent*"  # msgspec shows UNSET as no default at all


_SCALARS: dict[type[inspect.Type], str] = {
    inspect.StrType: "string",
    inspect.BoolType: "boolean",
    inspect.FloatType: "number",
    inspect.NoneType: "null",
    inspect.AnyType: "any scalar",
}


def _type(kind: inspect.Type, shapes: _Shapes) -> str:
    """A type in the words of JSON, as a table's cell."""
    words = _SCALARS.get(type(kind))
    if isinstance(kind, inspect.Metadata):
        words = _type(kind.type, shapes)
    elif isinstance(kind, inspect.IntType):
        words = _integer(kind)
    elif isinstance(kind, inspect.CustomType) and kind.cls is Blob:
        words = "bytes"
    elif isinstance(kind, inspect.LiteralType):
        words = " or ".join(f"`{json.dumps(value)}`" for value in _literals(kind))
    elif isinstance(kind, inspect.StructType):
        words = shapes.link(kind)
    return words or _composite(kind, shapes)


def _composite(kind: inspect.Type, shapes: _Shapes) -> str:
    if isinstance(kind, inspect.ListType):
        return f"array of {_type(kind.item_type, shapes)}"
    if isinstance(kind, inspect.TupleType):
        return "[" + ", ".join(_type(item, shapes) for item in kind.item_types) + "]"
    if isinstance(kind, inspect.DictType):
        return f"object: {_type(kind.key_type, shapes)} → {_type(kind.value_type, shapes)}"
    if isinstance(kind, inspect.UnionType):
        members = [_type(member, shapes) for member in _set_members(kind)]
        return " or ".join(dict.fromkeys(members))
    raise TypeError(f"no words for {kind}")


def _set_members(kind: inspect.UnionType) -> list[inspect.Type]:
    """The members but UNSET, with null last."""
    members = [member for member in kind.types if not _is_unset(member)]
    return sorted(members, key=lambda member: isinstance(member, inspect.NoneType))


def _is_unset(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.CustomType) and kind.cls is msgspec.UnsetType


def _literals(kind: inspect.LiteralType) -> list[object]:
    """As documented first, the rest in order; msgspec gives them back as a set."""
    return sorted(kind.values, key=lambda value: (isinstance(value, int), str(value)))


def _integer(kind: inspect.IntType) -> str:
    lowest, highest = kind.ge, kind.le
    if lowest is None and highest is None:
        return "integer"
    if highest in (None, INT64_MAX):
        return "integer" if lowest == -INT64_MAX else f"integer ≥ {lowest}"
    if highest == INT32_MAX:
        return f"integer ≥ {lowest} (32 bits)"
    return f"integer, {lowest} to {highest}"


# -- settings --------------------------------------------------------------------------------------


def _broker_setting(setting: Setting) -> str:
    return (
        f"### `{setting.name}`\n\n{setting.doc}\n\n"
        f"Default {_shown(setting.default, setting.unit)}. Allowed: {setting.allowed()}. "
        f"Flag `{setting.flag}`, variable `{setting.variable}`."
    )


def _topic_setting(setting: TopicSetting) -> str:
    default = _shown(setting.default, setting.unit)
    return f"### `{setting.name}`\n\n{setting.doc}\n\nDefault {default}. Allowed: {setting.allowed()}."


def _shown(value: object, unit: str) -> str:
    if isinstance(value, bool):
        return f"`{json.dumps(value)}`"
    if unit == "bytes" and isinstance(value, int):
        return f"`{value}`{_in_larger_units(value)}"
    return f"`{value}`"


def _in_larger_units(size_bytes: int) -> str:
    for name, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size_bytes and size_bytes % (1 << shift) == 0:
            return f" ({size_bytes >> shift} {name})"
    return ""


def main() -> int:
    """Write the pages, or only say which are stale."""
    parser = argparse.ArgumentParser(description="Generate the pages in docs/ from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is stale")
    options = parser.parse_args()
    stale = stale_pages()
    if options.check:
        for name in stale:
            sys.stderr.write(f"docs/{name} is stale: run `make docs` and commit it\n")
        return 1 if stale else 0
    DOCS.mkdir(exist_ok=True)
    for name in stale:
        (DOCS / name).write_text(PAGES[name]())
        sys.stderr.write(f"wrote docs/{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
