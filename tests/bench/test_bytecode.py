"""A measured start compiles nothing, whatever the environment says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import bytecode


def test_what_is_installed_is_compiled_where_python_may_not_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "pyproject.toml").write_text('[tool.hatch.build.targets.wheel]\npackages = ["src/mine"]\n')
    package = tmp_path / "src" / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("ONE = 1\n")
    monkeypatch.setattr(bytecode, "PROJECT", tmp_path)
    monkeypatch.setattr(bytecode, "DISTRIBUTIONS", (tmp_path,))
    bytecode.compile_as_pip_does()
    assert len(list((package / "__pycache__").glob("__init__.*.pyc"))) == 1


def test_every_package_of_both_distributions_is_there() -> None:
    """A package that were misspelt would be compiled by nobody and found by nobody."""
    for distribution in bytecode.DISTRIBUTIONS:
        assert bytecode.packages_of(distribution)
        assert all((package / "__init__.py").is_file() for package in bytecode.packages_of(distribution))
