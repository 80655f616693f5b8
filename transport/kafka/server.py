"""The Kafka listeners of one process: sockets in one epoll, requests out of them, responses into them.

Everything that a stranger can make this process keep has a bound: connections, bytes of frames under way,
bytes of requests that are being served, bytes of responses that nobody reads, and time for each of them.
"""

from __future__ import annotations

import errno
import ipaddress
import select
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actors.actor import KafkaClosed, KafkaEnvelope, KafkaPeer, Message, Moment
from actors.effects import KafkaReply, Sender
from odradek.protocol.batch import Buffer
from odradek.protocol.codec import Encoding
from transport.kafka.codec import RequestRefused, Versions, encode_response, read_request, warm_up
from transport.kafka.connection import READS_PER_TURN_MAX, Connection
from transport.kafka.encoding import EncodingError
from transport.kafka.frames import SHARED_BYTES, FrameReader, FrameRefused
from transport.kafka.streams import PlainStream, Stream
from transport.kafka.tokens import (
    BARE_VERSION,
    LOG_IN_KEYS,
    begins_tokens,
    encode_token,
    is_logged_in,
    read_token,
)

SOCKET = "kafka"
REQUESTS_PER_TURN_MAX = 512
ACCEPTS_PER_TURN_MAX = 64
LISTEN_BACKLOG = 1_024
SWEEP_INTERVAL_S = 1.0
ACCEPT_PAUSE_S = 1.0
"""Where the process has no descriptors left, it takes no connections for so long."""
MEMORY_SHARE = 8
"""Frames under way, requests in service and unread responses may each take this part of the memory limit."""
SHARE_BYTES_MIN = 32 << 20
HELD_BACK_S_MAX = 45.0
"""Requests that fill their share for so long, and let nobody else be read, end: those of the clients with the
most bytes first. It is longer than a produce request takes that is never answered."""
GONE = "the client is gone"
_READ = select.EPOLLIN
_WRITE = select.EPOLLOUT
_ENDED = select.EPOLLERR | select.EPOLLHUP

LogLine = Callable[[str, dict[str, object]], None]
Wrap = Callable[[socket.socket], Stream]


@dataclass(frozen=True, slots=True)
class KafkaListener:
    """An address that Kafka clients connect to. ``wrap`` makes a stream of an accepted socket."""

    name: str
    host: str
    port: int
    wrap: Wrap = PlainStream
    must_log_in: bool = False


@dataclass(frozen=True, slots=True)
class KafkaServerOptions:
    """``versions``: what is served, by api key."""

    listeners: tuple[KafkaListener, ...]
    versions: Versions
    connections_max: int = 10_000
    request_bytes_max: int = 64 << 20
    memory_bytes_max: int = 0


@dataclass(slots=True)
class _Totals:
    frames_bytes: int = 0
    requests_bytes: int = 0
    unsent_bytes: int = 0


class KafkaServer:
    """What ``transport.host`` turns besides its ZeroMQ sockets."""

    def __init__(self, options: KafkaServerOptions, log: LogLine) -> None:
        self._options = options
        self._log = log
        self._share_bytes = max(SHARE_BYTES_MIN, options.memory_bytes_max // MEMORY_SHARE)
        self._epoll = select.epoll()
        self._listening: dict[int, tuple[socket.socket, KafkaListener]] = {}
        self._by_fd: dict[int, Connection] = {}
        self._by_identity: dict[bytes, Connection] = {}
        self._shared = memoryview(bytearray(SHARED_BYTES))
        self._accepted = 0
        self._totals = _Totals()
        self._more: set[int] = set()  # connections that have more than was read of them
        self._touched: set[Connection] = set()
        self._held_back: set[Connection] = set()
        self._held_back_s: float | None = None  # since when there are any
        self._closed: list[Message] = []
        self._next_sweep_s = 0.0
        self._accepts_from_s: float | None = None
        self._is_warm = False
        self._reasons: Counter[str] = Counter()

    # -- for the host ------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Readable whenever ``receive`` has something to do."""
        return self._epoll.fileno()

    def bind(self) -> dict[str, str]:
        """Listen; "host:port" of each listener by name, with port 0 made real. Raises OSError."""
        endpoints = {}
        for listener in self._options.listeners:
            family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
            listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listening.bind((listener.host, listener.port))
                listening.listen(LISTEN_BACKLOG)
            except OSError:
                listening.close()
                raise
            self._listening[listening.fileno()] = listening, listener
            self._epoll.register(listening.fileno(), _READ)
            endpoints[listener.name] = endpoint(listener.host, listening.getsockname()[1])
        return endpoints

    def receive(self, now: Moment) -> Sequence[Message]:
        """What has come: requests, and the ends of connections."""
        messages: list[Message] = []
        for fd, events in self._ready():
            connection = self._by_fd.get(fd)
            if connection is None:
                if fd in self._listening:
                    self._accept(fd, now.monotonic_s)
                continue
            self._touched.add(connection)
            if events & _WRITE and connection.unsent_bytes:
                self._send(connection, now.monotonic_s)
            if events & _ENDED and not connection.wants_read:
                self._close(connection, GONE)
            elif events != _WRITE or connection.stream.wants_write:
                self._read(connection, now.monotonic_s, messages)
            if len(messages) >= REQUESTS_PER_TURN_MAX:
                break
        return self._with_closed(messages) if self._closed else messages

    def reply(self, effect: KafkaReply) -> None:
        """Put a response into its place; it leaves with ``flush``."""
        connection = self._by_identity.get(effect.to.identity)
        if connection is None:
            return
        request: Any = effect.to.id
        response: Sequence[Buffer] = ()
        if effect.body is not None:
            try:
                response = self._encode(connection, request, effect, effect.body)
            except EncodingError as error:
                fields = {"level": "error", "api_key": effect.api_key, "version": effect.version}
                self._log("a response could not be written", {**fields, "error": str(error)})
                self._close(connection, "a response could not be written")
                return
        unsent_bytes, requests_bytes = connection.unsent_bytes, connection.requests_bytes
        connection.answer(request, response)
        self._totals.unsent_bytes += connection.unsent_bytes - unsent_bytes
        self._totals.requests_bytes += connection.requests_bytes - requests_bytes
        connection.closes_behind_last |= effect.closes
        self._touched.add(connection)

    @staticmethod
    def _encode(
        connection: Connection, request: int, effect: KafkaReply, body: Mapping[str, Any]
    ) -> Sequence[Buffer]:
        """Raises EncodingError."""
        if effect.api_key in LOG_IN_KEYS:
            if connection.must_log_in and is_logged_in(effect.api_key, body):
                connection.admit()
            if effect.version == BARE_VERSION:
                connection.expect_tokens(not body["is_done"])
                return encode_token(body)
            if begins_tokens(effect.api_key, effect.version, body):
                connection.expect_tokens(True)
        correlation_id = connection.correlation_id(request)
        return encode_response(effect.api_key, effect.version, correlation_id, body)

    def flush(self, now: Moment) -> Sequence[Message]:
        """Send what this turn brought; to be called once its effects are performed."""
        touched, self._touched = self._touched, set()
        for connection in touched:
            if connection.unsent_bytes and connection.is_open:
                self._send(connection, now.monotonic_s)
            if connection.is_open:
                self._after_turn(connection)
        if self._accepted and not self._is_warm:
            self._is_warm = True
            warm_up()
        if now.monotonic_s >= self._next_sweep_s:
            self._sweep(now.monotonic_s)
        if self._held_back:
            self._release_held_back()
        return self._with_closed([]) if self._closed else ()

    def deadline(self) -> float:
        """When ``receive`` and ``flush`` must be called at the latest."""
        return 0.0 if self._more else self._next_sweep_s

    def close(self) -> None:
        """End every connection."""
        for connection in list(self._by_fd.values()):
            self._close(connection, "the gateway ends")
        for listening, _ in self._listening.values():
            listening.close()
        self._epoll.close()

    # -- connections -------------------------------------------------------------------------------------

    def _ready(self) -> list[tuple[int, int]]:
        ready = self._epoll.poll(0)
        if self._more:
            known = {fd for fd, _ in ready}
            ready += [(fd, _READ) for fd in self._more if fd not in known]
        return ready

    def _accept(self, fd: int, now_s: float) -> None:
        listening, listener = self._listening[fd]
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                accepted, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause_accepting(now_s, error)
                    return
                continue  # the client was gone before it was accepted
            if len(self._by_fd) >= self._options.connections_max:
                self._count_closed("too many connections")
                accepted.close()
                continue
            self._open(accepted, str(address[0]), listener, now_s)

    def _pause_accepting(self, now_s: float, error: OSError) -> None:
        self._log("no more connections for now", {"level": "warning", "error": str(error)})
        self._accepts_from_s = now_s + ACCEPT_PAUSE_S
        for fd in self._listening:
            self._epoll.modify(fd, 0)

    def _open(self, accepted: socket.socket, host: str, listener: KafkaListener, now_s: float) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        fd = accepted.fileno()  # a TLS stream takes the socket away
        try:
            stream_address = accepted.getsockname()
            stream = listener.wrap(accepted)
        except OSError as error:
            self._count_closed(f"refused at once: {error}")
            accepted.close()
            return
        self._accepted += 1
        reader = FrameReader(self._shared, self._options.request_bytes_max)
        reached = _plain_host(str(stream_address[0]))
        peer = KafkaPeer(_plain_host(host), listener.name, reached=reached)
        connection = Connection(self._accepted, fd, peer, stream, reader, now_s)
        if listener.must_log_in:
            connection.demand_log_in()
        connection.events = _READ
        self._epoll.register(connection.fd, _READ)
        self._by_fd[connection.fd] = connection
        self._by_identity[connection.identity] = connection

    def _close(self, connection: Connection, reason: str) -> None:
        if not connection.is_open:
            return
        connection.is_open = False
        del self._by_identity[connection.identity]
        self._count_closed(reason)
        del self._by_fd[connection.fd]
        self._more.discard(connection.fd)
        self._held_back.discard(connection)
        self._epoll.unregister(connection.fd)
        connection.stream.close()
        self._totals.frames_bytes -= connection.reader.held_bytes
        self._totals.requests_bytes -= connection.requests_bytes
        self._totals.unsent_bytes -= connection.unsent_bytes
        self._closed.append(KafkaClosed(connection.identity))

    def _with_closed(self, messages: list[Message]) -> list[Message]:
        """The messages and, behind them, the ends of connections."""
        messages += self._closed
        self._closed.clear()
        return messages

    def _count_closed(self, reason: str) -> None:
        self._reasons[reason] += 1

    # -- reading -----------------------------------------------------------------------------------------

    def _read(self, connection: Connection, now_s: float, messages: list[Message]) -> None:
        if self._more:
            self._more.discard(connection.fd)
        if connection.backlog:
            self._take_backlog(connection, messages)
        for _ in range(READS_PER_TURN_MAX):
            if not self._may_read(connection):
                return
            try:
                count = connection.stream.receive(connection.reader.target())
            except BlockingIOError:
                return
            except OSError:
                count = 0
            if count == 0:
                self._close(connection, GONE)
                return
            self._cut(connection, count, now_s)
            self._take_backlog(connection, messages)
            if not connection.reader.held_bytes:
                return

    def _may_read(self, connection: Connection) -> bool:
        if self._totals.requests_bytes >= self._share_bytes and not connection.reader.held_bytes:
            self._held_back.add(connection)
            return False
        return connection.is_open and not connection.backlog and connection.may_begin

    def _cut(self, connection: Connection, count: int, now_s: float) -> None:
        reader = connection.reader
        connection.heard_s = now_s
        was_between, held_bytes = reader.is_between_frames, reader.held_bytes
        try:
            frames = reader.received(count)
        except FrameRefused as error:
            self._refuse(connection, str(error))
            return
        if frames or was_between:
            connection.frame_began_s = now_s
        connection.backlog.extend(frames)
        if reader.held_bytes == held_bytes:
            return
        self._totals.frames_bytes += reader.held_bytes - held_bytes
        if self._totals.frames_bytes > self._share_bytes and reader.held_bytes:
            self._close(connection, "too many bytes of requests that are not whole")

    def _take_backlog(self, connection: Connection, messages: list[Message]) -> None:
        """The requests that are whole, as many as may be in flight; the others wait here."""
        while connection.backlog and connection.may_begin and connection.is_open:
            envelope = self._envelope(connection, connection.backlog.popleft())
            if envelope is not None:
                messages.append(envelope)

    def _envelope(self, connection: Connection, frame: Buffer) -> KafkaEnvelope | None:
        try:
            takes_tokens = connection.takes_tokens
            request = read_token(frame) if takes_tokens else read_request(frame, self._options.versions)
        except RequestRefused as error:
            self._refuse(connection, str(error))
            return None
        size_bytes = len(frame)
        number = connection.expect(request.header.correlation_id, size_bytes)
        self._totals.requests_bytes += size_bytes
        sender = Sender(SOCKET, connection.identity, False, Encoding.MSGPACK, number)
        principal = connection.stream.principal
        if principal is not None and connection.peer.principal != principal:
            connection.peer = replace(connection.peer, principal=principal)
        return KafkaEnvelope(
            sender,
            connection.peer,
            request.header.api_key,
            request.header.version,
            request.client_id,
            request.body,
            size_bytes,
        )

    def _refuse(self, connection: Connection, why: str) -> None:
        fields: dict[str, object] = {"level": "info", "client": connection.peer.host, "why": why}
        if not self._reasons["malformed request"] % 100:
            self._log("a Kafka client sent what cannot be read", fields)
        self._close(connection, "malformed request")

    # -- writing -----------------------------------------------------------------------------------------

    def _send(self, connection: Connection, now_s: float) -> None:
        before_bytes = connection.unsent_bytes
        try:
            connection.send(now_s)
        except OSError:
            self._close(connection, GONE)
            return
        self._totals.unsent_bytes -= before_bytes - connection.unsent_bytes

    def _after_turn(self, connection: Connection) -> None:
        if connection.closes_behind_last and not connection.unsent_bytes:
            self._close(connection, "closed behind its last answer")
            return
        if self._totals.unsent_bytes > self._share_bytes and connection.unsent_bytes:
            hoarder = max(self._by_fd.values(), key=lambda each: each.unsent_bytes)
            self._close(hoarder, "too many bytes of responses are unread")
            if hoarder is connection:
                return
        events = 0
        if connection.may_begin:
            if connection.backlog or connection.stream.has_read_ahead:
                self._more.add(connection.fd)
            if not connection.backlog and connection not in self._held_back:
                events = _READ
        if connection.unsent_bytes or connection.stream.wants_write:
            events |= _WRITE
        if events != connection.events:
            self._epoll.modify(connection.fd, events)
            connection.events = events

    def _release_held_back(self) -> None:
        if self._held_back and self._totals.requests_bytes < self._share_bytes // 2:
            released, self._held_back = self._held_back, set()
            for connection in released:
                self._after_turn(connection)

    # -- time --------------------------------------------------------------------------------------------

    def _sweep(self, now_s: float) -> None:
        self._next_sweep_s = now_s + SWEEP_INTERVAL_S
        if self._accepts_from_s is not None and now_s >= self._accepts_from_s:
            self._accepts_from_s = None
            for fd in self._listening:
                self._epoll.modify(fd, _READ)
        self._make_room(now_s)
        for connection in list(self._by_fd.values()):
            reason = connection.overdue(now_s)
            if reason is not None:
                self._close(connection, reason)

    def _make_room(self, now_s: float) -> None:
        """Some requests may wait for hours; others are not held back as long as that."""
        if not self._held_back:
            self._held_back_s = None
            return
        if self._held_back_s is None:
            self._held_back_s = now_s
        if now_s - self._held_back_s <= HELD_BACK_S_MAX:
            return
        for connection in sorted(self._by_fd.values(), key=lambda each: each.requests_bytes, reverse=True):
            if self._totals.requests_bytes < self._share_bytes // 2:
                return
            self._close(connection, "requests that wait take too much room")

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._by_fd)

    @property
    def closed_by_reason(self) -> Mapping[str, int]:
        """How many connections ended, and why."""
        return self._reasons


def endpoint(host: str, port: int) -> str:
    """ "host:port"; an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _plain_host(host: str) -> str:
    """An IPv4 address that came through an IPv6 socket, as itself."""
    mapped = getattr(ipaddress.ip_address(host.partition("%")[0]), "ipv4_mapped", None)
    return str(mapped) if mapped is not None else host
