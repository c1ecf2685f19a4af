"""The cheap audit: when it runs, and what it says of a table and its ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.audit import hourly
from pipeline_orchestrator.audit.hourly import HourlyAudit
from pipeline_orchestrator.audit.table_station import Held, TableStation
from pipeline_orchestrator.errors import NotConnectedError
from pipeline_orchestrator.market.events import BARS, EVENTS
from pipeline_orchestrator.storage.audit_demand import AuditDemand
from pipeline_orchestrator.storage.ledger import Position, Recheck
from pipeline_orchestrator.storage.tables import TABLES
from pipeline_orchestrator.telemetry.audited import audit_document
from tests.doubles.context import FakeContext


class Sink:
    def __init__(self, topic: str, positions: dict[int, Position]) -> None:
        self.spec, self.positions, self.audits = TABLES[topic], positions, AuditDemand()


class Server:
    """What the store is asked through; `held` by (table, partition)."""

    class config:  # stands for an attribute
        ttl_days = 0

    def __init__(self) -> None:
        self.held: dict[tuple[str, int], Held] = {}
        self.down = False
        self.asked = 0
        self.meanwhile: list[Callable[[], None]] = []

    def table(self, name: str) -> str:
        return name

    async def connect(self) -> None:
        if self.down:
            raise NotConnectedError("down")

    async def release(self) -> None:
        return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()

    async def held(self: TableStation, partition: int, *_: Any) -> Held:
        server.asked += 1
        for happens in server.meanwhile:
            happens()
        server.meanwhile = []
        return server.held[self.spec.table, partition]

    monkeypatch.setattr(TableStation, "held", held)
    return server


def made(server: Server, *sinks: Sink, now: list[float]) -> HourlyAudit:
    return HourlyAudit(server, sinks, now=lambda: now[0])  # type: ignore[arg-type]  # doubles


async def test_rows_missing_and_doubled_against_the_ledger_are_counted(server: Server) -> None:
    server.held = {("events", 0): Held(12, 10), ("events", 1): Held(7, 7)}
    audit = made(server, Sink(EVENTS, {0: Position("l", 20, rows=11), 1: Position("l", 9, rows=7)}), now=[0.0])
    tally = await audit.audit()
    assert (tally.rows, tally.short, tally.surplus, tally.unknown) == (19, 1, 2, 0)


async def test_a_partition_without_a_count_or_under_repair_is_unknown_and_merging_tables_are_left_out(
    server: Server,
) -> None:
    server.held = {("events", 0): Held(5, 5), ("events", 1): Held(3, 3)}
    under_repair = Position("l", 20, rows=11, rechecks=(Recheck("l", 4, 19),))
    events = Sink(EVENTS, {0: Position("l", 20), 1: under_repair})
    tally = await made(server, events, Sink(BARS, {0: Position("l", 20, rows=9)}), now=[0.0]).audit()
    assert (tally.short, tally.unknown) == (0, 2)


async def test_it_runs_at_the_start_each_hour_on_demand_and_soon_again_after_a_failure(
    server: Server, tmp_path: Path
) -> None:
    server.held = {("events", 0): Held(5, 5)}
    now, ctx, sink = [100.0], FakeContext(tmp_path), Sink(EVENTS, {})
    audit = made(server, sink, now=now)
    await audit.look(ctx)
    assert server.asked == 0  # storage has no positions yet
    assert ctx.gauges["audit_pending"] == 1
    sink.positions = {0: Position("l", 5, rows=5)}
    await audit.look(ctx)
    await audit.look(ctx)
    assert server.asked == 1
    sink.audits.demand()
    await audit.look(ctx)
    await audit.look(ctx)
    assert server.asked == 2
    now[0] += hourly.INTERVAL_S
    server.down = True
    await audit.look(ctx)
    server.down = False
    await audit.look(ctx)
    assert server.asked == 2
    now[0] += hourly.RETRY_S
    assert ctx.gauges["audit_pending"] == 1
    await audit.look(ctx)
    assert (server.asked, ctx.gauges["audit_pending"]) == (3, 0)


async def test_what_is_demanded_while_an_audit_runs_is_audited_after_it(server: Server, tmp_path: Path) -> None:
    server.held = {("events", 0): Held(5, 5)}
    sink = Sink(EVENTS, {0: Position("l", 5, rows=5)})
    audit, ctx = made(server, sink, now=[0.0]), FakeContext(tmp_path)
    server.meanwhile = [sink.audits.demand]
    await audit.look(ctx)
    assert (server.asked, sink.audits.required) == (1, True)
    await audit.look(ctx)
    assert (server.asked, sink.audits.required) == (2, False)
    await audit.look(ctx)
    assert server.asked == 2


async def test_a_demand_that_was_not_answered_is_asked_again_soon(server: Server, tmp_path: Path) -> None:
    server.held = {("events", 0): Held(5, 5)}
    sink, now, ctx = Sink(EVENTS, {0: Position("l", 5, rows=5)}), [0.0], FakeContext(tmp_path)
    audit = made(server, sink, now=now)
    await audit.look(ctx)
    sink.audits.demand()
    server.down = True
    await audit.look(ctx)
    server.down = False
    await audit.look(ctx)
    assert (server.asked, sink.audits.required) == (1, True)
    now[0] += hourly.RETRY_S
    await audit.look(ctx)
    assert (server.asked, sink.audits.required) == (2, False)


def test_the_snapshot_tells_result_and_age_of_the_oldest_instance() -> None:
    one = {"audit_at_us{part=audit}": 5_000_000, "audit_rows{part=audit}": 7, "audit_required{part=events}": 1}
    two = {"audit_at_us": 9_000_000, "audit_rows": 3, "audit_missing_rows": 2}
    assert audit_document([{}, {"lag": 3}], 0) is None
    waiting = audit_document([one, {"audit_pending{part=audit}": 1}], 0)
    assert waiting is not None and (waiting["result"], waiting["rows"], waiting["age_s"]) == ("pending", None, None)
    again = audit_document([one | {"audit_pending{part=audit}": 1}], 0)
    assert again is not None and (again["result"], again["pending"]) == ("whole", True)
    document = audit_document([one, {}], 11_000_000_000)
    assert document is not None and (document["result"], document["age_s"], document["rows"]) == ("whole", 6.0, 7)
    document = audit_document([two, one], 11_000_000_000)
    assert document is not None
    assert (document["result"], document["age_s"], document["missing_rows"]) == ("damaged", 6.0, 2)
    assert (audit_document([two | {"audit_missing_rows": 0, "audit_unknown_partitions": 1}], 0) or {})[
        "result"
    ] == "unknown"
