"""``python -m supervisor``: settings, then the broker, then its exit code."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import supervisor.crc32c_alone  # noqa: F401  # before anything that imports crc32c
from supervisor.configuration import SettingsError, load_settings, unknown_variables
from supervisor.exits import BROKER_EXITS, Exit
from supervisor.setting import Setting
from supervisor.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from supervisor.processes import ProcessStarter

EXAMPLE = "example:\n  odradek supervisor --data ./odradek-data --port 5559\n"


def build_parser(program: str) -> argparse.ArgumentParser:
    """A flag for each setting, and those that concern one start only."""
    exits = "\n".join(f"  {code.value:>2}  {code.meaning}" for code in BROKER_EXITS)
    sources = (
        "Each setting is taken from its flag, else from the environment (ODRADEK_ and its name in capitals), "
        "else\nfrom odradek.toml, else it is the default."
    )
    parser = argparse.ArgumentParser(
        prog=program,
        description="Run a broker: the supervisor and every process it watches, in the foreground.",
        epilog=f"{sources}\n\n{EXAMPLE}\nexit codes:\n{exits}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings file (default: ./odradek.toml if there)"
    )
    parser.add_argument(
        "--ready-file",
        type=Path,
        metavar="FILE",
        help="written when everything serves: JSON with router, kafka, http (null: no such listener) and pid",
    )
    for setting in SETTINGS.values():
        _add_flag(parser, setting)
    return parser


def _add_flag(parser: argparse.ArgumentParser, setting: Setting) -> None:
    unit = f", {setting.unit}" if setting.unit else ""
    text = f"{setting.doc} (default: {str(setting.default).lower()}{unit})".replace("%", "%%")
    if setting.kind == "bool":
        parser.add_argument(
            setting.flag, dest=setting.name, action=argparse.BooleanOptionalAction, default=None, help=text
        )
    else:
        parser.add_argument(setting.flag, dest=setting.name, metavar=setting.kind.upper(), help=text)


def main(args: list[str] | None = None) -> int:
    """Runs the broker; the exit code. ``args`` without the program's name."""
    parsed = vars(build_parser("odradek supervisor").parse_args(args))
    config, ready_file = parsed.pop("config"), parsed.pop("ready_file")
    flags = {name: value for name, value in parsed.items() if value is not None}
    try:
        settings = load_settings(flags, os.environ, config)
    except SettingsError as error:
        for problem in error.problems:
            _complain(problem)
        return Exit.SETTINGS
    return _run(settings, ready_file)


def _run(settings: Settings, ready_file: Path | None) -> int:
    from supervisor.processes import PlatformUnsupported, ProcessStarter  # noqa: PLC0415  # --help stays quick

    try:
        starter = ProcessStarter()
    except PlatformUnsupported as error:
        _complain(str(error))
        return Exit.SETTINGS
    # The fork server needs longer for its imports than this process for all that comes before the first
    # child, so it begins first; it touches no file. Where the broker may not start, it ends at once.
    starter.warm_up(partitions_max=settings.partitions_max)
    try:
        return _run_with(starter, settings, ready_file)
    finally:
        starter.close()


def _run_with(starter: ProcessStarter, settings: Settings, ready_file: Path | None) -> int:
    from supervisor.broker import StartRefused, run_broker  # noqa: PLC0415  # the fork server begins first
    from supervisor.logs import EventLog  # noqa: PLC0415

    # Decided once, here, for every process: they share one stderr.
    settings = replace(settings, log_json=settings.log_json or not sys.stderr.isatty())
    log = EventLog("supervisor", settings.log_level, json=settings.log_json)
    for sentence in unknown_variables(os.environ):
        log.write("warning", "setting ignored", {"reason": sentence})
    try:
        return run_broker(settings, ready_file, log, starter)
    except StartRefused as refused:
        _complain(str(refused))
        return refused.exit_code
    except Exception as error:
        log.write("error", "crashed", {"error": repr(error), "trace": traceback.format_exc()})
        return Exit.CRASHED


def _complain(sentence: str) -> None:
    sys.stderr.write(f"odradek supervisor: {sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
