"""The `odradek` command without a broker: help, usage, exit codes, output."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from odradek.cli import __main__ as command
from odradek.cli import extensions
from odradek.cli.output import Column, human_bytes, human_duration, human_timestamp, printable

COMMANDS = (
    ["status"],
    ["topic", "create"],
    ["topic", "list"],
    ["topic", "describe"],
    ["topic", "alter"],
    ["topic", "delete"],
    ["produce"],
    ["consume"],
    ["group", "list"],
    ["group", "describe"],
    ["group", "delete"],
)
NOBODY = "tcp://127.0.0.1:1"
COLUMNS_MAX = 80


def odradek(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "odradek.cli", *words], input=stdin, capture_output=True, timeout=60
    )


def run_main(words: Sequence[str]) -> int:
    """The exit code of the command, in this process."""
    try:
        return command.main(words)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_shows_how_to_call_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = run_main([*words, "--help"])

    out = capsys.readouterr().out
    assert code == 0
    examples = [line.strip() for line in out[out.index("Example") :].splitlines()[1:] if line.strip()]
    assert any(" ".join(["odradek", *words]) in example for example in examples)
    assert all("odradek" in example for example in examples)
    assert max(map(len, out.splitlines())) <= COLUMNS_MAX


def test_the_help_of_the_whole_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(["--help"]) == 0

    out = capsys.readouterr().out
    for name in ("supervisor", "status", "topic", "produce", "consume", "group", "demo"):
        assert f"\n  {name} " in out


@pytest.mark.parametrize("words", [["nonsense"], ["topic", "create"], ["consume"], ["status", "--nonsense"]])
def test_a_wrong_command_line_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(words) == 2
    assert "Usage: odradek" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["consume", "t", "--offset", "x"], "'x' is not an offset"),
        (["consume", "t", "--since", "x"], "'x' is not a time"),
        (["consume", "t", "--offset", "1", "--from-beginning"], "give one"),
        (["consume", "t", "--group", "g", "--offset", "1"], "--offset goes without --group"),
        (["consume", "t", "--group", "g", "--partition", "1"], "--partition goes without --group"),
        (["produce", "t", "--json", "--key-separator", ":"], "--json says it all"),
        (["produce", "t", "--key-separator", ""], "--key-separator is empty"),
        (["topic", "alter", "t"], "nothing to change"),
        (["topic", "create", "t", "--config", "x"], "'x' is not name=value"),
        (["produce", "t", "--header", "=x"], "'=x' is not name=value"),
        (["status", "--bootstrap", "udp://x"], "udp:// is unknown"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_contradicts_itself_says_so_before_a_broker_is_asked(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(words) == 2
    assert complaint in capsys.readouterr().err


def test_a_bad_topic_name_is_said_before_anything_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(["produce", "bad/name", "--bootstrap", NOBODY]) == 2
    assert "'bad/name' is not a topic name" in capsys.readouterr().err


def test_deleting_without_anybody_to_ask_needs_yes() -> None:
    done = odradek("topic", "delete", "events")

    assert done.returncode == 2
    assert b"needs --yes" in done.stderr


@pytest.mark.parametrize(
    "words",
    [["status"], ["topic", "list", "--json"], ["consume", "t"], ["produce", "t"], ["group", "describe", "g"]],
    ids=" ".join,
)
def test_no_broker_is_one_line_that_says_what_to_do(words: list[str]) -> None:
    done = odradek(*words, "--bootstrap", NOBODY, stdin=b"hello\n")

    assert done.returncode == 3
    assert done.stdout == b""
    assert done.stderr.decode() == f"odradek: no broker at {NOBODY}: start one with `odradek supervisor`\n"


def test_the_bootstrap_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODRADEK_BOOTSTRAP", "127.0.0.1:2")

    done = odradek("status")

    assert done.returncode == 3
    assert b"no broker at tcp://127.0.0.1:2:" in done.stderr


@contextmanager
def silent_listener() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_listener_that_is_no_broker_is_told_apart() -> None:
    with silent_listener() as port:
        done = odradek("status", "--bootstrap", f"tcp://127.0.0.1:{port}")

    assert done.returncode == 3
    assert b"does not answer as a broker does" in done.stderr


# -- extensions ------------------------------------------------------------------------------------


def test_an_extension_gets_all_arguments_and_gives_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[list[str]] = []

    def extension(args: list[str]) -> int:
        got.append(args)
        return 7

    monkeypatch.setattr(extensions, "load_extension", lambda name: extension)

    assert command.main(["demo", "--help", "--", "-x", "--json"]) == 7
    assert got == [["--help", "--", "-x", "--json"]]


@pytest.mark.parametrize("name", ["supervisor", "demo"])
def test_without_the_broker_its_commands_say_how_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extensions, "entry_points", lambda group: ())

    assert command.main([name, "--port", "0"]) == 1
    assert "pip install odradek-broker" in capsys.readouterr().err


def test_without_typer_the_command_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)

    assert command.main(["status"]) == 1
    assert (
        capsys.readouterr().err == "odradek: the command needs typer and rich: pip install 'odradek[cli]'\n"
    )


def test_an_extension_runs_without_typer_rich_and_the_sdk() -> None:
    program = (
        "import sys; from odradek.cli import __main__, extensions\n"
        "extensions.load_extension = lambda name: lambda args: 0\n"
        "__main__.main(['supervisor'])\n"
        "print(sorted({'typer', 'rich', 'aiokafka', 'zmq', 'asyncio'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)

    assert done.stdout == b"[]\n"


def test_help_loads_neither_the_sdk_nor_rich() -> None:
    program = (
        "import sys; from odradek.cli.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'rich', 'aiokafka', 'zmq'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)

    assert done.stdout.endswith(b"\n[]\n")


# -- output ----------------------------------------------------------------------------------------

TABLE_PROGRAM = """
from odradek.cli.output import Column, print_json, print_table
rows = [["a" * 100, "7"], ["b\\x1b[31m", "12,000"]]
print_table([Column("Name"), Column("Lag", "right")], rows, title="Groups")
print_json([{"a": 1}])
"""


def on_a_terminal(program: str, columns: int) -> str:
    """What a program writes when stdout is a terminal of so many columns."""
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=child, env=environment)
    os.close(child)
    chunks: list[bytes] = []

    def read() -> None:
        while True:
            try:
                chunk = os.read(parent, 4096)
            except OSError:
                return
            if not chunk:
                return
            chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    assert process.wait(60) == 0
    reader.join(60)
    os.close(parent)
    return b"".join(chunks).decode()


def test_a_piped_table_is_plain_and_keeps_every_cell_whole() -> None:
    done = subprocess.run([sys.executable, "-c", TABLE_PROGRAM], capture_output=True, timeout=60, check=True)

    lines = done.stdout.decode().splitlines()
    assert lines[0] == "Groups"
    assert lines[1].split() == ["Name", "Lag"]
    assert lines[2].split() == ["a" * 100, "7"]
    assert lines[3].split() == ["b\\x1b[31m", "12,000"]
    assert lines[2].endswith("     7")
    assert json.loads(lines[4]) == [{"a": 1}]


def test_a_table_on_a_terminal_fits_it_and_cells_cannot_steer_it() -> None:
    written = on_a_terminal(TABLE_PROGRAM, COLUMNS_MAX)

    assert written.count("a") >= 100
    assert "b\\x1b[31m" in written
    assert "\x1b[1m" in written, "titles are bold"
    plain = written.replace("\r", "").replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[1;3m", "")
    assert max(map(len, plain.splitlines())) <= COLUMNS_MAX
    assert '[\n  {\n    "a": 1\n  }\n]' in plain


STATUS_PROGRAM = """
from odradek.cli import status
from odradek.cli.output import print_table
from odradek.protocol.messages import ActorStatus
def actor(name, role):
    return ActorStatus(name=name, role=role, pid=4123456, state="backing-off", restarts=12, uptime_s=360000.0,
                       pss_bytes=123_400_000, cpu_percent=100.0)
actors = [actor("supervisor", "supervisor"), actor("router:0", "router"), actor("coordinator", "coordinator"),
          actor("partition:" + "t" * 60 + "-0", "partition")]
print_table(status.COLUMNS, [status._row(each) for each in actors])
"""


def test_a_narrow_terminal_folds_neither_names_of_roles_nor_numbers() -> None:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(STATUS_PROGRAM, COLUMNS_MAX)).splitlines()
    for name in ("supervisor", "router:0", "coordinator"):
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert line.split() == [name, "4123456", "backing-off", "12", "4d04h", "123.4", "MB", "100%"]
    assert max(map(len, lines)) <= COLUMNS_MAX
    folded = lines[lines.index(line) + 1 :]  # the last one's name: over several lines, and whole
    assert "".join(line.split()[0] for line in folded if line.strip()) == "t" * 60 + "-0"


NUMBERS_PROGRAM = """
from odradek.cli.output import Column, print_table
titles = [Column("")] + [Column("records per second", "right")] * 8
print_table(titles, [[name] + ["1,234,567"] * 8 for name in ("produce", "consume")])
"""


def test_numbers_that_fill_a_terminal_do_not_push_names_out() -> None:
    written = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal(NUMBERS_PROGRAM, COLUMNS_MAX))
    for name in ("produce", "consume"):
        (line,) = [line for line in written.splitlines() if line.split()[:1] == [name]]
        assert line.split() == [name, *["1,234,567"] * 8]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (5_600_000, "5.6 MB"),
        (7 * 10**12, "7.0 TB"),
    ],
)
def test_sizes_for_people(size_bytes: int | None, text: str) -> None:
    assert human_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [(0.04, "0.0s"), (59.94, "59.9s"), (187, "3m07s"), (18_720, "5h12m"), (9 * 86_400 + 4 * 3600, "9d04h")],
)
def test_durations_for_people(duration_s: float, text: str) -> None:
    assert human_duration(duration_s) == text


def test_times_for_people() -> None:
    assert human_timestamp(0) == "1970-01-01T00:00:00.000+00:00"
    assert human_timestamp(None) == human_timestamp(-1) == "-"
    assert human_timestamp(2**62) == str(2**62)


def test_printable_text_keeps_letters_and_spells_out_controls() -> None:
    assert printable("Zoë\t\x07\n\x9b") == "Zoë\t\\x07\\x0a\\x9b"
    assert Column("a").justify == "left"


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("odradek 0.")


def test_a_reader_that_goes_away_leaves_no_traceback() -> None:
    script = f"{sys.executable} -m odradek.cli --help | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, timeout=60)

    assert done.stderr == b""
    assert done.returncode in (0, 1, 141)
