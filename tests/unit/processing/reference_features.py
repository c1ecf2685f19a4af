"""The features of the reference: formulas with fractions and logarithms, one row at a time."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from tests.unit.processing.reference_state import Row, Symbol, half_even

SECOND = 1_000_000


def features_of(row: Row, symbol: Symbol, decay: float, gap_open: bool) -> Row:
    """The columns of the features row after an event; the symbol's series move on."""
    trust = symbol.shown_trust()
    if trust == "valid" or (symbol.unconfirmed is not None and not symbol.crossed()):
        source = "depth"
        bids, asks = symbol.top(1)
        quote = (*(bids[0] if bids else (None, None)), *(asks[0] if asks else (None, None)))
    elif symbol.level1[0] is not None or symbol.level1[2] is not None:
        source, quote = "level1", symbol.level1
    else:
        source, quote = "none", (None, None, None, None)
    flow = None
    if source != symbol.source:
        symbol.mid = None
    elif None not in quote and None not in symbol.previous:
        flow = flow_of(symbol.previous, quote)
    symbol.source, symbol.previous = source, quote
    bid, bid_size, ask, ask_size = quote
    track(row.get("event_time_us"), symbol, bid, ask, decay)
    spread = mid = micro = imbalance = volatility = reason = None
    if bid is not None and ask is not None:
        spread, mid = ask - bid, half_even(Fraction(bid + ask, 2))
        if bid_size is not None and ask_size is not None and bid_size + ask_size > 0:
            total = bid_size + ask_size
            micro = half_even(Fraction(bid * ask_size + ask * bid_size, total))
            imbalance = (bid_size - ask_size) / total
        else:
            reason = "no_size"
        if symbol.variance is not None:
            volatility = math.sqrt(symbol.variance)
    elif source == "none":
        reason = f"book_{trust}"
    elif bid is None:
        reason = "no_quote" if ask is None else "no_bid"
    else:
        reason = "no_ask"
    volume = sum(size for _, size in symbol.traded)
    return {
        "symbol": symbol.name,
        "trading_date": row.get("trading_date"),
        "kind": row["kind"],
        "event_time_us": row.get("event_time_us"),
        "best_bid": bid,
        "best_bid_size": bid_size,
        "best_ask": ask,
        "best_ask_size": ask_size,
        "spread": spread,
        "mid": mid,
        "microprice": micro,
        "imbalance": imbalance,
        "order_flow_imbalance": flow,
        "vwap": half_even(Fraction(sum(p * s for p, s in symbol.traded), volume)) if volume else None,
        "volatility": volatility,
        "last_price": symbol.last[0] if symbol.last else None,
        "last_size": symbol.last[1] if symbol.last else None,
        "book_state": trust,
        "book_source": source,
        "null_reason": reason,
        "gap_flag": gap_open,
    }


def flow_of(before: Any, after: Any) -> int:
    old_bid, old_bid_size, old_ask, old_ask_size = before
    bid, bid_size, ask, ask_size = after
    bid_part = (bid_size if bid >= old_bid else 0) - (old_bid_size if bid <= old_bid else 0)
    ask_part = (ask_size if ask <= old_ask else 0) - (old_ask_size if ask >= old_ask else 0)
    return int(bid_part - ask_part)


def track(time: int | None, symbol: Symbol, bid: int | None, ask: int | None, decay: float) -> None:
    if bid is None or ask is None or bid + ask <= 0:
        symbol.mid = None
    elif time is not None and symbol.mid is None:
        symbol.mid = (bid + ask, time)
    elif time is not None and symbol.mid is not None and time > symbol.mid[1]:
        seconds = (time - symbol.mid[1]) / SECOND
        squared = math.log((bid + ask) / symbol.mid[0]) ** 2 / seconds
        if symbol.variance is None:
            symbol.variance = squared
        else:
            gone = -math.expm1(-decay * seconds)  # 1 - exp(...) without losing its digits
            symbol.variance = math.exp(-decay * seconds) * symbol.variance + gone * squared
        symbol.mid = (bid + ask, time)
