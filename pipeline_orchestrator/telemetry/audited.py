"""The last cheap audit of all storage instances as one record of the snapshot, made from their gauges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline_orchestrator.telemetry.metrics import base_name

AT_GAUGE, PENDING_GAUGE = "audit_at_us", "audit_pending"
COUNTS = ("audit_rows", "audit_missing_rows", "audit_duplicated_rows", "audit_unknown_partitions")

Gauges = Mapping[str, Any]  # Any: figures and texts


def audit_document(components: Sequence[Gauges], wall_ns: int) -> dict[str, Any] | None:  # Any: JSON
    """{"result", "pending", "at_us", "age_s", "rows", "missing_rows", "duplicated_rows", "unknown_partitions"}.

    `result`: damaged, whole, unknown where some partition could not be held against its ledger, or pending where none
    was made since the start: then times and counts are None. `pending`: one is due and has not answered. The age is
    that of the oldest instance's audit. None = no storage has said anything yet.
    """
    told = [gauges for gauges in map(_plain, components) if AT_GAUGE in gauges or PENDING_GAUGE in gauges]
    if not told:
        return None
    pending = any(gauges.get(PENDING_GAUGE) for gauges in told)
    audited = [gauges for gauges in told if gauges.get(AT_GAUGE) is not None]
    if len(audited) < len(told):
        nothing = dict.fromkeys(("at_us", "age_s", *(name.removeprefix("audit_") for name in COUNTS)))
        return {"result": "pending", "pending": True, **nothing}
    sums = {name.removeprefix("audit_"): sum(int(one.get(name) or 0) for one in audited) for name in COUNTS}
    damaged = sums["missing_rows"] or sums["duplicated_rows"]
    at_us = min(int(one[AT_GAUGE]) for one in audited)
    return {
        "result": "damaged" if damaged else "unknown" if sums["unknown_partitions"] else "whole",
        "pending": pending,
        "at_us": at_us,
        "age_s": round(max(0.0, wall_ns / 1e9 - at_us / 1e6), 1),
        **sums,
    }


def _plain(gauges: Gauges) -> dict[str, Any]:  # Any: as above
    return {base_name(key): value for key, value in gauges.items() if base_name(key).startswith("audit_")}
