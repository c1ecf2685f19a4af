from __future__ import annotations

import json

import pytest

from pipeline_orchestrator.channel import Beat
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.status import Budget, ComponentState, PipelineSnapshot, ServiceStatus, stopped_snapshot
from pipeline_orchestrator.telemetry.metrics import Meter
from pipeline_orchestrator.telemetry.process import ProcessFigures
from pipeline_orchestrator.telemetry.snapshots import Snapshots, overall
from tests.doubles.clock import FakeClock

KEYS = {
    "schema_version",
    "generated_at",
    "status",
    "pid",
    "since",
    "symbols",
    "health_score",
    "deductions",
    "not_evaluated",
    "bottlenecks",
    "active_alerts",
    "components",
    "metrics",
    "infrastructure_status",
    "budgets",
    "maintenance",
}


class Stand:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.snapshots = Snapshots(self.clock)
        self.heard: dict[str, int] = {}

    def beat(self, name: str, received: int, *, sent: int = 0, latency_s: float = 0.0, incarnation: int = 1) -> None:
        meter = Meter()
        meter.count("component_received_records_total", received, {})
        meter.count("component_sent_records_total", sent, {})
        meter.gauge("lag_records", 12, {})
        meter.timed("blocked", 0.5, "kafka")
        if latency_s:
            meter.observe("latency", latency_s, received)
        self.heard[name] = self.clock.monotonic_ns()
        self.snapshots.beat(name, incarnation, Beat(1, 0.0, 0.002, self.clock.monotonic_ns(), meter.take(), {"fds": 9}))

    def state(self, name: str, state: State = State.RUNNING) -> ComponentState:
        return ComponentState(
            id=name, kind="stage", state=state, since_ns=self.clock.wall_ns(), pid=77, last_beat_ns=self.heard.get(name)
        )

    def build(self, *states: ComponentState, processes: dict[int, ProcessFigures] | None = None) -> PipelineSnapshot:
        return self.snapshots.build(
            "running", states, since_ns=self.clock.wall_ns(), symbols=("AAPL",), processes=processes or {}
        )


@pytest.fixture
def stand() -> Stand:
    return Stand()


def test_every_state_has_the_same_keys() -> None:
    stand = Stand()
    assert stand.build().to_json().keys() >= KEYS
    stopped = stopped_snapshot(0).to_json()
    assert stopped.keys() >= KEYS
    assert stopped["status"] == "stopped"
    assert stopped["infrastructure_status"]["kafka"]["state"] == "unknown"
    assert stopped["bottlenecks"] == stopped["active_alerts"] == ()


def test_a_running_component_has_its_figures(stand: Stand) -> None:
    for _ in range(3):
        stand.beat("processing/0", 100, sent=50, latency_s=0.004)
        stand.clock.advance(1.0)
    figures = {77: ProcessFigures(12.5, 1 << 20, None, 3)}
    document = json.loads(json.dumps(stand.build(stand.state("processing/0"), processes=figures).to_json()))
    component = document["components"]["processing/0"]
    assert component["rates"] == {"in_per_s": 100.0, "out_per_s": 50.0}
    assert component["totals"]["component_received_records_total"] == 300
    assert component["totals"]["since"].endswith("Z")
    assert component["time"]["blocked"] == 50.0
    assert component["time"]["blocked_on"] == "kafka"
    assert component["latency"]["latency"]["count"] == 300
    assert component["latency"]["latency"]["p99_ms"] == pytest.approx(4.0, rel=0.1)
    assert component["process"] == {"cpu_percent": 12.5, "rss_bytes": 1 << 20, "fds": 9, "threads": 3}
    assert component["age_s"] == 1.0
    assert component["stale"] is False
    assert document["metrics"]["processed_total"] == 300
    assert document["metrics"]["latency_p99_ms"] == pytest.approx(4.0, rel=0.1)


def test_figures_older_than_three_intervals_are_stale_and_not_shown(stand: Stand) -> None:
    stand.beat("processing/0", 100)
    stand.clock.advance(1.0)
    stand.beat("processing/0", 100)
    stand.clock.advance(3.5)
    component = stand.build(stand.state("processing/0")).components["processing/0"]
    assert component.stale
    assert component.age_s == 3.5
    assert component.rates.in_per_s is None
    assert component.time is None
    assert component.gauges == {}
    assert component.totals["component_received_records_total"] == 200


def test_what_nobody_measured_is_null(stand: Stand) -> None:
    document = stand.build(stand.state("processing/0")).to_json()
    component = document["components"]["processing/0"]
    assert component["rates"] == {"in_per_s": None, "out_per_s": None}
    assert component["process"] is None
    assert component["age_s"] is None
    assert document["metrics"] == dict.fromkeys(document["metrics"])
    assert document["health_score"] is None


def test_latencies_of_instances_are_merged_not_averaged(stand: Stand) -> None:
    stand.beat("processing/0", 99, latency_s=0.001)
    stand.beat("processing/1", 1, latency_s=1.0)
    metrics = stand.build(stand.state("processing/0"), stand.state("processing/1")).metrics
    assert metrics["latency_messages"] == 100
    assert metrics["latency_p50_ms"] == pytest.approx(1.0, rel=0.1)


def test_a_service_has_the_age_of_its_probe(stand: Stand) -> None:
    stand.snapshots.report_service("kafka", ServiceStatus("ok", "local", "127.0.0.1:9092", 3.2))
    stand.clock.advance(2.0)
    services = stand.build().infrastructure_status
    assert (services["kafka"].state, services["kafka"].round_trip_ms, services["kafka"].age_s) == ("ok", 3.2, 2.0)
    assert services["redis"].state == "unknown"
    assert services["redis"].age_s is None


def test_budgets_are_passed_on(stand: Stand) -> None:
    stand.snapshots.budgets["spool"] = Budget(5, 10, None, None)
    assert stand.build().to_json()["budgets"]["spool"]["used_bytes"] == 5


def test_the_performance_line_names_every_living_stage(stand: Stand) -> None:
    for _ in range(3):
        stand.beat("processing/0", 100, latency_s=0.004)
        stand.beat("storage/0", 100)
        stand.clock.advance(1.0)
    states = [stand.state("processing/0"), stand.state("storage/0"), stand.state("cache/0", State.BACKOFF)]
    lines = {line["stage"]: line for line in stand.snapshots.performance(states, 10.0)}
    assert set(lines) == {"processing/0", "storage/0"}
    assert lines["processing/0"]["in_msg_per_s"] == 100.0
    assert lines["processing/0"]["lag_records"] == 12.0
    assert lines["processing/0"]["p99_ms"] == pytest.approx(4.0, rel=0.1)
    assert lines["storage/0"]["p99_ms"] is None


@pytest.mark.parametrize(
    ("states", "was_ready", "word"),
    [
        ([State.STARTING, State.RUNNING], False, "starting"),
        ([State.RUNNING, State.RUNNING], True, "running"),
        ([State.RUNNING, State.STOPPED], True, "running"),
        ([State.RUNNING, State.DEGRADED], True, "degraded"),
        ([State.RUNNING, State.BACKOFF], True, "degraded"),
        ([State.RUNNING, State.BACKOFF], False, "starting"),
        ([State.RUNNING, State.FAILED], False, "degraded"),
        ([State.RUNNING, State.STARTING], True, "degraded"),
        ([], False, "starting"),
    ],
)
def test_the_word_for_the_whole(states: list[State], was_ready: bool, word: str) -> None:
    views = [ComponentState(id=str(n), kind="stage", state=state, since_ns=0) for n, state in enumerate(states)]
    assert overall(views, stopping=False, was_ready=was_ready) == word
    assert overall(views, stopping=True, was_ready=was_ready) == "stopping"


def labelled_beat(stand: Stand, name: str, counters: dict[tuple[str, str], int]) -> None:
    meter = Meter()
    for (counter, part), n in counters.items():
        meter.count(counter, n, {"part": part})
    stand.snapshots.beat(name, 1, Beat(1, 0.0, 0.0, stand.clock.monotonic_ns(), meter.take()))
    stand.heard[name] = stand.clock.monotonic_ns()


def test_stored_rows_are_those_of_the_events_table(stand: Stand) -> None:
    received = "component_received_records_total"
    labelled_beat(stand, "storage/0", {(received, "events"): 10, (received, "features"): 9})
    labelled_beat(stand, "storage/1", {(received, "events"): 5})
    states = [stand.state("storage/0"), stand.state("storage/1")]
    assert stand.build(*states).metrics["stored_total"] == 15
    labelled_beat(stand, "storage/0", {("stored_rows_total", "events"): 8})
    labelled_beat(stand, "storage/1", {("stored_rows_total", "events"): 4})
    assert stand.build(*states).metrics["stored_total"] == 12


def test_a_reader_and_a_sender_do_not_count_a_record_twice(stand: Stand) -> None:
    received, sent = "component_received_records_total", "component_sent_records_total"
    for _ in range(2):
        labelled_beat(
            stand, "ingestion/0", {(received, "reader"): 100, (received, "sender"): 100, (sent, "sender"): 90}
        )
        stand.clock.advance(1.0)
    rates = stand.build(stand.state("ingestion/0")).components["ingestion/0"].rates
    assert (rates.in_per_s, rates.out_per_s) == (100.0, 90.0)
