"""Memory layout of the state: what a symbol, a price level side, a bar and an instance look like to the kernels.

One structured array per concept, one row per thing, so that a snapshot is a copy of rows. Prices are integers in
1e-6 units, times microseconds since 1970 UTC; NIL stands for "no value" wherever a value may be missing. A change of
any of these layouts needs a new STATE_VERSION (snapshot_codec.py).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

NIL: Final = -(1 << 63)
NIL32: Final = -(1 << 31)
FOREVER: Final = (1 << 63) - 1

# Trust in a book, as stored. CROSSED is seen when the best levels are compared, never stored.
NONE, VALID, STALE, CROSSED, RESYNCING = range(5)
STATES: Final = ("none", "valid", "stale", "crossed", "resyncing")
NO_SOURCE, DEPTH, LEVEL1 = range(3)
SOURCES: Final = ("none", "depth", "level1")
BID, ASK = range(2)

INTERVALS_US: Final = (1_000_000, 60_000_000)
INTERVALS: Final = ("1s", "1m")

# Flags of a bar.
PUBLISHED, CHANGED, GAPPED = 1, 2, 4
THINNED = 8  # its trades are no longer kept, or not all

# Rows of a symbol. Chains and sides have two rows per slot: 2 * slot + interval, 2 * slot + side.
SLOT = np.dtype(
    [
        ("sid", "i4"),  # index of the symbol's text
        ("part", "i4"),  # index of its partition
        ("link", "i4"),  # row of the instance that reads it; -1 = none yet
        ("twin", "i4"),  # slot of the same symbol in another partition; -1 = none
        ("trust", "i1"),
        ("need_summary", "i1"),  # only a summary row begins the book
        ("begun", "i1"),  # such a row came: the next level2 T completes the book
        ("restating", "i1"),  # the watch was sent again: rows that are still unconfirmed then will go (restate.py)
        ("unshown", "i1"),  # the top changed since the last books row (books every T)
        ("source", "i1"),  # where best bid and ask of the last features row came from
        ("asked_us", "i8"),  # receipt of the fact that the watch was sent again; NIL = nobody waits for its answer
        ("begun_us", "i8"),  # receipt of the newest row that begins the book, while begun
        ("date", "i4"),  # trading date of volume and turnover, days since 1970
        ("volume", "i8"),  # shares of C and E trades of that date
        ("turnover_hi", "i8"),  # price * size as (price >> 20) * size ...
        ("turnover_lo", "i8"),  # ... and (price & 0xFFFFF) * size: exact in 64 bits
        ("last_price", "i8"),
        ("last_size", "i8"),
        ("bid", "i8"),  # Level 1
        ("bid_size", "i8"),
        ("ask", "i8"),
        ("ask_size", "i8"),
        ("prev_bid", "i8"),  # of the last features row
        ("prev_bid_size", "i8"),
        ("prev_ask", "i8"),
        ("prev_ask_size", "i8"),
        ("ref_sum", "i8"),  # bid + ask from which the next return is measured
        ("ref_time", "i8"),
        ("variance", "f8"),  # EWMA of squared log returns per second; NaN = none yet
        ("ended1_epoch", "i8"),  # newest level1 gap that ended for this symbol
        ("ended1_seq", "i8"),
        ("ended1_to", "i8"),
        ("ended2_epoch", "i8"),  # newest level2 gap that ended for this symbol
        ("ended2_seq", "i8"),
        ("trades", "i8"),  # kept for corrections
    ],
    align=True,
)

# A side of a book: a block of the level pools, sorted so that the best level is the last. Keys rise towards the best:
# price of a bid, negated price of an ask. A book by order also has its orders in the order of their arrival. A level of
# a book without orders that waits to be confirmed has its size negated.
SIDE = np.dtype(
    [("off", "i8"), ("cap", "i4"), ("n", "i4"), ("oldest", "i4"), ("newest", "i4"), ("orders", "i4")], align=True
)

# An order, or a market participant's row (see orders.py). Free rows are chained through `next`.
ORDER = np.dtype(
    [
        ("key", "i8"),  # bits of the unsigned order id; a participant's code (mmid_key)
        ("price", "i8"),
        ("size", "i8"),  # above 0
        ("priority", "i8"),  # bits of an unsigned number, lower = earlier
        ("seen", "i8"),  # newest T of Level 1 when it was last sent; NIL = no T yet
        ("home", "i4"),  # 2 * slot + side
        ("next", "i4"),  # in its hash bucket; -1 = last
        ("older", "i4"),  # on its side, by arrival; -1 = none
        ("newer", "i4"),
        ("flags", "i4"),  # HAS_ID, HAS_PRIORITY, UNCONFIRMED
    ],
    align=True,
)
HAS_ID, HAS_PRIORITY, UNCONFIRMED = 1, 2, 4
ORDER_CONTENT: Final = ("key", "price", "size", "priority", "seen", "flags")  # what is no place in memory
LARGEST_ORDER: Final = 1 << 40  # a larger size is no order's; so the sum of a price level stays below 2**63
SETTLED_US: Final = 5_000_000  # so long after its newest row a summary is over; so long after a second watch it is none
STALE_ROW_US: Final = 900_000_000  # a participant's row not sent again for so long outside the session expires

# Bars of one symbol and interval: newest first by open time. `pending` = not yet published, or changed since.
CHAIN = np.dtype([("head", "i4"), ("tail", "i4"), ("n", "i4"), ("pending", "i4")], align=True)

BAR = np.dtype(
    [
        ("open_us", "i8"),
        ("open", "i8"),
        ("high", "i8"),
        ("low", "i8"),
        ("close", "i8"),
        ("volume", "i8"),
        ("turnover_hi", "i8"),
        ("turnover_lo", "i8"),
        ("odd_volume", "i8"),
        ("first_us", "i4"),  # time of the trade that opened it, from open_us
        ("last_us", "i4"),  # time of the trade that closed it, from open_us
        ("count", "i4"),
        ("odd_count", "i4"),
        ("date", "i4"),
        ("revision", "i4"),
        ("older", "i4"),
        ("newer", "i4"),
        ("flags", "i4"),
        ("first_trade", "i4"),  # kept trades of a minute, in log order; -1 = none. A bar of a second has none
        ("last_trade", "i4"),
    ],
    align=True,
)

# A trade that a correction may name. Free rows are chained through `next`.
TRADE = np.dtype(
    [
        ("time", "i8"),
        ("price", "i8"),
        ("size", "i8"),
        ("tick_id", "i8"),  # NIL = none
        ("conditions", "i8"),  # key of their text
        ("center", "i4"),  # NIL32 = none
        ("date", "i4"),
        ("next", "i4"),
        ("flags", "i4"),  # QUALIFIED, IN_VWAP
    ],
    align=True,
)
QUALIFIED, IN_VWAP = 1, 2  # C or E; in the VWAP of its trading date

# One instance as one partition sees it; row = instance index * partitions + partition index.
LINK = np.dtype(
    [
        ("instance", "i8"),
        ("marked", "i8"),
        ("epoch", "i8"),  # mark: the newest identity seen
        ("seq", "i8"),
        ("idx", "i8"),
        ("quiet_epoch", "i8"),  # up to this identity nothing is emitted (state rebuilt by a silent replay)
        ("quiet_seq", "i8"),
        ("quiet_idx", "i8"),
        ("clock", "i8"),  # newest T of Level 1
        ("shown", "i8"),  # period of market time whose books were emitted
        ("gap1_epoch", "i8"),  # newest gap begun on level1
        ("gap1_seq", "i8"),
        ("gap1_from", "i8"),
        ("closed1_epoch", "i8"),  # newest gap closed for all symbols on level1
        ("closed1_seq", "i8"),
        ("closed1_to", "i8"),
        ("gap2_epoch", "i8"),
        ("gap2_seq", "i8"),
        ("closed2_epoch", "i8"),
        ("closed2_seq", "i8"),
    ],
    align=True,
)

# A fact of ingestion, read from its JSON before the kernel runs; `done` is the kernel's answer.
FACT = np.dtype(
    [
        ("row", "i8"),
        ("act", "i4"),
        ("conn", "i4"),  # 1 level1, 2 level2, 0 other
        ("epoch", "i8"),  # of the gap's id
        ("seq", "i8"),
        ("time", "i8"),  # of the gap's begin or end
        ("done", "i4"),  # 0 a repeat, 1 applied, 2 applied without emitting
        ("pad", "i4"),
    ],
    align=True,
)
FACT_NOTHING, FACT_CONNECTED, FACT_LOST, FACT_WATCH, FACT_UNWATCH = range(5)
FACT_GAP_BEGIN, FACT_GAP_END, FACT_GAP_CLOSED, FACT_RESTATE = range(5, 9)

# Counters of a run, in order.
COUNTED: Final = (
    "repeats",
    "events_without_symbol",
    "unusable_depth",
    "unknown_level_deletes",
    "replayed_depth",
    "unusable_trades",
    "late_trades",
    "trades_too_late",
    "unknown_order_deletes",
    "mixed_depth_forms",
    "expired_participant_rows",
    "corrections",
    "corrections_not_applied",
    "trades_not_kept",
    "rows_not_restated",
)
(
    C_REPEATS,
    C_NO_SYMBOL,
    C_BAD_DEPTH,
    C_UNKNOWN_LEVEL,
    C_REPLAYED_DEPTH,
    C_BAD_TRADE,
    C_LATE,
    C_TOO_LATE,
    C_UNKNOWN_ORDER,
    C_MIXED_FORMS,
    C_EXPIRED,
    C_CORRECTED,
    C_NOT_CORRECTED,
    C_NOT_KEPT,
    C_NOT_RESTATED,
) = range(15)

# pool[...]: where the allocators stand. P_ORDERS = rows ever used, P_ORDERS_HELD = those in use.
P_LEVELS, P_FREE_BAR, P_BARS, P_FREE_ORDER, P_ORDERS, P_ORDERS_HELD = range(6)
P_FREE_TRADE, P_TRADES, P_TRADES_HELD = range(6, 9)
P_FREE_BLOCK: Final = 9  # from here on: one free list per block size
POOL_SIZE: Final = 40
FIRST_BLOCK: Final = 8  # levels of the smallest block; each next size doubles

Array = npt.NDArray[Any]  # Any: the element types stand beside each use
Number = Any  # inside kernels: an integer, of Python or numpy
Flag = Any  # inside kernels: a truth value, of Python or numpy


class StateArrays(NamedTuple):
    """The whole state as the kernels see it."""

    slots: Array  # SLOT
    sides: Array  # SIDE
    chains: Array  # CHAIN
    bars: Array  # BAR
    keys: Array  # int64, level pool
    sizes: Array  # int64, level pool
    orders: Array  # ORDER
    trades: Array  # TRADE
    buckets: Array  # int32: first order of each hash bucket; as many as orders has rows, a power of two
    links: Array  # LINK
    order: Array  # int32: slots by partition, then symbol
    starts: Array  # int64: where each partition's slots begin in `order`; one more at the end
    pool: Array  # int64
    counts: Array  # int64, COUNTED
    expiry: Array  # int64: when the first participant's row may expire (NIL = look), for which end of session; per slot


class Rules(NamedTuple):
    """What settings say about results."""

    levels: int  # of the books topic
    books: int  # 0 off, 1 after each change, 2 every `period_us`
    period_us: int
    keep_us: int
    keep_trades: int  # per symbol
    decay: float  # ln 2 / half-life in seconds


def source_digest(names: tuple[str, ...]) -> str:
    """Digest of the sources of kernel modules.

    numba's cache looks at the file of the cached function alone; a kernel that takes this digest as a closure
    variable is compiled anew when a module changes whose functions it calls.
    """
    import hashlib
    from importlib.util import find_spec
    from pathlib import Path

    found = hashlib.sha256()
    for name in names:
        spec = find_spec(name)
        assert spec is not None and spec.origin is not None
        found.update(Path(spec.origin).read_bytes())
    return found.hexdigest()[:16]
