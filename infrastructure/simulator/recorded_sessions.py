"""Conversations over a recording: the handshake is the simulator's own, everything after it the recording's.

A watch starts nothing and is answered with nothing: what followed the recorded watch is in the recording. A
connection gets the lines about the symbols it watches, and all lines about none. Where the field list in which the
next Level 1 lines stand is not the one this connection was told, it is told before them.
"""

from __future__ import annotations

import numpy as np

from infrastructure.simulator import level1, level2, render
from infrastructure.simulator.connection import Connection
from infrastructure.simulator.feed import Feed
from infrastructure.simulator.fields import DEFAULT_FIELDS
from infrastructure.simulator.listeners import Port
from infrastructure.simulator.market import Int64s, Rows
from infrastructure.simulator.recorded_lines import END, START, SYM
from infrastructure.simulator.recorded_market import RecordedMarket


def recorded_ports(level1_number: int, level2_number: int) -> list[Port]:
    """Level 1 and Level 2 of a feed that plays a recording."""
    return [
        Port("level1", level1_number, level1.LINE_END, RecordedLevel1),
        Port("level2", level2_number, level2.LINE_END, RecordedLevel2),
    ]


class RecordedLevel1(level1.Level1Session):
    """See the module."""

    def __init__(self, feed: Feed, connection: Connection, number: int) -> None:
        self._told: tuple[str, ...] = DEFAULT_FIELDS
        super().__init__(feed, connection, number)

    def deliver(self, rows: Rows) -> None:
        market = _market(self.feed)
        if not rows.level1.shape[0] or not self.feed.connected:
            return
        if market.layout_before != self._told and market.flowing:
            self._say_fields(market.layout_before)
        _send(self.connection, market.data["level1"], rows.level1, self._watch)
        if market.flowing:
            self._told = market.layout

    def say_clock_first(self) -> None:
        """The recording has its own."""

    def _summary(self, symbol: int) -> None:
        """Nothing is said on a watch."""

    def _say_layout(self, rest: str) -> None:
        market = _market(self.feed)
        self._say_fields(market.layout if market.flowing else self._fields)

    def _say_fields(self, names: tuple[str, ...]) -> None:
        self._told = names
        self.say("S,CURRENT UPDATE FIELDNAMES," + ",".join(names))


class RecordedLevel2(level2.Level2Session):
    """See the module. The number of levels asked for changes nothing."""

    def deliver(self, rows: Rows) -> None:
        if rows.level2.shape[0] and self.feed.connected:
            _send(self.connection, _market(self.feed).data["level2"], rows.level2, self._all)

    def say_clock_first(self) -> None:
        """The recording has its own."""

    def _summary(self, symbol: int, table: Int64s) -> None:
        """Nothing is said on a watch."""


def _market(feed: Feed) -> RecordedMarket:
    assert isinstance(feed.market, RecordedMarket)
    return feed.market


def _send(connection: Connection, data: render.Bytes, table: Int64s, watch: render.Bytes) -> None:
    """The lines of `table` that are about no symbol or one that is watched, in their order."""
    symbols = table[:, SYM]
    wanted = (symbols < 0) | (watch[np.maximum(symbols, 0)] != 0)
    sources = np.zeros(len(table), dtype=np.int64)
    if wanted.all():
        connection.send(data, table[:, END], symbols, sources)
        return
    lengths = table[:, END] - table[:, START]
    kept = data[np.repeat(wanted, lengths)]
    connection.send(kept, np.cumsum(lengths[wanted]), symbols[wanted], sources[wanted])
