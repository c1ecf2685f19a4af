"""What a kernel has to read from each type of line, as tables: one row per field, in the order of the checks.

A row says: which field of the line, how to read it, into which slot, and whether it may be empty. The order is that of
reference_parser, so that both name the same reason for a line with several faults. The programs of Q and P follow the
layout in force and are built anew when it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline_orchestrator.ingestion import columns as col
from pipeline_orchestrator.ingestion import layout as lay
from pipeline_orchestrator.ingestion.columns import B_NARROW
from pipeline_orchestrator.market.events import KIND

# Columns of a program's row.
P_FIELD: Final = 0
P_READER: Final = 1
P_SLOT: Final = 2
P_REQUIRED: Final = 3

UNLESS_ID: Final = 2  # of P_REQUIRED: where the line has no order id

# Readers (see kernel_fields).
R_PRICE: Final = 0
R_INTEGER: Final = 1
R_SMALL: Final = 2
R_UNSIGNED: Final = 3
R_TIME: Final = 4
R_DATE: Final = 5
R_SIDE: Final = 6
R_DAY_CODE: Final = 7
R_SYMBOL: Final = 8
R_TEXT: Final = 9
R_DELAY: Final = 10  # not zero: the line is kept as it is
R_CONTENTS: Final = 11  # Message Contents -> basis
R_LETTER: Final = 12  # I or X
R_TRADE_TYPE: Final = 13  # one letter -> basis

R_WHOLE: Final = 14  # not a field: the line must reach that far
R_FLAG: Final = 19  # T or F

# Only in the quick way's programs:
R_SKIP: Final = 15  # not looked at
R_SOUND: Final = 16  # a number that must be one, but is not taken
R_LATER: Final = 17  # a text, looked at only if the line turns out to be a trade
R_REPEAT: Final = 18  # a number, taken if the line is known to be a trade, else like R_SOUND

# Columns of a row of the quick way's programs, which have one row for each field of the line.
F_READER: Final = 0
F_SLOT: Final = 1
F_REQUIRED: Final = 2
F_THEN: Final = 3  # reader of the field where it is taken

# Slots: the columns first (wide, then narrow), then what only the kernel needs.
X_DATE: Final = B_NARROW + len(col.NARROW)
X_TIME: Final = X_DATE + 1
X_TIME2: Final = X_DATE + 2
X_CODE: Final = X_DATE + 3
X_DELAY: Final = X_DATE + 4
X_LATER: Final = X_DATE + 5  # 1 where a field was put off
X_TRADE_TIME: Final = X_DATE + 6
X_CHECKED: Final = X_DATE + 7  # read for its soundness only
X_BID_VALID: Final = X_DATE + 8
X_ASK_VALID: Final = X_DATE + 9
SLOTS: Final = X_DATE + 10

# Programs.
Q_LINE: Final = 0
Q_TRADE: Final = 1
Q_QUOTE: Final = 2
P_LINE: Final = 3
ORDER: Final = 4
ORDER_DELETE: Final = 5
LEVEL: Final = 6
LEVEL_DELETE: Final = 7
C_TYPED: Final = 8
C_PLAIN: Final = 9
BOTH_SIDES: Final = 10  # depth before 6.2: one line, a bid row and an ask row
PROGRAMS: Final = 11
_LONGEST: Final = lay.MAX_FIELDS + 16

KIND_OF_TYPE: Final = np.full(256, -1, dtype=np.int64)  # depth types, by their letter
for _letter, _kind in (
    ("3", "order_add"),
    ("6", "order_add"),
    ("4", "order_change"),
    ("5", "order_delete"),
    ("7", "level_set"),
    ("8", "level_set"),
    ("9", "level_delete"),
):
    KIND_OF_TYPE[ord(_letter)] = KIND[_kind]

_OF_A_TRADE: Final = frozenset(
    {col.W_PRICE, col.W_SIZE, col.W_TICK_ID, *(B_NARROW + n for n in (col.N_CENTER, col.N_AGGRESSOR, col.N_CONDITIONS))}
)

Row = tuple[int, int, int, int]
_READER_OF: Final = {lay.PRICE: R_PRICE, lay.INTEGER: R_INTEGER, lay.TIME: R_TIME, lay.DATE: R_DATE}


def _n(column: int) -> int:
    return B_NARROW + column


def _correction(at: int) -> list[Row]:
    return [
        (at, R_DATE, X_DATE, 0),
        (at + 1, R_TIME, X_TIME, 0),
        (at + 2, R_PRICE, col.W_PRICE, 0),
        (at + 3, R_INTEGER, col.W_SIZE, 0),
        (at + 4, R_INTEGER, col.W_TICK_ID, 0),
        (at + 5, R_TEXT, _n(col.N_CONDITIONS), 0),
        (at + 6, R_SMALL, _n(col.N_CENTER), 0),
    ]


_SYMBOL: Row = (1, R_SYMBOL, _n(col.N_SYMBOL), 1)
_FIXED: Final[dict[int, list[Row]]] = {
    ORDER: [
        _SYMBOL,
        (2, R_UNSIGNED, col.W_ORDER_ID, 0),
        (3, R_TEXT, _n(col.N_MMID), 0),
        (4, R_SIDE, _n(col.N_SIDE), 1),
        (5, R_PRICE, col.W_PRICE, 1),
        (6, R_INTEGER, col.W_SIZE, 1),
        (7, R_UNSIGNED, col.W_PRIORITY, 0),
        (8, R_SMALL, _n(col.N_PRECISION), 0),
        (9, R_TIME, X_TIME, 0),
        (10, R_DATE, X_DATE, 0),
    ],
    ORDER_DELETE: [
        _SYMBOL,
        (2, R_UNSIGNED, col.W_ORDER_ID, 0),
        (3, R_TEXT, _n(col.N_MMID), 0),
        (4, R_SIDE, _n(col.N_SIDE), UNLESS_ID),
        (5, R_TIME, X_TIME, 0),
        (6, R_DATE, X_DATE, 0),
    ],
    LEVEL: [
        _SYMBOL,
        (2, R_SIDE, _n(col.N_SIDE), 1),
        (3, R_PRICE, col.W_PRICE, 1),
        (4, R_INTEGER, col.W_SIZE, 1),
        (5, R_SMALL, _n(col.N_ORDER_COUNT), 0),
        (6, R_SMALL, _n(col.N_PRECISION), 0),
        (7, R_TIME, X_TIME, 0),
        (8, R_DATE, X_DATE, 0),
    ],
    LEVEL_DELETE: [
        _SYMBOL,
        (2, R_SIDE, _n(col.N_SIDE), 1),
        (3, R_PRICE, col.W_PRICE, 1),
        (4, R_TIME, X_TIME, 0),
        (5, R_DATE, X_DATE, 0),
    ],
    BOTH_SIDES: [
        _SYMBOL,
        (2, R_TEXT, _n(col.N_MMID), 1),
        (3, R_PRICE, col.W_BID, 0),
        (4, R_PRICE, col.W_ASK, 0),
        (5, R_INTEGER, col.W_BID_SIZE, 0),
        (6, R_INTEGER, col.W_ASK_SIZE, 0),
        (7, R_TIME, X_TIME, 0),
        (8, R_DATE, X_DATE, 0),
        (10, R_TIME, X_TIME2, 0),
        (11, R_FLAG, X_BID_VALID, 1),
        (12, R_FLAG, X_ASK_VALID, 1),
        (13, R_FLAG, X_CHECKED, 0),
    ],
    C_TYPED: [
        _SYMBOL,
        (2, R_LETTER, _n(col.N_CORRECTION), 1),
        (3, R_TRADE_TYPE, _n(col.N_BASIS), 0),
        *_correction(4),
    ],
    C_PLAIN: [_SYMBOL, (2, R_LETTER, _n(col.N_CORRECTION), 1), *_correction(3)],
}


def build(layout: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All programs for a layout, and those of the quick way.

    [program, row, P_...] and [program, field, F_...]; the first row holds the program's length in its first column,
    for the quick way also the last field that a line must have.
    """
    where = [int(position) for position in lay.positions(layout)]
    common: list[Row] = [
        (where[lay.T_BID], R_PRICE, col.W_BID, 0),
        (where[lay.T_BID_SIZE], R_INTEGER, col.W_BID_SIZE, 0),
        (where[lay.T_ASK], R_PRICE, col.W_ASK, 0),
        (where[lay.T_ASK_SIZE], R_INTEGER, col.W_ASK_SIZE, 0),
        (where[lay.T_VOLUME], R_INTEGER, col.W_VOLUME, 0),
        (where[lay.T_DATE], R_DATE, X_DATE, 0),
        (where[lay.T_DAY_CODE], R_DAY_CODE, X_CODE, 0),
    ]
    head: list[Row] = [
        (where[lay.T_SYMBOL], R_SYMBOL, _n(col.N_SYMBOL), 1),
        (where[lay.T_DELAY], R_DELAY, X_DELAY, 0),
        (lay.least_commas(layout), R_WHOLE, X_CHECKED, 0),
    ]
    times: list[Row] = [
        (where[lay.T_BID_TIME], R_TIME, X_TIME, 0),
        (where[lay.T_ASK_TIME], R_TIME, X_TIME2, 0),
    ]
    contents: list[Row] = [(where[lay.T_CONTENTS], R_CONTENTS, _n(col.N_BASIS), 0)]
    if where[lay.T_PRICE] < 0 or where[lay.T_SIZE] < 0:
        contents = []  # without price and size in the layout there are no trades
    trade: list[Row] = [
        (where[lay.T_PRICE], R_PRICE, col.W_PRICE, 1),
        (where[lay.T_SIZE], R_INTEGER, col.W_SIZE, 1),
        (where[lay.T_TICK_ID], R_INTEGER, col.W_TICK_ID, 0),
        (where[lay.T_CENTER], R_SMALL, _n(col.N_CENTER), 0),
        (where[lay.T_AGGRESSOR], R_SMALL, _n(col.N_AGGRESSOR), 0),
        (where[lay.T_TIME], R_TIME, X_TRADE_TIME, 0),
    ]
    repeated: list[Row] = [(field, reader, X_CHECKED, 0) for field, reader, _, _ in trade]
    checks: list[Row] = [(field, _READER_OF[form], X_CHECKED, 0) for field, form in lay.checks(layout)]
    text: list[Row] = [(where[lay.T_CONDITIONS], R_TEXT, _n(col.N_CONDITIONS), 0)]
    programs = {
        **_FIXED,
        Q_LINE: head + contents + common,
        Q_TRADE: trade + times + checks + text,
        Q_QUOTE: repeated + times + checks,
        P_LINE: head + common + repeated + times + checks,
    }
    table = np.full((PROGRAMS, _LONGEST, 4), -1, dtype=np.int64)
    for program, rows in programs.items():
        present = [row for row in rows if row[0] >= 0]
        table[program, 0, P_FIELD] = len(present)
        for index, row in enumerate(present):
            table[program, index + 1] = row
    return table, _by_field(programs)


def _by_field(programs: dict[int, list[Row]]) -> npt.NDArray[np.int64]:
    """The same in the order of the fields, for one pass over a line; programs without such a form are empty.

    The numbers of a trade are taken from every Q that has not said yet whether it is one; the caller forgets those
    of a quote. Its text is put off instead.
    """
    table = np.zeros((PROGRAMS, lay.MAX_FIELDS + 1, 4), dtype=np.int64)
    table[:, 1:, F_READER] = R_SKIP
    for program in (Q_LINE, P_LINE, ORDER, ORDER_DELETE, LEVEL, LEVEL_DELETE):
        rows = [row for row in programs[program] if row[0] >= 0]
        needed = max(row[0] for row in rows if row[3] or row[1] == R_WHOLE)
        if program == Q_LINE:
            rows += [row for row in programs[Q_TRADE] if row[0] >= 0]
        contents = next((row[0] for row in rows if row[1] == R_CONTENTS), lay.MAX_FIELDS)
        for field, reader, slot, required in rows:
            if reader == R_WHOLE:
                continue
            quick, traded = reader, program == Q_LINE and slot in _OF_A_TRADE
            if traded and reader == R_TEXT:
                quick = R_LATER
            elif traded and contents < field and reader <= R_SMALL:
                quick = R_REPEAT
            elif slot == X_CHECKED and reader <= R_SMALL:
                quick = R_SOUND
            table[program, field] = quick, slot, 0 if traded else required, reader
        table[program, 0, F_READER] = max(row[0] for row in rows)
        table[program, 0, F_REQUIRED] = needed
    return table
