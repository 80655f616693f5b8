"""Groups: committed offsets never go back, belong to who may commit, and cover what was delivered."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from tests.support.checker.anomalies import Anomaly, Promises
from tests.support.checker.history import NO_OFFSET
from tests.support.checker.operations import Commit, Operations

Place = tuple[str, str]
"""(group, key)"""


def commits_go_back(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """C1: what is fetched is the last acknowledged commit, or one that may have come after it."""
    looks: dict[Place, list[tuple[int, int, int, str]]] = {}
    for look in history.looks:
        if look.event.f == "fetch_commit":
            for key, offset in look.event.positions.items():
                told = (look.begun_ns, look.event.t_ns, offset, look.event.proc)
                looks.setdefault((look.event.group, key), []).append(told)
    commits = _by_place(history, ("ok", "info"))
    for (group, key), asked in looks.items():
        standing = _Standing(commits.get((group, key), []))
        for begun_ns, ended_ns, offset, proc in sorted(asked):
            possible = standing.possible(begun_ns, ended_ns)
            if offset not in possible:
                story = (
                    f"{proc} was told {offset} as the offset of {group}; "
                    f"it can only be one of {sorted(possible)[:5]}"
                )
                yield Anomaly("C1-commit-lost", key, story)


class _Standing:
    """Which commits may be the last one, asked for moments that go forward."""

    def __init__(self, commits: list[Commit]) -> None:
        self._coming = sorted(commits, key=lambda commit: commit.begun_ns, reverse=True)
        self._live: list[Commit] = []
        self._latest_begun_ns = -1
        """When the last commit began that was acknowledged before the moment."""

    def possible(self, begun_ns: int, ended_ns: int) -> set[int]:
        """The offsets that a look may show: of commits that nothing later, done before it, replaced."""
        while self._coming and self._coming[-1].begun_ns <= ended_ns:
            self._live.append(self._coming.pop())
        for commit in self._live:
            if commit.outcome == "ok" and commit.ended_ns < begun_ns:
                self._latest_begun_ns = max(self._latest_begun_ns, commit.begun_ns)
        self._live = [commit for commit in self._live if commit.ended_ns >= self._latest_begun_ns]
        found = {commit.offset for commit in self._live if commit.begun_ns <= ended_ns}
        return found if self._latest_begun_ns >= 0 else found | {NO_OFFSET}


def stale_commits(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """C2: once a member of a later generation has committed a partition, an earlier one cannot."""
    for (group, key), commits in _by_place(history, ("ok",)).items():
        ended: list[tuple[int, int, str]] = []
        newest: tuple[int, str] = (-1, "")
        for commit in sorted(commits, key=lambda commit: commit.begun_ns):
            while ended and ended[0][0] < commit.begun_ns:
                _ended_ns, generation, proc = heapq.heappop(ended)
                newest = max(newest, (generation, proc))
            if commit.generation < newest[0] and commit.proc != newest[1]:
                story = (
                    f"{group}: {commit.proc} committed with generation {commit.generation} after "
                    f"{newest[1]} with {newest[0]}"
                )
                yield Anomaly("C2-stale-commit", key, story)
            heapq.heappush(ended, (commit.ended_ns, commit.generation, commit.proc))


def undelivered(history: Operations, _: Promises) -> Iterator[Anomaly]:
    """C3: everything below a committed offset was delivered to some member of the group."""
    delivered: dict[Place, set[int]] = {}
    for look in history.polls():
        for record in look.event.records if look.event.group else ():
            delivered.setdefault((look.event.group, record.key), set()).add(record.offset)
    for (group, key), commits in _by_place(history, ("ok",)).items():
        highest = max(commit.offset for commit in commits)
        found = delivered.get((group, key), set())
        missing = [offset for offset in history.known_between(key, 0, highest) if offset not in found]
        if missing:
            story = f"{group} committed {highest}; {len(missing)} were never delivered, first {missing[0]}"
            yield Anomaly("C3-undelivered", key, story)


def _by_place(history: Operations, outcomes: tuple[str, ...]) -> dict[Place, list[Commit]]:
    found: dict[Place, list[Commit]] = {}
    for commit in history.commits:
        if commit.outcome in outcomes:
            found.setdefault((commit.group, commit.key), []).append(commit)
    return found
