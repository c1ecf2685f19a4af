"""Texts as small integers: symbols, conditions and participants become dictionary codes inside the kernel.

Three open hash tables over bytes (FNV-1a), side by side in the same arrays. They only grow. A table that garbage has
filled is started anew between two batches; codes therefore mean something only with the dictionary of their batch.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit, uint64

SYMBOLS: Final = 0
CONDITIONS: Final = 1
MAKERS: Final = 2
TABLES: Final = 3
COLUMN_OF: Final = ("symbol", "conditions", "mmid")

FULL: Final = -1
FNV_OFFSET: Final = 14695981039346656037
FNV_PRIME: Final = 1099511628211
RESTART_ENTRIES: Final = 1 << 16
_FIRST_SLOTS: Final = 1 << 12


class Texts(NamedTuple):
    """Per table a row of: hash slots (code + 1, 0 = free), end of each text, the texts, [count, bytes used]."""

    slots: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    arena: npt.NDArray[np.uint8]
    meta: npt.NDArray[np.int64]


@njit(cache=True, error_model="numpy")
def hash_of(buf: Any, a: int, b: int) -> int:  # Any: arrays inside kernels
    """FNV-1a of `buf[a:b]` as a signed number with the same bits."""
    value = uint64(FNV_OFFSET)
    for i in range(a, b):
        value = (value ^ uint64(buf[i])) * uint64(FNV_PRIME)
    return np.int64(value)  # type: ignore[return-value]  # int() of an unsigned one stays unsigned in numba


@njit(cache=True, error_model="numpy")
def code_of(
    slots: Any, ends: Any, arena: Any, meta: Any, which: int, buf: Any, a: int, b: int, hashed: int
) -> int:  # Any: arrays inside kernels
    """Code of `buf[a:b]`, whose hash is `hashed`, in table `which`; entered if new.

    FULL where there is no room: `grow`, then again.
    """
    value = uint64(hashed)
    mask = uint64(slots.shape[1] - 1)
    at = (value ^ (value >> uint64(29))) & mask
    size = b - a
    slot = slots[which, at]
    while slot != 0:
        start = ends[which, slot - 1]
        if ends[which, slot] - start == size:
            same = True
            for i in range(size):
                if arena[which, start + i] != buf[a + i]:
                    same = False
                    break
            if same:
                return int(slot - 1)
        at = (at + uint64(1)) & mask
        slot = slots[which, at]
    count, used = meta[which, 0], meta[which, 1]
    if count * 2 >= slots.shape[1] or used + size > arena.shape[1]:
        return FULL
    for i in range(size):
        arena[which, used + i] = buf[a + i]
    ends[which, count + 1] = used + size
    slots[which, at] = count + 1
    meta[which, 0], meta[which, 1] = count + 1, used + size
    return int(count)


@njit(cache=True, error_model="numpy")
def _refill(
    slots: Any, ends: Any, arena: Any, meta: Any, old_ends: Any, old_arena: Any, old_meta: Any
) -> None:  # Any: arrays inside kernels
    for which in range(old_meta.shape[0]):
        for entry in range(old_meta[which, 0]):
            text, a, b = old_arena[which], old_ends[which, entry], old_ends[which, entry + 1]
            code_of(slots, ends, arena, meta, which, text, a, b, hash_of(text, a, b))


class InternTables:
    """The dictionaries of one parser: `texts` for kernels, `code` for Python, `dictionary` for Arrow."""

    def __init__(self) -> None:
        self.texts = _empty(_FIRST_SLOTS, _FIRST_SLOTS * 8)
        self._dictionaries: dict[int, pa.Array] = {}

    def grow(self) -> None:
        """Double the room; codes stay."""
        old = self.texts
        self.texts = _empty(old.slots.shape[1] * 2, old.arena.shape[1] * 2)
        _refill(*self.texts, old.ends, old.arena, old.meta)

    def code(self, which: int, text: str) -> int:
        """Code of a text from Python."""
        data = np.frombuffer(bytearray(text.encode()), dtype=np.uint8)
        size = data.shape[0]
        while (found := int(code_of(*self.texts, which, data, 0, size, hash_of(data, 0, size)))) == FULL:
            self.grow()
        return found

    def between_batches(self) -> None:
        """Start anew if there are too many texts to be real ones."""
        if int(self.texts.meta[:, 0].max()) > RESTART_ENTRIES:
            self.texts, self._dictionaries = _empty(_FIRST_SLOTS, _FIRST_SLOTS * 8), {}

    def dictionary(self, which: int) -> pa.Array:
        """All texts of a table, position = code; built again only when there are new ones."""
        count, used = int(self.texts.meta[which, 0]), int(self.texts.meta[which, 1])
        found = self._dictionaries.get(which)
        if found is None or len(found) != count:
            ends, arena = self.texts.ends[which, : count + 1].copy(), self.texts.arena[which, :used].copy()
            found = pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(ends), pa.py_buffer(arena)], 0)
            self._dictionaries[which] = found
        return found


def _empty(slots: int, arena: int) -> Texts:
    return Texts(
        np.zeros((TABLES, slots), dtype=np.int32),
        np.zeros((TABLES, slots // 2 + 2), dtype=np.int32),
        np.zeros((TABLES, arena), dtype=np.uint8),
        np.zeros((TABLES, 2), dtype=np.int64),
    )
