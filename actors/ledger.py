"""The entries of the coordinator's log: what they are in memory and as bytes.

An entry is a key and a value, each in JSON so that a dump of the log reads well; a null value deletes::

    ["offset","group","topic",3]   {"offset":17,"committed_at_ms":1700000000000,"topic_id":"..."}
    ["group","group"]              {"epoch":4,"target_epoch":4,"assignor":"sticky","partitions":{"topic":8}}
    ["member","group","id"]        {"topics":["topic"],"rebalance_timeout_ms":300000}
    ["target","group","id"]        {"topic":[0,1,2]}
    ["classic_member","group","id"] {"protocols":[{"name":"range","metadata":"AAE="}],"assignment":"AAE=",...}
    ["standing","group","id"]      {"epoch":4,"previous_epoch":3,"state":"stable","assigned":{"topic":[0,1]}}
    ["producer_ids"]               {"next_block":2000}

The last entry of a key counts, so that applying one twice is as good as once.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from actors.assignment import PartitionSet
from actors.classic_members import MemberImage
from actors.members import MemberState, Standing
from odradek.protocol.errors import CorruptMessage


class Key(msgspec.Struct, frozen=True, array_like=True):
    """What an entry is about."""


class OffsetKey(Key, frozen=True, array_like=True, tag="offset", gc=False):
    group: str
    topic: str
    partition: int


class GroupKey(Key, frozen=True, array_like=True, tag="group"):
    group: str


class MemberKey(Key, frozen=True, array_like=True, tag="member"):
    group: str
    member_id: str


class TargetKey(Key, frozen=True, array_like=True, tag="target"):
    group: str
    member_id: str


class StandingKey(Key, frozen=True, array_like=True, tag="standing"):
    group: str
    member_id: str


class ClassicMemberKey(Key, frozen=True, array_like=True, tag="classic_member"):
    group: str
    member_id: str


class ProducerIdsKey(Key, frozen=True, array_like=True, tag="producer_ids"):
    """There is one."""


NO_LEADER_EPOCH = -1
"""Of an offset that was committed without one."""


class CommittedOffset(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A group's position in a partition. ``topic_id`` tells it from a later topic of the same name.

    ``leader_epoch`` is that of the last record before it: by it clients see that a log was cut behind it.
    """

    offset: int
    committed_at_ms: int
    topic_id: str
    metadata: str | None = None
    leader_epoch: int = NO_LEADER_EPOCH


class GroupType(enum.StrEnum):
    """Which protocol a group speaks; never both at once. The empty one takes the first joiner's."""

    CONSUMER = "consumer"
    """KIP-848: the coordinator assigns."""
    CLASSIC = "classic"
    """JoinGroup and SyncGroup: a member, the leader, assigns."""


class GroupHead(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a group is beside its members.

    ``epoch`` rises with every change that calls for a new target, ``target_epoch`` is that of the
    target there is. ``partitions`` are the counts of the subscribed topics that the epoch knows of,
    ``topic_ids`` which topics these are, and which are gone though members held partitions of them still.
    ``empty_since_ms`` is when the last member left last, in ms since 1970; 0 where none ever did.
    Of a classic group ``epoch`` is the generation, ``target_epoch`` the last one whose members got their
    assignments, and ``assignor`` the protocol that they chose.
    """

    epoch: int
    target_epoch: int
    assignor: str
    partitions: dict[str, int]
    empty_since_ms: int = 0
    type: GroupType = GroupType.CONSUMER
    protocol_type: str | None = None
    leader: str | None = None
    topic_ids: dict[str, str] = {}


class MemberProfile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a member said of itself."""

    topics: tuple[str, ...]
    rebalance_timeout_ms: int
    assignor: str | None = None
    instance_id: str | None = None
    client_id: str | None = None
    topic_pattern: str | None = None
    client_host: str | None = None


class ProducerIdBlock(msgspec.Struct, frozen=True):
    """Every producer id below ``next_block`` may have been given out."""

    next_block: int


Value = CommittedOffset | GroupHead | MemberImage | MemberProfile | ProducerIdBlock | Standing | PartitionSet


class Entry(NamedTuple):
    """One entry; None deletes what the key names."""

    key: Key
    value: Value | None


class _StandingBytes(msgspec.Struct, omit_defaults=True):
    epoch: int
    previous_epoch: int
    state: MemberState
    assigned: dict[str, list[int]] = {}
    revoking: dict[str, list[int]] = {}


OFFSET_KEY_START = b'["offset",'
"""How the key of every committed offset begins, and no other."""

_encoder = msgspec.json.Encoder()
_key_decoder = msgspec.json.Decoder(
    OffsetKey | GroupKey | MemberKey | TargetKey | StandingKey | ClassicMemberKey | ProducerIdsKey
)
_plain_decoders: dict[type[Key], msgspec.json.Decoder[Value]] = {
    OffsetKey: msgspec.json.Decoder(CommittedOffset),
    GroupKey: msgspec.json.Decoder(GroupHead),
    MemberKey: msgspec.json.Decoder(MemberProfile),
    ClassicMemberKey: msgspec.json.Decoder(MemberImage),
    ProducerIdsKey: msgspec.json.Decoder(ProducerIdBlock),
}
_standing_decoder = msgspec.json.Decoder(_StandingBytes)
_target_decoder = msgspec.json.Decoder(dict[str, list[int]])


def by_topic(partitions: PartitionSet) -> dict[str, list[int]]:
    """Topic -> numbers, both in order."""
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(partitions):
        topics.setdefault(topic, []).append(partition)
    return topics


def from_topics(topics: Mapping[str, list[int]]) -> PartitionSet:
    """The set that ``by_topic`` wrote."""
    return frozenset((topic, partition) for topic, numbers in topics.items() for partition in numbers)


def encode_entry(entry: Entry) -> tuple[bytes, bytes | None]:
    """Key and value as they stand in the log."""
    key = _encoder.encode(entry.key)
    value = entry.value
    if value is None:
        return key, None
    if isinstance(value, Standing):
        return key, _encoder.encode(
            _StandingBytes(
                value.epoch,
                value.previous_epoch,
                value.state,
                by_topic(value.assigned),
                by_topic(value.revoking),
            )
        )
    if isinstance(value, frozenset):
        return key, _encoder.encode(by_topic(value))
    return key, _encoder.encode(value)


def decode_entry(key: bytes | None, value: bytes | None) -> Entry:
    """The entry that ``encode_entry`` wrote. Raises CorruptMessage for anything else."""
    try:
        decoded_key = _key_decoder.decode(key or b"")
        if value is None:
            return Entry(decoded_key, None)
        plain = _plain_decoders.get(type(decoded_key))
        return Entry(decoded_key, _decode_set(decoded_key, value) if plain is None else plain.decode(value))
    except (msgspec.DecodeError, ValueError) as error:
        raise CorruptMessage(f"the entry with key {key!r} cannot be read: {error}") from error


def _decode_set(key: Key, value: bytes) -> Value:
    """A target or a standing, whose partitions are written by topic."""
    if isinstance(key, TargetKey):
        return from_topics(_target_decoder.decode(value))
    raw = _standing_decoder.decode(value)
    return Standing(
        raw.epoch, raw.previous_epoch, raw.state, from_topics(raw.assigned), from_topics(raw.revoking)
    )
