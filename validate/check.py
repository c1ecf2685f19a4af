"""A check asks one question and answers with evidence; it never mends anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from config.sections import Settings


class Verdict(str, Enum):
    """`skipped` is never `passed`: nothing was asked."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One answer. `seconds` is how long it took; `next_step` one command or action when it is not `passed`."""

    name: str
    verdict: Verdict
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)  # Any: JSON-able values
    next_step: str = ""
    seconds: float = 0.0
    group: str = ""

    def document(self) -> dict[str, Any]:  # Any: JSON
        """The result as JSON."""
        return {
            "name": self.name,
            "group": self.group,
            "verdict": self.verdict.value,
            "message": self.message,
            "evidence": self.evidence,
            "next_step": self.next_step,
            "duration_ms": round(self.seconds * 1000, 1),
        }


@dataclass(frozen=True, slots=True)
class Check:
    """`run(settings)` answers within `timeout` seconds; `group` is settings or services and decides the exit code.

    A failure of a check that is not `required` counts as a warning.
    """

    name: str
    group: str
    run: Callable[[Settings], Awaitable[CheckResult]]
    required: bool = True
    timeout: float = 5.0
