"""The backfill of one instance against a Lookup port that tests script and tables that are lists."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.sections import IngestionConfig, IQFeedConfig, Settings
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_facts import Fact, decode_fact
from pipeline_orchestrator.flow.spool_format import FACT_PORT, iter_segment, list_segments
from pipeline_orchestrator.ingestion import backfill as module
from pipeline_orchestrator.ingestion.backfill import Backfill, WaitError
from pipeline_orchestrator.ingestion.backfill_job import Job, in_session, of_all
from pipeline_orchestrator.ingestion.backfill_match import KnownTrade, Point
from pipeline_orchestrator.ingestion.backfill_tables import BackfillTables, Gap
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.history_trade import HISTORY, HistoryTrade, trade_of_fact
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.market.eastern import eastern_to_utc_us, utc_to_eastern_us
from pipeline_orchestrator.market.gaps import NOWHERE, Place
from pipeline_orchestrator.record import Mark
from tests.doubles.context import FakeContext
from tests.doubles.fake_lookup import FakeLookup, LookupPeer

DATE = 19_789  # 2024-03-07
SECOND = 1_000_000
TEN = 1_709_823_600 * SECOND  # 10:00 in New York on that day
CLOCK = TEN + 60 * SECOND
ROWS = b"".join(
    b"{id},LH,2024-03-07 10:00:0%d.000000,10.0000,100,%d,0.0000,0.0000,%d,C,19,01,1,7\r\n" % (at, 1000 + 100 * at, at)
    for at in range(4)
)
TRADES = [
    HistoryTrade("A", DATE, TEN + at * SECOND, 10_000_000, 100, "C", 1000 + 100 * at, 0, 0, at, 19, "01", 1)
    for at in range(4)
]
END = b"{id},!ENDMSG!,\r\n"


def local_us(utc_us: int) -> int:
    return int(utc_to_eastern_us(utc_us))


class Tables(BackfillTables):
    """Gaps, trades and volumes as they stand; `up` = ClickHouse answers."""

    def __init__(self, *gaps: Gap) -> None:
        self.gaps = list(gaps)
        self.known: list[KnownTrade] = []
        self.points: tuple[Point | None, Point | None] = (Point(DATE, 900), Point(DATE, 1300))
        self.up = True

    def closed(self) -> list[Gap] | None:
        return [gap for gap in self.gaps if gap.state == "closed"] if self.up else None

    def rows_of(self, gap_id: str) -> list[Gap] | None:
        return [gap for gap in self.gaps if gap.gap_id == gap_id] if self.up else None

    def trades(self, symbol: str, begin_us: int, end_us: int) -> list[KnownTrade] | None:
        return [each for each in self.known if begin_us <= (each.time_us or 0) < end_us] if self.up else None

    def volume_at(self, gap: Gap, *, begin: bool) -> Point | bool | None:
        return self.points[0 if begin else 1] if self.up else False

    def take(self, facts: list[Fact]) -> None:
        """What was spooled, as the tables show it later."""
        for fact in facts:
            if fact.kind == HISTORY:
                self.known.append(known(trade_of_fact(fact), refilled=True))
            else:
                self.gaps = [
                    Gap(one.gap_id, one.symbol, one.connection, one.cause, fact.detail["phase"], one.begun, one.ended,
                        one.recv_us, fact.detail["detail"])
                    if one.key == (fact.detail["gap_id"], fact.symbol) else one
                    for one in self.gaps
                ]  # fmt: skip


def known(trade: HistoryTrade, *, refilled: bool = False) -> KnownTrade:
    return KnownTrade(
        trade.time_us, trade.tick_id, trade.price, trade.size, trade.total_volume, trade.trading_date, refilled
    )


def gap(
    symbol: str | None = "A", connection: str = "level1", begin: int | None = TEN, end: int | None = TEN + 3 * SECOND
) -> Gap:
    return Gap("0:5:1", symbol, connection, "connection_lost", "closed", Place(5, 0, begin), Place(5, 9, end))


class Stand:
    """A journal on a disk, the part, and what was spooled so far."""

    def __init__(self, directory: Path, tables: Tables, port: int) -> None:
        self.journal = Journal(Spool(directory / "spool", 0, fsync_ms=20))
        self.tables = tables
        self.ctx = FakeContext(directory)
        feed = IQFeedConfig(lookup_port=port, backfill_requests_per_second=50, backfill_trades_per_second=100_000)
        self.settings = Settings(symbols=("A", "B"), iqfeed=feed, ingestion=IngestionConfig())
        self.sealed = True

    def open(self) -> None:
        self.journal.open()
        self.journal.context = ParserContext(clock1=local_us(CLOCK))
        self.part = Backfill(self.settings, 0, self.journal, self._sealed, self.tables)

    async def _sealed(self) -> Mark | None:
        return Mark(1 << 60, 0, 0) if self.sealed else None

    def facts(self) -> list[Fact]:
        """Everything in the spool, oldest first."""
        frames = [each for path in list_segments(self.journal.spool.directory).values() for each in iter_segment(path)]
        return [decode_fact(frame.raw) for frame in frames if frame.port == FACT_PORT]

    def brought(self) -> list[HistoryTrade]:
        return [trade_of_fact(fact) for fact in self.facts() if fact.kind == HISTORY]

    def said(self) -> list[tuple[str | None, str, dict[str, Any]]]:
        return [
            (fact.symbol, fact.detail["phase"], fact.detail["detail"]) for fact in self.facts() if fact.kind == "gap"
        ]

    async def look(self) -> None:
        await self.part.look(self.ctx)


@asynccontextmanager
async def standing(
    directory: Path, tables: Tables, answer: bytes = ROWS + END
) -> AsyncIterator[tuple[Stand, FakeLookup]]:
    async with FakeLookup(on=lambda fields: answer) as lookup:
        stand = Stand(directory, tables, lookup.port)
        stand.open()
        try:
            yield stand, lookup
        finally:
            stand.journal.close()


async def test_what_was_read_is_not_brought_and_the_rest_is(tmp_path: Path) -> None:
    tables = Tables(gap())
    tables.known = [known(TRADES[0]), known(TRADES[2])]
    async with standing(tmp_path, tables) as (stand, lookup):
        await stand.look()
        assert stand.brought() == [TRADES[1], TRADES[3]]
        assert stand.said() == [("A", "filled", {"rows": 2, "volume": "whole"})]
        asked = lookup.requests[0]
        assert asked[:4] == ["HTT", "A", "20240307 095958", "20240307 100006"]
        await stand.look()
        assert len(stand.brought()) == 2 and len(stand.said()) == 1  # the table does not show it yet


async def test_it_goes_on_after_a_kill_and_brings_nothing_twice(tmp_path: Path) -> None:
    tables = Tables(gap())
    async with standing(tmp_path, tables) as (stand, _):
        for trade in TRADES[:2]:  # as a process left them that was killed
            stand.journal.refill(trade, "0:5:1")
        tables.take(stand.facts())
        await stand.look()
        assert stand.brought() == TRADES
        assert stand.said() == [("A", "filled", {"rows": 4, "volume": "whole"})]


async def test_nothing_is_matched_before_the_tables_hold_all_that_was_spooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STORED_SECONDS", 0.0)
    tables = Tables(gap())
    async with standing(tmp_path, tables) as (stand, _):
        stand.sealed = False
        with pytest.raises(WaitError, match="not in ClickHouse yet"):
            await stand.look()
        assert stand.facts() == []
        stand.sealed = True
        await stand.look()
        assert stand.brought() == TRADES


async def test_a_hole_in_the_volume_is_asked_about_again_and_then_unresolved(tmp_path: Path) -> None:
    tables = Tables(gap())
    tables.points = (Point(DATE, 900), Point(DATE, 1350))
    async with standing(tmp_path, tables) as (stand, lookup):
        for seconds in range(60, 120, 10):
            stand.journal.context = ParserContext(clock1=local_us(TEN + seconds * SECOND))
            await stand.look()
            tables.known = [known(trade, refilled=True) for trade in stand.brought()]
        assert len(lookup.requests) == 3
        assert stand.brought() == TRADES
        ((symbol, state, detail),) = stand.said()
        assert (symbol, state, detail["rows"], detail["volume"]) == ("A", "unresolved", 4, 50)
        assert "missing in history too" in detail["why"]


async def test_volume_that_is_told_nowhere_is_said_to_be_unknown(tmp_path: Path) -> None:
    tables = Tables(gap())
    tables.points = (Point(DATE, 900), None)
    async with standing(tmp_path, tables) as (stand, _):
        await stand.look()
        assert stand.said() == [("A", "filled", {"rows": 4, "volume": "not told"})]


async def test_volume_that_fell_proves_nothing(tmp_path: Path) -> None:
    tables = Tables(gap())
    tables.points = (Point(DATE, 50_000), Point(DATE, 100))
    async with standing(tmp_path, tables, b"{id},E,!NO_DATA!,,\r\n" + END) as (stand, _):
        await stand.look()
        assert stand.said() == [("A", "filled", {"rows": 0, "volume": "not told"})]


async def test_no_trades_at_all_is_an_answer(tmp_path: Path) -> None:
    tables = Tables(gap())
    tables.points = (Point(DATE, 900), Point(DATE, 900))
    async with standing(tmp_path, tables, b"{id},E,!NO_DATA!,,\r\n" + END) as (stand, _):
        await stand.look()
        assert stand.said() == [("A", "filled", {"rows": 0, "volume": "whole"})]


@pytest.mark.parametrize(
    ("row", "answer", "why"),
    [
        (gap(), b"{id},E,Unauthorized user ID.,,\r\n" + END, "history refuses: Unauthorized user ID."),
        (
            gap("A B"),
            END,
            "history cannot be asked: symbol 'A B': 1 to 30 printable characters without blank, comma and"
            " quotation mark",
        ),
        (gap(connection="level2"), END, "history has trades, not the book"),
        (gap(None, "level2"), END, "history has trades, not the book"),
        (gap(begin=None), END, "begin or end of the gap have no time"),
        (gap(begin=TEN - 181 * 86_400 * SECOND), END, "history reaches back 180 days"),
    ],
)
async def test_what_cannot_be_had_is_unresolved_with_the_reason(
    tmp_path: Path, row: Gap, answer: bytes, why: str
) -> None:
    async with standing(tmp_path, Tables(row), answer) as (stand, _):
        await stand.look()
        assert stand.said() == [(row.symbol, "unresolved", {"rows": 0, "why": why})]


async def test_lines_of_history_that_cannot_be_read_leave_a_gap_unresolved(tmp_path: Path) -> None:
    tables = Tables(gap())
    tables.points = (None, None)
    async with standing(tmp_path, tables, ROWS + b"{id},LH,nonsense\r\n" + END) as (stand, _):
        for seconds in range(60, 90, 10):
            stand.journal.context = ParserContext(clock1=local_us(TEN + seconds * SECOND))
            await stand.look()
            tables.known = [known(trade, refilled=True) for trade in stand.brought()]
        ((_, state, detail),) = stand.said()
        assert (state, detail["rows"], detail["why"]) == ("unresolved", 4, "1 lines of history cannot be read")


async def test_without_lookup_or_tables_gaps_stay_closed(tmp_path: Path) -> None:
    tables = Tables(gap())
    async with standing(tmp_path, tables) as (stand, lookup):
        tables.up = False
        with pytest.raises(WaitError, match="ClickHouse"):
            await stand.look()
        tables.up = True
        lookup._server.close()
        await lookup._server.wait_closed()
        for _ in range(5):
            with pytest.raises(WaitError, match="no Lookup port"):
                await stand.look()
        assert stand.facts() == []


async def test_history_that_never_answers_is_given_up_after_three_times(tmp_path: Path) -> None:
    async def silent(_peer: LookupPeer, _fields: list[str]) -> None:
        return

    tables = Tables(gap())
    async with FakeLookup(on=lambda fields: silent) as lookup:
        stand = Stand(tmp_path, tables, lookup.port)
        feed = stand.settings.iqfeed.model_copy(update={"backfill_answer_seconds": 0.05})
        stand.settings = stand.settings.model_copy(update={"iqfeed": feed})
        stand.open()
        try:
            for seconds in (60, 70, 80):
                assert stand.said() == []
                stand.journal.context = ParserContext(clock1=local_us(TEN + seconds * SECOND))
                with pytest.raises(WaitError, match="nothing for"):
                    await stand.look()
            ((symbol, state, detail),) = stand.said()
        finally:
            stand.journal.close()
    assert (symbol, state, detail["rows"]) == ("A", "unresolved", 0)
    assert detail["why"].startswith("history does not answer in time: HTT A")


async def test_a_long_gap_is_asked_about_in_slices(tmp_path: Path) -> None:
    tables = Tables(gap(begin=TEN - 3600 * SECOND))
    tables.points = (Point(DATE, 900), Point(DATE, 1300))
    async with standing(tmp_path, tables) as (stand, lookup):
        for _ in range(3):
            await stand.look()
        asked = [fields[2:4] for fields in lookup.requests]
        assert [begin for begin, _ in asked] == ["20240307 085958", "20240307 092958", "20240307 095958"]
        assert [end for _, end in asked] == ["20240307 092958", "20240307 095958", "20240307 100006"]
        assert stand.brought() == TRADES  # in each answer, and inside of one slice only
        assert stand.said() == [("A", "filled", {"rows": 4, "volume": "whole"})]


async def test_without_the_feeds_clock_nothing_is_judged(tmp_path: Path) -> None:
    tables = Tables(gap(begin=TEN - 181 * 86_400 * SECOND))
    async with standing(tmp_path, tables) as (stand, lookup):
        stand.journal.context = ParserContext()
        await stand.look()
        assert stand.facts() == [] and lookup.requests == []


async def test_a_full_spool_takes_no_trade_and_keeps_its_reserve(tmp_path: Path) -> None:
    tables = Tables(gap())
    async with standing(tmp_path, tables) as (stand, _):
        stand.journal.spool.quota_bytes = stand.journal.spool.used_bytes() + 100
        with pytest.raises(WaitError, match="no room"):
            await stand.look()
        assert stand.facts() == []


async def test_the_row_for_all_follows_its_symbols(tmp_path: Path) -> None:
    tables = Tables(gap(), gap("B"), gap(None))
    async with standing(tmp_path, tables) as (stand, _):
        await stand.look()
        assert [symbol for symbol, _, _ in stand.said()] == ["A", "B"]
        tables.take(stand.facts())
        await stand.look()
        assert stand.said()[2] == (None, "filled", {"rows": 8, "symbols": 2})


async def test_a_gap_of_one_symbol_alone_has_no_row_for_all_to_wait_for(tmp_path: Path) -> None:
    tables = Tables(gap())
    async with standing(tmp_path, tables) as (stand, _):
        await stand.look()
        tables.take(stand.facts())
        await stand.look()
        assert [symbol for symbol, _, _ in stand.said()] == ["A"]
        assert not stand.part._settled  # else the table would be asked about it for ever


async def test_other_instances_symbols_are_left_to_them(tmp_path: Path) -> None:
    tables = Tables(gap("A"), gap("B"), gap(None))
    async with standing(tmp_path, tables) as (stand, _):
        stand.settings = Settings(
            symbols=("A", "B"),
            iqfeed=stand.settings.iqfeed,
            ingestion=IngestionConfig(instances=2, assign=(("B",), ("A",))),
        )
        stand.part = Backfill(stand.settings, 0, stand.journal, stand._sealed, tables)
        await stand.look()
        assert [symbol for symbol, _, _ in stand.said()] == ["B"]


async def test_a_symbol_that_waits_for_the_instance_that_had_it_is_left_until_then(tmp_path: Path) -> None:
    waiting, tables = {"A"}, Tables(gap("A"))
    async with standing(tmp_path, tables) as (stand, _):
        stand.part = Backfill(
            stand.settings, 0, stand.journal, stand._sealed, tables, waits=lambda symbol: symbol in waiting
        )
        await stand.look()
        assert stand.said() == []
        waiting.clear()
        await stand.look()
        assert stand.said()


def test_a_gap_is_asked_about_when_its_time_is_over_and_history_reaches_it() -> None:
    job = Job(gap())
    assert not job.due(TEN + 5 * SECOND) and job.due(TEN + 9 * SECOND)
    old = Job(gap(begin=TEN - 9 * 86_400 * SECOND))
    assert in_session(CLOCK) and not old.due(CLOCK)
    evening = TEN + 8 * 3600 * SECOND
    assert not in_session(evening) and old.due(evening) and not old.too_old(evening)
    saturday = eastern_to_utc_us(local_us(TEN) + 2 * 86_400 * SECOND, TEN)
    assert not in_session(int(saturday))


def test_the_row_for_all_waits_names_and_adds_up() -> None:
    def row(symbol: str | None, state: str, **detail: Any) -> Gap:
        return Gap("0:5:1", symbol, "level1", "x", state, NOWHERE, NOWHERE, 0, detail)

    assert of_all([row(None, "closed"), row("A", "filled"), row("B", "closed")]) is None
    assert of_all([row(None, "closed")]) == ("unresolved", {"rows": 0, "why": "no symbol was heard of behind it"})
    state, detail = of_all([row(None, "closed"), row("A", "filled", rows=3), row("B", "unresolved", rows=1)]) or (
        "",
        {},
    )
    assert state == "unresolved" and json.dumps(detail)
    assert (detail["rows"], detail["unresolved"], detail["why"]) == (4, ["B"], "1 of 2 symbols")
