"""What a storage sink counts: read by the topology once per tick, never by the sink itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# Upper bounds of latency classes in seconds, a quarter of a doubling apart: 100 us .. about 27 hours.
_BOUNDS = 1e-4 * np.power(2.0, np.arange(0, 121) / 4)


@dataclass(slots=True)
class SinkStats:
    """Totals since the sink was made; latency classes since the last `take_latencies`."""

    rows: int = 0  # rows sealed
    bytes: int = 0  # Arrow bytes of the rows sealed
    inserts: int = 0  # sealed inserts
    repeats: int = 0  # rows dropped because their identity had passed before
    clock_events: int = 0  # counted, not stored
    instance_copies: int = 0  # facts of an instance in partitions other than 0
    refused: int = 0  # rows that went to the dead letters
    uncertain: int = 0  # inserts whose outcome had to be read back
    refilled: int = 0  # rows inserted by such a resolution
    last_insert_seconds: float | None = None
    last_seal_seconds: float | None = None  # INTEND to SEAL
    newest_recv_us: int | None = None  # newest receipt among the rows sealed
    oldest_unsealed_recv_us: int | None = None  # oldest receipt of the write in progress
    _classes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(_BOUNDS) + 1, dtype=np.int64))

    def sealed(self, rows: pa.RecordBatch, recv_us: npt.NDArray[np.int64], sealed_us: int, took_seconds: float) -> None:
        """One insert is sealed: totals, and receipt -> sealed of each row by the wall clock."""
        self.inserts += 1
        self.rows += rows.num_rows
        self.bytes += int(rows.nbytes)
        self.last_seal_seconds = took_seconds
        self.newest_recv_us = max(self.newest_recv_us or 0, int(recv_us.max()))
        self.oldest_unsealed_recv_us = None
        seconds = np.maximum(sealed_us - recv_us, 0) / 1e6
        self._classes += np.bincount(np.searchsorted(_BOUNDS, seconds), minlength=len(_BOUNDS) + 1)

    def take_latencies(self) -> list[tuple[float, int]]:
        """(seconds, rows) of each class since the last call; the class's geometric middle stands for its rows."""
        found = [
            (float(_BOUNDS[min(int(at), len(_BOUNDS) - 1)]) * 2**-0.125, int(self._classes[at]))
            for at in np.flatnonzero(self._classes)
        ]
        self._classes[:] = 0
        return found
