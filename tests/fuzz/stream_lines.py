"""Lines of the two streaming ports: every type and version, good ones, damaged ones, recorded ones."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache

from pipeline_orchestrator.ingestion.dialects import DIALECTS
from pipeline_orchestrator.ingestion.layout import (
    CHECKED,
    DATE,
    DEFAULT_LAYOUT,
    FINER,
    INTEGER,
    LAYOUT_PREFIX,
    PRICE,
    SELECTED,
    SYMBOL,
    TIME,
    parse_layout,
)
from tests.fuzz.mutations import damaged
from tests.fuzz.recorded import recorded_lines
from tests.fuzz.values import Values

KIND_OF = {
    **{
        name: {PRICE: "price", INTEGER: "number", TIME: "time", DATE: "us_date"}[form] for name, form in CHECKED.items()
    },
    SYMBOL: "symbol",
    "Most Recent Trade": "price",
    "Most Recent Trade Size": "number",
    "Most Recent Trade Date": "us_date",
    "Most Recent Trade Time": "time",
    "Most Recent Trade Conditions": "codes",
    "Most Recent Trade Market Center": "number",
    "Most Recent Trade Aggressor": "number",
    "Most Recent Trade Day Code": "day_code",
    "TickID": "number",
    "Total Volume": "number",
    "Message Contents": "contents",
    "Bid": "price",
    "Bid Size": "number",
    "Bid Time": "time",
    "Ask": "price",
    "Ask Size": "number",
    "Ask Time": "time",
    "Delay": "delay",
    **dict.fromkeys(FINER, "time"),
}
NAMES = (*KIND_OF, "VWAP", "Tick", "Exchange ID", "Restricted Code", "")
LONG_LAYOUT = (SYMBOL, "Last Time", *SELECTED, "Settlement Date", *("VWAP",) * 110, "Last Date", "Ask Time")
ORDER = ("symbol", "number", "maker", "side", "price", "number", "number", "number", "time", "date")
LEVEL = ("symbol", "side", "price", "number", "number", "number", "time", "date")
BOTH_SIDES = (
    "symbol", "maker", "price", "price", "number", "number", "time", "date", "number", "time", "flag", "flag", "flag",
)  # fmt: skip
CORRECTION = ("date", "time", "price", "number", "number", "codes", "number")
CONTROLS = (
    b"S,KEY,99999", b"S,SERVER CONNECTED", b"S,SERVER DISCONNECTED,", b"S,SERVER RECONNECT FAILED", b"S", b"S,",
    b"S,CLEAR DEPTH,@ESZ24,B,", b"S,CLEAR DEPTH,@ESZ24,A", b"S,CLEAR DEPTH,@ESZ24,", b"S,CLEAR DEPTH,",
    b"S,SYMBOL LIMIT REACHED,AAPL", b"S,CURRENT PROTOCOL,6.2,", b"S,WATCHES,AAPL,SPY", b"S,TIMESTAMPSOFF",
    b"S,IP,1.2.3.4 60000", b"n,NOPE", b"n,", b"q,SPY,", b"O", b"E,!SYNTAX_ERROR!,", b"M,MD01,Market depth 1",
    b"F,AAPL,5,29.5", b"F,A B,1", b"R,AAPL,,137.0200,2100,14:44:54,137.0300,1500,14:44:54,14,4,5,", b"Z,whatever",
    b"N,DTN,123,:AAPL:,20240102 093000,Headline, with commas", b"QQ,AAPL", b"HTTP/1.1 400 Bad Request", b"", b",",
    b",,,", b"T", b"T,", b"\x00\xff\x01", b"U,BLIN,BOSX,0.,0.,0,0,99:99:99,2021-07-02,20,52,12,99:99:99,F,F,",
)  # fmt: skip


@cache
def _recorded(port: str) -> list[bytes]:
    return recorded_lines("l1_*.txt" if port == "level1" else "l2_*.txt") or [b"S,KEY,99999"]


@dataclass
class StreamLines:
    """The lines of one round. `layout` is what Level 1 lines are drawn by: the one last drawn itself."""

    rng: random.Random
    layout: tuple[str, ...] = DEFAULT_LAYOUT
    values: Values = field(init=False)
    damage: float = field(init=False)  # share of damaged lines

    def __post_init__(self) -> None:
        self.values = Values(self.rng)
        self.damage = self.rng.choice((0.0, 0.02, 0.1, 0.3, 0.8))

    def data(self, port: str, count: int) -> bytes:
        """About so many lines with their line ends; the layout may change before, and does by them."""
        lines: list[bytes] = []
        while len(lines) < count:
            if port == "level1" and self.rng.random() < 0.4:
                lines.append(self.new_layout())
            lines += self._some(port, min(count - len(lines), self.rng.choice((30, 200, 700))))
        end = self.rng.choice((b"\n", b"\r\n"))
        return b"".join(self._faulty(lines, at) + end for at in range(len(lines)))

    def new_layout(self) -> bytes:
        """A line that declares a layout: of a version, the default, of odd names, of far too many."""
        rng = self.rng
        dialect = DIALECTS[rng.choice(list(DIALECTS))]
        names = rng.choice(
            (
                (SYMBOL, *dialect.choose()),
                (SYMBOL, *rng.sample(dialect.choose(), len(dialect.choose()))),
                DEFAULT_LAYOUT,
                (*DEFAULT_LAYOUT, "Most Recent Trade Aggressor", "Most Recent Trade Day Code"),
                tuple(rng.sample(NAMES, rng.randrange(0, len(NAMES)))),
                tuple(rng.choices(NAMES, k=rng.randrange(1, 40))),
                LONG_LAYOUT,
            )
        )
        line = b",".join([LAYOUT_PREFIX, *(name.encode() for name in names)]) + rng.choice((b"", b","))
        self.layout = parse_layout(line) or self.layout
        return line

    def _some(self, port: str, count: int) -> list[bytes]:
        own = self._level1 if port == "level1" else self._level2
        lines = own(count)
        strange = self._level2 if port == "level1" else self._level1
        lines += self.rng.sample(strange(20), 1 + count // 40)
        lines += self.values.lines(1 + count // 15, b"T", "clock")
        lines += self.rng.choices(CONTROLS, k=1 + count // 20)
        lines += self.rng.choices(_recorded(port), k=1 + count // 20)
        self.rng.shuffle(lines)
        return lines[:count]

    def _level1(self, count: int) -> list[bytes]:
        fields = [KIND_OF.get(name, "price") for name in self.layout]
        lines = self.values.lines(count * 3 // 4, b"Q", *fields)
        lines += self.values.lines(1 + count // 8, b"P", *fields)
        lines += self.values.lines(1 + count // 16, b"C", "symbol", "letter", *CORRECTION)
        lines += self.values.lines(1 + count // 16, b"C", "symbol", "letter", "trade_type", *CORRECTION)
        return [line + b"," for line in lines] if self.rng.random() < 0.7 else lines

    def _level2(self, count: int) -> list[bytes]:
        """Both forms of 6.2, by order and by level, and the lines of both sides of the versions before."""
        draw, some = self.values.lines, 1 + count // 10
        lines = []
        for letter in (b"3", b"4", b"6"):
            lines += draw(some, letter, *ORDER)
        lines += draw(1 + some // 8, b"0", *ORDER)
        lines += draw(some, b"5", "symbol", "number", "maker", "side", "time", "date")
        lines += draw(some, b"7", *LEVEL) + draw(2 * some, b"8", *LEVEL)
        lines += draw(some, b"9", "symbol", "side", "price", "time", "date")
        lines += draw(some, b"Z", *BOTH_SIDES) + draw(some, b"2", *BOTH_SIDES)
        return [line + b"," for line in lines] if self.rng.random() < 0.7 else lines

    def _faulty(self, lines: list[bytes], at: int) -> bytes:
        if self.rng.random() >= self.damage:
            return lines[at]
        return damaged(self.rng, lines[at], lines[self.rng.randrange(len(lines))])
