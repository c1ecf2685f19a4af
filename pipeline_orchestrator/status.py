"""The one record that status, monitor, health, pages and reports are drawn from.

Every figure has its unit in its name, its age beside it, and None where it is unknown: never 0, never a guess.
Fields are only ever added; `SCHEMA_VERSION` rises when one changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from pipeline_orchestrator.lifecycle import State

SCHEMA_VERSION = 1
SERVICES = ("kafka", "clickhouse", "redis", "iqfeed")
NOT_EVALUATED = ("health_score", "bottlenecks", "active_alerts")


def rfc3339(wall_ns: int) -> str:
    """UTC with milliseconds."""
    stamp = datetime.fromtimestamp(wall_ns / 1e9, UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.") + f"{stamp.microsecond // 1000:03d}Z"


@dataclass(frozen=True, slots=True)
class ComponentState:
    """What the supervisor knows of one component. `since_ns` is the wall time of the last change of `state`."""

    id: str
    kind: str
    state: State
    since_ns: int
    pid: int | None = None
    incarnation: int = 0
    restarts: int = 0
    cause: str = ""
    next_step: str = ""
    embedded: bool = False
    last_beat_ns: int | None = None  # CLOCK_MONOTONIC of receipt


@dataclass(frozen=True, slots=True)
class Rates:
    """Records per second over the last few beats; None until two beats of this incarnation have come."""

    in_per_s: float | None = None
    out_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles over the last minute's messages, each weighted; None when none was completed."""

    p50_ms: float | None
    p99_ms: float | None
    count: int


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """One component with its figures. `age_s` is the age of the newest beat; `stale` = older than 3 intervals."""

    id: str
    kind: str
    state: str
    since: str
    pid: int | None = None
    incarnation: int = 0
    restarts: int = 0
    cause: str = ""
    next_step: str = ""
    embedded: bool = False
    age_s: float | None = None
    stale: bool = True
    rates: Rates = Rates()
    totals: Mapping[str, Any] = field(default_factory=dict)  # Any: counters, and "since"
    time: Mapping[str, Any] | None = None  # percent per state, and "blocked_on"
    gauges: Mapping[str, Any] = field(default_factory=dict)
    latency: Mapping[str, Latency] = field(default_factory=dict)
    process: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One dependency as a probe saw it: ok, slow, unreachable, or unknown when nobody asked.

    `addresses`, of the feed: `host:port` of level1, level2, lookup and admin; `address` is the first that is read.
    `breaker`: what the components say of their circuit breakers, see telemetry.breakers; None = none has said it.
    """

    state: str = "unknown"
    mode: str = "unknown"
    address: str = ""
    round_trip_ms: float | None = None
    age_s: float | None = None
    detail: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)
    breaker: Mapping[str, Any] | None = None  # Any: JSON


@dataclass(frozen=True, slots=True)
class Budget:
    """One bounded store; None = not known (yet). `volume`: where its file system is mounted; `free_bytes`: of that."""

    used_bytes: int | None = None
    limit_bytes: int | None = None
    bytes_per_day: float | None = None
    seconds_to_full: float | None = None
    volume: str | None = None
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PipelineSnapshot:
    """The pipeline at one moment. `status`: starting, running, degraded, stopping or stopped."""

    generated_at: str
    status: str
    pid: int | None = None
    since: str | None = None
    symbols: tuple[str, ...] = ()
    symbols_source: Mapping[str, Any] | None = None  # Any: see symbol_source.SymbolSource.document
    symbols_refused: Mapping[str, Any] | None = None  # Any: see telemetry.refused.refused_document
    dead_letters: Mapping[str, Any] | None = None  # Any: "count" and "by_reason" since the start; None = unknown
    components: Mapping[str, ComponentStatus] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)  # Any: number or None, unit in the name
    infrastructure_status: Mapping[str, ServiceStatus] = field(
        default_factory=lambda: {name: ServiceStatus() for name in SERVICES}
    )
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    degradation: Mapping[str, Any] | None = None  # Any: see telemetry.degradation.Degradation.document
    audit: Mapping[str, Any] | None = None  # Any: see telemetry.audited.audit_document
    health_score: float | None = None
    deductions: tuple[Mapping[str, Any], ...] = ()
    bottlenecks: tuple[Mapping[str, Any], ...] = ()
    active_alerts: tuple[Mapping[str, Any], ...] = ()
    not_evaluated: tuple[str, ...] = NOT_EVALUATED
    maintenance: Mapping[str, Any] | None = None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """The document that `status` prints; the component's id is its key."""
        document: dict[str, Any] = {"schema_version": self.schema_version, **asdict(self)}
        for component in document["components"].values():
            del component["id"]
        return document


class SnapshotFeed(Protocol):
    """Gives the newest snapshot; cheap, never waits for the pipeline."""

    def snapshot(self) -> PipelineSnapshot:
        """The newest one, at most a second old while the pipeline runs."""


def stopped_snapshot(now_ns: int) -> PipelineSnapshot:
    """What there is to say about a pipeline that does not run."""
    return PipelineSnapshot(generated_at=rfc3339(now_ns), status="stopped")
