"""Members of classic groups: what they ask, what they are answered, and what is kept of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from actors.messages import ClassicJoin, ClassicJoined, ClassicProtocol
from odradek.protocol.errors import OdradekError

REBALANCE_TIMEOUT_MS_MAX = 86_400_000
"""How long a rebalance waits for a member at most, whatever it asks for: a day."""
Token = int
"""Names a request that waits; the caller's."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a join; ``members`` only for the leader."""

    generation: int
    protocol: str
    leader: str
    member_id: str
    members: tuple[ClassicJoined, ...] = ()
    skip_assignment: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """The answer to a sync."""

    protocol: str
    assignment: bytes


class Answer(NamedTuple):
    """What the request that waits under ``to`` gets."""

    to: Token
    result: Joined | Synced | OdradekError


class MemberImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member as it is kept."""

    protocols: tuple[ClassicProtocol, ...]
    session_timeout_ms: int
    rebalance_timeout_ms: int
    instance_id: str | None = None
    client_id: str | None = None
    client_host: str | None = None
    assignment: bytes = b""

    @property
    def protocol_names(self) -> set[str]:
        """The ways to assign that the member knows."""
        return {known.name for known in self.protocols}

    @property
    def size_bytes(self) -> int:
        """What of it others chose the size of."""
        return len(self.assignment) + sum(len(known.metadata) for known in self.protocols)

    def metadata(self, protocol: str) -> bytes:
        """What the member says of itself for a protocol; nothing where it does not know it."""
        return next((known.metadata for known in self.protocols if known.name == protocol), b"")


def image_of(request: ClassicJoin, before: MemberImage | None = None) -> MemberImage:
    """A member as it joins; one that joins again, or as its old self's successor, keeps its assignment."""
    return MemberImage(
        protocols=tuple(request.protocols),
        session_timeout_ms=request.session_timeout_ms,
        rebalance_timeout_ms=request.rebalance_timeout_ms,
        instance_id=request.instance_id if before is None else before.instance_id,
        client_id=request.client_id,
        client_host=request.client_host,
        assignment=b"" if before is None else before.assignment,
    )


@dataclass(slots=True)
class ClassicMember:
    """One member; ``join`` and ``sync`` are requests of it that wait."""

    id: str
    image: MemberImage
    expires_s: float
    join: Token | None = None
    sync: Token | None = None

    @property
    def is_waiting(self) -> bool:
        """Who waits for an answer is not expected to say anything."""
        return self.join is not None or self.sync is not None

    @property
    def rebalance_timeout_s(self) -> float:
        return self.image.rebalance_timeout_ms / 1000

    def touch(self, now_s: float) -> None:
        """The member was heard: its session begins anew."""
        self.expires_s = now_s + self.image.session_timeout_ms / 1000


class Roster:
    """The members of one group, with what would take a look at all of them to find out."""

    def __init__(self) -> None:
        self.members: dict[str, ClassicMember] = {}
        self.size_bytes = 0
        self._statics: dict[str, str] = {}
        self._knowing: dict[str, int] = {}
        """Protocol -> how many members know it."""

    def put(self, member: ClassicMember) -> ClassicMember:
        """Add a member, or replace the one of that id."""
        self.take(member.id)
        self.members[member.id] = member
        self._count(member.image, 1)
        if member.image.instance_id is not None:
            self._statics[member.image.instance_id] = member.id
        return member

    def take(self, member_id: str) -> ClassicMember | None:
        """Remove a member; None where there is none."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self._count(member.image, -1)
            if self._statics.get(member.image.instance_id or "") == member_id:
                del self._statics[member.image.instance_id or ""]
        return member

    def change(self, member: ClassicMember, image: MemberImage) -> None:
        """A member that stays says something else of itself, or is assigned something else."""
        self._count(member.image, -1)
        member.image = image
        self._count(image, 1)

    def _count(self, image: MemberImage, by: int) -> None:
        self.size_bytes += by * image.size_bytes
        for name in image.protocol_names:
            self._knowing[name] = self._knowing.get(name, 0) + by
            if not self._knowing[name]:
                del self._knowing[name]

    def with_instance(self, instance_id: str) -> ClassicMember | None:
        """The static member of that name."""
        member_id = self._statics.get(instance_id)
        return None if member_id is None else self.members[member_id]

    def common_protocols(self, without: str | None = None) -> set[str] | None:
        """The protocols that all members (but that one) know; None where there are no others."""
        absent = self.members.get(without or "")
        others = len(self.members) - (absent is not None)
        if not others:
            return None
        own = absent.image.protocol_names if absent is not None else set()
        return {name for name, count in self._knowing.items() if count - (name in own) == others}
