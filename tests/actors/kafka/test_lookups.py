"""ListOffsets and OffsetForLeaderEpoch: questions to many partitions in one request."""

from __future__ import annotations

from typing import Any

import pytest

from actors.messages import EpochEnd, EpochEndReply
from odradek.protocol.errors import LeaderNotAvailable
from odradek.protocol.messages import ListOffsets, ListOffsetsReply
from tests.support.kafka import GatewayRig

LIST_OFFSETS = 2
LEADER_EPOCHS = 23


@pytest.fixture
def rig() -> GatewayRig:
    return GatewayRig(topics={"t": 2})


def list_body(*asked: tuple[str, int, int], epoch: int = -1) -> dict[str, Any]:
    topics: dict[str, list[dict[str, Any]]] = {}
    for topic, partition, timestamp in asked:
        part = {"partition_index": partition, "timestamp": timestamp, "current_leader_epoch": epoch}
        topics.setdefault(topic, []).append(part)
    return {
        "replica_id": -1,
        "isolation_level": 0,
        "topics": [{"name": name, "partitions": parts} for name, parts in topics.items()],
    }


@pytest.mark.parametrize("version", range(1, 8))
@pytest.mark.parametrize(
    ("timestamp", "at"), [(-1, "latest"), (-2, "earliest"), (-3, "max_timestamp"), (1_234, 1_234)]
)
def test_each_place_by_its_name(rig: GatewayRig, version: int, timestamp: int, at: object) -> None:
    rig.ask(LIST_OFFSETS, version, list_body(("t", 1, timestamp)))
    (forward,) = rig.take()
    assert forward.address == "partition:t-1"
    assert isinstance(forward.request, ListOffsets)
    assert forward.request.at == at
    rig.answer(forward, ListOffsetsReply(offset=7, timestamp=99))
    (part,) = rig.response().topics[0].partitions
    assert (part.partition_index, part.error_code.value, part.offset, part.timestamp) == (1, 0, 7, 99)
    assert version < 4 or part.leader_epoch == 5


def test_each_partition_has_an_error_of_its_own(rig: GatewayRig) -> None:
    rig.ask(LIST_OFFSETS, 5, list_body(("t", 0, -1), ("t", 5, -1), ("t", 1, -9), ("no", 0, -1)))
    (forward,) = rig.take()
    rig.fail(forward, LeaderNotAvailable("x"))
    parts = [part for topic in rig.response().topics for part in topic.partitions]
    assert [(part.error_code.value, part.offset, part.leader_epoch) for part in parts] == [
        (6, -1, -1),
        (3, -1, -1),
        (42, -1, -1),
        (3, -1, -1),
    ]


def test_a_partition_that_is_named_twice_is_asked_nothing(rig: GatewayRig) -> None:
    """As in Kafka; else one request with a hundred thousand names would leave room for nobody else's."""
    rig.ask(LIST_OFFSETS, 5, list_body(*[("t", 0, -1)] * 1_000, ("t", 1, -1)))
    (forward,) = rig.take()
    rig.answer(forward, ListOffsetsReply(offset=7, timestamp=-1))
    parts = rig.response().topics[0].partitions
    assert [part.error_code.value for part in parts] == [42] * 1_000 + [0]


def test_no_record_as_late_as_that(rig: GatewayRig) -> None:
    rig.ask(LIST_OFFSETS, 5, list_body(("t", 0, 2**62)))
    rig.answer(rig.take()[0], ListOffsetsReply(offset=-1, timestamp=-1))
    (part,) = rig.response().topics[0].partitions
    assert (part.error_code.value, part.offset, part.timestamp, part.leader_epoch) == (0, -1, -1, -1)


@pytest.mark.parametrize(("epoch", "code"), [(5, 0), (4, 74), (6, 75)])
def test_the_clients_leader_epoch_is_compared(rig: GatewayRig, epoch: int, code: int) -> None:
    rig.ask(LIST_OFFSETS, 4, list_body(("t", 0, -1), epoch=epoch))
    for forward in rig.take():
        rig.answer(forward, ListOffsetsReply(offset=1, timestamp=-1))
    assert rig.response().topics[0].partitions[0].error_code.value == code


@pytest.mark.parametrize("version", [2, 3, 4])
def test_where_an_epoch_ends(rig: GatewayRig, version: int) -> None:
    asked = {"partition": 0, "current_leader_epoch": 5, "leader_epoch": 3}
    rig.ask(LEADER_EPOCHS, version, {"replica_id": -1, "topics": [{"topic": "t", "partitions": [asked]}]})
    (forward,) = rig.take()
    assert isinstance(forward.request, EpochEnd)
    assert forward.request.leader_epoch == 3
    rig.answer(forward, EpochEndReply(leader_epoch=2, end_offset=40))
    (part,) = rig.response().topics[0].partitions
    assert (part.error_code.value, part.leader_epoch, part.end_offset) == (0, 2, 40)
