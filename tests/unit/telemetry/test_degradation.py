"""What gives way is told in the stated order, by figures; what nobody tells is unknown, never none."""

from __future__ import annotations

from typing import Any

import pytest

from config.sections import Settings
from pipeline_orchestrator.channel import Beat
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.status import ComponentState
from pipeline_orchestrator.storage.tables import TABLES
from pipeline_orchestrator.telemetry.degradation import FIRST, STEPS, YIELDING, Degradation, lag_limit
from pipeline_orchestrator.telemetry.snapshots import Snapshots
from tests.doubles.clock import FakeClock

T1, T2, T3 = (f"2026-11-21T10:00:0{second}.000Z" for second in (1, 2, 3))
TABLE_NAMES = ("events", "features", "bars", "books", "gaps", "dlq")


def cache(lag: float | None = 0.0, factor: float | None = 3.0, flush: float | None = 0.004) -> dict[str, Any]:
    figures = {"cache_coalescing": factor, "cache_flush_seconds": flush, "cache_flush_limit_seconds": 0.02}
    return {"lag_seconds": lag, "lag_limit_seconds": 2.04, "lag_records": 40, **figures}


def storage(**lags: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for table in TABLE_NAMES:
        found[f"lag_seconds{{part={table}}}"] = lags.get(table, 0.3)
        found[f"lag_limit_seconds{{part={table}}}"] = 3.0
        found[f"lag_records{{part={table}}}"] = 700
        found[f"yields_to{{part={table}}}"] = ""
    return found


def processing(lag: float | None = 0.1) -> dict[str, Any]:
    return {"lag_seconds": lag, "lag_limit_seconds": 2.01, "lag_records": 12}


def components(**changed: Any) -> dict[str, Any]:
    named = {"cache": cache(), "storage": storage(), "processing": processing(), **changed}
    return {f"{stage}/0": gauges for stage, gauges in named.items()} | {"ingestion/0": {"lag_seconds": 99.0}}


def shown(document: dict[str, Any] | None, key: str = "in_force") -> list[str]:
    assert document is not None
    return [one["what"] for one in document[key]]


def test_every_table_of_storage_has_its_place() -> None:
    tables = {spec.table for spec in TABLES.values()}
    assert {step.part for step in STEPS if step.stage == "storage"} == tables
    assert {*FIRST, *YIELDING} <= tables
    assert [step.number for step in STEPS] == sorted(step.number for step in STEPS)


def test_nothing_gives_way_while_all_keep_up() -> None:
    assert Degradation().document(components(), T1) == {"in_force": [], "unknown": []}


def test_the_order_is_the_stated_one_whatever_is_worst() -> None:
    slow = {"features": 8.0, "books": 9.0, "events": 20.0, "dlq": 3.1}
    document = Degradation().document(
        components(cache=cache(3.2, 12.1, 0.4), storage=storage(**slow), processing=processing(5.0)), T1
    )
    assert shown(document) == [
        "cache coalescing",
        "cache behind",
        "storage of features behind",
        "storage of books behind",
        "storage of events behind",
        "storage of dlq behind",
        "processing behind",
    ]
    assert document is not None
    assert [one["step"] for one in document["in_force"]] == [1, 2, 3, 3, 4, 4, 5]


@pytest.mark.parametrize(
    ("factor", "flush", "in_force"),
    [(12.0, 0.021, True), (12.0, 0.02, False), (1.0, 0.4, False), (None, None, False)],
)
def test_coalescing_counts_when_redis_and_not_the_flush_interval_sets_the_pace(
    factor: float | None, flush: float | None, in_force: bool
) -> None:
    document = Degradation().document(components(cache=cache(0.1, factor, flush)), T1)
    assert (shown(document) == ["cache coalescing"]) is in_force
    assert shown(document, "unknown") == []


def test_a_step_is_told_with_its_figures_and_since_when() -> None:
    degradation = Degradation()
    behind = storage(features=8.0)
    behind["yields_to{part=features}"] = "events"
    assert shown(degradation.document(components(), T1)) == []
    for now in (T2, T3):
        document = degradation.document(components(storage=behind), now)
        assert document is not None
        assert document["in_force"] == [
            {
                "step": 3,
                "what": "storage of features behind",
                "component": "storage/0",
                "lag_seconds": 8.0,
                "lag_limit_seconds": 3.0,
                "lag_records": 700,
                "yields_to": "events",
                "since": T2,
            }
        ]
    degradation.document(components(), T3)
    document = degradation.document(components(storage=behind), "later")
    assert document is not None and document["in_force"][0]["since"] == "later"


def test_of_several_instances_the_worst_is_told_and_who_is_silent() -> None:
    told = components(storage=storage(features=4.0)) | {"storage/1": storage(features=9.0), "storage/2": None}
    document = Degradation().document(told, T1)
    assert document is not None
    assert [(one["component"], one["lag_seconds"]) for one in document["in_force"]] == [("storage/1", 9.0)]
    assert {one["component"] for one in document["unknown"]} == {"storage/2"}


def test_what_is_not_told_is_unknown() -> None:
    document = Degradation().document(components(cache=None, storage=storage(events=None)), T1)
    assert shown(document) == []
    assert shown(document, "unknown") == ["cache coalescing", "cache behind", "storage of events behind"]
    assert Degradation().document({"ingestion/0": {}, "kafka/0": None}, T1) is None


def test_the_limit_is_two_flushes_and_a_margin() -> None:
    settings = Settings()
    assert lag_limit(settings.storage.flush_ms / 1000) == 3.0
    assert lag_limit(settings.redis.flush_ms / 1000) == 2.04


def test_the_snapshot_tells_it_and_forgets_who_is_silent() -> None:
    clock = FakeClock()
    snapshots = Snapshots(clock)
    heard = clock.monotonic_ns()
    snapshots.beat("cache/0", 1, Beat(1, 0.0, 0.0, heard, {"gauges": cache(7.0)}))
    states = [
        ComponentState("cache/0", "stage", State.RUNNING, 0, pid=1, incarnation=1, last_beat_ns=heard),
        ComponentState("storage/0", "stage", State.STOPPED, 0),
    ]

    def built() -> dict[str, Any]:
        found: dict[str, Any] = snapshots.build("running", states, since_ns=0, symbols=(), processes={}).to_json()
        return found

    before = built()
    assert shown(before["degradation"]) == ["cache behind"]
    assert before["degradation"]["in_force"][0]["since"] == before["generated_at"]
    clock.advance(10.0)
    assert shown(built()["degradation"], "unknown") == ["cache coalescing", "cache behind"]
