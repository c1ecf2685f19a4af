"""`stop`: drain and end the pipeline; finding it stopped is success."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from manage import ending
from manage.exits import Exit
from manage.options import DURATION, common, pipeline, warn_of_variables
from manage.terminal import Terminal


@click.command()
@click.option("--force", is_flag=True, help="Do not drain; end what does not answer. Asks nothing.")
@click.option("--grace", type=DURATION, default=None, help="How long draining may take. Default: the settings'.")
@pipeline
@common
def stop(terminal: Terminal, state: Path, force: bool, grace: float | None, **_: Any) -> int:  # Any: unused options
    """Drain and stop the pipeline. Nothing is lost with --force either: the next start works off what is left.

    \b
    manage_pipeline.py stop
    manage_pipeline.py stop --grace 2m
    Related: start, restart, status
    """
    warn_of_variables(terminal)
    answer = ending.stop_pipeline(terminal, state, force=force, grace=grace, starts_too=True)
    terminal.answer(answer, lambda: ending.text(answer))
    return Exit.OK
