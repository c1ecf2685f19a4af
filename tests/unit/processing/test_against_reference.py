"""Processing equals a plain-Python reference on random streams, whatever the cut into batches."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.processing.process_events import ProcessEvents
from tests.unit.processing.build import Row, batch_of
from tests.unit.processing.streams import Log, expected, random_log, run, settings_for

EPOCH = dt.date(1970, 1, 1)


def plain(row: Row) -> Row:
    return {name: (value - EPOCH).days if isinstance(value, dt.date) else value for name, value in row.items()}


def same(found: Any, wanted: Any, name: str) -> bool:
    if name == "volatility" and found is not None and wanted is not None:
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return bool(found == wanted)


@pytest.mark.parametrize("books", ["change", "off", "5s"])
@given(seed=st.integers(0, 1 << 32), cuts=st.lists(st.integers(0, 400), max_size=8))
@example(seed=510, cuts=[])  # after a long pause between two mids the weight of the old variance is about 1e-13
@settings(max_examples=40, deadline=None)
def test_rows_equal_those_of_the_reference(books: str, seed: int, cuts: list[int]) -> None:
    log, config = random_log(seed), settings_for(books)
    found, wanted = run(log, config, cuts), expected(log, config)
    for name, rows in wanted.items():
        made = [plain(row) for row in found[name]]
        assert len(made) == len(rows), name
        for one, other in zip(made, rows, strict=True):
            assert one.keys() == other.keys()
            assert [(key, one[key], other[key], other) for key in one if not same(one[key], other[key], key)] == [], (
                name
            )


@given(seed=st.integers(0, 1 << 32), cuts=st.lists(st.integers(0, 400), max_size=30))
@settings(max_examples=30, deadline=None)
def test_the_cut_into_batches_changes_nothing(seed: int, cuts: list[int]) -> None:
    log, config = random_log(seed), settings_for()
    assert run(log, config, cuts) == run(log, config, [])


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=20, deadline=None)
def test_partitions_that_share_a_batch_do_not_touch_each_other(seed: int) -> None:
    log, config = random_log(seed), settings_for()
    together = run(log, config, [100])
    for partition, records in log.records.items():
        alone = Log(log.partitions, {partition: records}, [partition] * len(records))
        by_itself = run(alone, config, [7])
        for name in together:
            if name.endswith(f"/{partition}"):
                assert by_itself[name] == together[name]


def test_outputs_have_the_schema_of_their_topic_and_valid_arrays() -> None:
    log = random_log(3, 600)
    processor = ProcessEvents(settings_for(), range(log.partitions))
    seen = set()
    for out in processor.process(batch_of(dict(log.records))).outgoing:
        out.rows.validate(full=True)
        assert out.keys is not None and out.keys.equals(out.rows.column("symbol"))
        assert len(out.partitions) == out.rows.num_rows
        assert pa.types.is_dictionary(out.rows.schema.field("symbol").type)
        seen.add(out.topic)
    assert seen == {"market.features", "market.bars", "market.books", "market.gaps"}
