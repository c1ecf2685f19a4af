"""Compiles every kernel of the simulator, or loads it from numba's cache: at installation and before the first line."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import date, datetime

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import fields, lobster_files, render, two_sided
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.lobster_files import VendorDay
from infrastructure.simulator.lookup_warm import warm_lookup
from infrastructure.simulator.market import Market
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.scenario import WITHDRAWN, Phase, Scenario
from infrastructure.simulator.scenario_market import ScenarioMarket
from infrastructure.simulator.window import Window


def warm() -> None:
    """Run each kernel once on a tiny market, with the argument types of the real calls."""
    warm_lookup()
    generated = GeneratedMarket(("A",), rate=None, seed=1, limit=200, start_us=0)
    table = np.zeros((2, 6), dtype=np.int64)
    lobster_files.parse_numbers(np.frombuffer(b"1.5,1,1,1,1,1\n2,1,1,1,1,1\n", dtype=np.uint8), table, 9)
    ones = np.ones(2, dtype=np.int64)
    book = np.array([[20000, 1, 10000, 1], [20000, 2, 10000, 1]], dtype=np.int64)
    day = VendorDay("A", date(2020, 1, 2), table[:, 0].copy(), ones, ones, ones, ones, book)
    _run(generated)
    _run_scenario()
    _run(ReplayMarket([day], speed=None))
    _run(ReplayMarket([replace(day, order_id=ones)], speed=None, by_order=True))


def _run_scenario() -> None:
    """Each kernel of a scenario: acts, a halt with withdrawn quotes and its end, a correction, midnight."""
    phases = (
        Phase(seconds=0.2, rate=2000.0, trades=0.4, corrections=600.0),
        Phase(seconds=0.2, halt=1, halt_quotes=WITHDRAWN),
        Phase(seconds=0.8, rate=10.0),
    )
    market = ScenarioMarket(Scenario("warm", "", datetime(2024, 1, 2, 23, 59, 59), phases), ("A",))
    while not market.finished:
        market.step(market.utc_us + c.DAY_US)
    market.orders_of(0)


def _run(market: Market) -> None:
    now = time.monotonic_ns()
    window = Window(market, 1)
    market.start(now)
    rows = market.advance(now, True)
    window.cut(rows.level2)
    market.orders_of(0)
    names = market.names
    watch = np.ones(1, dtype=np.uint8)
    out = np.zeros(1 << 17, dtype=np.uint8)
    ends, symbols, sources = (np.zeros(1 << 10, dtype=np.int64) for _ in range(3))
    layout = fields.compiled(tuple(fields.FIELDS))
    for _ in range(2):
        render.render_level1(
            rows.level1,
            0,
            len(rows.level1),
            watch,
            True,
            layout,
            names.text,
            names.lengths,
            out,
            ends,
            symbols,
            sources,
        )
    _, lines, size = render.render_level2(
        rows.level2, 0, len(rows.level2), watch, True, names.text, names.lengths, out, ends, symbols, sources
    )
    price, amount, stamp = (np.zeros((1, 2, 64), dtype=np.int64) for _ in range(3))
    held = np.zeros((1, 2), dtype=np.int64)
    two_sided.render_two_sided(
        rows.level2, 0, len(rows.level2), watch, True, watch, price, amount, stamp, held, names.text,
        names.lengths, out.copy(), ends.copy(), symbols, sources,
    )  # fmt: skip
    two_sided.put_line(out.copy(), 0, 90, names.text, names.lengths, 0, 0, 0, True, watch, price, amount, stamp)
    data = out[:size]
    render.count_kinds(data, ends, 0, lines, 0)
    port = np.frombuffer(b"level2", dtype=np.uint8)
    log = np.zeros(1 << 17, dtype=np.uint8)
    render.render_log(
        data, ends, symbols, sources, 0, lines, 0, 1, 1, port, c.SECOND_US, names.text, names.lengths, log[0:]
    )
