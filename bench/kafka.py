"""The Kafka gateway under confluent-kafka, beside what confluent-kafka can do by itself."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from bench import kafka_roles
from bench.targets import Outcome, Target, median_ratio
from bench.worker import run_worker
from tests.support.broker import BrokerProcess

RECORDS = 1_000_000
PAIRS = 3
PACED_SECONDS = 5
PRODUCE_SHARE_MIN = 0.9
"""Of what librdkafka's own mock cluster takes from the same client, with fdatasync before the answer here."""
CPU_US_PER_REQUEST_MAX = 60.0
P99_MS_MAX = 5.0
ROLES = "bench.kafka_roles"
COST_ROLE = "bench.kafka_cost"


def measure(directory: Path) -> Outcome:
    """Pairs of the sink and the broker alternate, so that both see the same machine."""
    with BrokerProcess(directory / "kafka-data") as broker:
        address = str(broker.ready["kafka"])
        gateway = next(each for each in broker.tree() if "gateway" in " ".join(each.cmdline()))
        sink: list[float] = []
        ours: list[float] = []
        read: list[float] = []
        cpu_begun_s = _cpu_s(gateway)
        for _ in range(PAIRS):
            sink.append(run_worker(ROLES, "produce", kafka_roles.SINK, str(RECORDS))["records_per_s"])
            ours.append(run_worker(ROLES, "produce", address, str(RECORDS))["records_per_s"])
        produce_cpu_s = _cpu_s(gateway) - cpu_begun_s
        for _ in range(PAIRS):
            read.append(run_worker(ROLES, "consume", address, str(RECORDS))["records_per_s"])
        consume_cpu_s = _cpu_s(gateway) - cpu_begun_s - produce_cpu_s
        paced = run_worker(ROLES, "paced", address, str(PACED_SECONDS))
        paced_cpu_s = _cpu_s(gateway) - cpu_begun_s - produce_cpu_s - consume_cpu_s
        costs = run_worker(COST_ROLE, address, str(gateway.pid))["cases"]
    share = median_ratio(ours, sink)
    cpu_us = paced_cpu_s / paced["requests"] * 1e6
    targets = [
        Target("kafka", "produce through the gateway, of the client's own limit", share, PRODUCE_SHARE_MIN,
               "", at_least=True,
               detail=f"{statistics.median(ours):,.0f} against {statistics.median(sink):,.0f} records/s"),
        *(_cost_target(cost) for cost in costs),
        Target("kafka", "p99 of a produce at 1,000/s, fdatasync included", paced["p99_ms"], P99_MS_MAX, "ms",
               at_least=False, detail=f"p50 {paced['p50_ms']:.2f} ms"),
    ]  # fmt: skip
    numbers: dict[str, object] = {
        "produce_records_per_s": ours,
        "sink_records_per_s": sink,
        "consume_records_per_s": read,
        "gateway_cpu_us_per_record_produced": produce_cpu_s / (PAIRS * RECORDS) * 1e6,
        "gateway_cpu_us_per_record_consumed": consume_cpu_s / (PAIRS * RECORDS) * 1e6,
        "gateway_cpu_us_per_paced_request": cpu_us,
        "gateway_cpu_us_per_request": costs,
        "paced": paced,
    }
    notes = [
        f"kafka: consume {statistics.median(read):,.0f} records/s",
        f"kafka: {cpu_us:.0f} us of gateway CPU for each of {paced['requests']:,} requests at 1,000/s, idle"
        " turns and cold caches included",
    ]
    return Outcome(targets, numbers, notes)


def _cost_target(cost: Mapping[str, Any]) -> Target:
    """One kind of request: its least round, as everything else on a machine only makes it dearer."""
    detail = f"median {cost['cpu_us_median']:.0f} us; of the Python thread {cost['python_thread_us']:.0f} us"
    return Target("kafka", f"gateway CPU: {cost['name']}", cost["cpu_us"], CPU_US_PER_REQUEST_MAX, "us",
                  at_least=False, detail=detail)  # fmt: skip


def _cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)
