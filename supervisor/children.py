"""A child: one name in the tree, whichever process bears it at the moment. Its states are a table.

Rule 1. A successor starts only after its predecessor was reaped: WAITING is reached again only through
        DEAD, and DEAD only through DIED.
Rule 2. A pair of state and event that the table lacks is an error of this program and says so.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.messages import COORDINATOR, gateway_address, partition_address, router_address
from odradek.protocol.errors import WireError
from supervisor.restarts import RestartHistory


class Role(enum.StrEnum):
    """What a child is for."""

    ROUTER = "router"
    GATEWAY = "gateway"
    COORDINATOR = "coordinator"
    PARTITION = "partition"


class State(enum.StrEnum):
    """Where a child stands; these words appear in ``status``."""

    WAITING = "waiting"
    STARTING = "starting"
    SERVING = "serving"
    ENDING = "ending"
    STOPPING = "stopping"
    KILLED = "killed"
    DEAD = "dead"
    BACKING_OFF = "backing-off"
    FAILED = "failed"
    STOPPED = "stopped"


class Event(enum.StrEnum):
    """What can happen to a child."""

    SPAWNED = "spawned"
    READY = "ready"
    SAID_FAILED = "said-failed"
    OVERDUE = "overdue"
    STOP = "stop"
    DIED = "died"
    RETRY = "retry"
    DUE = "due"
    GIVE_UP = "give-up"
    END = "end"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.WAITING, Event.SPAWNED): State.STARTING,
    (State.WAITING, Event.DIED): State.DEAD,
    (State.WAITING, Event.STOP): State.STOPPED,
    (State.STARTING, Event.READY): State.SERVING,
    (State.STARTING, Event.SAID_FAILED): State.ENDING,
    (State.STARTING, Event.OVERDUE): State.KILLED,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.STARTING, Event.DIED): State.DEAD,
    (State.SERVING, Event.SAID_FAILED): State.ENDING,
    (State.SERVING, Event.OVERDUE): State.KILLED,
    (State.SERVING, Event.STOP): State.STOPPING,
    (State.SERVING, Event.DIED): State.DEAD,
    (State.ENDING, Event.OVERDUE): State.KILLED,
    (State.ENDING, Event.STOP): State.ENDING,
    (State.ENDING, Event.DIED): State.DEAD,
    (State.STOPPING, Event.READY): State.STOPPING,
    (State.STOPPING, Event.SAID_FAILED): State.STOPPING,
    (State.STOPPING, Event.OVERDUE): State.KILLED,
    (State.STOPPING, Event.STOP): State.STOPPING,
    (State.STOPPING, Event.DIED): State.DEAD,
    (State.KILLED, Event.READY): State.KILLED,
    (State.KILLED, Event.SAID_FAILED): State.KILLED,
    (State.KILLED, Event.OVERDUE): State.KILLED,
    (State.KILLED, Event.STOP): State.KILLED,
    (State.KILLED, Event.DIED): State.DEAD,
    (State.DEAD, Event.RETRY): State.BACKING_OFF,
    (State.DEAD, Event.GIVE_UP): State.FAILED,
    (State.DEAD, Event.END): State.STOPPED,
    (State.BACKING_OFF, Event.DUE): State.WAITING,
    (State.BACKING_OFF, Event.STOP): State.STOPPED,
    (State.FAILED, Event.STOP): State.STOPPED,
    (State.STOPPED, Event.STOP): State.STOPPED,
}

RUNNING = frozenset({State.STARTING, State.SERVING, State.ENDING, State.STOPPING, State.KILLED})
"""A process bears the name."""
SETTLED = frozenset({State.SERVING, State.FAILED})
"""Nobody need wait for it any longer."""


class InvalidTransition(Exception):
    """An event that cannot happen in that state."""


@dataclass(slots=True)
class Child:
    """One child and what is known of the process that bears its name. Moments in monotonic seconds."""

    name: str
    role: Role
    history: RestartHistory
    topic: str = ""
    partition: int = 0
    index: int = 0
    state: State = State.WAITING
    incarnation: int = 0
    starts: int = 0
    pid: int | None = None
    since_s: float = 0.0
    heard_s: float = 0.0
    deadline_s: float | None = None
    wanted: bool = True
    served: bool = False
    inner: str | None = None
    endpoints: list[str] = field(default_factory=list)
    listeners: dict[str, str] = field(default_factory=dict)
    """Of a gateway: where each of its listeners is reached, by the listener's name."""
    leader_epoch: int = 0
    error: WireError | None = None
    reason: str = ""
    config_told: Mapping[str, Any] | None = None
    routes_told: int = 0
    access_told: int = 0

    def apply(self, event: Event) -> None:
        """Moves to the state that follows. Raises InvalidTransition naming both."""
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise InvalidTransition(
                f"{self.name} (incarnation {self.incarnation}, process {self.pid}) is {self.state}; "
                f"{event} cannot happen to it"
            )
        self.state = following

    @property
    def running(self) -> bool:
        """A process bears the name."""
        return self.state in RUNNING

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return max(0, self.starts - 1)


def partition_child(topic: str, partition: int, history: RestartHistory) -> Child:
    """The child of one partition, not started yet."""
    name = partition_address(topic, partition)
    return Child(name, Role.PARTITION, history, topic=topic, partition=partition)


def router_child(index: int, history: RestartHistory) -> Child:
    """A router, not started yet."""
    return Child(router_address(index), Role.ROUTER, history, index=index)


def gateway_child(index: int, history: RestartHistory) -> Child:
    """A Kafka gateway, not started yet."""
    return Child(gateway_address(index), Role.GATEWAY, history, index=index)


def coordinator_child(history: RestartHistory) -> Child:
    """The coordinator, not started yet."""
    return Child(COORDINATOR, Role.COORDINATOR, history)
