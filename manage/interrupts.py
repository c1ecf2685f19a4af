"""What Ctrl-C gets to hear: whether the work goes on without the one who waited. Standard library only."""

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


def told_to_stop(state: Path) -> CliError:
    """What a start says that was ended by `stop`, in whichever phase."""
    return CliError(
        "the pipeline was told to stop before it was ready",
        code="stopped",
        next_step=f"manage_pipeline.py start{state_argument(state)}",
    )
