"""The supervisor's end of the control link, and the descriptors that it waits for beside it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from transport.control import ControlServer

WAIT_S = 30.0
FILES = 100


def test_of_many_descriptors_those_that_are_readable_or_hung_up_are_told(tmp_path: Path) -> None:
    control = ControlServer(f"ipc://{tmp_path}/control")
    pipes = [os.pipe() for _ in range(FILES)]
    for reading, _ in pipes:
        control.watch(reading)
    assert control.wait(0) == ([], [])
    os.write(pipes[3][1], b"x")
    os.close(pipes[7][1])
    assert sorted(control.wait(WAIT_S)[1]) == sorted([pipes[3][0], pipes[7][0]])
    control.unwatch(pipes[7][0])
    os.close(pipes[7][0])
    os.read(pipes[3][0], 1)
    assert control.wait(0) == ([], [])
    control.close()
    for number, (reading, writing) in enumerate(pipes):
        if number != 7:
            os.close(reading)
            os.close(writing)


def test_a_wait_ends_when_a_descriptor_becomes_readable(tmp_path: Path) -> None:
    control = ControlServer(f"ipc://{tmp_path}/control")
    reading, writing = os.pipe()
    control.watch(reading)
    os.write(writing, b"x")
    begun_s = time.monotonic()
    assert control.wait(WAIT_S)[1] == [reading]
    assert time.monotonic() - begun_s < WAIT_S
    control.close()
    os.close(reading)
    os.close(writing)
