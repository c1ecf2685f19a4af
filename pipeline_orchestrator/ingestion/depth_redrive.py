"""Watches a symbol's depth again when it alone fell silent: IQConnect can stop one symbol's depth without a word.

A held symbol is silent when nothing of its depth came for `iqfeed.depth_redrive_seconds` while depth of others did. The
same WPL or WOR is then sent once more, at most once per that time and symbol, with a fact before it (`subscribed`,
cause `redrive`): its answer restates the book, and what it does not name is gone (processing/restate.py). What is seen
are parsed rows: while nothing is parsed (Kafka is away) nobody is judged. Symbols answered `q` (no depth now) are no
matter of this module: DepthWatch keeps them, the caller leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.ingestion.gap_watch import codes_of
from pipeline_orchestrator.market.events import KIND, PORT

ALIVE_SECONDS = 3.0  # depth of any symbol came within this: the connection lives

_DEPTH_KINDS = np.zeros(max(KIND.values()) + 1, dtype=bool)
for _kind in ("order_add", "order_change", "order_delete", "level_set", "level_delete", "depth_clear"):
    _DEPTH_KINDS[KIND[_kind]] = True


class DepthRedrive:
    """When each symbol's depth was last seen, in monotonic nanoseconds of the caller's clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.sent = 0  # watches sent again, since the start
        self._seen: dict[str, int] = {}
        self._tried: dict[str, int] = {}
        self._newest: int | None = None

    def begin(self, symbols: Iterable[str], now_ns: int) -> None:
        """Every watch was sent just now: nobody is silent yet."""
        self._seen = dict.fromkeys(symbols, now_ns)
        self._tried.clear()

    def join(self, symbols: Iterable[str], now_ns: int) -> None:
        """Watches of these symbols were sent just now, beside those that are held."""
        for name in symbols:
            self._seen[name] = now_ns
            self._tried.pop(name, None)

    def observe(self, rows: pa.RecordBatch, now_ns: int) -> None:
        """Take note of the symbols whose depth is among parsed rows; one pass over codes, none over texts."""
        if not self.seconds or not self._seen:
            return
        symbols = rows.column("symbol")
        if symbols.null_count == len(rows):
            return
        level2 = codes_of(rows.column("port")) == PORT["level2"]
        depth = level2 & _DEPTH_KINDS[codes_of(rows.column("kind"))]
        if depth.any():
            self._newest = now_ns
            for name in _names(symbols, depth):
                if name in self._seen:
                    self._seen[name] = now_ns

    def silent(self, held: Iterable[str], now_ns: int) -> list[str]:
        """Of these symbols those that have been silent for too long while others spoke, not tried since."""
        if not self.seconds or self._newest is None or now_ns - self._newest > ALIVE_SECONDS * 1e9:
            return []
        limit = now_ns - int(self.seconds * 1e9)
        return [
            name for name in held if self._seen.get(name, now_ns) <= limit and self._tried.get(name, limit) <= limit
        ]

    def tried(self, name: str, now_ns: int) -> None:
        """A symbol's watch was sent again."""
        self._tried[name] = now_ns
        self.sent += 1


def _names(symbols: pa.DictionaryArray, rows: np.typing.NDArray[np.bool_]) -> list[str]:
    """Distinct symbols among the chosen rows."""
    if symbols.null_count:
        rows = rows & np.array(symbols.is_valid().to_pylist(), dtype=bool)
    chosen = np.bincount(codes_of(symbols)[rows], minlength=len(symbols.dictionary))
    dictionary = symbols.dictionary
    return [dictionary[code].as_py() for code in np.flatnonzero(chosen).tolist()]
