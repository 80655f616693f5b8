"""TLS over non-blocking sockets: a stream whose handshake goes on whenever bytes come or go.

Rule 1. Nothing of a client is read before the handshake is done; then the client's certificate, where one
        is demanded, says who it is.
Rule 2. What TLS has read ahead of us is announced by ``has_read_ahead``: the socket itself would be silent.
Rule 3. A write that could not be done is repeated with the same bytes, as OpenSSL wants it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from odradek.protocol.batch import Buffer
from transport.kafka.tlsfiles import TlsFiles

RECORD_BYTES = 16_384
"""What one TLS record holds; small buffers are joined up to this, large ones are written as they are."""
WRITE_BYTES_MAX = 4 * RECORD_BYTES
"""Written at a time, so that a slow reader is seen to read."""
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of 1.3 are all good."""
_ATTRIBUTES = {
    "commonName": "CN",
    "organizationalUnitName": "OU",
    "organizationName": "O",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
"""OpenSSL's names of what a distinguished name is made of, and those of RFC 2253."""
_ESCAPED = frozenset(',+"\\<>;=')


class TlsUnusable(Exception):
    """The certificate or key cannot be used; the message says which and why."""


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """What every TLS stream of a listener shares. Raises TlsUnusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise TlsUnusable(
            f"the TLS certificate {files.certificate} with the key {files.key} cannot be used: {_why(error)}"
        ) from None
    if files.client_ca:
        try:
            context.load_verify_locations(files.client_ca)
        except OSError as error:
            raise TlsUnusable(
                f"the certificates in {files.client_ca}, which sign those of clients, cannot be used: "
                f"{_why(error)}"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; a broker that starts by itself needs one that is not")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class TlsStream:
    """One connection's stream; see ``streams.Stream``."""

    def __init__(self, connected: socket.socket, context: ssl.SSLContext) -> None:
        """Raises OSError where the socket has ended already."""
        self._tls = context.wrap_socket(
            connected, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self.is_ready = False
        self._refused: bytes | memoryview | None = None
        self.wants_write = False
        self.principal: str | None = None
        """``User:<distinguished name>`` of the client's certificate, once the handshake is done."""

    @property
    def has_read_ahead(self) -> bool:
        """Whether decrypted bytes are here that the socket would not tell of."""
        return self.is_ready and self._tls.pending() > 0

    def receive(self, target: memoryview) -> int:
        """Read into ``target``; 0 at the end of the stream. Raises BlockingIOError or OSError."""
        self._shake_hands()
        try:
            return self._tls.recv_into(target)
        except ssl.SSLWantReadError:
            self.wants_write = False
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self.wants_write = True
            raise BlockingIOError from None

    def send(self, buffers: Sequence[Buffer]) -> int:
        """Write some of the buffers' bytes, from the first on; how many. Raises BlockingIOError, OSError."""
        data = self._refused if self._refused is not None else _first_bytes(buffers)
        try:
            sent = self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._refused = data
            raise BlockingIOError from None
        self._refused = None
        return sent

    def close(self) -> None:
        """The end."""
        with contextlib.suppress(OSError):
            self._tls.close()

    def _shake_hands(self) -> None:
        if self.is_ready:
            return
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.wants_write = False
            raise BlockingIOError from None
        except ssl.SSLWantWriteError:
            self.wants_write = True
            raise BlockingIOError from None
        self.wants_write = False
        self.is_ready = True
        certificate: Any = self._tls.getpeercert()
        if certificate:
            self.principal = "User:" + distinguished_name(certificate["subject"])


def _first_bytes(buffers: Sequence[Buffer]) -> bytes | memoryview:
    """The first buffers as one TLS record, or as much of a large one as it is."""
    first = memoryview(buffers[0])
    if len(first) >= RECORD_BYTES or len(buffers) == 1:
        return first[:WRITE_BYTES_MAX]
    joined = bytearray()
    for buffer in buffers:
        joined += memoryview(buffer)[: RECORD_BYTES - len(joined)]
        if len(joined) >= RECORD_BYTES:
            break
    return bytes(joined)


def distinguished_name(subject: Sequence[Sequence[tuple[str, str]]]) -> str:
    """A certificate's subject as RFC 2253 writes it, the most specific part first: ``CN=till,O=odradek``."""
    parts = [
        "+".join(f"{_ATTRIBUTES.get(name, name)}={_escaped(value)}" for name, value in together)
        for together in subject
    ]
    return ",".join(reversed(parts))


def _escaped(value: str) -> str:
    text = "".join(f"\\{character}" if character in _ESCAPED else character for character in value)
    if text.startswith((" ", "#")):
        text = "\\" + text
    if text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1] + "\\ "
    return text
