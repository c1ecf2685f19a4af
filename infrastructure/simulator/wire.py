"""What faults do to the bytes of one connection: which lines go out, how many bytes, in what pieces.

A connection without a fault has no wire. Several faults may be in force; each is known by its number.
"""

from __future__ import annotations

from random import Random

import numpy as np

from infrastructure.simulator import render
from infrastructure.simulator.fault_filters import Line, LineFilter
from infrastructure.simulator.market import Int64s

_BURST_SECONDS = 0.05  # of a bounded rate


class Wire:
    """`filters` by the number of their fault; `rates` in bytes per second, `slices` (least, most, generator)."""

    def __init__(self) -> None:
        self.filters: dict[int, LineFilter] = {}
        self.rates: dict[int, float] = {}
        self.slices: dict[int, tuple[int, int, Random]] = {}
        self._tokens, self._filled, self._turn_used = 0.0, 0.0, False

    @property
    def idle(self) -> bool:
        """No fault is in force."""
        return not (self.filters or self.rates or self.slices)

    @property
    def bounded(self) -> bool:
        """Bytes are counted."""
        return bool(self.rates or self.slices)

    def lift(self, number: int) -> list[Line]:
        """End a fault; returns the lines that it held back."""
        self.rates.pop(number, None)
        self.slices.pop(number, None)
        ended = self.filters.pop(number, None)
        return [] if ended is None else ended.rest()

    def filtered(self, lines: list[Line]) -> list[Line]:
        """What goes out for these lines."""
        for each in self.filters.values():
            lines = each.take(lines)
        return lines

    def room(self, now: float) -> tuple[int, float]:
        """Bytes that may be sent now (monotonic seconds), and, where none may, after how many seconds to ask again."""
        if self._turn_used:
            self._turn_used = False
            return 0, 0.0
        most = 1 << 30
        if self.rates:
            rate = min(self.rates.values())
            most_tokens = max(1.0, rate * _BURST_SECONDS)
            self._tokens = min(most_tokens, self._tokens + (now - self._filled) * rate)
            self._filled = now
            if self._tokens < 1:
                return 0, (1 - self._tokens) / rate
            most = int(self._tokens)
        for least, longest, rng in self.slices.values():
            most = min(most, rng.randint(least, longest))
        return most, 0.0

    def spent(self, taken: int) -> None:
        """The kernel took so many bytes."""
        self._tokens -= taken
        self._turn_used = bool(self.slices)


def split(data: render.Bytes, ends: Int64s, symbols: Int64s, sources: Int64s) -> list[Line]:
    """Rendered lines one by one."""
    raw, start, lines = data.tobytes(), 0, []
    for end, symbol, source in zip(ends.tolist(), symbols.tolist(), sources.tolist(), strict=True):
        lines.append(Line(raw[start:end], symbol, source))
        start = end
    return lines


def joined(lines: list[Line]) -> tuple[render.Bytes, Int64s, Int64s, Int64s]:
    """The inverse of `split`."""
    data: render.Bytes = np.frombuffer(b"".join(line.data for line in lines), dtype=np.uint8)
    ends = np.cumsum(np.array([len(line.data) for line in lines], dtype=np.int64), dtype=np.int64)
    symbols = np.array([line.symbol for line in lines], dtype=np.int64)
    return data, ends, symbols, np.array([line.source for line in lines], dtype=np.int64)
