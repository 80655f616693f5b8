"""What a heartbeat, a departure or a change of topics does to a group: entries for the log.

Nothing here changes a group. Each function looks at it and says what to write; entries that belong
together are in such an order that any beginning of them is a sound state too, should a crash leave
only that much: what frees a partition comes before what takes it, and a head whose ``target_epoch``
is its ``epoch`` comes after the targets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import msgspec

from actors.assignment import ASSIGNOR_DEFAULT, ASSIGNORS, PartitionSet, check_assignor
from actors.groups import Group, Member
from actors.ledger import (
    Entry,
    GroupHead,
    GroupKey,
    GroupType,
    MemberKey,
    MemberProfile,
    StandingKey,
    TargetKey,
)
from actors.members import (
    EPOCH_JOIN,
    MemberState,
    Standing,
    Step,
    advance,
    check_epoch,
    next_state,
    pause,
    resume,
)
from actors.patterns import compile_pattern
from actors.topics import Topic, TopicTable
from odradek.protocol.errors import (
    GroupMaxSizeReached,
    InvalidRequest,
    PolicyViolation,
    UnknownMemberId,
    UnreleasedInstanceId,
)
from odradek.protocol.messages import GroupHeartbeat
from odradek.protocol.names import check_topic_name

MEMBERS_PER_GROUP_MAX = 1000
TOPICS_PER_MEMBER_MAX = 1000
PATTERNS_PER_GROUP_MAX = 100
"""Different ones; any number of members may share one."""
NAME_BYTES_MAX = 255
"""Of member ids, instance ids and client ids."""
REBALANCE_TIMEOUT_MS_DEFAULT = 300_000


def check_text(text: str, what: str) -> str:
    """The text itself, or InvalidRequest where it is empty, too long or not UTF-8."""
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"{what} is valid UTF-8; this one has a lone surrogate") from None
    if not 1 <= size_bytes <= NAME_BYTES_MAX:
        raise InvalidRequest(f"{what} has 1 to {NAME_BYTES_MAX} bytes of UTF-8, this one has {size_bytes}")
    return text


def find_member(group: Group, member_id: str) -> Member:
    """The member, or UnknownMemberId that says what to do."""
    member = group.members.get(member_id)
    if member is None or member.profile is None:
        raise UnknownMemberId(
            f"group {group.name!r} has no member {member_id}; give up all partitions and join again "
            "with epoch 0"
        )
    return member


def admit(group: Group, member_id: str, heartbeat: GroupHeartbeat, owned: PartitionSet | None) -> list[Entry]:
    """A heartbeat with epoch 0 or more: the member joins, joins again, or stays.

    Raises UnknownMemberId, FencedMemberEpoch, UnreleasedInstanceId, GroupMaxSizeReached,
    UnsupportedAssignor, InvalidTopic, InvalidRegularExpression, PolicyViolation, InvalidRequest.
    """
    if heartbeat.member_epoch == EPOCH_JOIN:
        return _join(group, member_id, heartbeat, owned)
    member = find_member(group, member_id)
    check_epoch(member_id, member.standing, heartbeat.member_epoch, owned)
    return _update(group, member_id, heartbeat)


def _join(group: Group, member_id: str, heartbeat: GroupHeartbeat, owned: PartitionSet | None) -> list[Entry]:
    if owned:
        raise InvalidRequest("a member that joins (epoch 0) holds nothing yet; send owned: []")
    twin_id = group.with_instance(heartbeat.instance_id) if heartbeat.instance_id is not None else None
    member = group.members.get(member_id)
    if twin_id is not None and twin_id != member_id:
        if member is not None:
            raise InvalidRequest(f"member {member_id} is not the static member {heartbeat.instance_id!r}")
        return _replace_twin(group, twin_id, member_id, heartbeat)
    if member is None or member.profile is None:
        return _enter(group, member_id, heartbeat)
    entries = _update(group, member_id, heartbeat)
    if member.standing.state is MemberState.PAUSED:
        entries.append(Entry(StandingKey(group.name, member_id), resume(member.standing)))
    return entries


def _enter(group: Group, member_id: str, heartbeat: GroupHeartbeat) -> list[Entry]:
    """A member that the group has never seen."""
    if len(group.members) >= MEMBERS_PER_GROUP_MAX:
        raise GroupMaxSizeReached(f"group {group.name!r} has {MEMBERS_PER_GROUP_MAX} members already")
    if heartbeat.topics is None and not heartbeat.topic_pattern:
        raise InvalidRequest("a member that joins says which topics it subscribes to")
    profile = _profile(group, heartbeat, None)
    # The head comes first: it is what makes a new group one, and what unmakes it when this is undone.
    head = msgspec.structs.replace(
        group.head,
        epoch=group.head.epoch + 1,
        type=GroupType.CONSUMER,  # whatever it was while it was not empty
        protocol_type=None,
        leader=None,
    )
    return [Entry(GroupKey(group.name), head), Entry(MemberKey(group.name, member_id), profile)]


def _replace_twin(group: Group, twin_id: str, member_id: str, heartbeat: GroupHeartbeat) -> list[Entry]:
    """A static member comes back under a new id and takes up what waited for it."""
    twin = group.members[twin_id]
    if twin.standing.state is not MemberState.PAUSED:
        raise UnreleasedInstanceId(
            f"instance {heartbeat.instance_id!r} is member {twin_id}, which lives; a second one may take "
            "over once that has left (epoch -2) or its session has ended"
        )
    before = group.profile(twin_id)
    profile = _profile(group, heartbeat, before)
    entries = [
        *_tombstones(group, twin_id),
        Entry(MemberKey(group.name, member_id), profile),
        Entry(TargetKey(group.name, member_id), twin.target),
        Entry(StandingKey(group.name, member_id), resume(twin.standing)),
    ]
    return [*entries, _bumped(group)] if _wants_new_target(before, profile) else entries


def _update(group: Group, member_id: str, heartbeat: GroupHeartbeat) -> list[Entry]:
    before = group.profile(member_id)
    if heartbeat.instance_id not in (None, before.instance_id):
        raise InvalidRequest(
            f"member {member_id} joined as instance {before.instance_id!r}, it cannot become "
            f"{heartbeat.instance_id!r}"
        )
    profile = _profile(group, heartbeat, before)
    if profile == before:
        return []
    entry = Entry(MemberKey(group.name, member_id), profile)
    return [entry, _bumped(group)] if _wants_new_target(before, profile) else [entry]


def _profile(group: Group, heartbeat: GroupHeartbeat, before: MemberProfile | None) -> MemberProfile:
    """What the member says of itself; what it does not say stays as it was."""
    if heartbeat.rebalance_timeout_ms == 0:
        raise InvalidRequest("rebalance_timeout_ms is at least 1: no member can let go in no time")
    known = before or MemberProfile(topics=(), rebalance_timeout_ms=REBALANCE_TIMEOUT_MS_DEFAULT)
    return MemberProfile(
        topics=known.topics if heartbeat.topics is None else _check_topics(heartbeat.topics),
        rebalance_timeout_ms=_first(heartbeat.rebalance_timeout_ms, known.rebalance_timeout_ms),
        assignor=known.assignor if heartbeat.assignor is None else check_assignor(heartbeat.assignor),
        instance_id=_checked(heartbeat.instance_id, "instance_id") or known.instance_id,
        client_id=_checked(heartbeat.client_id, "client_id") or known.client_id,
        topic_pattern=_check_pattern(group, heartbeat.topic_pattern, known.topic_pattern),
        client_host=_checked(heartbeat.client_host, "client_host") or known.client_host,
    )


def _first(said: int | None, known: int) -> int:
    return known if said is None else said


def _checked(text: str | None, what: str) -> str | None:
    return None if text is None else check_text(text, what)


def _check_topics(topics: list[str]) -> tuple[str, ...]:
    if len(topics) > TOPICS_PER_MEMBER_MAX:
        raise InvalidRequest(
            f"a member subscribes to {TOPICS_PER_MEMBER_MAX} topics at most, not to {len(topics)}"
        )
    return tuple(sorted({check_topic_name(topic) for topic in topics}))


def _check_pattern(group: Group, pattern: str | None, known: str | None) -> str | None:
    if pattern is None or pattern == known:
        return known
    if pattern == "":
        return None
    compile_pattern(pattern)
    others = {group.profile(member_id).topic_pattern for member_id in group.members} - {None, pattern}
    if len(others) >= PATTERNS_PER_GROUP_MAX:
        raise PolicyViolation(f"group {group.name!r} has {PATTERNS_PER_GROUP_MAX} different patterns already")
    return pattern


def _wants_new_target(before: MemberProfile, after: MemberProfile) -> bool:
    return (before.topics, before.topic_pattern, before.assignor) != (
        after.topics,
        after.topic_pattern,
        after.assignor,
    )


def _bumped(group: Group) -> Entry:
    head = msgspec.structs.replace(group.head, epoch=group.head.epoch + 1)
    return Entry(GroupKey(group.name), head)


def leave(group: Group, member_id: str, wall_ms: int) -> list[Entry]:
    """A member is gone, of its own will or not; what it held is free. Raises UnknownMemberId."""
    next_state(find_member(group, member_id).standing.state, Step.EXPEL)
    empty_since_ms = wall_ms if len(group.members) == 1 else group.head.empty_since_ms
    head = msgspec.structs.replace(group.head, epoch=group.head.epoch + 1, empty_since_ms=empty_since_ms)
    # The head comes first: a crash between the two must not leave an empty group that seems long abandoned.
    return [Entry(GroupKey(group.name), head), *_tombstones(group, member_id)]


def _tombstones(group: Group, member_id: str) -> list[Entry]:
    return [
        Entry(StandingKey(group.name, member_id), None),
        Entry(TargetKey(group.name, member_id), None),
        Entry(MemberKey(group.name, member_id), None),
    ]


def leave_for_a_while(group: Group, member_id: str) -> list[Entry]:
    """A static member will be back. Raises UnknownMemberId, or InvalidRequest for one that is not static."""
    member = find_member(group, member_id)
    if group.profile(member_id).instance_id is None:
        raise InvalidRequest("only a static member (one with an instance_id) leaves with epoch -2; use -1")
    return _standing_entry(group, member_id, pause(member.standing))


def refresh(group: Group, table: TopicTable) -> list[Entry]:
    """A new target for everybody, where members, subscriptions or topics call for one."""
    head = group.head
    subscriptions = {member_id: _subscription(group.profile(member_id), table) for member_id in group.members}
    topics = _readable_topics(group, subscriptions, table)
    counts = {name: topic.partitions for name, topic in topics.items()}
    ids = {name: topic.topic_id for name, topic in topics.items()}
    if counts != head.partitions or not ids.items() <= head.topic_ids.items():
        # An epoch that has no target yet may as well be the one that knows of the new counts.
        epoch = max(head.epoch, head.target_epoch + 1)
        old_ids = {name: head.topic_ids[name] for name in _held_topics(group) & head.topic_ids.keys()}
        head = msgspec.structs.replace(head, epoch=epoch, partitions=counts, topic_ids=old_ids | ids)
    if head.epoch == head.target_epoch:
        return []
    assignor = _chosen_assignor(group)
    started = msgspec.structs.replace(head, assignor=assignor)
    finished = msgspec.structs.replace(started, target_epoch=head.epoch)
    return [
        Entry(GroupKey(group.name), started),
        *_new_targets(group, subscriptions, finished),
        Entry(GroupKey(group.name), finished),
    ]


def _subscription(profile: MemberProfile, table: TopicTable) -> Collection[str]:
    """The topics that a member names, and those that its pattern matches now."""
    if profile.topic_pattern is None:
        return profile.topics
    return table.matching(profile.topic_pattern).union(profile.topics)


def _readable_topics(
    group: Group, subscriptions: Mapping[str, Collection[str]], table: TopicTable
) -> dict[str, Topic]:
    """The subscribed topics that there are, but for those that are to be let go first.

    Who holds a partition of a topic that was deleted and made again stands somewhere in the old one: it
    would pass over the new one's first records, and commit a position of the old one.
    """
    subscribed = set().union(*subscriptions.values())
    held, ids = _held_topics(group), group.head.topic_ids
    return {
        name: table.topics[name]
        for name in sorted(subscribed & table.topics.keys())
        if name not in held or ids.get(name) in (None, table.topics[name].topic_id)
    }


def _held_topics(group: Group) -> set[str]:
    return {topic for topic, _ in group.owners}


def holds_what_is_gone(group: Group) -> bool:
    """Whether members had, when the target was made, partitions of topics that are not in it any more."""
    return not group.head.topic_ids.keys() <= group.head.partitions.keys()


def _chosen_assignor(group: Group) -> str:
    """The one that most members ask for; the first by name of several, the default where none asks."""
    votes = Counter(
        assignor for member_id in group.members if (assignor := group.profile(member_id).assignor) is not None
    )
    return min(votes, key=lambda name: (-votes[name], name), default=ASSIGNOR_DEFAULT)


def _new_targets(group: Group, subscriptions: Mapping[str, Collection[str]], head: GroupHead) -> list[Entry]:
    targets = ASSIGNORS[head.assignor](
        subscriptions,
        head.partitions,
        {member_id: member.target for member_id, member in group.members.items()},
    )
    return [
        Entry(TargetKey(group.name, member_id), target)
        for member_id, target in targets.items()
        if target != group.members[member_id].target
    ]


def reconcile(group: Group, member_id: str, owned: PartitionSet | None, *, rejoined: bool) -> list[Entry]:
    """One step of one member towards its target."""
    member = group.members[member_id]
    standing = advance(
        member.standing,
        member.target,
        group.head.target_epoch,
        owned=owned,
        rejoined=rejoined,
        is_free=lambda partition: group.owners.get(partition, member_id) == member_id,
    )
    return _standing_entry(group, member_id, standing)


def _standing_entry(group: Group, member_id: str, standing: Standing) -> list[Entry]:
    if standing == group.members[member_id].standing:
        return []
    return [Entry(StandingKey(group.name, member_id), standing)]
