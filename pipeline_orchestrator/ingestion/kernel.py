"""The parse kernel: a run of frames -> rows of columns, one pass over the bytes, no Python per line.

It does every line except `S,...` (given back to Python one by one: rare, and one of them changes the layout) and own
facts. Results equal `reference_parser.parse_events` for each line, whatever the cut; a property test holds both
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
    N_IDX,
    N_INSTANCE,
    N_KIND,
    N_MMID,
    N_PORT,
    N_SIDE,
    N_SYMBOL,
    NARROW,
    W_ASK,
    W_ASK_SIZE,
    W_BID,
    W_BID_SIZE,
    W_EPOCH,
    W_ORDER_ID,
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
from pipeline_orchestrator.ingestion.kernel_read import NO_PROGRAM, OTHER, program_of, read_field
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
    TOO_MANY_LINES,
)
from pipeline_orchestrator.ingestion.layout import MAX_FIELDS
from pipeline_orchestrator.ingestion.programs import P_FIELD, P_READER, P_REQUIRED, P_SLOT
from pipeline_orchestrator.ingestion.reasons import EMPTY_LINE, MISSING_FIELD, OVERSIZE, UNKNOWN_TYPE
from pipeline_orchestrator.market.events import KIND, PORT
from pipeline_orchestrator.market.wire_fields import NULL

_OTHER_PLAIN: Final = -4  # status: keep the line with its bytes; OTHER: with its symbol too, where it has one
_NO_ROOM: Final = -3

_K_OTHER, _K_TRADE, _K_QUOTE = KIND["other"], KIND["trade"], KIND["quote"]
_K_ADD, _K_CHANGE, _K_DELETE = KIND["order_add"], KIND["order_change"], KIND["order_delete"]
_K_CLOCK, _K_CORRECTION = KIND["clock"], KIND["correction"]
_LEVEL1, _LEVEL2 = PORT["level1"], PORT["level2"]
_LF, _CR, _COMMA = 10, 13, 44
_TYPE_Q, _TYPE_P, _TYPE_C, _TYPE_T, _TYPE_S, _TYPE_Z = (ord(letter) for letter in "QPCTSZ")
_TYPE_F, _TYPE_R, _TYPE_N, _TYPE_E, _TYPE_M, _TYPE_O, _TYPE_LN, _TYPE_LQ = (ord(letter) for letter in "FRNEMOnq")
_0, _6, _7 = (ord(digit) for digit in "067")
_SLOTS = prog.SLOTS
_WIDE, _COLUMNS = len(WIDE), len(WIDE) + N_IDX  # idx stands last and is written apart
assert len(NARROW) == N_IDX + 1
_SYMBOL, _CONDITIONS, _MAKER = B_NARROW + N_SYMBOL, B_NARROW + N_CONDITIONS, B_NARROW + N_MMID
_SIDE = B_NARROW + N_SIDE
_BASIS, _DATE = B_NARROW + N_BASIS, B_NARROW + N_DATE
_CENTER, _AGGRESSOR = B_NARROW + N_CENTER, B_NARROW + N_AGGRESSOR
_KINDS = prog.KIND_OF_TYPE
_X_DATE, _X_TIME, _X_TIME2 = prog.X_DATE, prog.X_TIME, prog.X_TIME2
_X_CODE, _X_LATER, _X_TRADE_TIME = prog.X_CODE, prog.X_LATER, prog.X_TRADE_TIME
_Q_LINE, _Q_TRADE, _Q_QUOTE, _P_LINE = prog.Q_LINE, prog.Q_TRADE, prog.Q_QUOTE, prog.P_LINE
_C_TYPED, _C_PLAIN, _BOTH_SIDES = prog.C_TYPED, prog.C_PLAIN, prog.BOTH_SIDES
_X_BID_VALID, _X_ASK_VALID = prog.X_BID_VALID, prog.X_ASK_VALID
_R_WHOLE, _UNLESS_ID = prog.R_WHOLE, prog.UNLESS_ID


@njit(cache=True, error_model="numpy")
def parse_frames(buf: Any, table: Any, columns: Any, texts: Any, work: Any) -> int:  # Any: arrays inside kernels
    """Parse from `work.cursor` on; returns one of the codes of kernel_work (DONE ... TOO_MANY_LINES).

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
            if line >= table[frame, 7]:
                result = TOO_MANY_LINES
                break
            for slot in range(_SLOTS):
                slots[S, slot] = NULL
            kind, program, quick, status, event = int(buf[pos]), NO_PROGRAM, GIVEN_BACK, 0, _K_OTHER
            if whole and kind != _LF and buf[pos + 1] == _COMMA:  # the last byte is an LF: this one has a successor
                program = program_of(kind, port)
                if program not in (NO_PROGRAM, _C_PLAIN, _BOTH_SIDES):
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
                program = program_of(kind, port)
                status = 0
                if table[frame, 4] & OVERSIZE_FLAG:
                    status = OVERSIZE
                elif size == 0:
                    status = EMPTY_LINE
                elif size > 1 and buf[pos + 1] != _COMMA:
                    status = UNKNOWN_TYPE
                elif program == NO_PROGRAM:
                    if kind == _TYPE_S:
                        cursor[C_LINE_END], cursor[C_NEXT] = stop, after
                        result = SYSTEM_LINE
                        break
                    if kind in (_TYPE_F, _TYPE_R, _TYPE_LN, _TYPE_LQ, _0):
                        status = OTHER
                    elif kind in (_TYPE_N, _TYPE_E, _TYPE_M, _TYPE_O):
                        status = _OTHER_PLAIN
                    elif kind != _TYPE_T:
                        status = UNKNOWN_TYPE
                    if status < 0 and fields < 2 and kind != _TYPE_O:  # an O has no fields
                        status = MISSING_FIELD
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
                            value, status = read_field(buf, a, b, reader)
                            required = programs[reading, step, P_REQUIRED]
                            if status == NULL and required and (required != _UNLESS_ID or slots[S, W_ORDER_ID] != 0):
                                status = MISSING_FIELD
                            if status > 0 or status == OTHER:
                                break
                            slots[V, slot], slots[S, slot] = value, status
                            if status == 0 and slot in (_SYMBOL, _CONDITIONS, _MAKER):
                                slots[V, slot], slots[E, slot], slots[H, slot] = a, b, hash_of(buf, a, b)
                        if status > 0 or status == OTHER:
                            break
                        status = 0
                        if reading != _Q_LINE:
                            break
                        trade = slots[S, _BASIS] == 0
                        reading = _Q_TRADE if trade else _Q_QUOTE
                    if status == 0 and program == _BOTH_SIDES:
                        # A side that is said to be quoted needs its price and size.
                        if slots[V, _X_BID_VALID] == 1 and (slots[S, W_BID] != 0 or slots[S, W_BID_SIZE] != 0):
                            status = MISSING_FIELD
                        if slots[V, _X_ASK_VALID] == 1 and (slots[S, W_ASK] != 0 or slots[S, W_ASK_SIZE] != 0):
                            status = MISSING_FIELD
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
                    if kind == _TYPE_C and day_s != 0 and tod_s != 0:
                        slots[S, _DATE] = NULL  # it may name a trade of another day than today
            keep = status in (OTHER, _OTHER_PLAIN)
            if keep:
                for slot in range(_SLOTS):
                    slots[S, slot] = NULL
                if status == OTHER and fields > 1 and take.printable(buf, offs[1], offs[2] - 1):
                    a, b = offs[1], offs[2] - 1
                    slots[V, _SYMBOL], slots[S, _SYMBOL], slots[E, _SYMBOL] = a, 0, b
                    slots[H, _SYMBOL] = hash_of(buf, a, b)
                if state[S_CLOCK1_KNOWN] != 0:
                    slots[V, _DATE], slots[S, _DATE] = state[S_CLOCK1_DAY], 0
                status = 0
            both = status == 0 and program == _BOTH_SIDES
            if both and row + 2 > wide.shape[1]:
                result = ROWS_FULL
                break
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
                # Both sides of a line are read; now they become a bid row and an ask row.
                bid, bid_size, ask, ask_size, idx = 0, 0, 0, 0, 0
                if both:
                    bid, bid_size = slots[V, W_BID], slots[V, W_BID_SIZE]
                    ask, ask_size = slots[V, W_ASK], slots[V, W_ASK_SIZE]
                    slots[S, W_BID] = slots[S, W_BID_SIZE] = slots[S, W_ASK] = slots[S, W_ASK_SIZE] = NULL
                    slots[S, _SIDE] = 0
                while True:
                    if both:
                        valid = slots[V, _X_BID_VALID if idx == 0 else _X_ASK_VALID] == 1
                        event = (_K_ADD if kind == _TYPE_Z else _K_CHANGE) if valid else _K_DELETE
                        slots[V, _SIDE] = idx
                        slots[V, W_PRICE], slots[V, W_SIZE] = (bid, bid_size) if idx == 0 else (ask, ask_size)
                        slots[S, W_PRICE] = slots[S, W_SIZE] = 0 if valid else NULL
                        if idx == 1:
                            slots[V, W_TIME], slots[S, W_TIME] = times.line_time(
                                state,
                                slots[V, _X_DATE],
                                slots[S, _X_DATE],
                                slots[V, _X_TIME2],
                                slots[S, _X_TIME2],
                                recv_us,
                            )
                    byte_at, bit = row >> 3, 1 << (row & 7)
                    for slot in range(W_TIME, _WIDE):
                        if slots[S, slot] == 0:
                            wide[slot, row] = slots[V, slot]
                            bits[slot, byte_at] |= bit
                    for slot in range(_WIDE + N_SYMBOL, _COLUMNS):
                        if slots[S, slot] == 0:
                            narrow[slot - _WIDE, row] = slots[V, slot]
                            bits[slot, byte_at] |= bit
                    if kind in (_TYPE_P, _6, _7, _TYPE_Z) and not keep:
                        bits[B_SUMMARY, byte_at] |= bit
                    if keep:
                        bits[B_RAW, byte_at] |= bit
                    narrow[N_INSTANCE, row], narrow[N_PORT, row], narrow[N_KIND, row] = table[frame, 2], port, event
                    narrow[N_IDX, row] = idx
                    wide[W_EPOCH, row], wide[W_SEQ, row], wide[W_RECV, row] = (
                        table[frame, 5],
                        table[frame, 6] + line,
                        recv_us,
                    )
                    row += 1
                    raw_ends[row] = raw_at
                    if not both or idx == 1:
                        break
                    idx = 1
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
