"""LOBSTER pairs as orders: the sums per price against the vendor's windowed book, synthetic orders, the small cases."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from infrastructure.simulator.lobster import ReplayLine, replay_lines
from infrastructure.simulator.lobster_files import LobsterError, load
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.replay_orders import FIRST_REST
from tests.unit.simulator.conversation import serving
from tests.unit.simulator.market_reading import units
from tests.unit.simulator.test_lobster import BOOKS, MESSAGES, MISSING_ASK, book, pair, vendor


class Book:
    """Orders of one symbol, told strictly: nothing unknown may change or go, nothing known may come again."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[str, int, int]] = {}
        self.kinds: Counter[str] = Counter()
        self.newest = ""

    def take(self, text: str) -> None:
        parts = text.split(",")
        order = int(parts[2])
        self.kinds[parts[0]] += 1
        assert (order in self.held) == (parts[0] in "45"), text
        if parts[0] != "6":
            assert parts[-3] > self.newest, text
            self.newest = parts[-3]
        if order >= FIRST_REST:
            assert parts[3] == "SYNT", text
        if parts[0] == "5":
            del self.held[order]
        else:
            self.held[order] = parts[4], units(parts[5]), int(parts[6])

    def numbers(self) -> list[int]:
        """The sums per price as a row of a vendor's file, missing levels left out."""
        sums: dict[str, dict[int, int]] = {"A": {}, "B": {}}
        for side, price, size in self.held.values():
            sums[side][price] = sums[side].get(price, 0) + size
        asks, bids = sorted(sums["A"].items()), sorted(sums["B"].items(), reverse=True)
        found: list[int] = []
        for level in range(max(len(asks), len(bids))):
            for levels in (asks, bids):
                found += levels[level] if level < len(levels) else ()
        return found


def numbers(text: str) -> list[int]:
    """The same of a row of a vendor's file."""
    row = [int(number) for number in text.split(",")]
    kept = [row[at : at + 2] for at in range(0, len(row), 2) if row[at + 1]]
    return [number for level in kept for number in level]


def agree(lines: Iterable[ReplayLine], expected: list[list[int]]) -> Book:
    """Check the sums after every row of the vendor's file; returns the book at the end."""
    orders, row = Book(), 1
    for line in lines:
        while line.src_row > row:
            assert orders.numbers() == expected[row - 1], f"after message {row}"
            row += 1
        if line.port == "level2" and line.raw[:1] in (b"3", b"4", b"5", b"6"):
            orders.take(line.raw.decode())
    for last in range(row, len(expected) + 1):
        assert orders.numbers() == expected[last - 1], f"after message {last}"
    return orders


@vendor
def test_orders_sum_to_the_vendors_book_after_every_message() -> None:
    with gzip.open(BOOKS, "rt") as file:
        expected = [numbers(line) for line in file]
    orders = agree(replay_lines([MESSAGES], depth="orders"), expected)
    assert orders.kinds["3"] > 50_000 and orders.kinds["4"] > 0


@vendor
def test_what_the_file_adds_stands_as_added_and_no_level_ever_holds_more_than_before_or_after() -> None:
    with gzip.open(MESSAGES, "rt") as messages, gzip.open(BOOKS, "rt") as books:
        rows = [line.split(",") for line in messages]
        levels = [levels_of(line) for line in books]
    held, sums = Book(), Counter[tuple[str, int]]()
    replaced, above, row = 0, 0, 1

    def after(row: int) -> bool:
        """Whether the order that this row adds is not in the book as added, though its level is shown."""
        _, kind, order, size, price, direction = rows[row - 1]
        place = ("B" if int(direction) == 1 else "A", int(price))
        shown = kind == "1" and levels[row - 1].get(place, 0) >= int(size)
        return shown and held.held.get(int(order), ("", 0, 0))[2] != int(size)

    for line in replay_lines([MESSAGES], depth="orders"):
        while line.src_row > row:
            replaced += after(row)
            row += 1
        if line.port != "level2" or line.raw[:1] not in (b"3", b"4", b"5", b"6"):
            continue
        order = int(line.raw.split(b",")[2])
        if order in held.held:
            side, price, size = held.held[order]
            sums[side, price] -= size
        held.take(line.raw.decode())
        if order in held.held:
            side, price, size = held.held[order]
            sums[side, price] += size
            if line.src_row > 1:
                most = max(levels[at].get((side, price), 0) for at in (line.src_row - 1, line.src_row - 2))
                above += sums[side, price] > most
    replaced += after(row)
    assert (replaced, above) == (0, 0)


def levels_of(text: str) -> dict[tuple[str, int], int]:
    """(side, price) -> size of a row of a vendor's file."""
    row = [int(number) for number in text.split(",")]
    return {("AB"[at // 2 % 2], row[at]): row[at + 1] for at in range(0, len(row), 2) if row[at + 1] > 0}


@vendor
def test_only_ids_without_an_add_and_rest_orders_are_marked() -> None:
    with gzip.open(MESSAGES, "rt") as file:
        rows = [line.split(",") for line in file]
    added = {int(row[2]) for row in rows if row[1] == "1"}
    seen = {int(row[2]) for row in rows if row[1] in "1234"}
    marked: set[int] = set()
    plain: set[int] = set()
    for line in replay_lines([MESSAGES], depth="orders"):
        if line.port == "level2" and line.raw[:1] in (b"3", b"4", b"6"):
            parts = line.raw.decode().split(",")
            (marked if parts[3] else plain).add(int(parts[2]))
    assert plain <= added
    assert {order for order in marked if order < FIRST_REST} <= seen - added
    assert not marked & plain and any(order < FIRST_REST for order in marked)


SMALL = [
    ("34200,1,11,10,1000000,1", book("1000100", "50", "1000000", "30")),  # 20 of the bid rested before
    ("34201,4,7,15,1000000,1", book("1000100", "50", "1000000", "15")),  # id 7 was never added
    ("34202,2,11,4,1000000,1", book("1000100", "50", "1000000", "11")),
    ("34203,5,0,9,1000050,1", book("1000100", "50", "1000000", "11")),  # hidden: a trade, no order
    ("34204,1,12,3,1000010,1", book("1000100", "50", "1000010", "3")),  # the window moves
    ("34205,3,12,3,1000010,1", book("1000100", "50", "1000000", "9")),  # and comes back: 2 went unseen
    ("34206,3,11,6,1000000,1", book("1000100", "50", "1000000", "3")),
]


def depth_lines(path: Path) -> list[tuple[str, int]]:
    found = []
    for line in replay_lines([path], depth="orders"):
        if line.port == "level2" and line.raw[:1] != b"T":
            text = line.raw.decode().replace(str(FIRST_REST + 1), "R1").replace(str(FIRST_REST + 2), "R2")
            text = text.replace(str(FIRST_REST), "R0")
            parts = text.split(",")
            found.append((",".join([parts[0], *parts[2:5], *(parts[5:7] if parts[0] != "5" else ())]), line.src_row))
    return found


def test_every_depth_line_of_a_small_pair(tmp_path: Path) -> None:
    path = pair(tmp_path, "ABC_2024-03-07", SMALL)
    agree(replay_lines([path], depth="orders"), [numbers(right) for _, right in SMALL])
    lines = depth_lines(path)
    assert set(lines[:4]) == {
        ("6,7,SYNT,B,100.0000,15", 0), ("6,11,,B,100.0000,10", 0),
        ("6,R0,SYNT,A,100.0100,50", 0), ("6,R1,SYNT,B,100.0000,5", 0),
    }  # fmt: skip
    assert lines[4:] == [
        ("5,7,SYNT,B", 2),
        ("4,11,,B,100.0000,6", 3),
        ("3,12,,B,100.0010,3", 5),
        ("5,11,,B", 5),
        ("5,R1,SYNT,B", 5),
        ("5,12,,B", 6),
        ("3,11,,B,100.0000,6", 6),
        ("3,R2,SYNT,B,100.0000,3", 6),
        ("5,11,,B", 7),
    ]


def test_a_file_that_contradicts_itself_ends_in_the_vendors_book_all_the_same(tmp_path: Path) -> None:
    rows = [
        ("34200,1,1,100,1000000,1", book("1000100", "10", "1000000", "20", MISSING_ASK, "999900", "30")),
        ("34201,1,2,50,999900,1", book("1000100", "10", "1000000", "20", MISSING_ASK, "999900", "30")),
        ("34202,3,1,100,1000000,1", book("1000100", "10", "1000000", "25", MISSING_ASK, "999900", "30")),
        ("34203,4,9,5,1000200,-1", book(MISSING_ASK, "1000000", "1", MISSING_ASK, "999900", "30")),
        ("34204,1,2,7,999900,1", book(MISSING_ASK, "1000000", "1", MISSING_ASK, "999900", "2")),
    ]
    path = pair(tmp_path, "ABC_2024-03-07", rows)
    agree(replay_lines([path], depth="orders"), [numbers(right) for _, right in rows])


@pytest.mark.parametrize("second", ["34201,4,11,5,1000010,1", "34201,4,11,5,1000000,-1"])
def test_an_order_at_two_prices_or_sides_is_refused_by_order_only(tmp_path: Path, second: str) -> None:
    rows = [SMALL[0], ("34200.5,7,0,0,-1,-1", SMALL[0][1]), (second, SMALL[1][1])]
    path = pair(tmp_path, "ABC_2024-03-07", rows)
    with pytest.raises(LobsterError, match="ABC 2024-03-07: message 3 has order 11 at another price or side"):
        list(replay_lines([path], depth="orders"))
    assert list(replay_lines([path]))


async def test_a_server_tells_orders_where_the_replay_keeps_them_and_q_where_not(tmp_path: Path) -> None:
    days = [load(pair(tmp_path, "ABC_2024-03-07", SMALL))]
    async with serving(ReplayMarket(days, speed=None, by_order=True), hold=1) as server:
        client = await server.level2("WOR,ABC")
        await server.happened("flow_finished")
        lines = [line for line in await client.settled() if line[0] in "3456"]
        own = [line.raw.decode() for line in replay_lines([tmp_path / "ABC_2024-03-07_message_2.csv"], depth="orders")]
        assert lines == [line for line in own if line[0] in "3456"]
        assert "T,20240307 09:30:02" in client.lines
    async with serving(ReplayMarket(days, speed=None), hold=1) as server:
        client = await server.level2("WOR,ABC")
        await client.until("q,ABC,")
        await server.happened("flow_finished")
        assert "T,20240307 09:30:02" in (await client.settled())
