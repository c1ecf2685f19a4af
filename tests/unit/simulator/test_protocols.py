"""The simulator as a client program of older protocols: its answers, its fields, its depth."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

import click
import pytest

from infrastructure.simulator.columns import MAKERS, PARTICIPANTS
from infrastructure.simulator.feed import PROTOCOLS, Behaviour
from infrastructure.simulator.fields import FIELDS, of_protocol
from infrastructure.simulator.fundamentals import field_names
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.scenario import WITHDRAWN, Phase, Scenario
from infrastructure.simulator.scenario_market import ScenarioMarket
from infrastructure.simulator.two_sided import LEVELS
from manage.commands.simulate import simulate
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.dialects import DIALECTS
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import PORT
from pipeline_orchestrator.market.fundamentals import parse_fundamental
from tests.unit.ingestion.harness import Running
from tests.unit.simulator.conversation import serving
from tests.unit.simulator.market_reading import books_of

FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures" / "iqfeed"
Sides = dict[tuple[str, str], dict[str, tuple[int, int]]]


def idle() -> GeneratedMarket:
    return GeneratedMarket(("AAPL", "FB"), rate=0, seed=1)


def limited(lines: int = 6_000) -> GeneratedMarket:
    return GeneratedMarket(("AAPL", "FB"), rate=None, seed=1, limit=lines)


def levels_of(lines: list[str]) -> Sides:
    """Books as our own parser reads the lines: (symbol, side) -> participant -> price in 1e-4, size."""
    raw = "".join(line + "\r\n" for line in lines).encode()
    batch, dead = LineParser().parse([Frame(0, PORT["level2"], 1, 0, len(lines), 0, raw)])
    assert not dead
    books: Sides = {}
    for row in batch.to_pylist():
        if row["kind"].startswith("order_"):
            book = books.setdefault((row["symbol"], row["side"]), {})
            if row["kind"] == "order_delete":
                book.pop(row["mmid"], None)
            else:
                book[row["mmid"]] = (row["price"] // 100, row["size"])
    return books


def test_versions_are_those_that_the_pipeline_asks_for() -> None:
    assert tuple(DIALECTS) == PROTOCOLS
    (option,) = [param for param in simulate.params if param.name == "protocol"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == PROTOCOLS


@pytest.mark.parametrize("version", PROTOCOLS)
def test_every_version_offers_what_the_pipeline_selects_of_it(version: str) -> None:
    known = of_protocol(version)
    assert set(DIALECTS[version].choose()) <= set(known)
    assert len(known) == {"6.2": 70, "6.1": 70, "6.0": 68}.get(
        version, 68 + sum(name.endswith("Time") for name in FIELDS)
    )


@pytest.mark.parametrize(
    ("behaviour", "asked", "answered"),
    [
        (Behaviour(), "6.1", "6.1,"),
        (Behaviour(), "5.0", "5.0,"),
        (Behaviour(), "4.9", "6.2,"),
        (Behaviour(newest_protocol="6.0"), "6.2", "6.0,"),
        (Behaviour(newest_protocol="6.0"), "5.2", "5.2,"),
        (Behaviour(answer_protocol="6.0", ack_comma=False), "5.2", "6.0"),
    ],
)
async def test_the_answer_to_a_version(behaviour: Behaviour, asked: str, answered: str) -> None:
    async with serving(idle(), behaviour=behaviour) as server:
        for port in ("level1", "level2"):
            client = await server.connect(port, f"S,SET PROTOCOL,{asked}")
            assert (await client.until("S,CURRENT PROTOCOL"))[-1] == "S,CURRENT PROTOCOL," + answered


async def test_names_of_another_version_are_refused_and_times_of_5_have_milliseconds() -> None:
    async with serving(limited()) as server:
        client = await server.connect("level1", "S,SET PROTOCOL,5.2", "S,SELECT UPDATE FIELDS,Bid,TickID")
        await client.until("S,CURRENT UPDATE FIELDNAMES,Symbol,Bid,TickID")
        await client.say("S,SELECT UPDATE FIELDS,Most Recent Trade Day Code")
        await client.until("E,!SYNTAX_ERROR!")
        await client.say("S,SELECT UPDATE FIELDS,Message Contents,Bid TimeMS,Bid Time", "wAAPL")
        _, symbol, _, fine, coarse, _ = (await client.until("Q,"))[-1].split(",")
        assert symbol == "AAPL" and len(fine) == 12 and fine[8] == "." and coarse == fine[:8]
        await client.say("S,SET PROTOCOL,6.2", "S,SELECT UPDATE FIELDS,Bid TimeMS")
        await client.until("E,!SYNTAX_ERROR!")


async def test_a_summary_of_a_future_holds_the_best_levels_with_both_sides_and_ends_its_group() -> None:
    market = GeneratedMarket(("AAPL", "@ESH26"), rate=0, seed=1)
    async with serving(market) as server:
        client = await server.connect("level2", "S,SET PROTOCOL,6.1", "w@ESH26", "wNOPE")
        lines = [line for line in await client.settled() if line[0] in "Z2n"]
        assert lines.pop() == "n,NOPE,"
        assert [line[:13] for line in lines] == [f"Z,@ESH26,MD{number:02d}" for number in range(1, len(lines) + 1)]
        assert [line[-2] for line in lines] == ["F"] * (len(lines) - 1) + ["T"]
        assert all(line.count(",") == 14 for line in lines)
        books, own = levels_of(lines), books_of(market)
        for letter, side in (("B", "bid"), ("A", "ask")):
            assert sorted(books["@ESH26", side].values()) == sorted(own["@ESH26", letter][:LEVELS])


def by_price(quotes: dict[str, tuple[int, int]], side: str) -> list[tuple[int, int]]:
    """What participants quote, summed by price, best first."""
    sums: Counter[int] = Counter()
    for price, size in quotes.values():
        sums[price] += size
    return sorted(sums.items(), reverse=side == "bid")


async def test_a_summary_of_an_equity_has_a_line_per_participant_with_both_its_sides() -> None:
    market = idle()
    async with serving(market) as server:
        client = await server.connect("level2", "S,SET PROTOCOL,6.1", "wAAPL")
        lines = [line for line in await client.settled() if line[0] in "Z2"]
        named = [line.split(",")[2] for line in lines]
        assert len(named) == len(set(named)) and set(named) <= {name.decode() for name in MAKERS[:PARTICIPANTS]}
        assert [line[-2] for line in lines] == ["F"] * (len(lines) - 1) + ["T"]
        flags = {tuple(line.split(",")[-4:-2]) for line in lines}
        assert ("T", "T") in flags and ("F", "F") not in flags
        books, own = levels_of(lines), books_of(market)
        for letter, side in (("B", "bid"), ("A", "ask")):
            assert by_price(books["AAPL", side], side) == own["AAPL", letter]


async def test_lines_keep_participants_of_equities_and_the_best_levels_of_futures_under_their_numbers() -> None:
    market = GeneratedMarket(("AAPL", "@ESH26", "FB"), rate=None, seed=1, limit=9_000)
    async with serving(market) as server:
        client = await server.connect("level2", "S,SET PROTOCOL,5.2", "wAAPL", "w@ESH26", "wFB")
        await server.happened("flow_finished")
        lines = [line for line in await client.settled() if line[0] in "Z2"]
        books, own = levels_of(lines), books_of(market)
        changes = Counter((line.split(",")[1], line.split(",")[2][:2] == "MD") for line in lines if line[0] == "2")
        assert set(changes) == {("AAPL", False), ("@ESH26", True), ("FB", False)} and min(changes.values()) > 500
        for letter, side in (("B", "bid"), ("A", "ask")):
            for symbol in ("AAPL", "FB"):
                assert by_price(books[symbol, side], side) == own[symbol, letter]
            best = own["@ESH26", letter][:LEVELS]
            assert books["@ESH26", side] == {f"MD{number + 1:02d}": level for number, level in enumerate(best)}
        await client.say("rAAPL", "rFB", "r@ESH26", "WPL,AAPL")
        await client.until("E,!SYNTAX_ERROR!")
        await client.say("mMD01")
        await client.until("M,MD01,Market participant MD01,")
        assert server.simulator.feed.symbols_watched == 0


async def test_participants_of_older_protocols_are_those_of_depth_by_order() -> None:
    market = limited()
    async with serving(market) as server:
        old = await server.connect("level2", "S,SET PROTOCOL,6.1", "wAAPL")
        new = await server.connect("level2", "S,SET PROTOCOL,6.2", "WOR,AAPL")
        await server.happened("flow_finished")
        rows = levels_of([line for line in await new.settled() if line[0] in "456"])
        assert rows == levels_of([line for line in await old.settled() if line[0] in "Z2"])


async def test_what_went_while_the_market_withdrew_its_quotes_is_called_not_valid() -> None:
    phases = (
        Phase(seconds=0.3, rate=2000.0),
        Phase(seconds=1, halt=2, halt_quotes=WITHDRAWN),
        Phase(seconds=0.3, rate=2000.0),
    )
    scenario = Scenario("halt", "", datetime(2024, 1, 2, 10), phases)
    market = ScenarioMarket(scenario, ("AAPL", "@ESH26"), seed=1, speed=None)
    async with serving(market) as server:
        client = await server.connect("level2", "S,SET PROTOCOL,6.1", "wAAPL", "w@ESH26")
        await server.happened("flow_finished")
        books, own = levels_of([line for line in await client.settled() if line[0] in "Z2"]), books_of(market)
        for letter, side in (("B", "bid"), ("A", "ask")):
            assert by_price(books["AAPL", side], side) == own["AAPL", letter]
            assert by_price(books["@ESH26", side], side) == own["@ESH26", letter][:LEVELS]


async def test_known_symbols_without_depth_and_watches_after_a_loss() -> None:
    async with serving(idle(), behaviour=Behaviour(no_depth=frozenset({"FB"}))) as server:
        client = await server.connect("level2", "S,SET PROTOCOL,6.0", "wAAPL", "wFB")
        first = await client.settled()
        assert "q,FB," in first
        server.simulator.feed.set_upstream(False)
        server.simulator.feed.set_upstream(True)
        again = await client.settled()
        assert [line for line in again if line[0] == "Z"] == [line for line in first if line[0] == "Z"]


@pytest.mark.parametrize("version", ["6.1", "6.0", "5.2"])
async def test_ingestion_reads_every_line_of_the_simulator(tmp_path: Path, version: str) -> None:
    market = limited(3_000)
    async with serving(market, hold=2) as server:
        addresses = server.simulator.addresses
        level1, level2 = addresses["level1"][1], addresses["level2"][1]
        async with Running(None, tmp_path, ("AAPL", "FB"), level1_port=level1, port=level2, protocol=version) as it:
            await server.happened("flow_finished")
            sent = server.simulator.sent["lines"]
            await it.sink.until(lambda: _lines(it.sink.rows) >= sent)
            assert it.ctx.cause is None
            assert not it.sink.dead
            trades = it.sink.of("trade")
            assert trades and all(row["event_time_us"] and row["trading_date"] and row["tick_id"] for row in trades)
            assert {row["aggressor"] is None for row in trades} == {version < "6.1"}
            assert len({(row["epoch"], row["seq"], row["idx"]) for row in it.sink.rows}) == len(it.sink.rows)


def _lines(rows: list[dict[str, object]]) -> int:
    return sum(1 for row in rows if row["idx"] == 0 and row["kind"] not in {"subscribed", "gap"} and not _own(row))


def _own(row: dict[str, object]) -> bool:
    raw = row["raw"]
    return isinstance(raw, bytes) and raw.startswith(b"{")


@pytest.mark.parametrize("version", PROTOCOLS)
async def test_fundamentals_stand_where_the_version_has_them(version: str) -> None:
    """The format code, a small number, tells the two forms apart: field 30 since 6.1, field 39 before."""
    async with serving(idle()) as server:
        client = await server.connect("level1", f"S,SET PROTOCOL,{version}")
        await client.say("S,REQUEST FUNDAMENTAL FIELDNAMES", "wAAPL")
        names = (await client.until("S,FUNDAMENTAL FIELDNAMES"))[-1].split(",")[1:]
        fields = (await client.until("F,"))[-1].split(",")
        place = 30 if version >= "6.1" else 39
        assert (names[place], fields[place]) == ("Format Code", "14")
        assert names.count("(Reserved)") == (0 if version >= "6.1" else 9)
        assert len(fields) == len(names) + 1 == 59  # the letter, and behind the last comma
        found = parse_fundamental(",".join(fields), version)
        assert found == parse_fundamental(",".join(fields))  # told apart without the version too
        assert found.unreadable == () and found.values["precision"] == 4
        assert found.values["company_name"] == found.symbol == "AAPL"


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"recorded lines are not at {FIXTURES}")
def test_older_fundamentals_leave_the_places_empty_that_recorded_ones_do() -> None:
    recorded = (FIXTURES / "l1_fundamental_msft_60_61.txt").read_text().splitlines()[1].split(",")
    for place, name in enumerate(field_names("6.0"), 1):
        assert name != "(Reserved)" or recorded[place] == ""
    assert len(recorded) == len(field_names("6.0")) + 2
