"""Commits: the positions that a group keeps for its members."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from odradek.connection import Outcome
from odradek.fetcher import TopicPartition
from odradek.membership import Membership, grouped
from odradek.protocol.errors import OdradekError, StaleMemberEpoch, UnknownMemberId, error_from_wire
from odradek.protocol.messages import CommitOffset, OffsetCommit, OffsetFetch
from odradek.session import Session

logger = logging.getLogger("odradek")

STALE_EPOCH_TRIES_MAX: Final = 5
"""How often a commit is tried with a newer epoch before the user hears of it."""


class Commits:
    """One group's committed offsets, as far as this consumer has stored or read them.

    ``membership`` is None for a consumer that chose its partitions itself.
    """

    def __init__(self, session: Session, group: str, changed: threading.Condition) -> None:
        self._session = session
        self._group = group
        self._changed = changed
        self._known: dict[TopicPartition, int] = {}
        self.membership: Membership | None = None

    def fetch(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int | None]:
        """The committed offset of each, None where there is none."""
        found: dict[TopicPartition, int | None] = dict.fromkeys(partitions)
        if not partitions:
            return found
        reply = self._session.call(OffsetFetch(group=self._group, topics=list(grouped(partitions))))
        for item in reply.offsets:
            key = TopicPartition(item.topic, item.partition)
            if key in partitions and item.offset >= 0:
                found[key] = item.offset
        return found

    def note(self, partition: TopicPartition, offset: int) -> None:
        """This is what is committed."""
        self._known[partition] = offset

    def forget(self, partition: TopicPartition) -> None:
        """The partition moves away: what its next owner commits is not heard of."""
        self._known.pop(partition, None)

    def missing(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Those positions that are not committed."""
        return {key: offset for key, offset in positions.items() if self._known.get(key) != offset}

    def store(self, offsets: Mapping[TopicPartition, int], timeout_s: float) -> None:
        """Commit and wait; with a newer epoch where the group has moved on meanwhile."""
        if not offsets:
            return
        deadline = time.monotonic() + timeout_s
        for attempt in range(1, STALE_EPOCH_TRIES_MAX + 1):
            request = self._request(offsets)
            left_s = max(0.001, deadline - time.monotonic())
            try:
                self._stored(offsets, self._session.call(request, timeout_s=left_s))
            except StaleMemberEpoch:
                if attempt == STALE_EPOCH_TRIES_MAX or not self._wait_for_epoch(
                    request.member_epoch, deadline
                ):
                    raise
            else:
                return

    def store_later(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit without waiting; a failure is logged."""
        if not offsets:
            return

        def after(outcome: Outcome) -> None:
            try:
                if outcome.error is not None:
                    raise outcome.error
                self._stored(offsets, outcome.reply)
            except OdradekError as error:
                logger.warning("group %s: a commit failed, the next one includes it: %s", self._group, error)

        try:
            request = self._request(offsets)
        except UnknownMemberId as error:
            logger.warning("%s", error.message)
            return
        self._session.network.call(self._session.submit, request, after)

    def _request(self, offsets: Mapping[TopicPartition, int]) -> OffsetCommit:
        """Raises UnknownMemberId where the partitions were given away and that was not dealt with yet.

        The member may have joined again by now, and have them again: its epoch would be right, and its old
        positions would take those back that others have committed meanwhile.
        """
        membership = self.membership
        member_id, epoch = None, None
        if membership is not None:
            with self._changed:
                member_id, epoch = membership.member_id, membership.epoch
                if membership.lost:
                    raise UnknownMemberId(
                        f"group {self._group}: this member's partitions were given to others; what it has "
                        "not committed will be read again. Ask for records to go on"
                    )
        return OffsetCommit(
            group=self._group,
            member_id=member_id,
            member_epoch=epoch,
            offsets=[
                CommitOffset(topic=topic, partition=partition, offset=offset)
                for (topic, partition), offset in offsets.items()
            ],
        )

    def _wait_for_epoch(self, old_epoch: int | None, deadline: float) -> bool:
        membership = self.membership
        if membership is None or time.monotonic() >= deadline:
            return False
        self._session.network.call(membership.beat)
        with self._changed:
            return self._changed.wait_for(
                lambda: membership.epoch != old_epoch and not membership.lost, deadline - time.monotonic()
            )

    def _stored(self, offsets: Mapping[TopicPartition, int], reply: Any) -> None:
        for item in reply.offsets:
            if item.error is not None:
                raise error_from_wire(item.error)
        self._known.update(offsets)
