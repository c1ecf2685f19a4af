"""How long ago was a line received? Monotonic clocks of one boot, never wall clocks that may step.

`recv_time_us` of an event is a wall anchor plus CLOCK_MONOTONIC since then; the anchor and the boot id lie in the
`connected` facts of the log (design: facts belong in the log). So (now - receipt) is a difference of monotonic
clocks as long as reader and asker share a boot; otherwise it is unknown.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline_orchestrator.clock import boot_id
from pipeline_orchestrator.market.events import KIND
from pipeline_orchestrator.telemetry.metrics import BUCKETS, edge

_EDGES = np.array([edge(index) for index in range(BUCKETS)])
_CONNECTED = KIND["connected"]


class ReceiptClock:
    """Learns anchors from batches of market.events; what it learned survives in one small file.

    The file is a convenience of a restarted reader: lost, latencies are unknown until the next `connected` fact.
    """

    def __init__(self, path: Path, *, boot: str = "") -> None:
        self._path, self._boot = path, boot or boot_id()
        self._anchors: dict[tuple[int, int], int] = self._load()  # (instance, epoch) -> wall - monotonic, ns

    def learn(self, rows: pa.RecordBatch) -> None:
        """Take the anchors of the `connected` facts among these rows of market.events."""
        kinds = np.asarray(rows.column("kind").indices)
        for row in np.flatnonzero(kinds == _CONNECTED).tolist():
            raw = rows.column("raw")[row].as_py() or b""
            if raw.startswith(b"{"):
                self._take(int(rows.column("instance")[row].as_py()), int(rows.column("epoch")[row].as_py()), raw)

    def latencies(
        self, rows: pa.RecordBatch, now_ns: int, *, instance: str = "instance", epoch: str = "epoch"
    ) -> list[tuple[float, int]]:
        """(seconds, rows) per histogram class for `now_ns` (CLOCK_MONOTONIC); rows without an anchor are left out."""
        received = np.asarray(rows.column("recv_time_us"), dtype=np.int64)
        instances, epochs = np.asarray(rows.column(instance)), np.asarray(rows.column(epoch))
        seconds = []
        for (who, when), anchor in self._anchors.items():
            chosen = received[(instances == who) & (epochs == when)]
            if chosen.size:
                seconds.append((now_ns + anchor - chosen * 1000) / 1e9)
        return _classes(np.concatenate(seconds)) if seconds else []

    def _take(self, instance: int, epoch: int, raw: bytes) -> None:
        fact = json.loads(raw)
        key = (instance, epoch)
        if fact.get("boot_id") != self._boot or key in self._anchors:
            return
        self._anchors = {k: v for k, v in self._anchors.items() if k[0] != instance or k[1] >= epoch - 1}
        self._anchors[key] = int(fact["wall_anchor_ns"]) - int(fact["monotonic_anchor_ns"])
        document = {"boot_id": self._boot, "anchors": [[*k, v] for k, v in self._anchors.items()]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(document), encoding="utf-8")
        temporary.replace(self._path)

    def _load(self) -> dict[tuple[int, int], int]:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            if document["boot_id"] != self._boot:
                return {}
            return {(int(i), int(e)): int(v) for i, e, v in document["anchors"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _classes(seconds: npt.NDArray[np.float64]) -> list[tuple[float, int]]:
    """Rows per histogram class, each class stood for by the mean of its own values."""
    classes = np.searchsorted(_EDGES, seconds)
    counts = np.bincount(classes)
    sums = np.bincount(classes, weights=seconds)
    return [(float(sums[at] / counts[at]), int(counts[at])) for at in np.flatnonzero(counts).tolist()]
