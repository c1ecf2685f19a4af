"""Rows of the derived topics, written by the kernels column by column into buffers that Arrow takes over.

A topic's buffers are one block per element type, one line per column; `bits` holds validity and booleans. Order of
the lines: the constants below, which outputs.py uses to name them.
"""

# ruff: noqa: PLR1714 - kernels compare one by one, which compiles to less than a search in a tuple

from __future__ import annotations

import math
from typing import NamedTuple

from pipeline_orchestrator.processing.columns import Rows, present, value_or_nil
from pipeline_orchestrator.processing.inner import inner
from pipeline_orchestrator.processing.layout import (
    ASK,
    BID,
    DEPTH,
    GAPPED,
    LEVEL1,
    NIL,
    NIL32,
    NO_SOURCE,
    VALID,
    Array,
    Rules,
    StateArrays,
)
from pipeline_orchestrator.processing.levels import best
from pipeline_orchestrator.processing.measures import flow_imbalance, microprice, mid_price, track_mid, vwap
from pipeline_orchestrator.processing.trust import gap_open1, gap_open2, is_crossed, shown_trust

# Lines common to all topics.
EPOCH, SEQ, OFFSET, TIME, RECV = range(5)  # int64
INSTANCE, IDX, PART, OUT, SID, DATE = range(6)  # int32
HAS_DATE, GAP, HAS_TIME = range(3)  # bits

# Features.
BEST_BID, BEST_BID_SIZE, BEST_ASK, BEST_ASK_SIZE, SPREAD, MID, MICRO, OFI, VWAP, LAST, LAST_SIZE = range(5, 16)
FEATURE_I64 = 16
KIND, STATE, SOURCE, REASON = range(6, 10)
FEATURE_I32 = 10
IMBALANCE, VOLATILITY = range(2)
FEATURE_F64 = 2
HAS_BID, HAS_BID_SIZE, HAS_ASK, HAS_ASK_SIZE, HAS_MID, HAS_MICRO, HAS_OFI, HAS_VWAP, HAS_VOLATILITY = range(3, 12)
HAS_LAST, HAS_REASON = 12, 13
FEATURE_BITS = 14

REASONS = (
    "book_none",
    "book_valid",  # never a reason; keeps code == state
    "book_stale",
    "book_crossed",
    "book_resyncing",
    "no_bid",
    "no_ask",
    "no_quote",
    "no_size",
)
NO_BID, NO_ASK, NO_QUOTE, NO_SIZE = range(5, 9)

# Bars. TIME is the clock that closed it.
OPEN_TIME, OPEN, HIGH, LOW, CLOSE, VOLUME, BAR_VWAP, COUNT, ODD_VOLUME, ODD_COUNT = range(5, 15)
BAR_I64 = 15
INTERVAL, REVISION = range(6, 8)
BAR_I32 = 8
HAS_PRICES, HAS_BAR_VWAP = 3, 4
BAR_BITS = 5

# Books.
BOOK_I64 = 5
BOOK_STATE = 6
BOOK_I32 = 7
BOOK_BITS = 3
BID_PRICE, BID_SIZE, ASK_PRICE, ASK_SIZE = range(4)


class Features(NamedTuple):
    """Buffers of market.features."""

    i64: Array
    i32: Array
    f64: Array
    bits: Array


class Bars(NamedTuple):
    """Buffers of market.bars."""

    i64: Array
    i32: Array
    bits: Array


class Books(NamedTuple):
    """Buffers of market.books; `ends` (two lines: bids, asks) are list offsets into `values` (four lines)."""

    i64: Array
    i32: Array
    bits: Array
    ends: Array
    values: Array


@inner
def _put(bits: Array, line: int, j: int) -> None:
    bits[line, j >> 3] |= 1 << (j & 7)


@inner
def _identity(i64: Array, i32: Array, bits: Array, j: int, rows: Rows, i: int, part: int, sid: int, out: int) -> None:
    i64[EPOCH, j] = rows.epoch[i]
    i64[SEQ, j] = rows.seq[i]
    i64[OFFSET, j] = rows.offset[i]
    i64[RECV, j] = rows.recv[i]
    i32[INSTANCE, j] = rows.instance[i]
    i32[IDX, j] = rows.idx[i]
    i32[PART, j] = part
    i32[OUT, j] = out
    i32[SID, j] = sid
    if present(rows.time.bits, i):
        i64[TIME, j] = rows.time.values[i]
        _put(bits, HAS_TIME, j)
    if present(rows.date.bits, i):
        i32[DATE, j] = rows.date.values[i]
        _put(bits, HAS_DATE, j)


@inner
def put_book(
    to: Books, j: int, rows: Rows, i: int, part: int, st: StateArrays, slot: int, out: int, levels: int
) -> None:
    """One row of market.books: the best `levels` of both sides."""
    row = st.slots[slot]
    _identity(to.i64, to.i32, to.bits, j, rows, i, part, row["sid"], out)
    to.i32[BOOK_STATE, j] = shown_trust(st, slot)
    if gap_open2(st, slot, row["link"]):
        _put(to.bits, GAP, j)
    for side in range(2):
        block = st.sides[2 * slot + side]
        n = min(levels, block["n"])
        end = to.ends[side, j]
        for r in range(n):
            at = block["off"] + block["n"] - 1 - r
            to.values[2 * side, end + r] = st.keys[at] if side == BID else -st.keys[at]
            to.values[2 * side + 1, end + r] = abs(st.sizes[at])
        to.ends[side, j + 1] = end + n
    row["unshown"] = 0


@inner
def put_bar(
    to: Bars, j: int, rows: Rows, i: int, part: int, st: StateArrays, slot: int, k: int, p: int, out: int
) -> None:
    """One row of market.bars, closed by the clock event i."""
    bar = st.bars[p]
    i64, i32 = to.i64, to.i32
    i64[EPOCH, j] = rows.epoch[i]
    i64[SEQ, j] = rows.seq[i]
    i64[OFFSET, j] = rows.offset[i]
    i64[RECV, j] = rows.recv[i]
    i64[TIME, j] = rows.time.values[i]
    i32[INSTANCE, j] = rows.instance[i]
    i32[IDX, j] = rows.idx[i]
    i32[PART, j] = part
    i32[OUT, j] = out
    i32[SID, j] = st.slots[slot]["sid"]
    i32[DATE, j] = bar["date"]
    i32[INTERVAL, j] = k
    i32[REVISION, j] = bar["revision"]
    i64[OPEN_TIME, j] = bar["open_us"]
    i64[OPEN, j] = bar["open"]
    i64[HIGH, j] = bar["high"]
    i64[LOW, j] = bar["low"]
    i64[CLOSE, j] = bar["close"]
    i64[VOLUME, j] = bar["volume"]
    i64[COUNT, j] = bar["count"]
    i64[ODD_VOLUME, j] = bar["odd_volume"]
    i64[ODD_COUNT, j] = bar["odd_count"]
    price = vwap(bar["turnover_hi"], bar["turnover_lo"], bar["volume"])
    i64[BAR_VWAP, j] = price
    if price != NIL:
        _put(to.bits, HAS_BAR_VWAP, j)
    if bar["count"] > 0:
        _put(to.bits, HAS_PRICES, j)
    if bar["date"] != NIL32:
        _put(to.bits, HAS_DATE, j)
    if bar["flags"] & GAPPED != 0:
        _put(to.bits, GAP, j)


@inner
def feature_row(
    to: Features, j: int, rows: Rows, i: int, part: int, st: StateArrays, slot: int, rules: Rules, quiet: bool
) -> None:
    """The state after event i as one row of market.features; the symbol's series move on even where it is quiet."""
    row = st.slots[slot]
    trust = shown_trust(st, slot)
    source = NO_SOURCE
    bid, bid_size, ask, ask_size = NIL, NIL, NIL, NIL
    if trust == VALID or (row["restating"] == 1 and not is_crossed(st, slot)):
        source = DEPTH
        bid, bid_size = best(st, slot, BID)
        ask, ask_size = best(st, slot, ASK)
    elif row["bid"] != NIL or row["ask"] != NIL:
        source = LEVEL1
        bid, bid_size, ask, ask_size = row["bid"], row["bid_size"], row["ask"], row["ask_size"]
    flow = NIL
    if source != row["source"]:
        row["source"] = source
        row["ref_sum"] = NIL
    elif source != NO_SOURCE:
        flow = flow_imbalance(
            row["prev_bid"],
            row["prev_bid_size"],
            row["prev_ask"],
            row["prev_ask_size"],
            bid,
            bid_size,
            ask,
            ask_size,
        )
    row["prev_bid"], row["prev_bid_size"] = bid, bid_size
    row["prev_ask"], row["prev_ask_size"] = ask, ask_size
    track_mid(row, value_or_nil(rows.time, i), bid, ask, rules.decay)
    if quiet:
        return
    i64, i32, bits = to.i64, to.i32, to.bits
    _identity(i64, i32, bits, j, rows, i, part, row["sid"], 0)
    i32[KIND, j] = rows.kind[i]
    i32[STATE, j] = trust
    i32[SOURCE, j] = source
    reason = -1
    i64[BEST_BID, j], i64[BEST_BID_SIZE, j] = bid, bid_size
    i64[BEST_ASK, j], i64[BEST_ASK_SIZE, j] = ask, ask_size
    if bid != NIL:
        _put(bits, HAS_BID, j)
    if bid_size != NIL:
        _put(bits, HAS_BID_SIZE, j)
    if ask != NIL:
        _put(bits, HAS_ASK, j)
    if ask_size != NIL:
        _put(bits, HAS_ASK_SIZE, j)
    if bid != NIL and ask != NIL:
        i64[SPREAD, j] = ask - bid
        i64[MID, j] = mid_price(bid, ask)
        _put(bits, HAS_MID, j)
        micro = NIL
        if bid_size != NIL and ask_size != NIL:
            micro = microprice(bid, bid_size, ask, ask_size)
        if micro != NIL:
            i64[MICRO, j] = micro
            to.f64[IMBALANCE, j] = (bid_size - ask_size) / (bid_size + ask_size)
            _put(bits, HAS_MICRO, j)
        else:
            reason = NO_SIZE
        if row["variance"] >= 0.0:
            to.f64[VOLATILITY, j] = math.sqrt(row["variance"])
            _put(bits, HAS_VOLATILITY, j)
    elif source == NO_SOURCE:
        reason = trust
    elif bid == NIL:
        reason = NO_QUOTE if ask == NIL else NO_BID
    else:
        reason = NO_ASK
    if reason >= 0:
        i32[REASON, j] = reason
        _put(bits, HAS_REASON, j)
    if flow != NIL:
        i64[OFI, j] = flow
        _put(bits, HAS_OFI, j)
    price = vwap(row["turnover_hi"], row["turnover_lo"], row["volume"])
    if price != NIL:
        i64[VWAP, j] = price
        _put(bits, HAS_VWAP, j)
    if row["last_price"] != NIL:
        i64[LAST, j] = row["last_price"]
        i64[LAST_SIZE, j] = row["last_size"]
        _put(bits, HAS_LAST, j)
    if gap_open1(st, slot, row["link"]) or gap_open2(st, slot, row["link"]):
        _put(bits, GAP, j)
