"""Tiers of the fault tests: what every test run does, and what only ``ODRADEK_FAULTS=all`` asks for."""

from __future__ import annotations

import os
from typing import TypeVar

import pytest

EVERYTHING = os.environ.get("ODRADEK_FAULTS") == "all"

long = pytest.mark.skipif(not EVERYTHING, reason="a longer fault test: ODRADEK_FAULTS=all make test runs it")
"""Marks a test that only the longer tier runs."""

Value = TypeVar("Value")


def in_tier(sampled: Value, everything: Value) -> Value:
    """``sampled`` in every test run, ``everything`` in the longer tier."""
    return everything if EVERYTHING else sampled
