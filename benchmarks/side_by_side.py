"""Product and peer in turns in one process, by processor time: what others do to the machine hits both alike.

Every run is one of each, one after the other; the figures are medians, and the ratio is the median of the runs'
ratios. Garbage collection is off while the clock runs, which favours whoever makes more objects: the peer.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple, TypeVar

RUNS = 5
_Given = TypeVar("_Given")


class Compared(NamedTuple):
    """Records per second of processor time, and how many times as many the product does."""

    product: float
    peer: float
    ratio: float


def seconds(prepare: Callable[[], _Given], work: Callable[[_Given], object]) -> float:
    """Processor time of `work` on what `prepare` made; preparing is not counted."""
    given = prepare()
    gc.collect()
    gc.disable()
    begun = time.process_time()
    work(given)
    took = time.process_time() - begun
    gc.enable()
    return max(took, 1e-9)


def rates(works: Sequence[Callable[[], float]], count: int, runs: int = RUNS) -> list[Compared]:
    """Each of the works (seconds per run) against the last one, which is the peer."""
    taken = [[work() for work in works] for _ in range(runs)]
    peer = [run[-1] for run in taken]
    compared = []
    for at in range(len(works) - 1):
        mine = [run[at] for run in taken]
        ratio = median(their / my for my, their in zip(mine, peer, strict=True))
        compared.append(Compared(count / median(mine), count / median(peer), ratio))
    return compared
