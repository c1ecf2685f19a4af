"""Two brokers lead partitions of one topic: what one of them answers says nothing about when to ask the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from config.sections import KafkaConfig
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport import kafka_fetch
from pipeline_orchestrator.transport.kafka_fetch import EMBEDDED_WAIT_MS, KafkaFetch
from tests.unit.transport.fetching import fetching

TURNS = 20  # of the loop, more than a request takes to be sent
RECORDS = b"records"


class TwoLeaders:
    """A client of two brokers, each leading the partition of its own number; `answer` says what one answers next."""

    def __init__(self) -> None:
        self.cluster = self
        self.waits_ms: dict[int, list[int]] = {0: [], 1: []}  # of every request, by leader
        self._answers: dict[int, asyncio.Queue[bytes]] = {0: asyncio.Queue(), 1: asyncio.Queue()}

    async def bootstrap(self) -> None:
        return

    def set_topics(self, topics: list[str]) -> None:
        assert topics == [EVENTS]

    async def force_metadata_update(self) -> bool:
        return True

    def leader_for_partition(self, place: TopicPartition) -> int:
        return int(place.partition)

    async def send(self, leader: int, request: Any) -> SimpleNamespace:  # Any: a request's private fields
        self.waits_ms[leader].append(request._max_wait_ms)
        records = await self._answers[leader].get()
        return SimpleNamespace(API_VERSION=4, topics=[(EVENTS, [(leader, 0, 9, 9, None, records)])])

    def answer(self, leader: int, records: bytes) -> None:
        self._answers[leader].put_nowait(records)

    async def close(self) -> None:
        return


@pytest.fixture
def leaders(monkeypatch: pytest.MonkeyPatch) -> TwoLeaders:
    """The client of every fetch."""
    client = TwoLeaders()
    monkeypatch.setattr(kafka_fetch, "AIOKafkaClient", lambda **_: client)
    return client


@asynccontextmanager
async def asking(pace_seconds: float = 0.0, log_id: str = "") -> AsyncIterator[KafkaFetch]:
    """A fetch that has asked both leaders for the beginning of their partitions."""
    async with fetching(KafkaConfig(log_id=log_id), [0, 1], pace_seconds) as fetch:
        fetch.moved({})
        await turns()
        yield fetch


async def turns() -> None:
    """Whoever is to be asked at once has been asked, and who has an answer has given it."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def answered(fetch: KafkaFetch, leaders: TwoLeaders, answers: dict[int, bytes]) -> None:
    """These answers have arrived, in this order, and the next requests are under way."""
    for leader, records in answers.items():
        leaders.answer(leader, records)
    await turns()
    assert await fetch.fetch(5.0) == [(leader, 0, records) for leader, records in answers.items() if records]
    fetch.moved({})
    await turns()


async def test_a_leader_without_records_is_asked_on_while_another_gathers(leaders: TwoLeaders) -> None:
    async with asking(pace_seconds=3600.0) as fetch:
        await answered(fetch, leaders, {1: b"", 0: RECORDS})
        assert [len(leaders.waits_ms[leader]) for leader in (0, 1)] == [1, 2]


async def test_an_empty_answer_of_one_leader_does_not_end_the_pause_of_another(leaders: TwoLeaders) -> None:
    async with asking(pace_seconds=3600.0) as fetch:
        await answered(fetch, leaders, {0: RECORDS, 1: b""})
        assert [len(leaders.waits_ms[leader]) for leader in (0, 1)] == [1, 2]


async def test_idle_waits_of_one_leader_do_not_grow_those_of_another(leaders: TwoLeaders) -> None:
    async with asking(log_id="embedded-test") as fetch:
        for _ in range(2):
            await answered(fetch, leaders, {0: b""})
        await answered(fetch, leaders, {1: RECORDS})
        await answered(fetch, leaders, {0: b""})
        short = EMBEDDED_WAIT_MS
        assert leaders.waits_ms == {0: [short, 2 * short, 4 * short, 8 * short], 1: [short, short]}
