"""Fetched: what tests get from elsewhere, asked for once: a network that is not there costs one time-out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")


def once(fetch: Callable[Arguments, Found]) -> Callable[Arguments, Found]:
    """Remembers by arguments what ``fetch`` returned, and what it raised."""
    found: dict[object, Found] = {}
    failed: dict[object, Exception] = {}

    @functools.wraps(fetch)
    def remembered(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Found:
        key = (args, tuple(sorted(kwargs.items())))
        if key in failed:
            raise failed[key]
        if key not in found:
            try:
                found[key] = fetch(*args, **kwargs)
            except Exception as error:
                failed[key] = error
                raise
        return found[key]

    return remembered
