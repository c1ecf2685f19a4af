"""Starting the daemon detached: a new session, settings handed over in memory, readiness told component by component.

The child reads the whole request from its stdin (secrets never stand in arguments, environment or files) and tells
what became of it on a pipe: {"event": "listening"} or {"event": "failed", ...}. From `listening` on the control
socket answers.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from config.settings import reveal
from manage.client import Control, ControlError, NotRunningError
from manage.commands.logs import parse
from manage.daemon import READY, Request
from manage.exits import CliError, Exit
from manage.instance import clear_left_behind, locked, read_record, socket_of, state_argument
from manage.interrupts import goes_on, told_to_stop
from manage.starts import Hold
from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command

FEED_SECONDS = 3.0  # what is ready is said at the latest so long after, whether the feed is known or not
POLL_SECONDS = 0.1
BIND_SECONDS = 20.0
GONE_SECONDS = 5.0
TOLD_SECONDS = 5.0
UNREACHABLE_SECONDS = 10.0
"""How long a needed service may be away during a start before the start gives up on it."""

Document = Mapping[str, Any]  # JSON
_FIRST_TO_NEED = {"kafka": "processing/", "clickhouse": "storage/", "redis": "cache/"}

_outliving_us: list[subprocess.Popen[bytes]] = []
"""Daemons are not waited for; held, so that their Popen does not warn of it."""


def launch(request: Request, hold: Hold | None = None) -> dict[str, Any]:  # Any: JSON
    """Start the daemon and wait until its control socket answers; returns its first words (pid, since).

    `hold` is shared with the daemon until then; where `stop` ended it, the daemon ends, too.

    Raises CliError with the daemon's own cause when it cannot begin; interrupted, it says whether the start goes on.
    """
    log_directory = request.log_directory
    try:
        log_directory.mkdir(parents=True, exist_ok=True)
        output = os.open(
            log_directory / "pipeline_orchestrator.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise CliError(
            f"cannot write to {log_directory}: {error.strerror}", next_step=f"ls -ld {log_directory}"
        ) from error
    reader, writer = os.pipe2(os.O_CLOEXEC)
    handed_over = False  # from then on the child needs nothing more of us
    hold = hold or Hold()
    shared = [writer] if hold.descriptor < 0 else [writer, hold.descriptor]
    try:
        child = subprocess.Popen(
            python_command("manage.detached", *map(str, shared)),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=shared,
            cwd="/",
            env=child_environment(),
            start_new_session=True,
        )
    finally:
        os.close(writer)
        os.close(output)
    _outliving_us.append(child)
    assert child.stdin is not None
    try:
        with child.stdin:
            child.stdin.write(json.dumps(document_of(request)).encode())
        handed_over = True
        told = _hear(reader, time.monotonic() + BIND_SECONDS)
    except BrokenPipeError:
        told = None
    except KeyboardInterrupt:
        if handed_over and hold.told:
            _end(child, request.state)
            raise
        if handed_over:
            hold.passed_on = True
            raise goes_on(request.state, child.pid) from None
        child.kill()
        child.wait()
        raise
    finally:
        os.close(reader)
    if told is not None and told.get("event") == "listening":
        return told
    raise _failure(told, child, request)


def _end(child: subprocess.Popen[bytes], state: Path) -> None:
    """End a daemon whose start was told to stop. One that drains already is left to it: whoever told us waits."""
    child.terminate()
    try:
        child.wait(TOLD_SECONDS)
    except subprocess.TimeoutExpired:
        if locked(state):
            return
        child.kill()
        child.wait()
    record = read_record(state)
    if record is not None and record.pid == child.pid:
        clear_left_behind(state)  # it held its lock, but did not hear signals yet


def document_of(request: Request) -> dict[str, Any]:  # Any: JSON
    """A request as JSON, secrets in clear: for the child's stdin only."""
    return {
        "settings": reveal(request.settings),
        "state": str(request.state),
        "config": request.config,
        "options": dict(request.options),
    }


def _hear(reader: int, limit: float) -> dict[str, Any] | None:  # Any: JSON
    """The child's first line; None when it ended or said nothing within the limit."""
    heard = b""
    while b"\n" not in heard:
        if not select.select([reader], [], [], max(0.0, limit - time.monotonic()))[0]:
            return None
        part = os.read(reader, 1 << 16)
        if not part:
            break
        heard += part
    try:
        document = json.loads(heard.partition(b"\n")[0])
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _failure(told: Document | None, child: subprocess.Popen[bytes], request: Request) -> CliError:
    log_directory = request.log_directory
    if told is not None and told.get("event") == "failed":
        error = told["error"]
        return CliError(
            error["message"],
            exit_code=Exit(error["exit_code"]),
            code=error["code"],
            evidence=error["evidence"],
            next_step=error["next_step"],
        )
    try:
        code = child.wait(timeout=1)
        what = f"ended with code {code} before it listened"
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        what = f"did not listen within {BIND_SECONDS:g} s and was killed"
    last = last_cause(log_directory)
    return CliError(
        f"cannot start: the daemon {what}" + (f": {last}" if last else ""),
        code="daemon_died",
        evidence={"output": str(log_directory / "pipeline_orchestrator.out")},
        next_step=f"manage_pipeline.py logs -n 20{state_argument(request.state)}",
    )


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def last_cause(log_directory: Path) -> str:
    """What the daemon last complained of: its newest error in the log, else the last line it printed; "" if none."""
    try:
        tail = (log_directory / "pipeline_orchestrator.log").read_bytes()[-(64 << 10) :].decode("utf-8", "replace")
    except OSError:
        tail = ""
    for line in reversed(tail.splitlines()):
        record = parse(line)
        if record.get("event") == "daemon_started":
            break
        if record.get("level") == "ERROR" and record.get("cause"):
            return str(record["cause"])
    return _last_line(log_directory / "pipeline_orchestrator.out")


def await_ready(request: Request, timeout: float, say: Callable[[str, Document], None]) -> dict[str, Any]:  # Any: JSON
    """Poll until the pipeline is ready; `say(id, component)` is told each change of a component's state.

    Returns the status document. Raises CliError: 69 when a needed service stays unreachable, 75 when the time is
    over, 1 when the pipeline ended meanwhile.
    """
    control = Control(socket_of(request.state))
    began = time.monotonic()
    ready = 0.0
    seen: dict[str, str] = {}
    while True:
        try:
            document = control.get("/v1/status")
        except NotRunningError:
            end = time.monotonic() + GONE_SECONDS
            while locked(request.state) and time.monotonic() < end:
                time.sleep(POLL_SECONDS)
            cause = last_cause(request.log_directory)
            raise CliError(
                "the pipeline ended before it was ready" + (f": {cause}" if cause else ""),
                code="ended",
                next_step=f"manage_pipeline.py logs -n 20{state_argument(request.state)}",
            ) from None
        except ControlError:
            document = {}
        components: Mapping[str, Document] = document.get("components") or {}
        for name, component in components.items():
            if seen.get(name) != component["state"]:
                seen[name] = component["state"]
                say(name, component)
        if document.get("status") in READY:
            ready = ready or time.monotonic()
            if feed_is_known(document, request) or time.monotonic() - ready >= FEED_SECONDS:
                return document
        if document.get("status") == "stopping":
            if not last_cause(request.log_directory):
                raise told_to_stop(request.state)
            continue  # it failed: its end is near, and the cause is said then
        waited = time.monotonic() - began
        if waited >= UNREACHABLE_SECONDS and (blame := _unreachable(document)) is not None:
            raise blame
        if waited >= timeout:
            raise _late(components, timeout, request.state)
        time.sleep(POLL_SECONDS)


def feed_is_known(document: Document, request: Request) -> bool:
    """Is the feed there or not; a simulated one comes up last, and is waited for. True where nothing says."""
    feed: Mapping[str, object] | None = (document.get("infrastructure_status") or {}).get("iqfeed")
    if feed is None:
        return True
    return feed.get("state") == "ok" if request.options.get("simulate") else feed.get("state") != "unknown"


def _unreachable(document: Document) -> CliError | None:
    services: Mapping[str, Document] = document.get("infrastructure_status") or {}
    waiting = [name for name, each in (document.get("components") or {}).items() if each["state"] not in READY]
    for name, first in _FIRST_TO_NEED.items():
        service = services.get(name) or {}
        if service.get("state") == "unreachable" and service.get("mode") != "embedded" and waiting:
            detail = f" ({service['detail']})" if service.get("detail") else ""
            blamed = next((each for each in waiting if each.startswith(first)), waiting[0])
            return CliError(
                f"cannot start {blamed}: no answer from {service.get('address')} for {UNREACHABLE_SECONDS:g} s{detail}",
                exit_code=Exit.UNAVAILABLE,
                code="unreachable",
                evidence={"service": name, **service, "waiting": waiting},
                next_step="manage_pipeline.py services up    or    manage_pipeline.py demo",
            )
    return None


def _late(components: Mapping[str, Document], timeout: float, state: Path) -> CliError:
    waiting = {name: each for name, each in components.items() if each["state"] not in READY}
    name, component = next(iter(waiting.items()), ("the pipeline", {}))
    cause = component.get("cause") or component.get("state") or "no cause known"
    return CliError(
        f"cannot start {name} within {timeout:g} s: {cause}",
        exit_code=Exit.TRY_LATER,
        code="timeout",
        evidence={"waiting": {name: each.get("cause") or each["state"] for name, each in waiting.items()}},
        next_step=component.get("next_step") or f"manage_pipeline.py logs -n 20{state_argument(state)}",
    )
