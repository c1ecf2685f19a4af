"""A topic against its table in a real engine: damage by SQL is named, and the sink's own repair undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from config.sections import Settings
from manage.audit_text import audit_text
from manage.commands.audit import exit_code
from manage.exits import Exit
from pipeline_orchestrator.audit.cut import EVERYTHING, Window, take_cut
from pipeline_orchestrator.audit.findings import Finding, Report
from pipeline_orchestrator.audit.hourly import HourlyAudit
from pipeline_orchestrator.audit.mend import carried_out
from pipeline_orchestrator.audit.run import Audit
from pipeline_orchestrator.audit.table_station import TableStation
from pipeline_orchestrator.audit.topic_audit import TopicAudit
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.repair_orders import RepairOrder, RepairOrders
from pipeline_orchestrator.storage.tables import TABLES
from tests.doubles.market_rows import Log, event

PARTITIONS = 2


def filled(log: Log, seqs: Sequence[int]) -> Log:
    for seq in seqs:
        kind = "clock" if seq % 10 == 9 else "trade"
        log.append(seq % PARTITIONS, **event(seq, kind=kind, symbol=None if kind == "clock" else f"S{seq % 8}"))
    return log


async def sink_of(store: Store, state_dir: Path, log: Log) -> ClickHouseSink:
    """A sink that has stored the log to its end."""
    sink = ClickHouseSink(ClickHouseTable(store, TABLES[EVENTS]), state_dir=state_dir)
    await sink.open()
    await store_on(sink, log)
    return sink


async def store_on(sink: ClickHouseSink, log: Log) -> None:
    await sink.write(Output(log.batch(await sink.start_positions(log.bounds))))


async def audited(store: Store, state_dir: Path, log: Log, window: Window = EVERYTHING) -> TopicAudit:
    audit = TopicAudit(TableStation(store, TABLES[EVENTS]), take_cut(state_dir), window)
    audit.begin(log.bounds)
    await audit.take(log.batch(dict(log.bounds.beginning)))
    await audit.finish(PARTITIONS)
    return audit


def said(audit: TopicAudit) -> list[tuple[str, str]]:
    return [(finding.problem, str(finding.lines)) for finding in audit.findings("events")]


async def remove(store: Store, where: str) -> None:
    await store.command(f"ALTER TABLE {store.table('events')} DELETE WHERE {where} SETTINGS mutations_sync = 2")


async def test_a_whole_table_has_no_finding_and_clock_events_are_not_missed(store: Store, state_dir: Path) -> None:
    log = filled(Log(), range(100))
    sink = await sink_of(store, state_dir, log)
    audit = await audited(store, state_dir, log)
    assert (said(audit), audit.rows_compared, audit.counted) == ([], 90, 10)
    assert (await HourlyAudit(store, [sink]).audit()).rows == 90
    await sink.close()


async def test_what_is_not_sealed_is_in_flight_and_not_missing(store: Store, state_dir: Path) -> None:
    log = filled(Log(), range(50))
    sink = await sink_of(store, state_dir, log)
    audit = await audited(store, state_dir, filled(log, range(50, 70)))
    assert (said(audit), audit.in_flight) == ([], 18)
    await sink.close()


async def test_removed_and_doubled_rows_are_named_and_a_repair_stores_each_missing_row_once(
    store: Store, state_dir: Path
) -> None:
    log = filled(Log(), range(200))
    sink = await sink_of(store, state_dir, log)
    await remove(store, "seq BETWEEN 20 AND 40 OR seq = 101")
    events = store.table("events")
    await store.command(f"INSERT INTO {events} SELECT * REPLACE('x' AS k_log) FROM {events} WHERE seq IN (150, 151)")
    audit = await audited(store, state_dir, log)
    assert said(audit) == [("missing", "0:1:20..40"), ("missing", "0:1:101..101"), ("duplicated", "0:1:150..151")]
    assert (audit.rows_lost, audit.rows_doubled) == (19 + 1, 2)
    tally = await HourlyAudit(store, [sink]).audit()
    assert (tally.short, tally.surplus) == (20, 2)

    for partition, order in audit.orders().items():
        RepairOrders(state_dir, "events").place(partition, order)
    assert (sink.repair_due, carried_out(state_dir, [("events", 0)])) == (True, False)
    await store_on(sink, log)
    assert (sink.repair_due, carried_out(state_dir, [("events", 0), ("events", 1)])) == (False, True)
    assert said(await audited(store, state_dir, log)) == [("duplicated", "0:1:150..151")]
    assert (await HourlyAudit(store, [sink]).audit()).short == 0
    await store_on(sink, filled(log, range(200, 220)))
    await remove(store, "k_log = 'x'")
    assert said(await audited(store, state_dir, log)) == []
    assert await store.query(f"SELECT count(), uniqExact(seq) FROM {events}") == [(198, 198)]
    await sink.close()


async def test_rows_that_came_from_another_log_are_found_by_identity(store: Store, state_dir: Path) -> None:
    sink = await sink_of(store, state_dir, filled(Log(), range(60)))
    again = filled(Log(log_id="log-2"), range(80))
    await store_on(sink, again)
    audit = await audited(store, state_dir, again)
    assert (said(audit), audit.rows_compared) == ([], 72)
    await sink.close()


async def test_a_row_of_another_log_is_stored_again_from_this_one_and_its_neighbours_are_not(
    store: Store, state_dir: Path
) -> None:
    sink = await sink_of(store, state_dir, filled(Log(), range(60)))
    again = filled(Log(log_id="log-2"), range(80))
    await store_on(sink, again)
    await remove(store, "seq BETWEEN 30 AND 33")
    audit = await audited(store, state_dir, again)
    assert said(audit) == [("missing", "0:1:30..33")]
    for partition, order in audit.orders().items():
        RepairOrders(state_dir, "events").place(partition, order)
    starts, middle = await sink.start_positions(again.bounds), {0: 30, 1: 30}
    await sink.write(Output(again.batch(starts, middle)))
    assert not carried_out(state_dir, [("events", 0)])
    await sink.write(Output(again.batch(middle)))  # of which nothing is missing: settled all the same, and on disk
    assert carried_out(state_dir, [("events", 0), ("events", 1)])
    assert said(await audited(store, state_dir, again)) == []
    assert await store.query(f"SELECT count(), uniqExact(seq) FROM {store.table('events')}") == [(72, 72)]
    await sink.close()


async def test_lost_rows_that_the_log_no_longer_has_are_counted_against_the_ledger(
    store: Store, state_dir: Path
) -> None:
    log = filled(Log(), range(100))
    sink = await sink_of(store, state_dir, log)
    await remove(store, "seq < 8")
    audit = TopicAudit(TableStation(store, TABLES[EVENTS]), take_cut(state_dir), EVERYTHING)
    audit.begin(log.bounds)
    await audit.take(log.batch({0: 10, 1: 10}))
    await audit.finish(PARTITIONS)
    assert [(finding.rows, finding.lines) for finding in audit.findings("events")] == [(4, None), (4, None)]
    await sink.close()


async def test_an_order_for_a_partition_of_another_instance_is_not_due_here(store: Store, state_dir: Path) -> None:
    log = filled(Log(), range(40))
    sink = await sink_of(store, state_dir, log)
    await sink.start_positions(Log(partitions={0: log.partitions[0]}).bounds)  # partition 1 has moved away
    assert set(sink.positions) == {0, 1}
    RepairOrders(state_dir, "events").place(1, RepairOrder(log.bounds.log_id, 3))
    of_others = sink.repair_due
    RepairOrders(state_dir, "events").place(0, RepairOrder(log.bounds.log_id, 3))
    assert (of_others, sink.repair_due) == (False, True)
    await sink.close()


async def test_an_order_for_another_log_changes_nothing_and_is_taken_away(store: Store, state_dir: Path) -> None:
    log = filled(Log(), range(40))
    sink = await sink_of(store, state_dir, log)
    before = sink.next_offsets
    RepairOrders(state_dir, "events").place(0, RepairOrder("log-of-yesterday", 3))
    starts = await sink.start_positions(log.bounds)
    assert sink.next_offsets == before and starts[0] == before[0] - 1 and not sink.repair_due
    await sink.close()


async def test_a_partition_of_which_storage_has_no_certain_position_is_not_judged(
    store: Store, state_dir: Path, tmp_path: Path
) -> None:
    log = filled(Log(), range(40))
    sink = await sink_of(store, state_dir, log)
    assert (await audited(store, state_dir, log)).unjudged() == []
    assert (await audited(store, tmp_path / "nothing", log)).unjudged() == [0, 1]
    assert (await audited(store, state_dir, filled(Log(log_id="log-2"), range(40)))).unjudged() == [0, 1]
    RepairOrders(state_dir, "events").place(1, RepairOrder(log.bounds.log_id, 3))
    await sink.start_positions(log.bounds)
    unfinished = await audited(store, state_dir, log)
    assert (said(unfinished), unfinished.unjudged()) == ([], [1])
    await sink.close()


@pytest.mark.parametrize(
    ("unjudged", "damaged", "finished", "expected"),
    [
        ([], False, None, Exit.OK),
        ([], False, True, Exit.OK),
        ([], False, False, Exit.TRY_LATER),
        (["market.events/1"], False, None, Exit.TRY_LATER),
        (["market.events/1"], False, True, Exit.TRY_LATER),
        (["market.events/1"], True, None, Exit.THRESHOLD),
    ],
)
def test_an_audit_succeeds_only_where_all_was_judged_and_the_repair_is_finished(
    unjudged: list[str], damaged: bool, finished: bool | None, expected: Exit
) -> None:
    report = Report(unjudged=unjudged)
    report.add([Finding("clickhouse.events", "missing", "why", rows=3)] if damaged else [])
    before = {"findings": [], "findings_left_out": 0}
    repair = None if finished is None else {"before": before, "partitions": 1, "values": 0, "finished": finished}
    document = {**report.document(), "seconds": 0.1, "repair": repair}
    assert exit_code(document) is expected
    text = audit_text(document, lambda text, _: text)
    assert ("not judged: market.events/1" in text) is bool(unjudged)
    assert ("storage has not finished" in text) is (finished is False)
    assert ("✓ whole" in text) is (not unjudged and not damaged)


async def test_a_replayed_line_of_two_rows_is_no_double_and_one_replayed_twice_is(
    store: Store, state_dir: Path
) -> None:
    log = Log()
    for seq, idx, of in ((5, 0, "0:1:1"), (5, 1, "0:1:1"), (6, 0, "0:1:2"), (7, 0, "0:1:2")):
        log.append(0, **{**event(seq, replay_of=of), "idx": idx})
    sink = await sink_of(store, state_dir, log)
    audit = Audit(Settings(), state_dir, store)
    await audit._replays()
    assert [(str(one.lines), one.cause) for one in audit.report.findings] == [
        ("0:1:2..2", "the line was replayed 2 times")
    ]
    await sink.close()
