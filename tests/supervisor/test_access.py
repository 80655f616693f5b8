"""Access rules and users in the supervisor: durable first, told to who must know, and refused in words."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from actors.messages import Access, Routes, User
from odradek.protocol.access import Acl, AclFilter, ScramCredential
from odradek.protocol.errors import (
    InvalidRequest,
    KafkaStorageError,
    PolicyViolation,
    ResourceNotFound,
    UnacceptableCredential,
)
from odradek.protocol.messages import (
    AlterUsers,
    AlterUsersReply,
    CreateAcls,
    CreateAclsReply,
    DeleteAcls,
    DeleteAclsReply,
    DescribeAcls,
    DescribeAclsReply,
    DescribeUsers,
    DescribeUsersReply,
    UserCredential,
    UserRemoval,
)
from supervisor import access as access_module
from supervisor.access import (
    ACCESS_FILE_NAME,
    AccessList,
    AccessListDamaged,
    decode_access,
    encode_access,
)
from supervisor.configuration import SettingsError, load_settings
from supervisor.datadirectory import DataDirectory
from supervisor.effects import Respond, TellChild
from supervisor.gatekeeper import Gatekeeper
from supervisor.settings import principals
from tests.supervisor.test_overseer import serving, topic

KEY = base64.b64encode(bytes(32)).decode()
RULE = Acl(principal="User:till", operation="read", resource_type="topic", resource_name="events")
OTHER = Acl(principal="User:jan", operation="all", resource_type="group", resource_name="g")


def credential(mechanism: Any = "SCRAM-SHA-256", **changes: Any) -> ScramCredential:
    key = KEY if mechanism == "SCRAM-SHA-256" else base64.b64encode(bytes(64)).decode()
    fields: dict[str, Any] = {"iterations": 4096, "salt": KEY, "stored_key": key, "server_key": key}
    return ScramCredential(mechanism=mechanism, **fields | changes)


TILL = User(name="till", credentials=(credential(), credential("SCRAM-SHA-512")))


class FakeStorage:
    """Remembers what was made durable; fails when told to."""

    def __init__(self) -> None:
        self.saved: list[AccessList] = []
        self.fails = False

    def save_access(self, access: AccessList) -> None:
        if self.fails:
            raise OSError(28, "No space left on device")
        self.saved.append(access)


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def keeper(storage: FakeStorage) -> Gatekeeper:
    return Gatekeeper(AccessList(), storage, enforced=True, super_users=["User:root"])


def created(keeper: Gatekeeper, *acls: Acl) -> CreateAclsReply:
    reply = keeper.serve(CreateAcls(acls=list(acls)))
    assert isinstance(reply, CreateAclsReply)
    return reply


def described(keeper: Gatekeeper, wanted: AclFilter | None = None) -> list[Acl]:
    reply = keeper.serve(DescribeAcls(filter=wanted))
    assert isinstance(reply, DescribeAclsReply) and isinstance(reply.acls, list)
    return reply.acls


def altered(keeper: Gatekeeper, **changes: Any) -> dict[str, int]:
    """Error codes by user."""
    reply = keeper.serve(AlterUsers(**changes))
    assert isinstance(reply, AlterUsersReply) and isinstance(reply.users, list)
    return {user.name: user.error.code if user.error else 0 for user in reply.users}


# -- rules ---------------------------------------------------------------------------------------------


def test_rules_are_kept_once_and_durable_first(keeper: Gatekeeper, storage: FakeStorage) -> None:
    created(keeper, RULE, OTHER, RULE)
    assert described(keeper) == [RULE, OTHER]
    assert storage.saved == [AccessList(acls=(RULE, OTHER))]
    assert keeper.version == 2
    created(keeper, RULE)
    assert len(storage.saved) == 1 and keeper.version == 2, "nothing changed, yet something was written"


def test_a_bad_rule_keeps_no_other_out(keeper: Gatekeeper) -> None:
    bad = Acl(principal="till", operation="read", resource_type="topic", resource_name="events")
    results = created(keeper, bad, RULE).results
    assert isinstance(results, list)
    assert [result.error.code if result.error else 0 for result in results] == [InvalidRequest.code, 0]
    assert described(keeper) == [RULE]


def test_there_is_a_limit(keeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "ACLS_MAX", 1)
    results = created(keeper, RULE, OTHER, RULE).results
    assert isinstance(results, list)
    assert [result.error.code if result.error else 0 for result in results] == [0, PolicyViolation.code, 0]


def test_rules_go_by_filter(keeper: Gatekeeper, storage: FakeStorage) -> None:
    created(keeper, RULE, OTHER)
    reply = keeper.serve(DeleteAcls(filters=[AclFilter(principal="User:till"), AclFilter(host="10.0.0.1")]))
    assert isinstance(reply, DeleteAclsReply) and isinstance(reply.results, list)
    assert [result.acls for result in reply.results] == [[RULE], []]
    assert described(keeper) == [OTHER] and storage.saved[-1].acls == (OTHER,)
    assert described(keeper, AclFilter(resource_type="topic")) == []


def test_what_could_not_be_written_has_not_happened(keeper: Gatekeeper, storage: FakeStorage) -> None:
    created(keeper, RULE)
    storage.fails = True
    for request in (CreateAcls(acls=[OTHER]), DeleteAcls(filters=[AclFilter()])):
        with pytest.raises(KafkaStorageError, match="No space left on device; nothing was changed"):
            keeper.serve(request)
    assert described(keeper) == [RULE] and keeper.version == 2


# -- users -----------------------------------------------------------------------------------------------


def test_users_come_change_and_go(keeper: Gatekeeper, storage: FakeStorage) -> None:
    both = [UserCredential(name="till", credential=each) for each in TILL.credentials]
    assert altered(keeper, credentials=both) == {"till": 0}
    assert storage.saved[-1].users == (TILL,)
    stronger = credential(iterations=8192)
    assert altered(keeper, credentials=[UserCredential(name="till", credential=stronger)]) == {"till": 0}
    (user,) = keeper.access.users
    assert user.credentials == (TILL.credentials[1], stronger)
    assert altered(keeper, removals=[UserRemoval(name="till", mechanism="SCRAM-SHA-256")]) == {"till": 0}
    assert keeper.access.users == (User(name="till", credentials=TILL.credentials[1:]),)
    assert altered(keeper, removals=[UserRemoval(name="till", mechanism="SCRAM-SHA-512")]) == {"till": 0}
    assert not keeper.access.users


def test_what_fails_for_a_user_changes_nothing_of_it(keeper: Gatekeeper) -> None:
    good, weak = credential(), credential("SCRAM-SHA-512", iterations=1)
    codes = altered(
        keeper,
        removals=[UserRemoval(name="gone"), UserRemoval(name="jan", mechanism="SCRAM-SHA-256")],
        credentials=[
            UserCredential(name="till", credential=good),
            UserCredential(name="till", credential=weak),
            UserCredential(name="*", credential=good),
            UserCredential(name="ada", credential=good),
        ],
    )
    unknown, bad = ResourceNotFound.code, UnacceptableCredential.code
    assert codes == {"gone": unknown, "jan": unknown, "till": bad, "*": bad, "ada": 0}
    assert [user.name for user in keeper.access.users] == ["ada"]
    with pytest.raises(InvalidRequest):
        keeper.serve(AlterUsers())


def test_a_description_has_no_secrets(keeper: Gatekeeper) -> None:
    altered(keeper, credentials=[UserCredential(name="till", credential=each) for each in TILL.credentials])
    for names in (None, ["till"]):
        reply = keeper.serve(DescribeUsers(names=names))
        assert isinstance(reply, DescribeUsersReply) and isinstance(reply.users, list)
        assert KEY not in repr(reply)
        assert [(each.mechanism, each.iterations) for each in reply.users[0].mechanisms] == [
            ("SCRAM-SHA-256", 4096),
            ("SCRAM-SHA-512", 4096),
        ]
    unknown = keeper.serve(DescribeUsers(names=["gone"]))
    assert isinstance(unknown, DescribeUsersReply) and isinstance(unknown.users, list)
    assert [user.error.code for user in unknown.users if user.error] == [ResourceNotFound.code]


# -- what is told ------------------------------------------------------------------------------------------


def test_only_who_checks_passwords_is_told_of_users() -> None:
    keeper = Gatekeeper(AccessList(acls=(RULE,), users=(TILL,)), FakeStorage(), enforced=True)
    assert keeper.tidings(with_users=False).users == []
    told = keeper.tidings(with_users=True)
    assert (told.users, told.acls, told.enforced) == ([TILL], [RULE], True)


def test_a_change_is_told_before_it_is_answered_and_routes_are_left_alone() -> None:
    script = serving(topic("a", 1))
    script.say(CreateAcls(acls=[RULE]))
    tells = [effect for effect in script.effects if isinstance(effect, TellChild | Respond)]
    told, answered = tells
    assert isinstance(told, TellChild) and isinstance(told.message, Access)
    assert (told.name, told.message.acls) == ("router:0", [RULE])
    assert isinstance(answered, Respond) and isinstance(answered.reply, CreateAclsReply)
    script.clear()
    script.say(CreateAcls(acls=[RULE]))
    assert script.of(TellChild) == [], "told again though nothing changed"


def test_a_router_that_comes_back_is_told_at_its_start_and_then_before_its_routes() -> None:
    script = serving(topic("a", 1))
    script.say(CreateAcls(acls=[RULE]))
    script.die("router:0")
    script.clear()
    (order,) = script.spawn()
    assert order.access is not None and order.access.acls == [RULE]
    script.ready("router:0")
    kinds = [type(effect.message) for effect in script.of(TellChild)]
    assert kinds[:2] == [Access, Routes]


def test_what_did_not_reach_a_router_is_said_again() -> None:
    script = serving(topic("a", 1))
    script.say(CreateAcls(acls=[RULE]))
    (lost,) = script.of(TellChild)
    script.clear()
    script.overseer.undelivered(lost)
    script.beat("router:0")
    assert script.told(Access) == ["router:0"]


# -- the file ----------------------------------------------------------------------------------------------

FULL = AccessList(acls=(RULE, OTHER), users=(TILL,))


def test_the_file_holds_everything_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    assert directory.load_access() == AccessList()
    directory.save_access(FULL)
    assert directory.load_access() == FULL
    path = directory.path / ACCESS_FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    directory.save_access(AccessList())
    assert decode_access(path.with_name(path.name + ".bak").read_bytes(), path) == FULL
    directory.close()


def test_a_file_with_any_byte_changed_stops_the_start() -> None:
    content = encode_access(FULL)
    path = Path("access.json")
    assert decode_access(content, path) == FULL
    for place in range(len(content) - 1):
        damaged = content[:place] + bytes([content[place] ^ 0x01]) + content[place + 1 :]
        with pytest.raises(AccessListDamaged, match=r"access\.json\.bak beside it"):
            decode_access(damaged, path)
    with pytest.raises(AccessListDamaged, match="format 2, and this version reads format 1"):
        decode_access(content.replace(b'"format":1', b'"format":2'), path)


def test_a_list_that_was_lost_is_missed(tmp_path: Path) -> None:
    """Without it, rules that deny would be gone in silence."""
    directory = DataDirectory(tmp_path / "data")
    directory.save_access(FULL)
    directory.save_access(AccessList())
    (directory.path / ACCESS_FILE_NAME).unlink()
    with pytest.raises(AccessListDamaged, match=r"is missing, yet access\.json\.bak is there"):
        directory.load_access()
    directory.close()


# -- settings ----------------------------------------------------------------------------------------------


def problems(**flags: object) -> list[str]:
    try:
        load_settings(flags, {})
    except SettingsError as error:
        return error.problems
    return []


TLS = {"kafka_tls_certificate": "c.pem", "kafka_tls_key": "k.pem"}
OPEN = {"host": "0.0.0.0"}


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"super_users": "till"}, "super_users names 'till'"),
        ({"super_users": "User:a;User:*"}, r"super_users names 'User:\*'"),
        ({"kafka_security": "ssl", "kafka_tls_key": "k"}, "which needs kafka_tls_certificate"),
        ({"kafka_security": "sasl_ssl", "kafka_tls_certificate": "c"}, "which needs kafka_tls_key"),
        ({"kafka_security": "sasl_plaintext", "kafka_sasl_mechanisms": ""}, "nobody could log in"),
        ({"kafka_security": "sasl_plaintext", "kafka_sasl_mechanisms": "GSSAPI"}, "names 'GSSAPI'"),
        ({**OPEN, "security_curve": "required", "kafka_security": "sasl_plaintext"}, "PLAIN sends passwords"),
    ],
)
def test_settings_that_contradict_themselves(flags: dict[str, object], why: str) -> None:
    found = problems(**flags)
    assert len(found) == 1
    assert why.replace("\\", "") in found[0]


@pytest.mark.parametrize(
    "flags",
    [
        {"super_users": "User:CN=till,O=x; User:root"},
        {"kafka_security": "ssl", **TLS},
        {"kafka_security": "ssl", "gateways": 0},
        {"kafka_security": "sasl_plaintext", "kafka_sasl_mechanisms": "scram-sha-256, PLAIN"},
        {**OPEN, "security_curve": "required", "kafka_security": "sasl_ssl", **TLS},
        {**OPEN, "allow_insecure_host": True},
    ],
)
def test_settings_that_agree(flags: dict[str, object]) -> None:
    assert problems(**flags) == []


def test_strangers_meet_no_kafka_listener_that_asks_nothing() -> None:
    flags = {**OPEN, "security_curve": "off", "authorization": "off"}
    assert any("Kafka clients need not say who they are" in problem for problem in problems(**flags))


def test_principals_stand_between_semicolons() -> None:
    assert principals(" User:CN=a,O=b ;User:c;; ") == ["User:CN=a,O=b", "User:c"]
