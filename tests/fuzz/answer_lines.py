"""Answers of history: rows of every kind and version, of several requests at once, damaged ones between them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache

from tests.fuzz.mutations import damaged
from tests.fuzz.recorded import recorded_lines
from tests.fuzz.values import Values

TICK = ("price", "number", "number", "price", "price", "number", "basis", "number", "codes", "number", "day_code")
BAR = ("price", "price", "price", "price")
ENDS = (b"!ENDMSG!,", b"!ENDMSG!", b"E,!NO_DATA!,,", b"E,7,1,ENI,", b"E", b"", b"LH,", b"LH")


@cache
def _recorded() -> list[bytes]:
    return recorded_lines("lookup_*.txt") or [b"!ENDMSG!,"]


@dataclass
class AnswerLines:
    """The lines of one round, after the request id."""

    rng: random.Random
    rows: str
    protocol: str
    values: Values = field(init=False)
    damage: float = field(init=False)  # share of damaged lines

    def __post_init__(self) -> None:
        self.values = Values(self.rng)
        self.damage = self.rng.choice((0.0, 0.02, 0.1, 0.3, 0.8))

    def data(self, ids: list[bytes], count: int) -> bytes:
        """So many lines, or some more, each with one of the ids and a comma (an empty id: nothing)."""
        rng, lines = self.rng, self._good(count - count // 10)
        lines += rng.choices(_recorded(), k=1 + count // 20)
        lines += rng.choices(ENDS, k=1 + count // 20)
        if rng.random() < 0.7:
            rng.shuffle(lines)
        end, owner = rng.choice((b"\n", b"\r\n")), rng.choice(ids)
        whole = []
        for line in lines:
            if rng.random() < 0.1:
                owner = rng.choice(ids)
            text = owner + b"," + line if owner else line
            if rng.random() < self.damage:
                text = damaged(rng, text, lines[rng.randrange(len(lines))])
            whole.append(text + end)
        return b"".join(whole)

    def _good(self, count: int) -> list[bytes]:
        stamp = self.values.column("stamp", count)
        if self.rng.random() < 0.6:
            stamp.sort(reverse=self.rng.random() < 0.5)
        old = self.protocol in {"4.9", ""}
        if self.rows == "ticks":
            fields: tuple[str | bytes, ...] = TICK
            if old:
                fields = (*TICK[:6], b"0", b"0", "basis")
            elif self.protocol not in {"6.2", "6.1"} and self.rng.random() < 0.9:
                fields = TICK[:-2]
        elif self.rows == "intervals":
            fields = (*BAR, "number", "number") if old else (*BAR, "number", "number", "number")
        else:
            fields = (*BAR, "number", "number")
            if not old:
                stamp = self.values.column("date", count)
        tag = b"LH," if self.protocol == "6.2" else b""
        rest = self.values.lines(count, *fields)
        comma = b"," if self.rng.random() < 0.8 else b""
        return [tag + time + b"," + row + comma for time, row in zip(stamp, rest, strict=True)]
