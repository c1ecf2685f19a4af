"""The embedded broker: on the given port, another log at each start, and honest about what it dropped."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from config.sections import KafkaConfig, RetentionConfig
from infrastructure.services.embedded_kafka import Options, build, declared_topics, start_embedded_kafka
from infrastructure.services.embedded_kafka_mock import MockKafka, MockKafkaError
from infrastructure.services.embedded_kafka_watch import KafkaWatch, KafkaWatchError
from pipeline_orchestrator.errors import NotConnectedError, PermanentError
from pipeline_orchestrator.market.events import EVENTS, TOPICS
from pipeline_orchestrator.transport.kafka_probe import KafkaProbe
from pipeline_orchestrator.transport.topics import declared_topics as declarations
from pipeline_orchestrator.transport.topics import ensure_topics, resolve_log_ids
from tests.doubles.context import FakeContext
from tests.doubles.seams import KafkaSeam


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_declared_topics_are_the_pipelines() -> None:
    assert declared_topics() == TOPICS
    assert [topic.name for topic in declarations(RetentionConfig())] == list(TOPICS)
    assert all(topic.settings["retention.ms"] == str(168 * 3_600_000) for topic in declarations(RetentionConfig()))


async def test_component_serves_on_its_port_until_drain(tmp_path: Path) -> None:
    port, ctx = free_port(), FakeContext(tmp_path, "embedded_kafka/0")
    component = build({"host": "127.0.0.1", "port": port, "partitions": 2})
    running = asyncio.create_task(component.run(ctx))
    await asyncio.wait_for(ctx.became_ready.wait(), 10)
    probe = await KafkaProbe(KafkaConfig(bootstrap_servers=f"127.0.0.1:{port}")).probe()
    assert probe.ok is True and probe.detail == "market.events has 2 partitions"
    async with asyncio.timeout(10):  # its own first look at itself
        while "dropped_records" not in ctx.gauges:
            await asyncio.sleep(0.05)
    ctx.drain.set()
    await asyncio.wait_for(running, 10)
    assert ctx.gauges["dropped_records"] == 0
    assert (
        await KafkaProbe(KafkaConfig(bootstrap_servers=f"127.0.0.1:{port}"), deadline_seconds=0.3).probe()
    ).ok is False


async def test_each_start_is_another_log(broker: MockKafka, kafka: KafkaConfig) -> None:
    before = await resolve_log_ids(kafka, TOPICS)
    assert len(set(before.values())) == len(TOPICS)
    assert before == await resolve_log_ids(kafka, TOPICS)
    broker.close()
    again = start_embedded_kafka(Options(port=broker.port, partitions=4))
    after = await resolve_log_ids(kafka, TOPICS)
    again.close()
    assert not set(before.values()) & set(after.values())


async def test_topics_are_checked_not_created(kafka: KafkaConfig) -> None:
    assert await ensure_topics(kafka, RetentionConfig()) == []
    with pytest.raises(PermanentError, match="4 partitions") as caught:
        await ensure_topics(kafka.model_copy(update={"partitions": 8}), RetentionConfig())
    assert "kafka.partitions" in caught.value.next_step
    with pytest.raises(PermanentError, match="batch_size"):
        await ensure_topics(kafka.model_copy(update={"batch_size": 8 << 20}), RetentionConfig())
    with pytest.raises(PermanentError, match="lacks"):
        await ensure_topics(kafka, RetentionConfig(), prefix="other.")


async def test_missing_topic_has_no_identity(kafka: KafkaConfig) -> None:
    with pytest.raises(PermanentError, match="does not exist"):
        await resolve_log_ids(kafka, ["market.unheard"])


async def test_absent_broker_is_not_connected() -> None:
    kafka = KafkaConfig(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(NotConnectedError) as caught:
        await resolve_log_ids(kafka, [EVENTS])
    assert kafka.bootstrap_servers in str(caught.value) and caught.value.next_step


def test_taken_port_and_foreign_interface_are_refused(broker: MockKafka) -> None:
    with pytest.raises(MockKafkaError, match="Address already in use"):
        start_embedded_kafka(Options(port=broker.port))
    with pytest.raises(MockKafkaError, match="loopback"):
        start_embedded_kafka(Options(port=0, host="0.0.0.0"))


async def test_dropped_records_are_counted(broker: MockKafka, kafka: KafkaConfig) -> None:
    watch = KafkaWatch(broker.address, [EVENTS], 4)
    assert (await asyncio.to_thread(watch.look)).dropped == 0
    value = b"x" * 900_000
    await KafkaSeam(kafka).raw_write(EVENTS, 1, [(None, value)] * 12)
    marks = await asyncio.to_thread(watch.look)
    assert marks.dropped > 0 and marks.dropped + marks.held == 12
    broker.close()
    with pytest.raises(KafkaWatchError):
        await asyncio.to_thread(watch.look)
    watch.close()
