"""A member of a group that falls asleep holding partitions, and commits as soon as it is awake again.

    python -m tests.support.sleeper ENDPOINT GROUP TOPIC HISTORY

It joins, reads something, stops itself with SIGSTOP, and after SIGCONT commits before it does anything
else. The last line of its output is what the broker said: an error's name, or the offsets that were taken.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tests.support.groupmember import GroupMember, Refused


def main() -> None:
    """The whole life of it."""
    endpoint, group, topic, history = sys.argv[1:]
    path = Path(history)
    member = GroupMember(endpoint, group, topic, path)
    while not member._positions:
        member._beat()
    while not member._read():
        member._beat()
    os.kill(os.getpid(), signal.SIGSTOP)
    try:
        member._commit(set(member._positions))
    except Refused as refused:
        print(refused)
        return
    taken = [event for line in path.read_text().splitlines() if (event := json.loads(line))[1] == "committed"]
    print(taken[-1][4])


if __name__ == "__main__":
    main()
