"""ApiVersions (18), versions 0 to 3: what this gateway serves.

An unknown version is answered too, in the form of version 0 with UNSUPPORTED_VERSION, so that a newer
client can ask again in one that both know; aiokafka and others do not, and begin with version 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.kafka.handling import Context, Handler, Steps, answer
from odradek.protocol.errors import UnsupportedVersion


def handler(served: Mapping[int, tuple[int, int]]) -> Handler:
    """The handler that tells of these APIs."""
    api_keys = [
        {"api_key": key, "min_version": low, "max_version": high} for key, (low, high) in served.items()
    ]

    def handle(request: Any, _context: Context) -> Steps:
        return answer({"error_code": UnsupportedVersion.code if request is None else 0, "api_keys": api_keys})

    return handle
