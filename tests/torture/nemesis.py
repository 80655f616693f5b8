"""The nemesis: kills, stops and restarts processes of a running broker and of its clients."""

from __future__ import annotations

import random
import signal
import threading
import time

import psutil  # type: ignore[import-untyped]

from tests.support.broker import BrokerFailed, BrokerProcess, wait_gone
from tests.support.checker.history import Journal
from tests.torture.options import CLIENT_ROLES, TOPIC, TortureOptions
from tests.torture.workers import Workers

ORPHANS_TIMEOUT_S = 10.0


class Nemesis:
    """One fault at a time, decided by dice; what it did stands in the history."""

    def __init__(
        self, options: TortureOptions, broker: BrokerProcess, workers: Workers, journal: Journal
    ) -> None:
        self._options, self._broker, self._workers, self._journal = options, broker, workers, journal
        self._dice = random.Random(options.seed)
        self._faults = options.faults()
        self.injected = 0
        self.orphan_s_max = 0.0
        """The longest that a child outlived a killed supervisor."""

    @property
    def has_faults(self) -> bool:
        return bool(self._faults)

    @property
    def is_done(self) -> bool:
        """Whether it has injected all that it may."""
        return self.injected >= self._options.faults_max

    def wait_s(self) -> float:
        """How long to leave the broker in peace."""
        return self._dice.uniform(*self._options.fault_interval_s)

    def strike(self) -> None:
        """One fault, over when this returns: what was stopped runs again, what was killed is started."""
        kind, role = self._dice.choice(self._faults)
        pause_s = self._dice.uniform(*self._options.pause_s)
        if kind == "restart":
            self._broker.restart()
        elif role == "supervisor":
            self._strike_supervisor(kind, pause_s)
        elif role in CLIENT_ROLES:
            self._strike_client(kind, role, pause_s)
        else:
            self._strike_child(kind, role, pause_s)
        self.injected += 1
        self._journal.note("ok", "fault", detail=f"{kind} {role}")

    def _strike_supervisor(self, kind: str, pause_s: float) -> None:
        if kind == "pause":
            _pause(psutil.Process(self._broker.pid), pause_s)
            return
        tree = self._broker.tree()
        self._broker.kill()
        killed_s = time.monotonic()
        left = wait_gone(tree, ORPHANS_TIMEOUT_S)
        if left:
            raise BrokerFailed(f"{left} outlived a killed supervisor by {ORPHANS_TIMEOUT_S:g} s")
        self.orphan_s_max = max(self.orphan_s_max, time.monotonic() - killed_s)
        self._broker.start()

    def _strike_client(self, kind: str, role: str, pause_s: float) -> None:
        clients = self._workers.of_role(role)
        if not clients:
            return
        client = self._dice.choice(clients)
        if kind == "kill":
            self._workers.replace(client)
        else:
            _pause(psutil.Process(client.process.pid), pause_s)

    def _strike_child(self, kind: str, role: str, pause_s: float) -> None:
        title = {
            "partition": f"partition {TOPIC}-{self._dice.randrange(self._options.partitions)}",
            "router": "router 0",
            "gateway": f"gateway {self._dice.randrange(max(1, self._options.gateways))}",
            "coordinator": "coordinator",
        }[role]
        try:
            child = self._broker.child(title)
            if kind == "kill":
                child.send_signal(signal.SIGKILL)
            else:
                _pause(child, pause_s)
        except (BrokerFailed, psutil.NoSuchProcess):
            return  # the fault before has not healed yet


def _pause(process: psutil.Process, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after a while; what was killed meanwhile stays dead."""
    try:
        process.suspend()
        threading.Event().wait(seconds)
    finally:
        if process.is_running():
            process.resume()
