"""The verdict: every rule asked, and what was counted on the way.

Three ways, as Kafka's own verification has it: valid; a delivery bug (the record is in the files, and no
consumer got it); data loss (it is not in the files). A broken promise that is about no missing record,
such as two values at one offset, is named a violation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from tests.support.checker import groups, order, places
from tests.support.checker.anomalies import Anomaly, Promises
from tests.support.checker.history import Event
from tests.support.checker.operations import Operations

Outcome = Literal["valid", "violation", "delivery bug", "data loss"]
Rule = Callable[[Operations, Promises], Iterator[Anomaly]]

RULES: Final[tuple[Rule, ...]] = (
    places.inconsistent_offsets,
    places.duplicates,
    places.strangers,
    places.changed_bytes,
    places.aborted_reads,
    places.different_replies,
    places.lost_writes,
    places.unseen,
    places.gaps,
    places.moved_starts,
    order.poll_order,
    order.send_order,
    order.stale_ends,
    order.refused_polls,
    groups.commits_go_back,
    groups.stale_commits,
    groups.undelivered,
)
ANOMALIES_PER_RULE_MAX = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """``counts``: records sent, acknowledged, refused, unknown, read; commits; faults by kind."""

    outcome: Outcome
    anomalies: tuple[Anomaly, ...]
    counts: dict[str, int]

    @property
    def is_valid(self) -> bool:
        return self.outcome == "valid"

    def names(self) -> set[str]:
        """What kinds of anomaly there are."""
        return {anomaly.name for anomaly in self.anomalies}

    def report(self) -> str:
        """For people: the outcome, the counts, the anomalies."""
        lines = [f"verdict: {self.outcome}"]
        lines += [f"  {name}: {count:,}" for name, count in self.counts.items()]
        for anomaly in self.anomalies:
            cause = f" [{anomaly.cause}]" if anomaly.cause else ""
            lines.append(f"  {anomaly.name} {anomaly.key}: {anomaly.story}{cause}")
        return "\n".join(lines)


def judge(events: Iterable[Event], promises: Promises | None = None) -> Verdict:
    """The verdict on a history; of each rule at most ANOMALIES_PER_RULE_MAX anomalies are told."""
    history = Operations(events)
    wanted = promises or Promises()
    anomalies = [
        anomaly for rule in RULES for anomaly in islice(rule(history, wanted), ANOMALIES_PER_RULE_MAX)
    ]
    return Verdict(_outcome(anomalies), tuple(anomalies), counts_of(history))


def _outcome(anomalies: list[Anomaly]) -> Outcome:
    causes = {anomaly.cause for anomaly in anomalies}
    if "loss" in causes or "unknown" in causes:
        return "data loss"
    if "delivery" in causes:
        return "delivery bug"
    return "violation" if anomalies else "valid"


def counts_of(history: Operations) -> dict[str, int]:
    """What the verdict is about."""
    outcomes = Counter(write.outcome for write in history.writes.values())
    commits = Counter(commit.outcome for commit in history.commits)
    lost = {write.value for write in places._missing(history) if write.outcome == "ok"}
    counts = {
        "records sent": len(history.writes),
        "records acknowledged": outcomes["ok"],
        "records refused": outcomes["fail"],
        "records unknown": outcomes["info"],
        "records read": sum(len(offsets) for offsets in history.polled.values()),
        "records delivered": sum(len(look.event.records) for look in history.polls()),
        "records in the files": sum(len(files) for files in history.stored.values()),
        "records lost": len(lost) if history.has_final else 0,
        "commits acknowledged": commits["ok"],
        "commits refused": commits["fail"],
        "commits unknown": commits["info"],
    }
    faults = Counter(event.detail for event in history.events if event.f == "fault")
    counts |= {f"fault: {name}": count for name, count in sorted(faults.items())}
    return counts
