"""The overseer: compares the children that should run with those that do, and says what to do about it.

Pure but for the catalogue's ``Storage``: messages and ends of processes go in with the moment they were
seen, effects come out of ``take``. ``loop.py`` performs them.

Rule 1. A successor is spawned only after its predecessor was reaped (see the table in ``children``).
Rule 2. What a dead incarnation said late is not heard.
Rule 3. A child that is silent for too long is killed, unless it was the supervisor that slept: a gap
        between two ticks moves every deadline by as much.
Rule 4. A topic is durable in the catalogue before a process of it starts, and gone from it before one ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.actor import Envelope
from actors.messages import (
    SUPERVISOR,
    ChildBeat,
    ChildFailed,
    ChildMessage,
    ChildReady,
    Stop,
)
from odradek.protocol.errors import (
    InvalidRequest,
    KafkaStorageError,
    LeaderNotAvailable,
    OdradekError,
    WireError,
)
from odradek.protocol.messages import (
    ActorStatus,
    Status,
    api_name,
    failure,
)
from supervisor.catalog import Topic
from supervisor.children import (
    SETTLED,
    Child,
    Event,
    InvalidTransition,
    Role,
    State,
    coordinator_child,
    gateway_child,
    partition_child,
    router_child,
)
from supervisor.clientkeys import ClientList
from supervisor.desk import Desk, addresses
from supervisor.effects import (
    Effect,
    KillChild,
    Note,
    Respond,
    RespondStatus,
    SpawnOrder,
    TellChild,
    UnlinkDiscarded,
    UnlinkSockets,
)
from supervisor.exits import Exit
from supervisor.gatekeeper import Gatekeeper
from supervisor.noticeboard import CROWD, Noticeboard, of_role
from supervisor.restarts import GiveUp, RestartHistory, RestartPolicy
from supervisor.topics import Topics

ENDING_GRACE_S = 2.0
"""A child that said it failed has so long to end by itself."""
REAP_REMINDER_S = 5.0
"""A killed process that does not end is mentioned in the log so often."""
UNREAPED_WAIT_S = 1.0
"""At the end, a killed process that does not end is waited for so long; its lifeline does the rest."""
SLEPT_INTERVALS = 2.0
SLEPT_TIMEOUT_SHARE = 1 / 3
"""A gap between ticks longer than both means that the supervisor slept, and maybe its children too."""
STOP_ORDER = (Role.GATEWAY, Role.ROUTER, Role.PARTITION, Role.COORDINATOR)
"""First nobody brings new requests, then what was accepted becomes durable."""
STOP_SHARES = {Role.GATEWAY: 0.375, Role.ROUTER: 0.125, Role.PARTITION: 0.375, Role.COORDINATOR: 0.125}

BEATS_PER_S_MAX = 200
"""Where more partitions run than that, each beats less often, so that idle ones leave the machine idle."""
BEATS_PER_TIMEOUT_MIN = 3
"""But so often at least before its silence counts."""
STOP_S_PER_CHILD = 0.02
"""A crowd has so much more time to stop in, for each beyond CROWD: all close their logs at the same time."""

_LISTENING = (Role.ROUTER, Role.GATEWAY)


@dataclass(frozen=True, slots=True)
class OverseerOptions:
    """Times in seconds."""

    routers: int = 1
    gateways: int = 0
    heartbeat_interval_s: float = 1.0
    heartbeat_timeout_s: float = 15.0
    start_timeout_s: float = 120.0
    stop_timeout_s: float = 8.0
    restart: RestartPolicy = field(default_factory=RestartPolicy)


class Overseer:
    """The whole tree of processes, as logic."""

    def __init__(
        self, options: OverseerOptions, topics: Topics, gatekeeper: Gatekeeper, pid: int, now_s: float
    ) -> None:
        self._options = options
        self._slept_s = max(
            SLEPT_INTERVALS * options.heartbeat_interval_s, SLEPT_TIMEOUT_SHARE * options.heartbeat_timeout_s
        )
        self._topics = topics
        self._gatekeeper = gatekeeper
        self._pid = pid
        self._started_s = self._ticked_s = now_s
        self._children: dict[str, Child] = {}
        self._waiting: dict[str, None] = {}  # names to spawn, in order
        self._desk = Desk(topics, gatekeeper, self, self._children)
        self._effects: list[Effect] = []
        self._incarnation = 0
        self._board = Noticeboard(topics, gatekeeper, self._children, self.emit, now_s)
        self._wake_s = now_s
        self._stopping: Role | None = None
        self._unreaped_s: float | None = None
        self.exit: Exit | None = None
        """What the broker ends with, from the moment it is told to end."""
        self.finished = False
        """Nothing is left to wait for."""

    # -- for the loop ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Finish interrupted deletions and want every child of the catalogue."""
        for topic in self._topics.catalog.deleting:
            self._discard(topic.name)
        self._add(coordinator_child(self._history(essential=True)))
        for index in range(self._options.routers):
            self._add(router_child(index, self._history(essential=True)))
        for index in range(self._options.gateways):
            self._add(gateway_child(index, self._history(essential=True)))
        for topic in self._topics.catalog.topics:
            self.add_partitions(topic, 0)
        self.emit(UnlinkDiscarded())

    def take(self) -> list[Effect]:
        """What is to be done, in order; the next call does not repeat it."""
        effects, self._effects = self._effects, []
        return effects

    def next_spawn(self) -> SpawnOrder | None:
        """The next process to start. Answer it with ``spawned`` or ``spawn_failed``."""
        name = next(iter(self._waiting), None)
        if name is None:
            return None
        del self._waiting[name]
        child = self._children[name]
        # Counted over all names, so that a topic created again does not hear its namesake's late words.
        self._incarnation += 1
        child.incarnation = self._incarnation
        child.starts += 1
        topic = self._topics.catalog.find(child.topic) if child.role is Role.PARTITION else None
        child.config_told = topic.config if topic is not None else None
        # From their first moment on, those who listen let in those who may come in, and nobody else.
        is_gateway = child.role is Role.GATEWAY
        access = self._gatekeeper.tidings(with_users=is_gateway) if child.role in _LISTENING else None
        return SpawnOrder(
            name,
            child.role,
            child.incarnation,
            child.index,
            topic,
            child.partition,
            tuple(child.endpoints),
            access,
            self._beat_interval_s(child),
            is_first=child.starts == 1,
        )

    def _beat_interval_s(self, child: Child) -> float | None:
        """Longer for partitions where they are many."""
        if child.role is not Role.PARTITION:
            return None
        options = self._options
        shared_s = len(self._children) / BEATS_PER_S_MAX
        return max(
            options.heartbeat_interval_s, min(shared_s, options.heartbeat_timeout_s / BEATS_PER_TIMEOUT_MIN)
        )

    @property
    def has_spawns(self) -> bool:
        """Whether ``next_spawn`` would return an order."""
        return bool(self._waiting)

    def spawned(self, name: str, pid: int, now_s: float) -> None:
        """The ordered process runs."""
        child = self._children[name]
        child.apply(Event.SPAWNED)
        child.pid, child.since_s, child.heard_s = pid, now_s, now_s
        child.served, child.routes_told, child.access_told, child.error = False, 0, 0, None
        self._set_deadline(child, now_s + self._options.start_timeout_s)

    def spawn_failed(self, name: str, reason: str, now_s: float) -> None:
        """The ordered process could not even be forked."""
        child = self._children[name]
        self._note("error", "spawn failed", child, reason=reason)
        child.reason = reason
        child.apply(Event.DIED)
        self._after_death(child, now_s)

    def died(self, name: str, incarnation: int, exit_code: int | None, now_s: float) -> None:
        """The process was reaped; ``exit_code`` is negative for a signal, None where nobody knows it."""
        child = self._children.get(name)
        if child is None or child.incarnation != incarnation or not child.running:
            return
        expected = child.state is State.STOPPING and exit_code == 0
        self._note(
            "info" if expected else "warning",
            "process ended",
            child,
            exit_code=exit_code,
            was=str(child.state),
        )
        if child.error is None:
            child.reason = _describe_exit(exit_code)
        if exit_code == Exit.PORT_IN_USE and child.role in _LISTENING and not child.history.is_lasting:
            self.terminate(Exit.PORT_IN_USE, child.reason, now_s)
        child.apply(Event.DIED)
        self._after_death(child, now_s)

    def receive(self, envelope: Envelope, now_s: float) -> None:
        """A message of the control link."""
        request = envelope.request
        if isinstance(request, ChildMessage):
            self._hear(request, now_s)
            return
        if isinstance(request, Status):
            self.emit(RespondStatus(envelope.sender, self.statuses(now_s)))
            return
        try:
            if self._stopping is not None:
                raise LeaderNotAvailable("the broker is stopping")
            self._desk.serve(envelope.sender, request, now_s)
        except OdradekError as error:
            self.emit(Respond(envelope.sender, failure(error)))

    def admit(self, clients: ClientList) -> None:
        """These keys may come in over CURVE from now on, and no others."""
        self._gatekeeper.admit(clients)
        self.tell_access()

    def undelivered(self, effect: TellChild) -> None:
        """The message did not leave; what it said is said again at the child's next sign of life."""
        child = self._children.get(effect.name)
        if child is None or child.incarnation != effect.incarnation:
            return
        self._board.forget(child, effect.message)

    def tick(self, now_s: float) -> None:
        """Deadlines that have passed. Call it after the messages that came, at ``deadline`` at the latest."""
        self._forgive_sleep(now_s)
        if now_s < self._wake_s:
            return
        self._wake_s = now_s + self._options.heartbeat_timeout_s
        for child in list(self._children.values()):
            if child.deadline_s is not None and child.deadline_s <= now_s:
                self._overdue(child, now_s)
            if child.deadline_s is not None:
                self.wake_at(child.deadline_s)
        self._desk.changed = True
        if self._unreaped_s is not None and now_s >= self._unreaped_s:
            self.finished = True

    def settle(self, now_s: float) -> None:
        """Once a turn, after all that happened: routes, settings, answers, the next step of a stop."""
        if self._stopping is not None:
            self._advance_stop(now_s)
            return
        later_s = self._board.settle(now_s)
        if later_s is not None:
            self.wake_at(later_s)
        self._desk.settle(now_s)

    def deadline(self) -> float:
        """When ``tick`` must be called at the latest."""
        return min(self._wake_s, self._ticked_s + self._options.heartbeat_interval_s)

    @property
    def ready(self) -> bool:
        """Every child serves, or has been given up."""
        return self._stopping is None and all(child.state in SETTLED for child in self._children.values())

    @property
    def routers(self) -> list[str]:
        """Endpoints of the routers, in order."""
        return [endpoint for child in of_role(self._children, Role.ROUTER) for endpoint in child.endpoints]

    @property
    def gateways(self) -> list[str]:
        """Where Kafka clients connect, in order: the first listener of each gateway."""
        return [child.endpoints[0] for child in of_role(self._children, Role.GATEWAY) if child.endpoints]

    def statuses(self, now_s: float) -> tuple[ActorStatus, ...]:
        """The tree: the supervisor, then its children. Memory and CPU are not known here."""
        own = ActorStatus(
            name=SUPERVISOR,
            role=SUPERVISOR,
            pid=self._pid,
            state=str(State.SERVING if self._stopping is None else State.STOPPING),
            restarts=0,
            uptime_s=now_s - self._started_s,
            pss_bytes=None,
            cpu_percent=None,
        )
        return (own, *(_status(child, now_s) for child in self._children.values()))

    def terminate(self, exit_code: Exit, reason: str, now_s: float) -> None:
        """Begin an orderly stop. A second call changes nothing; see ``kill_all``."""
        if self._stopping is not None:
            return
        self.exit = exit_code
        self.emit(Note("info", "stopping", {"reason": reason}))
        self._desk.refuse_all()
        self._waiting.clear()
        for child in self._children.values():
            if not child.running and child.state is not State.DEAD:
                child.apply(Event.STOP)
                child.deadline_s = None
        self._begin_stop(STOP_ORDER[0], now_s)

    def kill_all(self, now_s: float) -> None:
        """No more patience: kill every process that is left."""
        for child in self._children.values():
            if child.running and child.state is not State.KILLED:
                self._kill(child, "told to end at once", now_s)

    # -- for the desk ------------------------------------------------------------------------------------

    def add_partitions(self, topic: Topic, first: int) -> None:
        """Want a process for each partition from ``first`` on."""
        for partition in range(first, topic.partitions):
            self._add(partition_child(topic.name, partition, self._history()))
        self._reroute()

    def remove_partitions(self, topic: Topic, now_s: float) -> None:
        """Want none of the topic's processes any more; the last of them frees the directories."""
        self._reroute()
        children = [self._children[name] for name in addresses(topic) if name in self._children]
        for child in children:
            if child.wanted:
                child.wanted = False
                self._stop(child, now_s)
        for child in children:
            if child.state is State.STOPPED:
                self._gone(child)
        if not children:
            self._discard(topic.name)

    def reconfigure(self, topic: Topic) -> None:
        """Tell the topic's partitions and the routers its new settings."""
        self._board.reconfigure(addresses(topic))
        self._reroute()

    def tell_access(self) -> None:
        """Tell routers and gateways who may log in and who may do what, without a pause."""
        self._board.hurry(self._ticked_s)

    def emit(self, effect: Effect) -> None:
        """Something is to be done, after all that was emitted before."""
        self._effects.append(effect)

    def wake_at(self, at_s: float) -> None:
        """``tick`` must be called then, or earlier."""
        self._wake_s = min(self._wake_s, at_s)

    # -- what children say and do ----------------------------------------------------------------------

    def _hear(self, message: ChildMessage, now_s: float) -> None:
        child = self._children.get(message.name)
        if child is None or child.incarnation != message.incarnation or not child.running:
            return
        child.heard_s = now_s
        try:
            self._take_word(child, message, now_s)
        except InvalidTransition as invalid:
            # A child that contradicts itself is broken; the supervisor is not.
            self._kill(child, str(invalid), now_s)

    def _take_word(self, child: Child, message: ChildMessage, now_s: float) -> None:
        match message:
            case ChildBeat():
                if child.state is State.STARTING:
                    child.deadline_s = now_s + self._options.start_timeout_s
                elif child.state is State.SERVING:
                    child.deadline_s = now_s + self._options.heartbeat_timeout_s
                    self._board.remind(child)
            case ChildReady():
                self._serves(child, message, now_s)
            case ChildFailed():
                self._said_failed(child, message.error, now_s)
            case _:
                raise InvalidRequest(f"children do not send {api_name(type(message))}")

    def _serves(self, child: Child, message: ChildReady, now_s: float) -> None:
        child.apply(Event.READY)
        if child.state is not State.SERVING:
            return
        child.served = True
        child.history.served()
        child.inner, child.endpoints, child.leader_epoch = (
            message.inner,
            message.endpoints,
            message.leader_epoch,
        )
        child.listeners = message.listeners
        child.error, child.reason = None, ""
        self._note(
            "info",
            "serving",
            child,
            endpoints=message.endpoints,
            after_s=round(now_s - child.since_s, 3),
            **message.notes,
        )
        self._set_deadline(child, now_s + self._options.heartbeat_timeout_s)
        self._board.reconfigure((child.name,))
        self._reroute()

    def _said_failed(self, child: Child, error: WireError, now_s: float) -> None:
        child.apply(Event.SAID_FAILED)
        child.error, child.reason = error, error.message
        self._note("error", "failed", child, error=error.name, reason=error.message)
        if child.state is State.ENDING:
            self._set_deadline(child, now_s + ENDING_GRACE_S)
            self._reroute()

    def _after_death(self, child: Child, now_s: float) -> None:
        child.pid, child.inner, child.deadline_s = None, None, None
        self._reroute()
        if not child.wanted or self._stopping is not None:
            child.apply(Event.END)
            self._gone(child)
            return
        decision = child.history.crashed(now_s) if child.served else child.history.failed_to_boot()
        if isinstance(decision, GiveUp):
            self._give_up(child, decision.reason, now_s)
            return
        child.apply(Event.RETRY)
        self._set_deadline(child, now_s + decision.delay_s)

    def _give_up(self, child: Child, reason: str, now_s: float) -> None:
        child.apply(Event.GIVE_UP)
        child.reason = f"{reason}; the last time: {child.reason}"
        self._note("error", "given up", child, reason=child.reason)
        if child.role is not Role.PARTITION:
            self.terminate(Exit.GAVE_UP, f"{child.name}: {child.reason}", now_s)

    def _gone(self, child: Child) -> None:
        """A child that nobody wants any more has ended; the last of a deleted topic frees its directories."""
        if child.role is not Role.PARTITION or child.wanted:
            return
        del self._children[child.name]
        self.emit(UnlinkSockets(child.name))
        if not any(other.topic == child.topic for other in self._children.values()):
            self._discard(child.topic)

    def _discard(self, topic: str) -> None:
        try:
            self._topics.discard(topic)
        except KafkaStorageError as error:
            self.emit(Note("error", "topic not discarded", {"topic": topic, "reason": error.message}))
            return
        self.emit(UnlinkDiscarded())

    # -- time --------------------------------------------------------------------------------------------

    def _forgive_sleep(self, now_s: float) -> None:
        gap_s = now_s - self._ticked_s
        self._ticked_s = now_s
        if gap_s <= self._slept_s:
            return
        self.emit(Note("warning", "the supervisor slept", {"seconds": round(gap_s, 3)}))
        for child in self._children.values():
            if child.deadline_s is not None and child.state is not State.BACKING_OFF:
                child.deadline_s += gap_s

    def _overdue(self, child: Child, now_s: float) -> None:
        match child.state:
            case State.BACKING_OFF:
                child.apply(Event.DUE)
                child.deadline_s = None
                self._waiting[child.name] = None
            case State.KILLED:
                self._note("error", "killed process does not end", child)
                self._set_deadline(child, now_s + REAP_REMINDER_S)
            case State.STARTING:
                self._kill(child, f"it did not serve within {self._options.start_timeout_s:g} s", now_s)
            case State.SERVING:
                self._kill(child, f"its loop was silent for {now_s - child.heard_s:.1f} s", now_s)
            case _:
                self._kill(child, f"it did not end by itself ({child.state})", now_s)

    def _kill(self, child: Child, reason: str, now_s: float) -> None:
        self._note("warning", "killing", child, reason=reason)
        child.apply(Event.OVERDUE)
        if child.error is None:
            child.reason = reason
        if self._stopping is not None and self.exit is Exit.OK:
            self.exit = Exit.FORCED
        self._set_deadline(child, now_s + REAP_REMINDER_S)
        self.emit(KillChild(child.name, child.incarnation))
        self._reroute()

    def _set_deadline(self, child: Child, at_s: float) -> None:
        child.deadline_s = at_s
        self.wake_at(at_s)

    # -- stopping ----------------------------------------------------------------------------------------

    def _stop(self, child: Child, now_s: float) -> None:
        """Ask a child to end, with a share of the time for stopping."""
        child.apply(Event.STOP)
        self._waiting.pop(child.name, None)
        if child.state is State.STOPPING:
            self.emit(TellChild(child.name, child.incarnation, Stop()))
            crowd_s = STOP_S_PER_CHILD * max(0, len(self._children) - CROWD)
            share_s = self._options.stop_timeout_s * STOP_SHARES[child.role]
            self._set_deadline(child, now_s + share_s + crowd_s)
        elif child.state is State.STOPPED:
            child.deadline_s = None

    def _begin_stop(self, role: Role, now_s: float) -> None:
        self._stopping = role
        for child in of_role(self._children, role):
            if child.running and child.state is not State.STOPPING:
                self._stop(child, now_s)

    def _advance_stop(self, now_s: float) -> None:
        while self._stopping is not None and not self.finished:
            left = [child for child in of_role(self._children, self._stopping) if child.running]
            if left and not all(child.state is State.KILLED for child in left):
                return
            following = STOP_ORDER.index(self._stopping) + 1
            if following < len(STOP_ORDER):
                self._begin_stop(STOP_ORDER[following], now_s)
                continue
            if any(child.running for child in self._children.values()):
                if self._unreaped_s is None:
                    self._unreaped_s = now_s + UNREAPED_WAIT_S
                    self.wake_at(self._unreaped_s)
                return
            self.finished = True

    # -- routes and settings -----------------------------------------------------------------------------

    def _reroute(self) -> None:
        self._board.reroute()
        self._desk.changed = True

    def publish(self, now_s: float) -> None:
        """Tell routers and gateways of every change now."""
        self._board.publish(now_s)

    # -- children ----------------------------------------------------------------------------------------

    def _add(self, child: Child) -> None:
        self._children[child.name] = child
        self._waiting[child.name] = None

    def _history(self, *, essential: bool = False) -> RestartHistory:
        return RestartHistory(self._options.restart, essential=essential)

    def _note(self, level: str, event: str, child: Child, **fields: object) -> None:
        known: dict[str, object] = {"name": child.name, "incarnation": child.incarnation, "pid": child.pid}
        self.emit(Note(level, event, known | fields))


def _status(child: Child, now_s: float) -> ActorStatus:
    return ActorStatus(
        name=child.name,
        role=str(child.role),
        pid=child.pid,
        state=str(child.state),
        restarts=child.restarts,
        uptime_s=now_s - child.since_s if child.running else 0.0,
        pss_bytes=None,
        cpu_percent=None,
        reason=(child.reason or None) if child.state is not State.SERVING else None,
    )


def _describe_exit(exit_code: int | None) -> str:
    if exit_code is None:
        return "its process ended, nobody knows how"
    if exit_code < 0:
        return f"its process was ended by signal {-exit_code}"
    if exit_code == Exit.PORT_IN_USE:
        return "its port is in use by another program"
    return f"its process ended with exit code {exit_code}"
