"""A broker that dies, comes back as another log, or drops records: noticed, named, never skipped."""

from __future__ import annotations

import asyncio

import pytest

from config.sections import KafkaConfig
from infrastructure.services.embedded_kafka import Options, start_embedded_kafka
from infrastructure.services.embedded_kafka_mock import MockKafka
from pipeline_orchestrator.errors import ForeignLogError, NotConnectedError, PermanentError, RetryableError
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import LogBounds
from pipeline_orchestrator.transport.kafka_sink import KafkaSink
from pipeline_orchestrator.transport.kafka_source import KafkaSource
from pipeline_orchestrator.transport.partitioning import partition_of
from tests.doubles.seams import KafkaSeam, event, events, from_beginning, output, read_all
from tests.unit.transport.conftest import PARTITIONS

HOME = partition_of("AAPL", PARTITIONS)


async def stored(kafka: KafkaConfig) -> list[int]:
    """seq of every event, in order; all tests write one symbol."""
    batches = await read_all(KafkaSeam(kafka).source(EVENTS))
    return [seq for batch in batches for seq in batch.rows.column("seq").to_pylist()]


async def test_sink_without_acknowledgement_throws_its_producer_away_and_the_same_output_lands_later(
    broker: MockKafka, kafka: KafkaConfig
) -> None:
    sink = KafkaSink(kafka, "test/0", deadline_seconds=0.5)
    await sink.open()
    await sink.write(output(events([event(0)])))
    broker.close()
    again = output(events([event(1)]))
    with pytest.raises(RetryableError) as caught:
        await sink.write(again)
    assert kafka.bootstrap_servers in str(caught.value) and sink.rebuilt == 1
    with pytest.raises(NotConnectedError):
        await sink.write(again)
    successor = start_embedded_kafka(Options(port=broker.port, partitions=PARTITIONS))
    await sink.write(again)
    await sink.write(output(events([event(2)])))
    assert sink.records == 3
    await sink.close()
    assert await stored(kafka) == [1, 2]
    successor.close()


async def test_sink_splits_a_partition_into_batches_in_order(kafka: KafkaConfig) -> None:
    sink = KafkaSink(kafka.model_copy(update={"batch_size": 2048}), "test/0")
    await sink.open()
    await sink.write(output(events([event(seq) for seq in range(2000)])))
    await sink.close()
    assert await stored(kafka) == list(range(2000))


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_read_back(kafka: KafkaConfig, codec: str) -> None:
    sink = KafkaSink(kafka.model_copy(update={"compression_type": codec}), "test/0")
    await sink.open()
    await sink.write(output(events([event(seq) for seq in range(300)])))
    await sink.close()
    assert await stored(kafka) == list(range(300))


async def test_source_notices_that_the_broker_is_gone(broker: MockKafka, kafka: KafkaConfig) -> None:
    source = KafkaSource(kafka, EVENTS, range(PARTITIONS), from_beginning, watch_seconds=0.0)
    await source.open()
    assert await source.read() is None
    broker.close()
    with pytest.raises(NotConnectedError):
        async with asyncio.timeout(20):
            while True:
                await source.read()
    await source.close()
    with pytest.raises(NotConnectedError):
        await source.open()


async def test_source_notices_another_log_behind_the_name(broker: MockKafka, kafka: KafkaConfig) -> None:
    source = KafkaSource(kafka, EVENTS, range(PARTITIONS), from_beginning, watch_seconds=0.0)
    await source.open()
    broker.close()
    successor = start_embedded_kafka(Options(port=broker.port, partitions=PARTITIONS))
    with pytest.raises((ForeignLogError, NotConnectedError)) as caught:
        async with asyncio.timeout(20):
            while True:
                await source.read()
    if caught.type is NotConnectedError:  # the look fell between the two: the next open sees it
        await source.close()
        before = source.log_id
        await source.open()
        assert source.log_id != before
    await source.close()
    successor.close()


async def test_records_dropped_before_they_were_read_are_an_error(broker: MockKafka, kafka: KafkaConfig) -> None:
    source = KafkaSource(kafka, EVENTS, [1], from_beginning)
    await KafkaSeam(kafka).raw_write(EVENTS, 1, [(None, b"x" * 900_000)] * 12)

    async def at_zero(bounds: LogBounds) -> dict[int, int]:
        return {1: 0}

    with pytest.raises(PermanentError, match="dropped"):
        await KafkaSource(kafka, EVENTS, [1], at_zero).open()
    await source.open()
    assert source.bounds is not None and source.bounds.beginning[1] > 0
    assert source.lag_records == 12 - source.bounds.beginning[1]
    await source.close()


async def test_lag_and_positions_follow_reading_and_acknowledging(kafka: KafkaConfig) -> None:
    sink = KafkaSeam(kafka).sink()
    await sink.open()
    await sink.write(output(events([event(seq) for seq in range(50)])))
    await sink.close()
    heard: list[int] = []
    source = KafkaSource(kafka, EVENTS, [HOME], from_beginning, lambda batch: heard.append(len(batch)), group="g")
    await source.open()
    assert source.lag_records == 50
    batch = await source.read()
    assert batch is not None and source.positions[HOME] == 50 and source.acked[HOME] == 0
    assert (source.lag_records, source.records_behind) == (0, 50)
    await source.ack(batch)
    assert heard == [50] and source.acked[HOME] == 50 and batch.stamps.acked_ns > 0
    assert (source.records_behind, source.seconds_behind()) == (0, 0.0)
    await source.close()
    assert (source.records_behind, source.seconds_behind()) == (None, None)


async def test_how_far_behind_is_known_while_nobody_reads(kafka: KafkaConfig) -> None:
    source = KafkaSource(kafka, EVENTS, [HOME], from_beginning, watch_seconds=0.0)
    await source.open()
    assert await source.read() is None and source.records_behind == 0
    sink = KafkaSeam(kafka).sink()
    await sink.open()
    await sink.write(output(events([event(seq) for seq in range(50)])))
    await sink.close()
    async with asyncio.timeout(20):
        while not source.seconds_behind():  # asked by who waits for the reader, again and again
            await asyncio.sleep(0)
    assert source.records_behind == 50
    assert source._starved_since is None  # it was not even asked
    async with asyncio.timeout(20):
        while (batch := await source.read()) is None:
            pass
    await source.ack(batch)
    assert source.seconds_behind() == 0.0
    await source.close()


async def test_a_broker_that_is_away_while_nobody_reads_is_found_by_who_reads_on(
    broker: MockKafka, kafka: KafkaConfig
) -> None:
    source = KafkaSource(kafka, EVENTS, range(PARTITIONS), from_beginning, watch_seconds=0.0)
    await source.open()
    broker.close()
    async with asyncio.timeout(20):
        for _ in range(3):
            source.seconds_behind()  # raises nothing
            watch = source._watch
            assert watch is not None
            await asyncio.wait({watch})
        with pytest.raises(NotConnectedError):
            while True:
                await source.read()
    await source.close()
