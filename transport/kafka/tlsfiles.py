"""The files of a TLS listener. Apart from ``tls``: who only names them need not load OpenSSL."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate (with its chain), its key, and who signs the certificates of clients."""

    certificate: str
    key: str
    client_ca: str = ""
