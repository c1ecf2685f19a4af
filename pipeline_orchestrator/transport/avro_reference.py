"""The codec by fastavro, record by record: what the kernels are compared with, and the fallback.

It also reads older versions of a subject (schema resolution) and schemas that are not flat. 20 to 40 times slower
than the kernels, so never the ordinary path.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import fastavro
import pyarrow as pa

from pipeline_orchestrator.market.events import arrow_schema
from pipeline_orchestrator.transport.codec_plan import HEADER_BYTES
from pipeline_orchestrator.transport.schema_registry import SchemaRegistry, subject_of


class ReferenceCodec:
    """`encode` and `decode` with the contract of `AvroCodec`."""

    def __init__(self, topic: str, registry: SchemaRegistry) -> None:
        self._schema = arrow_schema(topic)
        latest = registry.latest(subject_of(topic))
        self._header = struct.pack(">bI", 0, latest.id)
        self._reader = fastavro.parse_schema(latest.schema)
        self._writers = {
            version.id: self._reader if version.id == latest.id else fastavro.parse_schema(version.schema)
            for version in registry.versions(subject_of(topic))
        }

    def encode(self, rows: pa.RecordBatch) -> list[bytes]:
        """One payload per row."""
        payloads = []
        for row in rows.to_pylist():
            out = io.BytesIO()
            out.write(self._header)
            fastavro.schemaless_writer(out, self._reader, row)
            payloads.append(out.getvalue())
        return payloads

    def decode(self, values: Sequence[bytes]) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        """Good payloads as rows in order; the others with their reason."""
        records: list[dict[str, Any]] = []  # Any: fastavro's records
        bad: list[tuple[int, str]] = []
        for index, value in enumerate(values):
            try:
                records.append(self._decode_one(value))
            except Exception as error:  # fastavro raises many types on hostile bytes (EOFError, IndexError, ...)
                bad.append((index, str(error) or type(error).__name__))
        return pa.RecordBatch.from_pylist(records, schema=self._schema), bad

    def _decode_one(self, value: bytes) -> dict[str, Any]:
        if len(value) < HEADER_BYTES or value[0] != 0:
            raise ValueError("not in Confluent wire format")
        writer = self._writers.get(int.from_bytes(value[1:HEADER_BYTES], "big"))
        if writer is None:
            raise ValueError("unknown schema id")
        body = io.BytesIO(value)
        body.seek(HEADER_BYTES)
        reader = None if writer is self._reader else self._reader
        record = fastavro.schemaless_reader(body, writer, reader)
        if body.tell() != len(value):
            raise ValueError("bytes left over")
        if not isinstance(record, dict):
            raise ValueError("not a record")
        return record
