"""What a broker's processes do not load, because each of them would hold it in memory."""

from __future__ import annotations

import tomllib

from supervisor.version import VERSION
from tests.support.interpreter import PROJECT, run_python

HEAVY = ("importlib.metadata", "email", "asyncio", "ssl", "aiokafka.client", "hypothesis", "rich", "typer")


def _loaded(modules: str) -> set[str]:
    return set(run_python(f"import {modules}, sys; print(' '.join(sys.modules))").split())


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def test_the_supervisor_is_lean() -> None:
    loaded = _loaded("supervisor.__main__, supervisor.broker, supervisor.loop, supervisor.processes")
    assert "supervisor.overseer" in loaded and not loaded & set(HEAVY)


def test_what_the_fork_server_loads_is_lean() -> None:
    loaded = _loaded("supervisor.crc32c_alone, supervisor.preload")
    assert "partitions.log" in loaded and not loaded & set(HEAVY)


def test_the_checksum_alone_is_the_checksum() -> None:
    known = "0xe3069283"  # of "123456789", from RFC 3720's CRC-32C
    code = "import supervisor.crc32c_alone, crc32c; print(hex(crc32c.crc32c(b'123456789')))"
    assert run_python(code) == known


def test_whoever_has_the_whole_package_keeps_it() -> None:
    code = "import crc32c, supervisor.crc32c_alone; print(crc32c.__version__)"
    assert run_python(code)
