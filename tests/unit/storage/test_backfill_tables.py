"""The questions of the backfill, asked of a real engine over tables as storage fills them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_orchestrator.ingestion.backfill_match import KnownTrade, Point
from pipeline_orchestrator.ingestion.backfill_tables import BackfillTables, Gap
from pipeline_orchestrator.market.events import EVENTS, GAPS
from pipeline_orchestrator.market.gaps import NOWHERE, Place
from pipeline_orchestrator.record import Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.tables import TABLES
from tests.doubles.market_rows import T0, Log, event

SECOND = 1_000_000
HOUR = 3600 * SECOND


async def filled(store: Store, state_dir: Path, topic: str, rows: list[dict[str, Any]]) -> BackfillTables:
    log = Log(topic=topic)
    for row in rows:
        log.append(0, **row)
    sink = ClickHouseSink(ClickHouseTable(store, TABLES[topic]), state_dir=state_dir)
    await sink.open()
    await sink.write(Output(log.batch(await sink.start_positions(log.bounds))))
    await sink.close()
    return BackfillTables(store.config)


def gap_row(seq: int, gap_id: str, symbol: str | None, state: str, **more: Any) -> dict[str, Any]:
    return {
        "src_instance": 0,
        "src_epoch": 1,
        "src_seq": seq,
        "src_idx": 0,
        "src_partition": 0,
        "src_offset": seq,
        "out": 0,
        "gap_id": gap_id,
        "symbol": symbol,
        "port": "level1",
        "cause": "connection_lost",
        "state": state,
        "from_time_us": T0,
        "from_epoch": 1,
        "from_seq": 4,
        "recv_time_us": T0 + seq,
        "revision": {"open": 0, "closed": 1}.get(state, 2),
        **more,
    }


ENDED = {"to_time_us": T0 + 5 * SECOND, "to_epoch": 1, "to_seq": 9}


async def test_closed_gaps_are_the_newest_rows_of_connections_that_are_not_settled(
    store: Store, state_dir: Path
) -> None:
    detail = {"rows": 3, "volume": "whole"}
    tables = await filled(
        store,
        state_dir,
        GAPS,
        [
            gap_row(1, "0:1:1", None, "open"),
            gap_row(2, "0:1:1", "B", "closed", **ENDED),
            gap_row(3, "0:1:1", "A", "closed", **ENDED),
            gap_row(4, "0:1:1", None, "closed", **ENDED),
            gap_row(5, "0:1:1", "A", "filled", **ENDED, detail=json.dumps(detail)),
            gap_row(6, "0:1:6", "A", "open"),
            gap_row(7, "0:1:7", None, "closed", port="level2", from_time_us=None, from_epoch=None, from_seq=None),
            gap_row(8, "0:1:8", "A", "closed", port="none"),
            gap_row(9, "0:1:9", "A", "unresolved", cause="bar_not_revised"),
        ],
    )
    begun, ended = Place(1, 4, T0), Place(1, 9, T0 + 5 * SECOND)

    def expected(symbol: str | None, state: str, seq: int) -> Gap:
        return Gap("0:1:1", symbol, "level1", "connection_lost", state, begun, ended, T0 + seq)

    depth = Gap("0:1:7", None, "level2", "connection_lost", "closed", NOWHERE, NOWHERE, T0 + 7)
    assert tables.closed() == [expected("B", "closed", 2), expected(None, "closed", 4), depth]
    rows = tables.rows_of("0:1:1") or []
    assert {row.symbol: row for row in rows} == {
        "A": expected("A", "filled", 5),
        "B": expected("B", "closed", 2),
        None: expected(None, "closed", 4),
    }
    assert [row.detail for row in rows if row.symbol == "A"] == [detail]
    assert tables.rows_of("0:9:9") == []


async def test_trades_of_a_time_live_inserted_and_from_history(store: Store, state_dir: Path) -> None:
    def trade(seq: int, time_us: int | None, **more: Any) -> dict[str, Any]:
        told = {"tick_id": seq, "total_volume": 100 * seq, "trading_date": 20_000, "price": 5, "size": 100}
        return event(seq, symbol="A", event_time_us=time_us, recv_time_us=T0 + 2 * SECOND, **{**told, **more})

    tables = await filled(
        store,
        state_dir,
        EVENTS,
        [
            trade(1, T0 - 1),
            trade(2, T0),
            trade(3, T0 + SECOND, source="H", port="lookup"),
            trade(4, T0 + 2 * SECOND, kind="correction", correction="I", tick_id=None, total_volume=None),
            trade(5, T0 + 2 * SECOND, kind="correction", correction="X"),
            trade(6, T0 + 2 * SECOND, kind="quote"),
            trade(7, T0 + 2 * SECOND) | {"symbol": "B"},
            trade(8, None, trading_date=None),  # found by its receipt
            trade(9, T0 + 5 * SECOND),
        ],
    )
    found = sorted(tables.trades("A", T0, T0 + 5 * SECOND) or [], key=lambda trade: trade.tick_id or 0)
    assert found == [
        KnownTrade(T0 + 2 * SECOND, None, 5, 100, None, 20_000, False),
        KnownTrade(T0, 2, 5, 100, 200, 20_000, False),
        KnownTrade(T0 + SECOND, 3, 5, 100, 300, 20_000, True),
        KnownTrade(None, 8, 5, 100, 800, None, False),
    ]
    assert tables.trades("none", T0, T0 + HOUR) == []


async def test_the_days_volume_before_and_behind_a_gap(store: Store, state_dir: Path) -> None:
    def told(seq: int, volume: int | None, **more: Any) -> dict[str, Any]:
        values = {"total_volume": volume, "trading_date": 20_000, "event_time_us": T0 + seq, "size": 10, **more}
        return event(seq, symbol="A", **values)

    tables = await filled(
        store,
        state_dir,
        EVENTS,
        [
            told(1, 50, event_time_us=T0 - 2 * HOUR),
            told(2, 100),
            told(3, 120, source="H", port="lookup"),
            told(4, 110, kind="quote"),
            told(5, None),
            told(6, 130, replay_of="0:1:2"),
            told(7, 150, instance=1),
            told(8, 200, kind="quote"),
            told(9, 260),
        ],
    )

    def gap(first: int | None, last: int | None, time_us: int | None = T0) -> Gap:
        return Gap("0:1:5", "A", "level1", "x", "closed", Place(1, first, time_us), Place(1, last, time_us))

    def both(one: Gap) -> list[Point | bool | None]:
        return [tables.volume_at(one, begin=begin) for begin in (True, False)]

    assert both(gap(5, 6)) == [Point(20_000, 110), Point(20_000, 200)]
    assert both(gap(3, 9)) == [Point(20_000, 100), Point(20_000, 250)]  # behind it: without the trade's own size
    assert both(gap(1, 10)) == [None, None]  # told more than an hour away; never told
    assert both(gap(None, None)) == both(gap(5, 6, None)) == [None, None]


@pytest.mark.parametrize("database", ["gone", ""])
async def test_without_an_answer_nothing_is_said(store: Store, database: str) -> None:
    config = store.config.model_copy(update={"database": "not there"} if database else {"port": 1})
    tables = BackfillTables(config)
    place = Place(1, 1, T0)
    gap = Gap("0:1:5", "A", "level1", "x", "closed", place, place)
    assert (tables.closed(), tables.rows_of("x"), tables.trades("A", 0, 1)) == (None, None, None)
    assert tables.volume_at(gap, begin=True) is False
