"""Large buffers that are used again: a fresh one costs a page fault per 4 KiB, which is what ruins tail latency.

A block is free again when nothing refers to it any more; every NumPy view and every Arrow buffer made from a view
holds such a reference, so a block can never be overwritten under somebody who still looks at it.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.uint8]


class BlockPool:
    """Hands out byte blocks of at least the size asked for; keeps up to `keep` of them between uses."""

    def __init__(self, keep: int = 6) -> None:
        self.keep = keep
        self._blocks: list[Block] = []

    def take(self, size: int) -> Block:
        """A block of at least `size` bytes, its content arbitrary. It is the pool's again once it is unreferenced."""
        spare = -1
        for index in range(len(self._blocks)):
            if sys.getrefcount(self._blocks[index]) == 2:  # the list's and the argument's
                if self._blocks[index].nbytes >= size:
                    return self._blocks[index]
                spare = index
        block = np.empty(1 << max(16, (size - 1).bit_length()), dtype=np.uint8)
        block[::4096] = 0  # touch every page now, not in the middle of a batch
        if spare >= 0:
            self._blocks[spare] = block
        elif len(self._blocks) < self.keep:
            self._blocks.append(block)
        return block
