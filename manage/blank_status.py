"""The status document of a pipeline about which nothing is known: its keys exist in every state.

Standard library only; the daemon uses it too, until its supervisor can give a snapshot.
"""

from __future__ import annotations

import time
from typing import Any

SCHEMA_VERSION = 1
SERVICES = ("kafka", "clickhouse", "redis", "iqfeed")
NOT_EVALUATED = ("health_score", "bottlenecks", "active_alerts")


def rfc3339(seconds: float | None = None) -> str:
    """UTC time with milliseconds; now when none is given."""
    moment = time.time() if seconds is None else seconds
    whole, thousandths = divmod(round(moment * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{thousandths:03d}Z"


def blank_status(status: str, **known: Any) -> dict[str, Any]:  # Any: JSON
    """A snapshot without measurements; `known` overrides single keys."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "generated_at": rfc3339(),
        "status": status,
        "pid": None,
        "since": None,
        "symbols": [],
        "symbols_source": None,
        "symbols_refused": None,
        "dead_letters": None,
        "health_score": None,
        "deductions": [],
        "not_evaluated": list(NOT_EVALUATED),
        "bottlenecks": [],
        "active_alerts": [],
        "components": {},
        "metrics": {},
        "infrastructure_status": {
            name: {
                "state": "unknown",
                "mode": None,
                "address": None,
                "round_trip_ms": None,
                "age_s": None,
                "detail": "",
                "addresses": {},
            }
            for name in SERVICES
        },
        "budgets": {},
        "degradation": None,
        "audit": None,
        "maintenance": None,
        "died": None,
    }
    document.update(known)
    return document
