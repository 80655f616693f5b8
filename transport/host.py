"""The one loop: reads the sockets, hands messages to the actor, performs the effects that it returns.

A turn is: wait; read the clock once; drain every inbox (bounded); let the actor settle; perform.
Beats to the supervisor are sent from this loop, so that an actor that hangs falls silent.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import zmq

from actors.actor import Actor, Envelope, Lost, Message, Moment, Undeliverable
from actors.effects import Effect, Fail, Forward, KafkaReply, Link, Log, Reply, Sender, Sync, Unlink, Work
from actors.messages import SUPERVISOR, Access, ChildBeat, ChildFailed, ChildReady, Stop
from odradek.protocol.access import ANONYMOUS
from odradek.protocol.batch import Buffer
from odradek.protocol.codec import Encoding, RequestDecoder, encode, is_reply, public_decoder
from odradek.protocol.errors import (
    InvalidRequest,
    OdradekError,
    SaslAuthenticationFailed,
    ThrottlingQuotaExceeded,
    UnknownServerError,
)
from odradek.protocol.messages import Request, failure
from transport.clock import read_clock
from transport.control import child_decoder, control_identity
from transport.frames import MalformedError, read_request, reply_frames
from transport.keys import KeyPair
from transport.links import Links, inner_decoder, read_answer, stamp
from transport.multipart import receive, receive_waiting, send
from transport.outbox import PEER_BYTES_MAX, PROCESS_BYTES_MAX, Outbox, reply_size_bytes
from transport.ownmemory import allocated_memory_bytes
from transport.sockets import (
    Socket,
    control_link,
    inner_listener,
    new_context,
    public_listener,
)
from transport.syncer import Syncer
from transport.worker import Worker
from transport.zap import Caller, Doorkeeper

INBOX_MESSAGES_MAX = 512
TURN_BYTES_MAX = 32 << 20
"""What one turn takes from one socket, and gives back, before the actor settles and the process beats: a
flood of small requests for large replies must not make a healthy process silent."""
WAIT_S_MAX = 3_600.0
STOP_SYNC_WAIT_MS = 100
DROPPED_LOG_INTERVAL_S = 10.0
OUTBOX_MEMORY_SHARE = 4
"""A process with a memory limit keeps unread replies in this part of it: a quarter."""
PEER_GONE = "peer gone"
UNREAD = "payload refused: earlier replies are unread"
REVOKED = "this key is not allowed any more: an administrator took it off the list of keys"
TRUSTED = Caller(ANONYMOUS, "")
"""Who asks where nobody must show a key."""
UNREAD_ADVICE = "too many bytes of replies are unread: read them, then ask again"

LogLine = Callable[[str, dict[str, object]], None]


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that others connect to. ``name`` is public, direct (both for clients) or inner."""

    name: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Who this process is and where it is reached."""

    name: str
    incarnation: int
    control: str
    listeners: tuple[Listener, ...] = ()
    beat_interval_s: float = 1.0
    memory_bytes_max: int = 0
    """A process that has allocated more at a beat ends; 0 means no limit."""
    keys: KeyPair | None = None
    """With these, clients come in over tcp only by CURVE, and only those of ``access``."""
    access: Access | None = None


class Guest(Protocol):
    """A listener that is not ZeroMQ: it has a descriptor to wait for, and bounds what it keeps by itself."""

    def fileno(self) -> int:
        """Readable whenever ``receive`` has something to do."""

    def bind(self) -> dict[str, str]:
        """Listen; the endpoint of each listener by its name. Raises OSError."""

    def receive(self, now: Moment) -> Sequence[Message]:
        """What has come; asked where the descriptor is readable, or ``deadline`` has passed."""

    def reply(self, effect: KafkaReply) -> None:
        """Put an answer into its place; it leaves with ``flush``."""

    def flush(self, now: Moment) -> Sequence[Message]:
        """Send what the turn brought; to be called at the end of each, and at ``deadline``."""

    def deadline(self) -> float:
        """When ``receive`` and ``flush`` must be called at the latest."""

    def close(self) -> None:
        """End every connection."""


class ActorFailedError(Exception):
    """The actor said that it cannot go on."""

    def __init__(self, error: OdradekError) -> None:
        super().__init__(str(error))
        self.error = error


def _outbox_bytes_max(memory_bytes_max: int) -> int:
    return min(PROCESS_BYTES_MAX, memory_bytes_max // OUTBOX_MEMORY_SHARE or PROCESS_BYTES_MAX)


class Host:
    """The shell of one actor. Everything that an effect asks of the world happens in ``_perform``."""

    def __init__(self, options: HostOptions, log: LogLine) -> None:
        self._options = options
        self._log = log
        self._context = new_context()
        identity = control_identity(options.name, options.incarnation)
        self._control = control_link(self._context, options.control, identity)
        self._control_decoder = child_decoder()
        self._public_decoder = public_decoder()
        self._inner_decoder: RequestDecoder[Request] | None = None
        self._listening: dict[str, Socket] = {}
        self._doorkeeper: Doorkeeper | None = None
        self._guarded: set[str] = set()
        """Listeners that only the doorkeeper lets into."""
        self._guest: Guest | None = None
        self._guest_fd = -1
        self._links: Links | None = None
        self._syncer: Syncer | None = None
        self._worker: Worker | None = None
        self._poller = zmq.Poller()
        self._poller.register(self._control, zmq.POLLIN)
        self._undelivered: deque[Message] = deque()
        self._stopping = False
        self._failed: OdradekError | None = None
        self._next_beat_s = 0.0
        self._given_bytes = 0
        self._outbox = Outbox(_outbox_bytes_max(options.memory_bytes_max))
        self.dropped: Counter[str] = Counter()
        self._unreported: Counter[str] = Counter()
        self._next_dropped_log_s = 0.0
        self.beat()

    # -- before the loop -----------------------------------------------------------------------------

    def beat(self) -> None:
        """Tell the supervisor that this process turns; to be called in any long work before ``run``."""
        now = read_clock()
        if now.monotonic_s >= self._next_beat_s:
            self._next_beat_s = now.monotonic_s + self._options.beat_interval_s
            self._tell_supervisor(ChildBeat(name=self._options.name, incarnation=self._options.incarnation))

    def invite(self, guest: Guest) -> None:
        """Turn this listener, too."""
        self._guest = guest

    def bind_guest(self) -> dict[str, str]:
        """Open the guest's listeners; the endpoint of each by name. Raises OSError."""
        if self._guest is None:
            return {}
        endpoints = self._guest.bind()
        self._guest_fd = self._guest.fileno()
        self._poller.register(self._guest_fd, zmq.POLLIN)
        return endpoints

    def bind(self) -> dict[str, str]:
        """Open every listener; the endpoint of each by name, with port 0 made real."""
        endpoints = {}
        for listener in self._options.listeners:
            socket = self._open(listener)
            self._listening[listener.name] = socket
            self._poller.register(socket, zmq.POLLIN)
            bound = socket.get(zmq.LAST_ENDPOINT)
            endpoints[listener.name] = bound.decode() if isinstance(bound, bytes) else str(bound)
        return endpoints

    def _open(self, listener: Listener) -> Socket:
        if listener.name == "inner":
            self._inner_decoder = inner_decoder()
            return inner_listener(self._context, listener.endpoint)
        if self._options.keys is None or listener.endpoint.startswith("ipc://"):
            return public_listener(self._context, listener.endpoint)
        doorkeeper = self._open_doorkeeper()
        self._guarded.add(listener.name)
        socket = public_listener(self._context, listener.endpoint, self._options.keys)
        self._poller.register(doorkeeper.watch(socket), zmq.POLLIN)
        return socket

    def _open_doorkeeper(self) -> Doorkeeper:
        if self._doorkeeper is None:
            self._doorkeeper = Doorkeeper(self._context)
            if self._options.access is not None:
                self._doorkeeper.admit(self._options.access.principals)
            self._poller.register(self._doorkeeper.socket, zmq.POLLIN)
        return self._doorkeeper

    def fail(self, error: OdradekError) -> None:
        """Tell the supervisor why this process cannot serve."""
        self._tell_supervisor(
            ChildFailed(name=self._options.name, incarnation=self._options.incarnation, error=error.wire())
        )

    def close(self) -> None:
        """Close every socket; what was sent has LINGER_MS to leave."""
        if self._worker is not None:
            self._worker.close()
        if self._syncer is not None:
            self._syncer.close()
        if self._guest is not None:
            self._guest.close()
        if self._links is not None:
            self._links.close()
        if self._doorkeeper is not None:
            self._doorkeeper.close()
        for socket in self._listening.values():
            socket.close()
        self._control.close()
        self._context.term()

    # -- the loop --------------------------------------------------------------------------------------

    def run(self, actor: Actor, ready: ChildReady) -> None:
        """Announce ``ready``, serve until the supervisor says stop, then let the actor finish.

        Raises ActorFailedError when the actor cannot go on, or the process holds too much memory.
        """
        self._tell_supervisor(ready)
        while not self._stopping:
            self._turn(actor)
        self._finish(actor)

    def _turn(self, actor: Actor) -> None:
        ready = self._poller.poll(self._wait_ms(actor))
        now = read_clock()
        for source, _ in ready:
            self._read(source, actor, now)
        if self._guest is not None and self._guest.deadline() <= now.monotonic_s:
            self._turn_guest(self._guest.receive(now), actor, now)
        self._deliver(actor, now)
        self._perform(actor.settle(now))
        self._deliver(actor, now)
        if self._guest is not None:
            self._turn_guest(self._guest.flush(now), actor, now)
        if self._failed is not None:
            raise ActorFailedError(self._failed)
        if now.monotonic_s >= self._next_beat_s:
            self.beat()
            self._check_memory()
            self._report_dropped(now.monotonic_s)

    def _turn_guest(self, messages: Iterable[Message], actor: Actor, now: Moment) -> None:
        for message in messages:
            self._perform(actor.receive(message, now))

    def _check_memory(self) -> None:
        """End in order before the system's limit makes allocations fail in the middle of anything."""
        bytes_max = self._options.memory_bytes_max
        if bytes_max and (used_bytes := allocated_memory_bytes()) > bytes_max:
            raise ActorFailedError(
                UnknownServerError(
                    f"the process has allocated {used_bytes} bytes of memory, more than {bytes_max}"
                )
            )

    def _report_dropped(self, now_s: float) -> None:
        """Say what was dropped or refused since the last time, once in DROPPED_LOG_INTERVAL_S at most."""
        refused = self._doorkeeper.refused if self._doorkeeper is not None else Counter()
        if now_s < self._next_dropped_log_s or not (self._unreported or refused):
            return
        self._next_dropped_log_s = now_s + DROPPED_LOG_INTERVAL_S
        for why, count in self._unreported.items():
            self._log(
                "replies dropped",
                {"level": "info" if why == PEER_GONE else "warning", "why": why, "count": count},
            )
        self._unreported.clear()
        for why, count in refused.items():
            self._log("connections refused", {"level": "warning", "why": why, "count": count})
        refused.clear()

    def _deliver(self, actor: Actor, now: Moment) -> None:
        """What effects led to in this process itself: a quick sync's end, a forward that could not leave."""
        while self._undelivered:
            self._perform(actor.receive(self._undelivered.popleft(), now))

    def _wait_ms(self, actor: Actor) -> int:
        until_s = self._next_beat_s
        deadline_s = actor.deadline()
        if deadline_s is not None:
            until_s = min(until_s, deadline_s)
        if self._guest is not None:
            until_s = min(until_s, self._guest.deadline())
        wait_s = until_s - read_clock().monotonic_s
        # Rounded up: a loop that wakes before its deadline only turns once more.
        return max(0, int(min(wait_s, WAIT_S_MAX) * 1000) + 1) if wait_s > 0 else 0

    def _read(self, source: object, actor: Actor, now: Moment) -> None:
        if self._syncer is not None and source == self._syncer.wakeup_fd:
            for synced in self._syncer.take():
                self._perform(actor.receive(synced, now))
        elif self._worker is not None and source == self._worker.wakeup_fd:
            for worked in self._worker.take():
                self._perform(actor.receive(worked, now))
        elif self._links is not None and source is self._links.socket:
            for answer in self._links.answers(INBOX_MESSAGES_MAX):
                self._perform(actor.receive(answer, now))
        elif source is self._control:
            self._read_control(actor, now)
        elif self._guest is not None and source == self._guest_fd:
            self._turn_guest(self._guest.receive(now), actor, now)
        elif self._doorkeeper is not None and self._doorkeeper.read(source):
            pass
        else:
            for name, socket in self._listening.items():
                if socket is source:
                    self._read_requests(name, socket, actor, now)

    def _read_requests(self, name: str, socket: Socket, actor: Actor, now: Moment) -> None:
        taken_bytes, given_before_bytes = 0, self._given_bytes
        decoder = self._inner_decoder if name == "inner" and self._inner_decoder else self._public_decoder
        for frames in receive_waiting(socket, INBOX_MESSAGES_MAX):
            caller = self._caller(name, frames[-1])
            if caller is None:
                continue
            try:
                envelope = read_request(name, frames, decoder, caller.principal or ANONYMOUS, caller.host)
            except MalformedError as malformed:
                self._perform((Reply(malformed.sender, failure(malformed.error)),))
                continue
            if caller.principal is None:
                self._perform((Reply(envelope.sender, failure(SaslAuthenticationFailed(REVOKED))),))
                continue
            self._perform(actor.receive(envelope, now))
            taken_bytes += envelope.size_bytes
            if taken_bytes + self._given_bytes - given_before_bytes >= TURN_BYTES_MAX:
                return

    def _caller(self, name: str, frame: zmq.Frame) -> Caller | None:
        """Who sent a message; None where it must not be looked at."""
        if name not in self._guarded:
            return TRUSTED
        assert self._doorkeeper is not None
        return self._doorkeeper.caller(frame)

    def _read_control(self, actor: Actor, now: Moment) -> None:
        for _ in range(INBOX_MESSAGES_MAX):
            try:
                frames = receive(self._control)
            except zmq.Again:
                return
            if is_reply(frames[0].buffer):
                self._perform(actor.receive(read_answer(frames[0], frames[1:]), now))
                continue
            request, encoding = self._control_decoder.decode(frames[0].buffer)
            if isinstance(request, Stop):
                self._stopping = True
                return
            if isinstance(request, Access) and self._doorkeeper is not None:
                self._doorkeeper.admit(request.principals)
            sender = Sender("control", b"", False, encoding, None)
            self._perform(actor.receive(Envelope(sender, request), now))

    def _finish(self, actor: Actor) -> None:
        """Wait for the disk, let the actor answer what it holds. Raises ActorFailedError if that failed."""
        while self._syncer is not None and not self._syncer.idle:
            self._poller.poll(STOP_SYNC_WAIT_MS)
            now = read_clock()
            for synced in self._syncer.take():
                self._perform(actor.receive(synced, now))
            self.beat()
        self._perform(actor.stop(read_clock()))
        self._report_dropped(math.inf)
        if self._failed is not None:
            raise ActorFailedError(self._failed)

    # -- effects -------------------------------------------------------------------------------------

    def _perform(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply():
                    self._reply(effect)
                case KafkaReply():
                    assert self._guest is not None, "only a guest brings Kafka's requests"
                    self._guest.reply(effect)
                case Forward():
                    self._forward(effect)
                case Sync():
                    synced = self._start_syncer().run(effect.ticket)
                    if synced is not None:
                        self._undelivered.append(synced)
                case Work():
                    self._start_worker().run(effect.job)
                case Link():
                    self._open_links().link(effect.address, effect.endpoint)
                case Unlink():
                    self._open_links().unlink(effect.address)
                case Log():
                    self._log(effect.event, effect.fields)
                case Fail():
                    self._failed = effect.error
                case _:
                    raise TypeError(f"unknown effect: {effect!r}")

    def _reply(self, effect: Reply) -> None:
        to = effect.to
        socket = self._listening[to.socket]
        frames = reply_frames(to, effect.reply, effect.payload)
        size_bytes = reply_size_bytes(frames[2 if to.delimiter else 1], effect.payload)
        self._given_bytes += size_bytes  # also where it is refused: it was read
        peer = (to.socket, to.identity)
        # A router reads all the time, and reads for many.
        peer_bytes_max = PROCESS_BYTES_MAX if to.socket == "inner" else PEER_BYTES_MAX
        if not self._outbox.admits(peer, size_bytes, peer_bytes_max):
            self._drop(UNREAD)
            refusal = failure(ThrottlingQuotaExceeded(UNREAD_ADVICE))
            frames, size_bytes = reply_frames(to, refusal, ()), 0
        try:
            self._outbox.send(socket, peer, frames, size_bytes)
        except zmq.Again:
            # The peer does not read. It will time out and ask again; others must not wait for it.
            self._drop("reply queue full")
        except zmq.ZMQError:
            self._drop(PEER_GONE)

    def _drop(self, why: str) -> None:
        self.dropped[why] += 1
        self._unreported[why] += 1

    def _forward(self, effect: Forward) -> None:
        if effect.address == SUPERVISOR:
            self._ask_supervisor(effect)
            return
        for message in self._open_links().forward(effect):
            if isinstance(message, Lost):
                self._log("connection lost", {"level": "warning", "address": message.address})
            self._undelivered.append(message)

    def _ask_supervisor(self, effect: Forward) -> None:
        try:
            header = stamp(effect.request, effect.token)
        except InvalidRequest as invalid:
            self._undelivered.append(Undeliverable(effect.token, invalid))
            return
        self._send_control([header, *effect.payload])

    def _tell_supervisor(self, request: Request) -> None:
        self._send_control([encode(request, Encoding.MSGPACK)])

    def _send_control(self, frames: Sequence[Buffer]) -> None:
        try:
            send(self._control, frames)
        except zmq.Again:
            self._drop("control queue full")

    def _open_links(self) -> Links:
        if self._links is None:
            self._links = Links(self._context)
            self._poller.register(self._links.socket, zmq.POLLIN)
        return self._links

    def _start_syncer(self) -> Syncer:
        if self._syncer is None:
            self._syncer = Syncer()
            self._poller.register(self._syncer.wakeup_fd, zmq.POLLIN)
        return self._syncer

    def _start_worker(self) -> Worker:
        if self._worker is None:
            self._worker = Worker()
            self._poller.register(self._worker.wakeup_fd, zmq.POLLIN)
        return self._worker
