"""What a parser has to remember between lines: the Level 1 layout in force and the newest clock of each port."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline_orchestrator.ingestion.layout import DEFAULT_LAYOUT, SYMBOL


@dataclass(frozen=True, slots=True)
class ParserContext:
    """Immutable; JSON-able by `to_json`.

    `clock1`, `clock2` are the newest `T` of Level 1 and Level 2 as Eastern wall time (microseconds since
    1970-01-01 00:00 of that wall clock), None until the connection sent one: a new connection forgets it, and its
    layout is the default again until it declares another.
    """

    layout: tuple[str, ...] = DEFAULT_LAYOUT
    clock1: int | None = None
    clock2: int | None = None

    def reconnected(self, port: str) -> ParserContext:
        """State after a new connection of `port` was opened."""
        if port == "level1":
            return replace(self, layout=DEFAULT_LAYOUT, clock1=None)
        if port == "level2":
            return replace(self, clock2=None)
        return self

    def at(self, port: str, local_us: int) -> ParserContext:
        """State after a `T` of `port`."""
        return replace(self, clock1=local_us) if port == "level1" else replace(self, clock2=local_us)

    def to_json(self) -> dict[str, Any]:
        """For cursor and segment headers."""
        return {"layout": list(self.layout), "clock1": self.clock1, "clock2": self.clock2}

    @staticmethod
    def from_json(state: dict[str, Any]) -> ParserContext:
        """The inverse; an empty or foreign document gives the state of a new connection."""
        layout = state.get("layout")
        clocks = [state.get(key) for key in ("clock1", "clock2")]
        if not isinstance(layout, list) or not layout or layout[0] != SYMBOL:
            return ParserContext()
        one, two = (value if isinstance(value, int) else None for value in clocks)
        return ParserContext(tuple(str(name) for name in layout), one, two)
