"""SCRAM's arithmetic (RFC 5802, RFC 7677): from a password to a credential, and from a proof to a verdict.

The password is taken as its UTF-8 bytes, as Kafka's clients and brokers do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from odradek.protocol.access import SCRAM_HASHES, ScramCredential, ScramMechanism

PASSWORD_BYTES_MAX = 4_096
SALT_BYTES = 24


def salt_password(mechanism: ScramMechanism, password: bytes, salt: bytes, iterations: int) -> bytes:
    """RFC 5802's SaltedPassword: what makes guessing slow."""
    return hashlib.pbkdf2_hmac(SCRAM_HASHES[mechanism], password, salt, iterations)


def credential_from_password(
    mechanism: ScramMechanism, password: str, salt: bytes, iterations: int
) -> ScramCredential:
    """What a broker keeps of a password."""
    salted = salt_password(mechanism, password.encode(), salt, iterations)
    return credential_from_salted(mechanism, salted, salt, iterations)


def credential_from_salted(
    mechanism: ScramMechanism, salted_password: bytes, salt: bytes, iterations: int
) -> ScramCredential:
    """What a broker keeps of a password that was salted elsewhere."""
    stored_key = _hash(mechanism, keyed(mechanism, salted_password, b"Client Key"))
    server_key = keyed(mechanism, salted_password, b"Server Key")
    return ScramCredential(
        mechanism=mechanism,
        iterations=iterations,
        salt=base64.b64encode(salt).decode(),
        stored_key=base64.b64encode(stored_key).decode(),
        server_key=base64.b64encode(server_key).decode(),
    )


def is_password(credential: ScramCredential, password: bytes) -> bool:
    """Whether the credential was made of this password."""
    salt = base64.b64decode(credential.salt)
    salted = salt_password(credential.mechanism, password, salt, credential.iterations)
    made = credential_from_salted(credential.mechanism, salted, salt, credential.iterations)
    return hmac.compare_digest(made.stored_key, credential.stored_key)


def is_proof(credential: ScramCredential, proof: bytes, auth_message: bytes) -> bool:
    """Whether the proof shows knowledge of the password, for this exchange."""
    stored_key = base64.b64decode(credential.stored_key)
    signature = keyed(credential.mechanism, stored_key, auth_message)
    if len(proof) != len(signature):
        return False
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(_hash(credential.mechanism, client_key), stored_key)


def server_signature(credential: ScramCredential, auth_message: bytes) -> bytes:
    """What shows the client that this is the broker that knows its credential."""
    return keyed(credential.mechanism, base64.b64decode(credential.server_key), auth_message)


def keyed(mechanism: ScramMechanism, key: bytes, message: bytes) -> bytes:
    """The HMAC of the mechanism's hash."""
    return hmac.digest(key, message, SCRAM_HASHES[mechanism])


def _hash(mechanism: ScramMechanism, message: bytes) -> bytes:
    return hashlib.new(SCRAM_HASHES[mechanism], message).digest()
