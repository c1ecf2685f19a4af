"""What a batch comes down to: rows to store, and where its partitions stand afterwards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.market.events import DLQ, EVENTS
from pipeline_orchestrator.record import Mark
from pipeline_orchestrator.storage.batch_plan import plan_batch, time_span
from pipeline_orchestrator.storage.columns import bool_array, codes, integers, rows_at, rows_where, validity
from pipeline_orchestrator.storage.ledger import Position
from pipeline_orchestrator.storage.marks import keep_new, warm
from pipeline_orchestrator.storage.tables import TABLES
from tests.doubles.market_rows import T0, Log, event


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(1, 2), st.integers(0, 9)), min_size=1, max_size=40
    ),
    st.integers(0, 39),
)
def test_rows_are_new_exactly_when_they_rise_above_their_writers_mark_however_they_are_cut(
    rows: list[tuple[int, int, int, int]], cut: int
) -> None:
    log = Log(partitions={0: [], 1: []})
    for partition, instance, epoch, seq in rows:
        log.append(partition, **event(seq, instance=instance, epoch=epoch))
    newest: dict[tuple[int, int], tuple[int, int]] = {}
    expected = {0: [], 1: []}  # type: dict[int, list[bool]]
    for partition, instance, epoch, seq in rows:
        new = (epoch, seq) > newest.get((partition, instance), (-1, -1))
        if new:
            newest[partition, instance] = (epoch, seq)
        expected[partition].append(new)
    positions: dict[int, Position] = {0: Position("log-1", 0), 1: Position("log-1", 0)}
    found: dict[int, list[bool]] = {0: [], 1: []}
    middle = {partition: min(cut, end) for partition, end in log.end.items()}
    for first, last in (({0: 0, 1: 0}, middle), (middle, log.end)):
        batch = log.batch(first, last)
        plan = plan_batch(TABLES[EVENTS], batch, positions, set())
        for partition in (0, 1):
            found[partition] += plan.keep[plan.partitions == partition].tolist()[: last[partition] - first[partition]]
        positions |= plan.after
    assert found == expected
    for (partition, instance), mark in newest.items():
        assert positions[partition].marks[str(instance)] == Mark(*mark, 0, 0)


def test_dead_letters_have_marks_per_writer() -> None:
    log = Log(topic=DLQ)
    for writer, seq in (
        ("ingestion/0", 5),
        ("storage/0@x", 2),
        ("ingestion/0", 5),
        ("ingestion/0", 6),
        ("storage/0@x", 1),
    ):
        log.append(0, writer=writer, epoch=0, seq=seq, idx=0, out=0, reason="r", detail="", source="s", port="none",
                   recv_time_us=T0, raw=b"")  # fmt: skip
    plan = plan_batch(TABLES[DLQ], log.batch({0: 0}), {0: Position("log-1", 0)}, set())
    assert plan.keep.tolist() == [True, True, False, True, False]
    assert plan.after[0].marks == {"ingestion/0": Mark(0, 6, 0), "storage/0@x": Mark(0, 2, 0)}


def test_read_only_views_need_no_second_compilation() -> None:
    warm()
    known = len(keep_new.signatures)
    log = Log()
    log.append(0, **event(1))
    batch = log.batch({0: 0})
    batch.offsets.flags.writeable = False
    plan_batch(TABLES[EVENTS], batch, {0: Position("log-1", 0)}, set())
    assert len(keep_new.signatures) == known


def test_the_span_of_times_of_any_kind_is_that_of_the_rows_kept() -> None:
    log = Log()
    log.append(0, **event(5))
    log.append(0, **event(1, event_time_us=None))
    batch = log.batch({0: 0})
    assert time_span(batch.rows, np.array([True, True])) == (T0 + 5, T0 + 55)
    assert time_span(batch.rows, np.array([False, True])) == (T0 + 51, T0 + 51)
    assert time_span(batch.rows, np.array([False, False])) == (0, 0)


@pytest.mark.parametrize("start", [0, 3, 9])
def test_column_views_respect_slices_and_nulls(start: int) -> None:
    values = [None if n % 4 == 1 else n for n in range(20)]
    numbers = pa.array(values, pa.int64()).slice(start, 10)
    assert validity(numbers).tolist() == [value is not None for value in values[start : start + 10]]
    known = [value for value in values[start : start + 10] if value is not None]
    assert integers(numbers)[validity(numbers)].tolist() == known
    words = pa.array([None if value is None else f"w{value % 3}" for value in values]).dictionary_encode()
    cut = words.slice(start, 10)
    names = [None if code < 0 else words.dictionary[int(code)].as_py() for code in codes(cut)]
    assert names == cut.to_pylist()
    rows = pa.record_batch({"n": pa.array(range(20))}).slice(start, 10)
    keep = np.arange(10) % 3 == 0
    assert rows_where(rows, keep).column(0).to_pylist() == list(range(start, start + 10, 3))
    assert rows_at(rows, np.array([7, 1])).column(0).to_pylist() == [start + 7, start + 1]
    assert bool_array(keep).to_pylist() == keep.tolist()
