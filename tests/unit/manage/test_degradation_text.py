"""What gives way, as a line of `status` for people."""

from __future__ import annotations

from typing import Any

from manage.render import moment, render_status
from tests.unit.manage.test_output import STATUS


def test_status_tells_what_gives_way_in_order_since_when_and_who_cannot_tell() -> None:
    def line(degradation: dict[str, Any] | None) -> list[str]:
        now = moment(STATUS["generated_at"])
        text = render_status({**STATUS, "degradation": degradation}, now=now)
        return [each for each in text.splitlines() if "degradation" in each]

    assert line(None) == []
    assert line({"in_force": [], "unknown": []}) == ["  degradation none"]
    coalescing = {"what": "cache coalescing", "cache_coalescing": 12.06, "since": "2026-11-21T09:58:57.000Z"}
    behind = {"what": "cache behind", "lag_seconds": 3.21, "lag_records": None, "since": "2026-11-21T09:59:58.000Z"}
    features = {"what": "storage of features behind", "lag_seconds": 8.0, "lag_records": 7020, "yields_to": "events"}
    silent = [{"what": "storage of bars behind", "component": "storage/1"}] * 2
    assert line({"in_force": [coalescing, behind, {**features, "since": STATUS["since"]}], "unknown": silent}) == [
        "  degradation cache coalescing 12.1:1 for 1m 3s · cache behind 3.21 s for 2s"
        " · storage of features behind 8 s (7,020 rec), yields to events for 3h 12m · unknown of storage/1"
    ]
