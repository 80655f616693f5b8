"""Session: what a client knows about the broker, and how a request finds its way there.

A request for a partition goes to the partition's own ipc endpoint where that is on this host and
answers, else through a router. A direct endpoint that was silent is left alone for a while.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from odradek.connection import Callback, Frame, Network, Outcome
from odradek.options import Bootstrap, SessionOptions, bootstrap_endpoints
from odradek.protocol.errors import (
    LeaderNotAvailable,
    NetworkException,
    OdradekError,
    RequestTimedOut,
    UnknownTopicOrPartition,
    error_from_wire,
)
from odradek.protocol.messages import Metadata, PartitionMetadata, Request, TopicMetadata
from odradek.protocol.names import check_topic_name
from odradek.security import Curve

logger = logging.getLogger("odradek")

DIRECT_PENALTY_S: Final = 5.0
"""How long a partition's own endpoint is avoided after it was silent."""
DIRECT_CONNECT_MS_MAX: Final = 500.0
UNKNOWN_TOPIC_PATIENCE_S: Final = 2.0
"""A topic that was just made may be unknown to a router for a moment; a misspelt one is for ever."""
WAITER_GRACE_S: Final = 0.5
"""The I/O thread ends every request in time; the thread that waits for it gives it this much more."""
METADATA_REFRESH_S_MIN: Final = 0.05

_session_numbers = itertools.count(1)


class ClientForked(RuntimeError):
    """A client was used in a process forked after it was made."""


class ClientClosed(RuntimeError):
    """A client was used after ``close()``."""


class Backoff:
    """Exponential waits with jitter, from ``first_s`` up to ``max_s``."""

    def __init__(self, first_s: float, max_s: float) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._exponent = 0

    def next_s(self) -> float:
        """The next wait: between half of the step and all of it."""
        step_s = min(self._first_s * float(2**self._exponent), self._max_s)
        self._exponent = min(self._exponent + 1, 30)
        return step_s * (0.5 + random.random() / 2)  # noqa: S311 - jitter, not a secret

    def reset(self) -> None:
        """It worked: begin again with the first wait."""
        self._exponent = 0


class _Waiter:
    """Lets another thread wait for an Outcome."""

    __slots__ = ("_done", "outcome")

    def __init__(self) -> None:
        self._done = threading.Event()
        self.outcome: Outcome | None = None

    def __call__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._done.set()

    def wait(self, timeout_s: float) -> Outcome:
        if not self._done.wait(timeout_s) or self.outcome is None:
            late = RequestTimedOut(f"no outcome within {timeout_s:.1f} s")
            return Outcome(error=late, maybe_done=True)
        return self.outcome


class Session:
    """A client's view of the broker: routers, topics, routes. One of it serves one client object.

    ``call``, ``topic`` and ``close`` are for users' threads; ``submit``, ``submit_to_partition`` and
    ``refresh`` for the I/O thread.
    """

    def __init__(self, bootstrap: Bootstrap, options: SessionOptions, kind: str) -> None:
        self.options = options
        self._routers = bootstrap_endpoints(bootstrap)
        self._router_index = 0
        self.request_timeout_s = options.request_timeout_ms / 1000
        self._connect_timeout_s = options.connect_timeout_ms / 1000
        self._topics: dict[str, TopicMetadata] = {}
        self._topics_at: dict[str, float] = {}
        self._avoided_until: dict[str, float] = {}
        self.on_topic: Callable[[TopicMetadata], None] | None = None
        """Called with what was learnt of a topic; from the I/O thread or from a user's."""
        self._refreshing: dict[str, list[Callable[[OdradekError | None], None]]] = {}
        security = options.security or Curve.from_environment(os.environ)
        self.network = Network(f"odradek-{kind}-{next(_session_numbers)}", security)

    # -- from users' threads -------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise where this process is a fork of the one that made the client, or the client is closed."""
        if not self.network.usable_here:
            raise ClientForked(
                "this client was made before fork(): its thread and sockets stayed in the parent process. "
                "Make a client of its own in each process, after the fork"
            )
        if self.network.stopped:
            raise ClientClosed("this client is closed; make a new one")

    def call(
        self,
        request: Request,
        *,
        timeout_s: float | None = None,
        repeatable: bool = True,
        partition: tuple[str, int] | None = None,
    ) -> Any:
        """The reply to ``request``, after retries with backoff of what a retry can help.

        Args:
            timeout_s: for all attempts together; None for the session's request timeout.
            repeatable: whether a request that may have taken effect may be sent again.
            partition: (topic, partition) where the partition's own endpoint may answer.

        Raises the error that the broker named, NetworkException where no broker answers, RequestTimedOut
        where the outcome is unknown.
        """
        self.check_usable()
        assert not self.network.in_thread, "the I/O thread must not wait for itself"
        total_s = self.request_timeout_s if timeout_s is None else timeout_s
        started = time.monotonic()
        deadline = started + total_s
        backoff = self.backoff()
        while True:
            outcome = self._ask(request, max(deadline - time.monotonic(), 0.001), partition)
            if outcome.error is None:
                return outcome.reply
            if not outcome.error.retriable or (outcome.maybe_done and not repeatable):
                raise outcome.error
            wait_s = backoff.next_s()
            if isinstance(outcome.error, UnknownTopicOrPartition):
                deadline = min(deadline, started + UNKNOWN_TOPIC_PATIENCE_S)
            if self.network.stopped or time.monotonic() + wait_s >= deadline:
                raise outcome.error
            time.sleep(wait_s)

    def _ask(self, request: Request, timeout_s: float, partition: tuple[str, int] | None) -> Outcome:
        waiter = _Waiter()
        attempt_s = min(timeout_s, max(self.request_timeout_s, (request.timeout_ms or 0) / 1000))
        if partition is None:
            self.network.call(self._submit_to_router, request, (), waiter, attempt_s)
        else:
            topic, number = partition
            submit = functools.partial(self.submit_to_partition, timeout_s=attempt_s)
            self.network.call(submit, topic, number, request, (), waiter)
        return waiter.wait(timeout_s + WAITER_GRACE_S)

    def topic(self, name: str, *, create: bool, timeout_s: float) -> TopicMetadata:
        """What is known of a topic; looked up, and where ``create`` made, if it is not known yet.

        Raises InvalidTopic, UnknownTopicOrPartition, or what kept the broker from answering.
        """
        known = self._topics.get(name)
        if known is not None:
            return known
        check_topic_name(name)
        started = time.monotonic()
        backoff = self.backoff()
        while True:
            left_s = max(started + timeout_s - time.monotonic(), 0.001)
            reply = self.call(Metadata(topics=[name], allow_auto_create=create), timeout_s=left_s)
            error = self._learn(reply, name)
            if error is None:
                return self._topics[name]
            patience_s = timeout_s
            if isinstance(error, UnknownTopicOrPartition):
                patience_s = min(timeout_s, UNKNOWN_TOPIC_PATIENCE_S)
            wait_s = backoff.next_s()
            if not error.retriable or time.monotonic() - started + wait_s >= patience_s:
                raise error
            time.sleep(wait_s)

    def close(self, timeout_s: float) -> None:
        """End the I/O thread; requests that have not ended get NetworkException."""
        self.network.close(timeout_s)

    # -- from either ---------------------------------------------------------------------------

    def backoff(self) -> Backoff:
        """A fresh series of waits between retries."""
        return Backoff(self.options.retry_backoff_ms / 1000, self.options.retry_backoff_max_ms / 1000)

    def known_topic(self, name: str) -> TopicMetadata | None:
        """What is known of a topic, without asking."""
        return self._topics.get(name)

    # -- from the I/O thread -------------------------------------------------------------------

    def submit(self, request: Request, callback: Callback, *, timeout_s: float | None = None) -> None:
        """Send a request through a router, once."""
        self._submit_to_router(request, (), callback, timeout_s or self.request_timeout_s)

    def submit_to_partition(
        self,
        topic: str,
        partition: int,
        request: Request,
        payload: Sequence[Frame],
        callback: Callback,
        *,
        timeout_s: float | None = None,
        endpoint: str | None = None,
    ) -> tuple[str, int]:
        """Send a request for a partition, once; to ``endpoint`` where one was chosen by ``route``.

        Returns what ``network.abandon`` takes.
        """
        timeout_s = timeout_s or self.request_timeout_s
        direct = self.route(topic, partition) if endpoint is None else endpoint
        if direct == self.router:
            return self._submit_to_router(request, payload, callback, timeout_s)

        def after(outcome: Outcome) -> None:
            if isinstance(outcome.error, NetworkException | RequestTimedOut):
                self._avoided_until[direct] = time.monotonic() + DIRECT_PENALTY_S
                self.refresh(topic)
            elif isinstance(outcome.error, UnknownTopicOrPartition | LeaderNotAvailable):
                self.refresh(topic)
            callback(outcome)

        self._prepare(request, timeout_s)
        number = self.network.send(
            direct,
            request,
            payload,
            after,
            timeout_s=timeout_s,
            connect_timeout_s=min(self._connect_timeout_s, DIRECT_CONNECT_MS_MAX / 1000),
        )
        return direct, number

    def submit_unanswered(
        self, topic: str, partition: int, request: Request, payload: Sequence[Frame]
    ) -> bool:
        """Send a request that has no reply; False while it cannot be sent."""
        self._prepare(request, None)
        return self.network.send_unanswered(self.route(topic, partition), request, payload)

    @property
    def router(self) -> str:
        """The router in use."""
        return self._routers[self._router_index % len(self._routers)]

    def route(self, topic: str, partition: int) -> str:
        """The endpoint for a partition's requests: its own if that may answer, else the router's."""
        metadata = self._topics.get(topic)
        if metadata is None or partition >= len(metadata.partitions):
            self.refresh(topic)  # a group's member is told of partitions that it has never looked up
            return self.router
        if not self.options.direct:
            return self.router
        for endpoint in metadata.partitions[partition].endpoints:
            if endpoint.startswith("ipc://") and self._may_answer(endpoint):
                return endpoint if self.network.has_room_for(endpoint) else self.router
        return self.router

    def leader_epoch(self, topic: str, partition: int) -> int:
        """The epoch of a partition's leader as far as it is known, else -1."""
        metadata = self._topics.get(topic)
        if metadata is None or partition >= len(metadata.partitions):
            return -1
        return metadata.partitions[partition].leader_epoch

    def _may_answer(self, endpoint: str) -> bool:
        if self._avoided_until.get(endpoint, 0.0) > time.monotonic():
            return False
        return self.network.connected(endpoint) or Path(endpoint.removeprefix("ipc://")).is_socket()

    def refresh(self, topic: str, callback: Callable[[OdradekError | None], None] | None = None) -> None:
        """Look a topic up again; lookups of one topic are shared and not more frequent than is useful."""
        waiting = self._refreshing.get(topic)
        if waiting is not None:
            if callback is not None:
                waiting.append(callback)
            return
        if callback is None and time.monotonic() - self._topics_at.get(topic, -1e9) < METADATA_REFRESH_S_MIN:
            return
        self._refreshing[topic] = [] if callback is None else [callback]

        def after(outcome: Outcome) -> None:
            error = outcome.error if outcome.error is not None else self._learn(outcome.reply, topic)
            for waiter in self._refreshing.pop(topic):
                waiter(error)

        self.submit(Metadata(topics=[topic]), after)

    def refresh_old(self, topics: Iterable[str]) -> None:
        """Look up again those topics that were looked up long ago: they may have new partitions."""
        oldest = time.monotonic() - self.options.metadata_age_max_ms / 1000
        for topic in topics:
            if self._topics_at.get(topic, oldest) < oldest:
                self.refresh(topic)

    def _learn(self, reply: Any, topic: str) -> OdradekError | None:
        """Keep what a metadata reply says of a topic; the error if it says that there is none."""
        for found in reply.topics or ():
            if found.name != topic:
                continue
            error = _topic_error(found)
            if error is None:
                self._topics[topic] = found
                self._topics_at[topic] = time.monotonic()
                if self.on_topic is not None:
                    self.on_topic(found)
            return error
        return UnknownTopicOrPartition(f"the broker does not know topic {topic!r}")

    def _prepare(self, request: Request, timeout_s: float | None) -> None:
        request.client_id = self.options.client_id
        if timeout_s is not None and request.timeout_ms is None:
            request.timeout_ms = max(1, int(min(timeout_s, 600) * 1000))

    def _submit_to_router(
        self, request: Request, payload: Sequence[Frame], callback: Callback, timeout_s: float
    ) -> tuple[str, int]:
        router = self.router

        def after(outcome: Outcome) -> None:
            if isinstance(outcome.error, NetworkException | RequestTimedOut) and router == self.router:
                self._router_index += 1  # the next one, where there is another
            callback(outcome)

        self._prepare(request, timeout_s)
        number = self.network.send(
            router,
            request,
            payload,
            after,
            timeout_s=timeout_s,
            connect_timeout_s=self._connect_timeout_s,
        )
        return router, number


def _topic_error(topic: TopicMetadata) -> OdradekError | None:
    if topic.error is not None:
        return error_from_wire(topic.error)
    if not topic.partitions:
        return LeaderNotAvailable(f"topic {topic.name!r} has no partitions yet")
    topic.partitions.sort(key=_partition_number)
    return None


def _partition_number(partition: PartitionMetadata) -> int:
    return partition.partition
