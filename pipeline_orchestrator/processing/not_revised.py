"""Trades and corrections that did not reach a bar: rows of market.gaps that say so.

Each correction has its row. Of trades the first has one: those of the same symbol and bar that follow it, as history
brings them after a long gap, say nothing new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pipeline_orchestrator.market.calendar import Calendar
from pipeline_orchestrator.market.eastern import DAY_US, eastern_to_utc_us
from pipeline_orchestrator.market.events import KIND
from pipeline_orchestrator.market.gaps import NOWHERE, Place
from pipeline_orchestrator.processing.columns import Rows, value_at
from pipeline_orchestrator.processing.corrections import NO_SUCH_TRADE, REASONS
from pipeline_orchestrator.processing.facts import GapRows
from pipeline_orchestrator.processing.layout import INTERVALS, INTERVALS_US, NIL

_TRADE = KIND["trade"]


class ToldBars:
    """State of one partition: of each symbol the bar that its newest too late trade lies in."""

    def __init__(self) -> None:
        self._bars: dict[str, tuple[int, int]] = {}

    def is_new(self, rows: Rows, i: int, symbol: str | None, bits: int, calendar: Calendar) -> bool:
        """Whether event i needs a row of its own; to be asked of every such event, in the order of the log."""
        if rows.kind[i] != _TRADE or symbol is None:
            return True
        bar = _bar(value_at(rows.time, i), bits, calendar)
        known, self._bars[symbol] = self._bars.get(symbol), bar
        return bar != known

    def dump(self) -> dict[str, tuple[int, int]]:
        """As JSON, by symbol."""
        return dict(sorted(self._bars.items()))

    @classmethod
    def load(cls, dumped: Mapping[str, Sequence[int]]) -> ToldBars:
        """From `dump`, by way of JSON."""
        told = cls()
        told._bars = {symbol: (int(begin), int(length)) for symbol, (begin, length) in dumped.items()}
        return told


def tell_not_revised(
    rows: Rows, i: int, partition: int, symbol: str | None, bits: int, told: GapRows, calendar: Calendar
) -> None:
    """One row for event i.

    `bits` = the intervals whose bar is no longer kept and stays as it was published, or why a correction was not
    applied at all (corrections.REASONS). The span is that of the bar; of a correction its time, or the Eastern day of
    its date, where it has one of them.
    """
    time = value_at(rows.time, i)
    begun, ended = Place(time_us=None if time == NIL else time), NOWHERE
    detail: dict[str, str | list[str]]
    if bits >= NO_SUCH_TRADE:
        cause, detail = "correction_not_applied", {"why": REASONS[bits]}
        day = value_at(rows.date, i)
        if time == NIL and day != NIL:
            begun = Place(time_us=int(eastern_to_utc_us(day * DAY_US, 0)))
            ended = Place(time_us=int(eastern_to_utc_us((day + 1) * DAY_US, 0)))
    else:
        cause, detail = "bar_not_revised", {"intervals": [INTERVALS[k] for k in _missed(bits)]}
        if time != NIL:  # a delete without a time may have found its trade, but not the bar of its second
            begin, length = _bar(time, bits, calendar)
            begun, ended = Place(time_us=begin), Place(time_us=begin + length)
    told.put(
        rows,
        i,
        partition,
        gap_id=f"{int(rows.instance[i])}:{int(rows.epoch[i])}:{int(rows.seq[i])}",
        symbol=symbol,
        port="level1",
        cause=cause,
        state="unresolved",
        begun=begun,
        ended=ended,
        detail=json.dumps(detail),
    )


def _missed(bits: int) -> list[int]:
    return [k for k in range(2) if bits >> k & 1]


def _bar(time: int, bits: int, calendar: Calendar) -> tuple[int, int]:
    """Begin and length of the longest bar that was missed."""
    length = INTERVALS_US[_missed(bits)[-1]]
    return int(calendar.bar_begin(time, length)), length
