"""Users: DescribeUserScramCredentials (50) and AlterUserScramCredentials (51), version 0.

Clients send the salted password, which is as good as the password to whoever reads it: these requests are
for administrators over TLS, or on this machine. `odradek users` sends only what the broker keeps.
"""

from __future__ import annotations

from typing import Any

from actors.kafka.describe_acls import check_administrator
from actors.kafka.handling import Ask, Body, Context, Steps
from actors.messages import SUPERVISOR
from actors.operations import Operation
from odradek.protocol.access import ITERATIONS_MAX, ITERATIONS_MIN, ScramMechanism
from odradek.protocol.errors import (
    InvalidRequest,
    OdradekError,
    UnacceptableCredential,
    UnsupportedSaslMechanism,
)
from odradek.protocol.messages import (
    AlterUsers,
    AlterUsersReply,
    DescribeUsers,
    DescribeUsersReply,
    UserCredential,
    UserRemoval,
)
from odradek.protocol.scram import credential_from_salted

MECHANISMS: dict[int, ScramMechanism] = {1: "SCRAM-SHA-256", 2: "SCRAM-SHA-512"}
_NUMBERS = {name: number for number, name in MECHANISMS.items()}
_SALTED_BYTES: dict[ScramMechanism, int] = {"SCRAM-SHA-256": 32, "SCRAM-SHA-512": 64}
USERS_MAX = 1_000
CHANGES_MAX = 2 * len(MECHANISMS) * USERS_MAX
"""Each credential of each user goes, and comes anew."""


def describe(request: Any, context: Context) -> Steps:
    """Which credentials users have; the secrets themselves never leave the broker."""
    names = None if not request.users else [user.name for user in request.users]
    try:
        check_administrator(Operation.DESCRIBE, context)
        (outcome,) = yield (Ask(SUPERVISOR, DescribeUsers(names=names)),)
        users: Any = outcome.expect(DescribeUsersReply).users
    except OdradekError as error:
        return {"throttle_time": 0, "error_code": error.code, "error_message": error.message, "results": []}
    return {
        "throttle_time": 0,
        "error_code": 0,
        "error_message": None,
        "results": [
            _result(user.name, user.error)
            | {
                "credential_infos": [
                    {"mechanism": _NUMBERS[each.mechanism], "iterations": each.iterations}
                    for each in user.mechanisms
                ]
            }
            for user in users
        ],
    }


def alter(request: Any, context: Context) -> Steps:
    """Every user on its own: all that is asked for one is done, or nothing."""
    named = list(dict.fromkeys(each.name for each in (*request.deletions, *request.upsertions)))
    changes = len(request.deletions) + len(request.upsertions)
    if len(named) > USERS_MAX or changes > CHANGES_MAX:
        raise InvalidRequest(
            f"the request has {changes} changes of {len(named)} users; {CHANGES_MAX} of {USERS_MAX} are "
            "the most"
        )
    errors: dict[str, Any] = {}
    removals: list[UserRemoval] = []
    credentials: list[UserCredential] = []
    try:
        check_administrator(Operation.ALTER, context)
    except OdradekError as error:
        return {"throttle_time": 0, "results": [_result(name, error) for name in named]}
    for name in named:
        try:
            gone = [_removal(each) for each in request.deletions if each.name == name]
            come = [_credential(each) for each in request.upsertions if each.name == name]
        except OdradekError as error:
            errors[name] = error
            continue
        removals += gone
        credentials += come
    if removals or credentials:
        (outcome,) = yield (Ask(SUPERVISOR, AlterUsers(removals=removals, credentials=credentials)),)
        try:
            altered: Any = outcome.expect(AlterUsersReply).users
            errors |= {user.name: user.error for user in altered}
        except OdradekError as error:
            errors |= dict.fromkeys(set(named) - errors.keys(), error)
    return {"throttle_time": 0, "results": [_result(name, errors.get(name)) for name in named]}


def _removal(deletion: Any) -> UserRemoval:
    return UserRemoval(name=deletion.name, mechanism=_mechanism(deletion.mechanism))


def _credential(upsertion: Any) -> UserCredential:
    mechanism = _mechanism(upsertion.mechanism)
    if len(upsertion.salted_password) != _SALTED_BYTES[mechanism]:
        raise UnacceptableCredential(
            f"a salted password of {mechanism} has {_SALTED_BYTES[mechanism]} bytes, not "
            f"{len(upsertion.salted_password)}"
        )
    if not ITERATIONS_MIN <= upsertion.iterations <= ITERATIONS_MAX:
        raise UnacceptableCredential(f"iterations must be from {ITERATIONS_MIN} to {ITERATIONS_MAX}")
    salt, salted = bytes(upsertion.salt), bytes(upsertion.salted_password)
    return UserCredential(
        name=upsertion.name,
        credential=credential_from_salted(mechanism, salted, salt, upsertion.iterations),
    )


def _mechanism(number: int) -> ScramMechanism:
    mechanism = MECHANISMS.get(number)
    if mechanism is None:
        raise UnsupportedSaslMechanism(f"there is no SCRAM mechanism {number}")
    return mechanism


def _result(name: str, error: Any) -> Body:
    return {
        "user": name,
        "error_code": error.code if error is not None else 0,
        "error_message": error.message if error is not None else None,
        "credential_infos": [],
    }
