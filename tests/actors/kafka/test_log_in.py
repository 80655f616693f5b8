"""Logging in at the gateway: what may be asked before, what an answer says, and how a failure ends."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from actors.actor import Envelope, KafkaEnvelope, KafkaPeer
from actors.effects import KafkaReply, Sender
from actors.gateway import FAILURES_TOLD_EVERY_S
from actors.kafka.handling import GatewayOptions
from actors.kafka.registry import SERVED
from actors.kafka.sasl import FAILURE_DELAY_S
from actors.messages import Access, User
from odradek.protocol.access import Acl, ScramMechanism
from odradek.protocol.codec import Encoding
from odradek.protocol.scram import credential_from_password
from tests.actors.test_sasl import Client
from tests.support.kafka import GatewayRig
from transport.kafka.tokens import BARE_VERSION, BareToken

HANDSHAKE, VERSIONS, AUTHENTICATE, METADATA = 17, 18, 36, 3
SCRAM: ScramMechanism = "SCRAM-SHA-256"
CONTROL = Sender("control", b"", False, Encoding.MSGPACK, None)
EVERYTHING = {
    "topics": None,
    "allow_auto_topic_creation": False,
    "include_cluster_authorized_operations": False,
    "include_topic_authorized_operations": False,
}
UNAUTHENTICATED = sorted(SERVED.keys() - {HANDSHAKE, VERSIONS, AUTHENTICATE})


def access(*acls: Acl, version: int = 1, password: str = "pencil") -> Access:
    credential = credential_from_password(SCRAM, password, b"salt-and-pepper", 4096)
    users = [User(name="till", credentials=(credential,))]
    return Access(version=version, enforced=bool(acls), acls=list(acls), users=users)


@pytest.fixture
def rig() -> GatewayRig:
    options = GatewayOptions(index=0, sasl_mechanisms=(SCRAM, "PLAIN"), new_nonce=lambda: "nonce")
    made = GatewayRig(options, topics={"t": 1})
    made.tell(Envelope(CONTROL, access()))
    return made


def code(part: Any) -> int:
    return int(part.error_code.value)


def handshake(rig: GatewayRig, mechanism: str = "PLAIN", *, version: int = 1) -> Any:
    rig.ask(HANDSHAKE, version, {"mechanism": mechanism})
    return rig.response()


def authenticate(rig: GatewayRig, token: bytes, *, version: int = 2) -> Any:
    rig.ask(AUTHENTICATE, version, {"auth_bytes": token})
    return rig.response()


def log_in(rig: GatewayRig) -> None:
    assert code(handshake(rig)) == 0
    assert code(authenticate(rig, b"\0till\0pencil")) == 0


def may_ask(rig: GatewayRig) -> bool:
    """Whether the connection answers what only those who are logged in may ask."""
    rig.ask(METADATA, 9, EVERYTHING)
    (reply,) = rig.replies
    rig.replies = []
    assert reply.closes is (reply.body is None)
    return reply.body is not None


def failure(rig: GatewayRig, token: bytes) -> tuple[KafkaReply, Any]:
    """The answer to a token that fails: it comes late, and ends the connection."""
    rig.ask(AUTHENTICATE, 2, {"auth_bytes": token})
    for part_s in (0.0, FAILURE_DELAY_S * 0.9):
        rig.clock.advance(part_s)
        rig.settle()
        assert not rig.replies, "a failure is answered at once"
    rig.clock.advance(FAILURE_DELAY_S * 0.2)
    rig.settle()
    (reply,) = rig.replies
    return reply, rig.response()


# -- the way in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, 2])
def test_plain(rig: GatewayRig, version: int) -> None:
    told = handshake(rig)
    assert (code(told), told.mechanisms) == (0, (SCRAM, "PLAIN"))
    assert not may_ask(rig)
    rig.close()
    handshake(rig)
    told = authenticate(rig, b"\0till\0pencil", version=version)
    assert (code(told), told.error_message, told.auth_bytes) == (0, None, b"")
    assert may_ask(rig)


def test_scram(rig: GatewayRig) -> None:
    client = Client("till", "pencil")
    handshake(rig, SCRAM)
    said = authenticate(rig, client.first())
    assert code(said) == 0 and not may_ask(rig)
    rig.close()
    handshake(rig, SCRAM)
    final = authenticate(rig, client.final(authenticate(rig, client.first()).auth_bytes))
    assert final.auth_bytes == b"v=" + base64.b64encode(client.server_signature)
    assert may_ask(rig)


def test_who_logged_in_is_the_principal_of_what_follows(rig: GatewayRig) -> None:
    rule = Acl(principal="User:till", operation="describe", resource_type="topic", resource_name="t")
    rig.tell(Envelope(CONTROL, access(rule, version=2)))
    log_in(rig)
    rig.ask(METADATA, 9, EVERYTHING)
    assert [topic.name for topic in rig.response().topics] == ["t"]
    rig.tell(
        Envelope(CONTROL, access(rule.__class__(**_fields(rule) | {"principal": "User:jan"}), version=3))
    )
    rig.ask(METADATA, 9, EVERYTHING)
    assert rig.response().topics == ()


def _fields(acl: Acl) -> dict[str, Any]:
    return {name: getattr(acl, name) for name in acl.__struct_fields__}


def test_bare_tokens_behind_the_oldest_handshake(rig: GatewayRig) -> None:
    assert code(handshake(rig, version=0)) == 0
    sender = Sender("kafka", b"one", False, Encoding.MSGPACK, 99)
    token: Any = BareToken(b"\0till\0pencil")
    rig.tell(
        KafkaEnvelope(sender, KafkaPeer("127.0.0.1", "PLAINTEXT"), AUTHENTICATE, BARE_VERSION, "", token, 12)
    )
    (reply,) = rig.replies
    rig.replies = []
    assert reply.version == BARE_VERSION and reply.body is not None
    assert (reply.body["error_code"], reply.body["auth_bytes"], reply.body["is_done"]) == (0, b"", True)
    assert may_ask(rig)


# -- the way out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("api_key", UNAUTHENTICATED)
def test_nothing_is_served_before_the_log_in(rig: GatewayRig, api_key: int) -> None:
    """Whatever the body is: it is not looked at."""
    sender = Sender("kafka", b"one", False, Encoding.MSGPACK, 1)
    peer = KafkaPeer("127.0.0.1", "PLAINTEXT")
    rig.tell(KafkaEnvelope(sender, peer, api_key, SERVED[api_key][1], "", object(), 10))
    (reply,) = rig.replies
    assert reply.body is None and reply.closes
    assert not rig.take()


def test_which_versions_are_served_may_be_asked_before(rig: GatewayRig) -> None:
    rig.ask(VERSIONS, 3, {"client_software_name": "x", "client_software_version": "1"})
    assert code(rig.response()) == 0


@pytest.mark.parametrize("token", [b"\0till\0wrong", b"\0nobody\0pencil", b"", b"\xff" * 100])
def test_a_failure_comes_late_says_the_same_and_ends_the_connection(rig: GatewayRig, token: bytes) -> None:
    handshake(rig)
    reply, told = failure(rig, token)
    assert reply.closes
    assert (code(told), told.auth_bytes) == (58, b"")
    assert told.error_message == "authentication by PLAIN failed: the user or the password is wrong"


def test_failures_are_told_to_the_log_together(rig: GatewayRig) -> None:
    def fail() -> None:
        handshake(rig)
        failure(rig, b"\0till\0wrong")
        rig.close()

    for _ in range(5):
        fail()
    assert [line.fields["failures"] for line in rig.logs] == [1]
    rig.clock.advance(FAILURES_TOLD_EVERY_S)
    fail()
    assert [line.fields["failures"] for line in rig.logs] == [1, 5]
    assert rig.logs[0].fields["client"] == "127.0.0.1"


def test_a_connection_has_one_try(rig: GatewayRig) -> None:
    """Else guesses could be sent ahead, without the delay."""
    handshake(rig)
    rig.ask(AUTHENTICATE, 2, {"auth_bytes": b"\0till\0wrong"})
    rig.ask(AUTHENTICATE, 2, {"auth_bytes": b"\0till\0pencil"})
    rig.clock.advance(FAILURE_DELAY_S)
    rig.settle()
    assert all(reply.closes for reply in rig.replies)
    assert not any(reply.body is not None and reply.body["error_code"] == 0 for reply in rig.replies)


def test_a_token_without_a_handshake(rig: GatewayRig) -> None:
    _, told = failure(rig, b"\0till\0pencil")
    assert code(told) == 34


def test_a_mechanism_that_is_not_served(rig: GatewayRig) -> None:
    rig.ask(HANDSHAKE, 1, {"mechanism": "GSSAPI"})
    assert rig.replies[0].closes
    told = rig.response()
    assert (code(told), told.mechanisms) == (33, (SCRAM, "PLAIN"))


def test_nobody_logs_in_twice_on_one_connection(rig: GatewayRig) -> None:
    log_in(rig)
    rig.ask(HANDSHAKE, 1, {"mechanism": "PLAIN"})
    assert rig.replies[0].closes and code(rig.response()) == 34


def test_no_log_in_where_none_is_demanded() -> None:
    rig = GatewayRig()
    rig.ask(HANDSHAKE, 1, {"mechanism": "PLAIN"})
    assert rig.replies[0].closes and code(rig.response()) == 34


def test_a_changed_password_holds_for_the_next_log_in(rig: GatewayRig) -> None:
    log_in(rig)
    rig.tell(Envelope(CONTROL, access(version=2, password="chalk")))
    assert may_ask(rig), "who is in stays in"
    rig.close()
    handshake(rig)
    _, told = failure(rig, b"\0till\0pencil")
    assert code(told) == 58
    rig.close()
    handshake(rig)
    assert code(authenticate(rig, b"\0till\0chalk")) == 0


def test_a_client_that_goes_away_during_a_failure_leaves_nothing(rig: GatewayRig) -> None:
    handshake(rig)
    rig.ask(AUTHENTICATE, 2, {"auth_bytes": b"\0till\0wrong"})
    rig.close()
    rig.clock.advance(FAILURE_DELAY_S)
    rig.settle()
    assert not rig.replies


# -- certificates --------------------------------------------------------------------------------------


def test_a_certificate_says_who_the_client_is() -> None:
    rig = GatewayRig(GatewayOptions(index=0, is_access_enforced=True), topics={"t": 1})
    rule = Acl(principal="User:CN=till,O=x", operation="read", resource_type="topic", resource_name="t")
    rig.tell(Envelope(CONTROL, access(rule)))
    for principal, shown in (("User:CN=till,O=x", ["t"]), ("User:CN=jan,O=x", [])):
        sender = Sender("kafka", principal.encode(), False, Encoding.MSGPACK, 1)
        peer = KafkaPeer("127.0.0.1", "SSL", principal)
        request: Any = type("Metadata", (), {**EVERYTHING, "topics": None})()
        rig.tell(KafkaEnvelope(sender, peer, METADATA, 9, "", request, 10))
        assert [topic.name for topic in rig.response().topics] == shown
