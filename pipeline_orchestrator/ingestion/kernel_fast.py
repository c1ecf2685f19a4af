"""The quick way through an ordinary line: one pass from the first byte to the line end, fields in their order.

It knows only the form that feeds usually send (six decimals in a time, numbers that surely fit, nothing empty that is
required). Whatever else it meets, it gives the line back untouched and the general way in `kernel` does it, which
alone defines what a line means. So this module decides about speed, never about results.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit, uint64

from pipeline_orchestrator.ingestion import kernel_fields as take
from pipeline_orchestrator.ingestion import programs as prog
from pipeline_orchestrator.ingestion.columns import B_NARROW, N_BASIS
from pipeline_orchestrator.ingestion.intern import FNV_OFFSET, FNV_PRIME
from pipeline_orchestrator.ingestion.kernel_times import S_DATE_DAY, S_DATE_KEY
from pipeline_orchestrator.ingestion.programs import F_READER, F_REQUIRED, F_SLOT, F_THEN
from pipeline_orchestrator.market.wire_fields import MAX_INT32, MAX_TEXT, day_number

GIVEN_BACK: Final = -1

# Rows of the scratch `slots`.
V: Final = 0  # value; begin of a text
S: Final = 1  # status
E: Final = 2  # end of a text; then its code
H: Final = 3  # hash of a text
LATER_BEGIN: Final = 4  # a field put off: where it lies
LATER_END: Final = 5
SLOT_ROWS: Final = 6

_PRICE, _INTEGER, _SMALL, _UNSIGNED = prog.R_PRICE, prog.R_INTEGER, prog.R_SMALL, prog.R_UNSIGNED
_TIME, _DATE, _SIDE, _DAY_CODE = prog.R_TIME, prog.R_DATE, prog.R_SIDE, prog.R_DAY_CODE
_SYMBOL, _TEXT, _DELAY, _CONTENTS = prog.R_SYMBOL, prog.R_TEXT, prog.R_DELAY, prog.R_CONTENTS
_BASIS = B_NARROW + N_BASIS
_SKIP, _SOUND, _LATER, _REPEAT = prog.R_SKIP, prog.R_SOUND, prog.R_LATER, prog.R_REPEAT
_X_LATER = prog.X_LATER
_LF, _CR, _COMMA, _DOT, _MINUS, _COLON, _SLASH = 10, 13, 44, 46, 45, 58, 47
_SCALES = (1_000_000, 100_000, 10_000, 1_000, 100, 10, 1)
_SURE_DIGITS, _SURE_SMALL, _SURE_PRICE = 18, 9, 12
_ZERO, _NINE, _DECIMALS = 48, 57, 6
_TIME_BYTES, _DATE_BYTES = 15, 10


@njit(error_model="numpy", forceinline=True)
def _digits(buf: Any, at: int, value: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """`value` with the digits at `at` appended, and where they end; the caller bounds their number."""
    while True:
        digit = int(buf[at]) - 48
        if digit < 0 or digit > 9:
            return value, at
        value = value * 10 + digit
        at += 1


@njit(cache=True, error_model="numpy")
def fast_line(
    buf: Any, at: int, end: int, fast: Any, program: int, slots: Any, state: Any
) -> int:  # Any: arrays inside kernels
    """Read the fields that begin at `at` into `slots`; returns the index of the LF, or GIVEN_BACK.

    `buf[end - 1]` must be an LF. The status row must be NULL everywhere. After GIVEN_BACK the slots are arbitrary.
    """
    needed = fast[program, 0, F_REQUIRED]
    slots[V, _X_LATER] = 0
    for step in range(1, fast[program, 0, F_READER] + 1):
        reader, slot = fast[program, step, F_READER], fast[program, step, F_SLOT]
        if reader >= _LATER and slots[S, _BASIS] == 0:
            reader = fast[program, step, F_THEN]  # Message Contents came first: a trade
        first = int(buf[at])
        empty = first in (_COMMA, _LF, _CR)
        if reader >= _SKIP:
            if reader in (_SKIP, _LATER):
                begin = at
                while buf[at] != _COMMA and buf[at] != _LF:
                    at += 1
                if reader == _LATER:
                    slots[LATER_BEGIN, slot], slots[LATER_END, slot] = begin, at
                    if buf[at] == _LF and at > begin and buf[at - 1] == _CR:
                        slots[LATER_END, slot] = at - 1
                    slots[V, _X_LATER] = 1
                if buf[at] == _LF:
                    return at if step >= needed else GIVEN_BACK
                at += 1
                continue
            if not empty:
                form, limit = fast[program, step, F_THEN], _SURE_DIGITS
                if first == _MINUS:
                    at += 1
                begin = at
                while buf[at] >= _ZERO and buf[at] <= _NINE:
                    at += 1
                count = at - begin
                if form == _PRICE:
                    limit = _SURE_PRICE
                    if buf[at] == _DOT:
                        at += 1
                        point = at
                        while buf[at] >= _ZERO and buf[at] <= _NINE:
                            at += 1
                        count += at - point
                        if at - point > _DECIMALS:
                            return GIVEN_BACK
                elif form == _SMALL:
                    limit = _SURE_SMALL
                if count == 0 or count > limit:
                    return GIVEN_BACK
        elif empty:
            if fast[program, step, F_REQUIRED]:
                return GIVEN_BACK
        elif reader <= _UNSIGNED:
            minus = first == _MINUS
            if minus:
                if reader == _UNSIGNED:
                    return GIVEN_BACK
                at += 1
            begin = at
            value, at = _digits(buf, at, 0)
            count = at - begin
            if reader == _PRICE:
                decimals = 0
                if buf[at] == _DOT:
                    at += 1
                    point = at
                    value, at = _digits(buf, at, value)
                    decimals = at - point
                    count += decimals
                if decimals > 6 or count > _SURE_PRICE:
                    return GIVEN_BACK
                value *= _SCALES[decimals]
            elif count > _SURE_DIGITS or (reader == _SMALL and value > MAX_INT32):
                return GIVEN_BACK
            if count == 0:
                return GIVEN_BACK
            slots[V, slot], slots[S, slot] = (-value if minus else value), 0
        elif reader == _TIME:
            if at + _TIME_BYTES >= end or buf[at + 2] != _COLON or buf[at + 5] != _COLON or buf[at + 8] != _DOT:
                return GIVEN_BACK
            h1, h2, m1, m2 = int(buf[at]) - 48, int(buf[at + 1]) - 48, int(buf[at + 3]) - 48, int(buf[at + 4]) - 48
            s1, s2, u1, u2 = int(buf[at + 6]) - 48, int(buf[at + 7]) - 48, int(buf[at + 9]) - 48, int(buf[at + 10]) - 48
            u3, u4, u5, u6 = (
                int(buf[at + 11]) - 48,
                int(buf[at + 12]) - 48,
                int(buf[at + 13]) - 48,
                int(buf[at + 14]) - 48,
            )
            wrong = h1 | (h1 + 6) | h2 | (h2 + 6) | m1 | (m1 + 6) | m2 | (m2 + 6) | s1 | (s1 + 6) | s2 | (s2 + 6)
            wrong |= u1 | (u1 + 6) | u2 | (u2 + 6) | u3 | (u3 + 6) | u4 | (u4 + 6) | u5 | (u5 + 6) | u6 | (u6 + 6)
            hours, minutes, seconds = h1 * 10 + h2, m1 * 10 + m2, s1 * 10 + s2
            if wrong & ~15 or hours > 23 or minutes > 59 or seconds > 59:
                return GIVEN_BACK
            micros = ((((u1 * 10 + u2) * 10 + u3) * 10 + u4) * 10 + u5) * 10 + u6
            slots[V, slot] = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros
            slots[S, slot] = 0
            at += _TIME_BYTES
        elif reader in (_SYMBOL, _TEXT):
            begin, value_of = at, uint64(FNV_OFFSET)
            while True:
                byte = buf[at]
                if byte < 33 or byte == _COMMA or byte > 126:
                    break
                value_of = (value_of ^ uint64(byte)) * uint64(FNV_PRIME)
                at += 1
            if at == begin or at - begin > MAX_TEXT:
                return GIVEN_BACK
            slots[V, slot], slots[S, slot], slots[E, slot] = begin, 0, at
            slots[H, slot] = np.int64(value_of)
        elif reader == _DATE:
            if at + _DATE_BYTES >= end:
                return GIVEN_BACK
            y, m, d = at, at + 5, at + 8  # CCYY-MM-DD
            if buf[at + 2] == _SLASH and buf[at + 5] == _SLASH:
                y, m, d = at + 6, at, at + 3  # MM/DD/CCYY
            elif buf[at + 4] != _MINUS or buf[at + 7] != _MINUS:
                return GIVEN_BACK
            y1, y2, y3, y4 = int(buf[y]) - 48, int(buf[y + 1]) - 48, int(buf[y + 2]) - 48, int(buf[y + 3]) - 48
            m1, m2, d1, d2 = int(buf[m]) - 48, int(buf[m + 1]) - 48, int(buf[d]) - 48, int(buf[d + 1]) - 48
            wrong = y1 | (y1 + 6) | y2 | (y2 + 6) | y3 | (y3 + 6) | y4 | (y4 + 6)
            wrong |= m1 | (m1 + 6) | m2 | (m2 + 6) | d1 | (d1 + 6) | d2 | (d2 + 6)
            if wrong & ~15:
                return GIVEN_BACK
            key = (((((((y1 * 10 + y2) * 10 + y3) * 10 + y4) * 10 + m1) * 10 + m2) * 10) + d1) * 10 + d2
            if state[S_DATE_KEY] != key:  # the same day again, nearly always
                day, status = day_number(key // 10_000, key // 100 % 100, key % 100)
                if status != 0:
                    return GIVEN_BACK
                state[S_DATE_KEY], state[S_DATE_DAY] = key, day
            slots[V, slot], slots[S, slot] = state[S_DATE_DAY], 0
            at += _DATE_BYTES
        elif reader == _CONTENTS:
            begin = at
            while buf[at] != _COMMA and buf[at] != _LF and buf[at] != _CR:
                at += 1
            value, status = take.basis(buf, begin, at)
            if status > 0:
                return GIVEN_BACK
            slots[V, slot], slots[S, slot] = value, status
        elif reader == _SIDE:
            if first not in (65, 66):
                return GIVEN_BACK
            slots[V, slot], slots[S, slot] = (1 if first == 65 else 0), 0
            at += 1
        elif reader == _DAY_CODE:
            code = first - 48
            if code < 0 or code > 9:
                return GIVEN_BACK
            at += 1
            second = int(buf[at]) - 48
            if second >= 0 and second <= 9:
                code = code * 10 + second
                at += 1
            if code < 1 or code > 31:
                return GIVEN_BACK
            slots[V, slot], slots[S, slot] = code, 0
        elif reader == _DELAY:
            if first != 48:
                return GIVEN_BACK
            at += 1
        else:
            return GIVEN_BACK
        byte = buf[at]
        if byte == _COMMA:
            at += 1
        elif byte == _LF:
            return at if step >= needed else GIVEN_BACK
        elif byte == _CR and buf[at + 1] == _LF:
            return at + 1 if step >= needed else GIVEN_BACK
        else:
            return GIVEN_BACK
    while buf[at] != _LF:
        at += 1
    return at
