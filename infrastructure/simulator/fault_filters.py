"""Faults in which lines, or in what order, a connection gets. Only live market lines are touched (and T, by Clock).

A filter belongs to one fault and one connection; what it draws comes from the generator it is given.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from random import Random
from typing import Final, NamedTuple, Protocol

_LIVE: Final = (b"Q,", b"2,", b"3,", b"4,", b"5,", b"8,", b"9,")
_CLOCK_TEXT: Final = "%Y%m%d %H:%M:%S"


class Line(NamedTuple):
    """A line with its end, its symbol (-1 = none) and its row in the vendor's file (0 = none)."""

    data: bytes
    symbol: int
    source: int

    @property
    def live(self) -> bool:
        """A market line that follows from a change: no summary, no system message, no clock."""
        return self.data[:2] in _LIVE


class LineFilter(Protocol):
    """See the module."""

    def take(self, lines: list[Line]) -> list[Line]:
        """What goes out for these lines."""

    def rest(self) -> list[Line]:
        """What was held back; called each second and at the end."""


class Duplicate:
    """A share of the live lines once more, `lag` lines later."""

    def __init__(self, rng: Random, share: float, lag: int) -> None:
        self._rng, self._share, self._lag = rng, share, lag
        self._waiting: deque[tuple[int, Line]] = deque()  # number of the line before which it is due
        self._number = 0

    def take(self, lines: list[Line]) -> list[Line]:
        out = []
        for line in lines:
            self._number += 1
            while self._waiting and self._waiting[0][0] < self._number:
                out.append(self._waiting.popleft()[1])
            out.append(line)
            if line.live and self._rng.random() < self._share:
                if self._lag:
                    self._waiting.append((self._number + self._lag, line))
                else:
                    out.append(line)
        return out

    def rest(self) -> list[Line]:
        rest = [line for _, line in self._waiting]
        self._waiting.clear()
        return rest


class Reorder:
    """Live lines in mixed order, a window at a time; others go at once."""

    def __init__(self, rng: Random, window: int) -> None:
        self._rng, self._window = rng, window
        self._held: list[Line] = []

    def take(self, lines: list[Line]) -> list[Line]:
        out = []
        for line in lines:
            if not line.live:
                out.append(line)
                continue
            self._held.append(line)
            if len(self._held) >= self._window:
                out += self.rest()
        return out

    def rest(self) -> list[Line]:
        rest, self._held = self._held, []
        self._rng.shuffle(rest)
        return rest


class Skip:
    """A share of the live lines, of one symbol or of all (-1), does not go out."""

    def __init__(self, rng: Random, share: float, symbol: int) -> None:
        self._rng, self._share, self._symbol = rng, share, symbol

    def take(self, lines: list[Line]) -> list[Line]:
        return [line for line in lines if not (self._meant(line) and self._rng.random() < self._share)]

    def _meant(self, line: Line) -> bool:
        return line.live and self._symbol in (-1, line.symbol)

    def rest(self) -> list[Line]:
        return []


class Mute:
    """No line of a symbol."""

    def __init__(self, symbol: int) -> None:
        self._symbol = symbol

    def take(self, lines: list[Line]) -> list[Line]:
        return [line for line in lines if line.symbol != self._symbol]

    def rest(self) -> list[Line]:
        return []


class Clock:
    """T shifted by so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._by = timedelta(seconds=seconds)

    def take(self, lines: list[Line]) -> list[Line]:
        return [self._shifted(line) if line.data[:2] == b"T," else line for line in lines]

    def _shifted(self, line: Line) -> Line:
        at = datetime.strptime(line.data[2:19].decode("ascii"), _CLOCK_TEXT) + self._by
        return line._replace(data=b"T," + at.strftime(_CLOCK_TEXT).encode("ascii") + line.data[19:])

    def rest(self) -> list[Line]:
        return []
