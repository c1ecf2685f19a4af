"""The columns of the market's rows: int64 tables, so that kernels fill, keep and render them.

Level 1: a row is the whole state of a symbol after an event, which is what a `Q` or `P` line restates.
Level 2: a row is one price level that was set or deleted. Depth by order has a table of its own with the same
columns: a row is one order that came, changed or went. A clock row (kind CLOCK) stands in every table where the
market's time passed a whole second.

Units: prices 1e-4 dollars; times are microseconds of the US Eastern wall clock, counted from 1970-01-01 as if
that clock were UTC (so that date and time of day are plain divisions); sizes in shares. NONE = no value: rendered
as an empty field.

numba's on-disk cache looks at a kernel's own file only. VERSION is raised with every change here and repeated in
each kernel module, so that those files change too; a test compares a digest of this file.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 2

NONE: Final = -(2**63)
SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400 * SECOND_US
PRICE_UNITS: Final = 10_000

# Kinds of rows.
CLOCK: Final = 0
QUOTE: Final = 1
TRADE: Final = 2
SUMMARY: Final = 3
ORDER_ADD: Final = 3  # in depth tables; SUMMARY is a kind of Level 1 rows
ORDER_CHANGE: Final = 4
ORDER_DELETE: Final = 5
ORDER_SUMMARY: Final = 6
LEVEL_SUMMARY: Final = 7
LEVEL_SET: Final = 8
LEVEL_DELETE: Final = 9

BID: Final = 0
ASK: Final = 1

# Both tables.
KIND: Final = 0
SYM: Final = 1  # index in the market's symbols; -1 in clock rows
SRC: Final = 2  # 1-based row of the vendor's message file; 0 = none
ORD: Final = 3  # rises over both tables: the order in which things happened
TIME: Final = 4  # stamp of the event; the second of a clock row; below 0 = only the date of -TIME is said

# Level 2, by level and by order.
SIDE: Final = 5
PRICE: Final = 6
SIZE: Final = 7
COUNT: Final = 8  # of a level
ORDER_ID: Final = 8  # of an order: the bits of an unsigned number; 0 = none (a market participant's row)
PRIORITY: Final = 9  # of an order: the bits of an unsigned number, lower = earlier at its price; 0 = none
MAKER: Final = 10  # of an order: index in MAKERS, -1 = none
LEVEL2_COLUMNS: Final = 11

# Level 1.
BID_PRICE: Final = 5
BID_SIZE: Final = 6
BID_TIME: Final = 7
ASK_PRICE: Final = 8
ASK_SIZE: Final = 9
ASK_TIME: Final = 10
RECENT_PRICE: Final = 11  # Most Recent Trade: the newest of any kind
RECENT_SIZE: Final = 12
RECENT_TIME: Final = 13
RECENT_CENTER: Final = 14
RECENT_CONDITIONS: Final = 15  # index in render.CONDITIONS
AGGRESSOR: Final = 16
DAY_CODE: Final = 17
TICK_ID: Final = 18
LAST_PRICE: Final = 19  # newest trade that qualifies as last (C)
LAST_SIZE: Final = 20
LAST_TIME: Final = 21
LAST_CENTER: Final = 22
EXTENDED_PRICE: Final = 23  # newest form-T trade (E)
EXTENDED_SIZE: Final = 24
EXTENDED_TIME: Final = 25
EXTENDED_CENTER: Final = 26
TOTAL_VOLUME: Final = 27
OPEN: Final = 28
HIGH: Final = 29
LOW: Final = 30
CLOSE: Final = 31  # of the day before
TRADES_TODAY: Final = 32
TURNOVER: Final = 33  # sum of price x size, for VWAP
TICK: Final = 34  # 173 up, 175 down, 183 unchanged
CONTENTS: Final = 35  # bits below
LEVEL1_COLUMNS: Final = 36

# Message Contents, in the order in which the feed writes them.
HAS_LAST: Final = 1  # C
HAS_EXTENDED: Final = 2  # E
HAS_OTHER: Final = 4  # O
HAS_BID: Final = 8  # b
HAS_ASK: Final = 16  # a
HAS_OPEN: Final = 32  # o
HAS_HIGH: Final = 64  # h
HAS_LOW: Final = 128  # l
HAS_CLOSE: Final = 256  # c
HAS_SETTLE: Final = 512  # s
HAS_VOLUME: Final = 1024  # v

# Trade conditions the simulator uses, by index: vendor table STC, two hex digits each.
CONDITIONS: Final = (b"", b"01", b"87", b"17", b"8717", b"3D")
REGULAR: Final = 1
ODD_LOT: Final = 2
FORM_T: Final = 3
FORM_T_ODD: Final = 4

# Market participants the simulator uses, by index; SYNTHETIC marks orders that a replay had to make up.
MAKERS: Final = (
    *(b"NSDQ", b"ARCX", b"BATS", b"EDGX", b"AMEX", b"CHXE", b"MEMX", b"IEXG"),
    *(b"NITE", b"CDRG", b"VIRT", b"UBSS", b"GSCO", b"MSCO", b"JPMS", b"BARD"),
    *(b"SUSQ", b"JNST", b"ETMM", b"CSTI", b"HRTF", b"COWN", b"PIPR", b"STFL"),
    *(b"RAJA", b"NEED", b"WEDB", b"LEER", b"OPCO", b"BTIG", b"FBCO", b"DBAB"),
    b"SYNT",
)
PARTICIPANTS: Final = 32
SYNTHETIC: Final = 32
