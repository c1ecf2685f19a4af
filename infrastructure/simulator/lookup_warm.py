"""Compiles the kernels behind the Lookup port, or loads them from numba's cache."""

from __future__ import annotations

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import history_bars, render
from infrastructure.simulator.history_market import MarketHistory
from infrastructure.simulator.lookup_rows import render_days, render_intervals, render_ticks


def warm_lookup() -> None:
    """Run each kernel once, with the argument types of the real calls."""
    level1 = np.zeros((1, c.LEVEL1_COLUMNS), dtype=np.int64)
    level1[0, [c.KIND, c.CONTENTS, c.DAY_CODE]] = c.TRADE, c.HAS_LAST, 1
    history = MarketHistory(1, 1 << 12)
    history.take(level1)
    trades = history.trades.of(0)
    bars = history_bars.interval_bars(trades, history_bars.SECONDS, 1)
    prefix = np.frombuffer(b"LH,", dtype=np.uint8)
    out, ends = np.zeros(1 << 12, dtype=np.uint8), np.zeros(8, dtype=np.int64)
    texts, lengths = render.byte_rows(c.CONDITIONS)
    render_ticks(np.ascontiguousarray(trades.T), 0, 1, prefix, 6, True, False, texts, lengths, out, ends)
    render_intervals(np.ascontiguousarray(bars), 0, 1, prefix, True, False, out, ends)
    render_days(np.ascontiguousarray(history.days.of(0)), 0, 1, prefix, -1, out, ends)
