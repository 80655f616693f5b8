"""Lock-step latency: one small record at a time through the router, acknowledged after fdatasync.

The reference is what that path cannot do without: two ZeroMQ round trips (client to router over
tcp, router to partition over ipc), each between two Python processes that do nothing else, and one
append with fdatasync to a file of its own. All three are measured in turns with the product.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from bench.broker import Broker
from bench.targets import Outcome, Target, percentile
from bench.wire import Wire
from bench.worker import BackgroundWorker

ROUNDS = 10
REQUESTS_PER_ROUND = 100
WARM_UP_REQUESTS = 50
APPEND_BYTES = 180
"""A batch of one 100-byte record, roughly."""
RATIO_MAX = 2.0
TOPIC = "lockstep"


def echo(endpoint: str) -> None:
    """Answer every message with itself until the process is ended."""
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(endpoint)
    while True:
        router.send_multipart(router.recv_multipart())


def measure(directory: Path, tcp_endpoint: str) -> Outcome:
    """Run the comparison; ``directory`` holds the broker's data and the reference file."""
    ipc_endpoint = f"ipc://{directory / 'echo'}"
    with (
        BackgroundWorker("bench.lockstep", tcp_endpoint),
        BackgroundWorker("bench.lockstep", ipc_endpoint),
        Broker(directory / "lockstep-data") as broker,
        Wire(broker.router) as wire,
    ):
        wire.create_topic(TOPIC, 1)
        fd = os.open(directory / "lockstep-reference", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        actions = {
            "produce": lambda: _produce(wire),
            "tcp round trip": _round_trip(tcp_endpoint),
            "ipc round trip": _round_trip(ipc_endpoint),
            "append + fdatasync": lambda: _append(fd),
        }
        seconds = _in_turns(actions)
        os.close(fd)
    return _outcome(seconds)


def _in_turns(actions: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    for action in actions.values():
        for _ in range(WARM_UP_REQUESTS):
            action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            for _ in range(REQUESTS_PER_ROUND):
                begun = time.perf_counter()
                action()
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def _produce(wire: Wire) -> None:
    wire.ask({"api": "produce", "topic": TOPIC, "partition": 0}, [b"v" * 100])


def _round_trip(endpoint: str) -> Callable[[], object]:
    dealer: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    dealer.setsockopt(zmq.RCVTIMEO, 10_000)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.connect(endpoint)

    def there_and_back() -> None:
        dealer.send_multipart([b"h" * 60, b"v" * 100])
        dealer.recv_multipart()

    return there_and_back


def _append(fd: int) -> None:
    os.write(fd, b"v" * APPEND_BYTES)
    os.fdatasync(fd)


def _outcome(seconds: dict[str, list[float]]) -> Outcome:
    medians = {name: statistics.median(values) * 1e6 for name, values in seconds.items()}
    produced = medians.pop("produce")
    reference = sum(medians.values())
    parts = " + ".join(f"{name} {us:.0f}" for name, us in medians.items())
    by_round = [_ratio(seconds, number) for number in range(ROUNDS)]
    target = Target(
        "lockstep",
        "lock-step produce, p50, to its parts",
        produced / reference,
        RATIO_MAX,
        "x",
        at_least=False,
        detail=f"{produced:.0f} µs to {reference:.0f} µs ({parts})",
        rounds=tuple(by_round),
    )
    numbers: dict[str, object] = {
        name: {f"p{rank}_us": percentile(values, rank) * 1e6 for rank in (50, 90, 99)}
        for name, values in seconds.items()
    }
    return Outcome([target], numbers)


def _ratio(seconds: dict[str, list[float]], number: int) -> float:
    """That of one round."""
    start = number * REQUESTS_PER_ROUND
    medians = {
        name: statistics.median(values[start : start + REQUESTS_PER_ROUND])
        for name, values in seconds.items()
    }
    produced = medians.pop("produce")
    return produced / sum(medians.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="An echo server.")
    parser.add_argument("endpoint")
    echo(parser.parse_args().endpoint)


if __name__ == "__main__":
    main()
