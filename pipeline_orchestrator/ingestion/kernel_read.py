"""What a line of a port is read by, and one field of it by its reader: the small decisions of the parse kernel."""

from __future__ import annotations

from typing import Any, Final

from numba import njit

from pipeline_orchestrator.ingestion import kernel_fields as take
from pipeline_orchestrator.ingestion import programs as prog
from pipeline_orchestrator.ingestion.reasons import MISSING_FIELD
from pipeline_orchestrator.market import wire_fields as wire
from pipeline_orchestrator.market.events import PORT
from pipeline_orchestrator.market.wire_fields import NULL

OTHER: Final = -2  # status: keep the line with its bytes, and its symbol where it has one
NO_PROGRAM: Final = -1

_LEVEL1, _LEVEL2 = PORT["level1"], PORT["level2"]
_TYPE_Q, _TYPE_P, _TYPE_C, _TYPE_Z = (ord(letter) for letter in "QPCZ")
_2, _3, _4, _5, _6, _7, _8, _9 = (ord(digit) for digit in "23456789")
_Q_LINE, _P_LINE, _C_PLAIN, _BOTH_SIDES = prog.Q_LINE, prog.P_LINE, prog.C_PLAIN, prog.BOTH_SIDES
_ORDER, _ORDER_DELETE, _LEVEL, _LEVEL_DELETE = prog.ORDER, prog.ORDER_DELETE, prog.LEVEL, prog.LEVEL_DELETE
_R_PRICE, _R_INTEGER, _R_SMALL, _R_UNSIGNED = prog.R_PRICE, prog.R_INTEGER, prog.R_SMALL, prog.R_UNSIGNED
_R_TIME, _R_DATE, _R_SIDE, _R_DAY_CODE = prog.R_TIME, prog.R_DATE, prog.R_SIDE, prog.R_DAY_CODE
_R_SYMBOL, _R_TEXT, _R_DELAY, _R_CONTENTS = prog.R_SYMBOL, prog.R_TEXT, prog.R_DELAY, prog.R_CONTENTS
_R_LETTER, _R_FLAG = prog.R_LETTER, prog.R_FLAG
# Pairs of letters: their codes in the schema are 0 and 1.
_BID, _ASK, _INSERT, _DELETE, _FALSE, _TRUE = (ord(letter) for letter in "BAIXFT")


@njit(cache=True, error_model="numpy")
def read_field(buf: Any, a: int, b: int, reader: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """One field by its reader: (value, status); texts have no value here."""
    if reader == _R_PRICE:
        return wire.price(buf, a, b)
    if reader in (_R_INTEGER, _R_DELAY):
        value, status = wire.digits(buf, a, b, True)
        if reader == _R_DELAY and status == 0 and value != 0:
            status = OTHER
        return value, status
    if reader == _R_TIME:
        return wire.time_of_day(buf, a, b)
    if reader == _R_DATE:
        return take.date(buf, a, b)
    if reader == _R_SYMBOL:
        return 0, take.symbol_status(buf, a, b)
    if reader == _R_TEXT:
        return 0, take.text_status(buf, a, b)
    if reader == _R_SMALL:
        return wire.small(buf, a, b, True)
    if reader == _R_SIDE:
        return take.one_of(buf, a, b, _BID, _ASK, NULL)
    if reader == _R_UNSIGNED:
        return wire.unsigned_bits(buf, a, b)
    if reader == _R_DAY_CODE:
        return take.day_code(buf, a, b)
    if reader == _R_LETTER:
        return take.one_of(buf, a, b, _INSERT, _DELETE, MISSING_FIELD)
    if reader == _R_FLAG:
        return take.one_of(buf, a, b, _FALSE, _TRUE, NULL)
    value, status = take.basis(buf, a, b)
    if status > 0 and reader != _R_CONTENTS:  # the type of a corrected trade: one that is unknown is none
        return 0, NULL
    return value, status


@njit(cache=True, error_model="numpy")
def program_of(kind: int, port: int) -> int:
    """Program of a line type on a port; NO_PROGRAM where it has none."""
    if port == _LEVEL1:
        if kind == _TYPE_Q:
            return _Q_LINE
        if kind == _TYPE_P:
            return _P_LINE
        if kind == _TYPE_C:
            return _C_PLAIN
    elif port == _LEVEL2:
        if kind in (_8, _7):
            return _LEVEL
        if kind == _9:
            return _LEVEL_DELETE
        if kind in (_3, _4, _6):
            return _ORDER
        if kind == _5:
            return _ORDER_DELETE
        if kind in (_2, _TYPE_Z):
            return _BOTH_SIDES
    return NO_PROGRAM
