"""Which trades of a scenario are corrected, when and how: `C` lines at even distances, drawn from the seed.

A third of the corrections deletes an earlier trade (X), a third deletes one and inserts it with another size (X, then
I), a third inserts a trade that was never told live (I). Inserted trades have tick ids of their own, from 1,000,000,000
up. Total Volume does not change with a correction; the history of the Lookup port does (history_trades).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import corrections, order_flow
from infrastructure.simulator.history_trades import BASIS_MASK
from infrastructure.simulator.market import Int64s, Names
from infrastructure.simulator.scenario import Phase

NEVER: Final = 2**62
FIRST_INSERTED: Final = 1_000_000_000
_KEPT: Final = 512
_OTHER_SEED: Final = 0x5DEECE66D


class Corrections:
    """Keeps the newest trades of the day and says when a correction is due (`due_us`, UTC microseconds)."""

    def __init__(self, names: Names, seed: int) -> None:
        self.due_us = NEVER
        self._names = names
        self._rng = np.array([(seed ^ _OTHER_SEED) % 2**64], dtype=np.uint64)
        self._every_us = 0
        self._layout = ""
        self._made = self._inserted = 0
        self._trades: Int64s = np.zeros((0, c.LEVEL1_COLUMNS), dtype=np.int64)

    def begin(self, phase: Phase, now_us: int) -> None:
        """A phase begins."""
        self._every_us = round(60 * c.SECOND_US / phase.corrections) if phase.corrections else 0
        self._layout = phase.correction_layout
        self.due_us = now_us + self._every_us if self._every_us else NEVER

    def take(self, level1: Int64s) -> None:
        """Keep the trades among the rows of a batch."""
        trades = level1[level1[:, c.KIND] == c.TRADE]
        if len(trades):
            self._trades = np.concatenate([self._trades, trades])[-_KEPT:]

    def forget(self) -> None:
        """A new trading day: tick ids begin anew, so older trades can no longer be named."""
        self._trades = self._trades[:0]

    def at(self, now_us: int) -> tuple[corrections.Correction, ...]:
        """The corrections due at an instant; none where there is no trade to correct."""
        if now_us < self.due_us:
            return ()
        self.due_us += self._every_us
        if not len(self._trades):
            return ()
        place = order_flow.below(self._rng, len(self._trades))
        row = self._trades[place].copy()
        what = order_flow.below(self._rng, 3)
        symbol, told = int(row[c.SYM]), self._trade(row)
        said = []
        layout = self._layout if self._layout != "both" else corrections.LAYOUTS[self._made % 2]
        self._made += 1
        if what < 2:
            self._trades = np.delete(self._trades, place, axis=0)
            said.append(corrections.correction(symbol, corrections.DELETE, told, layout))
        if what > 0:
            row[c.RECENT_SIZE] += 100
            row[c.TICK_ID] = FIRST_INSERTED + self._inserted
            self._inserted += 1
            said.append(corrections.correction(symbol, corrections.INSERT, self._trade(row), layout))
        return tuple(said)

    def _trade(self, row: Int64s) -> corrections.CorrectedTrade:
        return corrections.CorrectedTrade(
            self._names.symbols[int(row[c.SYM])], int(row[c.RECENT_TIME]), int(row[c.RECENT_PRICE]),
            int(row[c.RECENT_SIZE]), int(row[c.TICK_ID]), int(row[c.RECENT_CONDITIONS]), int(row[c.RECENT_CENTER]),
            int(row[c.CONTENTS] & BASIS_MASK),
        )  # fmt: skip
