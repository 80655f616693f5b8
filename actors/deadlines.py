"""When which of many things is due, cheaply though most deadlines only ever move further away."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field


@dataclass(slots=True)
class Deadlines:
    """A deadline by name. A later one replaces an earlier one only when the earlier one has passed: whoever
    is called too early says anew when it wants to be called."""

    _due_s: dict[str, float] = field(default_factory=dict)
    _heap: list[tuple[float, str]] = field(default_factory=list)

    def want(self, name: str, due_s: float | None) -> None:
        """Name it at that time, or earlier where it wanted that before."""
        if due_s is None or self._due_s.get(name, due_s + 1) <= due_s:
            return
        self._due_s[name] = due_s
        heapq.heappush(self._heap, (due_s, name))

    def take(self, now_s: float) -> list[str]:
        """Those whose deadline has passed; each has none then."""
        names: list[str] = []
        while self._heap and self._heap[0][0] <= now_s:
            due_s, name = heapq.heappop(self._heap)
            if self._due_s.get(name) == due_s:
                del self._due_s[name]
                names.append(name)
        return names

    def first_s(self) -> float | None:
        """When to call ``take`` again."""
        return self._heap[0][0] if self._heap else None
