"""Network: the one thread that owns a client's sockets.

Rules of this file:
1. Sockets are touched by the I/O thread only; other threads hand it functions by ``call``.
2. Each request ends exactly once: with its reply, with an error reply, or with NetworkException or
   RequestTimedOut. ``Outcome.maybe_done`` says whether the broker may have acted on it.
3. ``send()`` of ZeroMQ says nothing about delivery. So sockets are IMMEDIATE (nothing is queued for a
   peer that is not there), and a lost connection ends the requests that were sent over it.
4. A caller wakes the thread only while it sleeps, and only once.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import socket as sockets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import zmq
from msgspec import ValidationError
from zmq.utils.monitor import parse_monitor_message

from odradek.protocol.codec import REPLY_DECODERS, Encoding, encode, peek_reply
from odradek.protocol.errors import (
    InvalidRequest,
    NetworkException,
    OdradekError,
    RequestTimedOut,
    SaslAuthenticationFailed,
    ThrottlingQuotaExceeded,
    error_from_wire,
)
from odradek.protocol.messages import FETCH_BYTES_MAX, FRAME_BYTES_MAX, Request
from odradek.security import FILE_VARIABLE, Curve

logger = logging.getLogger("odradek")

Frame: TypeAlias = bytes | bytearray | memoryview

OUTBOX_REQUESTS_MAX: Final = 1_000
"""Requests that wait for a connection, each endpoint; one more is refused, not queued."""
SEND_HIGH_WATER_MARK: Final = 1_000
RECEIVE_HIGH_WATER_MARK: Final = 1_000
MESSAGE_BYTES_MAX: Final = max(FETCH_BYTES_MAX, FRAME_BYTES_MAX) + (1 << 20)
RECONNECT_MS: Final = 10
RECONNECT_MS_MAX: Final = 500
HEARTBEAT_INTERVAL_MS: Final = 2_000
HEARTBEAT_TIMEOUT_MS: Final = 10_000
ENDPOINT_IDLE_S_MAX: Final = 120.0
"""A socket that nobody has used for so long is closed; the next request opens another."""
ENDPOINTS_MAX: Final = 64
"""Each endpoint takes three sockets and some descriptors, of which libzmq has 1,023 and a process often
1,024, and a look at every turn. Where there are more partitions than that, the others are a router's."""
ENDPOINT_SPARE_S: Final = 2.0
"""Where all are taken, one that was not used for so long makes room."""
RECEIVES_PER_TURN_MAX: Final = 64
"""So that one busy peer does not keep the others, or the timers, waiting."""
SLEEP_S_MAX: Final = 30.0
WAKES_MAX: Final = 64
"""More wake-ups than can be waiting: a caller sends one only while the thread sleeps."""
FAREWELL_ROUNDS_MAX: Final = 4
"""Refused requests are told so at the end; an owner that asks again and again is not waited for."""
REFUSALS_MAX: Final = 3
"""A handshake that broke off so often in a row was no accident: one of the keys is wrong."""
_MONITORED = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
# Plain integers: an operation on an enum's members costs more than many a call of ZeroMQ.
_READABLE: Final = int(zmq.POLLIN)
_WRITABLE: Final = int(zmq.POLLOUT)
_NOW: Final = int(zmq.DONTWAIT)
_MORE: Final = int(zmq.SNDMORE)
_MECHANISM_MISMATCH = 0x11000002
"""ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH."""


class Outcome:
    """How a request ended: ``reply`` (also beside an error, where one came), ``frames``, ``error``."""

    __slots__ = ("error", "frames", "maybe_done", "reply")

    def __init__(
        self,
        reply: Any = None,
        frames: Sequence[memoryview] = (),
        error: OdradekError | None = None,
        *,
        maybe_done: bool = False,
    ) -> None:
        self.reply = reply
        self.frames = frames
        self.error = error
        self.maybe_done = maybe_done


Callback: TypeAlias = Callable[[Outcome], None]


class Timer:
    """A call at a time of the monotonic clock, until it is cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """The call will not happen."""
        self.action = None


class _Pending:
    """A request that has not ended."""

    __slots__ = ("callback", "connect_timer", "endpoint", "request", "sent", "timer")

    def __init__(self, request: Request, endpoint: _Endpoint, callback: Callback) -> None:
        self.request = request
        self.endpoint = endpoint
        self.callback = callback
        self.sent = False
        self.timer: Timer | None = None
        self.connect_timer: Timer | None = None

    def cancel_timers(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.connect_timer is not None:
            self.connect_timer.cancel()


class _Endpoint:
    """One DEALER socket, what waits to be sent over it and what was."""

    __slots__ = (
        "address",
        "connected",
        "monitor",
        "outbox",
        "pending",
        "refusals",
        "security",
        "socket",
        "used_at",
    )

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], address: str, security: Curve | None) -> None:
        self.address = address
        # Who may open an ipc socket owns its directory.
        self.security = security if address.startswith("tcp://") else None
        self.refusals = 0
        self.connected = False
        self.outbox: deque[tuple[int, list[Frame]]] = deque()
        self.pending: dict[int, _Pending] = {}
        self.used_at = 0.0
        self.socket = _dealer(context)
        if self.security is not None:
            self.security.apply(self.socket)
        self.monitor = self.socket.get_monitor_socket(_MONITORED)
        self.socket.connect(address)

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=0)


def _dealer(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.immediate = True
    socket.sndhwm = SEND_HIGH_WATER_MARK
    socket.rcvhwm = RECEIVE_HIGH_WATER_MARK
    socket.maxmsgsize = MESSAGE_BYTES_MAX
    socket.reconnect_ivl = RECONNECT_MS
    socket.reconnect_ivl_max = RECONNECT_MS_MAX
    socket.heartbeat_ivl = HEARTBEAT_INTERVAL_MS
    socket.heartbeat_timeout = HEARTBEAT_TIMEOUT_MS
    return socket


def _closed() -> NetworkException:
    return NetworkException("the client was closed before the answer came")


def _silence(address: str, waited_s: float) -> str:
    return f"no broker answers at {address} (waited {waited_s:.3g} s); is it running?"


def _unknown_key(endpoint: _Endpoint) -> str:
    key = f"this key, {endpoint.security.public_key}," if endpoint.security is not None else "this client"
    return (
        f"{endpoint.address} does not let in {key}: an administrator can allow it with `odradek keys allow`"
    )


def _mismatch(endpoint: _Endpoint) -> str:
    if endpoint.security is None:
        return (
            f"{endpoint.address} demands a CURVE key: pass security=odradek.Curve(...) or set {FILE_VARIABLE}"
            " to a file of `odradek keys client`"
        )
    return f"{endpoint.address} does not speak CURVE: connect to it without keys"


def _broken_off(address: str, times: int) -> str:
    return (
        f"{address} broke the handshake off, {times} times: the server_key of this client is not the public "
        "key of that broker, or it has trouble of its own; `odradek keys server` shows the key"
    )


class Network:
    """A client's I/O thread, its sockets and its timers.

    ``call`` and ``close`` may be used from any thread; everything else belongs to the I/O thread.
    """

    def __init__(self, name: str, security: Curve | None = None) -> None:
        self._security = security
        self._commands: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._sleeping = False
        self._stopping = False
        self._closing = False
        self._ids = itertools.count(1)
        self._endpoints: dict[str, _Endpoint] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_numbers = itertools.count()
        self._wake_receiver, self._wake_sender = sockets.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_lock = threading.Lock()
        self._no_spare_until = 0.0
        self._poller = zmq.Poller()
        self._wake_fd = self._wake_receiver.fileno()
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._by_socket: dict[object, _Endpoint] = {}
        self._by_monitor: dict[object, _Endpoint] = {}
        self.pid = os.getpid()
        self.on_stop: Callable[[OdradekError], None] | None = None
        """Called once, in the I/O thread, when it ends; what still waits must be told."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # -- from any thread -----------------------------------------------------------------------

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run a function in the I/O thread, soon and in order."""
        self._commands.append((function, arguments))
        if self._sleeping:
            self.wake()

    def wake(self) -> None:
        """Make the I/O thread look at its commands."""
        with self._wake_lock:
            if self._sleeping:
                self._sleeping = False
                self._wake_sender.send(b"!")

    @property
    def in_thread(self) -> bool:
        """Whether the caller is the I/O thread, which must never wait."""
        return threading.current_thread() is self._thread

    @property
    def usable_here(self) -> bool:
        """Whether this process is the one that made the thread; a fork of it has no such thread."""
        return os.getpid() == self.pid

    @property
    def stopped(self) -> bool:
        """Whether the I/O thread takes no more work."""
        return self._stopping

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread. Requests that have not ended get NetworkException."""
        if not self.usable_here:
            return
        self.stop_soon()
        if not self.in_thread:
            self._thread.join(timeout_s)

    def stop_soon(self) -> None:
        """End the thread at its next turn, without waiting for it."""
        self._stopping = True
        self.wake()

    # -- from the I/O thread -------------------------------------------------------------------

    def call_later(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Run ``action`` in the I/O thread after a delay, unless its timer is cancelled."""
        timer = Timer(action)
        entry = (time.monotonic() + delay_s, next(self._timer_numbers), timer)
        heapq.heappush(self._timers, entry)
        return timer

    def has_room_for(self, address: str) -> bool:
        """Whether it is connected to ``address``, or one more may be; an idle one makes room if it must."""
        if address in self._endpoints or len(self._endpoints) < ENDPOINTS_MAX:
            return True
        now = time.monotonic()
        if now < self._no_spare_until:
            return False
        spare = min(
            (endpoint for endpoint in self._endpoints.values() if not endpoint.pending),
            key=lambda endpoint: endpoint.used_at,
            default=None,
        )
        if spare is None or spare.used_at > now - ENDPOINT_SPARE_S:
            # To look again for each of a thousand partitions would cost more than it brings.
            self._no_spare_until = now + ENDPOINT_SPARE_S / 4
            return False
        self._forget(spare)
        return True

    def connected(self, address: str) -> bool:
        """Whether a peer has answered at ``address``."""
        endpoint = self._endpoints.get(address)
        return endpoint is not None and endpoint.connected

    def send(
        self,
        address: str,
        request: Request,
        payload: Sequence[Frame],
        callback: Callback,
        *,
        timeout_s: float,
        connect_timeout_s: float,
    ) -> int:
        """Send a request; ``callback`` gets its Outcome in this thread. Returns the request's number."""
        number = next(self._ids)
        if self._closing:
            self.call(callback, Outcome(error=_closed()))
            return number
        endpoint = self._endpoint(address)
        request.id = number
        pending = _Pending(request, endpoint, callback)
        endpoint.pending[number] = pending
        frames: list[Frame] = [encode(request, Encoding.MSGPACK), *payload]
        if len(endpoint.outbox) >= OUTBOX_REQUESTS_MAX:
            busy = ThrottlingQuotaExceeded(f"{OUTBOX_REQUESTS_MAX} requests wait for {address} already")
            self.call(self._end, pending, number, Outcome(error=busy))
            return number
        pending.timer = self.call_later(timeout_s, lambda: self._time_out(number, pending, timeout_s))
        if endpoint.outbox or not self._transmit(endpoint, number, frames):
            self._queue(endpoint, number, frames, pending, connect_timeout_s)
        return number

    def abandon(self, address: str, number: int) -> None:
        """Forget a request: its answer, should it come, is dropped, and its callback not called."""
        endpoint = self._endpoints.get(address)
        pending = None if endpoint is None else endpoint.pending.pop(number, None)
        if pending is not None:
            pending.cancel_timers()

    def send_unanswered(self, address: str, request: Request, payload: Sequence[Frame]) -> bool:
        """Send a request that has no reply (acks 0); False while the peer is not there or is too slow."""
        if self._closing:
            return False
        endpoint = self._endpoint(address)
        request.id = None
        return self._write(endpoint, [encode(request, Encoding.MSGPACK), *payload])

    def _endpoint(self, address: str) -> _Endpoint:
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            endpoint = _Endpoint(self._context, address, self._security)
            self._endpoints[address] = endpoint
            self._by_socket[endpoint.socket] = endpoint
            self._by_monitor[endpoint.monitor] = endpoint
            self._poller.register(endpoint.socket, zmq.POLLIN)
            self._poller.register(endpoint.monitor, zmq.POLLIN)
        endpoint.used_at = time.monotonic()
        return endpoint

    def _queue(
        self,
        endpoint: _Endpoint,
        number: int,
        frames: list[Frame],
        pending: _Pending,
        connect_timeout_s: float,
    ) -> None:
        endpoint.outbox.append((number, frames))
        self._poller.modify(endpoint.socket, zmq.POLLIN | zmq.POLLOUT)

        def give_up() -> None:
            if not pending.sent and not endpoint.connected:
                error: OdradekError = NetworkException(_silence(endpoint.address, connect_timeout_s))
                if endpoint.security is not None and endpoint.refusals >= REFUSALS_MAX:
                    error = SaslAuthenticationFailed(_broken_off(endpoint.address, endpoint.refusals))
                self._end(pending, number, Outcome(error=error))

        pending.connect_timer = self.call_later(connect_timeout_s, give_up)

    def _transmit(self, endpoint: _Endpoint, number: int, frames: list[Frame]) -> bool:
        if not self._write(endpoint, frames):
            return False
        pending = endpoint.pending.get(number)
        if pending is not None:
            pending.sent = True
        return True

    def _write(self, endpoint: _Endpoint, frames: list[Frame]) -> bool:
        last = len(frames) - 1
        try:
            # Where the first frame is taken, the others are too.
            for index, frame in enumerate(frames):
                endpoint.socket.send(frame, _NOW | _MORE if index < last else _NOW)
        except zmq.Again:
            return False
        return True

    def _empty_outbox(self, endpoint: _Endpoint) -> None:
        while endpoint.outbox:
            number, frames = endpoint.outbox[0]
            if number in endpoint.pending and not self._transmit(endpoint, number, frames):
                return
            endpoint.outbox.popleft()
        self._poller.modify(endpoint.socket, zmq.POLLIN)

    def _time_out(self, number: int, pending: _Pending, timeout_s: float) -> None:
        address = pending.endpoint.address
        api = type(pending.request).__struct_config__.tag
        if pending.sent:
            story = f"{address} did not answer {api} within {timeout_s:g} s; the outcome is unknown"
            error: OdradekError = RequestTimedOut(story)
        else:
            error = NetworkException(_silence(address, timeout_s))
        self._end(pending, number, Outcome(error=error, maybe_done=pending.sent))

    def _end(self, pending: _Pending, number: int, outcome: Outcome) -> None:
        if pending.endpoint.pending.pop(number, None) is None:
            return
        pending.cancel_timers()
        self._run_guarded(pending.callback, outcome)

    def _receive(self, endpoint: _Endpoint, messages_max: int = RECEIVES_PER_TURN_MAX) -> None:
        socket = endpoint.socket
        for _ in range(messages_max):
            if not int(socket.get(zmq.EVENTS)) & _READABLE:
                return
            frame = socket.recv(_NOW, copy=False)
            header = frame.bytes
            payload: list[memoryview] = []
            while frame.more:
                # Not copied: what was fetched is decoded from where ZeroMQ has put it.
                frame = socket.recv(_NOW, copy=False)
                payload.append(frame.buffer)
            self._take_reply(endpoint, header, payload)

    def _take_reply(self, endpoint: _Endpoint, header: bytes, payload: list[memoryview]) -> None:
        try:
            number = peek_reply(header).id
        except (ValidationError, ValueError) as error:
            logger.warning("an unreadable reply from %s was dropped: %s", endpoint.address, error)
            return
        pending = endpoint.pending.get(number) if isinstance(number, int) else None
        if pending is None:
            return  # its request has timed out, or was sent before a reconnect
        assert isinstance(number, int)
        try:
            reply = REPLY_DECODERS[type(pending.request)].decode(header)
        except InvalidRequest as error:
            self._end(pending, number, Outcome(error=error, maybe_done=True))
            return
        error_or_none = None if reply.error is None else error_from_wire(reply.error)
        unknown = isinstance(error_or_none, RequestTimedOut | NetworkException)
        self._end(pending, number, Outcome(reply, payload, error_or_none, maybe_done=unknown))

    def _monitor(self, endpoint: _Endpoint) -> None:
        while True:
            try:
                event = parse_monitor_message(endpoint.monitor.recv_multipart(zmq.DONTWAIT))
            except zmq.Again:
                return
            match event["event"]:
                case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    endpoint.connected, endpoint.refusals = True, 0
                case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                    self._refuse(endpoint, _unknown_key(endpoint))
                    return
                case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL if event["value"] == _MECHANISM_MISMATCH:
                    self._refuse(endpoint, _mismatch(endpoint))
                    return
                case zmq.EVENT_DISCONNECTED:
                    endpoint.connected = False
                    self._lose(endpoint)
                case _:
                    endpoint.refusals += 1

    def _refuse(self, endpoint: _Endpoint, story: str) -> None:
        """The peer said no, and ZeroMQ will not ask again: the next request begins with a new socket."""
        self._forget(endpoint)
        for number, pending in list(endpoint.pending.items()):
            error = SaslAuthenticationFailed(story)
            self._end(pending, number, Outcome(error=error, maybe_done=pending.sent))

    def _lose(self, endpoint: _Endpoint) -> None:
        """The peer has gone: what was sent and not answered will not be answered any more."""
        self._receive(endpoint, RECEIVE_HIGH_WATER_MARK)
        lost = [(number, pending) for number, pending in endpoint.pending.items() if pending.sent]
        for number, pending in lost:
            story = f"the connection to {endpoint.address} was lost before the answer; the outcome is unknown"
            self._end(pending, number, Outcome(error=NetworkException(story), maybe_done=True))

    # -- the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.call_later(SLEEP_S_MAX, self._close_idle)
        try:
            while not self._stopping:
                self._run_commands()
                self._wait_and_serve(self._run_timers())
        finally:
            self._finish()

    def _run_commands(self) -> None:
        commands = self._commands
        for _ in range(len(commands)):
            function, arguments = commands.popleft()
            self._run_guarded(function, *arguments)

    def _run_guarded(self, function: Callable[..., object], *arguments: Any) -> None:
        """A mistake in one callback must not end the thread that serves all the others."""
        try:
            function(*arguments)
        except Exception:
            logger.exception("a callback of the client's I/O thread failed")

    def _run_timers(self) -> float:
        """Run what is due; the seconds until the next."""
        timers = self._timers
        now = time.monotonic()
        while timers:
            due, _, timer = timers[0]
            if timer.action is None:
                heapq.heappop(timers)
                continue
            if due > now:
                return min(due - now, SLEEP_S_MAX)
            heapq.heappop(timers)
            self._run_guarded(timer.action)
        return SLEEP_S_MAX

    def _wait_and_serve(self, timeout_s: float) -> None:
        self._sleeping = True
        if self._commands or self._stopping:
            self._sleeping = False
            timeout_s = 0
        # Rounded up: a timer that is woken for just before its time would be woken for twice.
        events = self._poller.poll(int(timeout_s * 1000) + 1 if timeout_s else 0)
        self._sleeping = False
        for readable, flags in events:
            if readable == self._wake_fd:
                self._wake_receiver.recv(WAKES_MAX)
            elif readable in self._by_monitor:
                self._monitor(self._by_monitor[readable])
            else:
                self._serve(self._by_socket.get(readable), flags)

    def _serve(self, endpoint: _Endpoint | None, flags: int) -> None:
        if endpoint is None:
            return
        if flags & _READABLE:
            self._receive(endpoint)
        if flags & _WRITABLE:
            self._empty_outbox(endpoint)

    def _close_idle(self) -> None:
        oldest = time.monotonic() - ENDPOINT_IDLE_S_MAX
        for endpoint in list(self._endpoints.values()):
            if not endpoint.pending and endpoint.used_at < oldest:
                self._forget(endpoint)
        self.call_later(SLEEP_S_MAX, self._close_idle)

    def _forget(self, endpoint: _Endpoint) -> None:
        del self._endpoints[endpoint.address]
        del self._by_socket[endpoint.socket]
        del self._by_monitor[endpoint.monitor]
        self._poller.unregister(endpoint.socket)
        self._poller.unregister(endpoint.monitor)
        endpoint.close()

    def _finish(self) -> None:
        """End every request and close every socket: one that stayed open would hang ``term()``."""
        self._stopping = True
        self._run_commands()
        self._closing = True  # a request that ends makes its owner ask again, which is refused from here on
        for endpoint in list(self._endpoints.values()):
            for number, pending in list(endpoint.pending.items()):
                self._end(pending, number, Outcome(error=_closed(), maybe_done=pending.sent))
            self._forget(endpoint)
        for _ in range(FAREWELL_ROUNDS_MAX):
            self._run_commands()
        if self.on_stop is not None:
            self._run_guarded(self.on_stop, _closed())
        self._context.term()
        with self._wake_lock:
            self._sleeping = False
            self._wake_sender.close()
            self._wake_receiver.close()
