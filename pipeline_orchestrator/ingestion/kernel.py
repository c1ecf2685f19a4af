"""The parse kernel: a run of frames -> rows of columns, one pass over the bytes, no Python per line.

It does every line except `S,...` (given back to Python one by one: rare, and one of them changes the layout) and own
facts. Results equal `reference_parser.parse_line` for each line, whatever the cut; a property test holds both
together. What to read from a line comes from `programs`; a line is read into scratch slots first and stored only when
all of it is good. The loop is one long function on purpose: every array handed to another compiled function costs
two atomic reference counts.
"""

from __future__ import annotations

from typing import Any, Final

from numba import njit

from pipeline_orchestrator.flow.spool_format import OVERSIZE as OVERSIZE_FLAG
from pipeline_orchestrator.ingestion import kernel_fields as take
from pipeline_orchestrator.ingestion import kernel_times as times
from pipeline_orchestrator.ingestion import programs as prog
from pipeline_orchestrator.ingestion.columns import (
    B_NARROW,
    B_RAW,
    B_SUMMARY,
    N_AGGRESSOR,
    N_BASIS,
    N_CENTER,
    N_CONDITIONS,
    N_DATE,
    N_INSTANCE,
    N_KIND,
    N_MMID,
    N_PORT,
    N_SYMBOL,
    NARROW,
    W_EPOCH,
    W_PRICE,
    W_RECV,
    W_SEQ,
    W_SIZE,
    W_TICK_ID,
    W_TIME,
    WIDE,
)
from pipeline_orchestrator.ingestion.intern import CONDITIONS, SYMBOLS, code_of, hash_of
from pipeline_orchestrator.ingestion.kernel_fast import (
    GIVEN_BACK,
    LATER_BEGIN,
    LATER_END,
    E,
    H,
    S,
    V,
    fast_line,
)
from pipeline_orchestrator.ingestion.kernel_fields import NULL
from pipeline_orchestrator.ingestion.kernel_times import (
    S_CLOCK1_DAY,
    S_CLOCK1_KNOWN,
    S_CLOCK1_TOD,
    S_CLOCK2_DAY,
    S_CLOCK2_KNOWN,
    S_CLOCK2_TOD,
)
from pipeline_orchestrator.ingestion.kernel_work import (
    C_ERRORS,
    C_FRAME,
    C_LINE,
    C_LINE_END,
    C_NEXT,
    C_POS,
    C_RAW,
    C_ROW,
    DONE,
    E_CODE,
    E_END,
    E_FRAME,
    E_LINE,
    E_START,
    ERRORS_FULL,
    ROWS_FULL,
    SYSTEM_LINE,
    TEXTS_FULL,
)
from pipeline_orchestrator.ingestion.layout import MAX_FIELDS
from pipeline_orchestrator.ingestion.programs import P_FIELD, P_READER, P_REQUIRED, P_SLOT
from pipeline_orchestrator.ingestion.reasons import EMPTY_LINE, MISSING_FIELD, OVERSIZE, UNKNOWN_TYPE
from pipeline_orchestrator.market.events import KIND, PORT

_OTHER: Final = -2  # status: keep the line with its bytes, and its symbol where it has one
_OTHER_PLAIN: Final = -4  # the same without a symbol
_NO_ROOM: Final = -3
_NO_PROGRAM: Final = -1

_K_OTHER, _K_TRADE, _K_QUOTE = KIND["other"], KIND["trade"], KIND["quote"]
_K_CLOCK, _K_CORRECTION = KIND["clock"], KIND["correction"]
_LEVEL1, _LEVEL2 = PORT["level1"], PORT["level2"]
_LF, _CR, _COMMA = 10, 13, 44
_TYPE_Q, _TYPE_P, _TYPE_C, _TYPE_T, _TYPE_S = (ord(letter) for letter in "QPCTS")
_TYPE_F, _TYPE_R, _TYPE_N, _TYPE_E, _TYPE_M, _TYPE_O, _TYPE_LN, _TYPE_LQ = (ord(letter) for letter in "FRNEMOnq")
_0, _3, _4, _5, _6, _7, _8, _9 = (ord(digit) for digit in "03456789")
_SLOTS = prog.SLOTS
_WIDE, _COLUMNS = len(WIDE), len(WIDE) + len(NARROW)
_SYMBOL, _CONDITIONS, _MAKER = B_NARROW + N_SYMBOL, B_NARROW + N_CONDITIONS, B_NARROW + N_MMID
_BASIS, _DATE = B_NARROW + N_BASIS, B_NARROW + N_DATE
_CENTER, _AGGRESSOR = B_NARROW + N_CENTER, B_NARROW + N_AGGRESSOR
_KINDS = prog.KIND_OF_TYPE
_X_DATE, _X_TIME, _X_TIME2 = prog.X_DATE, prog.X_TIME, prog.X_TIME2
_X_CODE, _X_LATER, _X_TRADE_TIME = prog.X_CODE, prog.X_LATER, prog.X_TRADE_TIME
_Q_LINE, _Q_TRADE, _Q_QUOTE, _P_LINE = prog.Q_LINE, prog.Q_TRADE, prog.Q_QUOTE, prog.P_LINE
_ORDER, _ORDER_DELETE, _LEVEL, _LEVEL_DELETE = prog.ORDER, prog.ORDER_DELETE, prog.LEVEL, prog.LEVEL_DELETE
_C_TYPED, _C_PLAIN = prog.C_TYPED, prog.C_PLAIN
_R_PRICE, _R_INTEGER, _R_SMALL, _R_UNSIGNED = prog.R_PRICE, prog.R_INTEGER, prog.R_SMALL, prog.R_UNSIGNED
_R_TIME, _R_DATE, _R_SIDE, _R_DAY_CODE = prog.R_TIME, prog.R_DATE, prog.R_SIDE, prog.R_DAY_CODE
_R_SYMBOL, _R_TEXT, _R_DELAY, _R_CONTENTS = prog.R_SYMBOL, prog.R_TEXT, prog.R_DELAY, prog.R_CONTENTS
_R_LETTER, _R_WHOLE = prog.R_LETTER, prog.R_WHOLE


@njit(cache=True, error_model="numpy")
def _read(buf: Any, a: int, b: int, reader: int) -> tuple[int, int]:  # Any: arrays inside kernels
    """One field by its reader: (value, status); texts have no value here."""
    if reader == _R_PRICE:
        return take.price(buf, a, b)
    if reader in (_R_INTEGER, _R_DELAY):
        value, status = take.digits(buf, a, b, True)
        if reader == _R_DELAY and status == 0 and value != 0:
            status = _OTHER
        return value, status
    if reader == _R_TIME:
        return take.time_of_day(buf, a, b)
    if reader == _R_DATE:
        return take.date(buf, a, b)
    if reader == _R_SYMBOL:
        return 0, take.symbol_status(buf, a, b)
    if reader == _R_TEXT:
        return 0, take.text_status(buf, a, b)
    if reader == _R_SMALL:
        return take.small(buf, a, b)
    if reader == _R_SIDE:
        return take.side(buf, a, b)
    if reader == _R_UNSIGNED:
        return take.unsigned_bits(buf, a, b)
    if reader == _R_DAY_CODE:
        return take.day_code(buf, a, b)
    if reader == _R_LETTER:
        return take.correction_letter(buf, a, b)
    value, status = take.basis(buf, a, b)
    if status > 0 and reader != _R_CONTENTS:  # the type of a corrected trade: one that is unknown is none
        return 0, NULL
    return value, status


@njit(cache=True, error_model="numpy")
def _program_of(kind: int, port: int) -> int:
    """Program of a line type on a port; _NO_PROGRAM where it has none."""
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
        if kind in (_3, _4, _6, _0):
            return _ORDER
        if kind == _5:
            return _ORDER_DELETE
    return _NO_PROGRAM


@njit(cache=True, error_model="numpy")
def parse_frames(buf: Any, table: Any, columns: Any, texts: Any, work: Any) -> int:  # Any: arrays inside kernels
    """Parse from `work.cursor` on; returns one of DONE, SYSTEM_LINE, TEXTS_FULL, ERRORS_FULL, ROWS_FULL.

    `table` is a frame table of spool_scan without facts. Rows and refused lines are appended at the cursor.
    """
    programs, fast, state, offs, slots, cursor, errors = work
    wide, narrow, bits, raw_ends, raw = columns
    t_slots, t_ends, t_arena, t_meta = texts
    frame, pos, line = cursor[C_FRAME], cursor[C_POS], cursor[C_LINE]
    row, raw_at, refused = cursor[C_ROW], cursor[C_RAW], cursor[C_ERRORS]
    result = DONE
    while frame < table.shape[0]:
        end, port, recv_us = table[frame, 0] + table[frame, 1], table[frame, 3], table[frame, 8]
        if pos < 0:
            pos, line = table[frame, 0], 0
        # The quick way relies on a line end as the last byte of all, and on fields that belong to a line.
        whole = end > pos and buf[end - 1] == _LF and table[frame, 4] & OVERSIZE_FLAG == 0
        while pos < end:
            if row >= wide.shape[1] or refused >= errors.shape[0]:
                result = ROWS_FULL if row >= wide.shape[1] else ERRORS_FULL
                break
            for slot in range(_SLOTS):
                slots[S, slot] = NULL
            kind, program, quick, status, event = int(buf[pos]), _NO_PROGRAM, GIVEN_BACK, 0, _K_OTHER
            if whole and kind != _LF and buf[pos + 1] == _COMMA:  # the last byte is an LF: this one has a successor
                program = _program_of(kind, port)
                if program not in (_NO_PROGRAM, _C_PLAIN):
                    quick = fast_line(buf, pos + 2, end, fast, program, slots, state)
            stop, after, fields, trade = quick, quick + 1, 0, False
            if quick != GIVEN_BACK:
                trade = program == _Q_LINE and slots[S, _BASIS] == 0
                if trade:
                    # The text of a trade is put off where Message Contents comes behind it.
                    if slots[V, _X_LATER] != 0:
                        a, b = slots[LATER_BEGIN, _CONDITIONS], slots[LATER_END, _CONDITIONS]
                        status = take.text_status(buf, a, b)
                        slots[V, _CONDITIONS], slots[S, _CONDITIONS], slots[E, _CONDITIONS] = a, status, b
                        if status == 0:
                            slots[H, _CONDITIONS] = hash_of(buf, a, b)
                    if status > 0 or slots[S, W_PRICE] != 0 or slots[S, W_SIZE] != 0:
                        quick = GIVEN_BACK
                elif program == _Q_LINE:
                    # A quote-only update repeats the last trade: sound, but not its own.
                    slots[S, W_PRICE] = slots[S, W_SIZE] = slots[S, W_TICK_ID] = NULL
                    slots[S, _CENTER] = slots[S, _AGGRESSOR] = NULL
                status = 0
            if quick == GIVEN_BACK:
                for slot in range(_SLOTS):
                    slots[S, slot] = NULL
                # One pass finds the line's end and its commas.
                n, stop = 0, end
                offs[0] = pos
                for i in range(pos, end):
                    byte = buf[i]
                    if byte <= _COMMA:
                        if byte == _COMMA:
                            if n < MAX_FIELDS:
                                n += 1
                                offs[n] = i + 1
                        elif byte == _LF:
                            stop = i
                            break
                after = stop + 1
                if stop > pos and buf[stop - 1] == _CR:
                    stop -= 1
                size = stop - pos
                # n commas make n + 1 fields; one empty field at the end does not count.
                fields = MAX_FIELDS
                if n < MAX_FIELDS:
                    offs[n + 1] = stop + 1
                    fields = n if n > 0 and offs[n] >= stop else n + 1
                program = _program_of(kind, port)
                status = 0
                if table[frame, 4] & OVERSIZE_FLAG:
                    status = OVERSIZE
                elif size == 0:
                    status = EMPTY_LINE
                elif size > 1 and buf[pos + 1] != _COMMA:
                    status = UNKNOWN_TYPE
                elif program == _NO_PROGRAM:
                    if kind == _TYPE_S:
                        cursor[C_LINE_END], cursor[C_NEXT] = stop, after
                        result = SYSTEM_LINE
                        break
                    if kind in (_TYPE_F, _TYPE_R, _TYPE_LN, _TYPE_LQ):
                        status = _OTHER
                    elif kind in (_TYPE_N, _TYPE_E, _TYPE_M, _TYPE_O):
                        status = _OTHER_PLAIN
                    elif kind != _TYPE_T:
                        status = UNKNOWN_TYPE
                if status == 0 and kind == _TYPE_T:
                    a, b = (offs[1], offs[2] - 1) if fields > 1 else (0, 0)
                    day, tod, status = take.clock(buf, a, b)
                    if status == 0:
                        if port == _LEVEL1:
                            state[S_CLOCK1_KNOWN], state[S_CLOCK1_DAY], state[S_CLOCK1_TOD] = 1, day, tod
                        elif port == _LEVEL2:
                            state[S_CLOCK2_KNOWN], state[S_CLOCK2_DAY], state[S_CLOCK2_TOD] = 1, day, tod
                        slots[V, W_TIME], slots[S, W_TIME] = times.to_utc(state, day, tod, recv_us), 0
                        slots[V, _DATE], slots[S, _DATE] = day, 0
                elif status == 0:
                    if program == _C_PLAIN:
                        third = offs[4] - 1 - offs[3] if fields > 3 else 0
                        if third == 1 or (third <= 0 and fields > 10):
                            program = _C_TYPED
                    reading = program
                    while True:
                        for step in range(1, programs[reading, 0, P_FIELD] + 1):
                            field, slot = programs[reading, step, P_FIELD], programs[reading, step, P_SLOT]
                            reader = programs[reading, step, P_READER]
                            if reader == _R_WHOLE:
                                if n < field:
                                    status = MISSING_FIELD
                                    break
                                continue
                            a, b = 0, 0
                            if field < fields:
                                a, b = offs[field], offs[field + 1] - 1
                            value, status = _read(buf, a, b, reader)
                            if status == NULL and programs[reading, step, P_REQUIRED]:
                                status = MISSING_FIELD
                            if status > 0 or status == _OTHER:
                                break
                            slots[V, slot], slots[S, slot] = value, status
                            if status == 0 and slot in (_SYMBOL, _CONDITIONS, _MAKER):
                                slots[V, slot], slots[E, slot], slots[H, slot] = a, b, hash_of(buf, a, b)
                        if status > 0 or status == _OTHER:
                            break
                        status = 0
                        if reading != _Q_LINE:
                            break
                        trade = slots[S, _BASIS] == 0
                        reading = _Q_TRADE if trade else _Q_QUOTE
            if status == 0:
                if kind == _TYPE_T:
                    event = _K_CLOCK
                else:
                    day, day_s = slots[V, _X_DATE], slots[S, _X_DATE]
                    slot = _X_TRADE_TIME if trade else _X_TIME
                    tod, tod_s = slots[V, slot], slots[S, slot]
                    if program == _P_LINE or (program == _Q_LINE and not trade):
                        event = _K_QUOTE
                        slots[V, W_TIME], slots[S, W_TIME] = times.quote_time(
                            state, tod, tod_s, slots[V, _X_TIME2], slots[S, _X_TIME2], recv_us
                        )
                    else:
                        event = _K_TRADE if trade else (_KINDS[kind] if _KINDS[kind] >= 0 else _K_CORRECTION)
                        slots[V, W_TIME], slots[S, W_TIME] = times.line_time(state, day, day_s, tod, tod_s, recv_us)
                    slots[V, _DATE], slots[S, _DATE] = times.trading_day(
                        state, slots[V, _X_CODE], slots[S, _X_CODE], day, day_s
                    )
            keep = status in (_OTHER, _OTHER_PLAIN)
            if keep:
                for slot in range(_SLOTS):
                    slots[S, slot] = NULL
                if status == _OTHER and fields > 1 and take.printable(buf, offs[1], offs[2] - 1):
                    a, b = offs[1], offs[2] - 1
                    slots[V, _SYMBOL], slots[S, _SYMBOL], slots[E, _SYMBOL] = a, 0, b
                    slots[H, _SYMBOL] = hash_of(buf, a, b)
                if state[S_CLOCK1_KNOWN] != 0:
                    slots[V, _DATE], slots[S, _DATE] = state[S_CLOCK1_DAY], 0
                status = 0
            if status == 0:
                for which in range(3):
                    slot = _SYMBOL if which == SYMBOLS else (_CONDITIONS if which == CONDITIONS else _MAKER)
                    if slots[S, slot] == 0:
                        a, b = slots[V, slot], slots[E, slot]
                        code = code_of(t_slots, t_ends, t_arena, t_meta, which, buf, a, b, slots[H, slot])
                        if code < 0:
                            status = _NO_ROOM
                        slots[V, slot] = code
                if status == _NO_ROOM:
                    result = TEXTS_FULL
                    break
                if keep:
                    for i in range(stop - pos):
                        raw[raw_at + i] = buf[pos + i]
                    raw_at += stop - pos
                byte_at, bit = row >> 3, 1 << (row & 7)
                for slot in range(W_TIME, _WIDE):
                    if slots[S, slot] == 0:
                        wide[slot, row] = slots[V, slot]
                        bits[slot, byte_at] |= bit
                for slot in range(_WIDE + N_SYMBOL, _COLUMNS):
                    if slots[S, slot] == 0:
                        narrow[slot - _WIDE, row] = slots[V, slot]
                        bits[slot, byte_at] |= bit
                if kind in (_TYPE_P, _6, _0, _7) and not keep:
                    bits[B_SUMMARY, byte_at] |= bit
                if keep:
                    bits[B_RAW, byte_at] |= bit
                narrow[N_INSTANCE, row], narrow[N_PORT, row], narrow[N_KIND, row] = table[frame, 2], port, event
                wide[W_EPOCH, row], wide[W_SEQ, row], wide[W_RECV, row] = (
                    table[frame, 5],
                    table[frame, 6] + line,
                    recv_us,
                )
                row += 1
                raw_ends[row] = raw_at
            else:
                errors[refused, E_START], errors[refused, E_END] = pos, stop
                errors[refused, E_FRAME], errors[refused, E_LINE], errors[refused, E_CODE] = frame, line, status
                refused += 1
            line += 1
            pos = after
        if result != DONE:
            break
        frame += 1
        pos = -1
    cursor[C_FRAME], cursor[C_POS], cursor[C_LINE] = frame, pos, line
    cursor[C_ROW], cursor[C_ERRORS], cursor[C_RAW] = row, refused, raw_at
    return result
