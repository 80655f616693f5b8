"""TLS and strangers: handshakes in any order of bytes, names of certificates, and what a stranger gets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.kafka.registry import SERVED
from tests.support.certificates import AVAILABLE, WHY_NOT, Authority
from tests.support.kafka import KafkaSocket
from tests.transport.kafka.test_server import HEARTBEAT, HEARTBEAT_BODY, Rig
from transport.kafka.connection import HANDSHAKE_S_MAX, LOG_IN_S_MAX, STRANGERS_BYTES_MAX
from transport.kafka.server import KafkaListener, KafkaServer, KafkaServerOptions
from transport.kafka.tls import (
    WRITE_BYTES_MAX,
    TlsStream,
    TlsUnusable,
    distinguished_name,
    server_context,
)
from transport.kafka.tlsfiles import TlsFiles
from transport.kafka.tokens import BARE_VERSION

needs_openssl = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
STEPS_MAX = 10_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> TlsFiles:
    return TlsFiles(*authority.issue_server(), authority.certificate)


class Pair:
    """A stream, and a client at the other end of its socket that speaks TLS through memory."""

    def __init__(self, files: TlsFiles, authority: Authority, subject: str) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.theirs.setblocking(False)
        self.stream = TlsStream(ours, server_context(files))
        context = ssl.create_default_context(cafile=authority.certificate)
        context.load_cert_chain(*authority.issue("pair", subject))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def close(self) -> None:
        self.stream.close()
        self.theirs.close()

    def carry(self, bytes_max: int) -> None:
        """Some bytes each way."""
        if sent := self.outgoing.read(bytes_max):
            self.theirs.sendall(sent)
        try:
            self.incoming.write(self.theirs.recv(bytes_max))
        except BlockingIOError:
            return

    def attempt(self, act: Any) -> Any:
        """What the client's call gives, or None where it needs more bytes."""
        try:
            return act()
        except ssl.SSLWantReadError:
            return None


@pytest.fixture
def pair(files: TlsFiles, authority: Authority) -> Iterator[Pair]:
    made = Pair(files, authority, "/O=odradek, Inc./CN=till")
    yield made
    made.close()


def _shaken(client: ssl.SSLObject) -> bool:
    client.do_handshake()
    return True


def shake(pair: Pair, bytes_max: int) -> None:
    """Until the server has read what the client said behind its handshake."""
    target = memoryview(bytearray(100))
    is_shaken = has_written = False
    for _ in range(STEPS_MAX):
        if not is_shaken:
            is_shaken = pair.attempt(lambda: _shaken(pair.client)) or False
        elif not has_written:
            has_written = pair.client.write(b"hello") == 5
        pair.carry(bytes_max)
        try:
            count = pair.stream.receive(target)
        except BlockingIOError:
            continue
        assert bytes(target[:count]) == b"hello"
        return
    raise AssertionError("no end of the handshake")


@needs_openssl
@pytest.mark.parametrize("bytes_max", [1, 7, 100_000])
def test_a_handshake_goes_on_whenever_bytes_come(pair: Pair, bytes_max: int) -> None:
    assert not pair.stream.is_ready and pair.stream.principal is None
    shake(pair, bytes_max)
    assert pair.stream.is_ready
    assert pair.stream.principal == "User:CN=till,O=odradek\\, Inc."


@needs_openssl
def test_what_tls_has_read_ahead_is_told(pair: Pair) -> None:
    shake(pair, 100_000)
    assert not pair.stream.has_read_ahead
    pair.client.write(b"0123456789")
    pair.carry(100_000)
    assert pair.stream.receive(memoryview(bytearray(4))) == 4
    assert pair.stream.has_read_ahead
    assert pair.stream.receive(memoryview(bytearray(100))) == 6
    assert not pair.stream.has_read_ahead


@needs_openssl
def test_many_buffers_come_whole_through_a_socket_that_is_often_full(pair: Pair) -> None:
    shake(pair, 100_000)
    buffers: list[Any] = [b"a" * 10, b"b" * 30_000, b"c", memoryview(b"d" * 900_000), b"e" * 5] * 3
    expected = b"".join(map(bytes, buffers))
    unsent = [memoryview(buffer) for buffer in buffers]
    received = bytearray()
    refused = 0
    for _ in range(STEPS_MAX):
        while unsent:
            try:
                sent = pair.stream.send(unsent)
            except BlockingIOError:
                refused += 1
                break
            assert 0 < sent <= WRITE_BYTES_MAX
            while sent:
                taken = min(sent, len(unsent[0]))
                sent -= taken
                unsent[0] = unsent[0][taken:]
                if not unsent[0]:
                    unsent.pop(0)
        pair.carry(50_000)
        while (found := pair.attempt(lambda: pair.client.read(65_536))) is not None:
            received += found
        if len(received) == len(expected):
            break
    assert bytes(received) == expected
    assert refused, "the socket was never full: the test shows nothing"


@needs_openssl
def test_files_that_cannot_be_used_are_named(files: TlsFiles, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    _, other_key = other.issue_server()
    (tmp_path / "text.pem").write_text("no certificate")
    for wrong, why in [
        (TlsFiles(str(tmp_path / "none.pem"), files.key), r"none\.pem with the key .* No such file"),
        (TlsFiles(files.certificate, other_key), "cannot be used: .*MISMATCH"),
        (TlsFiles(str(tmp_path / "text.pem"), files.key), r"text\.pem with the key"),
        (TlsFiles(files.certificate, files.key, str(tmp_path / "none.pem")), r"none\.pem, which sign"),
    ]:
        with pytest.raises(TlsUnusable, match=why):
            server_context(wrong)


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ([[("commonName", "till")]], "CN=till"),
        ([[("countryName", "DE")], [("organizationName", "x")], [("commonName", "t")]], "CN=t,O=x,C=DE"),
        ([[("commonName", "a,b+c=d")]], "CN=a\\,b\\+c\\=d"),
        ([[("commonName", "a"), ("userId", "7")]], "CN=a+UID=7"),
        ([[("commonName", " a ")]], "CN=\\ a\\ "),
        ([[("emailAddress", "a@b")]], "emailAddress=a@b"),
    ],
)
def test_names_are_written_as_rfc_2253_does(subject: Any, name: str) -> None:
    assert distinguished_name(subject) == name


# -- strangers -----------------------------------------------------------------------------------------


class DemandingRig(Rig):
    """A listener where clients must log in."""

    def __init__(self, **listener: Any) -> None:
        super().__init__()
        self.server.close()
        self.server = KafkaServer(
            KafkaServerOptions((KafkaListener("PLAINTEXT", "127.0.0.1", 0, **listener),), SERVED),
            lambda *line: self.logged.append(line),
        )
        self.address = self.server.bind()["PLAINTEXT"]


@pytest.fixture
def rig() -> Iterator[DemandingRig]:
    made = DemandingRig(must_log_in=True)
    yield made
    made.server.close()


def log_in(rig: DemandingRig, client: KafkaSocket) -> None:
    client.send(36, 2, {"auth_bytes": b"token"})
    (envelope,) = rig.hear()
    body = {"error_code": 0, "error_message": None, "auth_bytes": b"", "session_lifetime": 0, "is_done": True}
    rig.answer(envelope, body)
    rig.turn()


def test_a_stranger_gets_less_room_until_it_has_logged_in(rig: DemandingRig) -> None:
    large = HEARTBEAT_BODY | {"member_id": "m" * 30_000}
    with KafkaSocket(rig.address) as client:
        client.socket.sendall((STRANGERS_BYTES_MAX + 1).to_bytes(4, "big"))
        rig.until(lambda: len(rig.closed) == 1)
        assert client.is_closed()
    with KafkaSocket(rig.address) as client:
        log_in(rig, client)
        client.socket.sendall((STRANGERS_BYTES_MAX + 1).to_bytes(4, "big"))
        for _ in range(20):
            rig.turn()
        assert len(rig.closed) == 1
    with KafkaSocket(rig.address) as client:
        client.send(HEARTBEAT, 0, large)
        assert rig.hear()[0].request.member_id == large["member_id"]


def test_a_stranger_has_a_minute(rig: DemandingRig) -> None:
    with KafkaSocket(rig.address) as stranger, KafkaSocket(rig.address) as guest:
        log_in(rig, guest)
        stranger.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        rig.answer(rig.hear()[0], {"error_code": 0})
        rig.advance(LOG_IN_S_MAX - 1)
        assert not rig.closed
        rig.advance(2)
        rig.until(lambda: len(rig.closed) == 1)
        assert stranger.is_closed()
        guest.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        assert rig.hear()


def test_tokens_come_bare_until_the_log_in_is_done(rig: DemandingRig) -> None:
    with KafkaSocket(rig.address) as client:
        client.send(17, 0, {"mechanism": "PLAIN"})
        rig.answer(rig.hear()[0], {"error_code": 0, "mechanisms": ["PLAIN"]})
        rig.turn()
        client.receive(17, 0)
        for token, is_done in ((b"x", False), (b"", True)):
            client.socket.sendall(len(token).to_bytes(4, "big") + token)
            (envelope,) = rig.hear()
            assert (envelope.api_key, envelope.version, envelope.request.auth_bytes) == (
                36,
                BARE_VERSION,
                token,
            )
            body = {"error_code": 0, "auth_bytes": token + b"!", "is_done": is_done}
            rig.answer(envelope, body)
            rig.turn()
            assert client.receive_frame() == token + b"!"
        client.send(HEARTBEAT, 0, HEARTBEAT_BODY)
        assert rig.hear()[0].api_key == HEARTBEAT


@needs_openssl
def test_a_handshake_that_does_not_come_to_its_end_is_given_up(files: TlsFiles) -> None:
    context = server_context(files)
    rig = DemandingRig(wrap=lambda connected: TlsStream(connected, context))
    with socket.create_connection(("127.0.0.1", int(rig.address.rpartition(":")[2]))) as client:
        client.sendall(b"\x16\x03\x01")
        for _ in range(20):
            rig.turn()
        rig.advance(HANDSHAKE_S_MAX - 1)
        assert not rig.closed
        rig.advance(2)
        rig.until(lambda: len(rig.closed) == 1)
    rig.server.close()
