"""Rows that the server refuses and a writer that dies at any step: each letter once, each neighbour once."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import crc32c
import pyarrow as pa
import pytest

from pipeline_orchestrator.errors import UncertainError
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import Batch, DeadLetter, Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.ledger import Count, Intent, Ledger, PartRange, Position, settle
from pipeline_orchestrator.storage.ledger_file import FORMAT, parse, render
from tests.doubles.crashing_sink import Letters, Steps, crashing_sink
from tests.doubles.fake_table import Crash, FakeTable
from tests.doubles.market_rows import Log, event

ROWS, STEP = 16, 5  # rows of each of two partitions, and of one batch
POISON = {3, 8, 9, 31}
UNDECODABLE = {(0, 6), (1, 12)}  # partition and offset; clock events stand there, of which no row is stored
SHM = Path("/dev/shm")


def make_log() -> Log:
    log = Log()
    for seq in range(2 * ROWS):
        at = seq % 2, seq // 2
        clock = at in UNDECODABLE
        log.append(at[0], **event(seq, kind="clock" if clock else "trade", symbol=None if clock else "AAPL"))
    return log


def cut(log: Log, first: dict[int, int], last: dict[int, int]) -> Batch:
    dead = [
        DeadLetter("undecodable_record", b"?", {"topic": EVENTS, "partition": partition, "offset": offset}, EVENTS)
        for partition, offset in sorted(UNDECODABLE)
        if first[partition] <= offset < last[partition]
    ]
    return replace(log.batch(first, last), dead=tuple(dead))


async def work_off(sink: ClickHouseSink, log: Log) -> None:
    await sink.open()
    at = await sink.start_positions(log.bounds)
    while at != log.end:
        last = {partition: min(first + STEP, log.end[partition]) for partition, first in at.items()}
        batch = cut(log, at, last)
        await sink.write(Output(batch, dead=list(batch.dead)))
        at = last


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """In memory where there is such a place: thousands of ledger writes are made here."""
    directory = Path(tempfile.mkdtemp(dir=SHM if SHM.is_dir() else None))
    yield directory
    shutil.rmtree(directory)


def deaths(log: Log, state_dir: Path, table: FakeTable, letters: Letters, *die_at: int) -> int:
    """One process after another dies at its step; the last one lives. How many did die."""
    died = 0
    for at in (*die_at, None):
        steps = Steps(at)
        take = partial(letters.take, log_id=log.log_id)
        with asyncio.Runner() as runner:
            sink = crashing_sink(table, state_dir, take, steps)
            try:
                runner.run(work_off(sink, log))
            except Crash:
                died += 1
            sink._file.unlock()  # what the kernel does
    return died


def check(log: Log, table: FakeTable, letters: Letters) -> None:
    stored = sorted(row.identity.seq for row in table.rows)
    dead = {(seq % 2, seq // 2) for seq in POISON} | UNDECODABLE
    assert stored == [s for s in range(2 * ROWS) if (s % 2, s // 2) not in dead], f"{len(table.rows)} rows"
    assert sorted(letters.kept) == sorted(dead)


def test_killed_at_every_step_each_letter_and_each_neighbour_is_there_once(state_dir: Path) -> None:
    log = make_log()
    for step in itertools.count():
        table, letters = FakeTable(), Letters()
        table.refuse = set(POISON)
        died = deaths(log, state_dir / str(step), table, letters, step)
        check(log, table, letters)
        if not died:
            assert step > 40  # ledger writes, inserts and letters of seven batches
            return


@pytest.mark.parametrize("second", [0, 1, 2, 3, 5, 8, 13])
def test_killed_again_while_it_recovers(state_dir: Path, second: int) -> None:
    log = make_log()
    for step in range(0, 60, 3):
        table, letters = FakeTable(), Letters()
        table.refuse = set(POISON)
        deaths(log, state_dir / str(step), table, letters, step, second)
        check(log, table, letters)


async def test_a_row_that_is_refused_in_one_round_and_taken_in_the_next_has_no_letter(state_dir: Path) -> None:
    """The cause was mended between two rounds of one write."""
    log, table, letters = Log(), FakeTable(), Letters()
    for seq in range(8):
        log.append(0, **event(seq))
    table.refuse = {2, 5}
    insert = table.insert

    async def mended_after_the_first_letter(rows: pa.RecordBatch, query_id: str, token: str) -> None:
        if len(table.query_ids) == 6 and table.refuse:  # row 2 was given up, its neighbour 3 comes next
            table.refuse = set()
            raise UncertainError("no answer")
        await insert(rows, query_id, token)

    async def keep(refused: list[DeadLetter]) -> None:
        letters.take(refused, log.log_id)

    table.insert = mended_after_the_first_letter  # type: ignore[method-assign]
    sink = ClickHouseSink(table, state_dir=state_dir, on_refused=keep)
    await sink.open()
    await sink.write(Output(log.batch(await sink.start_positions(log.bounds))))
    assert not table.refuse
    assert sorted(row.identity.seq for row in table.rows) == list(range(8))
    assert letters.kept == []
    await sink.close()


def test_an_open_insert_of_an_earlier_version_may_owe_letters() -> None:
    part = PartRange(0, 3, 7, 5, Position("log-1", 3), Position("log-1", 8))
    for owes, positions in ((True, 3), (False, 8)):
        ledger = Ledger("events", EVENTS, 0, open=Intent("b", 1, "log-1", "u", (part,), owes_letters=owes))
        _, _, body = render(ledger).partition(b"\n")
        earlier = body.replace(b'"owes_letters":true,', b"").strip()
        head = json.dumps({"format": FORMAT, "crc32c": f"{crc32c.crc32c(earlier):08x}"}).encode()
        found = parse(head + b"\n" + earlier + b"\n")
        assert found == ledger
        settled, _ = settle(found, {0: Count(5, 5)})
        assert settled.positions[0].next == positions
