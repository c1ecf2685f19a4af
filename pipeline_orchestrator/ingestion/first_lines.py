"""Finds symbols that were watched and never answered, and how long ago each symbol was heard of, in market time.

A watch is answered at once: F and P on Level 1, rows or `q` on Level 2, `n` for an unknown symbol. A symbol without any
line `iqfeed.first_line_seconds` after its watch is watched again; where that does not help for as long again it is
missing: the connection is made anew, once for a symbol and not within ten minutes of the last time. Seen are parsed
rows; while what is parsed is older than three seconds nobody is judged.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.ingestion.gap_watch import codes_of, int64s_of, valid_of
from pipeline_orchestrator.market.events import KIND, PORT

FRESH_SECONDS = 3.0
RECONNECT_PAUSE_SECONDS = 600.0
AGAIN_AT_ONCE = 100  # watches sent again in one round

_LINES = np.ones(max(KIND.values()) + 1, dtype=bool)
for _kind in ("connected", "lost", "subscribed", "unsubscribed", "gap"):
    _LINES[KIND[_kind]] = False


class FirstLines:
    """Symbols of one connection. Times `now_ns` are monotonic, market times microseconds."""

    def __init__(self, connection: str, seconds: float) -> None:
        self.connection, self.seconds = connection, seconds
        self.sent_again = 0
        self.missing: set[str] = set()  # watched again in vain; kept over a reconnect until it is heard of
        self._tried: set[str] = set()  # of them those for which the connection was made anew
        self.reconnected_ns: int | None = None
        self.newest_ns: int | None = None  # receipt of the newest row seen, wall clock of the journal
        self._asked: dict[str, int] = {}  # no line yet -> when it was watched
        self._again: dict[str, int] = {}  # watched again
        self._heard: dict[str, int | None] = {}  # -> market time of its newest line
        self._market_us: int | None = None

    def begin(self) -> None:
        """A new connection: all is watched anew."""
        self._asked.clear()
        self._again.clear()
        self._heard.clear()

    def observe(self, rows: pa.RecordBatch, epoch: int, watches: dict[str, int], market_us: int | None) -> int:
        """Take note of the symbols among parsed rows that came after their watch (`watches`: its seq).

        Returns how many of the rows are lines of this connection.
        """
        mine = codes_of(rows.column("port")) == PORT[self.connection]
        mine &= _LINES[codes_of(rows.column("kind"))]
        lines = int(np.count_nonzero(mine))
        if not lines:
            return 0
        self.newest_ns = int(int64s_of(rows.column("recv_time_us"))[np.flatnonzero(mine)[-1]]) * 1000
        self._market_us = market_us
        symbols = rows.column("symbol")
        mine &= int64s_of(rows.column("epoch")) == epoch
        if symbols.null_count:
            mine &= valid_of(symbols)
        at = np.flatnonzero(mine)
        if not len(at):
            return lines
        last = np.full(len(symbols.dictionary), -1, dtype=np.int64)
        last[codes_of(symbols)[at]] = at  # of repeated codes the last one stays
        seqs = int64s_of(rows.column("seq"))
        for code in np.flatnonzero(last >= 0).tolist():
            name = symbols.dictionary[code].as_py()
            if seqs[last[code]] > watches.get(name, 1 << 62):
                if name not in self._heard:
                    self._answered(name)
                self._heard[name] = market_us
        return lines

    def _answered(self, name: str) -> None:
        self._asked.pop(name, None)
        self._again.pop(name, None)
        self.missing.discard(name)
        self._tried.discard(name)

    def due(self, watched: Iterable[str], now_ns: int, wall_ns: int) -> list[str]:
        """Symbols to be watched again now; what `missing` holds is brought up to date."""
        served = set(watched)
        for name in self._asked.keys() - served:
            del self._asked[name]
            self._again.pop(name, None)
        self.missing &= served
        for name in served - self._asked.keys() - self._heard.keys():
            self._asked[name] = now_ns
        if not self.seconds or self.newest_ns is None or wall_ns - self.newest_ns > FRESH_SECONDS * 1e9:
            return []
        limit = now_ns - int(self.seconds * 1e9)
        self.missing |= {name for name, at in self._again.items() if at <= limit}
        due = [name for name, at in self._asked.items() if at <= limit and name not in self._again][:AGAIN_AT_ONCE]
        self._again |= dict.fromkeys(due, now_ns)
        self.sent_again += len(due)
        return due

    def may_reconnect(self, now_ns: int) -> bool:
        """Something is missing for which the connection was not made anew yet; counts as done if True."""
        if not self.missing - self._tried:
            return False
        if self.reconnected_ns is not None and now_ns - self.reconnected_ns < RECONNECT_PAUSE_SECONDS * 1e9:
            return False
        self.reconnected_ns = now_ns
        self._tried |= self.missing
        return True

    def ages(self, most: int, market_us: int | None) -> list[tuple[str, float]]:
        """The symbols heard of longest ago, and how long (s of the market's clock), oldest first."""
        if market_us is None:
            return []
        known = [(name, max(0.0, (market_us - at) / 1e6)) for name, at in self._heard.items() if at is not None]
        return sorted(known, key=lambda each: -each[1])[:most]
