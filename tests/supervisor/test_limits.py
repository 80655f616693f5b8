"""How many partitions the system has room for, from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from odradek.protocol.errors import PolicyViolation
from supervisor.catalog import Catalog, CatalogRules
from supervisor.limits import THREADS_BESIDES, THREADS_PER_PARTITION, system_limit


def system(root: Path, **files: str) -> Path:
    """A machine whose files say this; the path of each with two underscores for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("threads_max", "threads-max").replace("pids_", "pids.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def threads(partitions: int) -> str:
    return str(THREADS_BESIDES + partitions * THREADS_PER_PARTITION)


def test_the_narrowest_limit_counts(tmp_path: Path) -> None:
    root = system(tmp_path, proc__sys__kernel__pid_max=threads(7), proc__sys__kernel__threads_max=threads(9))
    limit = system_limit(root)
    assert limit.partitions == 7
    assert "kernel.pid_max" in limit.reason


def test_a_control_group_around_ours_limits_us_too(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        proc__self__cgroup="1:cpu:/a\n0::/system.slice/odradek.service",
        sys__fs__cgroup__system=".",
    )
    outer = root / "sys/fs/cgroup/system.slice"
    (outer / "odradek.service").mkdir(parents=True)
    (outer / "odradek.service" / "pids.max").write_text("max\n")
    (outer / "pids.max").write_text(threads(5) + "\n")
    limit = system_limit(root)
    assert limit.partitions == 5
    assert "TasksMax" in limit.reason


def test_the_older_control_groups_are_read_where_pids_are_theirs(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        proc__self__cgroup="8:pids:/docker/1\n4:memory:/docker/2",
        sys__fs__cgroup__pids__docker__1__pids_max=threads(3),
        sys__fs__cgroup__pids__docker__2__pids_max=threads(1),
    )
    assert system_limit(root).partitions == 3


def test_a_limit_below_what_the_broker_itself_needs_leaves_no_room(tmp_path: Path) -> None:
    assert system_limit(system(tmp_path, proc__sys__kernel__pid_max="10")).partitions == 0


def test_a_topic_that_the_system_has_no_room_for_is_refused_with_the_limit() -> None:
    rules = CatalogRules(partitions_max=5, partitions_max_reason="this system (kernel.pid_max is 300)")
    catalog = Catalog(cluster_id="c", offsets_topic_id="o")
    with pytest.raises(PolicyViolation, match=r"6 partitions; this system \(.*300\) allows 5"):
        rules.new_topic(catalog, "t", 6, {}, "id")
