"""What the parse kernel works with: its return values, where a call stands, its memory between calls."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline_orchestrator.ingestion import programs as prog
from pipeline_orchestrator.ingestion.kernel_fast import SLOT_ROWS
from pipeline_orchestrator.ingestion.kernel_times import STATE_SIZE
from pipeline_orchestrator.ingestion.layout import MAX_FIELDS

# What parse_frames returns.
DONE: Final = 0
SYSTEM_LINE: Final = 1  # cursor stands before an S line: Python does it and goes on behind it
TEXTS_FULL: Final = 2  # grow the intern tables, call again
ERRORS_FULL: Final = 3  # collect the refused lines, call again
ROWS_FULL: Final = 4  # make room for more rows, call again
TOO_MANY_LINES: Final = 5  # a frame holds more lines than it declares

# cursor[...]: where the next call goes on
C_FRAME: Final = 0
C_POS: Final = 1  # -1 = at the frame's first byte
C_LINE: Final = 2
C_ROW: Final = 3
C_ERRORS: Final = 4
C_RAW: Final = 5
C_LINE_END: Final = 6  # end of the S line, without its line end
C_NEXT: Final = 7  # first byte after it
CURSOR_SIZE: Final = 8

# errors[row]: one refused line
E_START, E_END, E_FRAME, E_LINE, E_CODE = range(5)
ERROR_COLUMNS: Final = 5


class Work(NamedTuple):
    """What a parser keeps between calls: programs of the layout, state, scratch, call cursor, refused lines."""

    programs: npt.NDArray[np.int64]
    fast: npt.NDArray[np.int64]
    state: npt.NDArray[np.int64]
    offs: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]  # scratch: see kernel_fast
    cursor: npt.NDArray[np.int64]
    errors: npt.NDArray[np.int64]


def make_work(errors: int = 1024) -> Work:
    """Fresh working memory, with no layout yet."""
    return Work(
        np.zeros((0, 0, 4), dtype=np.int64),
        np.zeros((0, 0, 4), dtype=np.int64),
        np.zeros(STATE_SIZE, dtype=np.int64),
        np.zeros(MAX_FIELDS + 4, dtype=np.int64),
        np.zeros((SLOT_ROWS, prog.SLOTS), dtype=np.int64),
        np.zeros(CURSOR_SIZE, dtype=np.int64),
        np.zeros((errors, ERROR_COLUMNS), dtype=np.int64),
    )
