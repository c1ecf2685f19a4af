"""Offsets for lag tools: they land, and a broker that goes away under a commit harms nobody."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from config.sections import KafkaConfig
from infrastructure.services.embedded_kafka import Options, start_embedded_kafka
from infrastructure.services.embedded_kafka_mock import MockKafka
from pipeline_orchestrator.errors import NotConnectedError
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.transport.kafka_fetch import KafkaFetch
from tests.unit.transport.conftest import PARTITIONS
from tests.unit.transport.fetching import fetching

GROUP = "group"


async def offsets_of(kafka: KafkaConfig) -> dict[int, int]:
    """As a lag tool sees them."""
    reader = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    places = [TopicPartition(EVENTS, number) for number in range(PARTITIONS)]
    wish = ConsumerGroupTopicPartitions(GROUP, places)
    (future,) = reader.list_consumer_group_offsets([wish], request_timeout=5).values()
    found = await asyncio.wrap_future(future)
    return {place.partition: place.offset for place in found.topic_partitions if place.offset >= 0}


async def test_a_commit_is_seen_by_lag_tools(kafka: KafkaConfig) -> None:
    async with fetching(kafka, range(PARTITIONS), 0.0) as fetch:
        await fetch.commit(GROUP, {0: 7, 3: 9})
        await fetch.commit(GROUP, {3: 10})
    assert await offsets_of(kafka) == {0: 7, 3: 10}


async def test_commits_given_up_while_the_broker_is_away_leave_the_process_alive_and_the_next_one_lands(
    broker: MockKafka, kafka: KafkaConfig
) -> None:
    """(librdkafka's admin client aborts the process here, once the broker is back.)"""
    async with fetching(kafka, range(PARTITIONS), 0.0) as fetch:
        await fetch.commit(GROUP, {0: 1})
        broker.close()
        for _ in range(3):
            with pytest.raises(NotConnectedError):
                await fetch.commit(GROUP, {0: 2})
        successor = start_embedded_kafka(Options(port=broker.port, partitions=PARTITIONS))
        await commit_when_it_answers(fetch, {0: 3})
        assert await offsets_of(kafka) == {0: 3}
        successor.close()


async def commit_when_it_answers(fetch: KafkaFetch, offsets: dict[int, int]) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                return await fetch.commit(GROUP, offsets)
            except NotConnectedError:
                await asyncio.sleep(0.02)
