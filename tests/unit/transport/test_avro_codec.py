"""The kernels against fastavro: same bytes, same rows, and hostile bytes end as refused rows."""

from __future__ import annotations

import io
import json
import random
import struct
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyruhvro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.market.events import (
    BARS,
    BOOKS,
    EVENTS,
    FEATURES,
    GAPS,
    TOPICS,
    arrow_schema,
    avro_schema,
    enum_symbols,
)
from pipeline_orchestrator.transport.avro_codec import AvroCodec
from pipeline_orchestrator.transport.avro_reference import ReferenceCodec
from pipeline_orchestrator.transport.codec_plan import compile_plan
from pipeline_orchestrator.transport.schema_registry import FileRegistry, default_registry, fingerprint
from tests.unit.transport.rows import random_row, random_rows

CODECS = {topic: AvroCodec(topic) for topic in TOPICS}
REFERENCES = {topic: ReferenceCodec(topic, default_registry()) for topic in TOPICS}
NO_DATES = (
    "date value out of range",
    "ordinal must be >= 1",
)  # what Python says of days before and behind its calendar


@pytest.mark.parametrize("topic", TOPICS)
def test_every_shipped_schema_runs_on_the_kernels(topic: str) -> None:
    assert CODECS[topic].writer is not None and CODECS[topic].reader is not None


@settings(max_examples=40, deadline=None)
@given(topic=st.sampled_from(TOPICS), count=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_bytes_equal_fastavro_and_rows_come_back(topic: str, count: int, seed: int) -> None:
    rows = random_rows(topic, count, seed)
    payloads = CODECS[topic].encode(rows)
    assert payloads == REFERENCES[topic].encode(rows)
    back, bad = CODECS[topic].decode(payloads)
    assert bad == []
    back.validate(full=True)
    assert back.schema.equals(arrow_schema(topic))
    assert back.to_pylist() == rows.to_pylist()
    assert REFERENCES[topic].decode(payloads)[0].to_pylist() == rows.to_pylist()


@pytest.mark.parametrize("topic", [FEATURES, BARS, BOOKS, GAPS])
def test_bytes_equal_those_of_an_encoder_in_another_language(topic: str) -> None:
    """pyruhvro (Rust) knows no `bytes`, so market.events and market.dlq are left to fastavro's test."""
    rows = random_rows(topic, 200, seed=4)
    plain = pa.RecordBatch.from_arrays(
        [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in rows.columns], names=rows.schema.names
    )
    (values,) = pyruhvro.serialize_record_batch(plain, json.dumps(avro_schema(topic)), 1)
    assert [payload[5:] for payload in CODECS[topic].encode(rows)] == values.to_pylist()


@settings(max_examples=25, deadline=None)
@given(topic=st.sampled_from(TOPICS), start=st.integers(0, 30), length=st.integers(1, 30), seed=st.integers(0, 99))
def test_a_slice_encodes_like_its_rows(topic: str, start: int, length: int, seed: int) -> None:
    rows = random_rows(topic, 60, seed)
    assert CODECS[topic].encode(rows.slice(start, length)) == CODECS[topic].encode(rows)[start : start + length]


@pytest.mark.parametrize("topic", TOPICS)
def test_no_rows_make_no_payloads_and_no_payloads_no_rows(topic: str) -> None:
    assert CODECS[topic].encode(random_rows(topic, 3, 1).slice(0, 0)) == []
    rows, bad = CODECS[topic].decode([])
    assert rows.num_rows == 0 and bad == [] and rows.schema.equals(arrow_schema(topic))


def test_more_rows_than_one_chunk_keep_their_order() -> None:
    rows = random_rows(EVENTS, 100, 5)
    many = pa.Table.from_batches([rows] * 400).unify_dictionaries().combine_chunks().to_batches()[0]
    payloads = CODECS[EVENTS].encode(many)
    assert payloads == CODECS[EVENTS].encode(rows) * 400
    assert CODECS[EVENTS].decode(payloads)[0].to_pylist() == rows.to_pylist() * 400


def test_enum_columns_hold_the_symbols_in_order_and_others_only_what_occurs() -> None:
    payloads = CODECS[EVENTS].encode(random_rows(EVENTS, 50, 7))
    rows, _ = CODECS[EVENTS].decode(payloads)
    for name, symbols in enum_symbols(EVENTS).items():
        assert tuple(rows.column(name).dictionary.to_pylist()) == symbols
    seen = [symbol for symbol in rows.column("symbol").to_pylist() if symbol is not None]
    assert rows.column("symbol").dictionary.to_pylist() == list(dict.fromkeys(seen))


def test_enum_dictionary_in_another_order_is_mapped_by_name() -> None:
    rows = random_rows(EVENTS, 30, 3)
    sides = rows.column("side").to_pylist()
    turned = pa.DictionaryArray.from_arrays(
        pa.array([None if side is None else ("ask", "bid").index(side) for side in sides], pa.int32()),
        pa.array(["ask", "bid"]),
    )
    index = rows.schema.get_field_index("side")
    other = rows.set_column(index, rows.schema.field(index), turned)
    assert CODECS[EVENTS].encode(other) == CODECS[EVENTS].encode(rows)


def test_columns_of_fitting_types_are_cast() -> None:
    rows = random_rows(EVENTS, 20, 4)
    plain = pa.RecordBatch.from_arrays(
        [column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column for column in rows.columns],
        names=rows.schema.names,
    )
    assert CODECS[EVENTS].encode(plain) == CODECS[EVENTS].encode(rows)


def test_null_in_a_field_without_null_is_refused() -> None:
    row = random_row(EVENTS, random.Random(1)) | {"seq": None}
    rows = pa.RecordBatch.from_pylist([row], schema=arrow_schema(EVENTS))
    with pytest.raises(PermanentError, match="seq"):
        CODECS[EVENTS].encode(rows)


def test_unknown_enum_symbol_and_missing_column_are_refused() -> None:
    rows = random_rows(EVENTS, 1, 1)
    index = rows.schema.get_field_index("kind")
    alien = pa.array(["alien"]).dictionary_encode()
    with pytest.raises(PermanentError, match="kind"):
        CODECS[EVENTS].encode(rows.set_column(index, rows.schema.field(index), alien))
    with pytest.raises(PermanentError, match="kind"):
        CODECS[EVENTS].encode(rows.drop_columns(["kind"]))


@settings(max_examples=150, deadline=None)
@given(topic=st.sampled_from(TOPICS), seed=st.integers(0, 2**32), data=st.data())
def test_damaged_payloads_never_crash_and_neighbours_are_kept(topic: str, seed: int, data: st.DataObject) -> None:
    rng = random.Random(seed)
    good = CODECS[topic].encode(random_rows(topic, 3, seed))
    value = bytearray(good[1])
    how = data.draw(st.sampled_from(("cut", "flip", "noise", "grow", "splice")))
    if how == "cut":
        del value[rng.randrange(len(value)) :]
    elif how == "flip":
        for _ in range(rng.randrange(1, 6)):
            value[rng.randrange(len(value))] = rng.randrange(256)
    elif how == "noise":
        value[5:] = rng.randbytes(rng.randrange(200))
    elif how == "grow":
        value += rng.randbytes(rng.randrange(1, 20))
    else:
        at = rng.randrange(5, len(value))
        value[at:at] = b"\xff" * rng.randrange(1, 12)
    rows, bad = CODECS[topic].decode([good[0], bytes(value), good[2]])
    rows.validate(full=True)
    assert rows.num_rows + len(bad) == 3 and all(index == 1 for index, _ in bad)
    assert rows.slice(0, 1).to_pylist() == CODECS[topic].decode([good[0]])[0].to_pylist()
    assert rows.slice(rows.num_rows - 1).to_pylist() == CODECS[topic].decode([good[2]])[0].to_pylist()
    if bad:
        return
    read, refused = REFERENCES[topic].decode([bytes(value)])
    if refused:  # fastavro makes a date of days, the kernel does not: the number may be none of the calendar's
        assert refused[0][1] in NO_DATES and "trading_date" in rows.schema.names
    else:  # as texts, since a NaN is not itself
        assert repr(read.to_pylist()) == repr(rows.slice(1, 1).to_pylist())


def test_days_outside_the_calendar_are_numbers_as_any() -> None:
    (payload,) = CODECS[EVENTS].encode(random_rows(EVENTS, 1, 5))
    rows, bad = CODECS[EVENTS].decode([payload])
    assert not bad
    far = rows.set_column(rows.schema.names.index("trading_date"), "trading_date", pa.array([2**31 - 1], pa.date32()))
    again, bad = CODECS[EVENTS].decode(CODECS[EVENTS].encode(far))
    assert not bad and again.column("trading_date").cast(pa.int32()).to_pylist() == [2**31 - 1]


@pytest.mark.parametrize("topic", TOPICS)
def test_every_truncation_is_refused(topic: str) -> None:
    (payload,) = CODECS[topic].encode(random_rows(topic, 1, 11))
    rows, bad = CODECS[topic].decode([payload[:cut] for cut in range(len(payload))])
    assert rows.num_rows == 0 and len(bad) == len(payload)


def test_refusals_name_their_reason() -> None:
    codec = CODECS[EVENTS]
    (payload,) = codec.encode(random_rows(EVENTS, 1, 2))
    other = struct.pack(">bI", 0, 999) + payload[5:]
    rows, bad = codec.decode([None, b"\x01" + payload[1:], other, payload + b"\x00", payload])
    assert rows.num_rows == 1
    assert bad == [
        (0, "not in Confluent wire format"),
        (1, "not in Confluent wire format"),
        (2, "unknown schema id"),
        (3, "bytes left over"),
    ]


def test_arrays_in_several_blocks_and_sized_blocks_decode() -> None:
    codec = CODECS["market.books"]
    row = random_row("market.books", random.Random(3)) | {"bid_prices": [], "gap_flag": False}
    (payload,) = codec.encode(pa.RecordBatch.from_pylist([row | {"bid_prices": [7, 8, 9]}], schema=codec.schema))
    one = bytes([6, 14, 16, 18, 0])  # count 3, items, end
    several = bytes([2, 14]) + bytes([3, 4, 16, 18]) + b"\x00"  # 1 item; 2 items in a block that states 2 bytes
    assert payload.count(one) == 1
    rows, bad = codec.decode([payload.replace(one, several), payload])
    assert bad == [] and rows.column("bid_prices").to_pylist() == [[7, 8, 9], [7, 8, 9]]


def test_many_distinct_strings_keep_their_codes() -> None:
    rng = random.Random(9)
    base = random_row(EVENTS, rng)
    names = [f"S{number % 3000}" for number in range(5000)]
    rows = pa.RecordBatch.from_pylist([base | {"symbol": name} for name in names], schema=arrow_schema(EVENTS))
    back, _ = CODECS[EVENTS].decode(CODECS[EVENTS].encode(rows))
    assert back.column("symbol").to_pylist() == names
    assert len(back.column("symbol").dictionary) == 3000


def test_older_version_of_the_subject_is_read_with_defaults(tmp_path: Path) -> None:
    new = avro_schema("market.gaps")
    old = {**new, "fields": [field for field in new["fields"] if field["name"] != "detail"]}
    versions = []
    for number, schema in enumerate((old, new), 1):
        (tmp_path / f"v{number}.avsc").write_text(json.dumps(schema))
        entry = {"version": number, "id": 70 + number, "file": f"v{number}.avsc", "fingerprint": fingerprint(schema)}
        versions.append(entry)
    (tmp_path / "registry.json").write_text(json.dumps({"subjects": {"market.gaps-value": versions}}))
    codec = AvroCodec("market.gaps", FileRegistry(tmp_path))
    row: dict[str, Any] = random_row("market.gaps", random.Random(1)) | {"detail": "kept"}
    out = io.BytesIO()
    out.write(struct.pack(">bI", 0, 71))
    fastavro.schemaless_writer(out, fastavro.parse_schema(old), row)
    now = codec.encode(pa.RecordBatch.from_pylist([row], schema=codec.schema))
    rows, bad = codec.decode([out.getvalue(), now[0]])
    assert bad == [] and rows.to_pylist() == [row | {"detail": None}, row]


def test_schema_that_is_not_flat_has_no_plan() -> None:
    nested = {"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "map", "values": "long"}}]}
    assert compile_plan(nested, frozenset()) is None
