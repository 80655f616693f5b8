"""The asyncio clients against a scripted broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from odradek import TopicPartition
from odradek.aio import Admin, Consumer, Producer
from odradek.protocol.errors import PolicyViolation
from odradek.protocol.messages import GroupHeartbeat
from tests.clients.fake_broker import FakeBroker

WAIT_S = 30.0
EVENTS = TopicPartition("events", 0)


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker({"events": 1, "wide": 4}) as fake:
        yield fake


def test_send_and_wait_for_each_or_for_all(broker: FakeBroker) -> None:
    async def main() -> None:
        async with Producer(broker.endpoint) as producer:
            delivery = await producer.send("events", b"0")
            assert (await delivery).offset == 0
            handles = [await producer.send("events", b"%d" % number) for number in range(1, 500)]
            metadata = await asyncio.gather(*handles)
            assert [found.offset for found in metadata] == list(range(1, 500))
            many = await producer.send_many("events", [b"m"] * 100)
            assert (await many)[-1].offset == 599
            await producer.flush(WAIT_S)

    asyncio.run(main())
    assert len(broker.values("events")) == 600


def test_errors_reach_the_awaiter(broker: FakeBroker) -> None:
    async def main() -> None:
        async with Producer(broker.endpoint) as producer:
            broker.fail("produce", times=1, error=PolicyViolation("no"))
            delivery = await producer.send("events", b"0")
            with pytest.raises(PolicyViolation):
                await delivery

    asyncio.run(main())


def test_back_pressure_does_not_stop_the_loop(broker: FakeBroker) -> None:
    async def main() -> None:
        async with Producer(broker.endpoint, buffer_bytes_max=20_000, batch_bytes_max=4_000) as producer:
            await (await producer.send("events", b"0"))
            broker.paused = True

            async def fill() -> None:
                for _ in range(100):
                    await producer.send("events", b"x" * 1_000)

            task = asyncio.create_task(fill())
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert not task.done()
            broker.resume()
            await asyncio.wait_for(task, WAIT_S)

    asyncio.run(main())
    assert len(broker.values("events")) == 101


def test_a_commit_counts_what_was_iterated_not_what_was_polled_ahead(broker: FakeBroker) -> None:
    async def main() -> None:
        async with Producer(broker.endpoint) as producer:
            await (await producer.send_many("events", [b"%d" % number for number in range(100)]))
        async with Consumer(
            broker.endpoint, group="g", topics=["events"], enable_auto_commit=False
        ) as consumer:
            seen = []
            async for record in consumer:
                seen.append(record.offset)
                if len(seen) == 7:
                    assert await consumer.commit() == {EVENTS: 7}
                    assert await consumer.position(EVENTS) == 7
                if len(seen) == 20:
                    await consumer.seek(EVENTS, 90)
                if record.offset == 99:
                    break
            assert seen == [*range(20), *range(90, 100)]
        assert broker.groups["g"].offsets[EVENTS] == (7, None)

    asyncio.run(main())


def test_close_commits_only_what_was_handed_out(broker: FakeBroker) -> None:
    async def main() -> None:
        async with Producer(broker.endpoint) as producer:
            await (await producer.send_many("events", [b"v"] * 50))
        async with Consumer(broker.endpoint, group="g", topics=["events"]) as consumer:
            count = 0
            async for _ in consumer:
                count += 1
                if count == 11:
                    break
        assert broker.groups["g"].offsets[EVENTS] == (11, None)

    asyncio.run(main())


def test_poll_and_idle_iteration_end(broker: FakeBroker) -> None:
    async def main() -> None:
        async with Consumer(broker.endpoint, topics=["events"], idle_timeout_s=0.1) as consumer:
            assert await consumer.poll(0.05) == []
            assert [record async for record in consumer] == []

    asyncio.run(main())


def test_members_rebalance_while_records_are_polled_ahead(broker: FakeBroker) -> None:
    async def main() -> None:
        async with Producer(broker.endpoint) as producer:
            for number in range(4):
                await (await producer.send_many("wide", [b"v"] * 200, partition=number))
        seen: list[tuple[int, int]] = []

        async def work(name: str) -> None:
            async with Consumer(
                broker.endpoint, group="g", topics=["wide"], idle_timeout_s=3, client_id=name
            ) as consumer:
                async for record in consumer:
                    seen.append((record.partition, record.offset))
                    await asyncio.sleep(0)

        await asyncio.gather(work("a"), work("b"))
        assert sorted(set(seen)) == [(number, offset) for number in range(4) for offset in range(200)]
        assert len(seen) == len(set(seen))

    asyncio.run(main())


def test_callbacks_are_coroutines_that_may_commit(broker: FakeBroker) -> None:
    async def main() -> None:
        async with Producer(broker.endpoint) as producer:
            for number in range(4):
                await (await producer.send_many("wide", [b"v"] * 3, partition=number))
        assigned: list[TopicPartition] = []
        committed: list[dict[TopicPartition, int]] = []

        async def commit(partitions: list[TopicPartition]) -> None:
            committed.append(await first.commit())

        first = Consumer(
            broker.endpoint,
            group="g",
            topics=["wide"],
            enable_auto_commit=False,
            on_assigned=assigned.extend,
            on_revoked=commit,
        )
        got = 0
        while got < 12:
            got += len(await first.poll(0.1))
        assert len(assigned) == 4
        second = Consumer(broker.endpoint, group="g", topics=["wide"])
        for _ in range(3_000):
            assert await second.poll(0.01) == [], "nothing is read twice"
            await first.poll(0.01)
            if len(second.assignment()) == 2:
                break
        assert committed[0] == {TopicPartition("wide", number): 3 for number in range(4)}
        await first.close()
        assert len(committed[1]) == 2
        await second.close()

    asyncio.run(asyncio.wait_for(main(), 3 * WAIT_S))


def test_a_callback_that_raises_is_heard_of(broker: FakeBroker) -> None:
    async def fail(_: list[TopicPartition]) -> None:
        raise KeyError("mine")

    async def main() -> None:
        async with Consumer(broker.endpoint, group="g", topics=["events"], on_assigned=fail) as consumer:
            with pytest.raises(KeyError, match="mine"):
                await consumer.poll(WAIT_S)
            assert consumer.assignment() == {EVENTS}

    asyncio.run(main())


def test_a_handler_that_blocks_the_loop_loses_its_partitions_late_and_with_a_warning(
    broker: FakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[TopicPartition] = []

    async def main() -> None:
        async with Producer(broker.endpoint) as producer:
            await (await producer.send_many("events", [b"v"] * 3))
        async with Consumer(
            broker.endpoint,
            group="g",
            topics=["events"],
            poll_interval_ms_max=1_500,
            on_lost=lost.extend,
        ) as consumer:
            offsets = []
            async for record in consumer:
                offsets.append(record.offset)
                if len(offsets) == 1:
                    beats = len(broker.seen(GroupHeartbeat))
                    broker.wait_for(lambda beats=beats: len(broker.seen(GroupHeartbeat)) >= beats + 3)  # type: ignore[misc]
                    assert broker.groups["g"].members
                if len(offsets) == 2:
                    broker.wait_for(lambda: not broker.groups["g"].members)
                if len(offsets) == 4:
                    break
            # What was polled ahead is not this member's any more: it is read again.
            assert offsets[:3] == [0, 1, 0]

    asyncio.run(asyncio.wait_for(main(), 3 * WAIT_S))
    assert lost == [EVENTS]
    assert caplog.text.count("max.poll.interval.ms") == 1


def test_admin(broker: FakeBroker) -> None:
    async def main() -> None:
        async with Admin(broker.endpoint) as admin:
            await admin.create_topic("made", 2)
            assert await admin.list_topics() == ["events", "made", "wide"]
            assert (await admin.status())[0].state == "running"

    asyncio.run(main())
