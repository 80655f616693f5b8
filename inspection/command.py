"""`odradek log dump|stat|verify`: the arguments, the output, the exit codes.

| code | what happened |
|---|---|
| 0 | it worked, and what was looked at is sound |
| 1 | damage was found, or a repair could not be made |
| 2 | the command line, or the path in it, is wrong |
| 130, 141 | interrupted (Ctrl-C), the reader of the output went away |
"""

# ruff: noqa: PLC0415  # imported late, so that help comes at once

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inspection.places import DataPlace, PartitionPlace

SOUND = 0
DAMAGED = 1
USAGE = 2
INTERRUPTED = 130
READER_GONE = 141
DATA_DEFAULT = Path("./odradek-data")

_DESCRIPTION = """\
Look inside the log files of a broker, running or stopped. A PATH is a data directory (default
./odradek-data), the directory of one partition, or, for dump, a .log, .index or .timeindex file.
Exit codes: 0 sound, 1 damage found, 2 wrong usage.
"""
_EXAMPLES = """\
Examples:
  odradek log stat ./odradek-data
  odradek log dump ./odradek-data/events-0 --records --from-offset 100 --to-offset 120
  odradek log verify ./odradek-data --topic events --json
"""


def log(args: list[str]) -> int:
    """Run the command with command-line arguments; returns the exit code."""
    options = _parser().parse_args(args)
    from inspection.places import NotALog
    from inspection.repair import CannotRepair
    from odradek.protocol.errors import OdradekError

    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except NotALog as error:
        return _complain(str(error), USAGE)
    except (CannotRepair, OdradekError) as error:
        return _complain(str(error), DAMAGED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


log.help = "Look inside log files: dump, stat, verify, repair."  # type: ignore[attr-defined]


def _complain(message: str, code: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"odradek log: {message}\n")
    return code


# -- dump --------------------------------------------------------------------------------------------


def _dump(options: argparse.Namespace) -> int:
    from inspection import dump, output
    from inspection.files import ReadOnlyFiles
    from inspection.places import DataPlace, PartitionPlace, resolve

    place, files = resolve(options.path), ReadOnlyFiles()
    if isinstance(place, DataPlace):
        names = ", ".join(partition.name for partition in place.partitions) or "none"
        return _complain(f"{options.path} is a whole data directory; name one partition of: {names}", USAGE)
    directory = place.directory if isinstance(place, PartitionPlace) else place.path.parent
    wanted = dump.DumpOptions(
        options.from_offset, options.to_offset, options.records, dump.is_coordinator(directory)
    )
    if isinstance(place, PartitionPlace):
        items = dump.dump_partition(files, place, wanted)
    elif place.kind == "log":
        items = dump.dump_segment(files, place.path, place.base_offset, wanted)
    else:
        items = dump.dump_index(files, place)
    return output.write_items(items, as_json=options.json)


# -- stat and verify ---------------------------------------------------------------------------------


def _stat(options: argparse.Namespace) -> int:
    from inspection import output
    from inspection.files import ReadOnlyFiles
    from inspection.stat import stat

    place, partitions = _partitions(options)
    files = ReadOnlyFiles()
    stats = [stat(files, partition) for partition in partitions]
    output.write_stats(stats, place, as_json=options.json)
    return SOUND if all(each.sound for each in stats) else DAMAGED


def _verify(options: argparse.Namespace) -> int:
    from inspection import output
    from inspection.files import ReadOnlyFiles
    from inspection.verify import verify

    if options.repair:
        return _repair(options)
    if options.topic_id is not None:
        return _complain("--topic-id is for --repair only", USAGE)
    _, partitions = _partitions(options)
    files, sound = ReadOnlyFiles(), True
    for partition in partitions:
        verdict = verify(files, partition, compacted=options.compacted)
        output.write_verdict(verdict, as_json=options.json)
        sound = sound and verdict.sound
    return SOUND if sound else DAMAGED


def _repair(options: argparse.Namespace) -> int:
    from inspection import output
    from inspection.places import DataPlace
    from inspection.repair import CannotRepair, broker_stopped, repair
    from odradek.protocol.errors import OdradekError

    place, partitions = _partitions(options)
    data_directory = place.directory if isinstance(place, DataPlace) else place.directory.parent
    sound = True
    with broker_stopped(data_directory):
        for partition in partitions:
            try:
                done = repair(
                    partition,
                    time.time_ns() // 1_000_000,
                    topic_id=options.topic_id,
                    compacted=options.compacted,
                )
            except (CannotRepair, OdradekError) as error:
                _complain(str(error), DAMAGED)
                sound = False
                continue
            output.write_repair(done, as_json=options.json)
            sound = sound and done.verdict.sound
    return SOUND if sound else DAMAGED


def _partitions(options: argparse.Namespace) -> tuple[DataPlace | PartitionPlace, list[PartitionPlace]]:
    from inspection.places import NotALog, SegmentPlace, partitions_of, resolve

    place = resolve(options.path)
    if isinstance(place, SegmentPlace):
        raise NotALog(f"{options.path} is one file; name its directory {place.path.parent}")
    return place, partitions_of(place, options.topic)


# -- arguments ---------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="odradek log",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_dump(commands)
    stat = _add(
        commands,
        "stat",
        "Offsets, segments, bytes, records, codecs and times of each partition.",
        ("odradek log stat", "odradek log stat ./odradek-data --topic events --json"),
    )
    stat.set_defaults(run=_stat)
    _add_topic(stat)
    _add_verify(commands)
    return parser


def _add_dump(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    dump = _add(
        commands,
        "dump",
        "Every batch, and with --records every record, of a partition or a segment; or an index.",
        (
            "odradek log dump ./odradek-data/events-0",
            "odradek log dump ./odradek-data/events-0 --records --from-offset 100 --to-offset 120",
            "odradek log dump ./odradek-data/__consumer_offsets-0 --records --json",
            "odradek log dump ./odradek-data/events-0/00000000000000000000.timeindex",
        ),
        path_needed=True,
    )
    dump.set_defaults(run=_dump)
    dump.add_argument("--records", action="store_true", help="show each batch's records, too")
    dump.add_argument("--from-offset", type=_offset, default=0, metavar="N", help="the first offset wanted")
    dump.add_argument("--to-offset", type=_offset, default=None, metavar="N", help="the last offset wanted")


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    verify = _add(
        commands,
        "verify",
        "Check every checksum, offset, index entry, epoch and name; --repair mends what can be mended.",
        (
            "odradek log verify",
            "odradek log verify ./odradek-data/events-0 --json",
            "odradek log verify ./odradek-data --topic events --repair",
        ),
    )
    verify.set_defaults(run=_verify)
    _add_topic(verify)
    verify.add_argument(
        "--compacted",
        action="store_true",
        help="gaps between offsets are no damage: Kafka's own compaction leaves some, Odradek's does not",
    )
    verify.add_argument(
        "--repair",
        action="store_true",
        help="the broker must be stopped: quarantine what is damaged, cut and set aside a torn end, build "
        "indexes anew; deletes nothing",
    )
    verify.add_argument(
        "--topic-id", metavar="ID", help="with --repair, where partition.metadata and catalogue are lost"
    )


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    sentence: str,
    examples: tuple[str, ...],
    *,
    path_needed: bool = False,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=sentence,
        description=sentence,
        epilog="\n".join(("Examples:", *(f"  {example}" for example in examples))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if path_needed:
        command.add_argument("path", type=Path, metavar="PATH", help="of a partition or one of its files")
    else:
        command.add_argument(
            "path",
            type=Path,
            nargs="?",
            default=DATA_DEFAULT,
            metavar="PATH",
            help=f"a data directory or a partition's (default ./{DATA_DEFAULT})",
        )
    command.add_argument("--json", action="store_true", help="JSON, one document a line")
    return command


def _add_topic(command: argparse.ArgumentParser) -> None:
    command.add_argument("--topic", metavar="NAME", help="only the partitions of this topic")


def _offset(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not an offset, a whole number from 0 on")
    return int(text)
