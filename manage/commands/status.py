"""`status`: the newest snapshot of the pipeline. The fast path: click, socket, json, paths and nothing else.

Exit codes: 0 a pipeline runs; 1 its daemon died without stopping; 3 it does not run; 4 cannot tell, or a start
is still at its checks.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from manage import instance
from manage.blank_status import blank_status, rfc3339
from manage.client import Control, ControlError, DeniedError, NotRunningError
from manage.exits import Exit
from manage.instance import socket_of, state_argument
from manage.options import common, pipeline, warn_of_variables
from manage.starts import held_starts
from manage.terminal import Terminal


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="No output, the exit code only.")
@pipeline
@common
def status(terminal: Terminal, state: Path, quiet: bool, **_: Any) -> int:  # Any: options not used here
    """State of every component, now.

    \b
    manage_pipeline.py status
    manage_pipeline.py status | jq .components
    """
    document, code, remark = look(state)
    if not quiet:
        warn_of_variables(terminal)
        terminal.answer(document, lambda: _text(document, terminal), schema)
        if remark:
            terminal.note(remark)
    return int(code)


def look(state: Path) -> tuple[dict[str, Any], Exit, str]:  # Any: JSON
    """The status document, the exit code it means, and a remark for people (cause and next command)."""
    again = state_argument(state)
    try:
        return Control(socket_of(state)).get("/v1/status"), Exit.OK, ""
    except NotRunningError:
        pass
    except DeniedError as error:
        return blank_status("unknown"), Exit.CANNOT_TELL, f"! {error}\n  Try: sudo -u OWNER manage_pipeline.py status"
    except ControlError as error:
        return blank_status("unknown"), Exit.CANNOT_TELL, f"! {error}\n  Try: manage_pipeline.py logs -n 20{again}"
    starts = held_starts(state)  # before the lock is looked at: theirs is let go only after that is held
    record = instance.read_record(state)
    if instance.locked(state):
        who = f" (pid {record.pid})" if record is not None and record.alive() else ""
        text = f"! cannot tell: a pipeline holds {state}{who} but does not answer yet; it starts or stops"
        return blank_status("unknown"), Exit.CANNOT_TELL, f"{text}\n  Try: manage_pipeline.py status{again}"
    if starts:
        text = f"! starting: a start ({starts[0].who}) is at its checks; nothing runs yet"
        return blank_status("starting"), Exit.CANNOT_TELL, f"{text}\n  Try: manage_pipeline.py status{again}"
    if instance.left_behind(state):
        who = f" (pid {record.pid}, started {record.since})" if record is not None else ""
        text = f"! not running, state left behind in {state} by a daemon{who} that died without stopping"
        return (
            blank_status("stopped", died=_died(state, record)),
            Exit.FAILED,
            f"{text}\n  Try: manage_pipeline.py start{again}",
        )
    return blank_status("stopped"), Exit.NOT_RUNNING, f"not running\n  Try: manage_pipeline.py start{again}"


def _died(state: Path, record: instance.Record | None) -> dict[str, Any]:  # Any: JSON
    seen = instance.last_seen(state)
    return {
        "pid": record.pid if record is not None else None,
        "since": record.since if record is not None else None,
        "last_seen": None if seen is None else rfc3339(seen),
        "last_seen_age_s": None if seen is None else round(max(0.0, time.time() - seen), 1),
    }


def _text(document: dict[str, Any], terminal: Terminal) -> str:  # Any: JSON
    from manage.render import render_status

    return render_status(document, terminal.style, wide=terminal.wide)


def schema() -> dict[str, Any]:  # Any: JSON Schema
    """JSON Schema of the status document."""
    from manage.protocol import StatusReply

    return StatusReply.model_json_schema()
