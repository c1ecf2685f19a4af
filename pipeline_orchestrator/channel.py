"""What passes between a component and its supervisor: frozen records, the same over a pipe or a direct call.

On a pipe each record is one frame: 4 bytes length (big endian) + UTF-8 JSON {"type": ..., fields}. Secrets of a
component's configuration travel in `Launch` only, never in arguments or environment.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from pipeline_orchestrator.component import ComponentSpec, Placement, Restart

MAX_FRAME_BYTES = 16 << 20
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Launch:
    """First word to a child: build this and run it.

    `builders` maps names to "module:function"; empty = the table of `registry.py`. `beat_seconds` is the
    heartbeat's period.
    """

    spec: dict[str, Any]  # JSON border: a ComponentSpec as `spec_to_json` writes it
    incarnation: int
    state_dir: str
    builders: dict[str, str] = field(default_factory=dict)
    beat_seconds: float = 1.0
    log_level: str = "INFO"
    sys_path: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what was taken in, then return. After `grace_seconds` the hard stop follows."""

    grace_seconds: float


@dataclass(frozen=True, slots=True)
class Update:
    """A new configuration for the running component; answered by `Updated` with the same number."""

    config: str
    number: int


@dataclass(frozen=True, slots=True)
class Updated:
    """Whether the component took the configuration of that number; one that declines is replaced."""

    accepted: bool
    number: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Something to do beside the component's work; answered by `Answered` with the same number."""

    number: int
    verb: str
    body: dict[str, Any]  # JSON border: depends on the verb


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it; `error` says why nothing did."""

    number: int
    body: dict[str, Any]  # JSON border: depends on the verb
    error: str = ""


@dataclass(frozen=True, slots=True)
class Changed:
    """What the component says of itself: starting, running (ready), or degraded; `cause` "" = no trouble."""

    state: str
    cause: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat, sent from the component's own event loop.

    `tokens` counts signs of life since the start, `token_age_s` is the age of the newest; `lag_s` is the largest
    delay of the event loop since the last beat; `at_ns` is CLOCK_MONOTONIC; `metrics` is what was counted since
    the last beat (form: telemetry.metrics).
    """

    tokens: int
    token_age_s: float
    lag_s: float
    at_ns: int
    metrics: dict[str, Any]  # JSON border: names depend on the component
    process: dict[str, Any] = field(default_factory=dict)  # same


@dataclass(frozen=True, slots=True)
class Said:
    """One log event of the component; `at_us` is wall time in microseconds UTC."""

    level: str
    logger: str
    event: str
    fields: dict[str, Any]  # JSON border: key=value pairs
    at_us: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Last word: `how` is drained, returned, raised or cancelled; `cause` is the exception in one line."""

    how: str
    cause: str = ""
    next_step: str = ""


Command = Launch | Drain | Update | Ask
Report = Changed | Beat | Said | Ended | Updated | Answered
Message = Command | Report

_TYPES: dict[str, type[Message]] = {
    "launch": Launch,
    "drain": Drain,
    "update": Update,
    "updated": Updated,
    "ask": Ask,
    "answered": Answered,
    "changed": Changed,
    "beat": Beat,
    "said": Said,
    "ended": Ended,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


class Channel(Protocol):
    """The component's end."""

    def send(self, message: Report) -> bool:
        """Hand over without waiting; False = not taken because the other side does not read, keep it."""

    async def receive(self) -> Command | None:
        """Next command; None = the supervisor is gone."""

    async def close(self) -> None:
        """Flush what was taken, for at most a second, and release the channel. Safe to call twice."""


def encode(message: Message) -> bytes:
    """The frame of one record."""
    text = json.dumps({"type": _NAMES[type(message)], **asdict(message)}, separators=(",", ":"), default=str)
    body = text.encode()
    return _LENGTH.pack(len(body)) + body


class FrameDecoder:
    """Bytes in any cut -> records; a torn last frame is kept until its rest arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Records completed by `data`. Raises ValueError on a frame that no peer of ours writes."""
        self._buffer += data
        messages: list[Message] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"frame of {length} bytes, limit {MAX_FRAME_BYTES}")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(decode(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        return messages


def decode(body: bytes) -> Message:
    """The record of one frame's body. Raises ValueError."""
    fields = json.loads(body)
    name = fields.pop("type", None)
    if name not in _TYPES:
        raise ValueError(f"unknown message type {name!r}")
    message: Message = _TYPES[name](**fields)
    return message


def spec_to_json(spec: ComponentSpec) -> dict[str, Any]:
    """A spec as a JSON-able dict."""
    fields = asdict(spec)
    fields["placement"], fields["restart"] = spec.placement.value, spec.restart.value
    fields["depends_on"] = list(spec.depends_on)
    return fields


def spec_from_json(fields: dict[str, Any]) -> ComponentSpec:
    """The spec that `spec_to_json` wrote; equal to the original."""
    return ComponentSpec(
        **{
            **fields,
            "placement": Placement(fields["placement"]),
            "restart": Restart(fields["restart"]),
            "depends_on": tuple(fields["depends_on"]),
        }
    )
