"""Kernels of a scenario's market: acts about a fair price that wanders, by the parameters of a phase.

Books, trades and rows are those of order_flow and order_flow_book; what differs is how acts are drawn. The fair price
of a symbol is a geometric random walk in market time. Orders are placed on their side of it, at least half the spread
away; quotes on the wrong side of it are taken or withdrawn first, so that prices follow it. Acts come at random times
whose mean distance keeps the rate. All follows from the seed and the phases, however the flow is cut into calls.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from infrastructure.simulator import columns as c
from infrastructure.simulator import order_flow as flow
from infrastructure.simulator import order_flow_book as book
from infrastructure.simulator.order_flow import Float64s, Int64s, UInt64s, below, geometric, uniform
from infrastructure.simulator.order_flow_book import N1, N2, N3, NEXT_SECOND, ORDER, STAMP, FlowBook

_COLUMNS = 2
assert _COLUMNS == c.VERSION, "columns.py changed: see its docstring"

# Positions in `params`, the numbers of a phase.
GAP, VOLATILITY, DRIFT, HALF, DEPTH, ORDERS, SIZE, TRADES, PERSISTENCE, BURSTINESS = range(10)
PARAMS: Final = 10
NEXT_ACT: Final = 2  # position in `clock`, behind those of order_flow_book

BURST_US: Final = 5
LEAST_FAIR: Final = 500 * flow.CENT
MOST_ENTRIES: Final = 20  # a side of an equity: there are 32 participants, and every level needs one
_MINUTE_US = 60_000_000.0
_CENT = flow.CENT


@njit(cache=True, error_model="numpy")
def gap_us(rng: UInt64s, lines: int, params: Float64s) -> int:
    """Time to the next act after one of so many lines: exponential, a share of them at once, the mean rate kept."""
    if uniform(rng) < params[BURSTINESS]:
        return BURST_US
    mean = params[GAP] * lines / (1.0 - params[BURSTINESS])
    return int(-math.log(1.0 - uniform(rng)) * mean + 0.5)


@njit(cache=True, error_model="numpy")
def move_fair(rng: UInt64s, fair: Float64s, fair_time: Int64s, s: int, now: int, params: Float64s) -> None:
    """Bring the fair price of a symbol up to `now`."""
    minutes = max(0.0, (now - fair_time[s]) / _MINUTE_US)
    fair_time[s] = now
    normal = math.sqrt(-2.0 * math.log(1.0 - uniform(rng))) * math.cos(2.0 * math.pi * uniform(rng))
    fair[s] *= math.exp(params[DRIFT] * minutes + params[VOLATILITY] * math.sqrt(minutes) * normal)
    fair[s] = max(fair[s], float(LEAST_FAIR))


@njit(cache=True, error_model="numpy")
def touch(fair: float, side: int, params: Float64s) -> int:
    """The price nearest to the fair one at which an order of a side may be placed."""
    half = float(params[HALF])
    if side == c.BID:
        return math.floor((fair - half) / _CENT) * _CENT
    return math.ceil((fair + half) / _CENT) * _CENT


@njit(cache=True, error_model="numpy")
def shares_of(rng: UInt64s, params: Float64s) -> int:
    """Shares of one order: those of order_flow times the phase's factor."""
    return max(1, int(flow.order_size(rng) * params[SIZE] + 0.5))


@njit(cache=True, error_model="numpy")
def lay_book(rng: UInt64s, b: FlowBook, s: int, fair: float, params: Float64s) -> None:
    """A new book about the fair price, without a row: what it was is forgotten."""
    for side in range(2):
        b.taken[s, side] = b.levels[s, side] = 0
        b.queue[s, side, :] = np.arange(book.DEPTH)
        price = touch(fair, side, params)
        for i in range(int(params[DEPTH])):
            book.open_level(b, s, side, i, price)
            for _ in range(max(1, int(params[ORDERS] + 0.5))):
                book.join(b, s, side, i, shares_of(rng, params), below(rng, c.PARTICIPANTS))
            price += -_CENT if side == c.BID else _CENT


@njit(cache=True, error_model="numpy")
def empty_book(
    b: FlowBook, s: int, stamps: Int64s, clock: Int64s, now: int, out2: Int64s, out3: Int64s, at: Int64s
) -> None:
    """Delete every entry and level of a symbol, worst first, by rows: at most 2 * DEPTH * QUEUE entries."""
    at[STAMP] = max(now - 1, stamps[s, 1])
    for side in range(2):
        while b.levels[s, side] > 0:
            last = b.levels[s, side] - 1
            while b.held[s, side, last] > 0:
                book.put_entry(b, out3, at, clock, c.ORDER_DELETE, s, side, last, 0)
                book.leave(b, s, side, last, 0)
            book.tell_level(b, out2, at, clock, s, side, last)
    stamps[s, 1] = at[STAMP]


@njit(cache=True, error_model="numpy")
def put_quote(
    row: Int64s, s: int, b: FlowBook, stamps: Int64s, clock: Int64s, now: int, contents: int, out1: Int64s, at: Int64s
) -> None:
    """The Level 1 row of an act; `contents` names what changed. A trade's own time is the row's."""
    time = max(now, stamps[s, 0] + 1)
    stamps[s, 0] = time
    flow.show_best(row, s, b)
    if contents & c.HAS_BID:
        row[c.BID_TIME] = time
    if contents & c.HAS_ASK:
        row[c.ASK_TIME] = time
    row[c.KIND] = c.TRADE if contents & c.HAS_VOLUME else c.QUOTE
    row[c.TIME], row[c.ORD], row[c.CONTENTS] = time, clock[ORDER], contents
    clock[ORDER] += 1
    out1[at[N1], :] = row
    at[N1] += 1


@njit(cache=True, error_model="numpy")
def trade(
    rng: UInt64s, row: Int64s, b: FlowBook, ticks: Int64s, stamps: Int64s, clock: Int64s, s: int, side: int,
    now: int, shares: int, out2: Int64s, out3: Int64s, at: Int64s,
) -> int:  # fmt: skip
    """A market order takes shares from the best level of `side`; returns the contents bits of its row."""
    price = b.price[s, side, 0]
    shares = min(shares, b.size[s, side, 0])
    book.consume(b, out2, out3, at, clock, s, side, 0, shares)
    kind = uniform(rng)
    basis, center = c.HAS_LAST, below(rng, flow.FORM_T_CENTER)
    if kind < 0.03:
        basis, center = c.HAS_EXTENDED, flow.FORM_T_CENTER
    elif shares < 100 and kind < 0.9:
        basis = c.HAS_OTHER
    time, buyer = max(now, stamps[s, 0] + 1), 1 if side == c.ASK else 2
    return int(flow.record_trade(row, ticks, time, now // c.DAY_US, price, shares, buyer, basis, center))


@njit(cache=True, error_model="numpy")
def place_order(
    rng: UInt64s, b: FlowBook, clock: Int64s, s: int, side: int, fair: float, params: Float64s,
    out2: Int64s, out3: Int64s, at: Int64s,
) -> int:  # fmt: skip
    """A new order on its side of the fair price, never through the other side. Returns its place in the book."""
    more = 1.0 - 1.5 / max(2.0, params[DEPTH])
    away = -_CENT if side == c.BID else _CENT
    price = touch(fair, side, params) + away * geometric(rng, more, 3 * int(params[DEPTH]))
    if b.levels[s, 1 - side] > 0:
        other = b.price[s, 1 - side, 0]
        price = min(price, other - _CENT) if side == c.BID else max(price, other + _CENT)
    price = max(price, _CENT)
    hint = below(rng, c.PARTICIPANTS)
    return int(book.enter(b, out2, out3, at, clock, s, side, price, shares_of(rng, params), hint))


@njit(cache=True, error_model="numpy")
def withdrawal(b: FlowBook, s: int, side: int, params: Float64s) -> float:
    """Chance that an act on a side, if it is no trade, withdraws: a half where the book has the entries it tends to."""
    entries = 0
    for i in range(b.levels[s, side]):
        entries += b.held[s, side, i]
    wanted = params[DEPTH] * params[ORDERS]
    if not b.by_order[s]:
        wanted = min(wanted, float(MOST_ENTRIES))
    return float(min(0.95, max(0.05, 0.5 * entries / wanted)))


@njit(cache=True, error_model="numpy")
def act_on(
    rng: UInt64s, row: Int64s, b: FlowBook, ticks: Int64s, stamps: Int64s, clock: Int64s, s: int, now: int,
    fair: float, signs: Int64s, params: Float64s, out2: Int64s, out3: Int64s, at: Int64s,
) -> tuple[int, int, int]:  # fmt: skip
    """One act on one symbol: (side, best place that changed, contents bits of a trade or 0)."""
    wrong = -1
    if b.levels[s, c.BID] > 0 and b.price[s, c.BID, 0] > fair:
        wrong = c.BID
    elif b.levels[s, c.ASK] > 0 and b.price[s, c.ASK, 0] < fair:
        wrong = c.ASK
    draw = uniform(rng)
    if wrong >= 0:
        side = wrong
        if b.levels[s, side] < 2:
            return side, place_order(rng, b, clock, s, side, fair, params, out2, out3, at), 0
        if draw < 0.5:
            signs[s] = c.BID + c.ASK - side
            shares = b.size[s, side, 0]
            return side, 0, trade(rng, row, b, ticks, stamps, clock, s, side, now, shares, out2, out3, at)
        book.cancel(b, out2, out3, at, clock, s, side, 0, 0, b.size[s, side, 0])
        return side, 0, 0
    if draw < params[TRADES]:
        if uniform(rng) >= params[PERSISTENCE]:
            signs[s] = below(rng, 2)
        side = c.BID + c.ASK - signs[s]  # a buyer takes from the asks
        if b.levels[s, side] >= 2:
            shares = shares_of(rng, params)
            return side, 0, trade(rng, row, b, ticks, stamps, clock, s, side, now, shares, out2, out3, at)
        return side, place_order(rng, b, clock, s, side, fair, params, out2, out3, at), 0
    side = below(rng, 2)
    if b.levels[s, side] > params[DEPTH]:
        place = b.levels[s, side] - 1
        k = below(rng, b.held[s, side, place])
        shares = b.entries[s, side, b.queue[s, side, place], k, book.SHARES]
        book.cancel(b, out2, out3, at, clock, s, side, place, k, shares)
        return side, place, 0
    if b.levels[s, side] > 1 and uniform(rng) < withdrawal(b, s, side, params):
        return side, flow.withdraw(rng, out2, out3, at, s, side, clock, b), 0
    return side, place_order(rng, b, clock, s, side, fair, params, out2, out3, at), 0


@njit(cache=True, error_model="numpy")
def generate_phase(
    rng: UInt64s, alias_keep: Float64s, alias_other: Int64s, state: Int64s, b: FlowBook, fair: Float64s,
    fair_time: Int64s, signs: Int64s, halted: npt.NDArray[np.uint8], stamps: Int64s, ticks: Int64s, clock: Int64s,
    params: Float64s, until: int, out1: Int64s, out2: Int64s, out3: Int64s, at: Int64s,
) -> int:  # fmt: skip
    """Acts up to market time `until` (Eastern wall clock), and the clock rows among and after them.

    Returns the lines (Level 1 and level rows). Stops early where a table is full: then clock[NEXT_ACT] or
    clock[NEXT_SECOND] is still at or before `until`. An act on a halted symbol passes, at the price of one line.
    """
    lines = 0
    while params[GAP] > 0.0 and clock[NEXT_ACT] <= until:
        if (
            at[N1] + 2 > out1.shape[0]
            or at[N2] + flow.ROWS_PER_ACT > out2.shape[0]
            or at[N3] + flow.ENTRY_ROWS_PER_ACT > out3.shape[0]
        ):
            return lines
        now = clock[NEXT_ACT]
        if clock[NEXT_SECOND] <= now:
            flow.put_clock_rows(out1, out2, out3, at, clock, now)
            continue
        column = below(rng, state.shape[0])
        s = column if uniform(rng) < alias_keep[column] else alias_other[column]
        made = 1
        if not halted[s]:
            before = at[N2]
            move_fair(rng, fair, fair_time, s, now, params)
            at[STAMP] = max(now - 1, stamps[s, 1])
            side, place, contents = act_on(
                rng, state[s], b, ticks[s], stamps, clock, s, now, fair[s], signs, params, out2, out3, at
            )
            stamps[s, 1] = at[STAMP]
            made = at[N2] - before
            if place == 0:
                contents |= c.HAS_BID if side == c.BID else c.HAS_ASK
                put_quote(state[s], s, b, stamps, clock, now, contents, out1, at)
                made += 1
            lines += made
        clock[NEXT_ACT] = now + gap_us(rng, made, params)
    flow.put_clock_rows(out1, out2, out3, at, clock, until)
    return lines
