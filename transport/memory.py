"""The in-memory twin of the host and its sockets: many actors in one thread, in an order that a seed decides.

Every message is really encoded, carried as frames and decoded, by the functions that the sockets use.
What ZeroMQ promises holds here too: frames of one connection keep their order, and nothing survives the
end of the actor that it was sent to. What it does not promise, ``Faults`` takes away.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import zmq

from actors.actor import Actor, Answer, Envelope, Message, Moment, Synced, Undeliverable, Worked
from actors.effects import (
    Effect,
    Fail,
    Forward,
    Job,
    Link,
    Log,
    Reply,
    Sender,
    Sync,
    SyncTicket,
    Unlink,
    Work,
)
from actors.messages import SUPERVISOR, TO_CHILD
from odradek.protocol.batch import Buffer
from odradek.protocol.codec import Encoding, RequestDecoder, encode, public_decoder
from odradek.protocol.errors import InvalidRequest, LeaderNotAvailable, OdradekError
from odradek.protocol.messages import Request, failure
from transport.frames import MalformedError, read_request, reply_frames
from transport.links import inner_decoder, read_answer, stamp

STEPS_MAX = 1_000_000
"""A run that has not come to rest after so many steps never will."""

_SCHEME = "memory://"

Route = tuple[str, str]
"""(sender, receiver): each is an actor's address or a client's name."""


class Clock(Protocol):
    """The time of a simulation: it moves only when told to."""

    def now(self) -> Moment:
        """Both clocks."""

    def advance_to(self, monotonic_s: float) -> None:
        """Move both clocks on to this monotonic second."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances, from 0 to 1, of what may happen to a message on its way; how long it and a sync may take."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_s_max: float = 0.0
    sync_s_max: float = 0.0


@dataclass(slots=True)
class Parcel:
    """Frames on their way, header first: a request or an answer, not to arrive before ``due_s``.

    ``identity`` is the sender's, as its receiver sees it: another one at each start of an actor.
    """

    frames: list[bytes]
    asks: bool
    due_s: float
    identity: str


@dataclass(slots=True)
class MemoryHost:
    """One actor and all that lives and dies with it. ``unsettled``: it got messages since its last settle."""

    actor: Actor
    incarnation: int
    links: dict[str, str] = field(default_factory=dict)
    tickets: deque[tuple[float, SyncTicket]] = field(default_factory=deque)
    jobs: deque[tuple[Job, Iterator[int]]] = field(default_factory=deque)
    inbox: deque[Message] = field(default_factory=deque)
    unsettled: bool = True


class MemoryNetwork:
    """Carries messages between actors and clients, one step at a time. ``seed`` decides all that is open."""

    def __init__(self, clock: Clock, seed: int, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.logged: list[tuple[str, str, dict[str, object]]] = []
        self.failed: list[tuple[str, OdradekError]] = []
        """Actors that said they cannot go on; ``crash`` and ``restart`` do what the supervisor would."""
        self._clock = clock
        self._dice = random.Random(seed)  # noqa: S311 - a simulation needs dice that repeat
        self._hosts: dict[str, MemoryHost] = {}
        self._factories: dict[str, Callable[[], Actor]] = {}
        self._incarnations: dict[str, int] = {}
        self._parcels: dict[Route, deque[Parcel]] = {}
        self._clients: dict[str, Callable[[list[bytes]], None]] = {}
        self._public = public_decoder()
        self._inner = inner_decoder()
        self._control: RequestDecoder[Request] = RequestDecoder(TO_CHILD)

    # -- who is there ----------------------------------------------------------------------------------

    def host(self, address: str, factory: Callable[[], Actor]) -> str:
        """Start an actor; the endpoint at which this start of it listens."""
        self._factories[address] = factory
        return self.restart(address)

    def restart(self, address: str) -> str:
        """Start an actor that crashed or stopped once more; its new endpoint."""
        if address in self._hosts:
            raise ValueError(f"{address} runs")
        incarnation = self._incarnations[address] = self._incarnations.get(address, 0) + 1
        self._hosts[address] = MemoryHost(self._factories[address](), incarnation)
        return _endpoint(address, incarnation)

    def crash(self, address: str) -> None:
        """End an actor without a word: what it knew, what it had not read and what it syncs is gone.

        Of what it had sent, any first part may still arrive.
        """
        del self._hosts[address]
        for (sender, receiver), parcels in self._parcels.items():
            if receiver == address:
                parcels.clear()
            elif sender == address:
                for _ in range(self._dice.randint(0, len(parcels))):
                    parcels.pop()

    def stop(self, address: str) -> None:
        """End an actor in order, as the host does: syncs first, then its last words."""
        host = self._hosts[address]
        for message in host.inbox:
            if isinstance(message, Synced):
                self._perform(address, host, host.actor.receive(message, self._clock.now()))
        host.inbox.clear()
        while host.tickets:
            synced = _run(host.tickets.popleft()[1])
            self._perform(address, host, host.actor.receive(synced, self._clock.now()))
        self._perform(address, host, host.actor.stop(self._clock.now()))
        del self._hosts[address]
        for (_, receiver), parcels in self._parcels.items():
            if receiver == address:
                parcels.clear()

    # -- from outside ----------------------------------------------------------------------------------

    def client(self, name: str, receive: Callable[[list[bytes]], None]) -> None:
        """Connect a client; ``receive`` gets the frames of each reply, header first."""
        self._clients[name] = receive

    def send(self, client: str, address: str, frames: Sequence[bytes]) -> None:
        """Send a client's request, header first, to the public socket of an actor."""
        self._post((client, address), list(frames), asks=True)

    def tell(self, address: str, request: Request) -> None:
        """Hand a supervisor's message to an actor, at once and surely."""
        decoded, encoding = self._control.decode(encode(request, Encoding.MSGPACK))
        host = self._hosts[address]
        host.inbox.append(Envelope(Sender("control", b"", False, encoding, None), decoded))

    # -- time ------------------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Step until the condition holds, or until nothing is left to happen.

        Raises RuntimeError where the condition never comes true.
        """
        for _ in range(STEPS_MAX):
            if until is not None and until():
                return
            if not self.step():
                if until is not None and not until():
                    raise RuntimeError("nothing is left to happen, and what was waited for has not")
                return
        raise RuntimeError(f"no rest after {STEPS_MAX} steps")

    def step(self) -> bool:
        """One thing happens: a message arrives, an actor settles, a sync ends, or time passes."""
        choices = self._choices()
        if choices:
            self._dice.choice(choices)()
            return True
        return self._pass_time()

    def _choices(self) -> list[Callable[[], None]]:
        now_s = self._clock.now().monotonic_s
        choices: list[Callable[[], None]] = []
        for address, host in self._hosts.items():
            if host.inbox:
                choices.append(partial(self._read_inbox, address, host))
            if host.tickets and host.tickets[0][0] <= now_s:
                choices.append(partial(_sync, host))
            if host.jobs:
                choices.append(partial(_work, host))
            deadline_s = host.actor.deadline()
            if host.unsettled or (deadline_s is not None and deadline_s <= now_s):
                choices.append(partial(self._settle, address, host))
        for route, parcels in self._parcels.items():
            if parcels and parcels[0].due_s <= now_s:
                choices.append(partial(self._arrive, route))
        return choices

    def _pass_time(self) -> bool:
        deadlines = (host.actor.deadline() for host in self._hosts.values())
        moments = [deadline_s for deadline_s in deadlines if deadline_s is not None]
        moments += [host.tickets[0][0] for host in self._hosts.values() if host.tickets]
        moments += [parcels[0].due_s for parcels in self._parcels.values() if parcels]
        if not moments:
            return False
        self._clock.advance_to(min(moments))
        return True

    def _read_inbox(self, address: str, host: MemoryHost) -> None:
        self._receive(address, host, host.inbox.popleft())

    def _settle(self, address: str, host: MemoryHost) -> None:
        host.unsettled = False
        self._perform(address, host, host.actor.settle(self._clock.now()))

    def _receive(self, address: str, host: MemoryHost, message: Message) -> None:
        host.unsettled = True
        self._perform(address, host, host.actor.receive(message, self._clock.now()))

    # -- frames ----------------------------------------------------------------------------------------

    def _post(self, route: Route, frames: list[bytes], *, asks: bool) -> None:
        faults, dice = self.faults, self._dice
        if dice.random() < faults.drop:
            return
        parcels = self._parcels.setdefault(route, deque())
        host = self._hosts.get(route[0])
        identity = route[0] if host is None else _endpoint(route[0], host.incarnation)
        for _ in range(2 if dice.random() < faults.duplicate else 1):
            due_s = self._clock.now().monotonic_s + dice.random() * faults.delay_s_max
            place = dice.randint(0, len(parcels)) if dice.random() < faults.reorder else len(parcels)
            parcels.insert(place, Parcel(frames, asks, due_s, identity))

    def _arrive(self, route: Route) -> None:
        parcel = self._parcels[route].popleft()
        receiver = route[1]
        if receiver in self._clients:
            self._clients[receiver](parcel.frames)
        elif (host := self._hosts.get(receiver)) is not None:
            if parcel.asks:
                self._arrive_request(parcel.identity, receiver, host, parcel.frames)
            else:
                self._receive(receiver, host, _answer(parcel.frames))

    def _arrive_request(self, identity: str, receiver: str, host: MemoryHost, frames: list[bytes]) -> None:
        received = [zmq.Frame(frame) for frame in (identity.encode(), *frames)]
        decoder = self._inner if identity.startswith(_SCHEME) else self._public
        try:
            envelope = read_request("memory", received, decoder)
        except MalformedError as malformed:
            self._perform(receiver, host, (Reply(malformed.sender, failure(malformed.error)),))
            return
        self._receive(receiver, host, envelope)

    # -- effects ---------------------------------------------------------------------------------------

    def _perform(self, address: str, host: MemoryHost, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Reply(to=to):
                    identity, *frames = _plain(reply_frames(to, effect.reply, effect.payload))
                    if (receiver := self._owner(identity.decode())) is not None:
                        self._post((address, receiver), frames, asks=False)
                case Forward():
                    self._forward(address, host, effect)
                case Sync(ticket=ticket):
                    now_s = self._clock.now().monotonic_s
                    host.tickets.append((now_s + self._dice.random() * self.faults.sync_s_max, ticket))
                case Work(job=job):
                    host.jobs.append((job, job.run()))
                case Link():
                    host.links[effect.address] = effect.endpoint
                case Unlink():
                    host.links.pop(effect.address, None)
                    self._parcels.pop((address, effect.address), None)
                case Fail():
                    self.failed.append((address, effect.error))
                case Log():
                    self.logged.append((address, effect.event, effect.fields))
                case _:
                    raise TypeError(f"unknown effect: {effect!r}")

    def _forward(self, address: str, host: MemoryHost, effect: Forward) -> None:
        if effect.address != SUPERVISOR and effect.address not in host.links:
            error = LeaderNotAvailable(f"{effect.address} is not running")
            host.inbox.append(Undeliverable(effect.token, error))
            return
        try:
            header = stamp(effect.request, effect.token)
        except InvalidRequest as invalid:
            host.inbox.append(Undeliverable(effect.token, invalid))
            return
        if self._listens(host.links.get(effect.address), effect.address):
            self._post((address, effect.address), _plain([header, *effect.payload]), asks=True)

    def _owner(self, identity: str) -> str | None:
        """Who is to get a reply: a client, or the very start of an actor that asked, if it still runs."""
        address, mark, incarnation = identity.removeprefix(_SCHEME).rpartition("#")
        if not identity.startswith(_SCHEME) or not mark:
            return identity
        host = self._hosts.get(address)
        return address if host is not None and host.incarnation == int(incarnation) else None

    def _listens(self, endpoint: str | None, address: str) -> bool:
        """Whether what is sent there can arrive; what is sent to a dead endpoint is lost without a word."""
        host = self._hosts.get(address)
        return host is not None and endpoint in (None, _endpoint(address, host.incarnation))


def _endpoint(address: str, incarnation: int) -> str:
    return f"{_SCHEME}{address}#{incarnation}"


def _sync(host: MemoryHost) -> None:
    host.inbox.append(_run(host.tickets.popleft()[1]))


def _work(host: MemoryHost) -> None:
    """One slice of the oldest job."""
    job, slices = host.jobs[0]
    try:
        next(slices)
        return
    except StopIteration:
        worked = Worked(job)
    except OSError as error:
        worked = Worked(job, error)
    host.jobs.popleft()
    host.inbox.append(worked)


def _run(ticket: SyncTicket) -> Synced:
    try:
        ticket.run()
    except OSError as error:
        return Synced(ticket, error)
    return Synced(ticket)


def _plain(frames: Iterable[Buffer]) -> list[bytes]:
    return [bytes(frame) for frame in frames]


def _answer(frames: Sequence[bytes]) -> Answer:
    return read_answer(zmq.Frame(frames[0]), [zmq.Frame(frame) for frame in frames[1:]])
