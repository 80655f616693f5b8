"""An anomaly: one promise that a history shows broken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cause = Literal["", "delivery", "loss", "unknown"]
"""Of a record that is missing: it is in the files, it is not, or nobody looked into them."""


@dataclass(frozen=True, slots=True, order=True)
class Anomaly:
    """``name`` is Jepsen's or C1 to C7 with a word; ``story`` says who saw what, and where."""

    name: str
    key: str
    story: str
    cause: Cause = ""


@dataclass(frozen=True, slots=True)
class Promises:
    """What the judged run was promised besides the rest.

    ``dense``: no offset is missing between two records (no compaction, no transactions).
    ``kept``: nothing is deleted (no retention, no delete_records).
    """

    dense: bool = True
    kept: bool = True
