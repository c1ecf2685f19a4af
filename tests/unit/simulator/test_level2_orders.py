"""Depth by order on the Level 2 port, against depth by price level of the same flow."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.fields import DEFAULT_FIELDS
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.sent_log import read_sent_log
from tests.unit.simulator.conversation import serving
from tests.unit.simulator.market_reading import START, units

FUTURE, EQUITY = "@ESZ26", "AAPL"
FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures" / "iqfeed"


class Orders:
    """The book of one symbol rebuilt from 3, 4, 5 and 6 lines, as a client keeps it: every one an upsert."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], tuple[str, int, int, str]] = {}  # side, price, size, priority

    def take(self, text: str) -> None:
        parts = text.split(",")
        order, maker, side = parts[2:5]
        key = ("id", order) if order else (side, maker)
        if parts[0] == "5":
            assert self.held.pop(key)[0] == side
        else:
            if parts[0] == "3":
                assert key not in self.held
            if parts[0] == "4" and order:
                assert key in self.held
            self.held[key] = side, units(parts[5]), int(parts[6]), parts[7]

    def levels(self) -> dict[str, dict[int, tuple[int, int]]]:
        """Per side and price: sum of sizes, number of orders."""
        found: dict[str, dict[int, tuple[int, int]]] = {"B": {}, "A": {}}
        for side, price, size, _ in self.held.values():
            shares, count = found[side].get(price, (0, 0))
            found[side][price] = shares + size, count + 1
        return found


def stamp(text: str) -> str:
    return text.split(",")[-3]


async def both_forms(symbol: str, seed: int, log: Path | None = None) -> tuple[list[str], list[str], list[str]]:
    """(by order, by level, Level 1) lines of one symbol, each of a connection of its own, from before the flow on."""
    market = GeneratedMarket((symbol, "MSFT"), rate=None, seed=seed, limit=6000, start_us=START)
    async with serving(market, hold=3, sent_log=log) as server:
        orders = await server.level2(f"WOR,{symbol}")
        levels = await server.level2(f"WPL,{symbol}")
        quotes = await server.level1(f"w{symbol}")
        await server.happened("flow_finished")
        lines = [await client.settled() for client in (orders, levels, quotes)]
    return lines[0], lines[1], lines[2]


@pytest.mark.parametrize("symbol", [FUTURE, EQUITY])
@pytest.mark.parametrize("seed", [1, 77])
async def test_the_book_by_order_equals_the_book_by_level_after_every_message(symbol: str, seed: int) -> None:
    orders, levels, _ = await both_forms(symbol, seed)
    by_order, book = [line for line in orders if line[0] in "345"], Orders()
    for line in (line for line in orders if line[0] == "6"):
        book.take(line)
    depth: dict[str, dict[int, tuple[int, int]]] = {"B": {}, "A": {}}
    stamps = [stamp(line) for line in by_order]
    done = compared = 0
    for line in levels:
        if line[0] not in "789":
            continue
        parts = line.split(",")
        if parts[0] == "9":
            del depth[parts[2]][units(parts[3])]
        else:
            depth[parts[2]][units(parts[3])] = int(parts[4]), int(parts[5])
        if line[0] == "7":
            continue
        upto = bisect_right(stamps, stamp(line))
        for text in by_order[done:upto]:
            book.take(text)
        done = upto
        if done and stamps[done - 1] == stamp(line):
            assert book.levels() == depth, line
            compared += 1
    assert done == len(by_order) and compared > 1000
    kinds = Counter(line[0] for line in orders if line[0] in "3456")
    assert (kinds["3"] > 0) == (symbol == FUTURE) and min(kinds[letter] for letter in "456") > 0


async def test_level_1_shows_the_best_prices_of_the_orders() -> None:
    orders, _, quotes = await both_forms(FUTURE, 5)
    book = Orders()
    for line in orders:
        if line[0] in "3456":
            book.take(line)
    last = level1_fields_of(quotes)
    best = book.levels()
    bid, ask = max(best["B"]), min(best["A"])
    assert (units(last["Bid"]), int(last["Bid Size"])) == (bid, best["B"][bid][0])
    assert (units(last["Ask"]), int(last["Ask Size"])) == (ask, best["A"][ask][0])


def level1_fields_of(lines: list[str]) -> dict[str, str]:
    layout = [line for line in lines if line.startswith("S,CURRENT UPDATE FIELDNAMES")]
    names = layout[-1].split(",")[2:] if layout else DEFAULT_FIELDS
    (*_, last) = [line for line in lines if line[0] == "Q"]
    return dict(zip(names, last.split(",")[1:], strict=False))


async def test_futures_have_ids_and_priorities_equities_have_participants() -> None:
    future, _, _ = await both_forms(FUTURE, 3)
    equity, _, _ = await both_forms(EQUITY, 3)
    rows = [line.split(",") for line in future if line[0] in "346"]
    ids = [int(row[2]) for row in rows]
    assert {row[3] for row in rows} == {""} and min(ids) >= 0 and max(ids) >= 2**63 and max(ids) < 2**64
    book = Orders()
    for line in future:
        if line[0] in "3456":
            book.take(line)
            places = [(side, price, int(rank)) for side, price, _, rank in book.held.values()]
            if line[0] == "6":
                assert len(set(places)) == len(places)
    ranks = sorted({rank for _, _, rank in places})
    assert len(set(places)) == len(places) and ranks[-1] - ranks[0] > len(ranks)
    rows = [line.split(",") for line in equity if line[0] in "3456"]
    assert {row[0] for row in rows} == {"4", "5", "6"} and {row[2] for row in rows} == {""}
    assert {row[7] for row in rows if row[0] != "5"} == {""} and {len(row[3]) for row in rows} == {4}


async def test_every_line_of_a_form_has_a_stamp_of_its_own_and_is_in_the_sent_log(tmp_path: Path) -> None:
    orders, levels, _ = await both_forms(FUTURE, 9, tmp_path / "log")
    for lines in (orders, levels):
        live = [stamp(line) for line in lines if line[0] in "34589"]
        shown = [stamp(line) for line in lines if line[0] in "67"]
        assert live == sorted(set(live)) and shown == sorted(set(shown))
    sent = defaultdict(list)
    for entry in read_sent_log(tmp_path / "log"):
        sent[entry.connection].append(entry.text)
        assert (entry.symbol == FUTURE) == (entry.text[0] in "3456789FPQ")
    assert [text for text in sent[1] if text[0] in "3456"] == [line for line in orders if line[0] in "3456"]


async def test_both_forms_on_one_connection_and_their_ends() -> None:
    async with serving(GeneratedMarket((FUTURE, EQUITY), rate=4000, seed=1)) as server:
        client = await server.level2(f"WOR,{FUTURE}", f"WPL,{FUTURE},2", f"WPL,{EQUITY}")
        for letter in "6734589":
            await client.until(f"{letter},{FUTURE}")
        await client.until(f"8,{EQUITY}")
        await client.say(f"ROR,{FUTURE}", f"RPL,{EQUITY}")
        await client.settled()
        assert {line[:2] for line in await client.until("T,") if line[0] in "3456789"} <= {"8,", "9,"}
        await client.say(f"RPL,{FUTURE}", "ROR,NOTHING")
        await client.settled()
        assert {line[0] for line in await client.until("T,")} == {"T"}
        assert server.simulator.feed.symbols_watched == 0


async def test_clear_depth_on_demand_is_followed_by_the_rows_again() -> None:
    async with serving(GeneratedMarket((FUTURE,), rate=0)) as server:
        client, other = await server.level2(f"WOR,{FUTURE}"), await server.level2()
        before = [line.split(",")[1:9] for line in await client.settled() if line[0] == "6"]
        server.simulator.clear_depth(FUTURE)
        server.simulator.clear_depth("NOTHING")
        lines = await client.settled()
        clears = [line for line in lines if line.startswith("S,CLEAR")]
        assert clears == [f"S,CLEAR DEPTH,{FUTURE},B,", f"S,CLEAR DEPTH,{FUTURE},A,"]
        assert [line.split(",")[1:9] for line in lines[2:] if line[0] == "6"] == before
        server.simulator.clear_depth(FUTURE, "A")
        assert [line for line in await client.settled() if line[0] == "S"] == clears[1:]
        assert not [line for line in await other.settled() if line[0] in "S6"]


async def test_clear_depth_by_the_clock() -> None:
    async with serving(GeneratedMarket((EQUITY,), rate=0), behaviour=Behaviour(clear_depth_seconds=0.01)) as server:
        client = await server.level2(f"WOR,{EQUITY}")
        await client.until(f"S,CLEAR DEPTH,{EQUITY},A,")
        assert (await client.until("6,"))[-1].startswith(f"6,{EQUITY},,")


async def test_after_an_upstream_loss_the_rows_come_again_without_a_clear() -> None:
    async with serving(GeneratedMarket((FUTURE,), rate=0)) as server:
        client = await server.level2(f"WOR,{FUTURE}")
        before = [line.split(",")[1:9] for line in await client.settled() if line[0] == "6"]
        server.simulator.feed.set_upstream(False)
        server.simulator.feed.set_upstream(True)
        lines = await client.settled()
        assert [line.split(",")[1:9] for line in lines if line[0] == "6"] == before
        assert not [line for line in lines if "CLEAR" in line]


async def test_a_silenced_symbol_speaks_again_when_it_is_watched_anew() -> None:
    async with serving(GeneratedMarket((FUTURE, EQUITY), rate=4000, seed=2)) as server:
        client = await server.level2(f"WOR,{FUTURE}", f"WOR,{EQUITY}")
        await client.until(f"4,{FUTURE}")
        server.simulator.silence_depth(FUTURE)
        await client.settled()
        assert not [line for line in await client.until("T,") if FUTURE in line]
        await client.say(f"WOR,{FUTURE}")
        await client.until(f"6,{FUTURE}")
        await client.until(f"4,{FUTURE}")


async def test_old_watches_give_participants_of_an_equity_and_levels_of_a_future() -> None:
    async with serving(GeneratedMarket((FUTURE, EQUITY), rate=0)) as server:
        client = await server.level2(f"w{FUTURE}", f"w{EQUITY.lower()}", "wNOTHING")
        lines = await client.settled()
        assert {line.split(",")[0] for line in lines if FUTURE in line} == {"7"}
        assert {line.split(",")[0] for line in lines if EQUITY in line} == {"6"} and "n,NOTHING," in lines
        await client.say(f"r{FUTURE}", f"r{EQUITY}")
        await client.settled()
        assert server.simulator.feed.symbols_watched == 0


async def test_deletes_of_participants_may_come_without_a_time() -> None:
    market = GeneratedMarket((EQUITY, FUTURE), rate=None, seed=1, limit=4000)
    async with serving(market, hold=1, behaviour=Behaviour(empty_delete_time=True)) as server:
        client = await server.level2(f"WOR,{EQUITY}", f"WOR,{FUTURE}")
        await server.happened("flow_finished")
        lines = [line.split(",") for line in await client.settled() if line[0] == "5"]
        assert {row[5] == "" for row in lines if row[1] == EQUITY} == {True}
        assert {row[5] == "" for row in lines if row[1] == FUTURE} == {False}
        assert all(len(row[6]) == 10 for row in lines)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"recorded lines are not at {FIXTURES}")
async def test_lines_by_order_have_as_many_fields_as_recorded_ones() -> None:
    samples = (FIXTURES / "l2_62_samples.txt").read_bytes().split(b"\r\n")
    fields = {line[:1].decode(): line.count(b",") for line in samples if line[:1] in (b"3", b"4", b"5", b"6")}
    orders, _, _ = await both_forms(FUTURE, 4)
    for letter, commas in fields.items():
        assert {line.count(",") for line in orders if line[0] == letter} == {commas}
