"""Finds, in parsed batches of Level 2, which symbols have no depth now (`q`), and which have it again.

`Subscriptions.without_depth` is the one place where this is kept; what shows it and what watches silent symbols again
read it there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.flow.spool_reader import SpoolChunk
from pipeline_orchestrator.ingestion.gap_watch import codes_of, int64s_of
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.ingestion.subscriptions import Subscriptions
from pipeline_orchestrator.market.events import KIND, PORT

_OTHER, _FIRST_DEPTH, _LAST_DEPTH = KIND["other"], KIND["order_add"], KIND["level_set"]
_LEVEL2 = PORT["level2"]


class DepthWatch:
    """`observe` is called with every parsed batch, in order; lines from before the newest watch are left out."""

    def __init__(self, journal: Journal, wishes: Subscriptions) -> None:
        self.journal, self.wishes = journal, wishes

    def observe(self, rows: pa.RecordBatch, chunk: SpoolChunk) -> None:
        """Bring `wishes.without_depth` up to these rows."""
        ports, kinds = codes_of(rows.column("port")), codes_of(rows.column("kind"))
        told = (ports == _LEVEL2) & (kinds == _OTHER)
        if not told.any() and not self.wishes.without_depth:
            return
        depth = (ports == _LEVEL2) & (kinds >= _FIRST_DEPTH) & (kinds <= _LAST_DEPTH)
        symbols = rows.column("symbol")
        if self.wishes.without_depth:
            shown = symbols.dictionary.to_pylist()
            wanted = [code for code, name in enumerate(shown) if name in self.wishes.without_depth]
            depth &= np.isin(codes_of(symbols), wanted)
        else:
            depth[:] = False
        seq, epochs = int64s_of(rows.column("seq")), int64s_of(rows.column("epoch"))
        watches = self.journal.ledger.watches.get("level2", {})
        newest: dict[str, bool] = {}
        for at in self._last_of_each(told | depth, symbols):
            symbol = symbols[at].as_py()
            if epochs[at] != self.journal.spool.epoch or seq[at] <= watches.get(symbol, 1 << 62):
                continue
            if kinds[at] != _OTHER:
                newest[symbol] = True
            elif bytes(rows.column("raw")[at].as_py() or b"").startswith(b"q,"):
                newest[symbol] = False
        for symbol, served in newest.items():
            if served:
                self.wishes.without_depth.discard(symbol)
            elif symbol in self.wishes.wanted_set:
                self.wishes.without_depth.add(symbol)

    @staticmethod
    def _last_of_each(mask: npt.NDArray[np.bool_], symbols: pa.DictionaryArray) -> list[int]:
        """The last row of each symbol in the mask, in the order of the rows."""
        bits = symbols.buffers()[0]
        if bits is not None:
            end = symbols.offset + len(symbols)
            known = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little", count=end)[symbols.offset :]
            mask = mask & (known == 1)
        at = np.flatnonzero(mask)
        last = dict(zip(codes_of(symbols)[at].tolist(), at.tolist(), strict=True))
        return sorted(last.values())
