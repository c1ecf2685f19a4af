"""What `start` and `restart` do: compare with what runs, validate, launch, wait until ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config import paths
from config.settings import Loaded, Origin, reveal
from manage import instance
from manage.asked import difference_text, way_there
from manage.client import Control, ControlError, DeniedError, NotRunningError, RefusedError
from manage.daemon import Request
from manage.daemonize import BIND_SECONDS, await_ready, launch
from manage.exits import CliError, Exit
from manage.interrupts import goes_on, nothing_started, still_trying
from manage.render import local_time
from manage.starts import Hold
from manage.terminal import Terminal
from pipeline_orchestrator.errors import RetryableError
from pipeline_orchestrator.sole_writer import require_sole_writer
from validate.check import CheckResult, Verdict
from validate.checks.infrastructure import UNKNOWN
from validate.runner import MARKS, Validation, all_checks, run_checks, write_report

POLL_SECONDS = 0.1
LIMIT_AFTER_GRACE = 15.0

Document = dict[str, Any]  # JSON
_STYLES = {Verdict.PASSED: "good", Verdict.WARNING: "warn", Verdict.FAILED: "bad", Verdict.SKIPPED: "dim"}


def request_of(loaded: Loaded, options: Mapping[str, Any], *, foreground: bool) -> Request:  # Any: JSON
    """The request for a daemon with these settings."""
    state = Path(loaded.settings.state_dir) if loaded.settings.state_dir else paths.state_dir()
    return Request(loaded.settings, state, str(loaded.config or ""), options, foreground)


def found_running(terminal: Terminal, request: Request) -> Document | None:
    """The `info` of a pipeline that already runs on this state directory with the same settings; None: none runs.

    One that stops is waited for, and does not count. Raises CliError: 1 when one runs with other settings (naming the
    keys) or a foreground start was asked for; 4 when it is not ours to ask; 75 when it holds the directory but does
    not answer.
    """
    control = Control(instance.socket_of(request.state))
    try:
        running = control.get("/v1/info")
        if control.get("/v1/status").get("status") == "stopping":
            _wait_for_end(terminal, request)
            return None
        found = control.post("/v1/difference", {"settings": reveal(request.settings), "options": dict(request.options)})
    except NotRunningError:
        return None
    except DeniedError as error:
        raise CliError(
            str(error),
            exit_code=Exit.CANNOT_TELL,
            code="not_permitted",
            next_step=f"ls -l {control.path}",
        ) from error
    except RefusedError as error:
        raise CliError(
            f"a pipeline of another version runs here: {error}",
            code="already_running",
            next_step=f"manage_pipeline.py restart{instance.state_argument(request.state)}",
        ) from error
    except ControlError as error:
        raise CliError(
            f"cannot tell what runs here: {error}",
            exit_code=Exit.TRY_LATER,
            code="silent",
            next_step=f"manage_pipeline.py stop --force{instance.state_argument(request.state)}",
        ) from error
    since = f"since {local_time(running['since'])}, pid {running['pid']}"
    evidence = {"pid": running["pid"], "since": running["since"], "socket": str(control.path)}
    if found["differences"]:
        rows = "; ".join(map(difference_text, found["differences"]))
        raise CliError(
            f"already running {since}, with other settings: {rows}",
            code="already_running",
            evidence={**evidence, "differences": found["differences"]},
            next_step=way_there(request, running, found["differences"]),
        )
    if request.foreground:
        raise CliError(
            f"already running {since}, socket {control.path}",
            code="already_running",
            evidence=evidence,
            next_step=f"manage_pipeline.py status{instance.state_argument(request.state)}",
        )
    return running


def _wait_for_end(terminal: Terminal, request: Request) -> None:
    """Until a stopping pipeline has gone. Raises CliError (75) when it takes longer than its settings allow."""
    terminal.note("- the pipeline that runs here is stopping; waiting for its end")
    limit = request.settings.performance.shutdown_grace_seconds + LIMIT_AFTER_GRACE
    end = time.monotonic() + limit
    while instance.locked(request.state):
        if time.monotonic() > end:
            raise CliError(
                f"the pipeline that runs here still stops after {limit:g} s",
                exit_code=Exit.TRY_LATER,
                code="timeout",
                next_step=f"manage_pipeline.py stop --force{instance.state_argument(request.state)}",
            )
        time.sleep(POLL_SECONDS)


def validate(
    terminal: Terminal, request: Request, *, feed: bool = True, origins: Mapping[str, Origin] = UNKNOWN
) -> Validation:
    """Run the checks, say each on stderr, leave the report; `origins` of the settings, as `load` gave them.

    Raises CliError: 78, 69, 99 when one failed, 75 when another pipeline writes to the same database.
    """
    checks = [check for check in all_checks(origins) if feed or check.name != "iqfeed"]
    validation = write_report(asyncio.run(run_checks(request.settings, checks)), request.log_directory)
    for result in validation.results:
        if result.verdict is not Verdict.PASSED or terminal.wide:
            _say_check(terminal, result)
    if validation.failed:
        first = next(result for result in validation.failed if _code(result) == validation.exit_code)
        raise CliError(
            f"cannot start: {first.name}: {first.message}",
            exit_code=Exit(validation.exit_code),
            code="validation",
            evidence=validation.document(),
            next_step=first.next_step or "validate_data_pipeline.py",
        )
    passed = sum(result.verdict is Verdict.PASSED for result in validation.results)
    terminal.note(f"{terminal.style('✓', 'good', error=True)} validated: {passed} of {len(checks)} checks passed")
    _require_sole_writer(terminal, request)
    return validation


def _require_sole_writer(terminal: Terminal, request: Request) -> None:
    """Raises CliError (75) while another pipeline writes to the same database."""
    try:
        asyncio.run(require_sole_writer(request.settings, request.state, lambda text: terminal.note(f"- {text}")))
    except RetryableError as error:
        raise CliError(
            f"cannot start: {error}",
            exit_code=Exit.TRY_LATER,
            code="other_pipeline",
            next_step=error.next_step,
        ) from error


def _code(result: CheckResult) -> int:
    return Validation((result,), 0.0, 0.0).exit_code


def _say_check(terminal: Terminal, result: CheckResult) -> None:
    mark = terminal.style(MARKS[result.verdict], _STYLES[result.verdict], error=True)
    terminal.note(f"{mark} {result.name}: {result.message}")


def start_detached(
    terminal: Terminal, request: Request, hold: Hold, *, timeout: float, wait: bool, stays: bool
) -> Document:
    """Launch and wait until ready; the answer's document. What did not become ready in time is stopped again.

    With `stays` it is not: nobody asked whether its services answer, so it goes on trying, and the feed is read into
    the spool meanwhile; the error then says so. `hold` is released once the daemon listens.
    """
    from manage.ending import stop_pipeline

    try:
        with nothing_started(request.state):
            told = launch(request, hold)
            hold.release()
    except CliError as error:
        if error.code != "already_running" or (running := _quicker(terminal, request)) is None:
            raise
        hold.release()
        return already(terminal, request, running, timeout=timeout, wait=wait)
    answer: Document = {"started": True, "already_running": False, **{key: told[key] for key in ("pid", "since")}}
    if not wait:
        return {**answer, "status": "starting", "components": {}}
    try:
        status = _await_ready(terminal, request, timeout, told["pid"])
    except CliError as error:
        if error.code not in {"unreachable", "timeout"}:
            raise
        if stays:
            raise still_trying(error, request.state, told["pid"]) from error
        stop_pipeline(terminal, request.state, force=True)
        raise
    return {**answer, **summary(status)}


def _quicker(terminal: Terminal, request: Request) -> Document | None:
    """The pipeline that took the lock before us, as `found_running` tells it, once it listens; None: it has ended."""
    end = time.monotonic() + BIND_SECONDS
    while (running := found_running(terminal, request)) is None:
        if not instance.locked(request.state) or time.monotonic() > end:
            return None
        time.sleep(POLL_SECONDS)
    return running


def _await_ready(terminal: Terminal, request: Request, timeout: float, pid: int) -> Document:
    def say(name: str, component: Mapping[str, Any]) -> None:  # Any: JSON
        terminal.note(component_line(terminal, name, dict(component), error=True))

    try:
        return await_ready(request, timeout, say)
    except KeyboardInterrupt:
        raise goes_on(request.state, pid) from None


def already(terminal: Terminal, request: Request, running: Document, *, timeout: float, wait: bool) -> Document:
    """The answer when the pipeline runs already; one that still starts is waited for."""
    try:
        status = Control(instance.socket_of(request.state)).get("/v1/status")
    except ControlError:
        status = {}
    if wait and status.get("status") == "starting":
        status = _await_ready(terminal, request, timeout, running["pid"])
    return {
        "started": False,
        "already_running": True,
        "pid": running["pid"],
        "since": running["since"],
        "socket": str(instance.socket_of(request.state)),
        **summary(status),
    }


def summary(status: Document) -> Document:
    """Status and state of each component."""
    components = status.get("components") or {}
    return {
        "status": status.get("status", "unknown"),
        "components": {name: component["state"] for name, component in components.items()},
    }


def component_line(terminal: Terminal, name: str, component: Document, *, error: bool = False) -> str:
    """One line about a change of a component's state; `error` = it goes to stderr."""
    state = str(component["state"])
    mark, style = {
        "running": ("✓", "good"),
        "degraded": ("▲", "warn"),
        "backoff": ("✗", "bad"),
        "failed": ("✗", "bad"),
    }.get(state, ("-", "dim"))
    cause = f": {component['cause']}" if component.get("cause") else ""
    embedded = " (embedded)" if component.get("embedded") else ""
    return f"{terminal.style(mark, style, error=error)} {name}{embedded} {state}{cause}"


def text(answer: Document) -> str:
    """The answer for people."""
    since = f"since {local_time(answer['since'])}, pid {answer['pid']}"
    if answer["already_running"]:
        return f"already running {since}, socket {answer['socket']}"
    return f"{answer['status']} {since}"
