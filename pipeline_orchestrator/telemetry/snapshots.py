"""States from the supervisor + figures from the beats -> PipelineSnapshot, and the `Performance:` line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline_orchestrator.channel import Beat
from pipeline_orchestrator.clock import Clock
from pipeline_orchestrator.lifecycle import ALIVE, State
from pipeline_orchestrator.status import (
    SERVICES,
    Budget,
    ComponentState,
    ComponentStatus,
    Latency,
    PipelineSnapshot,
    Rates,
    ServiceStatus,
    rfc3339,
)
from pipeline_orchestrator.telemetry.audited import audit_document
from pipeline_orchestrator.telemetry.breakers import breaker_document
from pipeline_orchestrator.telemetry.degradation import Degradation
from pipeline_orchestrator.telemetry.figures import Figures
from pipeline_orchestrator.telemetry.metrics import Histogram, base_name, label_of
from pipeline_orchestrator.telemetry.process import ProcessFigures
from pipeline_orchestrator.telemetry.refused import plain_gauges, refused_document

RECEIVED = "component_received_records_total"
SENT = "component_sent_records_total"
DEAD_LETTERS = "dead_letters_total"
STALE_INTERVALS = 3
LAG_GAUGE = "lag_records"


@dataclass(frozen=True, slots=True)
class Headline:
    """One figure of `metrics`: a counter summed over the instances of a stage, or over one part of them.

    `counters` are tried in turn, each with its part ("" = all parts): the first one that was ever counted is taken.
    """

    name: str
    stage: str
    counters: tuple[tuple[str, str], ...]


HEADLINES = (
    Headline("ingested_total", "ingestion", ((SENT, ""),)),
    Headline("processed_total", "processing", ((RECEIVED, ""),)),
    Headline("stored_total", "storage", (("stored_rows_total", "events"), (RECEIVED, "events"), (RECEIVED, ""))),
    Headline("cached_total", "cache", ((RECEIVED, ""),)),
)
INTAKE_PART = "reader"
"""Where a component has a part of this name, what that part received is what the component received."""
LATENCIES = ("latency", "stored_latency")


class Snapshots:
    """Collects beats and service reports; `build` is called once a second."""

    def __init__(self, clock: Clock, *, interval_s: float = 1.0) -> None:
        self._clock, self._interval_s = clock, interval_s
        self._figures: dict[str, Figures] = {}
        self._services: dict[str, tuple[int, ServiceStatus]] = {}
        self.budgets: dict[str, Budget] = {}
        self._degradation = Degradation()

    def beat(self, component_id: str, incarnation: int, beat: Beat) -> None:
        """Take in one heartbeat."""
        figures = self._figures.get(component_id)
        if figures is None:
            figures = self._figures[component_id] = Figures(self._clock.wall_ns() // 1000)
        figures.beat(incarnation, beat)

    def report_service(self, name: str, status: ServiceStatus) -> None:
        """What a probe just saw of kafka, clickhouse, redis or iqfeed; its age counts from now."""
        self._services[name] = (self._clock.monotonic_ns(), status)

    def build(
        self,
        status: str,
        states: Sequence[ComponentState],
        *,
        since_ns: int,
        symbols: tuple[str, ...],
        processes: Mapping[int, ProcessFigures],
        source: Mapping[str, Any] | None = None,  # Any: JSON
    ) -> PipelineSnapshot:
        """The snapshot of this moment."""
        now = self._clock.monotonic_ns()
        fresh, generated_at = self._fresh_gauges(states, now), rfc3339(self._clock.wall_ns())
        wanted = {state.id: fresh.get(state.id) for state in states if state.state is not State.STOPPED}
        return PipelineSnapshot(
            generated_at=generated_at,
            status=status,
            pid=os.getpid(),
            since=rfc3339(since_ns),
            symbols=symbols,
            symbols_source=source,
            symbols_refused=refused_document(fresh),
            dead_letters=self._dead_letters(),
            components={state.id: self._component(state, now, processes) for state in states},
            metrics=self._metrics([state.id for state in states], now),
            infrastructure_status={
                name: replace(self._service(name, now), breaker=breaker_document(name, fresh))
                for name in (*SERVICES, *self._extra_services())
            },
            budgets=dict(self.budgets),
            degradation=self._degradation.document(wanted, generated_at),
            audit=audit_document(
                [self._figures[s.id].total["gauges"] for s in states if s.id in self._figures], self._clock.wall_ns()
            ),
        )

    def _fresh_gauges(self, states: Sequence[ComponentState], now: int) -> dict[str, dict[str, Any]]:
        """Gauges by component: of those that live and speak."""
        found = {}
        for state in states:
            figures = self._figures.get(state.id)
            if figures is None or state.state not in ALIVE or state.last_beat_ns is None:
                continue
            if (now - state.last_beat_ns) / 1e9 <= STALE_INTERVALS * self._interval_s:
                found[state.id] = figures.total["gauges"]
        return found

    def _dead_letters(self) -> dict[str, Any]:
        """What was refused since the start, by reason, of all components."""
        by_reason: dict[str, int] = {}
        for figures in self._figures.values():
            for key, count in figures.total["counters"].items():
                if base_name(key) == DEAD_LETTERS:
                    reason = label_of(key, "reason") or "unknown"
                    by_reason[reason] = by_reason.get(reason, 0) + count
        return {"count": sum(by_reason.values()), "by_reason": dict(sorted(by_reason.items()))}

    def performance(self, states: Iterable[ComponentState], window_s: float) -> list[dict[str, Any]]:
        """Fields of one `Performance:` line per living stage; null where a figure is not known."""
        lines, now = [], self._clock.monotonic_ns()
        for state in states:
            figures = self._figures.get(state.id)
            if state.kind != "stage" or state.state not in ALIVE or figures is None:
                continue
            used = figures.utilization()
            latency = figures.histograms(now, int(window_s * 1e9)).get(
                "stored_latency" if state.id.startswith("storage/") else "latency"
            )
            lines.append(
                {
                    "stage": state.id,
                    "in_msg_per_s": _received(figures),
                    "out_msg_per_s": _rounded(figures.rate(SENT)),
                    "busy_pct": used.busy if used else None,
                    "blocked_pct": used.blocked if used else None,
                    "blocked_on": (used.blocked_on or None) if used else None,
                    "lag_records": _rounded(figures.gauge_sum(LAG_GAUGE)),
                    "p99_ms": _ms(latency.percentile(0.99)) if latency else None,
                }
            )
        return lines

    def _component(self, state: ComponentState, now: int, processes: Mapping[int, ProcessFigures]) -> ComponentStatus:
        figures, process = self._figures.get(state.id), processes.get(state.pid or -1)
        age = None if state.last_beat_ns is None else round((now - state.last_beat_ns) / 1e9, 3)
        stale = age is None or age > STALE_INTERVALS * self._interval_s
        common = {
            "id": state.id,
            "kind": state.kind,
            "state": state.state.value,
            "since": rfc3339(state.since_ns),
            "pid": state.pid,
            "incarnation": state.incarnation,
            "restarts": state.restarts,
            "cause": state.cause,
            "next_step": state.next_step,
            "embedded": state.embedded,
            "age_s": age,
            "stale": stale,
            "process": asdict(process) if process is not None else None,
        }
        if figures is None:
            return ComponentStatus(**common)  # type: ignore[arg-type]  # a dict of fields of several types
        used = figures.utilization()
        alive = state.state in ALIVE and not stale
        if process is not None and process.fds is None:
            common["process"] = {**asdict(process), "fds": figures.process.get("fds")}
        return ComponentStatus(
            **common,  # type: ignore[arg-type]  # as above
            rates=Rates(_received(figures), _rounded(figures.rate(SENT))) if alive else Rates(),
            totals={**figures.total["counters"], "since": rfc3339(figures.since_us * 1000)},
            time=asdict(used) if used is not None and alive else None,
            gauges={**plain_gauges(figures.total["gauges"]), "event_loop_lag_seconds": figures.lag_s} if alive else {},
            latency={name: _latency(h) for name, h in figures.histograms(now).items()},
        )

    def _metrics(self, ids: Sequence[str], now: int) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        for headline in HEADLINES:
            members = [self._figures[i] for i in ids if i.startswith(headline.stage + "/") and i in self._figures]
            metrics[headline.name] = _first_known(members, headline.counters)
        for name in LATENCIES:
            merged = Histogram()
            for component_id in ids:
                if component_id in self._figures:
                    merged.merge(self._figures[component_id].histograms(now).get(name, Histogram()))
            latency = _latency(merged)
            metrics[f"{name}_p50_ms"], metrics[f"{name}_p99_ms"] = latency.p50_ms, latency.p99_ms
            metrics[f"{name}_messages"] = latency.count or None
        return metrics

    def _extra_services(self) -> list[str]:
        return sorted(self._services.keys() - set(SERVICES))

    def _service(self, name: str, now: int) -> ServiceStatus:
        if name not in self._services:
            return ServiceStatus()
        at_ns, status = self._services[name]
        return ServiceStatus(**{**asdict(status), "age_s": round((now - at_ns) / 1e9 + (status.age_s or 0.0), 3)})


def overall(states: Sequence[ComponentState], *, stopping: bool, was_ready: bool) -> str:
    """The word for the whole: starting until everything wanted was ready once, then running or degraded."""
    if stopping:
        return "stopping"
    wanted = [state.state for state in states if state.state is not State.STOPPED]
    if any(state in (State.DEGRADED, State.BACKOFF, State.FAILED) for state in wanted):
        return "degraded" if was_ready or State.FAILED in wanted else "starting"
    if not was_ready:
        return "starting"
    return "running" if all(state is State.RUNNING for state in wanted) else "degraded"


def _first_known(members: Sequence[Figures], counters: tuple[tuple[str, str], ...]) -> int | None:
    for name, part in counters:
        known = [count for figures in members if (count := figures.counter(name, part)) is not None]
        if known:
            return sum(known)
    return None


def _received(figures: Figures) -> float | None:
    """Records per second taken in."""
    return _rounded(figures.rate(RECEIVED, INTAKE_PART if figures.counter(RECEIVED, INTAKE_PART) is not None else ""))


def _latency(histogram: Histogram) -> Latency:
    return Latency(_ms(histogram.percentile(0.5)), _ms(histogram.percentile(0.99)), histogram.count)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
