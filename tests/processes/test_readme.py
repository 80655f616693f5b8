"""What the README shows is run as it stands, but for the port."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.broker import BrokerProcess

README = Path(__file__).parents[2] / "README.md"
PORT_SHOWN = "127.0.0.1:5559"
TIMEOUT_S = 60

pytestmark = pytest.mark.processes


def blocks(language: str) -> list[str]:
    """The README's code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    (python,) = blocks("python")
    assert PORT_SHOWN in python
    with BrokerProcess(tmp_path / "data") as broker:
        shown = python.replace(PORT_SHOWN, broker.bootstrap).replace("idle_timeout_s=5", "idle_timeout_s=8")
        ran = subprocess.run(
            [sys.executable, "-c", shown], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    assert ran.returncode == 0, ran.stderr
    assert "RecordMetadata(topic='greetings', partition=0, offset=0" in ran.stdout
    assert "0 0 b'user-7' b'hello from Python'" in ran.stdout


def test_the_commands_of_the_readme_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README.read_text()))
def test_the_links_of_the_readme_lead_somewhere(link: str) -> None:
    assert link.startswith("https://") or (README.parent / link).exists()
