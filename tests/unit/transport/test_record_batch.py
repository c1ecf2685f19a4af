"""Built batches equal aiokafka's, byte for byte, and are cut where it cuts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.transport.outgoing_batches import key_spans
from pipeline_orchestrator.transport.record_batch import BatchMaker, PreparedBatch, Values
from pipeline_orchestrator.transport.record_set import parse_record_sets

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
KEYS = st.one_of(st.none(), st.sampled_from(["AAPL", "", "é" * 40, "BRK.B"]))


def values_of(payloads: list[bytes]) -> Values:
    ends = np.cumsum([len(payload) for payload in payloads]).astype(np.int64)
    begins = np.concatenate([np.zeros(1, np.int64), ends])[: len(payloads)]
    return Values(np.frombuffer(b"".join(payloads), np.uint8), begins, ends)


RECORDS = st.lists(st.tuples(KEYS, st.binary(max_size=200), st.booleans()), min_size=1, max_size=60)
Record = tuple[str | None, bytes, bool]


def make(records: list[Record], compression: str, limit: int) -> list[PreparedBatch]:
    """Batches of the records in reverse: rows come in any order."""
    keys = key_spans(pa.array([key for key, _, _ in records], pa.string()).dictionary_encode(), len(records))
    rows = np.arange(len(records), dtype=np.int64)[::-1].copy()
    keyless = np.array([keyless for _, _, keyless in records])[::-1].copy()
    values = values_of([value for _, value, _ in records])
    return list(BatchMaker(limit, compression).batches(values, keys, rows, keyless, 1_700_000_000_123))


@settings(max_examples=100, deadline=None)
@given(records=RECORDS, compression=st.sampled_from(CODECS))
def test_bytes_equal_aiokafkas(records: list[Record], compression: str) -> None:
    (mine,) = make(records, compression, 1 << 20)
    theirs = BatchBuilder(1 << 20, CODECS.index(compression))
    for key, value, keyless in reversed(records):
        sent = None if key is None or keyless else key.encode()
        assert theirs.append(timestamp=1_700_000_000_123, key=sent, value=value) is not None
    assert mine.record_count() == theirs.record_count() == len(records)
    for batch in (mine, theirs):
        batch._set_producer_state(4711, 3, 100)
    built, reference = mine._build(), bytes(theirs._build())
    assert mine.size() == len(built)
    packed_alike = built[21:23] == reference[21:23]  # attributes: the codec, or none where packing gained nothing
    if compression != "gzip" and packed_alike:  # gzip holds the time of day
        assert built == reference
    else:  # aiokafka sends some small batches packed although they gained nothing
        assert len(built) <= len(reference)
        assert parsed(built) == parsed(reference)


@settings(max_examples=100, deadline=None)
@given(records=RECORDS, limit=st.integers(100, 3000))
def test_batches_are_as_full_as_the_limit_allows(records: list[Record], limit: int) -> None:
    made = make(records, "none", limit)
    assert [value for batch in made for value in parsed(batch._build())] == [value for _, value, _ in reversed(records)]
    assert all(batch.size() <= limit or batch.record_count() == 1 for batch in made)
    counts = [batch.record_count() for batch in made]
    for start, count in zip(np.cumsum([0, *counts]).tolist(), counts[:-1], strict=False):
        one_more = list(reversed(list(reversed(records))[start : start + count + 1]))
        assert make(one_more, "none", 1 << 20)[0].size() > limit


def parsed(batch: bytes) -> list[bytes | None]:
    spans = parse_record_sets([(0, 0, batch)])
    return [spans.value(index) for index in range(spans.offsets.size)]


def test_state_of_another_producer_changes_the_bytes() -> None:
    keys = key_spans(None, 1)
    (batch,) = BatchMaker(1000, "none").batches(
        values_of([b"x"]), keys, np.zeros(1, np.int64), np.zeros(1, np.bool_), 1
    )
    before = batch._build()
    assert batch._build() is before
    batch._set_producer_state(1, 2, 3)
    assert batch._build() != before
    assert batch.closed() and batch.record_count() == 1


@pytest.mark.parametrize("compression", CODECS)
def test_incompressible_records_are_sent_plain(compression: str) -> None:
    noise = np.random.default_rng(1).bytes(500)
    keys = key_spans(None, 1)
    maker = BatchMaker(1 << 20, compression)
    (batch,) = maker.batches(values_of([noise]), keys, np.zeros(1, np.int64), np.zeros(1, np.bool_), 1)
    spans = parse_record_sets([(0, 0, batch._build())])
    assert spans.value(0) == noise and batch.size() < 600
