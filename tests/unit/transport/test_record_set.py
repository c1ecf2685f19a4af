"""Record sets by the kernel against aiokafka's own reader and writer; damage is told, never read past."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.errors import NotConnectedError, PermanentError
from pipeline_orchestrator.transport.record_set import RecordSpans, Run, parse_record_sets, spans_of_values

Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]

RECORDS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.binary(max_size=12)),
        st.one_of(st.none(), st.binary(max_size=300)),
        st.lists(st.tuples(st.text(max_size=5), st.one_of(st.none(), st.binary(max_size=9))), max_size=2),
    ),
    min_size=1,
    max_size=30,
)


def batch(records: list[Record], base: int = 0, codec: int = 0, control: bool = False) -> bytes:
    """A batch as a broker keeps it: aiokafka's builder, then the base offset that the broker writes."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 1 << 20)
    for number, (key, value, headers) in enumerate(records):
        assert builder.append(number, 1_700_000_000_000 + number, key, value, headers) is not None
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    if control:
        struct.pack_into(">h", data, 21, struct.unpack_from(">h", data, 21)[0] | 0x20)
        struct.pack_into(">I", data, 17, crc32c(bytes(data[21:])))
    return bytes(data)


def read_by_aiokafka(data: bytes, position: int) -> list[tuple[int, bytes | None, dict[str, str]]]:
    found = []
    records = MemoryRecords(data)
    while records.has_next():
        for record in records.next_batch():
            if record.offset >= position:
                headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
                found.append((record.offset, record.value, headers))
    return found


def listed(spans: RecordSpans) -> list[tuple[int, bytes | None, dict[str, str]]]:
    return [(int(spans.offsets[i]), spans.value(i), spans.headers(i)) for i in range(spans.offsets.size)]


@settings(max_examples=120, deadline=None)
@given(
    first=RECORDS,
    second=RECORDS,
    codec=st.sampled_from((0, 1, 2, 3, 4)),
    base=st.integers(0, 2**40),
    skip=st.integers(0, 40),
)
def test_spans_equal_aiokafkas_records(
    first: list[Record], second: list[Record], codec: int, base: int, skip: int
) -> None:
    data = batch(first, base, codec) + batch(second, base + len(first) + 3, 0)  # a hole between the two
    spans = parse_record_sets([(7, base + skip, data)])
    assert listed(spans) == read_by_aiokafka(data, base + skip)
    end = base + len(first) + 3 + len(second)
    assert spans.next_offsets == {7: max(end, base + skip)}
    assert spans.runs == ((Run(7, 0, spans.offsets.size),) if spans.offsets.size else ())


@given(records=RECORDS, cut=st.integers(1, 5000))
def test_a_batch_that_is_cut_off_waits_for_the_next_fetch(records: list[Record], cut: int) -> None:
    whole = batch(records, 10)
    spans = parse_record_sets([(0, 10, whole + whole[: min(cut, len(whole) - 1)])])
    assert spans.offsets.size == len(records) and spans.next_offsets == {0: 10 + len(records)}


def test_partitions_keep_their_own_runs() -> None:
    one = batch([(b"k", b"a", []), (None, b"b", [])], 5)
    two = batch([(None, b"c", [])], 0)
    spans = parse_record_sets([(3, 5, one), (1, 0, two + batch([(None, b"d", [])], 1)), (2, 9, b"")])
    assert spans.runs == (Run(3, 0, 2), Run(1, 2, 2))
    assert [value for _, value, _ in listed(spans)] == [b"a", b"b", b"c", b"d"]
    assert spans.next_offsets == {3: 7, 1: 2, 2: 9}


def test_markers_move_the_position_and_are_no_records() -> None:
    spans = parse_record_sets([(0, 4, batch([(b"\x00\x00\x00\x01", b"", [])], 4, control=True))])
    assert spans.offsets.size == 0 and spans.next_offsets == {0: 5}


@pytest.mark.parametrize("magic", [0, 1])
def test_old_message_formats_are_read(magic: int) -> None:
    builder = LegacyRecordBatchBuilder(magic, 0, 1 << 16)
    for number in range(3):
        builder.append(number, timestamp=1, key=b"k", value=None if number == 1 else b"v%d" % number)
    data = bytes(builder.build())
    assert [value for _, value, _ in listed(parse_record_sets([(0, 0, data)]))] == [b"v0", None, b"v2"]


@settings(max_examples=200, deadline=None)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_a_flipped_bit_is_a_wrong_checksum_or_a_torn_end(records: list[Record], seed: int) -> None:
    data = bytearray(batch(records, 0))
    at = random.Random(seed).randrange(17, len(data))
    data[at] ^= 1 << (seed % 8)
    with pytest.raises(NotConnectedError, match="checksum"):
        parse_record_sets([(0, 0, bytes(data))])


@settings(max_examples=300, deadline=None)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_content_that_lies_under_a_right_checksum_is_refused_or_read_within_its_bounds(
    records: list[Record], seed: int
) -> None:
    rng = random.Random(seed)
    data = bytearray(batch(records, 0))
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(57, len(data))] = rng.randrange(256)
    struct.pack_into(">I", data, 17, crc32c(bytes(data[21:])))
    try:
        spans = parse_record_sets([(0, 0, bytes(data))])
    except PermanentError:
        return
    for index in range(spans.offsets.size):
        assert spans.begins[index] >= 0 and spans.ends[index] <= spans.data.size
        spans.headers(index)


def test_values_given_one_by_one_have_the_same_form() -> None:
    offsets = np.array([4, 6], np.int64)
    spans = spans_of_values({2: (offsets, [b"abc", None]), 0: (offsets[:0], []), 1: (offsets[:1], [b""])})
    assert [(int(spans.offsets[i]), spans.value(i)) for i in range(3)] == [(4, b"abc"), (6, None), (4, b"")]
    assert spans.runs == (Run(2, 0, 2), Run(1, 2, 1)) and spans.next_offsets == {2: 7, 1: 5}
