"""The project's habits: layers, generated pages, commands that the documents name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from odradek.protocol.codec import REPLY_DECODERS, public_decoder
from odradek.protocol.errors import ERRORS
from odradek.protocol.messages import APIS, Request
from tools import generate_docs

PROJECT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command's result, run at the project's root."""
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False)


# -- generated pages -------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted(generate_docs.PAGES))
def test_generated_pages_are_up_to_date(page: str) -> None:
    assert page not in generate_docs.stale_pages(), f"docs/{page} is stale: run `make docs` and commit it"


def test_a_stale_page_is_noticed(tmp_path: Path) -> None:
    for name, page in generate_docs.PAGES.items():
        (tmp_path / name).write_text(page())
    assert generate_docs.stale_pages(tmp_path) == []
    (tmp_path / "protocol.md").write_text("old")
    (tmp_path / "configuration.md").unlink()
    assert sorted(generate_docs.stale_pages(tmp_path)) == ["configuration.md", "protocol.md"]


def test_the_protocol_page_names_every_request_and_every_error() -> None:
    page = generate_docs.protocol_page()
    for api in APIS:
        assert f"### `{api}`" in page
    for code, error in ERRORS.items():
        assert f"| {code} | `{error.name}` |" in page


def test_every_link_of_the_protocol_page_leads_somewhere() -> None:
    page = generate_docs.protocol_page()
    headings = {heading.strip().lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", page, re.M)}
    targets = headings | set(re.findall(r'<a id="([^"]+)">', page))
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= targets


def dialog_lines() -> list[tuple[str, str]]:
    """(side, header) of each line of a dialog in the protocol page."""
    page = generate_docs.protocol_page()
    return re.findall(r"^([CS]): \[ (\{.*?\}) \](?= \[|$)", page, re.M)


def test_the_dialogs_of_the_protocol_page_are_valid() -> None:
    lines = dialog_lines()
    assert len(lines) >= 14
    asked: Request | None = None
    for side, header in lines:
        if side == "C" and '"pong"' in header:
            asked = None  # the dialog that shows how a bad request is answered
        elif side == "C":
            asked, _ = public_decoder().decode(header.encode())
            unknown = json.loads(header).keys() - {"api", *asked.__struct_fields__}
            assert not unknown, f"{header} has fields that the request does not: {unknown}"
        else:
            reply = REPLY_DECODERS[type(asked) if asked else APIS["ping"]].decode(header.encode())
            assert asked is None or reply.id == asked.id
            assert json.loads(header).keys() <= set(reply.__struct_fields__)


# -- layers and checks -----------------------------------------------------------------------------


def test_imports_run_downward_only() -> None:
    result = run(BIN / "lint-imports", "--no-cache")
    assert result.returncode == 0, result.stdout + result.stderr


def test_ruff_has_nothing_to_say() -> None:
    result = run(BIN / "ruff", "check", ".")
    assert result.returncode == 0, result.stdout + result.stderr


TIME_SLEEP = re.compile(r"\btime\.sleep\(|from time import .*\bsleep\b")


def test_no_test_sleeps() -> None:
    sleeping = [
        str(path.relative_to(PROJECT))
        for path in sorted((PROJECT / "tests").rglob("*.py"))
        if path != Path(__file__).resolve() and TIME_SLEEP.search(path.read_text())
    ]
    assert not sleeping


PICKLE = re.compile(
    r"^\s*(?:import|from)\s+(?:pickle|cloudpickle|marshal|shelve|dill)\b|\.recv_pyobj\(", re.M
)
PICKLE_ALLOWED = {"supervisor/processes.py"}
"""Carries a child's function between our own processes, never over a socket or a file."""


def test_nothing_can_unpickle_what_came_from_outside() -> None:
    packages = ("actors", "transport", "partitions", "supervisor", "crew", "demo", "clients/python/src")
    found = {
        str(path.relative_to(PROJECT))
        for package in packages
        for path in (PROJECT / package).rglob("*.py")
        if PICKLE.search(path.read_text())
    }
    assert found <= PICKLE_ALLOWED


def test_transport_may_see_of_the_actors_only_what_it_must() -> None:
    """The import rule names what is forbidden; a new file of actors/ has to be added to it."""
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rule,) = (contract for contract in contracts if contract["name"].startswith("transport sees"))
    modules = {f"actors.{path.stem}" for path in (PROJECT / "actors").glob("*.py")}
    modules |= {f"actors.{path.parent.name}" for path in (PROJECT / "actors").glob("*/__init__.py")}
    allowed = {"actors.__init__", "actors.actor", "actors.effects", "actors.messages"}
    assert set(rule["forbidden_modules"]) == modules - allowed


# -- commands --------------------------------------------------------------------------------------


def test_every_make_command_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.M))
    documents = [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), PROJECT / "Makefile"]
    named = {
        name
        for document in documents
        for name in re.findall(r"(?:`|^#? *|&& )make ([a-z]+)", document.read_text(), re.M)
    }
    assert named
    assert named <= targets


def test_the_procfile_starts_the_supervisor() -> None:
    lines = [line for line in (PROJECT / "Procfile").read_text().splitlines() if line]
    assert lines == ["broker: exec .venv/bin/python -m supervisor"]


def make_venv(python: str, venv: Path) -> subprocess.CompletedProcess[str]:
    return run(PROJECT / "tools" / "make_venv", python, venv)


def fake_python(directory: Path, body: str) -> str:
    """An interpreter that answers as ``body``, a shell script, says."""
    path = directory / "python3"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_no_python_is_said_with_what_to_do(tmp_path: Path) -> None:
    result = make_venv("python-that-is-not-there", tmp_path / "venv")
    assert result.returncode == 1
    assert "there is no 'python-that-is-not-there'" in result.stderr
    assert "make PYTHON=" in result.stderr


def test_an_old_python_is_said_with_what_to_do(tmp_path: Path) -> None:
    body = 'case "$2" in *print*) echo 3.9;; *version_info\\ \\<*) exit 1;; esac'
    result = make_venv(fake_python(tmp_path, body), tmp_path / "venv")
    assert result.returncode == 1
    assert "is Python 3.9; Odradek needs 3.11 or newer" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_python_without_ensurepip_is_said_with_what_to_do(tmp_path: Path) -> None:
    body = 'case "$2" in *print*) echo 3.12;; *ensurepip*) exit 1;; esac'
    result = make_venv(fake_python(tmp_path, body), tmp_path / "venv")
    assert result.returncode == 1
    assert "apt-get install python3.12-venv" in result.stderr


def test_an_environment_that_fits_is_kept(tmp_path: Path) -> None:
    environment = Path(sys.prefix)
    if not (environment / "pyvenv.cfg").exists() or not os.access(environment, os.W_OK):
        pytest.skip("the tests do not run in a virtual environment")
    before = (environment / "pyvenv.cfg").stat().st_mtime_ns
    result = make_venv(sys.executable, environment)
    assert (result.returncode, result.stdout) == (0, "")
    assert (environment / "pyvenv.cfg").stat().st_mtime_ns == before
