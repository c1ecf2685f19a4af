"""Trades and corrections that did not reach a bar: rows of market.gaps that say so."""

from __future__ import annotations

import json

from pipeline_orchestrator.market.calendar import Calendar
from pipeline_orchestrator.market.eastern import DAY_US, eastern_to_utc_us
from pipeline_orchestrator.market.gaps import NOWHERE, Place
from pipeline_orchestrator.processing.columns import Rows, value_at
from pipeline_orchestrator.processing.corrections import NO_SUCH_TRADE, REASONS
from pipeline_orchestrator.processing.facts import GapRows
from pipeline_orchestrator.processing.layout import INTERVALS, INTERVALS_US, NIL


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
        missed = [k for k in range(2) if bits >> k & 1]
        cause, detail = "bar_not_revised", {"intervals": [INTERVALS[k] for k in missed]}
        if time != NIL:  # a delete without a time may have found its trade, but not the bar of its second
            length = INTERVALS_US[missed[-1]]
            begin = calendar.bar_begin(time, length)
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
