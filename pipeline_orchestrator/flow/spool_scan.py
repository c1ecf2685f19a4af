"""Frame headers of a run of spool bytes as one integer table, without Python per frame."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from pipeline_orchestrator.flow.spool_format import FRAME_BYTES, OVERSIZE, PREFIX, Frame

# Columns of a frame table (int64, one row per frame).
START: Final = 0  # of the frame's bytes in the buffer
LENGTH: Final = 1
INSTANCE: Final = 2
PORT: Final = 3
FLAGS: Final = 4
EPOCH: Final = 5
SEQ: Final = 6
COUNT: Final = 7
RECV_US: Final = 8
COLUMNS: Final = 9

_HEAD = FRAME_BYTES
_PREFIX = PREFIX.size

Bytes = npt.NDArray[np.uint8]
Table = npt.NDArray[np.int64]


@njit(cache=True)
def _uint(buf: Any, at: int, size: int) -> int:  # Any: arrays inside kernels
    value = np.int64(0)
    for i in range(size - 1, -1, -1):
        value = (value << 8) | np.int64(buf[at + i])
    return int(value)


@njit(cache=True)
def scan_frames(buf: Any, size: int, max_lines: int, table: Any) -> tuple[int, int, int]:  # Any: arrays in kernels
    """Fill `table` with the whole frames in `buf[:size]`; returns (frames, bytes consumed, lines).

    Stops before a frame that is unfinished, before the table is full, and before `max_lines` would be passed
    (one frame is always taken). Checksums are not compared here.
    """
    at, frames, lines = 0, 0, 0
    while frames < table.shape[0] and at + _HEAD <= size:
        length = _uint(buf, at, 4)
        end = at + _PREFIX + length
        count = _uint(buf, at + 28, 4)
        if length < _HEAD - _PREFIX or end > size or (frames > 0 and lines + count > max_lines):
            break
        table[frames, 0] = at + _HEAD
        table[frames, 1] = end - at - _HEAD
        table[frames, 2] = _uint(buf, at + 8, 2)
        table[frames, 3] = buf[at + 10]
        table[frames, 4] = buf[at + 11]
        table[frames, 5] = _uint(buf, at + 12, 8)
        table[frames, 6] = _uint(buf, at + 20, 8)
        table[frames, 7] = count
        table[frames, 8] = _uint(buf, at + 32, 8) // 1000
        frames += 1
        lines += count
        at = end
    return frames, at, lines


def table_of(frames: list[Frame]) -> tuple[Bytes, Table]:
    """The same table for frames already taken apart, with a buffer of their joined bytes."""
    joined = bytearray().join(frame.raw for frame in frames)  # writable: kernels know one array type
    buf = np.frombuffer(joined, dtype=np.uint8)
    table = np.empty((len(frames), COLUMNS), dtype=np.int64)
    at = 0
    for row, frame in enumerate(frames):
        flags = OVERSIZE if frame.oversize else 0
        size = len(frame.raw)
        table[row] = (
            at,
            size,
            frame.instance,
            frame.port,
            flags,
            frame.epoch,
            frame.first_seq,
            frame.count,
            frame.recv_us,
        )
        at += size
    return buf, table


def warm() -> None:
    """Compile the kernel for the one signature in use."""
    scan_frames(np.zeros(64, dtype=np.uint8), 0, 1, np.zeros((1, COLUMNS), dtype=np.int64))
