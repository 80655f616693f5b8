"""Report: a result as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.plots import short_number
from loadtest.result import Result, Side

MIB = 1 << 20
SHOWN_PERCENTILES = ("p50", "p99", "p99.9", "max")


def summary(result: Result) -> list[tuple[str, str]]:
    """(what, value) lines about the whole run."""
    workload = result.workload
    rate = "as fast as they can" if workload.rate is None else f"{short_number(workload.rate)} records/s"
    warm = f" after {workload.warm_up_s:g} s of warm-up" if workload.warm_up_s else ""
    lines = [
        ("target", result.target),
        (
            "workload",
            f"{_counted(workload.producers, 'producer')}, {_counted(workload.consumers, 'consumer')}, "
            f"{_counted(workload.partitions, 'partition')}, {workload.value_bytes} B, {rate}, "
            f"{workload.duration_s:g} s{warm}",
        ),
        (
            "settings",
            f"acks={workload.acks}, compression={workload.compression}, keys={workload.keys}, "
            f"at most {workload.batch_records} records a call, linger {workload.linger_ms:g} ms",
        ),
    ]
    if result.lost is not None:
        lines.append(("acknowledged and not read", f"{result.lost:,}"))
    if result.consume is not None:
        lines.append(("out of order", f"{result.out_of_order:,}"))
    lines += [("note", note) for note in result.notes]
    return lines


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def side_rows(result: Result) -> list[tuple[str, ...]]:
    """A row for the producers and one for the consumers; the titles are SIDE_TITLES."""
    rows = [_side_row("produce", "until acknowledged", result.produce)]
    if result.consume is not None:
        rows.append(_side_row("consume", "end to end", result.consume))
    return rows


SIDE_TITLES = ("", "records", "failed", "records/s", "MB/s", "latency", *SHOWN_PERCENTILES, "client CPU")


def _side_row(name: str, latency: str, side: Side) -> tuple[str, ...]:
    return (
        name,
        f"{side.records:,}",
        f"{side.failed:,}",
        short_number(side.records_per_s),
        f"{side.megabytes_per_s:,.1f}",
        latency,
        *(milliseconds(side.latency_ms.get(level)) for level in SHOWN_PERCENTILES),
        f"{side.client_cpu_s:.1f} s",
    )


def turned(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Rows as columns, for a terminal, which is higher than a table of many columns is narrow."""
    first, *others = zip(titles, *rows, strict=True)
    return first, list(others)


ACTOR_TITLES = ("process", "CPU mean", "CPU max", "PSS max")


def actor_rows(result: Result) -> list[tuple[str, ...]]:
    """What each process of the broker used; the titles are ACTOR_TITLES."""
    return [
        (
            use.name,
            f"{use.cpu_percent_mean:.0f} %",
            f"{use.cpu_percent_max:.0f} %",
            f"{use.pss_bytes_max / MIB:.1f} MiB",
        )
        for use in result.actors
    ]


SWEEP_TITLES = ("produce rec/s", "MB/s", "p99", "consume rec/s", "MB/s", "p99", "lost")


def sweep_rows(results: Sequence[tuple[str, Result]]) -> list[tuple[str, ...]]:
    """A row for each value of the option; the titles are the option and SWEEP_TITLES."""
    return [
        (
            value,
            *_sweep_cells(result.produce),
            *_sweep_cells(result.consume),
            "" if result.lost is None else f"{result.lost:,}",
        )
        for value, result in results
    ]


def _sweep_cells(side: Side | None) -> tuple[str, str, str]:
    if side is None:
        return ("", "", "")
    p99 = milliseconds(side.latency_ms.get("p99"))
    return (short_number(side.records_per_s), f"{side.megabytes_per_s:,.1f}", p99)


def milliseconds(value: float | None) -> str:
    """A latency with its unit; empty where there is none."""
    if value is None:
        return ""
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"
