"""Certificates for tests of TLS: an authority, a server on localhost, and clients, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

AVAILABLE = shutil.which("openssl") is not None
WHY_NOT = "there is no openssl to make certificates with"
DAYS = "2"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Signs certificates; everything lies in one directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._name = name
        key, certificate = self._paths(name)
        _openssl(
            "req", "-x509", *_KEY, "-keyout", key, "-out", certificate, "-subj", f"/CN={name}", "-days", DAYS
        )
        self.certificate = str(certificate)

    def issue(self, name: str, subject: str, alternative: str = "") -> tuple[str, str]:
        """A certificate and its key, as paths."""
        key, certificate = self._paths(f"{self._name}-{name}")
        request, extensions = certificate.with_suffix(".csr"), certificate.with_suffix(".ext")
        _openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", subject, "-utf8")
        extensions.write_text(f"subjectAltName={alternative}\n" if alternative else "")
        own_key, own = self._paths(self._name)
        signed = ("-CA", own, "-CAkey", own_key, "-CAcreateserial", "-days", DAYS, "-extfile", extensions)
        _openssl("x509", "-req", "-in", request, *signed, "-out", certificate)
        return str(certificate), str(key)

    def issue_server(self) -> tuple[str, str]:
        """The certificate and key of a server on this machine."""
        return self.issue("server", "/CN=localhost", "DNS:localhost,IP:127.0.0.1")

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self._directory / f"{name}.key", self._directory / f"{name}.pem"


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)
