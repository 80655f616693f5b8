"""``python -m bench.peers``: run the cases on the peers in turns, print the tables, keep the numbers."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import machine
from bench.peers import page
from bench.peers.findings import Figure, Findings
from bench.peers.kafka import Kafka
from bench.peers.life import LIFE, LifeMeasure
from bench.peers.nats import Nats
from bench.peers.odradek import Odradek, OdradekGateway
from bench.peers.peer import Peer, PeerUnavailable
from bench.peers.redis import Redis
from bench.peers.workloads import CASES, Case
from bench.worker import PROJECT
from loadtest.run import measure

ROUNDS = 3
PEERS: dict[str, Callable[[], Peer]] = {
    "odradek": Odradek,
    "gateway": OdradekGateway,
    "kafka": Kafka,
    "kafka-sync": lambda: Kafka(every_message=True),
    "redis-always": lambda: Redis("always"),
    "redis-everysec": lambda: Redis("everysec"),
    "nats": lambda: Nats("2m"),
    "nats-always": lambda: Nats("always"),
}
REFERENCE = "kafka"
DIRECTORY_DEFAULT = Path("/var/tmp")
RESULTS = PROJECT / "bench" / "results"


def main() -> int:
    """Run what the command line asks for."""
    options = _parser().parse_args()
    peers = _prepared(options.peers or list(PEERS))
    cases = [case for case in CASES if not options.cases or any(text in case.name for text in options.cases)]
    findings = Findings(machine=machine.describe(options.directory), reference=REFERENCE)
    findings.facts = {name: peer.facts for name, peer in peers.items()}
    directory = Path(tempfile.mkdtemp(prefix="odradek-peers-", dir=options.directory))
    begun = time.monotonic()
    try:
        for number in range(options.rounds):
            for case in cases:
                for name, peer in _in_turn(peers, number):
                    _say(f"round {number + 1}: {case.name}: {name}")
                    _one(findings, case, name, peer, directory)
            for life in LIFE if options.life else ():
                for name, peer in _in_turn(peers, number):
                    _say(f"round {number + 1}: {life.name}: {name}")
                    _live(findings, life, name, peer, directory)
            findings.seconds = time.monotonic() - begun
            _keep(findings, options.json)
    finally:
        shutil.rmtree(directory)
    print(page.tables(findings))
    if options.page is not None:
        options.page.write_text(page.document(findings))
    return 1 if findings.troubles else 0


def _prepared(names: Iterable[str]) -> dict[str, Peer]:
    peers: dict[str, Peer] = {}
    for name in names:
        peer = PEERS[name]()
        try:
            peer.prepare()
        except PeerUnavailable as missing:
            _say(f"{name} is left out: {missing}")
            continue
        peers[name] = peer
    return peers


def _in_turn(peers: dict[str, Peer], number: int) -> list[tuple[str, Peer]]:
    """Another one begins in each round, so that no peer always has the warm or the tired machine."""
    items = list(peers.items())
    first = number % len(items)
    return items[first:] + items[:first]


def _one(findings: Findings, case: Case, name: str, peer: Peer, directory: Path) -> None:
    data = directory / f"{name}-{time.monotonic_ns()}"
    try:
        with peer.running(data) as running:
            result = measure(running.target(), case.workload, None, lambda *_: None)
    except Exception as error:
        # One peer that fails must not hide the others; the exit code and the page tell.
        findings.troubles.append(f"{case.name}: {name}: {error}")
        return
    finally:
        shutil.rmtree(data, ignore_errors=True)
    if not result.sound:
        findings.troubles.append(
            f"{case.name}: {name}: lost {result.lost}, out of order {result.out_of_order}, "
            f"failed {result.produce.failed}"
        )
    for measured in case.measured:
        figure = Figure(case=case.name, name=measured.name, unit=measured.unit, more=measured.more_is_better)
        findings.add(figure, name, measured.of(result))


def _live(findings: Findings, life: LifeMeasure, name: str, peer: Peer, directory: Path) -> None:
    data = directory / f"{name}-{time.monotonic_ns()}"
    try:
        for figure, value in life.measure(peer, data):
            findings.add(figure, name, value)
    except Exception as error:
        findings.troubles.append(f"{life.name}: {name}: {error}")
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _keep(findings: Findings, file: Path | None) -> None:
    if file is None:
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"peers-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(findings.plain(), indent=1))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Compare with other brokers.")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), help="all by default")
    parser.add_argument("--cases", nargs="*", help="only cases whose name has one of these texts")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument("--life", action="store_true", help="start-up, memory and restart, too")
    parser.add_argument("--directory", type=Path, default=DIRECTORY_DEFAULT, help="where the logs go")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    parser.add_argument("--page", type=Path, help="write docs/benchmarks.md's tables there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
