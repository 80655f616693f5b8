"""SASL: the exchanges of the RFCs, and everything that must fail, always in the same words."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kafka import sasl
from actors.kafka.sasl import TOKEN_BYTES_MAX, Logins, ScramExchange
from actors.messages import User
from odradek.protocol.access import ScramCredential, ScramMechanism, check_credential, check_user_name
from odradek.protocol.errors import (
    SaslAuthenticationFailed,
    UnacceptableCredential,
    UnsupportedSaslMechanism,
)
from odradek.protocol.scram import credential_from_password, is_password

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SHA256: ScramMechanism = "SCRAM-SHA-256"
SHA512: ScramMechanism = "SCRAM-SHA-512"
MECHANISMS = ("PLAIN", SHA256, SHA512)


def user(name: str, password: str, *mechanisms: ScramMechanism) -> User:
    made = [credential_from_password(each, password, SALT, 4096) for each in mechanisms or (SHA256, SHA512)]
    return User(name=name, credentials=tuple(made))


def logins(*users: User, nonce: str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0") -> Logins:
    return Logins(MECHANISMS, {each.name: each for each in users}, lambda: nonce, b"secret")


USER = user("user", "pencil")


# -- a client, written from the RFC --------------------------------------------------------------------


class Client:
    """SCRAM's other side."""

    def __init__(self, name: str, password: str, mechanism: ScramMechanism = SHA256) -> None:
        self.hash = "sha256" if mechanism == SHA256 else "sha512"
        self.password = password.encode()
        self.bare = f"n={name},r=rOprNGfwEbeRWgbNEkqO"
        self.server_signature = b""

    def first(self) -> bytes:
        return f"n,,{self.bare}".encode()

    def final(self, said: bytes) -> bytes:
        parts = dict(part.split("=", 1) for part in said.decode().split(","))
        salted = hashlib.pbkdf2_hmac(self.hash, self.password, base64.b64decode(parts["s"]), int(parts["i"]))
        client_key = hmac.digest(salted, b"Client Key", self.hash)
        stored_key = hashlib.new(self.hash, client_key).digest()
        without_proof = f"c=biws,r={parts['r']}"
        message = f"{self.bare},{said.decode()},{without_proof}".encode()
        signature = hmac.digest(stored_key, message, self.hash)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self.server_signature = hmac.digest(hmac.digest(salted, b"Server Key", self.hash), message, self.hash)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def log_in(client: Client, door: Logins, mechanism: ScramMechanism = SHA256) -> str | None:
    exchange = door.begin(mechanism)
    said = exchange.step(client.first())
    verdict = exchange.step(client.final(said))
    assert verdict == b"v=" + base64.b64encode(client.server_signature), "the broker has not proved itself"
    return exchange.principal


# -- SCRAM -----------------------------------------------------------------------------------------------


def test_the_exchange_of_rfc_7677() -> None:
    exchange = logins(USER).begin(SHA256)
    assert exchange.principal is None
    said = exchange.step(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert said.decode() == f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert exchange.principal is None
    final = f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert exchange.step(final.encode()) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert exchange.principal == "User:user"


@pytest.mark.parametrize("mechanism", [SHA256, SHA512])
def test_both_mechanisms(mechanism: ScramMechanism) -> None:
    assert log_in(Client("user", "pencil", mechanism), logins(USER), mechanism) == "User:user"


def test_names_with_commas_and_equal_signs_and_of_any_script() -> None:
    assert log_in(Client("a=2Cb=3Dc", "p"), logins(user("a,b=c", "p"))) == "User:a,b=c"
    assert log_in(Client("Ödön", "schlüssel ✓"), logins(user("Ödön", "schlüssel ✓"))) == "User:Ödön"


@pytest.mark.parametrize(("name", "password"), [("user", "pencil2"), ("user", ""), ("nobody", "pencil")])
def test_a_wrong_password_and_an_unknown_user_fail_alike_and_late(name: str, password: str) -> None:
    exchange = logins(USER).begin(SHA256)
    client = Client(name, password)
    said = exchange.step(client.first())  # an unknown user is asked for its proof like any other
    with pytest.raises(SaslAuthenticationFailed, match="the user or the password is wrong"):
        exchange.step(client.final(said))
    assert exchange.principal is None


def test_an_unknown_user_has_the_same_salt_at_each_try_and_its_own() -> None:
    door = logins(USER)

    def salt(name: str) -> bytes:
        return door.begin(SHA256).step(f"n,,n={name},r=abc".encode()).split(b",s=")[1]

    assert salt("ghost") == salt("ghost") != salt("spirit")


def test_a_user_has_only_the_mechanisms_that_it_was_given() -> None:
    with pytest.raises(SaslAuthenticationFailed):
        log_in(Client("user", "pencil", SHA512), logins(user("user", "pencil", SHA256)), SHA512)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"n=user,r=abc",
        b"p=tls-unique,,n=user,r=abc",
        b"n,a=other,n=user,r=abc",
        b"n,,n=,r=abc",
        b"n,,n=user,r=",
        b"n,,r=abc,n=user",
        b"n,,n=user",
        b"n,,m=ext,n=user,r=abc",
        b"n,,n=us=2Der,r=abc",
        b"n,,n=user,r=a b",
        b"n,,n=user,r=abc,r=abc",
        b"n,,n=user,r=abc,tokenauth=true",
        b"n,,n=user,r=\xff\xfe",
        b"n,,n=user,r=" + b"a" * 2_000,
        b"n,,n=user,r=abc," + b"x=" + b"y" * TOKEN_BYTES_MAX,
    ],
)
def test_first_messages_that_are_none(first: bytes) -> None:
    with pytest.raises(SaslAuthenticationFailed):
        logins(USER).begin(SHA256).step(first)


def test_final_messages_that_are_none() -> None:
    def attempt(change: str, to: str) -> None:
        exchange = logins(USER).begin(SHA256)
        client = Client("user", "pencil")
        final = client.final(exchange.step(client.first())).decode()
        assert change in final
        exchange.step(final.replace(change, to).encode())

    for change, to in [
        ("c=biws", "c=eSws"),  # what the first message said of channel binding, changed on the way
        ("r=rOpr", "r=rOps"),
        (",p=", ",q="),
        ("p=", "p=AAAA"),
        ("c=biws,", ""),
        ("c=biws", "c=biws,m=x"),
    ]:
        with pytest.raises(SaslAuthenticationFailed):
            attempt(change, to)


def test_an_exchange_is_over_once_it_has_succeeded() -> None:
    exchange = logins(USER).begin(SHA256)
    client = Client("user", "pencil")
    final = client.final(exchange.step(client.first()))
    exchange.step(final)
    with pytest.raises(SaslAuthenticationFailed):
        exchange.step(final)


def test_what_was_heard_once_cannot_be_said_again() -> None:
    """A recorded proof fails against the next nonce."""
    client = Client("user", "pencil")
    heard = client.final(logins(USER).begin(SHA256).step(client.first()))
    exchange = logins(USER, nonce="another").begin(SHA256)
    exchange.step(client.first())
    with pytest.raises(SaslAuthenticationFailed):
        exchange.step(heard)


def test_the_stored_credential_is_no_way_in() -> None:
    """Whoever reads the broker's file cannot log in with what stands there."""
    (credential, _) = USER.credentials
    exchange = logins(USER).begin(SHA256)
    said = exchange.step(b"n,,n=user,r=abc").decode()
    without_proof = f"c=biws,{said.split(',')[0]}"
    message = f"n=user,r=abc,{said},{without_proof}".encode()
    stored_key = base64.b64decode(credential.stored_key)
    forged = base64.b64encode(hmac.digest(stored_key, message, "sha256")).decode()
    with pytest.raises(SaslAuthenticationFailed):
        exchange.step(f"{without_proof},p={forged}".encode())
    assert not is_password(credential, stored_key)


@given(st.binary(max_size=80))
def test_no_token_does_anything_but_fail_or_go_on(token: bytes) -> None:
    for mechanism in MECHANISMS:
        exchange = logins().begin(mechanism)
        with contextlib.suppress(SaslAuthenticationFailed):
            exchange.step(token)
        assert exchange.principal is None


# -- PLAIN -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [b"\0user\0pencil", b"user\0user\0pencil"])
def test_plain(token: bytes) -> None:
    exchange = logins(USER).begin("PLAIN")
    assert exchange.step(token) == b""
    assert exchange.principal == "User:user"


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\0user\0wrong",
        b"\0nobody\0pencil",
        b"\0user\0",
        b"\0\0pencil",
        b"user\0pencil",
        b"\0user\0pencil\0",
        b"other\0user\0pencil",
        b"\0\xff\0pencil",
        b"\0user\0" + b"x" * 5_000,
        b"\0" + b"u" * TOKEN_BYTES_MAX + b"\0p",
    ],
)
def test_plain_that_fails(token: bytes) -> None:
    exchange = logins(USER).begin("PLAIN")
    with pytest.raises(SaslAuthenticationFailed, match="the user or the password is wrong"):
        exchange.step(token)
    assert exchange.principal is None


def test_a_password_that_was_right_is_cheap_when_it_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def counted(credential: ScramCredential, password: bytes) -> bool:
        hashed.append(password)
        return is_password(credential, password)

    monkeypatch.setattr(sasl, "is_password", counted)
    monkeypatch.setattr(sasl, "REMEMBERED_MAX", 2)
    door = logins(USER, user("other", "pencil"))

    def enters(token: bytes, at: Logins = door) -> bool:
        exchange = at.begin("PLAIN")
        with contextlib.suppress(SaslAuthenticationFailed):
            exchange.step(token)
        return exchange.principal is not None

    assert all(enters(b"\0user\0pencil") for _ in range(3))
    assert hashed == [b"pencil"]
    assert not any(enters(b"\0user\0wrong") for _ in range(2)), "what is wrong is never remembered"
    assert enters(b"\0other\0pencil") and len(hashed) == 4, "it was another user's"
    changed = replace(door, users={"user": user("user", "chalk")})
    assert not enters(b"\0user\0pencil", changed), "the password has changed since"
    assert enters(b"\0user\0chalk", changed)
    assert len(door.remembered) <= 2


def test_plain_takes_a_user_of_either_mechanism() -> None:
    exchange = logins(user("user", "pencil", SHA512)).begin("PLAIN")
    exchange.step(b"\0user\0pencil")
    assert exchange.principal == "User:user"


# -- the door ----------------------------------------------------------------------------------------------


def test_only_the_mechanisms_that_are_served() -> None:
    door = Logins((SHA512,), {}, lambda: "n", b"s")
    assert isinstance(door.begin(SHA512), ScramExchange)
    for other in ("PLAIN", SHA256, "GSSAPI", "", "scram-sha-512"):
        with pytest.raises(UnsupportedSaslMechanism, match=r"use SCRAM-SHA-512"):
            door.begin(other)


def test_before_the_users_are_known_nobody_gets_in() -> None:
    with pytest.raises(SaslAuthenticationFailed):
        Logins(("PLAIN",)).begin("PLAIN").step(b"\0user\0pencil")


@pytest.mark.parametrize("name", ["", " x", "x ", "a\nb", "*", "ANONYMOUS", "x" * 201])
def test_names_that_no_user_can_have(name: str) -> None:
    with pytest.raises(UnacceptableCredential):
        check_user_name(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"iterations": 4_095},
        {"iterations": 16_385},
        {"salt": "AAAA"},
        {"salt": "!"},
        {"stored_key": "AAAA"},
        {"server_key": base64.b64encode(bytes(64)).decode()},
    ],
)
def test_credentials_that_are_none(changes: dict[str, object]) -> None:
    good = USER.credentials[0]
    assert check_credential(good) is good
    fields = {name: getattr(good, name) for name in good.__struct_fields__} | changes
    with pytest.raises(UnacceptableCredential):
        check_credential(ScramCredential(**fields))
