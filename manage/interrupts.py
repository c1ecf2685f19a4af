"""Whether the work goes on without the one who waited for it: what is said after Ctrl-C, and when the time is over.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from manage.exits import CliError, Exit
from manage.instance import state_argument


def interrupted(message: str, next_step: str, evidence: Mapping[str, Any] | None = None) -> CliError:  # Any: JSON
    """The one form of a verb that Ctrl-C ended: exit code 130, what became of the work, and what to type now."""
    return CliError(
        f"interrupted: {message}",
        exit_code=Exit.INTERRUPTED,
        code="interrupted",
        evidence=evidence,
        next_step=next_step,
    )


@contextmanager
def nothing_started(state: Path, instead: str = "nothing was started") -> Iterator[None]:
    """Ctrl-C within says what has not happened."""
    try:
        yield
    except KeyboardInterrupt:
        raise interrupted(instead, f"manage_pipeline.py status{state_argument(state)}") from None


def goes_on(state: Path, pid: int) -> CliError:
    """What Ctrl-C gets to hear while it waits for a start."""
    where = state_argument(state)
    return interrupted(
        f"no longer waiting; the pipeline (pid {pid}) goes on starting in the background",
        f"manage_pipeline.py status{where}    or    manage_pipeline.py stop{where}",
        {"pid": pid},
    )


def still_trying(error: CliError, state: Path, pid: int) -> CliError:
    """A start's `error` where the pipeline stays and tries on; same exit code."""
    status = f"manage_pipeline.py status{state_argument(state)}"
    known = error.next_step.partition("    or    ")[0]
    return CliError(
        f"{error}; the pipeline (pid {pid}) goes on trying in the background",
        exit_code=error.exit_code,
        code=error.code,
        evidence={**error.evidence, "pid": pid, "goes_on": True},
        next_step=f"{known}    or    {status}" if known else status,
    )


def told_to_stop(state: Path) -> CliError:
    """What a start says that was ended by `stop`, in whichever phase."""
    return CliError(
        "the pipeline was told to stop before it was ready",
        code="stopped",
        next_step=f"manage_pipeline.py start{state_argument(state)}",
    )
