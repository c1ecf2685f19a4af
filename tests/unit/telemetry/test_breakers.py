"""One dependency's breakers of several processes as one picture."""

from __future__ import annotations

from typing import Any

from pipeline_orchestrator.channel import Beat
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.status import ComponentState, ServiceStatus
from pipeline_orchestrator.telemetry.breakers import breaker_document
from pipeline_orchestrator.telemetry.snapshots import Snapshots
from tests.doubles.clock import FakeClock

SINCE, PROBE = "2026-11-21T10:00:00.000Z", "2026-11-21T10:00:07.000Z"


def told(state: str, *, since: str = SINCE, budget: float = 10.0) -> dict[str, Any]:
    return {
        "breaker_state{dependency=kafka}": state,
        "breaker_reason{dependency=kafka}": "" if state == "closed" else "refused",
        "breaker_since{dependency=kafka}": since,
        "breaker_next_probe{dependency=kafka}": PROBE if state == "open" else None,
        "retry_budget{dependency=kafka}": budget,
    }


def test_the_worst_is_shown_with_its_component_and_all_states() -> None:
    components = {
        "ingestion/0": told("closed"),
        "processing/0": told("half-open"),
        "storage/0": told("open", budget=0.5),
        "cache/0": {"lag_records": 3},
    }
    assert breaker_document("kafka", components) == {
        "state": "open",
        "reason": "refused",
        "since": SINCE,
        "next_probe": PROBE,
        "component": "storage/0",
        "components": {"ingestion/0": "closed", "processing/0": "half-open", "storage/0": "open"},
        "retry_budget": 0.5,
    }


def test_of_equals_the_one_that_is_longest_in_its_state_is_shown() -> None:
    components = {"a/0": told("open", since="2026-11-21T10:00:01.000Z"), "b/0": told("open")}
    document = breaker_document("kafka", components)
    assert document is not None
    assert document["component"] == "b/0"


def test_what_nobody_told_is_unknown() -> None:
    assert breaker_document("redis", {"ingestion/0": told("open")}) is None
    assert breaker_document("kafka", {}) is None


def test_the_snapshot_shows_it_beside_the_probe_and_forgets_who_is_silent() -> None:
    clock = FakeClock()
    snapshots = Snapshots(clock)
    snapshots.report_service("kafka", ServiceStatus("ok", "local", "127.0.0.1:9092", 3.2))
    heard = clock.monotonic_ns()
    snapshots.beat("ingestion/0", 1, Beat(1, 0.0, 0.0, heard, {"gauges": told("open")}))
    state = ComponentState("ingestion/0", "stage", State.RUNNING, 0, pid=1, incarnation=1, last_beat_ns=heard)

    def kafka() -> dict[str, Any]:
        built = snapshots.build("running", [state], since_ns=0, symbols=(), processes={})
        found: dict[str, Any] = built.to_json()["infrastructure_status"]["kafka"]
        return found

    assert (kafka()["state"], kafka()["breaker"]["state"]) == ("ok", "open")
    clock.advance(10)
    assert kafka()["breaker"] is None
