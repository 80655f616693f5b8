"""SaslHandshake (17), versions 0 and 1: by which mechanism the client wants to log in.

After version 0 the client's tokens come bare, each behind its length, without a request around it.
"""

from __future__ import annotations

from typing import Any

from actors.kafka.handling import Body, Context, Steps, answer
from odradek.protocol.errors import IllegalSaslState, OdradekError


def handle(request: Any, context: Context) -> Steps:
    """Begins an exchange; on a listener without SASL there is none to begin."""
    connection, logins = context.connection, context.logins
    if logins is None or not logins.mechanisms:
        connection.closing = True
        return answer(_body(IllegalSaslState.code, ()))
    if connection.authentication is not None:
        # A log-in is under way, or done: who wants another connects again.
        connection.closing = True
        return answer(_body(IllegalSaslState.code, logins.mechanisms))
    try:
        connection.authentication = logins.begin(request.mechanism)
    except OdradekError as error:
        connection.closing = True
        return answer(_body(error.code, logins.mechanisms))
    return answer(_body(0, logins.mechanisms))


def _body(error_code: int, mechanisms: tuple[str, ...]) -> Body:
    return {"error_code": error_code, "mechanisms": mechanisms}
