"""ReceiptClock: latencies from the anchors in the log, unknown where clocks cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline_orchestrator.flow.receipt_clock import ReceiptClock
from pipeline_orchestrator.market.events import EVENTS
from tests.doubles.market_rows import table_of

WALL_NS = 1_700_000_000_000_000_000
MONOTONIC_NS = 5_000_000_000
BOOT = "b00t"


def event(kind: str, recv_us: int, raw: bytes | None = None, epoch: int = 7) -> dict[str, Any]:
    return {"kind": kind, "port": "level1", "source": "L", "recv_time_us": recv_us, "raw": raw, "epoch": epoch}


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    filled = [{"instance": 0, "seq": seq, "idx": 0, "summary": False, **row} for seq, row in enumerate(rows)]
    return table_of(EVENTS, filled)


def connected(boot: str = BOOT, epoch: int = 7) -> dict[str, Any]:
    fact = {"phase": "open", "wall_anchor_ns": WALL_NS, "monotonic_anchor_ns": MONOTONIC_NS, "boot_id": boot}
    return event("connected", WALL_NS // 1000, json.dumps(fact).encode(), epoch)


def test_latency_is_the_difference_of_monotonic_clocks(tmp_path: Path) -> None:
    clock = ReceiptClock(tmp_path / "anchors.json", boot=BOOT)
    rows = batch(connected(), event("trade", WALL_NS // 1000 + 250_000))
    clock.learn(rows)
    found = clock.latencies(rows.slice(1), MONOTONIC_NS + 1_000_000_000)
    assert [weight for _, weight in found] == [1]
    assert found[0][0] == pytest.approx(0.75)


def test_without_an_anchor_of_this_boot_the_latency_is_unknown(tmp_path: Path) -> None:
    clock = ReceiptClock(tmp_path / "anchors.json", boot="another")
    rows = batch(connected(), event("trade", WALL_NS // 1000))
    clock.learn(rows)
    assert clock.latencies(rows, MONOTONIC_NS) == []


def test_anchors_survive_a_restart_and_a_damaged_file_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "receipt" / "anchors.json"
    rows = batch(connected(), event("trade", WALL_NS // 1000))
    ReceiptClock(path, boot=BOOT).learn(rows)
    assert sum(weight for _, weight in ReceiptClock(path, boot=BOOT).latencies(rows, MONOTONIC_NS)) == 2
    assert ReceiptClock(path, boot="after a reboot").latencies(rows, MONOTONIC_NS) == []
    path.write_text("{", encoding="utf-8")
    assert ReceiptClock(path, boot=BOOT).latencies(rows, MONOTONIC_NS) == []


def test_every_message_counts_once_whatever_its_class(tmp_path: Path) -> None:
    clock = ReceiptClock(tmp_path / "anchors.json", boot=BOOT)
    rows = batch(
        connected(), *(event("quote", WALL_NS // 1000 + 1000 * i) for i in range(500)), event("trade", 0, epoch=9)
    )
    clock.learn(rows)
    found = clock.latencies(rows, MONOTONIC_NS + 1_000_000_000)
    assert sum(weight for _, weight in found) == 501
