"""Figures of a sampled flow, each with its unit and the number of observations; too few give no figure (None).

Quantiles are those of Hyndman and Fan (1996), type 7: linear between order statistics. Nothing here judges: a
generated market and a recorded day are measured by the same formulas, and `compare` says where they differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from infrastructure.simulator.flow_sample import Floats, FlowSample
from infrastructure.simulator.market import Int64s

TICK: Final = 100.0  # one cent in price units
LAGS: Final = (1, 5, 20)
RATIO: Final = 1.25  # figures further apart than this are said to differ
SHARE: Final = 0.05  # shares: absolute
BAND: Final = 1.96  # autocorrelations: standard errors of the difference


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` None = cannot be computed from `n` observations."""

    value: float | None
    n: int
    unit: str


def figures(flow: FlowSample) -> dict[str, Figure]:
    """All figures by name.

    spread: best ask minus best bid at each second, ticks of one cent. depth: shares at the best level, and over the
    best five, mean of both sides, at each second. arrival: microseconds between acts on the depth, an act being a run
    of depth lines stamped at most one microsecond apart; cv is the standard deviation over the mean (1 = Poisson).
    sign_autocorrelation: of the sides of market orders (see `order_signs`). volatility: root mean square of log returns
    of the mid price over a minute, and over a second times sqrt(60), basis points (realized volatility, Andersen and
    Bollerslev 1998). share: of the lines of the symbol; odd_lot_share of its trades.
    """
    bid, ask, best, five = flow.books.T
    quoted = (bid > 0) & (ask > 0)
    spread = (ask - bid)[quoted] / TICK
    arrivals = np.diff(acts(flow.depth_times)).astype(np.float64)
    signs = order_signs(flow.trade_moments, flow.signs)
    sizes = flow.trade_sizes.astype(np.float64)
    trades = sizes.size
    lines = flow.level_sets + flow.level_deletes + flow.quotes + trades
    mid = np.where(quoted, (bid + ask) / 2, np.nan)
    found = {
        "spread_median": quantile(spread, 0.5, "ticks"),
        "spread_p90": quantile(spread, 0.9, "ticks"),
        "depth_best_median": quantile(best[quoted], 0.5, "shares"),
        "depth_five_median": quantile(five[quoted], 0.5, "shares"),
        "arrival_median": quantile(arrivals, 0.5, "us"),
        "arrival_p99": quantile(arrivals, 0.99, "us"),
        "arrival_cv": variation(arrivals),
    }
    for lag in LAGS:
        found[f"sign_autocorrelation_{lag}"] = autocorrelation(signs, lag)
    found |= {
        "trade_size_mean": Figure(float(sizes.mean()) if trades else None, trades, "shares"),
        "trade_size_median": quantile(sizes, 0.5, "shares"),
        "trade_size_p90": quantile(sizes, 0.9, "shares"),
        "trade_size_p99": quantile(sizes, 0.99, "shares"),
        "odd_lot_share": share(int(np.count_nonzero(sizes < 100)), trades),
        "volatility_minute": volatility(mid[::60], 1.0),
        "volatility_second_scaled": volatility(mid, math.sqrt(60.0)),
        "share_level_set": share(flow.level_sets, lines),
        "share_level_delete": share(flow.level_deletes, lines),
        "share_quote": share(flow.quotes, lines),
        "share_trade": share(trades, lines),
        "lines_per_second": Figure(lines / flow.seconds if flow.seconds else None, lines, "1/s"),
    }
    return found


def quantile(values: Floats, q: float, unit: str) -> Figure:
    """Type 7; a tail needs as many observations as lie beyond it once on average: 10 for p90, 100 for p99."""
    enough = values.size >= max(1, round(1 / (1 - q)) if q > 0.5 else 1)
    return Figure(float(np.quantile(values, q)) if enough else None, int(values.size), unit)


def variation(values: Floats) -> Figure:
    """Coefficient of variation, standard deviation with n - 1; needs two values and a mean above 0."""
    usable = values.size >= 2 and values.mean() > 0
    return Figure(float(values.std(ddof=1) / values.mean()) if usable else None, int(values.size), "")


def share(part: int, whole: int) -> Figure:
    """Part of a whole, 0 to 1."""
    return Figure(part / whole if whole else None, whole, "")


def acts(times: Int64s) -> Int64s:
    """Times at which runs of stamps at most one microsecond apart begin: the lines of one act are stamped so."""
    if not times.size:
        return times
    begins: Int64s = times[np.concatenate([[True], np.diff(times) > 1])]
    return begins


def order_signs(moments: Int64s, signs: Int64s) -> Int64s:
    """Signs of market orders: successive trades of one side at one moment are one order's.

    The moment of a recorded execution is its time in the vendor's file, to the nanosecond.
    """
    if not moments.size:
        return signs
    kept: Int64s = signs[np.concatenate([[True], (np.diff(moments) != 0) | (np.diff(signs) != 0)])]
    return kept


def autocorrelation(signs: Int64s, lag: int) -> Figure:
    """Sum of (x[t] - m)(x[t + lag] - m) over the sum of (x[t] - m)^2, m the mean of all (Box and Jenkins 1976, 2.1).

    Needs ten more signs than the lag, and both sides among them. Order signs of markets have long memory (Lillo and
    Farmer 2004); independent ones lie within 1.96 / sqrt(n) of 0 in 95 of 100 cases (Bartlett 1946).
    """
    x = signs.astype(np.float64)
    x = x - x.mean() if x.size else x
    power = float((x * x).sum())
    usable = x.size >= lag + 10 and power > 0
    return Figure(float((x[:-lag] * x[lag:]).sum() / power) if usable else None, int(x.size), "")


def volatility(mid: Floats, scale: float) -> Figure:
    """Root mean square of the log returns of successive prices times `scale`, basis points; at least two returns."""
    known = mid[~np.isnan(mid)]
    returns = np.diff(np.log(known)) if known.size == mid.size else _returns(mid)
    value = math.sqrt(float((returns**2).mean())) * scale * 1e4 if returns.size >= 2 else None
    return Figure(value, int(returns.size), "bp")


def _returns(mid: Floats) -> Floats:
    """Returns between neighbours that both have a price."""
    steps = np.diff(np.log(mid))
    return steps[~np.isnan(steps)]


def compare(name: str, generated: Figure, recorded: Figure) -> tuple[bool | None, str]:
    """Whether two figures differ (None = unknown), and in words. Limits: RATIO, SHARE, BAND of this module."""
    a, b = generated.value, recorded.value
    if a is None or b is None:
        return None, "unknown"
    if name.startswith("sign_autocorrelation"):
        error = BAND * math.sqrt(1 / generated.n + 1 / recorded.n)
        differs = abs(a - b) > error
        return differs, f"differs by {a - b:+.2f}" if differs else "no difference seen"
    if name.startswith("share_") or name.endswith("_share"):
        differs = abs(a - b) > SHARE
        return differs, f"differs by {100 * (a - b):+.0f} points" if differs else "close"
    if b == 0 or a == 0:
        return a != b, "close" if a == b else "differs"
    differs = not 1 / RATIO <= a / b <= RATIO
    times = f"{a / b:.3g}x the recorded" if a > b else f"1/{b / a:.3g} of the recorded"
    return differs, f"differs: {times}" if differs else "close"
