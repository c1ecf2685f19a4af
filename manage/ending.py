"""What `stop` and `restart` do: ask the daemon, watch it drain, and where it is forced, make sure."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from manage import instance
from manage.client import Control, ControlError, DeniedError, NotRunningError, SilentError
from manage.exits import CliError, Exit
from manage.interrupts import interrupted
from manage.starts import held_starts
from manage.terminal import Terminal

POLL_SECONDS = 0.1
BIND_SECONDS = 5.0
FORCED_SECONDS = 10.0
EXIT_SECONDS = 3.0  # from letting its state directory go to the end of its process; a program that embeds it goes on
TOLD_SECONDS = 3.0  # a start at its checks needs no longer to end; --force then kills it
START_SECONDS = 25.0  # a daemon whose start was killed listens, or ends, within that
LIMIT_AFTER_GRACE = 15.0

Document = dict[str, Any]  # JSON


def stop_pipeline(
    terminal: Terminal,
    state: Path,
    *,
    force: bool = False,
    grace: float | None = None,
    then: str = "",
    starts_too: bool = False,
) -> Document:
    """Stop what runs on `state` and wait until it is gone; the answer's document.

    `starts_too`: starts that have no daemon yet end first, so that none of them makes one afterwards.

    Raises CliError: 4 when it is not ours, 75 when it does not end (`--force` then ends it), 130 when it is no longer
    waited for (`then` ends that sentence).
    """
    starts = _end_starts(terminal, state, force=force) if starts_too else []
    if not instance.locked(state):
        left = instance.clear_left_behind(state)
        return {
            "stopped": bool(starts),
            "was_running": False,
            "starts_ended": starts,
            "left_behind_removed": left,
            "seconds": 0.0,
            "components": {},
            "next_step": f"manage_pipeline.py start{instance.state_argument(state)}",
        }
    began, heard = time.monotonic(), "the pipeline may have been told to stop already"
    record = instance.read_record(state)
    watched = instance.Watched(record) if record is not None else None
    try:
        seen = {} if force else _components(Control(instance.socket_of(state)))
        allowed = _ask(state, force=force, grace=grace)
        limit = FORCED_SECONDS if force else (allowed or 0.0) + LIMIT_AFTER_GRACE
        heard = f"the pipeline goes on stopping{then and ' ' + then}"
        if allowed is not None:
            _watch(terminal, state, watched, limit, seen)
        killed = False
        if instance.locked(state):
            if not force:
                raise CliError(
                    f"the pipeline still stops after {limit:g} s, and goes on stopping",
                    exit_code=Exit.TRY_LATER,
                    code="timeout",
                    next_step=f"manage_pipeline.py stop --force{instance.state_argument(state)}",
                )
            killed = _kill(state, watched)
        if watched is not None:
            watched.wait(EXIT_SECONDS)
    except KeyboardInterrupt:
        where = instance.state_argument(state)
        raise interrupted(
            f"no longer waiting; {heard}",
            f"manage_pipeline.py status{where}    or    manage_pipeline.py stop --force{where}",
        ) from None
    finally:
        if watched is not None:
            watched.close()
    cut_short = []
    for ended in instance.take_endings(state):
        seen[ended["id"]] = {**seen.get(ended["id"], {}), "state": "stopped", "how": ended["how"]}
        if ended["how"] != "drained":
            cut_short.append(ended["id"])
            terminal.note(f"▲ {ended['id']} {ended['how']} after {ended['seconds']:.1f} s: it had not drained")
    return {
        "stopped": True,
        "was_running": True,
        "starts_ended": starts,
        "killed": killed,
        "not_drained": cut_short,
        "pid": record.pid if record is not None else None,
        "seconds": round(time.monotonic() - began, 2),
        "components": seen,
        "next_step": f"manage_pipeline.py start{instance.state_argument(state)}",
    }


def _end_starts(terminal: Terminal, state: Path, *, force: bool) -> list[int]:
    """Tell every start under way to end and wait for it; their pids. What one of them launched meanwhile may run.

    Raises CliError: 75 when one does not end, 130 when it is no longer waited for.
    """
    found = held_starts(state, sweep=True)
    again = f"manage_pipeline.py stop --force{instance.state_argument(state)}"
    try:
        for start in found:
            terminal.note(f"- a start ({start.who}) is at its checks; telling it to stop")
            start.send(signal.SIGTERM)
        killed_at = time.monotonic() + TOLD_SECONDS
        limit = killed_at + START_SECONDS
        while left := [start for start in found if start.held()]:
            if force and time.monotonic() > killed_at:
                for start in left:
                    start.send(signal.SIGKILL)
            if time.monotonic() > limit:
                raise CliError(
                    f"a start ({left[0].who}) does not end within {TOLD_SECONDS + START_SECONDS:g} s",
                    exit_code=Exit.TRY_LATER,
                    code="timeout",
                    next_step=f"fuser -v {left[0].path}" if force else again,
                )
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        raise interrupted("no longer waiting; a start was told to stop", again) from None
    return [start.record.pid for start in found if start.record is not None]


def _ask(state: Path, *, force: bool, grace: float | None) -> float | None:
    """Send the wish; how long draining may take, None when the daemon does not answer and force was wanted."""
    limit = time.monotonic() + BIND_SECONDS
    body: Document = {"force": force, "grace_seconds": grace}
    while True:
        try:
            reply = Control(instance.socket_of(state)).post("/v1/stop", body)
            return float(reply.get("grace_seconds") or 0.0)
        except DeniedError as error:
            raise CliError(
                str(error), exit_code=Exit.CANNOT_TELL, code="not_permitted", next_step=f"ls -l {state}"
            ) from error
        except NotRunningError:  # it holds the lock, but does not listen yet, or no longer
            if not instance.locked(state):
                return 0.0
            if time.monotonic() < limit:
                time.sleep(POLL_SECONDS)
                continue
            cause = "it holds its state directory, but does not listen"
        except ControlError as error:
            cause = str(error)
            if isinstance(error, SilentError) and error.sent:
                cause += "; it has the request, and stops by itself should it ever wake up; --force ends it now"
        if force:
            return None
        raise CliError(
            f"cannot stop the pipeline: {cause}",
            exit_code=Exit.TRY_LATER,
            code="silent",
            next_step=f"manage_pipeline.py stop --force{instance.state_argument(state)}",
        )


def _watch(terminal: Terminal, state: Path, watched: instance.Watched | None, limit: float, seen: Document) -> None:
    """Wait for the end, saying each component that stops; `seen` holds what was last seen of each."""
    end = time.monotonic() + limit
    control = Control(instance.socket_of(state), timeout=1.0)
    while time.monotonic() < end and instance.locked(state):
        for name, component in _components(control).items():
            if component["state"] == "stopped" and (seen.get(name) or {}).get("state") not in {None, "stopped"}:
                terminal.note(f"- {name} stopped{_drained(component)}")
            seen[name] = component
        if watched is None:
            time.sleep(POLL_SECONDS)
        else:
            watched.wait(POLL_SECONDS)


def _components(control: Control) -> Document:
    """State and totals of each component, {} where the daemon does not say."""
    try:
        components = control.get("/v1/status").get("components") or {}
    except ControlError:
        return {}
    return {
        name: {"state": component["state"], "totals": component.get("totals") or {}}
        for name, component in components.items()
    }


def _drained(component: Document) -> str:
    totals = component.get("totals") or {}
    sent = totals.get("component_sent_records_total")
    return f" after {sent:,} records" if isinstance(sent, int) else ""


def _kill(state: Path, watched: instance.Watched | None) -> bool:
    """SIGKILL the recorded daemon and wait until its lock is free; its children die with it."""
    if watched is None:
        raise CliError(
            f"{state} is held by a process that left no record of itself",
            code="unknown_holder",
            next_step=f"fuser -v {state / instance.LOCK_NAME}",
        )
    watched.kill()
    if not watched.wait(FORCED_SECONDS):
        raise CliError(
            f"pid {watched.record.pid} does not die", code="unkillable", next_step="ps -o pid,stat,wchan -p PID"
        )
    instance.clear_left_behind(state)
    return True


def text(answer: Document) -> str:
    """The answer for people."""
    if not answer["was_running"] and answer.get("starts_ended"):
        return f"stopped: the start (pid {', '.join(map(str, answer['starts_ended']))}) ended before anything ran"
    if not answer["was_running"]:
        return "not running" + (
            "; state left behind by a killed daemon was cleared" if answer["left_behind_removed"] else ""
        )
    how = "killed" if answer.get("killed") else "stopped"
    left = answer.get("not_drained") or []
    return f"{how} after {answer['seconds']:.1f} s" + (f"; not drained: {', '.join(left)}" if left else "")
