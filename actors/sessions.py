"""Members' time: when each was heard last, and by when it must have let go of what it was told to.

Nothing of this is durable: a coordinator that starts again gives every member a whole session.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import NamedTuple

from actors.assignment import PartitionSet

LATENESS_MAX_S = 5.0
"""Called later than this, the coordinator itself was held up, and takes nobody's silence for death."""
EXPIRY_RETRY_S = 1.0
"""How long until a member whose time is up is named again, should its expulsion not have worked."""


class MemberName(NamedTuple):
    group: str
    member_id: str


@dataclass(slots=True)
class Session:
    """One member's two deadlines, in monotonic seconds, and what it last said that it holds."""

    expires_s: float
    revocation_expires_s: float = math.inf
    owned: PartitionSet | None = None
    guess_s: float = math.inf

    @property
    def due_s(self) -> float:
        return min(self.expires_s, self.revocation_expires_s)


@dataclass(slots=True)
class Sessions:
    """Every member's session.

    A heartbeat only writes down a later deadline. The heap holds one guess for each member, never later
    than its deadline, which is corrected when its turn comes, so that heartbeats cost nothing however
    many members there are. A guess that another one replaced is passed over.
    """

    _sessions: dict[MemberName, Session] = field(default_factory=dict)
    _guesses: list[tuple[float, MemberName]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._sessions)

    def touch(self, name: MemberName, expires_s: float, owned: PartitionSet | None) -> Session:
        """The member was heard; its session lasts until then. ``owned`` None: as it said before."""
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = Session(expires_s)
            self._guess(name, session, expires_s)
        session.expires_s = expires_s
        if owned is not None:
            session.owned = owned
        return session

    def start_revocation(self, name: MemberName, expires_s: float) -> None:
        """The member was told to let go of partitions, and has until then."""
        session = self._sessions[name]
        session.revocation_expires_s = expires_s
        if expires_s < session.guess_s:
            self._guess(name, session, expires_s)

    def end_revocation(self, name: MemberName) -> None:
        """The member has nothing to let go."""
        self._sessions[name].revocation_expires_s = math.inf

    def forget(self, name: MemberName) -> None:
        """The member is gone."""
        self._sessions.pop(name, None)

    def due(self, now_s: float) -> list[tuple[MemberName, Session]]:
        """The members whose time is up. Each is named again later unless it is forgotten or heard."""
        late: list[tuple[MemberName, Session]] = []
        while self._guesses and self._guesses[0][0] <= now_s:
            guess_s, name = heapq.heappop(self._guesses)
            session = self._sessions.get(name)
            if session is None or session.guess_s != guess_s:
                continue
            if session.due_s <= now_s:
                late.append((name, session))
                self._guess(name, session, now_s + EXPIRY_RETRY_S)
            else:
                self._guess(name, session, session.due_s)
        return late

    def _guess(self, name: MemberName, session: Session, at_s: float) -> None:
        session.guess_s = at_s
        heapq.heappush(self._guesses, (at_s, name))

    def next_due_s(self) -> float | None:
        """When to ask ``due`` again: never too late, sometimes early."""
        return self._guesses[0][0] if self._guesses else None

    def prolong(self, until_s: float) -> None:
        """Nobody could be heard for a while: nobody's time is up before then."""
        for session in self._sessions.values():
            session.expires_s = max(session.expires_s, until_s)
            session.revocation_expires_s = max(session.revocation_expires_s, until_s)
