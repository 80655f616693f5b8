"""The same records through the SDK and a real broker, in turns with the bare path.

Each round runs every role once, between two runs of the bare path; what counts is the median over the
rounds of the ratios to the mean of those two, so that a slow minute of the machine slows both sides. The
consumer's group is left out: it is compared with a fetch that has none either.
Both sides want every core, and the SDK has more threads to feed: on a machine that others use the
ratios come out too low.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from bench import bare
from bench.broker import Broker
from bench.targets import Outcome, Target, ratios
from bench.wire import Wire
from bench.worker import BackgroundWorker, run_worker

ROUNDS = 5
RECORDS_PER_RUN = 2_000_000
RATIOS_MIN = {"send": 0.55, "send-many": 0.80, "consume": 0.60}


@dataclass(frozen=True, slots=True)
class Pair:
    """Records per second of the SDK and of the bare path, the mean of right before and right after."""

    ours: float
    bare: float


def measure(directory: Path, rounds: int = ROUNDS, records: int = RECORDS_PER_RUN) -> Outcome:
    """Run the rounds; ``directory`` holds the logs of both sides."""
    with Broker(directory / "sdk-data") as broker:
        found = [_round(directory, broker.router, number, records) for number in range(rounds)]
    return _outcome(found)


def measure_bare(directory: Path, rounds: int = ROUNDS, records: int = RECORDS_PER_RUN) -> Outcome:
    """The reference alone, for a machine's own numbers; it has no target."""
    rates = [_bare(directory, number, records) for number in range(rounds)]
    produced, consumed = (sorted(side)[len(side) // 2] for side in zip(*rates, strict=True))
    notes = [f"bare produce {produced / 1e6:.2f} M records/s, bare consume {consumed / 1e6:.2f} M records/s"]
    return Outcome(numbers={"produce_and_consume": rates}, notes=notes)


def _bare(directory: Path, number: int, records: int) -> tuple[float, float]:
    endpoint = f"ipc://{directory / f'bare-{number}'}"
    path = directory / "bare.log"
    with BackgroundWorker("bench.bare", "serve", "--endpoint", endpoint, "--path", str(path)):
        arguments = ("--endpoint", endpoint, "--records", str(records))
        produced = _rate("bench.bare", "produce", *arguments)
        consumed = _rate("bench.bare", "consume", *arguments)
        bare.stop(endpoint)
    path.unlink()
    return produced, consumed


def _round(directory: Path, router: str, number: int, records: int) -> dict[str, Pair]:
    single, many = f"single-{number}", f"many-{number}"
    roles = [("send", single), ("send-many", many)]
    if number % 2:  # who comes first has the cleaner disk
        roles.reverse()
    found: dict[str, Pair] = {}
    with Wire(router) as wire:
        for _, topic in roles:
            wire.create_topic(topic, 1)
        before = _bare(directory, number, records)
        for role, topic in [*roles, ("consume", single)]:
            ours = _role(role, router, topic, records)
            after = _bare(directory, number, records)
            place = 1 if role == "consume" else 0
            found[role] = Pair(ours, (before[place] + after[place]) / 2)
            before = after
        wire.delete_topic(single)
        wire.delete_topic(many)
    return found


def _role(role: str, router: str, topic: str, records: int) -> float:
    return _rate("bench.sdk_roles", role, "--topic", topic, "--bootstrap", router, "--records", str(records))


def _rate(module: str, *arguments: str) -> float:
    result = run_worker(module, *arguments)
    return float(result["records"] / result["seconds"])


def _outcome(rounds: list[dict[str, Pair]]) -> Outcome:
    targets = []
    numbers: dict[str, object] = {}
    for role, ratio_min in RATIOS_MIN.items():
        ours = [each[role].ours for each in rounds]
        reference = [each[role].bare for each in rounds]
        detail = f"{_median(ours) / 1e6:.2f} to {_median(reference) / 1e6:.2f} M records/s"
        found = ratios(ours, reference)
        ratio = statistics.median(found)
        targets.append(Target("sdk", f"{role} to bare path", ratio, ratio_min, "x", True, detail, found))
        numbers[role] = {"records_per_s": ours, "bare_records_per_s": reference}
    return Outcome(targets, numbers)


def _median(rates: list[float]) -> float:
    return sorted(rates)[len(rates) // 2]
