"""One group: its head, its members, who holds which partition. State and questions, no decisions.

The decisions are in ``membership``; they come back here as entries of the log.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from actors.assignment import ASSIGNOR_DEFAULT, NO_PARTITIONS, PartitionSet, TopicPartition
from actors.classic_members import MemberImage
from actors.group_states import GroupPicture, GroupState
from actors.ledger import GroupHead, MemberProfile
from actors.members import NEW_STANDING, MemberState, Standing
from odradek.protocol.errors import UnknownServerError

NEW_HEAD = GroupHead(epoch=0, target_epoch=0, assignor=ASSIGNOR_DEFAULT, partitions={})


class TwoOwners(UnknownServerError):
    """An entry would have given a partition to a second member: a fault of the broker."""


@dataclass(frozen=True, slots=True)
class Member:
    """What the log says of one member. A member without a profile is not one (yet, or any more)."""

    profile: MemberProfile | None = None
    target: PartitionSet = NO_PARTITIONS
    standing: Standing = NEW_STANDING


_NOBODY = Member()


@dataclass(slots=True)
class Group:
    """One group as the log has it."""

    name: str
    head: GroupHead = NEW_HEAD
    members: dict[str, Member] = field(default_factory=dict)
    owners: dict[TopicPartition, str] = field(default_factory=dict)
    """Partition -> the one member that holds it."""
    classic_members: dict[str, MemberImage] = field(default_factory=dict)
    """Of a classic group: its members as they were when their last generation had its assignments."""
    settled: int = 0
    """How many members are settled: counted on the way, so that a heartbeat need not look at all."""

    def profile(self, member_id: str) -> MemberProfile:
        """The profile of a member that is known to be one."""
        profile = self.members[member_id].profile
        if profile is None:
            raise UnknownServerError(f"member {member_id} of group {self.name!r} has no profile in the log")
        return profile

    def picture(self) -> GroupPicture:
        """What the state of the group as a whole follows from, and the state itself."""
        return GroupPicture(self.head.epoch, self.head.target_epoch, len(self.members), self.settled)

    @property
    def state(self) -> GroupState:
        """Where the group as a whole stands."""
        return self.picture().state

    def is_settled(self, member_id: str) -> bool:
        """Whether the member has all that it shall have, and knows the group's epoch."""
        return self._counts(self.members[member_id])

    def _counts(self, member: Member) -> bool:
        standing = member.standing
        return standing.state is MemberState.STABLE and standing.epoch == self.head.epoch

    def with_instance(self, instance_id: str) -> str | None:
        """The id of the static member of that name."""
        for member_id, member in self.members.items():
            if member.profile is not None and member.profile.instance_id == instance_id:
                return member_id
        return None

    def replay_head(self, head: GroupHead | None) -> GroupHead:
        """Apply one entry; what stood there before. So do the others that follow."""
        before = self.head
        self.head = head if head is not None else NEW_HEAD
        if self.head.epoch != before.epoch:
            self.settled = sum(map(self._counts, self.members.values()))
        return before

    def replay_profile(self, member_id: str, profile: MemberProfile | None) -> MemberProfile | None:
        before = self.members.get(member_id, _NOBODY)
        self._put(member_id, replace(before, profile=profile))
        return before.profile

    def replay_target(self, member_id: str, target: PartitionSet | None) -> PartitionSet | None:
        before = self.members.get(member_id, _NOBODY)
        self._put(member_id, replace(before, target=target or NO_PARTITIONS))
        return before.target or None

    def replay_standing(self, member_id: str, standing: Standing | None) -> Standing | None:
        """Raises TwoOwners where another member holds one of the partitions."""
        before = self.members.get(member_id, _NOBODY)
        after = standing or NEW_STANDING
        self._check_free(member_id, after.held)
        for partition in before.standing.held - after.held:
            del self.owners[partition]
        for partition in after.held:
            self.owners[partition] = member_id
        self._put(member_id, replace(before, standing=after))
        return before.standing if before.standing != NEW_STANDING else None

    def replay_classic_member(self, member_id: str, image: MemberImage | None) -> MemberImage | None:
        before = self.classic_members.pop(member_id, None)
        if image is not None:
            self.classic_members[member_id] = image
        return before

    def _check_free(self, member_id: str, partitions: PartitionSet) -> None:
        for partition in partitions:
            owner = self.owners.get(partition, member_id)
            if owner != member_id:
                raise TwoOwners(
                    f"group {self.name!r}: {partition[0]}-{partition[1]} is held by {owner}, "
                    f"{member_id} cannot have it too"
                )

    def _put(self, member_id: str, member: Member) -> None:
        self.settled += self._counts(member) - self._counts(self.members.get(member_id, _NOBODY))
        if member == _NOBODY:
            self.members.pop(member_id, None)
        else:
            self.members[member_id] = member
