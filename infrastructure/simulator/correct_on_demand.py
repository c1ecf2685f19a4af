"""Corrections of trades that were sent, at a rate: for trying a client's corrections against a live feed.

A share `rate` of all trades is deleted by an `X` line (live layout) once the market is DELAY_US past the trade; every
second one is replaced by an `I` line (documented layout, which has the time) one cent dearer. Which ones follows from
the seed, so the same trades give the same corrections. History is corrected the same way (history_trades).
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator.corrections import (
    DELETE,
    DOCUMENTED,
    INSERT,
    LIVE,
    CorrectedTrade,
    Correction,
    correction,
)
from infrastructure.simulator.market import Int64s, Names, Rows

DELAY_US: Final = 3_000_000
CENT: Final = c.PRICE_UNITS // 100
NEW_TICKS: Final = 1_000_000_000  # above the tick ids of a day


class Corrector:
    """Adds corrections to batches. `made` counts the lines."""

    def __init__(self, rate: float, names: Names, seed: int = 1) -> None:
        self._rate, self._names = rate, names
        self._rng = np.random.default_rng(seed)
        self._due: deque[tuple[int, CorrectedTrade]] = deque()
        self._taken = 0
        self.made = 0

    def extend(self, rows: Rows) -> Rows:
        """The batch with the corrections that are due before it; its own trades are drawn for later."""
        level1 = rows.level1
        if not level1.shape[0]:
            return rows
        now = int(level1[:, c.TIME].max())
        told: list[Correction] = []
        while self._due and self._due[0][1].time_us + DELAY_US <= now:
            told += self._lines(*self._due.popleft())
        trades = level1[level1[:, c.KIND] == c.TRADE]
        for row in trades[self._rng.random(len(trades)) < self._rate]:
            self._due.append((int(row[c.SYM]), self._trade(row)))
        self.made += len(told)
        return replace(rows, corrections=(*rows.corrections, *told)) if told else rows

    def _trade(self, row: Int64s) -> CorrectedTrade:
        return CorrectedTrade(
            symbol=self._names.symbols[int(row[c.SYM])],
            time_us=int(row[c.RECENT_TIME]),
            price=int(row[c.RECENT_PRICE]),
            size=int(row[c.RECENT_SIZE]),
            tick_id=int(row[c.TICK_ID]),
            conditions=int(row[c.RECENT_CONDITIONS]),
            center=int(row[c.RECENT_CENTER]),
            basis=int(row[c.CONTENTS]) & (c.HAS_LAST | c.HAS_EXTENDED | c.HAS_OTHER),
        )

    def _lines(self, symbol: int, trade: CorrectedTrade) -> list[Correction]:
        self._taken += 1
        lines = [correction(symbol, DELETE, trade, LIVE)]
        if self._taken % 2 == 0:
            new = replace(trade, price=trade.price + CENT, tick_id=NEW_TICKS + self._taken)
            lines.append(correction(symbol, INSERT, new, DOCUMENTED))
        return lines
