"""Who shall read which partition: pure functions from subscriptions to a target.

Every assignor takes the same three things and gives every partition of a subscribed topic to exactly
one member that subscribed to it; a member that gets nothing has an empty set. The result depends on
the arguments alone, never on their order, so that a coordinator that starts again decides the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heapreplace

from odradek.protocol.errors import UnsupportedAssignor

TopicPartition = tuple[str, int]
PartitionSet = frozenset[TopicPartition]

Subscriptions = Mapping[str, Iterable[str]]
"""Member id -> names of topics."""
PartitionCounts = Mapping[str, int]
"""Topic -> how many partitions it has. A topic that is missing does not exist (yet)."""
Targets = dict[str, PartitionSet]
"""Member id -> the partitions that it shall hold."""
Assignor = Callable[[Subscriptions, PartitionCounts, Mapping[str, PartitionSet]], Targets]

NO_PARTITIONS: PartitionSet = frozenset()
ASSIGNOR_DEFAULT = "sticky"


def assign_range(
    subscriptions: Subscriptions, counts: PartitionCounts, previous: Mapping[str, PartitionSet]
) -> Targets:
    """Topic by topic, neighbours together: with equal partition counts, equal numbers of all topics
    meet at one member, which is what joins need. ``previous`` is not looked at."""
    del previous
    held: dict[str, list[TopicPartition]] = {member: [] for member in subscriptions}
    for topic, members in sorted(_subscribers(subscriptions, counts).items()):
        share, extra = divmod(counts[topic], len(members))
        start = 0
        for index, member in enumerate(members):
            end = start + share + (index < extra)
            held[member].extend((topic, partition) for partition in range(start, end))
            start = end
    return _frozen(held)


def assign_round_robin(
    subscriptions: Subscriptions, counts: PartitionCounts, previous: Mapping[str, PartitionSet]
) -> Targets:
    """All partitions of all topics dealt out like cards. ``previous`` is not looked at."""
    del previous
    held: dict[str, list[TopicPartition]] = {member: [] for member in subscriptions}
    topics = {member: frozenset(names) for member, names in subscriptions.items()}
    seats = sorted(subscriptions)
    seat = 0
    for topic, _members in sorted(_subscribers(subscriptions, counts).items()):
        for partition in range(counts[topic]):
            while topic not in topics[seats[seat % len(seats)]]:
                seat += 1
            held[seats[seat % len(seats)]].append((topic, partition))
            seat += 1
    return _frozen(held)


def assign_sticky(
    subscriptions: Subscriptions, counts: PartitionCounts, previous: Mapping[str, PartitionSet]
) -> Targets:
    """As even as the subscriptions allow, and no partition moves that could have stayed.

    Equal subscriptions: the counts of any two members differ by one at most, and the number of
    partitions that change hands is the smallest with which that can be had.
    """
    return _StickyAssignment(subscriptions, counts, previous).run()


class _StickyAssignment:
    """What stays stays; what is free goes to those with least; then chains of moves even it out.

    A chain gives a partition of a heavy member to a second, one of the second's to a third, and so
    on to a member with at least two less than the first: without such a chain the distribution is as
    even as it can be (Harvey, Ladner, Lovász, Tamir: semi-matchings for bipartite graphs).
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        counts: PartitionCounts,
        previous: Mapping[str, PartitionSet],
    ) -> None:
        self._counts = counts
        self._members = sorted(subscriptions)
        self._subscribers = _subscribers(subscriptions, counts)
        self._topics = {member: frozenset(names) for member, names in subscriptions.items()}
        self._previous = previous
        # Stacks: what a member keeps lies below what it was given, so that it gives up the latter first.
        self._held: dict[str, dict[str, list[int]]] = {member: {} for member in self._members}
        self._sizes = dict.fromkeys(self._members, 0)

    def run(self) -> Targets:
        free = self._keep()
        if self._are_equals():
            free |= self._take_surplus()
        queues: dict[tuple[str, ...], list[tuple[int, str]]] = {}
        for topic, partition in self._hardest_first(free):
            self._give(self._lightest(queues, tuple(self._subscribers[topic])), topic, partition)
        self._even_out()
        return {
            member: frozenset((topic, partition) for topic, numbers in held.items() for partition in numbers)
            for member, held in self._held.items()
        }

    def _keep(self) -> set[TopicPartition]:
        """Leave with each member what it has and may have; the partitions that nobody has."""
        free = {(topic, partition) for topic in self._subscribers for partition in range(self._counts[topic])}
        for member in self._members:
            for topic, partition in sorted(self._previous.get(member, NO_PARTITIONS)):
                if topic in self._topics[member] and (topic, partition) in free:
                    free.remove((topic, partition))
                    self._give(member, topic, partition)
        return free

    def _are_equals(self) -> bool:
        """Whether every member that subscribes to anything subscribes to the same topics."""
        return all(len(members) == len(self._members) for members in self._subscribers.values())

    def _take_surplus(self) -> set[TopicPartition]:
        """Among equals no chain is needed: who has more than its share gives up the rest at once.

        As many as the division leaves over may have one more: those that have most.
        """
        total = sum(self._counts[topic] for topic in self._subscribers)
        share, left_over = divmod(total, max(len(self._members), 1))
        surplus: set[TopicPartition] = set()
        by_size = sorted(self._members, key=lambda member: (-self._sizes[member], member))
        for place, member in enumerate(by_size):
            while self._sizes[member] > share + (place < left_over):
                topic = max(self._held[member], key=lambda name: len(self._held[member][name]))
                surplus.add((topic, self._held[member][topic].pop()))
                self._sizes[member] -= 1
        return surplus

    def _lightest(
        self, queues: dict[tuple[str, ...], list[tuple[int, str]]], members: tuple[str, ...]
    ) -> str:
        """The one of these members that holds least. Queues are in order but for sizes that grew since."""
        queue = queues.get(members)
        if queue is None:
            queue = queues[members] = [(self._sizes[member], member) for member in members]
            heapify(queue)
        while queue[0][0] != self._sizes[queue[0][1]]:
            heapreplace(queue, (self._sizes[queue[0][1]], queue[0][1]))
        return queue[0][1]

    def _hardest_first(self, free: set[TopicPartition]) -> list[TopicPartition]:
        """Those that fewest members can take come first."""
        return sorted(free, key=lambda slot: (len(self._subscribers[slot[0]]), slot))

    def _even_out(self) -> None:
        """Each round follows one chain; each chain lowers the sum of squares, so the rounds end."""
        settled: set[str] = set()
        while True:
            heavy = max(
                (member for member in self._members if member not in settled),
                key=lambda member: (self._sizes[member], member),
                default=None,
            )
            if heavy is None or self._sizes[heavy] - min(self._sizes.values()) < 2:
                return
            chain = self._find_chain(heavy)
            if chain is None:
                settled.add(heavy)
                continue
            for giver, taker, topic in chain:
                self._move(giver, taker, topic)
            settled.clear()

    def _find_chain(self, heavy: str) -> list[tuple[str, str, str]] | None:
        """The shortest chain of (giver, taker, topic) to the lightest member in reach."""
        came_from: dict[str, tuple[str, str]] = {}
        seen = {heavy}
        seen_topics: set[str] = set()
        queue = deque([heavy])
        best: str | None = None
        while queue:
            giver = queue.popleft()
            for topic in sorted(self._held[giver]):
                if topic in seen_topics or not self._held[giver][topic]:
                    continue
                seen_topics.add(topic)
                for taker in self._subscribers[topic]:
                    if taker in seen:
                        continue
                    seen.add(taker)
                    came_from[taker] = (giver, topic)
                    queue.append(taker)
                    if self._is_lighter(taker, best):
                        best = taker
        if best is None or self._sizes[heavy] - self._sizes[best] < 2:
            return None
        return list(_walk_back(best, came_from))

    def _is_lighter(self, member: str, than: str | None) -> bool:
        return than is None or self._sizes[member] < self._sizes[than]

    def _move(self, giver: str, taker: str, topic: str) -> None:
        number = self._held[giver][topic].pop()
        self._sizes[giver] -= 1
        self._give(taker, topic, number)

    def _give(self, member: str, topic: str, partition: int) -> None:
        self._held[member].setdefault(topic, []).append(partition)
        self._sizes[member] += 1


def _walk_back(last: str, came_from: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    taker = last
    while taker in came_from:
        giver, topic = came_from[taker]
        yield giver, taker, topic
        taker = giver


def _subscribers(subscriptions: Subscriptions, counts: PartitionCounts) -> dict[str, list[str]]:
    """Existing topic -> the members that subscribed to it, in order of their ids."""
    members: dict[str, list[str]] = {}
    for member in sorted(subscriptions):
        for topic in frozenset(subscriptions[member]):
            if counts.get(topic, 0) > 0:
                members.setdefault(topic, []).append(member)
    return members


def _frozen(held: Mapping[str, Iterable[TopicPartition]]) -> Targets:
    return {member: frozenset(partitions) for member, partitions in held.items()}


ASSIGNORS: dict[str, Assignor] = {
    "range": assign_range,
    "roundrobin": assign_round_robin,
    "round-robin": assign_round_robin,
    "sticky": assign_sticky,
}
"""By the name that a heartbeat may give."""
_SPELLINGS = {"round-robin": "roundrobin"}
"""Second spellings of Kafka's names: they are one assignor, also where members vote."""


def check_assignor(name: str) -> str:
    """Its one name where there is such an assignor, else UnsupportedAssignor that says which are."""
    if name not in ASSIGNORS:
        raise UnsupportedAssignor(f"assignor {name[:64]!r} is unknown; known: {', '.join(sorted(ASSIGNORS))}")
    return _SPELLINGS.get(name, name)
