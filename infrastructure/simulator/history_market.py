"""A market's history: trades and daily bars, fed with the market's batches."""

from __future__ import annotations

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator.corrections import DELETE, Correction
from infrastructure.simulator.history_days import DayHistory
from infrastructure.simulator.history_trades import TradeHistory, packed
from infrastructure.simulator.market import Int64s

_DAYS_SHARE = 8


class MarketHistory:
    """At most `limit_bytes`: an eighth for daily bars (never less than two days of each symbol), the rest for trades.

    Memory is taken as trades come, not before.
    """

    def __init__(self, symbols: int, limit_bytes: int) -> None:
        self.days = DayHistory(symbols, limit_bytes // _DAYS_SHARE)
        self.trades = TradeHistory(limit_bytes - self.days.nbytes)

    @property
    def nbytes(self) -> int:
        """Bytes of a full history."""
        return self.trades.nbytes + self.days.nbytes

    def correct(self, correction: Correction) -> None:
        """Delete or insert a trade, for ticks and interval bars; daily bars keep counting what came live."""
        if correction.letter == DELETE:
            self.trades.delete(correction.symbol, correction.trade)
        else:
            self.trades.insert(correction.symbol, correction.trade)

    def take(self, level1: Int64s) -> None:
        """Keep the trades among the Level 1 rows of a batch."""
        trades = level1[level1[:, c.KIND] == c.TRADE]
        if not len(trades):
            return
        rows, symbols = packed(trades), np.ascontiguousarray(trades[:, c.SYM])
        self.trades.take(symbols, rows)
        self.days.take(symbols, rows)
