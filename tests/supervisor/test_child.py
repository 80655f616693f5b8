"""Where a child listens, and what it clears away before it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.catalog import Topic
from supervisor.child import _unlink_predecessors
from supervisor.children import Role
from supervisor.childspec import ChildSpec
from supervisor.configuration import load_settings
from supervisor.effects import SpawnOrder
from supervisor.rundirectory import RunDirectory
from supervisor.specs import SpecWriter


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "r" / "123")


def spec_of(run: RunDirectory, name: str, role: Role, incarnation: int) -> ChildSpec:
    topic = Topic(name="t", topic_id="id", partitions=1) if role is Role.PARTITION else None
    writer = SpecWriter(load_settings({}, {}), run.path, run, "offsets", "test")
    return writer.write(SpawnOrder(name, role, incarnation, topic=topic))


def paths(spec: ChildSpec) -> dict[str, Path]:
    return {name: Path(endpoint.removeprefix("ipc://")) for name, endpoint in spec.listeners}


@pytest.mark.parametrize(
    ("name", "role"), [("partition:t-0", Role.PARTITION), ("coordinator", Role.COORDINATOR)]
)
def test_each_start_listens_to_routers_anew_and_clears_former_sockets_of_its_own(
    run: RunDirectory, name: str, role: Role
) -> None:
    starts = [paths(spec_of(run, name, role, incarnation)) for incarnation in (1, 11, 111)]
    assert len({start["inner"] for start in starts}) == 3
    assert len({start.get("direct") for start in starts}) == 1, "clients know that one"
    other = paths(spec_of(run, "partition:t-1", Role.PARTITION, 1))
    for path in (*other.values(), *(path for start in starts for path in start.values())):
        path.touch()
    _unlink_predecessors(spec_of(run, name, role, 11))
    assert {entry.name for entry in run.path.iterdir()} == {
        path.name for path in (*other.values(), *starts[1].values())
    }
