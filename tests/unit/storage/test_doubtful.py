"""Long doubtful ranges are looked up batch by batch: nothing doubled, and memory bounded by a batch."""

from __future__ import annotations

from pathlib import Path

from pipeline_orchestrator.audit.cut import take_cut
from pipeline_orchestrator.record import DeadLetter, Mark, Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.late_rows import LateRow
from pipeline_orchestrator.storage.ledger_file import sealed_positions
from pipeline_orchestrator.storage.repair_orders import RepairOrder, RepairOrders
from tests.doubles.fake_table import FakeTable
from tests.doubles.market_rows import Log, event

ROWS, STEP = 900, 50


def log_of(rows: int, log_id: str) -> Log:
    log = Log(log_id=log_id)
    for seq in range(rows):
        log.append(0, **event(seq, instance=seq % 2))
    return log


async def forget(_: list[DeadLetter]) -> None:
    return


async def work_off(sink: ClickHouseSink, log: Log) -> None:
    at = await sink.start_positions(log.bounds)
    while at[0] < log.end[0]:
        last = {0: min(at[0] + STEP, log.end[0])}
        await sink.write(Output(log.batch(at, last)))
        at = last


async def test_a_repair_after_a_change_of_log_holds_no_more_than_a_batch(tmp_path: Path) -> None:
    table = FakeTable()
    sink = ClickHouseSink(table, state_dir=tmp_path)
    await sink.open()
    await work_off(sink, log_of(ROWS, "log-1"))
    again = log_of(ROWS + 60, "log-2")
    await work_off(sink, again)
    table.rows = [row for row in table.rows if row.identity.seq not in (10, 11, ROWS + 20)]
    lowest = {"0": Mark(1, 10, 0), "1": Mark(1, 11, 0)}
    RepairOrders(tmp_path, "events").place(0, RepairOrder("log-2", 10, lowest))
    await work_off(sink, again)
    assert sorted(row.identity.seq for row in table.rows) == list(range(ROWS + 60))
    assert 0 < table.largest_answer <= STEP
    assert not sink.positions[0].rechecks
    await sink.close()


async def test_a_writer_that_is_gone_holds_up_neither_late_rows_nor_the_audit_and_is_known_if_it_returns(
    tmp_path: Path,
) -> None:
    table = FakeTable()
    sink = ClickHouseSink(table, state_dir=tmp_path)
    await sink.open()
    await work_off(sink, log_of(100, "log-1"))
    await sink.close()
    (tmp_path / "ledger" / "events-0.json").unlink()

    again = Log(log_id="log-2")  # only instance 0 sends what it kept, and one row of it is refused
    for seq in range(0, 120, 2):
        again.append(0, **event(seq))
    table.refuse = {104}
    sink = ClickHouseSink(table, state_dir=tmp_path, on_refused=forget)
    await sink.open()
    await work_off(sink, again)
    assert sealed_positions(tmp_path, "events", "log-2") == {0: 60}
    assert take_cut(tmp_path).certain("events", 0, "log-2")
    table.refuse = set()
    late = [LateRow(again.batch({0: 52}, {0: 53}).rows, "log-2", 0, 52)]
    assert [await sink.land(late), await sink.land(late)] == [[True], [False]]

    for seq in range(1, 130, 2):  # instance 1 is there again
        again.append(0, **event(seq, instance=1))
    await work_off(sink, again)
    assert sorted(row.identity.seq for row in table.rows) == [*range(120), 121, 123, 125, 127, 129]
    assert not sink.positions[0].rechecks
    await sink.close()


async def test_rechecks_of_which_the_table_holds_nothing_end_at_a_start(tmp_path: Path) -> None:
    table = FakeTable()
    sink = ClickHouseSink(table, state_dir=tmp_path)
    await sink.open()
    await work_off(sink, log_of(100, "log-1"))
    await sink.close()
    (tmp_path / "ledger" / "events-0.json").unlink()
    other = Log(log_id="log-2", partitions={0: []})
    sink = ClickHouseSink(table, state_dir=tmp_path)
    await sink.open()
    await sink.start_positions(other.bounds)
    assert [recheck.log_id for recheck in sink.positions[0].rechecks] == ["log-1"]
    table.rows.clear()  # as TTL or a person removes them
    await sink.start_positions(other.bounds)
    assert not sink.positions[0].rechecks
    await sink.close()


async def test_a_repair_within_one_log_holds_no_more_than_a_batch(tmp_path: Path) -> None:
    table, log = FakeTable(), log_of(ROWS, "log-1")
    sink = ClickHouseSink(table, state_dir=tmp_path)
    await sink.open()
    await work_off(sink, log)
    table.rows = [row for row in table.rows if row.offset not in (3, 700)]
    RepairOrders(tmp_path, "events").place(0, RepairOrder("log-1", 3))
    await work_off(sink, log)
    assert sorted(row.offset for row in table.rows) == list(range(ROWS))
    assert 0 < table.largest_answer <= STEP
    assert (sink.positions[0].rechecks, sink.positions[0].rows) == ((), ROWS)
    await sink.close()
