"""The transport against a real Kafka broker: the contract, and what happens when the broker is killed or wiped."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from config.sections import KafkaConfig, RetentionConfig
from pipeline_orchestrator.errors import ForeignLogError, NotConnectedError, PermanentError, RetryableError
from pipeline_orchestrator.market.events import DLQ, EVENTS, TOPICS
from pipeline_orchestrator.record import LogBounds
from pipeline_orchestrator.transport.kafka_admin import ClusterAdmin
from pipeline_orchestrator.transport.kafka_fetch import KafkaFetch
from pipeline_orchestrator.transport.kafka_sink import KafkaSink
from pipeline_orchestrator.transport.kafka_source import KafkaSource
from pipeline_orchestrator.transport.topics import ensure_topics, resolve_log_ids
from tests.contract.seam_contract import SeamContract
from tests.doubles.seams import KafkaSeam, Seam, event, events, from_beginning, output, read_all
from tests.doubles.services import RealKafka

pytestmark = pytest.mark.e2e

PARTITIONS = 4
SYMBOLS = ("AAPL", "MSFT", "TSLA", "GOOGL", "AMZN", "BRK.B")


def settings(broker: RealKafka) -> KafkaConfig:
    return KafkaConfig(bootstrap_servers=broker.address, partitions=PARTITIONS)


class TestRealKafka(SeamContract):
    @pytest.fixture
    async def seam(self, kafka_broker: RealKafka, topic_prefix: str) -> Seam:
        await ensure_topics(settings(kafka_broker), RetentionConfig(), prefix=topic_prefix)
        return KafkaSeam(settings(kafka_broker), topic_prefix)


async def test_topics_are_created_once_and_drift_is_told(kafka_broker: RealKafka, topic_prefix: str) -> None:
    kafka = settings(kafka_broker)
    assert await ensure_topics(kafka, RetentionConfig(), prefix=topic_prefix) == []
    assert await ensure_topics(kafka, RetentionConfig(), prefix=topic_prefix) == []
    drift = await ensure_topics(kafka, RetentionConfig(kafka_hours=1), prefix=topic_prefix)
    assert {(one.topic, one.setting, one.found) for one in drift} == {
        (topic_prefix + topic, "retention.ms", str(168 * 3_600_000)) for topic in TOPICS
    }
    with pytest.raises(PermanentError, match="4 partitions"):
        await ensure_topics(kafka.model_copy(update={"partitions": 2}), RetentionConfig(), prefix=topic_prefix)


async def test_acknowledged_offsets_are_committed_for_lag_tools(kafka_broker: RealKafka, topic_prefix: str) -> None:
    kafka = settings(kafka_broker)
    await ensure_topics(kafka, RetentionConfig(), prefix=topic_prefix)
    await group_coordinator(kafka, topic_prefix)
    sink = KafkaSeam(kafka, topic_prefix).sink()
    await sink.open()
    await sink.write(output(events([event(seq) for seq in range(9)])))
    await sink.close()
    group = topic_prefix + "group"
    source = KafkaSource(kafka, EVENTS, range(PARTITIONS), from_beginning, group=group, prefix=topic_prefix)
    await source.open()
    batch = await source.read()
    assert batch is not None and len(batch) == 9
    await source.ack(batch)
    reader = AdminClient({"bootstrap.servers": kafka_broker.address})
    offsets: dict[int, int] = {}
    async with asyncio.timeout(10):
        while not offsets:  # the commit runs beside the acknowledgement
            (future,) = reader.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
            found = await asyncio.wrap_future(future)
            offsets = {place.partition: place.offset for place in found.topic_partitions}
    assert offsets == source.acked and sum(offsets.values()) == 9
    assert source.commit_failures == 0
    await source.close()


async def group_coordinator(kafka: KafkaConfig, prefix: str) -> None:
    """A broker makes its offsets topic when the first group asks for it; that first commit may fail."""
    fetch = KafkaFetch(kafka, prefix + EVENTS, [0], max_bytes=1 << 20)
    await fetch.open()
    async with asyncio.timeout(40):
        while True:
            try:
                await fetch.commit("first", {0: 0})
                break
            except NotConnectedError:
                await asyncio.sleep(0.05)
    await fetch.close()


async def test_recreated_topic_is_another_log_and_its_reader_notices(
    kafka_broker: RealKafka, topic_prefix: str
) -> None:
    kafka = settings(kafka_broker)
    seam = KafkaSeam(kafka, topic_prefix)
    await ensure_topics(kafka, RetentionConfig(), prefix=topic_prefix)
    before = await resolve_log_ids(kafka, TOPICS, prefix=topic_prefix)
    sink = seam.sink()
    await sink.open()
    await sink.write(output(events([event(seq) for seq in range(5)])))
    source = KafkaSource(kafka, EVENTS, range(PARTITIONS), from_beginning, prefix=topic_prefix, watch_seconds=0.0)
    await source.open()
    batch = await source.read()
    assert batch is not None and batch.log_id == before[EVENTS]

    admin = ClusterAdmin(kafka)
    await admin.delete([topic_prefix + EVENTS])
    while await admin.topics([topic_prefix + EVENTS]):
        await asyncio.sleep(0.05)
    await admin.create({topic_prefix + EVENTS: {}}, PARTITIONS)
    await admin.close()
    await sink.write(output(events([event(seq) for seq in range(100, 103)])))
    with pytest.raises((ForeignLogError, NotConnectedError)):  # by the look, or because its position is gone
        async with asyncio.timeout(20):
            while True:
                assert await source.read() is None
    await source.close()
    opened: list[LogBounds] = []

    async def start(bounds: LogBounds) -> dict[int, int]:
        opened.append(bounds)
        return bounds.end

    again = seam.source(EVENTS, start)
    await again.open()
    assert opened[0].log_id != before[EVENTS] and sum(opened[0].end.values()) == 3
    await again.close()
    await sink.close()
    after = await resolve_log_ids(kafka, TOPICS, prefix=topic_prefix)
    assert after[EVENTS] != before[EVENTS]
    assert {topic: after[topic] for topic in TOPICS if topic != EVENTS} == {
        topic: before[topic] for topic in TOPICS if topic != EVENTS
    }


async def test_broker_killed_while_producing_loses_nothing_and_keeps_the_order(own_kafka: RealKafka) -> None:
    kafka = settings(own_kafka)
    await ensure_topics(kafka, RetentionConfig())
    sink = KafkaSeam(kafka).sink()
    await sink.open()
    acknowledged = asyncio.Event()

    async def produce() -> int:
        refused = 0
        for start in range(0, 60_000, 1_000):
            rows = events([event(seq, symbol=SYMBOLS[seq % len(SYMBOLS)]) for seq in range(start, start + 1_000)])
            while True:
                try:
                    await sink.write(output(rows))
                    break
                except RetryableError:
                    refused += 1
                    await asyncio.sleep(0.2)
            if start == 10_000:
                acknowledged.set()
        return refused

    producing = asyncio.create_task(produce())
    await acknowledged.wait()
    await asyncio.to_thread(own_kafka.kill)
    own_kafka.launch()
    await own_kafka.answering()
    await asyncio.wait_for(producing, 50)
    await sink.close()
    first_seen: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
    for batch in await read_all(KafkaSeam(kafka).source(EVENTS)):
        symbols, seqs = batch.rows.column("symbol").to_pylist(), batch.rows.column("seq").to_pylist()
        for symbol, seq in zip(symbols, seqs, strict=True):
            seen = first_seen[symbol]
            if not seen or seq > seen[-1]:  # what a reader's mark lets pass
                seen.append(seq)
    for number, symbol in enumerate(SYMBOLS):
        assert first_seen[symbol] == list(range(number, 60_000, len(SYMBOLS)))


async def test_restarted_broker_is_the_same_log_and_its_reader_goes_on(own_kafka: RealKafka) -> None:
    kafka = settings(own_kafka)
    await ensure_topics(kafka, RetentionConfig())
    before = await resolve_log_ids(kafka, [EVENTS, DLQ])
    sink = KafkaSeam(kafka).sink()
    await sink.open()
    await sink.write(output(events([event(0)])))
    await sink.close()
    await asyncio.to_thread(own_kafka.kill)
    own_kafka.launch()
    await own_kafka.answering()
    assert await resolve_log_ids(kafka, [EVENTS, DLQ]) == before
    (batch,) = await read_all(KafkaSeam(kafka).source(EVENTS))
    assert batch.rows.column("seq").to_pylist() == [0]


async def test_frozen_broker_is_noticed_by_writer_and_reader(own_kafka: RealKafka) -> None:
    kafka = settings(own_kafka)
    await ensure_topics(kafka, RetentionConfig())
    sink = KafkaSink(kafka, "test/0", deadline_seconds=1.0)
    await sink.open()
    source = KafkaSource(kafka, EVENTS, range(PARTITIONS), from_beginning, watch_seconds=0.2)
    await source.open()
    own_kafka.freeze()
    with pytest.raises(RetryableError):
        await sink.write(output(events([event(0)])))
    with pytest.raises(RetryableError):
        async with asyncio.timeout(10):
            while True:
                await source.read()
    own_kafka.thaw()
    await source.close()
    await sink.write(output(events([event(0)])))
    await source.open()
    batch = None
    while batch is None:
        batch = await source.read()
    assert set(batch.rows.column("seq").to_pylist()) == {0}
    await source.close()
    await sink.close()
