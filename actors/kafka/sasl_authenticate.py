"""SaslAuthenticate (36), versions 0 to 2: one token of a log-in. A failed one ends the connection.

A log-in holds for as long as the connection does; nobody is asked to log in again.
"""

from __future__ import annotations

from typing import Any

from actors.kafka.handling import Body, Context, Steps, Wait
from actors.kafka.sasl import FAILURE_DELAY_S, Exchange
from odradek.protocol.errors import IllegalSaslState, OdradekError


def handle(request: Any, context: Context) -> Steps:
    """Takes the exchange a step on."""
    connection = context.connection
    exchange: Exchange | None = connection.authentication
    try:
        if exchange is None or exchange.principal is not None or connection.closing:
            raise IllegalSaslState("SaslHandshake comes first, and a log-in is done once")
        said = exchange.step(bytes(request.auth_bytes))
    except OdradekError as error:
        connection.closing = True
        yield Wait(context.now.monotonic_s + FAILURE_DELAY_S)
        return _body(error.code, error.message, b"", is_done=True)
    if exchange.principal is not None:
        connection.principal = exchange.principal
        connection.authenticated = True
    return _body(0, None, said, is_done=exchange.principal is not None)


def _body(error_code: int, message: str | None, auth_bytes: bytes, *, is_done: bool) -> Body:
    return {
        "error_code": error_code,
        "error_message": message,
        "auth_bytes": auth_bytes,
        "session_lifetime": 0,
        "is_done": is_done,  # for the connection, where tokens come bare
    }
