"""CURVE with ZAP: rows 19 and 20 of the plan of faults. Nobody comes in but whose key is on the list."""

from __future__ import annotations

import pytest
import zmq

from tests.security.door import OUTSIDE_S, door, knocking
from transport import sockets
from transport.keys import KeyPair, is_key, new_key_pair
from transport.sockets import new_context
from transport.zap import HANDSHAKE_FAILED, NO_USER, NOT_CURVE, UNKNOWN_KEY, Caller, Doorkeeper

SERVER, ALICE, STRANGER = new_key_pair(), new_key_pair(), new_key_pair()
ALLOWED = {ALICE.public: "User:alice"}


# -- row 19: who is who ------------------------------------------------------------------------------


def test_a_key_on_the_list_comes_in_and_is_known_by_its_name() -> None:
    with door(SERVER, ALLOWED) as here, knocking(SERVER.public, ALICE) as client:
        assert here.lets_in(client)
        assert here.heard == [Caller("User:alice", "127.0.0.1")]
        assert here.doorkeeper is not None
        assert not here.doorkeeper.refused


def test_an_unknown_key_is_refused_and_counted() -> None:
    with door(SERVER, ALLOWED) as here, knocking(SERVER.public, STRANGER) as client:
        assert not here.lets_in(client, OUTSIDE_S)
        assert here.heard == []
        assert here.doorkeeper is not None
        while not here.doorkeeper.refused:
            here.turn()  # on a busy machine the question comes later
        assert here.doorkeeper.refused == {UNKNOWN_KEY: 1}


@pytest.mark.parametrize("kind", ["null", "plain", "wrong server key"])
def test_whoever_cannot_shake_hands_never_reaches_the_doorkeeper(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Doorkeeper, "_answer_one", lambda _self, frames: asked.append(frames))
    pair = ALICE if kind == "wrong server key" else None
    with door(SERVER, ALLOWED) as here, knocking(STRANGER.public, pair, plain=kind == "plain") as client:
        assert not here.lets_in(client, OUTSIDE_S)
        assert asked == []
        assert here.heard == []
        assert here.doorkeeper is not None
        while not here.doorkeeper.refused[HANDSHAKE_FAILED]:
            here.turn()  # a busy machine tells of it later


def test_only_curve_is_let_in_whatever_a_mechanism_says() -> None:
    context = new_context()
    keeper = Doorkeeper(context)
    try:
        keeper.admit(ALLOWED)
        asking = context.socket(zmq.REQ)
        asking.connect(sockets.DOORKEEPER_ENDPOINT)
        for mechanism, credentials in ((b"NULL", []), (b"PLAIN", [b"root", b"root"]), (b"CURVE", [b"short"])):
            asking.send_multipart([b"1.0", b"7", b"odradek", b"::1", b"", mechanism, *credentials])
            asking_peer_is_there = keeper.socket.poll(1000)
            assert asking_peer_is_there
            keeper.answer()
            assert asking.recv_multipart() == [b"1.0", b"7", b"400", b"this key is not allowed", b"", b""]
        assert keeper.refused == {NOT_CURVE: 3}
    finally:
        keeper.close()
        context.destroy(linger=0)


def test_nobody_is_known_to_a_doorkeeper_that_was_told_nothing() -> None:
    with door(SERVER, {}) as here, knocking(SERVER.public, ALICE) as client:
        assert not here.lets_in(client, OUTSIDE_S)


def test_a_list_takes_effect_at_once_in_both_directions() -> None:
    with door(SERVER, {}) as here:
        assert here.doorkeeper is not None
        here.doorkeeper.admit(ALLOWED)
        with knocking(SERVER.public, ALICE) as client:
            assert here.lets_in(client)
            here.doorkeeper.admit({})
            client.send(b"and now?")
            while len(here.heard) < 2:
                here.turn()
        # The connection is still there, but its messages are nobody's.
        assert here.heard == [Caller("User:alice", "127.0.0.1"), Caller(None, "127.0.0.1")]
        with knocking(SERVER.public, ALICE) as client:
            assert not here.lets_in(client, OUTSIDE_S)


def test_a_forged_identity_takes_nothing_from_its_owner() -> None:
    """Both have keys; the second claims the first one's routing id. The answers stay with the first."""
    both = {**ALLOWED, STRANGER.public: "User:stranger"}
    with (
        door(SERVER, both) as here,
        knocking(SERVER.public, ALICE, identity=b"alice") as alice,
        knocking(SERVER.public, STRANGER, identity=b"alice") as forger,
    ):
        assert here.lets_in(alice)
        assert not here.lets_in(forger, OUTSIDE_S)
        alice.send(b"still me?")
        while not alice.poll(0):
            here.turn()
        assert alice.recv() == b"come in"
        assert {caller.principal for caller in here.heard if caller} == {"User:alice"}


# -- row 20: no doorkeeper, no entry -----------------------------------------------------------------


def test_nobody_comes_in_before_the_doorkeeper_began() -> None:
    with door(SERVER) as here, knocking(SERVER.public, ALICE) as client:
        assert not here.lets_in(client, OUTSIDE_S)


def test_nobody_comes_in_after_the_doorkeeper_ended() -> None:
    with door(SERVER, ALLOWED) as here:
        with knocking(SERVER.public, ALICE) as before:
            assert here.lets_in(before)
        assert here.doorkeeper is not None
        here.doorkeeper.socket.close(0)
        here.answers = False
        with knocking(SERVER.public, ALICE) as after:
            assert not here.lets_in(after, OUTSIDE_S)


def test_nobody_comes_in_while_the_doorkeeper_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "HANDSHAKE_TIMEOUT_MS", 100)
    with door(SERVER, ALLOWED) as here:
        here.answers = False
        with knocking(SERVER.public, ALICE) as client:
            assert not here.lets_in(client, OUTSIDE_S)
            # What it is told too late lets nobody in; what it is asked afresh does.
            here.answers = True
            while not client.poll(0):
                here.turn()
            assert client.recv() == b"come in"


def test_without_the_enforced_domain_anybody_would_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protection switched off: what the three tests above stand on."""

    def demand_less(socket: sockets.Socket, keys: KeyPair) -> None:
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, keys.secret.encode())
        socket.set(zmq.ZAP_DOMAIN, sockets.SECURITY_DOMAIN)

    monkeypatch.setattr(sockets, "_demand_curve", demand_less)
    with door(SERVER) as here, knocking(SERVER.public, STRANGER) as client:
        assert here.lets_in(client)


def test_who_comes_in_without_the_doorkeeper_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second lock: a message without a User-Id, whatever libzmq let in."""
    monkeypatch.setattr(sockets, "_demand_curve", lambda _socket, _keys: None)
    with door(SERVER, ALLOWED) as here, knocking() as client:
        here.lets_in(client)
        assert here.heard == [None]
        assert here.doorkeeper is not None
        assert here.doorkeeper.refused == {NO_USER: 1}


# -- keys --------------------------------------------------------------------------------------------


def test_what_is_a_key_and_what_is_not() -> None:
    assert SERVER.is_pair()
    assert not KeyPair(SERVER.public, ALICE.secret).is_pair()
    assert not KeyPair("", "").is_pair()
    for text in ("", "a" * 39, "é" * 40, " " * 40, "#" * 40, SERVER.public + "a"):
        assert not is_key(text)


def test_a_secret_key_is_shown_nowhere() -> None:
    assert SERVER.secret not in repr(SERVER) + str(SERVER)


def test_a_public_key_can_be_an_argument_of_a_command() -> None:
    assert not any(new_key_pair().public.startswith("-") for _ in range(300))
