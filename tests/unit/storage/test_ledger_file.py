"""A ledger survives its writer, is never half read, and belongs to one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.durable import TEMPORARY_SUFFIX
from pipeline_orchestrator.errors import RetryableError
from pipeline_orchestrator.record import Mark
from pipeline_orchestrator.storage.ledger import Intent, LastRow, Ledger, PartRange, Position, Recheck
from pipeline_orchestrator.storage.ledger_file import LedgerFile, parse, render, sealed_marks, sealed_positions

numbers = st.integers(0, 2**62)
marks = st.builds(Mark, numbers, numbers, numbers, numbers)
positions = st.builds(
    Position,
    log_id=st.text(max_size=20),
    next=numbers,
    marks=st.dictionaries(st.text(max_size=8), marks, max_size=3),
    last=st.none() | st.builds(LastRow, numbers, st.text(max_size=8), marks),
    rechecks=st.lists(st.builds(Recheck, st.text(max_size=8), numbers, numbers), max_size=2).map(tuple),
    generation=numbers,
)
ranges = st.builds(PartRange, numbers, numbers, numbers, numbers, positions, positions)
intents = st.builds(
    Intent,
    base=st.text(max_size=30),
    attempts=numbers,
    log_id=st.text(max_size=9),
    table_uuid=st.text(max_size=9),
    ranges=st.lists(ranges, max_size=3).map(tuple),
    oldest_us=numbers,
    owes_letters=st.booleans(),
)
ledgers = st.builds(
    Ledger,
    table=st.just("events"),
    topic=st.just("market.events"),
    instance=numbers,
    generation=numbers,
    table_uuid=st.text(max_size=40),
    positions=st.dictionaries(st.integers(0, 300), positions, max_size=4),
    open=st.none() | intents,
    sealed=st.none() | intents,
    late=st.none() | intents,
)


@settings(deadline=None)
@given(ledgers)
def test_what_is_written_is_what_is_read(ledger: Ledger) -> None:
    assert parse(render(ledger)) == ledger


@settings(deadline=None)
@given(ledgers, st.data())
def test_a_flipped_bit_or_a_cut_is_never_taken_for_a_ledger(ledger: Ledger, data: st.DataObject) -> None:
    raw = bytearray(render(ledger))
    if data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    assert parse(bytes(raw)) is None or parse(bytes(raw)) == ledger


@pytest.mark.parametrize("raw", [b"", b"\0" * 4096, b"{}\n{}\n", b'{"format": 2}\n{}\n', b"[]\n[]\n", b"\xff\n\xff\n"])
def test_foreign_bytes_are_not_a_ledger(raw: bytes) -> None:
    assert parse(raw) is None


def test_a_damaged_file_is_kept_and_treated_as_lost(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path, "events", 0)
    file.lock()
    file.store(Ledger("events", "market.events", 0, generation=7))
    file.path.write_bytes(file.path.read_bytes()[:-10])
    ledger, bad = file.load()
    assert ledger is None
    assert bad is not None and bad.exists() and ".bad-" in bad.name
    assert file.load() == (None, None)
    file.unlock()


def test_a_second_writer_is_turned_away_until_the_first_is_gone(tmp_path: Path) -> None:
    first, second = LedgerFile(tmp_path, "events", 0), LedgerFile(tmp_path, "events", 0)
    first.lock()
    with pytest.raises(RetryableError, match="held by pid"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_a_ledger_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path, "events", 0)
    file.lock()
    file.store(Ledger("events", "market.events", 0, generation=1))
    file.path.with_name(file.path.name + TEMPORARY_SUFFIX).mkdir()  # what opening for writing fails on
    with pytest.raises(RetryableError, match="cannot write ledger"):
        file.store(Ledger("events", "market.events", 0, generation=2))
    ledger, _ = file.load()
    assert ledger is not None and ledger.generation == 1
    file.unlock()


def test_others_read_marks_and_positions_without_the_lock(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path, "events", 0)
    file.lock()
    sure = Position("log-1", 10, {"0": Mark(1, 9, 0)})
    doubtful = Position("log-1", 5, {"0": Mark(1, 4, 0)}, rechecks=(Recheck("log-1", 5, 9),))
    old = Position("log-0", 99)
    file.store(Ledger("events", "market.events", 0, table_uuid="u-1", positions={0: sure, 1: doubtful, 2: old}))
    assert sealed_marks(tmp_path, {"events": "u-1"})["events"][0] == {"0": Mark(1, 9, 0)}
    assert sealed_positions(tmp_path, "events", "log-1") == {0: 10}
    assert sealed_positions(tmp_path, "bars", "log-1") == {}
    file.unlock()


@pytest.mark.parametrize("standing", [{"events": "u-2"}, {"bars": "u-1"}, {}])
def test_marks_of_a_table_that_stands_no_more_count_for_nothing(tmp_path: Path, standing: dict[str, str]) -> None:
    file = LedgerFile(tmp_path, "events", 0)
    sure = Position("log-1", 10, {"0": Mark(1, 9, 0)})
    file.lock()
    file.store(Ledger("events", "market.events", 0, table_uuid="u-1", positions={0: sure}))
    assert sealed_marks(tmp_path, standing) == {}
    file.store(Ledger("events", "market.events", 0, positions={0: sure}))  # of no table that storage ever saw
    assert sealed_marks(tmp_path, {"events": ""}) == {}
    file.unlock()
