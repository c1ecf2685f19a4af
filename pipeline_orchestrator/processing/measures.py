"""The formulas of the features, as kernels. Prices are integers in 1e-6 units; rounding is half to even throughout.

Sources. Order-flow imbalance: Cont, Kukanov, Stoikov, "The price impact of order book events", Journal of Financial
Econometrics 12 (2014), equation for e_n. Microprice: the size-weighted mid, as in Gatheral and Oomen,
"Zero-intelligence realized variance estimation", Finance and Stochastics 14 (2010). Volatility: exponentially weighted
squared returns as in RiskMetrics (J.P. Morgan, 1996), for unevenly spaced times as in Eckner, "Algorithms for unevenly
spaced time series: moving averages and other rolling operators" (2012).
"""

# ruff: noqa: PLR1714 - kernels compare one by one, which compiles to less than a search in a tuple

from __future__ import annotations

import math
from typing import Any

from numba import njit

from pipeline_orchestrator.processing.layout import NIL

LOW_BITS = 20
LOW_MASK = (1 << LOW_BITS) - 1


@njit(error_model="numpy", forceinline=True)
def divide_even(a: int, b: int) -> int:
    """A / b rounded half to even, b > 0; a may be negative. Exact while |a| < 2**62 and b < 2**62."""
    q = a // b
    r = a - q * b
    if r > b - r or (r == b - r and (q & 1) == 1):
        q += 1
    return q


@njit(error_model="numpy", forceinline=True)
def mid_price(bid: int, ask: int) -> int:
    """(bid + ask) / 2, half to even."""
    return divide_even(bid + ask, 2)


@njit(error_model="numpy", forceinline=True)
def microprice(bid: int, bid_size: int, ask: int, ask_size: int) -> int:
    """(bid * ask_size + ask * bid_size) / (bid_size + ask_size), half to even; NIL without any size.

    Computed as bid + (ask - bid) * bid_size / total, split so that nothing overflows while sizes stay below 3e9.
    """
    total = bid_size + ask_size
    if total <= 0:
        return NIL
    spread = ask - bid
    q = spread // total
    r = spread - q * total
    scaled = r * bid_size
    whole = scaled // total
    rest = scaled - whole * total
    value = bid + q * bid_size + whole
    if rest > total - rest or (rest == total - rest and (value & 1) == 1):
        value += 1
    return value


@njit(error_model="numpy", forceinline=True)
def flow_imbalance(
    prev_bid: int,
    prev_bid_size: int,
    prev_ask: int,
    prev_ask_size: int,
    bid: int,
    bid_size: int,
    ask: int,
    ask_size: int,
) -> int:
    """Order-flow imbalance of one event in shares.

    e = [Pb >= Pb'] qb - [Pb <= Pb'] qb' - [Pa <= Pa'] qa + [Pa >= Pa'] qa', where ' marks the best quote before the
    event. NIL where any of the eight is unknown.
    """
    if prev_bid == NIL or prev_ask == NIL or bid == NIL or ask == NIL:
        return NIL
    if prev_bid_size == NIL or prev_ask_size == NIL or bid_size == NIL or ask_size == NIL:
        return NIL
    e = 0
    if bid >= prev_bid:
        e += bid_size
    if bid <= prev_bid:
        e -= prev_bid_size
    if ask <= prev_ask:
        e -= ask_size
    if ask >= prev_ask:
        e += prev_ask_size
    return e


@njit(error_model="numpy", forceinline=True)
def vwap(turnover_hi: int, turnover_lo: int, volume: int) -> int:
    """Turnover / volume, half to even; NIL when nothing traded.

    Turnover is the sum of (price >> 20) * size and (price & 0xFFFFF) * size, kept apart: exact for volumes up to
    4e12 shares and while (price >> 20) * volume stays below 2**63.
    """
    if volume <= 0:
        return NIL
    q = turnover_hi // volume
    r = turnover_hi - q * volume
    low = (r << LOW_BITS) + turnover_lo
    whole = low // volume
    rest = low - whole * volume
    value = (q << LOW_BITS) + whole
    if rest > volume - rest or (rest == volume - rest and (value & 1) == 1):
        value += 1
    return value


@njit(error_model="numpy", forceinline=True)
def variance_after(variance: float, ref_sum: int, new_sum: int, elapsed_us: int, decay: float) -> float:
    """Variance per second after a step of the mid from ref_sum / 2 to new_sum / 2 in `elapsed_us` > 0 of market time.

    v = w * v + (1 - w) * r**2 / dt with r = ln(mid / mid'), dt in seconds, w = exp(-decay * dt), decay = ln 2 /
    half-life. The first step gives r**2 / dt. Volatility is the square root, per square root of a second.
    """
    seconds = elapsed_us * 1e-6
    r = 0.0
    if new_sum != ref_sum:
        r = math.log(new_sum / ref_sum)
    if math.isnan(variance):
        return r * r / seconds
    gone = -math.expm1(-decay * seconds)
    # Not 1 - gone: after a long pause so few digits are left of it that a large variance comes out wrong.
    return math.exp(-decay * seconds) * variance + gone * (r * r / seconds)


@njit(error_model="numpy", forceinline=True)
def track_mid(slot: Any, event_time: int, bid: int, ask: int, decay: float) -> None:
    """Take the mid after an event into the symbol's volatility.

    Only a later event time makes a step (several changes in one microsecond count as one); a mid that is missing or
    not positive ends the series, and the next one begins it anew without a return.
    """
    if bid == NIL or ask == NIL or bid + ask <= 0:
        slot["ref_sum"] = NIL
        return
    if event_time == NIL:
        return
    if slot["ref_sum"] == NIL:
        slot["ref_sum"] = bid + ask
        slot["ref_time"] = event_time
    elif event_time > slot["ref_time"]:
        slot["variance"] = variance_after(
            slot["variance"], slot["ref_sum"], bid + ask, event_time - slot["ref_time"], decay
        )
        slot["ref_sum"] = bid + ask
        slot["ref_time"] = event_time
