"""Those who want to hear when a partition's high watermark has moved: gateways, one question each."""

from __future__ import annotations

from actors.actor import Moment
from actors.effects import Effect, Reply, Sender
from actors.messages import Watch, WatchReply
from odradek.protocol.errors import OdradekError
from odradek.protocol.messages import failure

WATCHERS_MAX = 1_000
"""Each gateway watches a partition once; beyond so many the oldest is told at once what there is."""


class Watching:
    """The watchers of one partition, each with the offset to be passed and the end of its time."""

    def __init__(self) -> None:
        self._watchers: list[tuple[Sender, int, float]] = []

    def add(self, sender: Sender, watch: Watch, high_watermark: int, start: int, now: Moment) -> list[Effect]:
        """Answer at once, or keep the watch until there is something to say."""
        if watch.offset < high_watermark or watch.max_wait_ms <= 0:
            return [_told(sender, high_watermark, start)]
        self._watchers.append((sender, watch.offset, now.monotonic_s + watch.max_wait_ms / 1000))
        if len(self._watchers) <= WATCHERS_MAX:
            return []
        return [_told(self._watchers.pop(0)[0], high_watermark, start)]

    def moved(self, high_watermark: int, start: int) -> list[Effect]:
        """Tell those whose offset is passed."""
        if not self._watchers:
            return []
        told = [
            _told(sender, high_watermark, start) for sender, at, _ in self._watchers if at < high_watermark
        ]
        self._watchers = [watcher for watcher in self._watchers if watcher[1] >= high_watermark]
        return told

    def expire(self, high_watermark: int, start: int, now: Moment) -> list[Effect]:
        """Tell those whose time is over."""
        told = [
            _told(sender, high_watermark, start)
            for sender, _, until_s in self._watchers
            if until_s <= now.monotonic_s
        ]
        if told:
            self._watchers = [watcher for watcher in self._watchers if watcher[2] > now.monotonic_s]
        return told

    def deadline(self) -> float | None:
        """When the next one's time is over."""
        return min((until_s for _, _, until_s in self._watchers), default=None)

    def refuse(self, error: OdradekError) -> list[Effect]:
        """Nobody watches here any more."""
        watchers, self._watchers = self._watchers, []
        return [Reply(sender, failure(error)) for sender, _, _ in watchers]


def _told(sender: Sender, high_watermark: int, start: int) -> Effect:
    return Reply(sender, WatchReply(high_watermark=high_watermark, log_start_offset=start))
