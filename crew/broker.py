"""A broker of the command's own: `python -m supervisor` on a free port, ended when the command ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import msgspec

READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.02
STOP_TIMEOUT_S = 20.0
LOG_LINES_SHOWN = 10
ENVIRONMENT_PREFIX = "ODRADEK_"


class BrokerError(RuntimeError):
    """The broker did not start, or did not end as it should; the message carries its last log lines."""


class Ready(msgspec.Struct, frozen=True):
    """What the broker says when it serves."""

    router: str


class OwnBroker:
    """A broker on a data directory. `work` is a directory for its log and ready file.

    The user's own settings (`ODRADEK_*`, `odradek.toml`) do not reach it: what a command shows is the same
    everywhere.
    """

    def __init__(self, data: Path, work: Path) -> None:
        self._data = data.absolute()
        self._work = work
        self._ready_file = work / "ready.json"
        self._log_file = work / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it; returns the router's endpoint once everything serves. Raises BrokerError."""
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._work,
                env={k: v for k, v in os.environ.items() if not k.startswith(ENVIRONMENT_PREFIX)},
                start_new_session=True,  # Ctrl-C is for the command, which then stops the broker in order
            )
        return self._wait_until_ready(self._process)

    def stop(self) -> None:
        """End it in order. Raises BrokerError where it had to be killed or ended with an error."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise BrokerError(
                self._story(f"the broker did not end within {STOP_TIMEOUT_S:.0f} s; it was killed")
            ) from None
        if code != 0:
            raise BrokerError(self._story(f"the broker ended with code {code}"))

    def __enter__(self) -> OwnBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except BrokerError:
            if error is None:
                raise
            error.add_note("the broker, too, did not end in order")

    def _command(self) -> list[str]:
        flags = ["--port", "0", "--kafka-port", "0", "--http-port", "0"]
        files = ["--data", str(self._data), "--ready-file", str(self._ready_file)]
        # -P: a directory that is called `supervisor` where the user happens to be is not the broker.
        return [sys.executable, "-P", "-m", "supervisor", *files, *flags]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> str:
        give_up_at = time.monotonic() + READY_TIMEOUT_S
        while not self._ready_file.exists():
            try:
                code = process.wait(READY_POLL_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > give_up_at:
                    raise BrokerError(
                        self._story(f"the broker was not ready within {READY_TIMEOUT_S:.0f} s")
                    ) from None
                continue
            raise BrokerError(self._story(f"the broker did not start: it ended with code {code}"))
        return msgspec.json.decode(self._ready_file.read_bytes(), type=Ready).router

    def _story(self, what: str) -> str:
        lines = self._log_file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([what, "its last log lines:", *(f"  {line}" for line in lines)])
