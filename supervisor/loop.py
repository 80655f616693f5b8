"""The supervisor's loop: waits for messages, ends of processes and signals, and performs effects.

A signal handler only wakes the loop. One process is started a turn, so that hundreds of starts keep
nobody waiting. Nothing here blocks for longer than the disk takes to make the catalogue durable: what
takes longer (freed files, the memory of every process) has a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from odradek.protocol.errors import ThrottlingQuotaExceeded
from odradek.protocol.messages import failure
from supervisor.ballastkeeper import BallastKeeper
from supervisor.datadirectory import DataDirectory
from supervisor.effects import (
    Effect,
    KillChild,
    Note,
    Respond,
    RespondStatus,
    TellChild,
    UnlinkDiscarded,
    UnlinkSockets,
)
from supervisor.entry import enter_child
from supervisor.exits import Exit
from supervisor.keydirectory import LOOK_INTERVAL_S, KeysUnusable, KeyWatch
from supervisor.logs import EventLog
from supervisor.overseer import Overseer
from supervisor.privacy import NotPrivate
from supervisor.processes import Process, ProcessStarter
from supervisor.rundirectory import RunDirectory
from supervisor.specs import SpecWriter
from supervisor.statuses import STATUSES_WAITING_MAX, StatusSampling
from transport.control import ControlServer

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
WAIT_S_MAX = 60.0
_WAKEUP_BYTES = 4_096


class SignalInbox:
    """Signals as numbers in a pipe: ``fd`` becomes readable, ``take`` says which."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Takes the stop signals until the end of the block."""
        former = {number: signal.signal(number, _ignore) for number in STOP_SIGNALS}
        former_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(former_fd)
            for number, handler in former.items():
                signal.signal(number, handler)

    def take(self) -> list[signal.Signals]:
        """The stop signals that came since the last call."""
        try:
            numbers = os.read(self.fd, _WAKEUP_BYTES)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in numbers if number in STOP_SIGNALS]


def _ignore(_number: int, _frame: object) -> None:
    """The wake-up descriptor has the number already."""


class Announcement:
    """The ready file: tells programs where the broker listens, once everything serves."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def check(self) -> None:
        """Removes the file of a former broker and proves that a new one can be written. Raises OSError."""
        if self._path is not None:
            self.withdraw()
            fresh = self._fresh(self._path)
            fresh.touch()
            fresh.unlink()

    def publish(self, routers: list[str], gateways: list[str]) -> None:
        """Writes it whole or not at all. Raises OSError."""
        if self._path is None:
            return
        document = {
            "router": routers[0],
            "kafka": next(iter(gateways), None),
            "http": None,
            "pid": os.getpid(),
            "routers": routers,
            "gateways": gateways,
        }
        fresh = self._fresh(self._path)
        fresh.write_text(json.dumps(document) + "\n")
        fresh.replace(self._path)

    @staticmethod
    def _fresh(path: Path) -> Path:
        return path.with_name(f"{path.name}.{os.getpid()}.tmp")

    def withdraw(self) -> None:
        """A broker that does not serve has no ready file. Raises OSError."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Discarder:
    """Frees the space of deleted topics, in a thread of its own that lives as long as there is work."""

    def __init__(self, data: DataDirectory, log: EventLog) -> None:
        self._data = data
        self._log = log
        self._again = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is something to unlink. What a running pass misses the next one finds."""
        self._again.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="discarder", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while self._again.is_set():
            self._again.clear()
            try:
                self._data.unlink_discarded()
            except OSError as error:
                self._log.write("warning", "deleted files are still there", {"reason": str(error)})


class Supervisor:
    """The shell around one overseer."""

    def __init__(
        self,
        overseer: Overseer,
        specs: SpecWriter,
        starter: ProcessStarter,
        control: ControlServer,
        run: RunDirectory,
        data: DataDirectory,
        announcement: Announcement,
        keeper: BallastKeeper,
        log: EventLog,
        *,
        watch: KeyWatch | None = None,
    ) -> None:
        self._overseer = overseer
        self._specs = specs
        self._starter = starter
        self._control = control
        self._run_directory = run
        self._discarder = Discarder(data, log)
        self._announcement = announcement
        self._keeper = keeper
        self._watch = watch
        self._announced = False
        self._log = log
        self._processes: dict[tuple[str, int], Process] = {}
        self._watched: dict[int, tuple[str, int]] = {}
        """Which process a descriptor tells of."""
        self._statuses = StatusSampling()
        self._signals = SignalInbox()

    def run(self) -> Exit:
        """Until the broker has ended; the exit code says why."""
        with self._signals.listen():
            self._control.watch(self._signals.fd)
            self._control.watch(self._statuses.fd)
            self._overseer.start()
            self._perform()
            while not self._overseer.finished:
                self._turn()
        for process in self._processes.values():
            process.kill()
        assert self._overseer.exit is not None
        return self._overseer.exit

    def _turn(self) -> None:
        wait_s = 0.0 if self._overseer.has_spawns else self._overseer.deadline() - time.monotonic()
        envelopes, readable = self._control.wait(min(max(wait_s, 0.0), self._wait_s_max))
        now_s = time.monotonic()
        for envelope in envelopes:
            self._overseer.receive(envelope, now_s)
        for fd in readable:
            if fd in self._watched:
                self._reap(fd, now_s)
        for to, reply in self._statuses.take():
            self._control.reply(to, reply)
        for number in self._signals.take():
            self._obey(number, now_s)
        self._look_at_keys(now_s)
        self._spawn(now_s)
        self._overseer.tick(now_s)
        self._overseer.settle(now_s)
        self._perform()
        self._announce()

    @property
    def _wait_s_max(self) -> float:
        return WAIT_S_MAX if self._watch is None else LOOK_INTERVAL_S

    def _look_at_keys(self, now_s: float) -> None:
        """Tell routers whose keys are on the list now; a list that cannot be used changes nothing."""
        if self._watch is None:
            return
        try:
            clients = self._watch.look(now_s)
        except (KeysUnusable, NotPrivate, OSError) as error:
            self._log.write("error", "keys not taken", {"reason": f"{error}; the former list holds"})
            return
        if clients is not None:
            self._log.write("info", "keys changed", {"clients": len(clients.clients)})
            self._overseer.admit(clients)

    def _obey(self, number: signal.Signals, now_s: float) -> None:
        if self._overseer.exit is None:
            self._overseer.terminate(Exit.OK, f"signal {number.name}", now_s)
        else:
            self._overseer.kill_all(now_s)

    def _reap(self, fd: int, now_s: float) -> None:
        key = self._watched.pop(fd)
        process = self._processes[key]
        self._control.unwatch(fd)
        ended = process.poll()
        if ended is None:
            self._watch_process(key, process)  # by another descriptor: the fork server is gone
            return
        del self._processes[key]
        self._run_directory.forget(process.pid)
        self._overseer.died(*key, ended.exit_code, now_s)

    def _watch_process(self, key: tuple[str, int], process: Process) -> None:
        self._watched[process.fd] = key
        self._control.watch(process.fd)

    def _spawn(self, now_s: float) -> None:
        order = self._overseer.next_spawn()
        if order is None:
            return
        try:
            process = self._starter.start(enter_child, self._specs.write(order))
        except (OSError, EOFError) as error:
            self._overseer.spawn_failed(order.name, f"no process could be started: {error!r}", now_s)
            return
        key = order.name, order.incarnation
        self._processes[key] = process
        self._watch_process(key, process)
        self._run_directory.remember(process.pid)
        self._overseer.spawned(order.name, process.pid, time.monotonic())

    def _announce(self) -> None:
        if self._overseer.exit is not None and self._announced:
            self._announced = False
            self._announcement.withdraw()
        elif self._overseer.exit is None and not self._announced and self._overseer.ready:
            self._announced = True
            routers, gateways = self._overseer.routers, self._overseer.gateways
            self._announcement.publish(routers, gateways)
            self._log.write("info", "ready", {"routers": routers, "kafka": gateways})

    def _with_ballast(self, status: RespondStatus) -> RespondStatus:
        """What the supervisor's own row says of the disk."""
        own, *others = status.rows
        return replace(status, rows=(msgspec.structs.replace(own, reason=self._keeper.reason), *others))

    def _perform(self) -> None:
        for effect in self._overseer.take():
            self._perform_one(effect)

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case TellChild():
                if not self._control.tell(effect.name, effect.incarnation, effect.message):
                    self._overseer.undelivered(effect)
            case Respond():
                self._control.reply(effect.to, effect.reply)
            case RespondStatus():
                if not self._statuses.ask(self._with_ballast(effect)):
                    busy = f"{STATUSES_WAITING_MAX} requests for the status wait already; try again"
                    self._control.reply(effect.to, failure(ThrottlingQuotaExceeded(busy)))
            case KillChild():
                process = self._processes.get((effect.name, effect.incarnation))
                if process is not None:
                    process.kill()
            case UnlinkDiscarded():
                self._discarder.wake()
            case UnlinkSockets():
                self._run_directory.unlink_sockets(effect.name)
            case Note():
                self._log.write(effect.level, effect.event, effect.fields)
            case _:
                raise TypeError(f"unknown effect: {effect!r}")
