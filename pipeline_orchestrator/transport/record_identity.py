"""The identity that a record carries in itself, to recognise it when it is read back (design: log identity).

A stored position names a log and an offset; the identity of the last record before it proves that this is still
that log, also where somebody set the log's id by hand.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from aiokafka import AIOKafkaConsumer, TopicPartition

from config.sections import KafkaConfig
from pipeline_orchestrator.market.events import DLQ, EVENTS
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.kafka_clients import aiokafka_options, stop_consumer, within

Identity = tuple[int | str, ...]

READ_SECONDS = 5.0

_COLUMNS = {
    EVENTS: ("instance", "epoch", "seq", "idx"),
    DLQ: ("writer", "epoch", "seq", "idx", "out"),
}
_DERIVED = ("src_instance", "src_epoch", "src_seq", "src_idx", "out")


def row_identity(topic: str, rows: pa.RecordBatch, index: int) -> Identity:
    """Identity of row `index`: its event's, or for a derived row that of its event and its number among the outputs."""
    return tuple(rows.column(name)[index].as_py() for name in _COLUMNS.get(topic, _DERIVED))


async def read_record_identities(
    kafka: KafkaConfig, topic: str, offsets: Mapping[int, int], *, prefix: str = ""
) -> dict[int, Identity | None]:
    """Partition -> identity of the record at that offset, None where the log does not hold that offset (any more).

    A record that cannot be decoded has the identity ("undecodable", CRC-32 of its value). Raises NotConnectedError.
    """
    consumer = AIOKafkaConsumer(
        **aiokafka_options(kafka), group_id=None, auto_offset_reset="none", max_partition_fetch_bytes=64 * 1024
    )
    places = {TopicPartition(prefix + topic, partition): offset for partition, offset in offsets.items()}
    try:
        await within(READ_SECONDS, consumer.start(), "connect to", kafka)
        values = await within(READ_SECONDS, _read(consumer, places), f"read back from {topic} of", kafka)
    finally:
        await stop_consumer(consumer)
    codec = AvroCodec(topic)
    return {place.partition: _identity(codec, values.get(place)) for place in places}


async def read_record_identity(
    kafka: KafkaConfig, topic: str, partition: int, offset: int, *, prefix: str = ""
) -> Identity | None:
    """`read_record_identities` for one record."""
    return (await read_record_identities(kafka, topic, {partition: offset}, prefix=prefix))[partition]


async def _read(consumer: AIOKafkaConsumer, places: dict[Any, int]) -> dict[Any, bytes | None]:
    beginning = await consumer.beginning_offsets(list(places))
    end = await consumer.end_offsets(list(places))
    wanted = {place: offset for place, offset in places.items() if beginning[place] <= offset < end[place]}
    values: dict[Any, bytes | None] = {}
    if not wanted:
        return values
    consumer.assign(list(wanted))
    for place, offset in wanted.items():
        consumer.seek(place, offset)
    while len(values) < len(wanted):
        for place, records in (await consumer.getmany(timeout_ms=1000)).items():
            if place not in values:
                values[place] = (records[0].value or b"") if records[0].offset == wanted[place] else None
    return values


def _identity(codec: AvroCodec, value: bytes | None) -> Identity | None:
    if value is None:
        return None
    rows, _ = codec.decode([value])
    return row_identity(codec.topic, rows, 0) if rows.num_rows else ("undecodable", zlib.crc32(value))
