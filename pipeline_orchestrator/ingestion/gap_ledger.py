"""Which gaps are open and which symbols each still waits for: a pure function of ingestion's own facts.

The same code follows the facts while they are written and when the tail of the spool is read after a restart, so
that both always agree. Nothing here writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipeline_orchestrator.flow.spool_facts import Fact


@dataclass(slots=True)
class OpenGap:
    """One gap of one connection: `pending` are the symbols watched again and not heard of yet.

    `watched` turns True with the first watch after the gap began; until then nothing can end it. `since_us` is the
    event time it begins at, `until_us` the latest one it ended at for a symbol; None = not known.
    """

    gap_id: str
    connection: str
    cause: str
    watched: bool = False
    pending: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    since_us: int | None = None
    until_us: int | None = None

    def end_for_symbol(self, to: dict[str, Any]) -> dict[str, Any]:
        """`to`, but never before the gap began: a quiet symbol's first line can restate an older time."""
        return {**to, "event_time_us": _latest(to["event_time_us"], self.since_us)}

    def end_for_all(self, to: dict[str, Any]) -> dict[str, Any]:
        """`to`, but never before the gap ended for any symbol."""
        known = self.until_us if to["event_time_us"] is None else _latest(to["event_time_us"], self.until_us)
        return {**to, "event_time_us": _latest(known, self.since_us)}

    @property
    def complete(self) -> bool:
        """Everything that was watched again has been heard of."""
        return self.watched and not self.pending


class GapLedger:
    """Open gaps, and the newest watch of each symbol per connection."""

    def __init__(self) -> None:
        self.gaps: dict[str, OpenGap] = {}
        self.links: dict[str, str] = {}  # connection -> "up", or the cause of its last loss
        self.watches: dict[str, dict[str, int]] = {}  # connection -> symbol -> seq of its newest watch

    def apply(self, fact: Fact, seq: int) -> None:
        """Follow one fact, in the order of the spool."""
        connection = str(fact.detail.get("connection", fact.port))
        if fact.kind == "connected":
            self.links[connection] = "up"
            self.watches[connection] = {}
        elif fact.kind == "lost":
            self.links[connection] = str(fact.detail.get("cause", "unknown"))
        elif fact.kind == "subscribed" and fact.symbol is not None:
            self._watch(connection, fact.symbol, seq)
        elif fact.kind == "unsubscribed" and fact.symbol is not None:
            self.watches.get(connection, {}).pop(fact.symbol, None)
            for gap in self.of(connection):
                gap.pending.discard(fact.symbol)
        elif fact.kind == "gap":
            self._gap(fact, connection)

    def of(self, connection: str) -> list[OpenGap]:
        """Open gaps of a connection, oldest first."""
        return [gap for gap in self.gaps.values() if gap.connection == connection]

    def waiting(self, connection: str) -> set[str]:
        """Symbols that some gap of the connection waits for."""
        return {symbol for gap in self.of(connection) for symbol in gap.pending}

    def covers(self, connection: str) -> bool:
        """True while an open gap was not ended for any symbol yet: another loss belongs to it."""
        return any(not gap.ended for gap in self.of(connection))

    def to_json(self) -> dict[str, Any]:
        """For segment headers."""
        gaps = [
            [
                *(gap.gap_id, gap.connection, gap.cause, gap.watched, sorted(gap.pending), sorted(gap.ended)),
                *(gap.since_us, gap.until_us),
            ]
            for gap in self.gaps.values()
        ]
        return {"gaps": gaps, "links": dict(self.links)}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> GapLedger:
        """The inverse; watches are not kept, since a new epoch watches anew."""
        ledger = cls()
        for gap_id, connection, cause, watched, pending, ended, *times in state.get("gaps", []):
            gap = ledger.gaps[gap_id] = OpenGap(gap_id, connection, cause, watched, set(pending), set(ended))
            gap.since_us, gap.until_us = times or (None, None)  # a header of an older version has none
        ledger.links = {str(name): str(link) for name, link in state.get("links", {}).items()}
        return ledger

    def _watch(self, connection: str, symbol: str, seq: int) -> None:
        self.watches.setdefault(connection, {})[symbol] = seq
        for gap in self.of(connection):
            gap.watched = True
            if symbol not in gap.ended:
                gap.pending.add(symbol)

    def _gap(self, fact: Fact, connection: str) -> None:
        gap_id, phase = str(fact.detail.get("gap_id", "")), fact.detail.get("phase")
        if phase == "begin":
            gap = self.gaps[gap_id] = OpenGap(gap_id, connection, str(fact.detail.get("cause", "")))
            gap.since_us = _time_in(fact, "from")
            gap.pending = set(fact.detail.get("waits_for", ()))  # symbols that come from another instance
        elif phase == "closed":
            self.gaps.pop(gap_id, None)
        elif phase == "end" and gap_id in self.gaps and fact.symbol is not None:
            gap = self.gaps[gap_id]
            gap.pending.discard(fact.symbol)
            gap.ended.add(fact.symbol)
            time_us = _time_in(fact, "to")
            gap.until_us = gap.until_us if time_us is None else _latest(time_us, gap.until_us)


def _time_in(fact: Fact, place: str) -> int | None:
    time_us: int | None = (fact.detail.get(place) or {}).get("event_time_us")
    return time_us


def _latest(time_us: int | None, other_us: int | None) -> int | None:
    """The later of both; unknown stays unknown."""
    return time_us if time_us is None or other_us is None else max(time_us, other_us)
