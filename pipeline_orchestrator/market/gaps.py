"""What was missed and why: facts about gaps as ingestion writes them, and the rows of market.gaps made of them.

A gap begins for a connection (fact without symbol), ends for each symbol at its first line after the new watch (fact
with symbol), and is closed for all once nothing more is expected. Later it is settled, for each symbol and then for
all: filled, or unresolved with the reason. Every partition hears of what concerns all; only partition 0 makes rows of
it. The end of a symbol makes a row in that symbol's partition. What is found only when it is over, for one symbol, is
said with one fact (`missed`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

CONNECTIONS = {"level1": 1, "level2": 2}
SETTLED = ("filled", "unresolved")
MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Place:
    """A line in the feed: its identity within the instance and its event time (microseconds UTC); None = unknown."""

    epoch: int | None = None
    seq: int | None = None
    time_us: int | None = None


NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class GapFact:
    """`phase` is begin, end (of a symbol), closed (for all), MISSED or of SETTLED; `opened` = (epoch, seq) of its id.

    MISSED says all of a gap at once; one that settles a gap says all of it anew, since nobody keeps a gap that was
    closed: `begun` and `at` are both its ends, `detail` is JSON: what became of it.
    """

    phase: str
    gap_id: str
    connection: str
    opened: tuple[int, int]
    cause: str = ""
    at: Place = NOWHERE  # last sure line of a begin, else first line after
    begun: Place = NOWHERE
    detail: str | None = None


@dataclass(slots=True)
class OpenGap:
    """A gap that was begun: why, and where."""

    gap_id: str
    connection: str
    cause: str
    begun: Place


@dataclass(slots=True)
class GapBook:
    """The gaps of one partition that are not closed yet, by id. Part of its state."""

    open: dict[str, OpenGap] = field(default_factory=dict)

    def take(self, fact: GapFact) -> OpenGap:
        """Apply a fact; the gap it is about, with cause `unknown` where its begin was never seen."""
        known = self.open.get(fact.gap_id)
        gap = known or OpenGap(fact.gap_id, fact.connection, fact.cause or "unknown", NOWHERE)
        if fact.phase == "begin" and known is None:
            gap = self.open[fact.gap_id] = OpenGap(fact.gap_id, fact.connection, fact.cause or "unknown", fact.at)
        elif fact.phase == "closed":
            self.open.pop(fact.gap_id, None)
        return gap

    def dump(self) -> list[list[Any]]:  # Any: JSON values
        """JSON-able form, in order of opening."""
        return [
            [gap.gap_id, gap.connection, gap.cause, gap.begun.epoch, gap.begun.seq, gap.begun.time_us]
            for gap in self.open.values()
        ]

    @classmethod
    def load(cls, rows: list[list[Any]]) -> GapBook:
        """The inverse of dump."""
        return cls({row[0]: OpenGap(row[0], row[1], row[2], Place(row[3], row[4], row[5])) for row in rows})


def read_gap(document: dict[str, Any]) -> GapFact:
    """A gap's JSON. Raises ValueError, KeyError, TypeError where it is none."""
    phase, gap_id, connection = document["phase"], document["gap_id"], document["connection"]
    if phase not in {"begin", "end", "closed", MISSED, *SETTLED} or connection not in CONNECTIONS:
        raise ValueError(f"no gap: phase {phase!r}, connection {connection!r}")
    _, epoch, seq = (int(part) for part in gap_id.split(":"))
    at = _place(document, "from" if phase == "begin" else "to")
    fact = GapFact(phase, gap_id, connection, (epoch, seq), str(document.get("cause", "")), at)
    if phase not in {MISSED, *SETTLED}:
        return fact
    return replace(fact, begun=_place(document, "from"), detail=json.dumps(document.get("detail") or {}))


def read_document(raw: bytes | None) -> dict[str, Any] | None:
    """The JSON object in a fact's bytes; None where there is none (a line of the feed, say)."""
    if raw is None or not raw.startswith(b"{"):
        return None
    try:
        parsed = json.loads(raw)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _place(document: dict[str, Any], name: str) -> Place:
    place = document.get(name) or {}
    return Place(_number(place, "epoch"), _number(place, "seq"), _number(place, "event_time_us"))


def _number(place: dict[str, Any], name: str) -> int | None:
    value = place.get(name)
    return None if value is None else int(value)
