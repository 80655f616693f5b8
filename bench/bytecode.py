"""Bytecode: what pip leaves beside the modules that it installs, and a tree of sources may lack.

Where the environment says PYTHONDONTWRITEBYTECODE, as containers often do, each start of a process from
such a tree compiled every module anew: 0.87 s until eight partitions were ready, in place of 0.6.
"""

from __future__ import annotations

import compileall
import tomllib
from pathlib import Path

from bench.worker import PROJECT

DISTRIBUTIONS = (PROJECT, PROJECT / "clients" / "python")


def compile_as_pip_does() -> None:
    """Compiles the modules of both distributions and of the benchmark, those that changed since."""
    packages = [PROJECT / "bench"]
    for distribution in DISTRIBUTIONS:
        packages += packages_of(distribution)
    for package in packages:
        compileall.compile_dir(package, quiet=1)


def packages_of(distribution: Path) -> list[Path]:
    """What of ``distribution`` goes into its wheel."""
    build = tomllib.loads((distribution / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    return [distribution / package for package in build["targets"]["wheel"]["packages"]]
