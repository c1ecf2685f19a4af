"""A reader that collects anyway asks the broker rarely, and not at all rarely while it is behind."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from config.sections import KafkaConfig
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport import kafka_fetch
from pipeline_orchestrator.transport.kafka_fetch import KafkaFetch
from tests.unit.transport.fetching import fetching


@pytest.fixture(autouse=True)
def a_real_broker(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The fetch takes the broker for a real one, unless a test says otherwise."""
    if "embedded" not in request.node.name:
        monkeypatch.setattr(kafka_fetch, "is_embedded", lambda _: False)


def produce(kafka: KafkaConfig, value: bytes, partition: int = 0) -> None:
    """One record, one batch, acknowledged."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0})
    producer.produce(EVENTS, value, partition=partition)
    assert producer.flush(10) == 0


async def fetched(fetch: KafkaFetch) -> bytes:
    """The bytes of the next answer that has any."""
    while not (sets := await fetch.fetch(1.0)):
        fetch.moved({})
    return b"".join(records for _, _, records in sets)


async def test_records_gather_while_a_paced_reader_waits(kafka: KafkaConfig) -> None:
    async with fetching(kafka, [0, 1], pace_seconds=1.0) as fetch:
        produce(kafka, b"first")
        assert b"first" in await fetched(fetch)
        fetch.moved({0: 1})
        produce(kafka, b"second")
        produce(kafka, b"third", 1)
        both = await fetched(fetch)
        assert b"second" in both
        assert b"third" in both


async def test_a_reader_that_is_behind_does_not_wait(kafka: KafkaConfig) -> None:
    async with fetching(kafka, [0], pace_seconds=3600.0) as fetch:
        produce(kafka, bytes(kafka_fetch.PARTITION_BYTES // 2))
        await fetched(fetch)
        fetch.moved({0: 1})
        produce(kafka, b"next")
        assert b"next" in await fetched(fetch)


async def test_the_embedded_broker_is_asked_at_once(kafka: KafkaConfig) -> None:
    async with fetching(kafka, [0], pace_seconds=3600.0) as fetch:
        for position, value in enumerate((b"first", b"second")):
            produce(kafka, value)
            assert value in await fetched(fetch)
            fetch.moved({0: position + 1})
