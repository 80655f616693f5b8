"""Rehearsal and holes: what the fork server does so that its children share more."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from partitions.files import Files, write_all
from supervisor.holes import POOL_BYTES, SIZE_FILLED_BYTES_MAX, fill_holes
from supervisor.rehearsal import ROUNDS, TURNS, MemoryFiles, rehearse
from tests.support.interpreter import run_python

REPLIES_PER_TURN = 8
"""Four requests, each from a client and from a router."""
FILLED_BYTES_MAX = 16 << 20


def open_descriptors() -> set[Path]:
    return {path for path in Path("/proc/self/fd").iterdir() if path.exists()}


def test_every_request_of_the_rehearsal_is_answered_and_nothing_stays_open() -> None:
    before = open_descriptors()
    assert rehearse() == ROUNDS * TURNS * REPLIES_PER_TURN
    assert open_descriptors() == before


def test_a_rehearsal_leaves_nothing_on_the_disk() -> None:
    rehearse()
    assert not Path("/rehearsal").exists()


def test_files_in_memory_are_files() -> None:
    files = MemoryFiles()
    directory = Path("/nowhere")
    with pytest.raises(FileNotFoundError):
        files.open(directory / "a", create=False)
    with pytest.raises(FileNotFoundError):
        files.size(directory / "a")
    descriptor = files.open(directory / "a", create=True)
    write_all(files, descriptor, [b"abc", b"def"], 0, 6)
    files.close(descriptor)
    files.open(directory / "b", create=True)
    files.rename(directory / "a", directory / "b")
    assert files.list_directory(directory) == ["b"]
    again = files.open(directory / "b", create=False)
    assert (files.pread(again, 10, 0), files.size(directory / "b")) == (b"abcdef", 6)
    files.allocate(again, 6, 10)
    files.allocate(again, 0, 2)
    assert files.size(directory / "b") == 16, "nothing is cut"
    files.unlink(directory / "b")
    files.unlink(directory / "b")
    assert files.list_directory(directory) == []
    files.close_all()


def test_they_are_all_that_a_log_asks_for() -> None:
    files: Files = MemoryFiles()
    assert files.free_bytes(Path("/nowhere")) > 0


def test_the_fork_server_rehearses() -> None:
    code = (
        "import os\n"
        "made, real = [], os.memfd_create\n"
        "def make(name): made.append(name); return real(name)\n"
        "os.memfd_create = make\n"
        "import supervisor.crc32c_alone, supervisor.preload\n"
        "print(*made)"
    )
    assert any(name.endswith(".log") for name in run_python(code).split())


REFUSED_BY_THE_SYSTEM = f"""
def refuse(name):
    raise OSError({errno.ENOSYS}, "not here")
os.memfd_create = refuse
"""


@pytest.mark.parametrize(
    ("refused", "error"),
    [(REFUSED_BY_THE_SYSTEM, "KafkaStorageError"), ("del os.memfd_create\n", "OSError")],
    ids=["refused", "missing"],
)
def test_the_fork_server_starts_where_there_are_no_files_in_memory(refused: str, error: str) -> None:
    loaded = "import supervisor.crc32c_alone, supervisor.preload\nprint(len(supervisor.preload.FILLED) > 0)\n"
    failed = (
        "try:\n    supervisor.rehearsal.rehearse()\nexcept Exception as e:\n    print(type(e).__name__)\n"
    )
    assert run_python(f"import os\n{refused}{loaded}{failed}").split() == ["True", error]


def test_new_objects_lie_side_by_side_where_the_holes_are_filled() -> None:
    code = (
        "import supervisor.crc32c_alone, supervisor.preload\n"
        "new = {size: [bytes(size) for _ in range(10)] for size in range(15, 480, 16)}\n"
        f"print(*(len({{id(one) // {POOL_BYTES} for one in some}}) for some in new.values()))"
    )
    pools = [int(word) for word in run_python(code).split()]
    # One pool for each size, and a second where the first was full or something was given back since.
    assert sum(pools) < len(pools) * 1.5


@pytest.mark.parametrize("allocator", ["pymalloc", "malloc"])
def test_what_fills_is_bounded_whatever_allocates(allocator: str) -> None:
    code = "from supervisor.holes import fill_holes\nprint(sum(map(len, fill_holes())))"
    assert 0 < int(run_python(code, PYTHONMALLOC=allocator)) < FILLED_BYTES_MAX


def test_no_filling_is_larger_than_a_size_may_take() -> None:
    assert max(map(len, fill_holes())) < SIZE_FILLED_BYTES_MAX
