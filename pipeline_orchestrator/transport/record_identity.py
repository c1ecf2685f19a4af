"""The identity that a record carries in itself, to recognise it when it is read back (design: log identity).

A stored position names a log and an offset; the identity of the last record before it proves that this is still
that log, also where somebody set the log's id by hand.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import pyarrow as pa

from config.sections import KafkaConfig
from pipeline_orchestrator.market.events import DLQ, EVENTS
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.kafka_clients import within
from pipeline_orchestrator.transport.kafka_fetch import PARTITION_BYTES, KafkaFetch
from pipeline_orchestrator.transport.record_set import parse_record_sets

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
    fetch = KafkaFetch(kafka, prefix + topic, list(offsets), max_bytes=len(offsets) * PARTITION_BYTES)
    try:
        await fetch.open()
        values = await within(READ_SECONDS, _read(fetch, offsets), f"read back from {topic} of", kafka)
    finally:
        await fetch.close()
    codec = AvroCodec(topic)
    return {partition: _identity(codec, values.get(partition)) for partition in offsets}


async def read_record_identity(
    kafka: KafkaConfig, topic: str, partition: int, offset: int, *, prefix: str = ""
) -> Identity | None:
    """`read_record_identities` for one record."""
    return (await read_record_identities(kafka, topic, {partition: offset}, prefix=prefix))[partition]


async def _read(fetch: KafkaFetch, offsets: Mapping[int, int]) -> dict[int, bytes | None]:
    beginning, end = await fetch.ends()
    wanted = {p: offset for p, offset in offsets.items() if beginning[p] <= offset < end[p]}
    fetch.seek({p: wanted.get(p, end[p]) for p in offsets})
    values: dict[int, bytes | None] = {}
    while len(values) < len(wanted):
        spans = parse_record_sets(await fetch.fetch(READ_SECONDS))
        fetch.moved(spans.next_offsets)
        for run in spans.runs:
            if run.partition in wanted and run.partition not in values:
                found = spans.offsets[run.start] == wanted[run.partition]
                values[run.partition] = (spans.value(run.start) or b"") if found else None
    return values


def _identity(codec: AvroCodec, value: bytes | None) -> Identity | None:
    if value is None:
        return None
    rows, _ = codec.decode([value])
    return row_identity(codec.topic, rows, 0) if rows.num_rows else ("undecodable", zlib.crc32(value))
