"""The access list: who may do what, and users with their credentials. Pure; a change is a new object.

It is one sealed file beside the catalogue, readable by its owner alone. No password is in
it: a credential proves to a user that this is the broker, and to the broker that a user knows a password.
A file that cannot be read stops the start, because without it rules that deny would be gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from actors.messages import User
from odradek.protocol.access import (
    Acl,
    AclFilter,
    ScramCredential,
    ScramMechanism,
    check_acl,
    check_credential,
    check_user_name,
)
from odradek.protocol.errors import PolicyViolation, ResourceNotFound
from supervisor.sealed import SealBroken, seal, unseal

ACCESS_FILE_NAME = "access.json"
ACLS_MAX = 10_000
USERS_MAX = 10_000


class AccessList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every rule and every user of a broker."""

    acls: tuple[Acl, ...] = ()
    users: tuple[User, ...] = ()

    def find_user(self, name: str) -> User | None:
        """The user of that name."""
        return next((user for user in self.users if user.name == name), None)

    def with_acl(self, acl: Acl) -> AccessList:
        """One rule more, unless it is there already. Raises InvalidRequest or PolicyViolation."""
        check_acl(acl)
        if acl in self.acls:
            return self
        if len(self.acls) >= ACLS_MAX:
            raise PolicyViolation(
                f"there are {ACLS_MAX} rules already; rules for prefixes would do with fewer"
            )
        return msgspec.structs.replace(self, acls=(*self.acls, acl))

    def chosen(self, wanted: AclFilter) -> tuple[Acl, ...]:
        """The rules that a filter means."""
        return tuple(acl for acl in self.acls if wanted.matches(acl))

    def without_acls(self, removed: Iterable[Acl]) -> AccessList:
        """Without those rules."""
        gone = set(removed)
        return msgspec.structs.replace(self, acls=tuple(acl for acl in self.acls if acl not in gone))

    def with_credential(self, name: str, credential: ScramCredential) -> AccessList:
        """The user, who may be new, with that credential instead of its former one of that mechanism.

        Raises UnacceptableCredential or PolicyViolation.
        """
        check_user_name(name)
        check_credential(credential)
        user = self.find_user(name)
        if user is None and len(self.users) >= USERS_MAX:
            raise PolicyViolation(f"there are {USERS_MAX} users already")
        kept = [each for each in (user.credentials if user else ()) if each.mechanism != credential.mechanism]
        changed = User(name=name, credentials=(*kept, credential))
        return self._with_users(name, (changed,))

    def without_credential(self, name: str, mechanism: ScramMechanism | None) -> AccessList:
        """The user without that credential (None: any of them); without a credential there is no user.

        Raises ResourceNotFound.
        """
        user = self.find_user(name)
        if user is None:
            raise ResourceNotFound(f"there is no user {name[:80]!r}")
        if mechanism is None:
            return self._with_users(name, ())
        kept = tuple(each for each in user.credentials if each.mechanism != mechanism)
        if len(kept) == len(user.credentials):
            raise ResourceNotFound(f"user {name!r} has no credential for {mechanism}")
        return self._with_users(name, (User(name=name, credentials=kept),) if kept else ())

    def _with_users(self, name: str, instead: tuple[User, ...]) -> AccessList:
        others = tuple(user for user in self.users if user.name != name)
        return msgspec.structs.replace(self, users=(*others, *instead))


class AccessListDamaged(Exception):
    """The access list cannot be read; the message names the file and says what to do."""


def encode_access(access: AccessList) -> bytes:
    """The access list's file."""
    return seal("access", access)


def decode_access(content: bytes, path: Path) -> AccessList:
    """The access list in ``content``, read from ``path``. Raises AccessListDamaged."""
    try:
        return unseal("access", AccessList, content)
    except SealBroken as broken:
        raise _damaged(path, str(broken)) from None


def _damaged(path: Path, why: str) -> AccessListDamaged:
    return AccessListDamaged(
        f"the list of access rules and users {path} cannot be used: {why}. Nothing was changed. "
        f"{path.name}.bak beside it is the list before its last change: if it is whole, copy it over "
        f"{path.name} and make the last change again; or move both away, and every rule and user is gone"
    )
