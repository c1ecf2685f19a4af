"""Run by test_bounds.py in a process whose kernels are compiled with bounds checking: no reading or writing outside.

Tables, buffers and books are made as tight as the kernels promise to respect, and what comes out is compared with
what roomy ones give.
"""

from __future__ import annotations

import random
from datetime import date, datetime
from pathlib import Path

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import fields, lobster_files, render
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.lobster_files import VendorDay
from infrastructure.simulator.market import NOTHING, Int64s, Market, Rows
from infrastructure.simulator.order_flow_book import ENTRY_ROWS_PER_ACT
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.scenario import WITHDRAWN, Phase, Scenario
from infrastructure.simulator.scenario_market import ScenarioMarket
from infrastructure.simulator.sent_log import SentLog, read_sent_log
from infrastructure.simulator.window import Window


def pieces(market: Market, table: Int64s, port: int, size: int, lines: int, form: int = 1) -> tuple[bytes, list[int]]:
    """A table rendered through a buffer of `size` bytes and `lines` lines; `form` of depth as in render.BY_*."""
    out = np.zeros(size, dtype=np.uint8)
    ends, symbols, sources = (np.zeros(lines, dtype=np.int64) for _ in range(3))
    names = market.names
    watch = np.full(len(names.symbols), form, dtype=np.uint8)
    layout = fields.compiled(tuple(fields.FIELDS))
    text, found, row = b"", [], 0
    while row < len(table):
        if port == 1:
            row, n, used = render.render_level1(
                table, row, len(table), watch, True, layout, names.text, names.lengths, out, ends, symbols, sources
            )
        else:
            row, n, used = render.render_level2(
                table, row, len(table), watch, True, names.text, names.lengths, out, ends, symbols, sources
            )
        assert n, "a buffer of the promised size holds a line"
        render.count_kinds(out[:used], ends, 0, n, 0)
        text += bytes(out[:used])
        found += symbols[:n].tolist()
    return text, found


def check(market: Market, batches: list[Rows], chance: random.Random) -> None:
    widest = len(fields.FIELDS) * render.FIELD_BYTES + render.SYMBOL_BYTES + 8
    for rows in batches:
        for port, table, least, form in (
            (1, rows.level1, widest, 1),
            (2, rows.level2, render.LEVEL2_BYTES, render.BY_LEVEL),
            (2, rows.orders, render.LEVEL2_BYTES, render.BY_ORDER),
        ):
            whole = pieces(market, table, port, (len(table) + 1) * least, len(table) + 1, form)
            assert pieces(market, table, port, least + chance.randrange(300), chance.randrange(1, 9), form) == whole


def by_order(batches: list[Rows]) -> list[list[int]]:
    """The rows by order of all batches, without clocks and without what depends on the wall clock."""
    table = np.concatenate([rows.orders for rows in batches])
    return np.delete(table[table[:, c.KIND] != c.CLOCK], [c.ORD, c.TIME], axis=1).tolist()  # type: ignore[no-any-return]


def resting(market: Market, symbol: int) -> dict[tuple[int, int], int]:
    """(side, price) -> shares of the orders that the market keeps."""
    found: dict[tuple[int, int], int] = {}
    table = market.orders_of(symbol)
    assert table is not None
    for row in table:
        key = int(row[c.SIDE]), int(row[c.PRICE])
        found[key] = found.get(key, 0) + int(row[c.SIZE])
    return found


def generated(chance: random.Random) -> None:
    names = ("A" * 30, "B", "@ESZ26")
    seed = chance.randrange(2**60)
    market, roomy = (
        GeneratedMarket(names, rate=None, seed=seed, limit=6000, start_us=86_399 * c.SECOND_US) for _ in range(2)
    )
    windows = [Window(market, levels) for levels in (1, 5, 11)]
    size = chance.randrange(4, 40)
    market._rows1, market._rows2 = market._rows1[:size].copy(), market._rows2[:size].copy()
    market._rows3 = market._rows3[: ENTRY_ROWS_PER_ACT + chance.randrange(20)].copy()
    market.start(0)
    roomy.start(0)
    batches, whole = [], []
    now = 0
    while not market.finished:
        now += chance.randrange(1, 400_000_000)
        rows = market.advance(now, True)
        for window in windows:
            window.cut(rows.level2)
        batches.append(Rows(rows.level1.copy(), rows.level2.copy(), rows.orders.copy()))
    while not roomy.finished:
        now += chance.randrange(1, 400_000_000)
        whole.append(Rows(NOTHING.level1, NOTHING.level2, roomy.advance(now, True).orders.copy()))
    assert by_order(batches) == by_order(whole)
    check(market, batches, chance)


def scenario(chance: random.Random) -> None:
    phases = (
        Phase(seconds=1, rate=2000, trades=0.4, drift=-3000, depth=chance.randrange(2, 13), orders=10),
        Phase(seconds=0.5, rate=500, halt=2, halt_quotes=WITHDRAWN),
        Phase(seconds=1, rate=2000, spread=200, depth=12, orders=10, volatility=1000, size=0.01),
    )
    start = datetime(2024, 11, 3, 1, 59, 59)
    market = ScenarioMarket(Scenario("", "", start, phases), ("A", "B", "@ESZ26"), seed=chance.randrange(2**60))
    for name, least in (("_rows1", 4), ("_rows2", 30), ("_rows3", 340)):
        setattr(market, name, getattr(market, name)[: least + chance.randrange(40)].copy())
    batches = []
    while not market.finished:
        rows = market.step(market.utc_us + chance.randrange(1, 400_000))
        batches.append(Rows(rows.level1.copy(), rows.level2.copy()))
        market.orders_of(2)
    check(market, batches, chance)


def replayed(chance: random.Random) -> None:
    rows, depth = 400, chance.randrange(1, 11)
    book = np.zeros((rows, 4 * depth), dtype=np.int64)
    for row in book:
        for side, (first, sign, missing) in enumerate(((100, 1, 9_999_999_999), (99, -1, -9_999_999_999))):
            held, apart = chance.randrange(0, depth + 1), chance.randrange(0, 3)
            for k in range(depth):
                row[4 * k + 2 * side] = (first + sign * (k + apart)) * 100 if k < held else missing
                row[4 * k + 2 * side + 1] = chance.randrange(1, 500) if k < held else 0
    time_ns = np.sort(np.array([chance.randrange(10**11) for _ in range(rows)], dtype=np.int64))
    kinds = np.array([chance.randrange(1, 8) for _ in range(rows)], dtype=np.int64)
    orders = np.array([chance.randrange(60) for _ in range(rows)], dtype=np.int64)
    sizes = np.array([chance.randrange(1, 300) for _ in range(rows)], dtype=np.int64)
    sides = np.where(orders % 2, 1, -1)
    prices = np.where(orders % 2, 99 - orders % 14, 100 + orders % 14) * 100  # an order keeps its price, nothing else
    day = VendorDay("X", date(2024, 2, 29), time_ns, kinds, sizes, prices, sides, book, orders)
    market, roomy = (ReplayMarket([day], speed=None, by_order=True) for _ in range(2))
    window = Window(market, 1 + depth // 2)
    market._rows1, market._rows2 = market._rows1[:2].copy(), market._rows2[: 4 * depth].copy()
    batches, whole = [], []
    while not market.finished:
        market._rows3 = market._rows3[: chance.randrange(1, 4)].copy()  # grows to less than twice of what is needed
        batch = market.rest()
        window.cut(batch.level2)
        batches.append(Rows(batch.level1.copy(), batch.level2.copy(), batch.orders.copy()))
    while not roomy.finished:
        whole.append(Rows(NOTHING.level1, NOTHING.level2, roomy.rest().orders.copy()))
    assert by_order(batches) == by_order(whole)
    shown = [
        (side, *book[-1][4 * k + 2 * (side == c.BID) :][:2].tolist()) for k in range(depth) for side in (c.ASK, c.BID)
    ]
    assert resting(market, 0) == {(side, price): size for side, price, size in shown if size}
    check(market, batches, chance)


def numbers(chance: random.Random) -> None:
    for _ in range(2000):
        text = bytes(chance.choice(b"0123456789.,-\r\n x") for _ in range(chance.randrange(1, 60)))
        table = np.zeros((chance.randrange(1, 5), chance.choice((4, 6))), dtype=np.int64)
        lobster_files.parse_numbers(np.frombuffer(text, dtype=np.uint8), table, chance.choice((0, 9)))


def logged(chance: random.Random, path: Path) -> None:
    market = GeneratedMarket(("A" * 30,), rate=0)
    log = SentLog(market.names, path)
    log._buffer = np.zeros(400, dtype=np.uint8)
    texts = ["x" * chance.randrange(0, 900) for _ in range(200)]
    data = np.frombuffer("".join(text + "\r\n" for text in texts).encode(), dtype=np.uint8)
    ends = np.cumsum([len(text) + 2 for text in texts])
    zero = np.zeros(200, dtype=np.int64)
    log.accepted(2**40, np.frombuffer(b"level2", dtype=np.uint8), data, ends, zero, zero, 0, 200, 0, 2**62)
    log.close()
    assert [entry.text for entry in read_sent_log(path)] == texts


def main(directory: Path) -> None:
    chance = random.Random(20240307)
    for _ in range(6):
        generated(chance)
        scenario(chance)
        replayed(chance)
    numbers(chance)
    logged(chance, directory / "sent.tsv")


if __name__ == "__main__":
    import sys

    main(Path(sys.argv[1]))
