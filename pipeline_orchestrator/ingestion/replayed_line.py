"""A line that is spooled anew: the fact that carries it, and the events that it makes now.

A dead letter's line is not received again; its bytes go into the spool as a fact of kind `replay`, with the identity
of the line that they repeat, its receipt, and the parser's context as it was before that line. So it is read as it
would have been read then: with the field list and the date of that day, not of the day of the replay.

A replayed line changes no state of the reader or the parser: no clock, no field list, no link. What would be such a
message becomes `other` with the line as `raw`; the rest becomes what it says, with `replay_of` set.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pipeline_orchestrator.flow.spool_facts import Fact
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.reference_parser import Event, parse_events
from pipeline_orchestrator.market.events import PORT
from pipeline_orchestrator.record import EventId

REPLAY: Final = "replay"  # kind of the fact; no kind of market.events
_STATE_KINDS = frozenset({"clock", "connected", "lost"})


class ReplayedLine(NamedTuple):
    """`of`: identity of the line it repeats, "instance:epoch:seq"; `line` without its line end; `recv_us` of then."""

    of: str
    port: str
    line: bytes
    recv_us: int
    context: ParserContext

    def fact(self) -> Fact:
        """What is spooled."""
        detail = {
            "of": self.of,
            "line": self.line.decode("latin-1"),
            "recv_us": self.recv_us,
            "context": self.context.to_json(),
        }
        return Fact(REPLAY, self.port, None, detail)

    def events(self) -> list[Event]:
        """The events of the line. Raises LineError where it is still not understood."""
        events, _ = parse_events(self.line, PORT[self.port], self.context, self.recv_us)
        for event in events:
            if event["kind"] in _STATE_KINDS:
                event.update(kind="other", event_time_us=None, raw=self.line)
        return events


def of_fact(fact: Fact) -> ReplayedLine:
    """The line in a fact of kind `replay`. Raises ValueError where it is none."""
    detail: dict[str, Any] = fact.detail  # Any: JSON
    of, line, recv_us, context = (detail.get(name) for name in ("of", "line", "recv_us", "context"))
    if not (isinstance(of, str) and isinstance(line, str) and isinstance(recv_us, int) and isinstance(context, dict)):
        raise ValueError("not a replayed line: wrong types")
    if fact.port not in ("level1", "level2"):
        raise ValueError(f"not a replayed line: port {fact.port!r}")
    return ReplayedLine(of, fact.port, line.encode("latin-1"), recv_us, ParserContext.from_json(context))


def line_name(identity: EventId | tuple[int, int, int]) -> str:
    """`instance:epoch:seq`, as `replay_of` has it."""
    return ":".join(str(part) for part in identity[:3])
