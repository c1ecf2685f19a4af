"""Plain readings of rendered lines and of markets, for property tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import fields, render
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.market import Int64s, Market, Rows

LAYOUT = fields.FULL_IDENTITY_FIELDS
START = int(datetime(2024, 3, 7, 10, 0).timestamp()) * c.SECOND_US


class Line(NamedTuple):
    """A rendered line with the order of its row over both ports."""

    order: int
    port: int  # 1 | 2
    text: str
    src: int


def rendered(market: Market, rows: Rows) -> list[Line]:
    """All rows of a batch as lines, both ports merged in the market's order."""
    names = market.names
    watch = np.ones(len(names.symbols), dtype=np.uint8)
    lines: list[Line] = []
    for port, table in ((1, rows.level1), (2, rows.level2)):
        n = len(table)
        out = np.zeros(700 * (n + 2), dtype=np.uint8)
        ends, symbols, sources = (np.zeros(n, dtype=np.int64) for _ in range(3))
        if port == 1:
            done, count, size = render.render_level1(
                table,
                0,
                n,
                watch,
                True,
                fields.compiled(LAYOUT),
                names.text,
                names.lengths,
                out,
                ends,
                symbols,
                sources,
            )
        else:
            done, count, size = render.render_level2(
                table, 0, n, watch, True, names.text, names.lengths, out, ends, symbols, sources
            )
        assert (done, count) == (n, n)
        texts = bytes(out[:size]).decode().splitlines()
        orders = table[:, c.ORD].tolist()
        lines += [Line(*entry) for entry in zip(orders, [port] * n, texts, sources.tolist(), strict=True)]
    return sorted(lines, key=lambda line: (line.order, line.port))


def flow(market: GeneratedMarket, step_s: float = 0.25, most: int = 200) -> Iterator[Rows]:
    """Batches of a generated market, its clock moved by hand, until it is finished."""
    now = 1_000_000_000
    market.start(now)
    for _ in range(most):
        yield market.advance(now, True)
        if market.finished:
            return
        now += int(step_s * 1e9)


def level1_fields(text: str) -> dict[str, str]:
    return dict(zip(LAYOUT, text.split(",")[1:], strict=False))


class Depth:
    """Books rebuilt from 7, 8 and 9 lines: prices as text, in the order of their values."""

    def __init__(self) -> None:
        self.sides: dict[tuple[str, str], dict[int, int]] = {}

    def take(self, text: str) -> None:
        parts = text.split(",")
        levels = self.sides.setdefault((parts[1], parts[2]), {})
        price = units(parts[3])
        if parts[0] == "9":
            assert price in levels, f"{text} deletes an unknown level"
            del levels[price]
        else:
            levels[price] = int(parts[4])

    def side(self, symbol: str, side: str) -> list[tuple[int, int]]:
        """Levels, best first."""
        return sorted(self.sides.get((symbol, side), {}).items(), reverse=side == "B")

    def best(self, symbol: str, side: str) -> tuple[int, int] | None:
        levels = self.side(symbol, side)
        return levels[0] if levels else None


def units(text: str) -> int:
    """A price as 1e-4 units; it always has four decimals."""
    whole, _, fraction = text.partition(".")
    assert len(fraction) == 4, text
    return int(whole + fraction)


def stamp_of(line: Line) -> tuple[str, str, str] | None:
    """(port, symbol, time of day) by which a line is told apart; None for a clock line."""
    parts = line.text.split(",")
    if parts[0] == "T":
        return None
    if line.port == 2:
        return "level2", parts[1], parts[7] if parts[0] in "78" else parts[4]
    values = level1_fields(line.text)
    traded = set(values["Message Contents"]) & set("CEO")
    newest = max(values["Bid Time"], values["Ask Time"])
    return "level1", values["Symbol"], max(newest, values["Most Recent Trade Time"]) if traded else newest


def books_of(market: Market) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """The market's own books."""
    found = {}
    books = market.books
    for s, symbol in enumerate(market.names.symbols):
        for side, letter in ((c.BID, "B"), (c.ASK, "A")):
            n = int(books.levels[s, side])
            pairs: Iterable[tuple[int, int]] = zip(
                books.price[s, side, :n].tolist(), books.size[s, side, :n].tolist(), strict=True
            )
            found[symbol, letter] = list(pairs)
    return found


def merged(*tables: Int64s) -> Int64s:
    """Tables joined."""
    joined: Int64s = np.concatenate(tables)
    return joined
