"""What Ctrl-C gets to hear: whether the work goes on without the one who waited. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manage.exits import CliError, Exit
from manage.instance import state_argument


@contextmanager
def nothing_started(state: Path, instead: str = "nothing was started") -> Iterator[None]:
    """Ctrl-C within says what has not happened."""
    try:
        yield
    except KeyboardInterrupt:
        raise CliError(
            f"interrupted: {instead}",
            exit_code=Exit.INTERRUPTED,
            code="interrupted",
            next_step=f"manage_pipeline.py status{state_argument(state)}",
        ) from None


def goes_on(state: Path, pid: int) -> CliError:
    """What Ctrl-C gets to hear while it waits for a start."""
    where = state_argument(state)
    return CliError(
        f"interrupted: no longer waiting; the pipeline (pid {pid}) goes on starting in the background",
        exit_code=Exit.INTERRUPTED,
        code="interrupted",
        evidence={"pid": pid},
        next_step=f"manage_pipeline.py status{where}    or    manage_pipeline.py stop{where}",
    )
