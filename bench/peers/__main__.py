"""``python -m bench.peers``: run the cases on the peers in turns, keep the numbers, write the page.

A round starts each peer once and measures every case on it; the next round goes through the peers the other
way round, so that nobody always has the fresh or the tired machine and neighbours stay neighbours.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

from bench import machine
from bench.bytecode import compile_as_pip_does
from bench.peers import page
from bench.peers.findings import Findings, merged, read
from bench.peers.kafka import Kafka
from bench.peers.life import LIFE, LifeMeasure
from bench.peers.nats import Nats
from bench.peers.odradek import Odradek, OdradekGateway
from bench.peers.peer import Peer, PeerUnavailable
from bench.peers.rabbit import Rabbit
from bench.peers.redis import Redis
from bench.peers.session import Recorder, Session, estimate_s
from bench.peers.workloads import CASES, Case
from bench.worker import PROJECT

Named = TypeVar("Named", Case, LifeMeasure)
ROUNDS = 3
MINUTES_MAX = 42.0
PEERS: dict[str, Callable[[], Peer]] = {
    "odradek": Odradek,
    "kafka": Kafka,
    "gateway": OdradekGateway,
    "kafka-flush": lambda: Kafka(every_message=True),
    "redis-always": lambda: Redis("always"),
    "redis-everysec": lambda: Redis("everysec"),
    "nats": lambda: Nats("2m"),
    "nats-always": lambda: Nats("always"),
    "rabbit": Rabbit,
}
DIRECTORY_DEFAULT = Path("/var/tmp")
RESULTS = PROJECT / "bench" / "results"
TERMINATED = 143
OPEN_FILES = 1 << 16
"""A thousand partitions have some thousand files; Kafka's and RabbitMQ's manuals ask for such a limit."""


@dataclass(slots=True)
class Comparison:
    """One run: who, what, how often, where, and until when."""

    peers: dict[str, Peer]
    cases: Sequence[Case]
    rounds: int
    life: Sequence[LifeMeasure]
    directory: Path
    findings: Findings
    file: Path
    out_of_time: float

    def run(self) -> None:
        """All rounds; what needs a start of its own comes once, after the first."""
        begun = time.monotonic()
        for number in range(1, self.rounds + 1):
            for name, peer in self._in_turn(number):
                _say(f"round {number}: {name}")
                cases = [case for case in self.cases if peer.main or not case.main]
                recorder = self._recorder(name, number)
                Session(peer, self.directory, recorder, life=self._lives_of(peer)).run(cases)
                self._keep(begun)
            if number == 1:
                self._lives(begun)

    def _lives_of(self, peer: Peer) -> bool:
        """Whether its start and memory count; those of one program start alike."""
        return bool(self.life) and peer.main

    def _in_turn(self, number: int) -> list[tuple[str, Peer]]:
        items = list(self.peers.items())
        return items if number % 2 else items[::-1]

    def _lives(self, begun: float) -> None:
        for life in self.life:
            for name, peer in self.peers.items():
                if peer.main:
                    self._one_life(life, name, peer)
                    self._keep(begun)

    def _one_life(self, life: LifeMeasure, name: str, peer: Peer) -> None:
        data = self.directory / f"life-{time.monotonic_ns()}"
        recorder = self._recorder(name, 1)
        with recorder.trying(life.name):
            recorder.check_time()
            try:
                for figure, value in life.measure(peer, data):
                    recorder.add(figure, value)
            finally:
                shutil.rmtree(data, ignore_errors=True)

    def _recorder(self, name: str, number: int) -> Recorder:
        return Recorder(self.findings, name, number, _say, self.out_of_time)

    def _keep(self, begun: float) -> None:
        self.findings.seconds = time.monotonic() - begun
        self.findings.write(self.file)

    @property
    def estimate_s(self) -> float:
        """How long it takes on a quiet machine."""
        seconds = 0.0
        for peer in self.peers.values():
            cases = [case for case in self.cases if peer.main or not case.main]
            seconds += self.rounds * estimate_s(peer, cases, life=self._lives_of(peer))
            if peer.main:
                seconds += sum(life.estimate_s + 2 * peer.start_and_stop_s for life in self.life)
        return seconds


def main() -> int:
    """Run what the command line asks for."""
    options = _parser().parse_args()
    if options.merge:
        _write_page(merged([read(file) for file in options.merge]), options.page or page.PAGE)
        return 0
    _allow_many_files()
    compile_as_pip_does()
    signal.signal(signal.SIGTERM, _terminate)
    begun = {"measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
    findings = Findings(machine=begun | machine.describe(options.directory))
    findings.commands = [" ".join(["python -m bench.peers", *sys.argv[1:]])]
    peers = _prepared(options.peers or list(PEERS), findings)
    if not peers:
        _say("there is no peer to measure")
        return 2
    directory = Path(tempfile.mkdtemp(prefix="odradek-peers-", dir=options.directory))
    cases = _chosen(CASES, options.cases)
    if options.seconds is not None:
        cases = [case.shortened(options.seconds) for case in cases]
    file = options.json or RESULTS / f"peers-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    comparison = Comparison(
        peers=peers,
        cases=cases,
        rounds=options.rounds,
        life=_chosen(LIFE, options.cases) if options.life else (),
        directory=directory,
        findings=findings,
        file=file,
        out_of_time=time.monotonic() + options.minutes * 60,
    )
    _say(
        f"about {comparison.estimate_s / 60:.0f} minutes on a quiet machine, nothing begins after "
        f"{options.minutes:g}; numbers go to {file}"
    )
    try:
        comparison.run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(page.tables(findings))
    if options.page is not None:
        _write_page(findings, options.page)
    return 1 if findings.failures else 0


def _chosen(all_of_them: Sequence[Named], texts: Sequence[str]) -> list[Named]:
    return [each for each in all_of_them if not texts or any(text in each.name for text in texts)]


def _prepared(names: Iterable[str], findings: Findings) -> dict[str, Peer]:
    peers: dict[str, Peer] = {}
    for name in names:
        peer = PEERS[name]()
        try:
            peer.prepare()
        except PeerUnavailable as missing:
            _say(f"{name} is left out: {missing}")
            findings.skipped[name] = str(missing)
            continue
        peers[name] = peer
        findings.facts[name] = peer.facts
    return peers


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Leave as Ctrl-C does, so that the peer that runs is stopped."""
    raise SystemExit(TERMINATED)


def _allow_many_files() -> None:
    """For all that is started from here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


def _write_page(findings: Findings, file: Path) -> None:
    for path, text in page.files(findings, file).items():
        path.write_text(text)
        _say(f"wrote {path}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Compare with other brokers.")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), help="all by default")
    parser.add_argument(
        "--cases", nargs="*", default=(), metavar="TEXT", help="only cases whose name has one of these texts"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    parser.add_argument(
        "--life", action="store_true", help="start-up, memory, restart, 1,000 partitions, too"
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES_MAX, help=f"nothing begins later; default {MINUTES_MAX:g}"
    )
    parser.add_argument(
        "--seconds", type=float, help="so long is the load of each case: a trial, whose numbers say nothing"
    )
    parser.add_argument("--directory", type=Path, default=DIRECTORY_DEFAULT, help="where the logs go")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write docs/benchmarks.md and its plots there"
    )
    parser.add_argument(
        "--merge", nargs="+", type=Path, metavar="RESULTS", help="measure nothing: a page of these files"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
