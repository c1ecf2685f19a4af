"""Lines of many readers and epochs as flags, one byte each, and the ranges of lines that the flags make.

A line is (instance, epoch, seq). Memory is one byte per line of the span that was marked, in blocks that are made
when they are needed: ten million lines are 10 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK: Final = 1 << 20  # lines of one block

Reader = tuple[int, int]  # instance, epoch
Int64s = npt.NDArray[np.int64]


class LineRange(NamedTuple):
    """Lines first..last (both included) of one reader's epoch; `lines` of them are meant, the others never counted."""

    instance: int
    epoch: int
    first: int
    last: int
    lines: int

    def document(self) -> dict[str, int]:
        """As JSON."""
        return self._asdict()

    def __str__(self) -> str:
        return f"{self.instance}:{self.epoch}:{self.first}..{self.last}"


class LineFlags:
    """A byte of flags per line; all are 0 at first."""

    def __init__(self, block: int = BLOCK) -> None:
        self._size = block
        self._blocks: dict[Reader, dict[int, npt.NDArray[np.uint8]]] = {}

    def readers(self) -> list[Reader]:
        """Every (instance, epoch) with a mark, sorted."""
        return sorted(self._blocks)

    def mark(self, reader: Reader, seqs: Int64s, flag: int) -> None:
        """Set `flag` on these lines, in any order; a line may stand there more than once."""
        if not len(seqs):
            return
        blocks = self._blocks.setdefault(reader, {})
        numbers = seqs // self._size
        for number in range(int(numbers.min()), int(numbers.max()) + 1):
            mine = seqs[numbers == number] - number * self._size
            if len(mine):
                self._block(blocks, number)[mine] |= np.uint8(flag)

    def mark_range(self, reader: Reader, first: int, count: int, flag: int) -> None:
        """Set `flag` on `count` lines from `first` on."""
        blocks = self._blocks.setdefault(reader, {})
        end = first + count
        for number in range(first // self._size, (end - 1) // self._size + 1 if count else 0):
            begin = max(first, number * self._size) - number * self._size
            stop = min(end, (number + 1) * self._size) - number * self._size
            self._block(blocks, number)[begin:stop] |= np.uint8(flag)

    def mark_rows(self, instances: npt.NDArray[Any], epochs: Int64s, seqs: Int64s, flag: int) -> None:
        """Set `flag` on the line of each row. Any: the integer type of the column."""
        for instance in np.unique(instances).tolist():
            of_instance = instances == instance
            for epoch in np.unique(epochs[of_instance]).tolist():
                self.mark((instance, epoch), seqs[of_instance & (epochs == epoch)], flag)

    def count(self, wanted: int, without: int = 0) -> int:
        """Lines that have one of the flags `wanted` and none of `without`."""
        return sum(len(at) for reader in self._blocks for at, _ in self._hits(reader, wanted, without))

    def newest(self, reader: Reader) -> int:
        """The highest line with any flag, -1 where there is none."""
        return max((int(at[-1]) for at, _ in self._hits(reader, 0xFF, 0) if len(at)), default=-1)

    def ranges(self, wanted: int, *, without: int = 0, between: int = 0) -> Iterator[LineRange]:
        """Ranges of the lines that have a flag of `wanted` and none of `without`, in order.

        With `between` = 0 a range holds no other line. Otherwise only a line with a flag of `between` (and not itself
        wanted) ends a range: lines that are in no station because they never were to be do not cut it.
        """
        for instance, epoch in self.readers():
            open_range: LineRange | None = None
            for at, is_wanted in self._hits((instance, epoch), wanted, without, between):
                for found in _runs(at, is_wanted, adjacent=not between):
                    if found is None:
                        if open_range is not None:
                            yield open_range
                        open_range = None
                        continue
                    first, last, lines = found
                    if open_range is not None and (between or open_range.last + 1 == first):
                        open_range = open_range._replace(last=last, lines=open_range.lines + lines)
                        continue
                    if open_range is not None:
                        yield open_range
                    open_range = LineRange(instance, epoch, first, last, lines)
            if open_range is not None:
                yield open_range

    def _block(self, blocks: dict[int, npt.NDArray[np.uint8]], number: int) -> npt.NDArray[np.uint8]:
        if number not in blocks:
            blocks[number] = np.zeros(self._size, dtype=np.uint8)
        return blocks[number]

    def _hits(
        self, reader: Reader, wanted: int, without: int, between: int = 0
    ) -> Iterator[tuple[Int64s, npt.NDArray[np.bool_]]]:
        """Per block in order: the lines that are wanted or lie between, and which of them are wanted."""
        blocks = self._blocks.get(reader, {})
        for number in sorted(blocks):
            flags = blocks[number]
            is_wanted = (flags & wanted != 0) & (flags & without == 0)
            at = np.flatnonzero(is_wanted | (flags & between != 0))
            yield at + number * self._size, is_wanted[at]


def _runs(at: Int64s, is_wanted: npt.NDArray[np.bool_], *, adjacent: bool) -> Iterator[tuple[int, int, int] | None]:
    """(first, last, lines) of each run of wanted lines; None where a line between ends one."""
    if not len(at):
        return
    cut = is_wanted[1:] != is_wanted[:-1]
    if adjacent:
        cut |= at[1:] != at[:-1] + 1
    begins = np.concatenate([[0], np.flatnonzero(cut) + 1])
    ends = np.concatenate([begins[1:], [len(at)]])
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if is_wanted[begin]:
            yield int(at[begin]), int(at[end - 1]), end - begin
        else:
            yield None
