"""A crash at every step of a topic's deletion: it is finished later, never undone, others are left alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.catalog import Catalog, Topic
from supervisor.datadirectory import DataDirectory

DOOMED = Topic(name="doomed", topic_id="id-1", partitions=2)
KEPT = Topic(name="kept", topic_id="id-2", partitions=2)
CATALOG = Catalog(cluster_id="cluster", offsets_topic_id="offsets", topics=(DOOMED, KEPT))
SYSTEM_CALLS = ("write", "fdatasync", "fsync", "link", "replace", "rename", "unlink", "rmdir")
STEPS_MAX = 200


class PowerCut(BaseException):
    """Nothing in the product may handle it."""


class Steps:
    """Counts the calls that change the file system, and ends the process at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cut_at: int) -> None:
        self.count = 0
        self._cut_at = cut_at
        for name in SYSTEM_CALLS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **keywords: Any) -> Any:
            self.count += 1
            if self.count >= self._cut_at:
                raise PowerCut
            return call(*args, **keywords)

        return counted


def fill(path: Path) -> None:
    """Two topics with two partitions each."""
    data = DataDirectory(path)
    data.save(CATALOG)
    for topic in CATALOG.topics:
        for partition in range(topic.partitions):
            folder = path / f"{topic.name}-{partition}"
            folder.mkdir()
            for name in ("00000000000000000000.log", "00000000000000000000.index"):
                (folder / name).write_bytes(topic.name.encode())
    data.close()


def delete(data: DataDirectory, told: list[str]) -> None:
    """The steps of the supervisor, in its order; ``told`` is what clients were told."""
    catalog = data.load()
    assert catalog is not None
    if DOOMED in catalog.topics:
        catalog = catalog.with_deleting("doomed")
        data.save(catalog)
    told.append("deleted")
    for topic in catalog.deleting:
        data.discard(topic.name, topic.partitions)
        catalog = catalog.with_deleted(topic.name)
        data.save(catalog)
    data.unlink_discarded()


def restart(path: Path, told: list[str]) -> None:
    """What a start does: look for strays, finish what was begun."""
    data = DataDirectory(path)
    catalog = data.load()
    assert catalog is not None
    assert data.set_strays_aside(catalog) == [], "what is being deleted is no stray"
    assert KEPT in catalog.topics
    if told:
        assert DOOMED not in catalog.topics, "what clients know as deleted never comes back"
    if DOOMED not in catalog.topics:
        delete(data, told)
    data.close()


def test_a_crash_at_every_step_is_finished_at_the_next_start(tmp_path: Path) -> None:
    for cut_at in range(1, STEPS_MAX):
        path = tmp_path / "data"
        fill(path)
        told: list[str] = []
        data = DataDirectory(path)
        with pytest.MonkeyPatch.context() as patch:
            steps = Steps(patch, cut_at)
            try:
                delete(data, told)
            except PowerCut:
                finished = False
            else:
                finished = True
        data.close()
        restart(path, told)
        restart(path, told)
        names = {entry.name for entry in path.iterdir()}
        if told:
            assert not {name for name in names if name.startswith("doomed")}, cut_at
        else:
            assert {"doomed-0", "doomed-1"} <= names, "nobody was told, and it was not begun"
        for partition in range(2):
            assert (path / f"kept-{partition}" / "00000000000000000000.log").read_bytes() == b"kept"
        shutil.rmtree(path)
        if finished:
            assert steps.count > 15
            return
    raise AssertionError("the deletion never came to its end")
