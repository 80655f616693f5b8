"""The gateway actor: conversations, what ends them, and what a client hears then."""

from __future__ import annotations

import pytest

from actors.kafka.handling import GatewayOptions, Steps
from actors.kafka.registry import HANDLERS
from actors.messages import SUPERVISOR
from odradek.protocol.errors import (
    CoordinatorNotAvailable,
    KafkaStorageError,
    LeaderNotAvailable,
    NetworkException,
    NotCoordinator,
    OdradekError,
    RequestTimedOut,
    ThrottlingQuotaExceeded,
    UnknownTopicOrPartition,
)
from odradek.protocol.messages import (
    CreatedTopic,
    CreateTopics,
    CreateTopicsReply,
    InitProducerIdReply,
    ProduceReply,
    failure,
)
from tests.support.batches import make_batch
from tests.support.kafka import GatewayRig, produce_body

METADATA = 3
PRODUCE = 0
INIT_PRODUCER_ID = 22
COORDINATOR_LOAD_IN_PROGRESS = 14


def metadata_body(*names: str, create: bool = True) -> dict[str, object]:
    return {
        "topics": [{"name": name} for name in names] if names else None,
        "allow_auto_topic_creation": create,
        "include_cluster_authorized_operations": False,
        "include_topic_authorized_operations": False,
    }


@pytest.fixture
def rig() -> GatewayRig:
    return GatewayRig()


# -- api versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_api_versions_tells_what_is_served(rig: GatewayRig, version: int) -> None:
    rig.ask(18, version, {"client_software_name": "x", "client_software_version": "1"})
    response = rig.response()
    assert response.error_code.value == 0
    ranges = {int(each.api_key): (each.min_version, each.max_version) for each in response.api_keys}
    assert ranges[0] == (0, 7)
    assert ranges[1] == (4, 12)
    assert not ranges.keys() & {24, 25, 26, 28}


# -- metadata ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(10))
def test_metadata_names_gateways_and_leaders(version: int) -> None:
    rig = GatewayRig(topics={"t": 3})
    rig.route({"t": 3}, gateways=2)
    rig.ask(METADATA, version, metadata_body("t"))
    response = rig.response()
    assert [(each.node_id, each.host, each.port) for each in response.brokers] == [
        (0, "127.0.0.1", 9092),
        (1, "127.0.0.1", 9093),
    ]
    (topic,) = response.topics
    leaders = [each.leader_id for each in topic.partitions]
    assert set(leaders) == {0, 1}
    assert leaders[0] == leaders[2] != leaders[1]
    assert all(each.isr_nodes == each.replica_nodes == (each.leader_id,) for each in topic.partitions)
    if version >= 1:
        assert response.controller_id == 0
    if version >= 7:
        assert {each.leader_epoch for each in topic.partitions} == {5}


def test_metadata_of_all_topics(rig: GatewayRig) -> None:
    rig.route({"b": 1, "a": 1})
    rig.ask(METADATA, 9, metadata_body())
    assert [topic.name for topic in rig.response().topics] == ["a", "b"]
    rig.ask(METADATA, 0, {"topics": []})
    assert [topic.name for topic in rig.response().topics] == ["a", "b"]
    rig.ask(METADATA, 1, {"topics": []})
    assert rig.response().topics == ()


def test_a_partition_that_starts_has_no_leader(rig: GatewayRig) -> None:
    rig.route({"t": 2}, down=["partition:t-1"])
    rig.ask(METADATA, 9, metadata_body("t"))
    up, down = rig.response().topics[0].partitions
    assert (up.leader_id, up.error_code.value) == (0, 0)
    assert (down.leader_id, down.error_code.value) == (-1, 5)


def test_a_missing_topic_is_created_and_then_told(rig: GatewayRig) -> None:
    rig.ask(METADATA, 9, metadata_body("new", "t"))
    (forward,) = rig.take()
    assert forward.address == SUPERVISOR
    assert isinstance(forward.request, CreateTopics)
    assert [(new.name, new.partitions) for new in forward.request.topics] == [("new", 1)]
    rig.route({"t": 2, "new": 1})
    rig.answer(forward, CreateTopicsReply(topics=[CreatedTopic(name="new", topic_id="x")]))
    assert [(topic.name, topic.error_code.value) for topic in rig.response().topics] == [("new", 0), ("t", 0)]


@pytest.mark.parametrize(("version", "create"), [(9, False), (4, False)])
def test_a_client_that_wants_no_topic_made_gets_none(rig: GatewayRig, version: int, create: bool) -> None:
    rig.ask(METADATA, version, metadata_body("new", create=create))
    assert rig.take() == []
    assert rig.response().topics[0].error_code.value == UnknownTopicOrPartition.code


def test_a_broker_that_makes_no_topics_makes_none() -> None:
    rig = GatewayRig(GatewayOptions(index=0, auto_create_topics=False))
    rig.ask(METADATA, 0, metadata_body("new"))
    assert rig.take() == []
    assert rig.response().topics[0].error_code.value == UnknownTopicOrPartition.code


def test_a_name_that_is_not_allowed_is_not_asked_for(rig: GatewayRig) -> None:
    rig.ask(METADATA, 9, metadata_body("no/such", "a" * 250))
    assert rig.take() == []
    assert [topic.error_code.value for topic in rig.response().topics] == [17, 17]


def test_why_a_topic_was_not_created_is_told(rig: GatewayRig) -> None:
    rig.ask(METADATA, 9, metadata_body("new"))
    (forward,) = rig.take()
    rig.answer(forward, failure(LeaderNotAvailable("the broker is stopping")))
    assert rig.response().topics[0].error_code.value == LeaderNotAvailable.code


# -- asks ----------------------------------------------------------------------------------------------


def test_an_ask_that_is_never_answered_ends(rig: GatewayRig) -> None:
    rig.ask(INIT_PRODUCER_ID, 1, {"transactional_id": None, "transaction_timeout": 0})
    assert len(rig.take()) == 1
    deadline_s = rig.actor.deadline()
    assert deadline_s is not None
    rig.clock.advance_to(deadline_s)
    rig.settle()
    assert rig.response().error_code.value == COORDINATOR_LOAD_IN_PROGRESS
    assert rig.actor.deadline() is None


def test_without_a_coordinator_the_client_is_told_to_come_back(rig: GatewayRig) -> None:
    rig.route({}, coordinator=False)
    rig.ask(INIT_PRODUCER_ID, 1, {"transactional_id": None, "transaction_timeout": 0})
    assert rig.response().error_code.value == COORDINATOR_LOAD_IN_PROGRESS


@pytest.mark.parametrize(
    "error",
    [
        CoordinatorNotAvailable,
        KafkaStorageError,
        LeaderNotAvailable,
        NetworkException,
        NotCoordinator,
        RequestTimedOut,
        ThrottlingQuotaExceeded,
    ],
)
def test_what_passes_has_a_producer_ask_for_its_id_again(rig: GatewayRig, error: type[OdradekError]) -> None:
    """Java's producers retry this in every version, and older ones end for most others."""
    rig.ask(INIT_PRODUCER_ID, 1, {"transactional_id": None, "transaction_timeout": 0})
    (forward,) = rig.take()
    rig.answer(forward, failure(error("it passes")))
    assert rig.response().error_code.value == COORDINATOR_LOAD_IN_PROGRESS


def test_an_actor_that_ends_ends_what_was_asked_of_it(rig: GatewayRig) -> None:
    rig.ask(PRODUCE, 7, produce_body({("t", 0): make_batch(), ("t", 1): make_batch()}))
    first, second = rig.take()
    rig.answer(first, ProduceReply(topic="t", partition=0, offset=3, timestamp=1, count=1))
    assert rig.replies == []
    rig.lose(second.address)
    parts = rig.response().responses[0].partition_responses
    # Whether it was written is unknown: the client must send it again.
    assert [part.error_code.value for part in parts] == [0, 7]


def test_a_closed_connection_is_answered_no_more_and_forgotten(rig: GatewayRig) -> None:
    rig.ask(INIT_PRODUCER_ID, 1, {"transactional_id": None, "transaction_timeout": 0}, connection=b"gone")
    rig.ask(INIT_PRODUCER_ID, 1, {"transactional_id": None, "transaction_timeout": 0}, connection=b"here")
    gone, here = rig.take()
    rig.close(b"gone")
    rig.answer(gone, InitProducerIdReply(producer_id=1, producer_epoch=0))
    assert rig.replies == []
    rig.answer(here, InitProducerIdReply(producer_id=2, producer_epoch=0))
    assert rig.response().producer_id == 2
    assert rig.actor.deadline() is None


def test_a_late_answer_is_dropped(rig: GatewayRig) -> None:
    rig.ask(INIT_PRODUCER_ID, 1, {"transactional_id": None, "transaction_timeout": 0})
    (forward,) = rig.take()
    rig.clock.advance(60)
    rig.settle()
    assert rig.response().error_code.value == COORDINATOR_LOAD_IN_PROGRESS
    rig.answer(forward, InitProducerIdReply(producer_id=1, producer_epoch=0))
    assert rig.replies == []


def test_what_a_handler_cannot_answer_ends_the_connection(rig: GatewayRig) -> None:
    rig.ask(INIT_PRODUCER_ID, 1, {"transactional_id": None, "transaction_timeout": 0})
    (forward,) = rig.take()
    rig.answer(forward, ProduceReply())
    (reply,) = rig.replies
    assert (reply.body, reply.closes) == (None, True)
    assert rig.logs[0].fields["api_key"] == INIT_PRODUCER_ID


def test_a_handlers_fault_ends_its_connection_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(_request: object, _context: object) -> Steps:
        yield from ()
        raise KeyError("a fault")

    monkeypatch.setitem(HANDLERS, INIT_PRODUCER_ID, faulty)
    rig = GatewayRig()
    rig.ask(INIT_PRODUCER_ID, 1, {"transactional_id": None, "transaction_timeout": 0})
    (reply,) = rig.replies
    assert (reply.body, reply.closes) == (None, True)
    (log,) = rig.logs
    assert (log.fields["level"], log.fields["error"]) == ("error", "KeyError('a fault')")
    assert "in faulty" in str(log.fields["trace"])
    rig.replies.clear()
    rig.ask(METADATA, 9, metadata_body("t"), connection=b"other")
    assert rig.response().topics[0].name == "t"


def test_transactions_are_refused(rig: GatewayRig) -> None:
    rig.ask(INIT_PRODUCER_ID, 1, {"transactional_id": "tx", "transaction_timeout": 0})
    assert rig.take() == []
    assert rig.response().error_code.value == 42
