"""The first look at a batch: which slot and which instance each row belongs to, and where facts stand, as kernels."""

from __future__ import annotations

from typing import Any, Final

from numba import njit

from pipeline_orchestrator.market.events import KIND
from pipeline_orchestrator.processing.borrow import borrowed
from pipeline_orchestrator.processing.columns import Rows, present
from pipeline_orchestrator.processing.layout import Array, StateArrays, source_digest

_CONNECTED, _GAP = KIND["connected"], KIND["gap"]

DIGEST: Final = source_digest(
    (
        "pipeline_orchestrator.processing.layout",
        "pipeline_orchestrator.processing.borrow",
        "pipeline_orchestrator.processing.columns",
    )
)


def _build(digest: str) -> Any:  # Any: numba's dispatcher
    """The kernel, bound to the sources it was made from (see layout.source_digest)."""

    @njit(cache=True, error_model="numpy")
    def kernel(
        rows: Rows, runs: Array, sids: Array, instances: Array, st: StateArrays, heads: Array, found: Array
    ) -> Any:
        """Fill rows.slot and rows.link; list unknown symbols, unknown instances and rows of facts.

        `runs` = first row, end, partition index of each run. `sids` = symbol index per dictionary code; `heads` =
        first slot per symbol index. `found` (three lines) takes rows with a symbol that has no slot yet, with an
        unknown instance, and facts; the answer is how many of each. A symbol or an instance may be listed again.
        """
        assert digest
        rows, st = borrowed(rows), borrowed(st)
        unknown, strange, facts = 0, 0, 0
        partitions = st.starts.size - 1
        last, last_link = -1, -1
        for r in range(runs.shape[0]):
            part = runs[r, 2]
            last = -1
            for i in range(runs[r, 0], runs[r, 1]):
                instance = rows.instance[i]
                if instance != last or last_link < 0:
                    last, last_link = instance, -1
                    for k in range(instances.size):
                        if instances[k] == instance:
                            last_link = k * partitions + part
                    if last_link < 0:
                        found[1, strange] = i
                        strange += 1
                rows.link[i] = last_link
                if present(rows.symbol.bits, i):
                    sid = sids[rows.symbol.values[i]]
                    slot = heads[sid]
                    while slot >= 0 and st.slots[slot]["part"] != part:
                        slot = st.slots[slot]["twin"]
                    rows.slot[i] = slot
                    if slot < 0:
                        found[0, unknown] = i
                        unknown += 1
                kind = rows.kind[i]
                if _CONNECTED <= kind <= _GAP:
                    found[2, facts] = i
                    facts += 1
        return unknown, strange, facts

    return kernel


locate = _build(DIGEST)


@njit(cache=True, error_model="numpy")
def renumber(sids: Array, table: Array, codes: Array, used: Array) -> Any:  # Any: a count
    """Codes of the symbols that occur, by first appearance; how many there are. `table` comes and goes as -1."""
    n = 0
    for j in range(sids.size):
        sid = sids[j]
        if table[sid] < 0:
            table[sid] = n
            used[n] = sid
            n += 1
        codes[j] = table[sid]
    for j in range(n):
        table[used[j]] = -1
    return n
