"""Whatever memory a batch lies in, the kernels it meets are the ones that were compiled at installation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.processing import kernel, locate
from pipeline_orchestrator.processing.process_events import ProcessEvents, warm
from pipeline_orchestrator.record import Batch, OffsetRange
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from tests.unit.processing.build import record_batch
from tests.unit.processing.streams import random_log, settings_for


def batch(rows: pa.RecordBatch) -> Batch:
    n = rows.num_rows
    return Batch(rows, (OffsetRange(EVENTS, 0, 0, n - 1, 0, n),), np.arange(n, dtype=np.int64))


def misaligned(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows with values that lie at odd addresses."""
    columns = []
    for column in rows.columns:
        if column.type == pa.int64() and column.null_count == 0:
            data = column.buffers()[1].to_pybytes()
            odd = pa.py_buffer(b"x" + data).slice(1)
            columns.append(pa.Array.from_buffers(pa.int64(), len(column), [None, odd]))
        else:
            columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def test_no_batch_needs_a_kernel_of_its_own() -> None:
    warm()
    before = [len(each.signatures) for each in (kernel.process_rows, locate.locate, locate.renumber)]
    rows = record_batch([row for _, row in random_log(1).records[0]])
    codec = AvroCodec(EVENTS)
    decoded, bad = codec.decode(codec.encode(rows))
    assert not bad
    results = []
    for form in (rows, decoded, rows.take(pa.array(range(rows.num_rows))), misaligned(rows)):
        made = ProcessEvents(settings_for(), [0]).process(batch(form)).outgoing
        results.append([out.rows.to_pylist() for out in made])
    assert results[1:] == results[:1] * 3
    ProcessEvents(settings_for(), [0]).process(batch(rows.slice(3, 40)))
    ProcessEvents(settings_for(), [0]).process(batch(rows.slice(8, 1)))
    assert [len(each.signatures) for each in (kernel.process_rows, locate.locate, locate.renumber)] == before


def test_a_slice_is_processed_like_a_copy() -> None:
    rows = record_batch([row for _, row in random_log(2, 400).records[0]])
    for start in (1, 7, 8, 13):
        part = rows.slice(start, 50)
        copy = part.take(pa.array(range(50)))
        one, other = (ProcessEvents(settings_for(), [0]).process(batch(each)).outgoing for each in (part, copy))
        assert [out.rows.to_pylist() for out in one] == [out.rows.to_pylist() for out in other]
