"""Whose lines are these: the lines of a chunk sorted out by request id, in one pass.

Rows of one request that follow each other are one run, so that an answer is moved in pieces and not line by line.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

ROW: Final = 0
END: Final = 1  # the request's end line
ERROR: Final = 2  # begins with E, after the id: an error, or a row of a search that looks like one
NOBODY: Final = 3  # begins with no known id
MOST_RUNS: Final = 4096

_LF, _CR, _COMMA, _E = 10, 13, 44, 69
_END_TEXT: Final = np.frombuffer(b"!ENDMSG!", dtype=np.uint8)


@njit(cache=True, error_model="numpy")
def _is_id(buf: Any, a: int, end: int, ids: Any, first: int, last: int) -> bool:  # Any: arrays inside kernels
    """Whether the line `buf[a:end]` begins with the id `ids[first:last]` and a comma."""
    size = last - first
    if end - a <= size or buf[a + size] != _COMMA:
        return False
    for i in range(size):  # noqa: SIM110 - numba has no all()
        if buf[a + i] != ids[first + i]:
            return False
    return True


@njit(cache=True, error_model="numpy")
def _is_end(buf: Any, a: int, end: int) -> bool:  # Any: arrays inside kernels
    size = _END_TEXT.size
    if end - a < size or (end - a > size and buf[a + size] != _COMMA):
        return False
    for i in range(size):  # noqa: SIM110 - numba has no all()
        if buf[a + i] != _END_TEXT[i]:
            return False
    return True


@njit(cache=True, error_model="numpy")
def find_runs(buf: Any, start: int, size: int, ids: Any, bounds: Any, runs: Any) -> tuple[int, int]:  # Any: arrays
    """Runs of whole lines from `start`: (how many, where the first line that is in none of them begins).

    `ids[bounds[i]:bounds[i + 1]]` is the id i. A run is (begin, end with its line end, id or -1, kind). Stops early
    when `runs` is full.
    """
    found, a, owner = 0, start, -1
    known = bounds.size - 1
    while True:
        end = a
        while end < size and buf[end] != _LF:
            end += 1
        if end >= size:
            return found, a
        following = end + 1
        if end > a and buf[end - 1] == _CR:
            end -= 1
        if owner < 0 or not _is_id(buf, a, end, ids, bounds[owner], bounds[owner + 1]):
            owner = -1
            for each in range(known):
                if _is_id(buf, a, end, ids, bounds[each], bounds[each + 1]):
                    owner = each
                    break
        kind = NOBODY
        if owner >= 0:
            rest = a + bounds[owner + 1] - bounds[owner] + 1
            kind = ROW
            if _is_end(buf, rest, end):
                kind = END
            elif end - rest >= 2 and buf[rest] == _E and buf[rest + 1] == _COMMA:
                kind = ERROR
        if found > 0 and kind == ROW and runs[found - 1, 2] == owner and runs[found - 1, 3] == ROW:
            runs[found - 1, 1] = following
        else:
            if found >= runs.shape[0]:
                return found, a
            runs[found, 0], runs[found, 1], runs[found, 2], runs[found, 3] = a, following, owner, kind
            found += 1
        a = following


def table_of(ids: list[bytes]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:  # Any: dtypes
    """The ids as `find_runs` takes them."""
    bounds = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in ids], out=bounds[1:])
    return np.frombuffer(bytearray(b"".join(ids) or b"\0"), dtype=np.uint8), bounds


def warm() -> None:
    """Compile the kernel for the types it gets."""
    data = np.frombuffer(b"1,x\n", dtype=np.uint8)
    find_runs(data, 0, 4, *table_of([b"1"]), np.zeros((MOST_RUNS, 4), dtype=np.int64))
