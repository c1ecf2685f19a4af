"""Where lines lie in a receive buffer: counted and bounded in one pass, control lines listed, clocks read.

The receiving side needs no more than this before the bytes are safe; everything else is parsed from the spool.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

from pipeline_orchestrator.ingestion import kernel_fields as take
from pipeline_orchestrator.market.eastern import DAY_US

MAX_LINE: Final = 64 << 10  # bytes of a line before its LF; a longer one is refused, its head is kept
MAX_CONTROLS: Final = 512

WHOLE: Final = 0  # everything up to the last line end was taken
TOO_LONG: Final = 1  # a finished line longer than MAX_LINE begins at `end`
CONTROLS_FULL: Final = 2  # more control lines than fit: call again from `end`

# controls[row]
K_START: Final = 0
K_END: Final = 1  # without line end
K_LINE: Final = 2  # number of the line in this scan


class Scan(NamedTuple):
    """Result of one pass over `buf[start:size]`."""

    stop: int  # WHOLE | TOO_LONG | CONTROLS_FULL
    end: int  # first byte not taken
    lines: int
    controls: int
    last_start: int  # of the last line taken, -1 = none
    last_end: int  # its end without line end
    clock: int  # newest valid T as local time, -1 = none


@njit(cache=True, error_model="numpy")
def _scan(buf: Any, start: int, size: int, controls: Any) -> tuple[int, int, int, int, int, int, int]:
    # Any: arrays inside kernels
    stop, end, lines, listed, last_start, last_end, clock = 0, start, 0, 0, -1, -1, -1
    pos = start
    while pos < size:
        at = pos
        while at < size and buf[at] != 10:
            at += 1
        if at >= size:
            break
        if at - pos > MAX_LINE:
            stop = TOO_LONG
            break
        tail = at
        if tail > pos and buf[tail - 1] == 13:
            tail -= 1
        if tail > pos and (tail - pos == 1 or buf[pos + 1] == 44):
            kind = buf[pos]
            if kind in (83, 69, 110):  # S E n
                if listed >= controls.shape[0]:
                    stop = CONTROLS_FULL
                    break
                controls[listed, K_START], controls[listed, K_END], controls[listed, K_LINE] = pos, tail, lines
                listed += 1
            elif kind == 84 and tail - pos > 2:  # T
                comma = pos + 2
                while comma < tail and buf[comma] != 44:
                    comma += 1
                day, tod, status = take.clock(buf, pos + 2, comma)
                if status == 0:
                    clock = day * DAY_US + tod
        lines += 1
        last_start, last_end = pos, tail
        pos = at + 1
        end = pos
    return stop, end, lines, listed, last_start, last_end, clock


def scan(buf: Any, start: int, size: int, controls: Any) -> Scan:  # Any: uint8 and int64 arrays
    """Take whole lines from `start`; `controls` is filled with the S, E and n lines among them."""
    return Scan(*_scan(buf, start, size, controls))


def control_table() -> Any:
    """A table for `scan`."""
    return np.zeros((MAX_CONTROLS, 3), dtype=np.int64)


def warm() -> None:
    """Compile the kernel."""
    scan(np.zeros(4, dtype=np.uint8), 0, 4, control_table())
