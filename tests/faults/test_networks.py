"""Row 27: the network between clients and a router fails in each of the ways in which networks do.

A time-out means unknown: the client asks again with the same producer id, epoch and sequence. When the
network is well again nothing acknowledged is missing, and no request that came twice made a second copy.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from odradek import Producer
from tests.support.broker import BrokerProcess
from tests.support.load import Load
from tests.support.proxy import FaultProxy, Mode
from tests.support.rawclient import RawClient
from tests.support.tiers import in_tier, long
from tests.support.victims import eventually

pytestmark = [pytest.mark.processes, pytest.mark.faults]

PARTITIONS = 2
RECORDS_BETWEEN = 30
FAULT_S = in_tier(0.3, 3.0)
FLAPS = 60
FLAP_S_MAX = 0.2
SILENT = (Mode.DEAF, Mode.ONE_WAY, Mode.OTHER_WAY, Mode.REFUSED)
LOADED = (Mode.SLOW, Mode.TRICKLE, Mode.TWICE)
SDK_RECORDS = in_tier(300, 1_500)
REQUEST_TIMEOUT_MS = 600
PATIENT_TIMEOUT_MS = 3_000
CONNECTIONS_PER_S_MAX = 150
"""Over the 100 a second that ZeroMQ makes where a connection stands for a moment and is then reset."""


def in_both_tiers(modes: tuple[Mode, ...], sample: Mode) -> list[object]:
    """``sample`` in every test run, the others in the longer tier."""
    return [mode if mode is sample else pytest.param(mode, marks=long) for mode in modes]


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess() as running:
        yield running


@pytest.fixture
def proxy(broker: BrokerProcess) -> Iterator[FaultProxy]:
    place = urlsplit(broker.bootstrap)
    assert place.hostname is not None and place.port is not None
    with FaultProxy(place.hostname, place.port) as running:
        yield running


def topic_for(broker: BrokerProcess, name: str) -> str:
    with RawClient(broker.bootstrap) as client:
        return client.create(name.replace("_", "-").lower(), PARTITIONS)


def load_through(proxy: FaultProxy, topic: str, timeout_ms: int = REQUEST_TIMEOUT_MS) -> Load:
    return Load(lambda: proxy.endpoint, topic, PARTITIONS, timeout_ms=timeout_ms)


@pytest.mark.parametrize("mode", in_both_tiers(SILENT, Mode.ONE_WAY), ids=lambda mode: mode.name)
def test_silence_is_unknown_and_heals_without_loss_or_copy(
    broker: BrokerProcess, proxy: FaultProxy, mode: Mode
) -> None:
    with load_through(proxy, topic_for(broker, mode.name)) as load:
        load.wait_for(RECORDS_BETWEEN)
        proxy.set(mode)
        eventually(lambda: load.ledger.figures.retries > 0)
        threading.Event().wait(FAULT_S)
        proxy.set(Mode.WELL)
        load.wait_for(RECORDS_BETWEEN)
    figures = load.judge()
    print(f"{mode.value}: {figures}")
    assert figures.errors["no reply"] > 0, "nobody noticed the fault"


@pytest.mark.parametrize("mode", in_both_tiers(LOADED, Mode.TWICE), ids=lambda mode: mode.name)
def test_what_comes_late_in_pieces_or_twice_is_kept_once(
    broker: BrokerProcess, proxy: FaultProxy, mode: Mode
) -> None:
    proxy.set(mode)
    with load_through(proxy, topic_for(broker, mode.name), PATIENT_TIMEOUT_MS) as load:
        load.wait_for(RECORDS_BETWEEN)
        proxy.set(Mode.WELL)
        load.wait_for(RECORDS_BETWEEN)
    print(f"{mode.value}: {load.judge()}")


@long
def test_a_network_that_comes_and_goes(broker: BrokerProcess, proxy: FaultProxy) -> None:
    dice = random.Random(27)
    with load_through(proxy, topic_for(broker, "flapping")) as load:
        for _ in range(FLAPS):
            proxy.set(dice.choice(list(Mode)))
            threading.Event().wait(dice.uniform(0, FLAP_S_MAX))
            if dice.random() < 0.3:
                proxy.reset()
        proxy.set(Mode.WELL)
        load.wait_for(RECORDS_BETWEEN)
    print(f"{FLAPS} changes: {load.judge()}")


def test_the_sdk_retries_by_itself_and_makes_no_copy(broker: BrokerProcess, proxy: FaultProxy) -> None:
    """The producer that users have, with several batches in flight: each record once, in order."""
    topic = topic_for(broker, "sdk")
    dice = random.Random(72)
    with Producer(
        proxy.endpoint,
        direct=False,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        retry_backoff_max_ms=200,
        batch_bytes_max=2_000,
    ) as producer:
        deliveries = []
        for number in range(SDK_RECORDS):
            deliveries.append(producer.send(topic, f"{number}-".encode() + b"x" * 200, partition=0))
            if number % (SDK_RECORDS // 10) == 0:
                proxy.set(dice.choice((*SILENT, *LOADED)))
                threading.Event().wait(dice.uniform(0, FLAP_S_MAX))
        proxy.set(Mode.WELL)
        proxy.reset()
        offsets = [delivery.result(timeout=60).offset for delivery in deliveries]
    assert offsets == list(range(SDK_RECORDS))
    with RawClient(broker.bootstrap) as client:
        records = client.records(topic)
    assert [record.value.split(b"-")[0] for record in records if record.value] == [
        b"%d" % number for number in range(SDK_RECORDS)
    ]


@long
def test_clients_back_off_while_nobody_answers(broker: BrokerProcess, proxy: FaultProxy) -> None:
    """Retries are bounded: not a storm of connections against a broker that has just gone."""
    topic = topic_for(broker, "quiet")
    with Producer(proxy.endpoint, direct=False, request_timeout_ms=REQUEST_TIMEOUT_MS) as producer:
        assert producer.send(topic, b"first", partition=0).result(timeout=30).offset == 0
        proxy.set(Mode.REFUSED)
        before = proxy.connections
        waiting = producer.send(topic, b"second", partition=0)
        threading.Event().wait(2 * FAULT_S)
        made = proxy.connections - before
        proxy.set(Mode.WELL)
        assert waiting.result(timeout=30).offset == 1
    assert 0 < made < CONNECTIONS_PER_S_MAX * 2 * FAULT_S, "a storm of connections"
