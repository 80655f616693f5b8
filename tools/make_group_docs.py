"""Writes ``docs/groups.md``: how groups work, with diagrams drawn from the tables of transitions.

The prose is ``tools/templates/groups.md``; ``{{name}}`` there is replaced by what this module draws.
With ``--check`` nothing is written, and the exit code is 1 where the page is stale.
"""

from __future__ import annotations

import argparse
import enum
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

StateT = TypeVar("StateT", bound=enum.Enum)
StepT = TypeVar("StepT", bound=enum.Enum)
PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from actors import (  # noqa: E402
    classic_requests,
    classic_states,
    coordinator,
    group_states,
    members,
    membership,
    patterns,
    state,
)
from odradek.protocol import names  # noqa: E402
from supervisor.settings import SETTINGS  # noqa: E402

TEMPLATE = PROJECT / "tools" / "templates" / "groups.md"
PAGE = PROJECT / "docs" / "groups.md"


def page() -> str:
    """The text of ``docs/groups.md``."""
    options = coordinator.CoordinatorOptions(new_id=str)
    values = {
        "group_diagram": diagram(group_states.GROUP_TRANSITIONS, group_states.GroupState.EMPTY),
        "member_diagram": diagram(members.TRANSITIONS, members.MemberState.JOINING),
        "classic_diagram": diagram(classic_states.CLASSIC_TRANSITIONS, classic_states.ClassicState.EMPTY),
        "groups_max": f"{state.GROUPS_MAX:,}",
        "members_max": f"{membership.MEMBERS_PER_GROUP_MAX:,}",
        "patterns_max": str(membership.PATTERNS_PER_GROUP_MAX),
        "pattern_characters_max": str(patterns.PATTERN_CHARACTERS_MAX),
        "group_name_bytes_max": str(names.GROUP_NAME_BYTES_MAX),
        "session_timeout": f"{options.session_timeout_ms / 1000:g} s",
        "initial_delay": f"{SETTINGS['group_initial_rebalance_delay_s'].default:g} s",
        "session_min": f"{classic_requests.SESSION_TIMEOUT_MS_MIN // 1000} s",
        "session_max": f"{classic_requests.SESSION_TIMEOUT_MS_MAX // 60_000} minutes",
        "metadata_max": str(classic_requests.METADATA_BYTES_MAX >> 10),
        "assignment_max": str(classic_requests.ASSIGNMENT_BYTES_MAX >> 10),
        "classic_max": str(classic_requests.CLASSIC_BYTES_MAX >> 20),
        "retention_days": f"{options.offsets_retention_minutes / 60 / 24:g} days",
        "pattern_syntax": _pattern_syntax(),
    }
    text = TEMPLATE.read_text()
    unknown = set(re.findall(r"{{(\w+)}}", text)) ^ values.keys()
    if unknown:
        raise LookupError(f"template and tool disagree on {', '.join(sorted(unknown))}")
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def diagram(table: Mapping[tuple[StateT, StepT], StateT], first: StateT) -> str:
    """A table of transitions as a Mermaid state diagram; steps between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, step), after in table.items():
        arrows.setdefault((_title(before), _title(after)), []).append(str(step.value))
    left = {before for before, _ in table}
    last = sorted({_title(after) for after in table.values() if after not in left})
    return "\n".join(
        [
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {_title(first)}",
            *(f"    {before} --> {after}: {', '.join(steps)}" for (before, after), steps in arrows.items()),
            *(f"    {state} --> [*]" for state in last),
            "```",
        ]
    )


def _title(state: enum.Enum) -> str:
    return str(state.value)


def _pattern_syntax() -> str:
    """The indented table in the head of ``actors.patterns``."""
    lines = (patterns.__doc__ or "").splitlines()
    return "\n".join(["```", *(line[4:] for line in lines if line.startswith("    ")), "```"])


def main(arguments: list[str] | None = None) -> int:
    """0 where the page was written or is fresh, 1 where ``--check`` found it stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    checks = parser.parse_args(arguments).check
    if not checks:
        PAGE.write_text(page())
        return 0
    if PAGE.exists() and PAGE.read_text() == page():
        return 0
    sys.stderr.write(f"{PAGE.relative_to(PROJECT)} is stale; run tools/make_group_docs.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
