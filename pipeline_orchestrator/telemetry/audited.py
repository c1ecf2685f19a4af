"""The last cheap audit of all storage instances as one record of the snapshot, made from their gauges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline_orchestrator.telemetry.metrics import base_name

AT_GAUGE = "audit_at_us"
COUNTS = ("audit_rows", "audit_missing_rows", "audit_duplicated_rows", "audit_unknown_partitions")

Gauges = Mapping[str, Any]  # Any: figures and texts


def audit_document(components: Sequence[Gauges], wall_ns: int) -> dict[str, Any] | None:  # Any: JSON
    """{"result", "at_us", "age_s", "rows", "missing_rows", "duplicated_rows", "unknown_partitions"}; None = none yet.

    `result`: damaged, whole, or unknown where some partition could not be held against its ledger. The age is that
    of the oldest instance's audit.
    """
    audited = [gauges for gauges in map(_plain, components) if gauges.get(AT_GAUGE) is not None]
    if not audited:
        return None
    sums = {name.removeprefix("audit_"): sum(int(one.get(name) or 0) for one in audited) for name in COUNTS}
    damaged = sums["missing_rows"] or sums["duplicated_rows"]
    at_us = min(int(one[AT_GAUGE]) for one in audited)
    return {
        "result": "damaged" if damaged else "unknown" if sums["unknown_partitions"] else "whole",
        "at_us": at_us,
        "age_s": round(max(0.0, wall_ns / 1e9 - at_us / 1e6), 1),
        **sums,
    }


def _plain(gauges: Gauges) -> dict[str, Any]:  # Any: as above
    return {base_name(key): value for key, value in gauges.items() if base_name(key).startswith("audit_")}
