"""The gatekeeper: requests about access rules and users. What it answers is durable first.

Its list in memory always equals the durable one. Each change raises ``version``, and the overseer tells
the new list to routers and gateways before the request is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from actors.messages import Access, User
from odradek.protocol.errors import (
    InvalidRequest,
    KafkaStorageError,
    OdradekError,
    ResourceNotFound,
    WireError,
)
from odradek.protocol.messages import (
    AlteredUser,
    AlterUsers,
    AlterUsersReply,
    CreateAcls,
    CreateAclsReply,
    CreatedAcl,
    DeleteAcls,
    DeleteAclsReply,
    DeletedAcls,
    DescribeAcls,
    DescribeAclsReply,
    DescribeUsers,
    DescribeUsersReply,
    Reply,
    UserDescription,
    UserMechanism,
)
from supervisor.access import AccessList
from supervisor.clientkeys import ClientList

AccessRequest = DescribeAcls | CreateAcls | DeleteAcls | DescribeUsers | AlterUsers
ACCESS_REQUESTS = (DescribeAcls, CreateAcls, DeleteAcls, DescribeUsers, AlterUsers)


class AccessStorage(Protocol):
    """What the gatekeeper asks of the data directory."""

    def save_access(self, access: AccessList) -> None:
        """Makes the access list durable. Raises OSError."""


class Gatekeeper:
    """The access list in memory, and who need not ask it."""

    def __init__(
        self,
        access: AccessList,
        storage: AccessStorage,
        *,
        enforced: bool = False,
        super_users: Sequence[str] = (),
        clients: ClientList | None = None,
    ) -> None:
        self.access = access
        self.version = 1
        """Raised by each change."""
        self._storage = storage
        self._enforced = enforced
        self._super_users = list(super_users)
        self._clients = clients or ClientList()

    def admit(self, clients: ClientList) -> None:
        """The keys that may come in now, and what their roles allow beside the rules."""
        self._clients = clients
        self.version += 1

    def tidings(self, *, with_users: bool) -> Access:
        """What routers and gateways are told; credentials and keys only where somebody shows them."""
        return Access(
            version=self.version,
            enforced=self._enforced,
            super_users=self._super_users,
            acls=[*self.access.acls, *self._clients.acls()],
            users=list(self.access.users) if with_users else [],
            principals={} if with_users else self._clients.principals(),
        )

    def serve(self, request: AccessRequest) -> Reply:
        """One request. Raises OdradekError where it fails as a whole, and has changed nothing then."""
        match request:
            case DescribeAcls():
                acls = self.access.acls if request.filter is None else self.access.chosen(request.filter)
                return DescribeAclsReply(acls=list(acls), enforced=self._enforced)
            case CreateAcls():
                return self._create_acls(request)
            case DeleteAcls():
                return self._delete_acls(request)
            case DescribeUsers():
                return self._describe_users(request)
            case AlterUsers():
                return self._alter_users(request)

    def _create_acls(self, request: CreateAcls) -> Reply:
        access, results = self.access, []
        for acl in request.acls:
            error: WireError | None = None
            try:
                access = access.with_acl(acl)
            except OdradekError as refused:
                error = refused.wire()
            results.append(CreatedAcl(error=error))
        self._save(access)
        return CreateAclsReply(results=results, enforced=self._enforced)

    def _delete_acls(self, request: DeleteAcls) -> Reply:
        chosen = [self.access.chosen(wanted) for wanted in request.filters]
        self._save(self.access.without_acls(acl for acls in chosen for acl in acls))
        return DeleteAclsReply(results=[DeletedAcls(acls=list(acls)) for acls in chosen])

    def _describe_users(self, request: DescribeUsers) -> Reply:
        if request.names is None:
            users = sorted(self.access.users, key=lambda user: user.name)
            return DescribeUsersReply(users=[_described(user) for user in users])
        return DescribeUsersReply(users=[self._find(name) for name in request.names])

    def _find(self, name: str) -> UserDescription:
        user = self.access.find_user(name)
        if user is not None:
            return _described(user)
        return UserDescription(name=name, error=ResourceNotFound(f"there is no user {name[:80]!r}").wire())

    def _alter_users(self, request: AlterUsers) -> Reply:
        removed = [removal.name for removal in request.removals]
        named = dict.fromkeys([*removed, *(change.name for change in request.credentials)])
        if not named:
            raise InvalidRequest("the request names no user to change")
        access = self.access
        results: list[AlteredUser] = []
        for name in named:
            try:
                access = self._altered(access, name, request)
            except OdradekError as error:
                results.append(AlteredUser(name=name, error=error.wire()))
            else:
                results.append(AlteredUser(name=name))
        self._save(access)
        return AlterUsersReply(users=results)

    @staticmethod
    def _altered(access: AccessList, name: str, request: AlterUsers) -> AccessList:
        for removal in request.removals:
            if removal.name == name:
                access = access.without_credential(name, removal.mechanism)
        for change in request.credentials:
            if change.name == name:
                access = access.with_credential(name, change.credential)
        return access

    def _save(self, access: AccessList) -> None:
        if access == self.access:
            return
        try:
            self._storage.save_access(access)
        except OSError as error:
            raise KafkaStorageError(
                f"the list of access rules and users cannot be written: {error.strerror}; nothing was changed"
            ) from None
        self.access = access
        self.version += 1


def _described(user: User) -> UserDescription:
    mechanisms = [
        UserMechanism(mechanism=credential.mechanism, iterations=credential.iterations)
        for credential in user.credentials
    ]
    return UserDescription(name=user.name, mechanisms=mechanisms)
