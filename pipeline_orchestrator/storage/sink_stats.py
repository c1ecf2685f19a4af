"""What a storage sink counts: read by the topology once per tick, never by the sink itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(slots=True)
class SinkStats:
    """Totals since the sink was made."""

    rows: int = 0  # rows sealed
    bytes: int = 0  # Arrow bytes of the rows sealed
    inserts: int = 0  # sealed inserts
    repeats: int = 0  # rows dropped because their identity had passed before
    clock_events: int = 0  # counted, not stored
    instance_copies: int = 0  # facts of an instance in partitions other than 0
    refused: int = 0  # rows that went to the dead letters
    refused_by_store: int = 0  # of these, rows that the server did not take
    uncertain: int = 0  # inserts whose outcome had to be read back
    refilled: int = 0  # rows inserted by such a resolution
    last_insert_seconds: float | None = None
    last_seal_seconds: float | None = None  # INTEND to SEAL
    newest_recv_us: int | None = None  # newest receipt among the rows sealed
    oldest_unsealed_recv_us: int | None = None  # oldest receipt of the write in progress

    def sealed(self, rows: pa.RecordBatch, recv_us: npt.NDArray[np.int64], took_seconds: float) -> None:
        """One insert is sealed; `recv_us` = receipt of each of its rows, `took_seconds` = INTEND to SEAL."""
        self.inserts += 1
        self.rows += rows.num_rows
        self.bytes += int(rows.nbytes)
        self.last_seal_seconds = took_seconds
        self.newest_recv_us = max(self.newest_recv_us or 0, int(recv_us.max()))
        self.oldest_unsealed_recv_us = None
