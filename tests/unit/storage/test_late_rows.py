"""Rows stored late and a writer that dies at any step: each once, each counted, none taken for a duplicate."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_orchestrator.errors import NotConnectedError, UncertainError
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import DeadLetter, Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.late_rows import LateRow
from pipeline_orchestrator.storage.ledger import Intent, Ledger, PartRange, Position, adopt
from tests.doubles.crashing_sink import Steps, crashing_sink
from tests.doubles.fake_table import Crash, FakeTable, Fault
from tests.doubles.market_rows import Log, event

POISON = (3, 4, 8)  # seqs, of which even ones stand in partition 0, odd ones in 1


def nowhere(_: list[DeadLetter]) -> None:
    return


def make_log() -> Log:
    log = Log()
    for seq in range(12):
        log.append(seq % 2, **event(seq))
    return log


def late_rows(log: Log) -> list[LateRow]:
    at = [(seq % 2, seq // 2) for seq in POISON]
    return [LateRow(log.batch({p: offset}, {p: offset + 1}).rows, log.log_id, p, offset) for p, offset in at]


async def without_poison(table: FakeTable, state_dir: Path, log: Log) -> None:
    """All is stored but the poison, in two inserts; the cause is mended."""
    table.refuse = set(POISON)
    sink = crashing_sink(table, state_dir, nowhere, Steps())
    await sink.open()
    at = await sink.start_positions(log.bounds)
    for last in ({0: 3, 1: 3}, log.end):
        await sink.write(Output(log.batch(at, last)))
        at = last
    await sink.close()
    table.refuse = set()


async def opened(table: FakeTable, state_dir: Path, log: Log, steps: Steps | None = None) -> ClickHouseSink:
    sink = crashing_sink(table, state_dir, nowhere, steps or Steps())
    await sink.open()
    await sink.start_positions(log.bounds)
    return sink


def test_killed_at_every_step_of_landing_nothing_is_doubled_or_counted_wrong(tmp_path: Path) -> None:
    log = make_log()
    for step in itertools.count():
        state_dir, table, steps = tmp_path / str(step), FakeTable(), Steps()
        with asyncio.Runner() as runner:
            runner.run(without_poison(table, state_dir, log))
            sink = runner.run(opened(table, state_dir, log, steps))
            steps.die_at, died = steps.passed + step, False
            try:
                runner.run(sink.land(late_rows(log)))
            except Crash:
                died = True
            sink._file.unlock()
        with asyncio.Runner() as runner:
            again = runner.run(opened(table, state_dir, log))
            assert [note.event for note in again.notes if note.audit] == [], f"step {step}"
            runner.run(again.land(late_rows(log)))
            assert sorted(row.identity.seq for row in table.rows) == list(range(12)), f"step {step}"
            assert {p: at.rows for p, at in again.positions.items()} == {0: 6, 1: 6}, f"step {step}"
            runner.run(again.close())
        if not died:
            assert step >= 6  # INTEND, INSERT and the count, before and after each
            return


async def test_an_insert_that_lands_behind_its_error_is_counted_by_the_next_call(tmp_path: Path) -> None:
    log, table = make_log(), FakeTable()
    await without_poison(table, tmp_path, log)
    sink = await opened(table, tmp_path, log)
    table.faults = [Fault(1.0, NotConnectedError)]
    assert [type(outcome) for outcome in await sink.land(late_rows(log))] == [NotConnectedError] * 3
    assert sum(at.rows or 0 for at in sink.positions.values()) == 9
    assert await sink.land(late_rows(log)) == [False] * 3
    assert sum(at.rows or 0 for at in sink.positions.values()) == 12
    await sink.close()


async def test_before_the_log_is_read_again_no_late_insert_may_still_run(tmp_path: Path) -> None:
    log, table = make_log(), FakeTable()
    await without_poison(table, tmp_path, log)
    sink = await opened(table, tmp_path, log)
    table.faults = [Fault(0.0, UncertainError)]
    await sink.land(late_rows(log))
    await sink.start_positions(log.bounds)
    assert table.query_ids[-1] in table.dead
    await sink.close()


async def test_many_rows_cost_one_question_each_and_one_insert(tmp_path: Path) -> None:
    log, table = make_log(), FakeTable()
    await without_poison(table, tmp_path, log)
    sink = await opened(table, tmp_path, log)
    table.questions.clear()
    inserts = len(table.query_ids)
    assert await sink.land(late_rows(log)) == [True] * 3
    assert table.questions == ["present_keys", "holding"]
    assert len(table.query_ids) == inserts + 1
    await sink.close()


async def test_nothing_is_landed_by_a_closed_writer_and_closing_waits_for_what_is_landing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, table = make_log(), FakeTable()
    await without_poison(table, tmp_path, log)
    sink = await opened(table, tmp_path, log)
    inserting, go_on, insert = asyncio.Event(), asyncio.Event(), table.insert

    async def slow(*arguments: object) -> None:
        inserting.set()
        await go_on.wait()
        await insert(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(table, "insert", slow)
    landing = asyncio.create_task(sink.land(late_rows(log)))
    await inserting.wait()
    closing = asyncio.create_task(sink.close())
    done, _ = await asyncio.wait([closing], timeout=0.2)
    assert not done
    go_on.set()
    assert await landing == [True] * 3
    await closing
    with pytest.raises(NotConnectedError, match="not open"):
        await sink.land(late_rows(log))
    again = await opened(table, tmp_path, log)
    assert again.positions[0].rows == 6
    await again.close()


def test_a_partition_that_moves_while_rows_land_is_not_counted_any_more() -> None:
    at = Position("log-1", 9, rows=9)
    part = PartRange(1, 4, 4, 1, at, at)
    late = Intent("b", 2, "log-1", "u", (part,))
    other = Ledger("events", EVENTS, 0, 5, "u", {0: replace(at, generation=5), 1: replace(at, generation=5)}, late=late)
    taken = adopt(Ledger("events", EVENTS, 1, 6, "u"), [other], [0, 1])
    assert {partition: position.rows for partition, position in taken.positions.items()} == {0: 9, 1: None}
