"""What an audit says: findings (missing, doubled, behind), and what looks missing and is not, with its reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline_orchestrator.audit.ranges import LineRange

SHOWN = 1000  # findings in a report; more are counted

MISSING, DOUBLED, BEHIND = "missing", "duplicated", "behind"


@dataclass(frozen=True, slots=True)
class Finding:
    """`lines` = a range of identities; None where they are not known, then `rows` says how many.

    `mend` tells who can store it again: "storage" (the topic holds it), "cache" (ClickHouse holds it), "" = nobody.
    """

    station: str
    problem: str
    cause: str
    lines: LineRange | None = None
    rows: int | None = None
    symbol: str | None = None
    mend: str = ""

    def document(self) -> dict[str, Any]:  # Any: JSON
        """As JSON; the range is flat, and also text as `range`."""
        told = {name: value for name, value in asdict(self).items() if name != "lines" and value is not None}
        told["can_repair"] = bool(told.pop("mend"))
        if self.lines is not None:
            told |= {"range": str(self.lines), **self.lines.document()}
        return told


@dataclass(frozen=True, slots=True)
class Explained:
    """`count` of `what` at a station are not there, or not compared, and why that is no loss."""

    station: str
    what: str
    count: int | None
    why: str


@dataclass(slots=True)
class Report:
    """All of one audit. `compared` counts per station what was held against what."""

    findings: list[Finding] = field(default_factory=list)
    explained: list[Explained] = field(default_factory=list)
    compared: dict[str, int] = field(default_factory=dict)
    left_out: int = 0
    in_flight: int = 0  # lines and records that no stage had called durable yet: not judged
    unjudged: list[str] = field(default_factory=list)  # partitions whose table storage itself is not certain of

    def add(self, findings: Iterable[Finding]) -> None:
        """Keep the first SHOWN, count the others."""
        for finding in findings:
            if len(self.findings) < SHOWN:
                self.findings.append(finding)
            else:
                self.left_out += 1

    def explain(self, station: str, what: str, count: int | None, why: str) -> None:
        """Say it, unless it is about nothing."""
        if count != 0:
            self.explained.append(Explained(station, what, count, why))

    @property
    def whole(self) -> bool:
        """Whether nothing is missing, doubled or behind."""
        return not self.findings

    def document(self) -> dict[str, Any]:  # Any: JSON
        """As JSON; the verdict is "not_judged" where nothing was found, but not everything was looked at."""
        return {
            "verdict": "damaged" if not self.whole else "not_judged" if self.unjudged else "whole",
            "not_judged": list(self.unjudged),
            "in_flight": self.in_flight,
            "compared": dict(self.compared),
            "findings": [finding.document() for finding in self.findings],
            "findings_left_out": self.left_out,
            "explained": [asdict(one) for one in self.explained],
        }
