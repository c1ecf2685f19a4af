"""Repeats: a row whose identity is not above its writer's mark in its partition has been here before.

A resend repeats a suffix of what was sent, in order, so one mark per writer and partition is enough. The kernel
walks the rows once in log order; marks move even over rows that are not stored (clock events).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]


@njit(cache=True)
def keep_new(
    partition: Int32s,
    who: Int32s,
    identity: Int64s,
    offset: Int64s,
    next_offset: Int64s,
    marks: Int64s,
    keep: npt.NDArray[np.bool_],
) -> int:
    """Set keep[i] for each row that is new, moving `marks` along; returns how many rows repeat something.

    `identity` is [4, n] (epoch, seq, idx, out), `marks` [partitions, writers, 4] with -1 for none, `partition` and
    `who` are row numbers into it. Rows below `next_offset` of their partition were sealed before: neither new nor
    counted as repeats.
    """
    repeats = 0
    for i in range(len(partition)):
        p = partition[i]
        if offset[i] < next_offset[p]:
            keep[i] = False
            continue
        w = who[i]
        order = 0
        for k in range(4):
            if identity[k, i] != marks[p, w, k]:
                order = 1 if identity[k, i] > marks[p, w, k] else -1
                break
        keep[i] = order > 0
        if order > 0:
            for k in range(4):
                marks[p, w, k] = identity[k, i]
        else:
            repeats += 1
    return repeats


def warm() -> None:
    """Compile the kernel, or load it from the cache, for the types that batches bring."""
    one = np.zeros(1, dtype=np.int32)
    marks = np.full((1, 1, 4), -1, dtype=np.int64)
    keep_new(
        one,
        one,
        np.zeros((4, 1), dtype=np.int64),
        np.zeros(1, np.int64),
        np.zeros(1, np.int64),
        marks,
        np.zeros(1, np.bool_),
    )
