"""Rows of a topic <-> values of its records: Confluent wire format (0x00, 4-byte schema id, Avro).

The kernels do it for every flat schema; `avro_reference` (fastavro) stands in for a schema that is not flat and for
payloads written under an older version of the subject. Both give the same bytes and the same rows (a property test).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.market.events import DICTIONARY_STRINGS, TOPICS, arrow_schema, enum_symbols
from pipeline_orchestrator.transport.avro_decode_kernel import REASONS
from pipeline_orchestrator.transport.avro_reader import AvroReader
from pipeline_orchestrator.transport.avro_reference import ReferenceCodec
from pipeline_orchestrator.transport.avro_writer import AvroWriter
from pipeline_orchestrator.transport.codec_plan import HEADER_BYTES, compile_plan
from pipeline_orchestrator.transport.record_batch import Values
from pipeline_orchestrator.transport.schema_registry import SchemaRegistry, default_registry, subject_of

MAX_BYTES = 1 << 30  # of values decoded in one go; Arrow's string offsets are 32-bit


class AvroCodec:
    """Encodes and decodes one topic; one object per task (it keeps a scratch buffer).

    Rows have the schema `market.events.arrow_schema(topic)`: enum columns hold the schema's symbols as dictionary,
    other dictionary columns hold exactly the strings of the batch in order of first appearance.
    """

    def __init__(self, topic: str, registry: SchemaRegistry | None = None) -> None:
        registry = registry or default_registry()
        self.topic, self.schema = topic, arrow_schema(topic)
        latest = registry.latest(subject_of(topic))
        self.schema_id = latest.id
        self._older = {version.id for version in registry.versions(subject_of(topic))} - {latest.id}
        self._reference = ReferenceCodec(topic, registry)
        plan = compile_plan(latest.schema, DICTIONARY_STRINGS)
        self.writer: AvroWriter | None = None
        self.reader: AvroReader | None = None
        if plan is not None and plan.names == tuple(self.schema.names):
            self.writer = AvroWriter(plan, self.schema, enum_symbols(topic), latest.id)
            self.reader = AvroReader(plan, self.schema, enum_symbols(topic), latest.id)

    def encode(self, rows: pa.RecordBatch) -> list[bytes]:
        """One value per row. Raises PermanentError for rows that do not fit the schema."""
        if self.writer is None:
            return self._reference.encode(rows)
        return self.writer.encode(rows)

    def encode_spans(self, rows: pa.RecordBatch) -> Values:
        """All values one behind the other, for sinks that build whole record batches. Raises PermanentError."""
        if self.writer is None:
            values = self._reference.encode(rows)
            ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
            data = np.frombuffer(b"".join(values), np.uint8)
        else:
            data, ends = self.writer.encode_joined(rows)
        data.flags.writeable = False  # as what comes from bytes is: kernels are compiled per kind of array
        return Values(data, np.concatenate([np.zeros(1, np.int64), ends])[: rows.num_rows], ends)

    def decode(self, values: Sequence[bytes | None]) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        """Good values as rows in order, and (index, reason) of the others. Never raises for their content."""
        present = [value or b"" for value in values]  # a tombstone is no event: refused as unframed
        ends = np.cumsum(np.fromiter(map(len, present), np.int64, len(present)))
        begins = np.concatenate([np.zeros(1, np.int64), ends])[: len(present)]
        return self.decode_spans(np.frombuffer(b"".join(present), np.uint8), begins, ends)

    def decode_spans(
        self, data: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        """Like `decode`, of the values `data[begins[i]:ends[i]]`; an end before its begin is an absent value."""
        if begins.size > 1 and int((ends - begins).sum()) > MAX_BYTES:
            return self._decode_halves(data, begins, ends)
        if self.reader is None:
            return self._reference.decode(_values(data, begins, ends))
        rows, errors = self.reader.decode(data, begins, ends)
        refused = np.flatnonzero(errors)
        if self._older and any(
            int.from_bytes(value[1:HEADER_BYTES], "big") in self._older
            for value in _values(data, begins[refused], ends[refused])
        ):
            return self._reference.decode(_values(data, begins, ends))
        return rows, [(int(i), REASONS[errors[i]]) for i in refused]

    def _decode_halves(
        self, data: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        half = begins.size // 2
        first, bad = self.decode_spans(data, begins[:half], ends[:half])
        second, more = self.decode_spans(data, begins[half:], ends[half:])
        table = pa.Table.from_batches([first, second]).unify_dictionaries().combine_chunks()
        return table.to_batches()[0], bad + [(half + index, reason) for index, reason in more]


def _values(data: npt.NDArray[np.uint8], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> list[bytes]:
    return [data[begin:end].tobytes() for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def warm() -> None:
    """Compile (or load from the cache) every kernel of the codec: call once at start-up or installation."""
    for topic in TOPICS:
        codec = AvroCodec(topic)
        row = {field.name: _example(field, enum_symbols(topic).get(field.name, ("x",))[0]) for field in codec.schema}
        codec.decode(codec.encode(pa.RecordBatch.from_pylist([row], schema=codec.schema)))


def _example(field: pa.Field, text: str) -> object:
    kind = field.type
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return text
    if pa.types.is_list(kind):
        return [1]
    if pa.types.is_boolean(kind):
        return True
    return b"x" if pa.types.is_binary(kind) else 1
