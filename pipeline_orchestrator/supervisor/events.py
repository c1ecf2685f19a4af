"""What reaches the supervisor's loop from launchers: a process exists, it said something, it is gone."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_orchestrator.channel import Report


@dataclass(frozen=True, slots=True)
class Started:
    """The process (or task) of this incarnation exists; `pid` is the caller's own for a task."""

    id: str
    incarnation: int
    pid: int


@dataclass(frozen=True, slots=True)
class Heard:
    """The component sent a report."""

    id: str
    incarnation: int
    report: Report


@dataclass(frozen=True, slots=True)
class Exited:
    """Nothing of this incarnation runs any more: it is dead and reaped, its files and locks are released.

    `code` follows subprocess (negative = signal number), None = unknown, because the process that knew it died.
    `blameless` = the component did not cause it (its seed died): not counted towards the restart intensity.
    `trace` names a file with what the process left on stderr, "" when it left nothing.
    """

    id: str
    incarnation: int
    code: int | None
    detail: str = ""
    blameless: bool = False
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something an operator should read in the log, from a launcher."""

    level: str
    event: str
    fields: dict[str, object]


Event = Started | Heard | Exited | Noted
