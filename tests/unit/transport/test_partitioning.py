"""The partition rule is Java's."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import Outgoing
from pipeline_orchestrator.transport.outgoing_batches import key_bytes, split
from pipeline_orchestrator.transport.partitioning import (
    BY_RULE,
    EVERYWHERE,
    murmur2,
    partition_of,
    partitions_of,
    place,
)
from tests.doubles.seams import event, events


@pytest.mark.parametrize(
    ("key", "signed"),
    [  # the vectors of Kafka's own UtilsTest
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hash_equals_javas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@given(st.binary(max_size=40))
def test_hash_equals_aiokafkas(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) & 0xFFFFFFFF


@given(st.lists(st.one_of(st.none(), st.sampled_from(["AAPL", "é", "BRK.B", "@ES#"])), max_size=30), st.data())
def test_column_gives_the_partition_of_each_symbol(symbols: list[str | None], data: st.DataObject) -> None:
    column = pa.array(symbols, pa.string()).dictionary_encode()
    start = data.draw(st.integers(0, len(symbols)))
    expected = [0 if symbol is None else partition_of(symbol, 16) for symbol in symbols[start:]]
    assert partitions_of(column.slice(start), 16).tolist() == expected
    keys = [None if symbol is None else symbol.encode() for symbol in symbols[start:]]
    assert key_bytes(column.slice(start), len(keys)) == keys


def outgoing(partitions: list[int], **values: object) -> Outgoing:
    rows = events([event(seq, **values) for seq in range(len(partitions))])
    return Outgoing(EVENTS, rows, np.array(partitions, np.int32), rows.column("symbol"))


def test_rows_for_all_partitions_keep_their_place_among_the_others() -> None:
    parts = {part.partition: part for part in split(outgoing([2, -1, 0, 2, -1], kind="clock", symbol=None), 3)}
    assert {number: part.rows.tolist() for number, part in parts.items()} == {
        0: [1, 2, 4],
        1: [1, 4],
        2: [0, 1, 3, 4],
    }
    assert parts[2].keyless.tolist() == [False, True, False, True]


@pytest.mark.parametrize("kind", ["clock", "connected", "lost", "gap"])
def test_facts_of_an_instance_go_everywhere_unless_they_carry_a_symbol(kind: str) -> None:
    assert place(outgoing([BY_RULE], kind=kind, symbol=None), 4).tolist() == [EVERYWHERE]
    assert place(outgoing([BY_RULE], kind=kind, symbol="MSFT"), 4).tolist() == [partition_of("MSFT", 4)]
    assert place(outgoing([1], kind=kind, symbol=None), 4).tolist() == [1]


def test_other_rows_without_a_key_go_to_the_first_partition() -> None:
    assert place(outgoing([BY_RULE], kind="other", symbol=None), 4).tolist() == [0]
    keyless = outgoing([BY_RULE], kind="quote")
    assert place(Outgoing("market.gaps", keyless.rows, keyless.partitions, None), 4).tolist() == [0]


def test_keys_need_not_be_dictionaries() -> None:
    out = outgoing([BY_RULE, BY_RULE])
    plain = Outgoing(EVENTS, out.rows, out.partitions, pa.array(["MSFT", "TSLA"]))
    assert place(plain, 16).tolist() == [partition_of("MSFT", 16), partition_of("TSLA", 16)]
    assert key_bytes(plain.keys, 2) == [b"MSFT", b"TSLA"]


@pytest.mark.parametrize("partitions", [[3], [-2]])
def test_partitions_that_do_not_exist_are_refused(partitions: list[int]) -> None:
    with pytest.raises(PermanentError):
        list(split(outgoing(partitions), 3))


def test_one_partition_per_row_is_demanded() -> None:
    out = outgoing([0, 0])
    with pytest.raises(PermanentError):
        list(split(Outgoing(EVENTS, out.rows, out.partitions[:1], None), 3))
