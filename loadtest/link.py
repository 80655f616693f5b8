"""Link: a client process's line to the process that started it: standard input and output."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from loadtest.words import End, Failed, Finished, FromClient, Go, Interval, to_client_decoder

REPORT_INTERVAL_S: Final = 0.5


class Link:
    """Says what the client has to say, and hears when to begin and to end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ended = threading.Event()
        """Set when the parent said so, and when it is gone."""

    def say(self, word: FromClient) -> None:
        """One line; safe from any thread."""
        line = msgspec.json.encode(word) + b"\n"
        with self._lock:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    def wait_for_go(self) -> int | None:
        """The nanosecond to begin at, or None where the parent ended first. From then on ``End`` is heard."""
        line = sys.stdin.buffer.readline()
        word = to_client_decoder.decode(line) if line else None
        if not isinstance(word, Go):
            return None
        threading.Thread(target=self._listen, daemon=True).start()
        return word.at_ns

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            if isinstance(to_client_decoder.decode(line), End):
                break
        self.ended.set()


class Reporter:
    """Says an Interval now and then."""

    def __init__(self, link: Link, take: Callable[[], Interval]) -> None:
        self._link = link
        self._take = take
        self._cpu_s = time.process_time()
        self._next_s = time.monotonic() + REPORT_INTERVAL_S

    def tick(self) -> None:
        """Report if it is time."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + REPORT_INTERVAL_S
            self.report()

    def report(self) -> None:
        """Report now."""
        interval = self._take()
        before, self._cpu_s = self._cpu_s, time.process_time()
        interval.cpu_s = self._cpu_s - before
        self._link.say(interval)

    def finish(self, sent: int = 0) -> None:
        """The rest, and the last word."""
        self.report()
        self._link.say(Finished(sent=sent))


def fail(link: Link, error: BaseException) -> None:
    """Tell the parent why this process ends."""
    link.say(Failed(reason=f"{type(error).__name__}: {error}"))
