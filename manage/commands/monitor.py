"""`monitor`: the status once a second; a live picture on a terminal, one JSON line per second in a pipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from config.durations import spoken
from manage.commands.status import look
from manage.exits import CliError, Exit
from manage.instance import state_argument
from manage.options import SOME_TIME, common, pipeline, warn_of_variables
from manage.render import render_status
from manage.terminal import Terminal

INTERVAL = 1.0


@click.command()
@click.option(
    "--duration", type=SOME_TIME, default=None, help="End after this long: 45, 45s, 5m, 1h30m. Default: Ctrl-C."
)
@pipeline
@common
def monitor(terminal: Terminal, state: Path, duration: float | None, **_: Any) -> int:  # Any: unused options
    """Watch the pipeline, once a second.

    \b
    manage_pipeline.py monitor --duration 60
    manage_pipeline.py monitor | jq -c .metrics
    """
    warn_of_variables(terminal)
    _, code, remark = look(state)
    if code is Exit.NOT_RUNNING or code is Exit.FAILED:
        raise CliError(
            remark.partition("\n")[0].removeprefix("! "),
            exit_code=Exit.NEEDS_RUNNING,
            code="not_running",
            next_step=f"manage_pipeline.py start{state_argument(state)}",
        )
    terminal.note(f"monitoring for {spoken(duration)}" if duration is not None else "monitoring until Ctrl-C")
    began = time.monotonic()
    end = None if duration is None else began + duration
    if terminal.live:
        return _live(terminal, state, began, end)
    return _lines(terminal, state, began, end)


def _ticks(began: float, end: float | None) -> Any:  # Any: an iterator of nothing
    """Yield at once and then each second on a fixed grid, until `end`; a missed second is skipped, not made up for."""
    due = began
    while end is None or due < end:
        yield
        now = time.monotonic()
        due += INTERVAL * (1 + int(max(0.0, now - due) / INTERVAL))
        until = due if end is None else min(due, end)
        time.sleep(max(0.0, until - now))


def _lines(terminal: Terminal, state: Path, began: float, end: float | None) -> int:
    for _ in _ticks(began, end):
        document, code, remark = look(state)
        if terminal.for_people:
            terminal.text(render_status(document, terminal.style, wide=terminal.wide) + "\n")
        else:
            terminal.stream(document)
        if terminal.reader_gone:
            return Exit.OK
        if code in {Exit.NOT_RUNNING, Exit.FAILED}:
            raise _ended(remark, state)
    return Exit.OK


def _live(terminal: Terminal, state: Path, began: float, end: float | None) -> int:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def picture(document: dict[str, Any]) -> Text:  # Any: JSON
        text = Text.from_ansi(render_status(document, terminal.style, wide=terminal.wide))
        text.no_wrap = True
        text.overflow = "ellipsis"
        return text

    remark = ""
    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for _ in _ticks(began, end):
            document, code, remark = look(state)
            live.update(picture(document), refresh=True)
            if code in {Exit.NOT_RUNNING, Exit.FAILED}:
                break
        else:
            return Exit.OK
    raise _ended(remark, state)


def _ended(remark: str, state: Path) -> CliError:
    return CliError(
        f"the pipeline ended while it was watched: {remark.partition(chr(10))[0].removeprefix('! ')}",
        exit_code=Exit.NEEDS_RUNNING,
        code="ended",
        next_step=f"manage_pipeline.py logs -n 20{state_argument(state)}",
    )
