"""The catalogue and the data directory: decisions, durability, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odradek.protocol.errors import (
    InvalidConfig,
    InvalidPartitions,
    InvalidTopic,
    OdradekError,
    PolicyViolation,
    TopicAlreadyExists,
    UnknownTopicOrPartition,
)
from supervisor.catalog import (
    Catalog,
    CatalogDamaged,
    CatalogRules,
    Topic,
    decode_catalog,
    encode_catalog,
)
from supervisor.datadirectory import (
    DataDirectory,
    DataDirectoryLocked,
    DataDirectoryUnusable,
    aside_name,
)
from supervisor.privacy import NotPrivate

EVENTS = Topic(name="events", topic_id="id-1", partitions=3, config={"segment.bytes": 4096})
CATALOG = Catalog(cluster_id="cluster", offsets_topic_id="offsets", topics=(EVENTS,))
RULES = CatalogRules(default_partitions=2, partitions_max=10)
PATH = Path("/data/catalog.json")


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    directory = DataDirectory(tmp_path / "data")
    yield directory
    directory.close()


# -- decisions ---------------------------------------------------------------------------------------


def test_a_new_topic_has_the_default_number_of_partitions_and_only_its_own_settings() -> None:
    topic = RULES.new_topic(CATALOG, "new", None, {"segment.bytes": "8192", "segment.ms": None}, "id-2")
    assert topic == Topic(name="new", topic_id="id-2", partitions=2, config={"segment.bytes": 8192})


@pytest.mark.parametrize(
    ("name", "partitions", "config", "error"),
    [
        ("../x", 1, {}, InvalidTopic),
        ("", 1, {}, InvalidTopic),
        ("..", 1, {}, InvalidTopic),
        ("a" * 250, 1, {}, InvalidTopic),
        ("événements", 1, {}, InvalidTopic),
        ("__consumer_offsets", 1, {}, InvalidTopic),
        ("events", 1, {}, TopicAlreadyExists),
        ("new", 0, {}, InvalidPartitions),
        ("new", -1, {}, InvalidPartitions),
        ("new", 8, {}, PolicyViolation),
        ("new", 1, {"no.such": 1}, InvalidConfig),
        ("new", 1, {"segment.bytes": "huge"}, InvalidConfig),
    ],
)
def test_what_a_new_topic_may_not_be(
    name: str, partitions: int, config: dict[str, Any], error: type[OdradekError]
) -> None:
    with pytest.raises(error):
        RULES.new_topic(CATALOG, name, partitions, config, "id")


def test_case_twins_are_two_topics_unless_the_file_system_ignores_case() -> None:
    assert RULES.new_topic(CATALOG, "Events", 1, {}, "id").name == "Events"
    blind = CatalogRules(partitions_max=10, ignores_case=True)
    with pytest.raises(InvalidTopic, match="differs from topic 'events' only in case"):
        blind.new_topic(CATALOG, "Events", 1, {}, "id")


def test_partitions_are_only_added() -> None:
    assert RULES.more_partitions(CATALOG, "events", 10).partitions == 10
    for total in (3, 2, 0, -1):
        with pytest.raises(InvalidPartitions, match="must be more"):
            RULES.more_partitions(CATALOG, "events", total)
    with pytest.raises(PolicyViolation, match="partitions_max"):
        RULES.more_partitions(CATALOG, "events", 11)
    with pytest.raises(UnknownTopicOrPartition):
        RULES.more_partitions(CATALOG, "other", 4)


def test_settings_change_together_or_not_at_all() -> None:
    changed = RULES.altered(CATALOG, "events", {"segment.bytes": None, "segment.ms": 5})
    assert changed.config == {"segment.ms": 5}
    with pytest.raises(InvalidConfig):
        RULES.altered(CATALOG, "events", {"segment.ms": 5, "nonsense": 1})
    assert CATALOG.get("events").config == {"segment.bytes": 4096}


def test_settings_that_contradict_one_another_are_refused_however_they_come_together() -> None:
    lags = {"min.compaction.lag.ms": "100", "max.compaction.lag.ms": "50"}
    with pytest.raises(InvalidConfig, match=r"min\.compaction\.lag\.ms is 100 and max\S+ 50"):
        RULES.new_topic(CATALOG, "lagging", 1, lags, "id")
    changed = CATALOG.with_changed(RULES.altered(CATALOG, "events", {"max.compaction.lag.ms": 50}))
    with pytest.raises(InvalidConfig, match=r"set the first no higher"):
        RULES.altered(changed, "events", {"min.compaction.lag.ms": 51})
    assert (
        RULES.altered(changed, "events", {"min.compaction.lag.ms": 50}).config["min.compaction.lag.ms"] == 50
    )


def test_a_name_is_free_again_only_when_its_directories_are_gone() -> None:
    deleting = CATALOG.with_deleting("events")
    assert deleting.find("events") is None
    with pytest.raises(TopicAlreadyExists, match="still being deleted"):
        RULES.new_topic(deleting, "events", 1, {}, "id")
    assert RULES.new_topic(deleting.with_deleted("events"), "events", 1, {}, "id").topic_id == "id"


# -- the file ----------------------------------------------------------------------------------------


def test_the_file_says_what_it_is_and_comes_back_equal() -> None:
    content = encode_catalog(CATALOG)
    assert json.loads(content)["catalog"]["topics"][0]["name"] == "events"
    assert decode_catalog(content, PATH) == CATALOG


@given(st.integers(0, len(encode_catalog(CATALOG)) - 2), st.integers(0, 7))
def test_no_flipped_bit_gets_through(position: int, bit: int) -> None:
    content = bytearray(encode_catalog(CATALOG))
    content[position] ^= 1 << bit
    try:
        found = decode_catalog(bytes(content), PATH)
    except CatalogDamaged as damaged:
        assert str(PATH) in str(damaged)
        assert "catalog.json.bak" in str(damaged)
    else:
        assert found == CATALOG  # such as a space that became another kind of space


@given(st.integers(0, len(encode_catalog(CATALOG)) - 2))
def test_no_torn_file_gets_through(length: int) -> None:
    with pytest.raises(CatalogDamaged):
        decode_catalog(encode_catalog(CATALOG)[:length], PATH)


def test_a_newer_format_is_refused_by_name() -> None:
    newer = encode_catalog(CATALOG).replace(b'"format":1', b'"format":2', 1)
    with pytest.raises(CatalogDamaged, match="format 2, and this version reads format 1"):
        decode_catalog(newer, PATH)
    with pytest.raises(CatalogDamaged, match="format 3"):
        decode_catalog(b'{"format":3,"something":"else"}', PATH)


# -- the data directory --------------------------------------------------------------------------------


def test_what_was_saved_is_loaded_and_the_one_before_is_kept(data: DataDirectory) -> None:
    assert data.load() is None
    data.save(CATALOG)
    data.save(CATALOG.with_deleting("events"))
    assert data.load() == CATALOG.with_deleting("events")
    backup = data.path / "catalog.json.bak"
    assert decode_catalog(backup.read_bytes(), backup) == CATALOG


@pytest.mark.parametrize("step", range(6))
def test_a_crash_at_any_step_of_a_save_leaves_the_old_catalogue_or_the_new(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    data.save(CATALOG)
    new = CATALOG.with_deleting("events")
    left = [step]

    def crashing(name: str) -> Any:
        real = getattr(os, name)

        def call(*args: Any, **keywords: Any) -> Any:
            if left[0] == 0:
                raise OSError(5, "crash")
            left[0] -= 1
            return real(*args, **keywords)

        return call

    with monkeypatch.context() as patch:
        for name in ("write", "fdatasync", "link", "replace", "fsync"):
            patch.setattr(os, name, crashing(name))
        with pytest.raises(OSError, match="crash"):
            data.save(new)
    expected = CATALOG if step < 5 else new
    assert data.load() == expected
    data.save(new)
    assert data.load() == new


def test_a_missing_catalogue_beside_partitions_is_never_guessed(data: DataDirectory) -> None:
    (data.path / "events-0").mkdir()
    with pytest.raises(CatalogDamaged, match=r"is missing, yet 1 partition directories are there"):
        data.load()
    assert (data.path / "events-0").is_dir()


def test_strays_are_set_aside_whole_and_never_unlinked(data: DataDirectory) -> None:
    for name in ("events-0", "events-2", "events-3", "other-0", "__consumer_offsets-0", "events-01", "notes"):
        (data.path / name).mkdir()
    (data.path / "other-0" / "0.log").write_bytes(b"records")
    (data.path / "file-7").write_bytes(b"not a directory")
    renamed = data.set_strays_aside(CATALOG)
    assert [name.split(".")[0] for name in renamed] == ["events-3", "other-0"]
    kept = {entry.name for entry in data.path.iterdir()}
    assert {"events-0", "events-2", "__consumer_offsets-0", "events-01", "notes", "file-7"} <= kept
    stray = next(data.path.glob("other-0.*-stray"))
    assert (stray / "0.log").read_bytes() == b"records"
    data.unlink_discarded()
    assert stray.is_dir()
    assert data.set_strays_aside(CATALOG) == []


def test_a_deleted_topic_is_renamed_first_and_unlinked_later(data: DataDirectory) -> None:
    for partition in range(3):
        (data.path / f"events-{partition}").mkdir()
        (data.path / f"events-{partition}" / "0.log").write_bytes(b"records")
    data.discard("events", 3)
    assert not (data.path / "events-0").exists()
    assert len(list(data.path.glob("events-?.*-delete"))) == 3
    data.discard("events", 3)  # a second time, after a crash between the rename and the catalogue
    data.unlink_discarded()
    assert [entry.name for entry in data.path.iterdir()] == ["odradek.lock"]


def test_the_directories_of_a_topic_being_deleted_are_no_strays(data: DataDirectory) -> None:
    (data.path / "events-0").mkdir()
    assert data.set_strays_aside(CATALOG.with_deleting("events")) == []


def test_the_longest_name_still_fits_when_set_aside() -> None:
    name = aside_name("t" * 249 + "-99999", "delete", "0123abcd")
    assert len(name) == 255
    assert name.endswith(".0123abcd-delete")


def test_a_second_holder_is_refused_also_through_a_link(data: DataDirectory, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(data.path)
    for path in (data.path, link):
        code = (
            "import sys; from pathlib import Path; from supervisor.datadirectory import *\n"
            "try: DataDirectory(Path(sys.argv[1]))\n"
            "except DataDirectoryLocked as error: sys.exit(str(error))"
        )
        second = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
        assert (
            f"another broker (process {os.getpid()}) runs on the data directory {data.path}" in second.stderr
        )
    with pytest.raises(DataDirectoryLocked):
        DataDirectory(link)


def test_the_lock_is_free_again_after_close(tmp_path: Path) -> None:
    DataDirectory(tmp_path / "data").close()
    DataDirectory(tmp_path / "data").close()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(NotPrivate, match="chmod go-w"):
        DataDirectory(path)
    assert list(path.iterdir()) == []


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataDirectoryUnusable, match="cannot be used"):
        DataDirectory(tmp_path / "data")
