"""Groups of real Kafka clients: they share, they move, they carry on, and nothing that was committed goes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

import odradek
from odradek.protocol.errors import GroupIdNotFound
from tests.support.broker import BrokerProcess
from tests.support.kafka_dump import NoKafka
from tests.support.kafkamembers import (
    FOREIGN_KINDS,
    KINDS,
    ConfluentMember,
    GroupMember,
    NoKafkaJs,
    Place,
    need,
    wait_until,
)

pytestmark = [
    pytest.mark.processes,
    # kafka-python reads its own files in a way that Python will give up one day.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # aiokafka leaves a transport to the garbage collector where its broker goes away.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PARTITIONS = 6
RECORDS = 120
STATIC_SESSION_MS = 30_000
"""A client of Java takes some seconds to start again."""
RESTARTS_MAX = 3
"""On a busy machine a client may join anew of its own accord, as when it hears late of the topic."""
STORM_ROUNDS = 16
STORM_PAUSE_S = 0.4
ALL_KINDS = [*KINDS, *FOREIGN_KINDS]


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(group_initial_rebalance_delay_s=0.2, default_partitions=PARTITIONS) as process:
        yield process


@pytest.fixture
def kafka(broker: BrokerProcess) -> str:
    return str(broker.ready["kafka"])


@pytest.fixture
def members() -> Iterator[list[GroupMember]]:
    """Those that a test starts; they are told to leave behind it."""
    started: list[GroupMember] = []
    yield started
    for member in started:
        member.tell_end()
    for member in started:
        member.end()


def kind_of_member(kind: str) -> type[GroupMember]:
    """The class, or the test is skipped with the reason."""
    try:
        return need(kind)
    except (NoKafka, NoKafkaJs) as missing:
        pytest.skip(str(missing))


def produce(kafka: str, topic: str, values: Sequence[bytes]) -> None:
    """To all partitions in turn, acknowledged."""
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka})
    failures: list[Any] = []
    for number, value in enumerate(values):
        producer.produce(
            topic,
            value,
            partition=number % PARTITIONS,
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
    assert producer.flush(30) == 0
    assert not failures


def create(broker: BrokerProcess, topic: str) -> list[Place]:
    with odradek.Admin(broker.bootstrap) as admin:
        admin.create_topic(topic, PARTITIONS)
    return [(topic, number) for number in range(PARTITIONS)]


def values(first: int, count: int = RECORDS) -> list[bytes]:
    return [str(number).encode() for number in range(first, first + count)]


def shared(members: Sequence[GroupMember], places: Sequence[Place]) -> bool:
    """Whether each partition has one owner, and nobody is left out or overburdened."""
    check_alive(members)
    held = [place for member in members for place in member.held]
    sizes = [len(member.held) for member in members]
    return sorted(held) == sorted(places) and max(sizes) - min(sizes) <= 1


def delivered(members: Sequence[GroupMember]) -> set[bytes]:
    return set().union(*(member.values for member in members))


def check_alive(members: Sequence[GroupMember]) -> None:
    """No member met an error that its client took for final."""
    for member in members:
        if member.failure is not None:
            raise member.failure


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_group_shares_and_rebalances_in_the_middle(
    broker: BrokerProcess, kafka: str, members: list[GroupMember], kind: str
) -> None:
    member = kind_of_member(kind)
    topic = f"shared-{kind}"
    places = create(broker, topic)
    produce(kafka, topic, values(0))
    members.append(member(kafka, topic, [topic]))
    wait_until(lambda: len(members[0].values) == RECORDS, "one member reads it all")
    members.append(member(kafka, topic, [topic]))
    produce(kafka, topic, values(RECORDS))
    wait_until(lambda: shared(members, places), "two members share")
    produce(kafka, topic, values(2 * RECORDS))
    wait_until(lambda: len(delivered(members)) == 3 * RECORDS, "all is read")
    assert members[1].values, "the second read its part"
    members[0].end()
    wait_until(lambda: shared(members[1:], places), "the second has all when the first has left")
    produce(kafka, topic, values(3 * RECORDS))
    wait_until(lambda: len(delivered(members)) == 4 * RECORDS, "nothing is left unread")
    check_alive(members)


def test_clients_of_three_makers_share_one_group(
    broker: BrokerProcess, kafka: str, members: list[GroupMember]
) -> None:
    """They agree on ``range``, which all of them know, and each may be the leader."""
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # noqa: PLC0415

    places = create(broker, "mixed")
    ranged: dict[str, dict[str, Any]] = {
        "confluent": {"partition.assignment.strategy": "range"},
        "kafka-python": {},
        "aiokafka": {"partition_assignment_strategy": (RangePartitionAssignor,)},
    }
    for kind, options in ranged.items():
        members.append(KINDS[kind](kafka, "mixed", ["mixed"], **options))
        wait_until(lambda: shared(members, places), f"{kind} has its share")
    produce(kafka, "mixed", values(0))
    wait_until(lambda: delivered(members) == set(values(0)), "all is read")
    with odradek.Admin(broker.bootstrap) as admin:
        described = admin.describe_group("mixed")
    assert (described.state, described.type, described.assignor) == ("Stable", "classic", "range")
    assert isinstance(described.members, list)
    assert {member.client_id for member in described.members} == set(KINDS)
    assert {member.host for member in described.members} == {"127.0.0.1"}
    assert sum(len(item.partitions) for member in described.members for item in member.assignment) == 6
    members[0].end()
    wait_until(lambda: shared(members[1:], places), "the leader has left, the others share")


def test_cooperative_members_keep_what_stays_theirs(
    broker: BrokerProcess, kafka: str, members: list[GroupMember]
) -> None:
    places = create(broker, "cooperative")
    strategy: dict[str, Any] = {"partition.assignment.strategy": "cooperative-sticky"}
    for _ in range(3):
        members.append(ConfluentMember(kafka, "cooperative", ["cooperative"], **strategy))
        wait_until(lambda: shared(members, places), "all share")
    produce(kafka, "cooperative", values(0))
    wait_until(lambda: delivered(members) == set(values(0)), "all is read")


@pytest.mark.parametrize("kind", [*KINDS, "java"])
def test_a_static_member_restarts_and_nobody_notices(
    broker: BrokerProcess, kafka: str, members: list[GroupMember], kind: str
) -> None:
    member = kind_of_member(kind)
    topic = f"static-{kind}"
    places = create(broker, topic)
    name = "group.instance.id" if kind == "confluent" else "group_instance_id"
    for instance in "ab":
        members.append(member(kafka, topic, [topic], session_ms=STATIC_SESSION_MS, **{name: instance}))
        wait_until(lambda: shared(members, places), "the instances share")
    first, second = members
    with odradek.Admin(broker.bootstrap) as admin:
        for _ in range(RESTARTS_MAX):
            before = first.held, second.gained, admin.describe_group(topic).epoch
            first.end()
            first = member(kafka, topic, [topic], session_ms=STATIC_SESSION_MS, **{name: "a"})
            members.append(first)
            wait_until(lambda: shared([first, second], places), "it is back")  # noqa: B023
            if (first.held, second.gained, admin.describe_group(topic).epoch) == before:
                break
        else:
            raise AssertionError("it does not get back what it had, or the other one is asked each time")
    produce(kafka, topic, values(0))
    wait_until(lambda: delivered(members) == set(values(0)), "all is read")


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("victim", ["coordinator", "gateway 0"])
def test_a_group_carries_on_when_a_process_is_killed(
    broker: BrokerProcess, kafka: str, members: list[GroupMember], kind: str, victim: str
) -> None:
    member = kind_of_member(kind)
    topic = f"killed-{kind}-{victim.partition(' ')[0]}"
    places = create(broker, topic)
    for _ in range(2):
        members.append(member(kafka, topic, [topic]))
    wait_until(lambda: shared(members, places), "two share")
    produce(kafka, topic, values(0))
    wait_until(lambda: len(delivered(members)) == RECORDS, "the first part is read")
    before = committed(broker, topic)
    broker.child(victim).kill()
    wait_until(lambda: victim in "".join(broker.titles()), "it is back")
    kafka = str(broker.ready["kafka"])
    produce(kafka, topic, values(RECORDS))
    wait_until(lambda: len(delivered(members)) == 2 * RECORDS, "the second part is read")
    wait_until(lambda: shared(members, places), "two share still, or again")
    after = committed(broker, topic)
    assert all(after[place] >= offset for place, offset in before.items()), "a position went back"
    check_alive(members)


def committed(broker: BrokerProcess, group: str) -> dict[Place, int]:
    with odradek.Admin(broker.bootstrap) as admin:
        found = admin.list_group_offsets(group)
    return {(place.topic, place.partition): offset for place, offset in found.items()}


def test_a_member_that_is_killed_is_expelled_and_its_partitions_move(
    broker: BrokerProcess, kafka: str, members: list[GroupMember]
) -> None:
    places = create(broker, "expelled")
    members.append(ConfluentMember(kafka, "expelled", ["expelled"]))
    wait_until(lambda: shared(members, places), "one has all")
    script = (
        "import sys, confluent_kafka as k\n"
        "known = {'group.id': 'expelled', 'session.timeout.ms': 6000}\n"
        "c = k.Consumer({'bootstrap.servers': sys.argv[1], **known})\n"
        "c.subscribe(['expelled'], on_assign=lambda *a: print('in', flush=True))\n"
        "while True: c.poll(0.1)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script, kafka], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"in\n"
    wait_until(lambda: len(members[0].held) == PARTITIONS // 2, "they share")
    other.kill()
    other.wait()
    other.stdout.close()
    wait_until(lambda: shared(members, places), "it has all again")
    expelled = [event for event in broker.events("member_expelled") if event["group"] == "expelled"]
    assert [event["reason"] for event in expelled] == ["session_timeout"]


def test_both_protocols_read_the_same_offsets_and_keep_out_of_each_others_groups(
    broker: BrokerProcess, kafka: str, members: list[GroupMember]
) -> None:
    create(broker, "both")
    produce(kafka, "both", values(0))
    members.append(ConfluentMember(kafka, "both", ["both"]))
    wait_until(lambda: sum(committed(broker, "both").values()) == RECORDS, "all is committed")
    with (
        odradek.Consumer(broker.bootstrap, group="both", topics=["both"]) as consumer,
        pytest.raises(GroupIdNotFound, match="classic group"),
    ):
        next(iter(consumer))
    members[0].end()
    produce(kafka, "both", values(RECORDS))
    with odradek.Consumer(broker.bootstrap, group="both", topics=["both"]) as consumer:
        found = {record.value for _, record in zip(range(RECORDS), consumer, strict=False)}
        assert found == set(values(RECORDS)), "it goes on where the other kind had come to"
        consumer.commit()
        stranger = confluent_kafka.Consumer({"bootstrap.servers": kafka, "group.id": "both"})
        stranger.subscribe(["both"])
        errors: list[int] = []
        wait_until(lambda: bool(_poll_error(stranger, errors)), "the classic member hears why it stays out")
        assert errors[0] == confluent_kafka.KafkaError.INCONSISTENT_GROUP_PROTOCOL
        stranger.close()
    members.append(ConfluentMember(kafka, "both", ["both"]))
    produce(kafka, "both", values(2 * RECORDS))
    wait_until(lambda: members[1].values == set(values(2 * RECORDS)), "and back again")


def _poll_error(consumer: Any, errors: list[int]) -> list[int]:
    message = consumer.poll(0.1)
    if message is not None and message.error() is not None:
        errors.append(message.error().code())
    return errors


def test_the_admin_clients_see_change_and_delete_groups(broker: BrokerProcess, kafka: str) -> None:
    places = create(broker, "managed")
    produce(kafka, "managed", values(0))
    member = ConfluentMember(kafka, "managed", ["managed"])
    wait_until(lambda: sum(committed(broker, "managed").values()) == RECORDS, "all is committed")
    admin = AdminClient({"bootstrap.servers": kafka})
    described = admin.describe_consumer_groups(["managed"])["managed"].result()
    assert described.state.name == "STABLE"
    assert described.partition_assignor == "range"
    [seen] = described.members
    assert (seen.client_id, seen.host) == ("confluent", "/127.0.0.1")
    held = {(each.topic, each.partition) for each in seen.assignment.topic_partitions}
    assert held == set(places)
    refused = admin.delete_consumer_groups(["managed"])["managed"]
    with pytest.raises(confluent_kafka.KafkaException, match="NON_EMPTY_GROUP"):
        refused.result()
    member.end()
    moved = confluent_kafka.ConsumerGroupTopicPartitions(
        "managed", [confluent_kafka.TopicPartition("managed", 0, 3)]
    )
    admin.alter_consumer_group_offsets([moved])["managed"].result()
    assert committed(broker, "managed")["managed", 0] == 3
    asked = confluent_kafka.ConsumerGroupTopicPartitions("managed")
    found = admin.list_consumer_group_offsets([asked])["managed"].result().topic_partitions
    assert {each.partition: each.offset for each in found}[0] == 3
    listed = {group.group_id: group for group in admin.list_consumer_groups().result().valid}
    assert listed["managed"].state.name == "EMPTY"
    admin.delete_consumer_groups(["managed"])["managed"].result()
    assert "managed" not in {group.group_id for group in admin.list_consumer_groups().result().valid}


def test_kafka_pythons_admin_client_too(broker: BrokerProcess, kafka: str) -> None:
    from kafka import KafkaAdminClient  # noqa: PLC0415

    create(broker, "managed-too")
    member = KINDS["kafka-python"](kafka, "managed-too", ["managed-too"])
    wait_until(lambda: len(member.held) == PARTITIONS, "it has all")
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    try:
        assert "managed-too" in str(admin.list_groups())
        assert "Stable" in str(admin.describe_groups(["managed-too"]))
        member.end()
        assert "managed-too" in str(admin.delete_groups(["managed-too"]))
        assert "managed-too" not in str(admin.list_groups())
    finally:
        admin.close()


def test_the_command_shows_both_kinds(broker: BrokerProcess, kafka: str) -> None:
    create(broker, "shown")
    produce(kafka, "shown", values(0))
    member = ConfluentMember(kafka, "shown", ["shown"])
    try:
        wait_until(lambda: sum(committed(broker, "shown").values()) == RECORDS, "all is committed")
        with odradek.Consumer(broker.bootstrap, group="shown-natively", topics=["shown"]) as consumer:
            next(iter(consumer))
            listed = {group["group"]: group for group in json.loads(command(broker, "list", "--json"))}
            assert {name: listed[name]["type"] for name in ("shown", "shown-natively")} == {
                "shown": "classic",
                "shown-natively": "consumer",
            }
            shown = command(broker, "describe", "shown")
        assert all(word in shown for word in ("classic", "Stable", "confluent", "127.0.0.1", "Generation"))
        refused = command(broker, "reset", "shown", "--all-topics", "--to-earliest", code=1)
        assert "has 1 member" in refused
        assert "has 1 members" in command(broker, "delete", "shown", code=1)
    finally:
        member.end()
    command(broker, "reset", "shown", "--all-topics", "--to-earliest")
    assert set(committed(broker, "shown").values()) == {0}
    command(broker, "delete", "shown")
    assert "shown" not in {group["group"] for group in json.loads(command(broker, "list", "--json"))}


def command(broker: BrokerProcess, *words: str, code: int = 0) -> str:
    """What ``odradek group ...`` writes."""
    ran = subprocess.run(
        [sys.executable, "-m", "odradek.cli", "group", *words, "--bootstrap", broker.bootstrap],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == code, ran.stderr
    return ran.stdout + ran.stderr


def test_members_come_through_different_gateways_and_one_may_be_killed() -> None:
    with BrokerProcess(
        gateways=2, group_initial_rebalance_delay_s=0.2, default_partitions=PARTITIONS
    ) as broker:
        places = create(broker, "spread")
        gateways = [str(endpoint) for endpoint in broker.ready["gateways"]]
        assert len(set(gateways)) == 2
        members: list[GroupMember] = [
            ConfluentMember(endpoint, "spread", ["spread"]) for endpoint in gateways
        ]
        try:
            wait_until(lambda: shared(members, places), "they share")
            produce(gateways[0], "spread", values(0))
            wait_until(lambda: delivered(members) == set(values(0)), "all is read")
            named = {coordinator_of(endpoint, "spread") for endpoint in gateways}
            assert len(named) == 1, "both gateways name the same one for a group"
            broker.child(f"gateway {named.pop()}").kill()
            produce(",".join(gateways), "spread", values(RECORDS))
            wait_until(lambda: len(delivered(members)) == 2 * RECORDS, "all is read through what is left")
            wait_until(lambda: shared(members, places), "they share still")
        finally:
            for member in members:
                member.tell_end()
            for member in members:
                member.end()


def coordinator_of(endpoint: str, group: str) -> int:
    """The node that a gateway names as a group's coordinator."""
    admin = AdminClient({"bootstrap.servers": endpoint})
    described = admin.describe_consumer_groups([group])[group].result()
    return int(described.coordinator.id)


def test_a_storm_of_members_over_a_coordinator_that_is_killed(
    broker: BrokerProcess, kafka: str, members: list[GroupMember]
) -> None:
    """Members of three makers come and go while records flow: none is left out, no position goes back."""
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # noqa: PLC0415

    places = create(broker, "storm")
    options: dict[str, dict[str, Any]] = {
        "confluent": {"partition.assignment.strategy": "range"},
        "kafka-python": {},
        "aiokafka": {"partition_assignment_strategy": (RangePartitionAssignor,)},
    }
    dice = random.Random(1)
    alive: list[GroupMember] = []
    positions: dict[Place, int] = {}
    produced = 0
    for round_ in range(STORM_ROUNDS):
        if len(alive) < 2 or (len(alive) < 5 and dice.random() < 0.6):
            kind = dice.choice([*options])
            alive.append(KINDS[kind](kafka, "storm", ["storm"], **options[kind]))
            members.append(alive[-1])
        else:
            alive.pop(dice.randrange(len(alive))).tell_end()
        if round_ == STORM_ROUNDS // 2:
            broker.child("coordinator").kill()
        produce(kafka, "storm", values(produced, 60))
        produced += 60
        found = committed(broker, "storm")
        assert all(found.get(place, -1) >= offset for place, offset in positions.items()), "it went back"
        positions = found
        threading.Event().wait(STORM_PAUSE_S)
    wait_until(lambda: shared(alive, places), "those who stayed share all")
    wait_until(lambda: delivered(members) == set(values(0, produced)), "nothing was left out")
    wait_until(lambda: sum(committed(broker, "storm").values()) == produced, "all is committed")


def test_kcat_reads_as_a_group(broker: BrokerProcess, kafka: str) -> None:
    """Debian's kcat has a librdkafka of 2022, which asks for older versions."""
    if shutil.which("kcat") is None:
        pytest.skip("kcat is not installed here")
    create(broker, "kcat")
    produce(kafka, "kcat", values(0))
    wanted = ["-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000", "-c", str(RECORDS), "-u"]
    ran = subprocess.run(
        ["kcat", "-b", kafka, "-G", "kcat", *wanted, "kcat"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert set(ran.stdout.split()) == set(values(0))
    wait_until(lambda: sum(committed(broker, "kcat").values()) == RECORDS, "it has committed")
