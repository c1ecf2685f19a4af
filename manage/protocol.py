"""Requests and replies of the control socket, as the server checks them. Unknown fields are errors.

Routes: GET /v1/status, GET /v1/info, POST /v1/stop, POST /v1/difference, POST
/v1/replay. Fields are only ever added.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["pending", "starting", "running", "degraded", "backoff", "stopping", "stopped", "failed"]


class Message(BaseModel):
    """Base: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StopRequest(Message):
    """End the pipeline; `force` skips draining, `grace_seconds` bounds it (null = the settings' own)."""

    force: bool = False
    grace_seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None


class StopReply(Message):
    """`status` is the pipeline's state once the request was taken; draining takes at most `grace_seconds`."""

    accepted: bool
    status: str
    grace_seconds: float


class DifferenceRequest(Message):
    """Asks whether a start with these revealed settings and options would be this very pipeline."""

    settings: dict[str, Any]  # Any: checked by the settings' own models
    options: dict[str, Any] = {}  # Any: JSON


class Difference(Message):
    """One key: what runs and what was asked for; secrets masked."""

    key: str
    old: Any  # Any: JSON
    new: Any  # Any: JSON


class DifferenceReply(Message):
    """Empty = the same."""

    differences: list[Difference]


class ReplayRequest(Message):
    """Dead letters by id, all to be replayed by the components that hold them."""

    ids: Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=1000)]


class ReplayReply(Message):
    """One outcome per id: {"id", "as"} where it was replayed, else {"id", "code", "why"}."""

    outcomes: list[dict[str, Any]]  # Any: JSON


class InfoReply(Message):
    """Who answers."""

    pid: int
    since: str
    state_dir: str
    config: str
    options: dict[str, Any]  # Any: JSON
    foreground: bool


class Reported(BaseModel):
    """Base of what status shows: fields may be added by later versions."""

    model_config = ConfigDict(extra="allow")


class ComponentStatus(Reported):
    """One component; null = unknown."""

    kind: str
    state: State
    pid: int | None = None
    since: str | None = None
    incarnation: int | None = None
    restarts: int | None = None
    cause: str | None = None
    next_step: str | None = None
    embedded: bool = False
    age_s: float | None = None
    rates: dict[str, Any] = {}  # Any: figures, null = unknown
    totals: dict[str, Any] = {}  # Any: figures and their `since`
    time: dict[str, Any] = {}  # Any: percentages and blocked_on
    gauges: dict[str, Any] = {}  # Any: figures and texts
    latency: dict[str, Any] = {}  # Any: percentiles by name
    process: dict[str, Any] = {}  # Any: figures, null = unknown


class ServiceStatus(Reported):
    """One service the pipeline needs, asked from outside."""

    state: Literal["ok", "slow", "unreachable", "unknown"]
    mode: str | None = None
    address: str | None = None
    round_trip_ms: float | None = None
    age_s: float | None = None
    detail: str | None = ""
    addresses: dict[str, str] = {}  # of the feed: host:port of level1, level2, lookup, admin


class Died(Reported):
    """A daemon that ended without stopping: killed, or the machine went down. null = unknown."""

    pid: int | None
    since: str | None
    last_seen: str | None
    last_seen_age_s: float | None


class StatusReply(Reported):
    """The document of `status`, `monitor` and the control socket; every key exists in every state."""

    schema_version: Literal[1]
    generated_at: str
    status: Literal["starting", "running", "degraded", "stopping", "stopped", "unknown"]
    pid: int | None
    since: str | None
    symbols: list[str]
    symbols_source: dict[str, Any] | None = None  # Any: source, name, count; of a search found, asked_at, age_s
    symbols_refused: dict[str, Any] | None = None  # Any: count, by_reason, symbols; null = no reader has told
    dead_letters: dict[str, Any] | None = None  # Any: count and by_reason since the start; null = unknown
    health_score: float | None
    deductions: list[Any]  # Any: filled once the health monitor exists
    not_evaluated: list[str]
    bottlenecks: list[Any]  # Any: same
    active_alerts: list[Any]  # Any: same
    components: dict[str, ComponentStatus]
    metrics: dict[str, Any]  # Any: figures with the unit in the name, null = unknown
    infrastructure_status: dict[str, ServiceStatus]
    budgets: dict[str, Any]  # Any: used, limit, per day, time to full
    degradation: dict[str, Any] | None = None  # Any: in_force and unknown steps; null = no stage could tell
    audit: dict[str, Any] | None = None  # Any: result, pending, at_us, age_s, counts; null = not told yet
    maintenance: Any = None  # Any: null until maintenance exists
    died: Died | None = None  # only with status "stopped"; null after an orderly stop
