"""Clients of other makers: what they leave to the garbage collector goes with their module."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _leftovers_are_collected() -> Iterator[None]:
    """Sockets that kafka-python and aiokafka do not close, as where a broker goes away.

    Collected later, each would be a warning, and so a failure, of a test that has nothing to do with them.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
