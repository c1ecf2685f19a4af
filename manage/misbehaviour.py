"""Tells a running simulator to misbehave, over its admin port; and lists what it can be told."""

from __future__ import annotations

import socket

from infrastructure.simulator.fault_kinds import KINDS, FaultError, help_text, parse
from manage.exits import CliError, Exit
from manage.terminal import Terminal

_SECONDS = 5.0
_ANSWER = b"S,SIMULATE FEED,"


def faults(terminal: Terminal) -> None:
    """The list."""
    document = {
        name: {"does": kind.does, "options": {option.name: option.default for option in kind.options}}
        for name, kind in KINDS.items()
    }
    terminal.answer({"faults": document}, help_text)


def send(terminal: Terminal, text: str, host: str, port: int) -> None:
    """Check a fault, send it, wait for the answer. Raises CliError."""
    try:
        fault = parse(text)
    except FaultError as error:
        raise CliError(
            str(error), exit_code=Exit.USAGE, code="usage", next_step="manage_pipeline.py simulate --help-faults"
        ) from error
    line = str(fault)
    ask(host, port, line)
    terminal.answer({"fault": line, "simulator": f"{host}:{port}"}, lambda: f"{host}:{port}: {line}")


def ask(host: str, port: int, line: str) -> None:
    """Send a fault in its text form, wait until the simulator has taken it. Raises CliError."""
    answer = _ask(host, port, line)
    if answer.startswith("E,"):
        raise CliError(
            f"the simulator at {host}:{port} refused it: {answer[2:].rstrip(',')}",
            code="refused",
            next_step="manage_pipeline.py simulate --help-faults",
        )


def _ask(host: str, port: int, line: str) -> str:
    """The line that answers. Raises CliError."""
    where = f"{host}:{port}"
    step = "name its admin port with --admin-port; it says so when it starts (listening admin=...)"
    try:
        with socket.create_connection((host, port), timeout=_SECONDS) as sock:
            sock.sendall(_ANSWER + line.encode("utf-8") + b"\r\n")
            with sock.makefile("rb") as answers:
                for answer in answers:
                    if answer.startswith((_ANSWER, b"E,")):
                        return answer.decode("utf-8", "replace").strip()
                    if not answer.startswith(b"S,"):
                        break
    except OSError as error:
        raise CliError(
            f"no simulator answers at {where}: {error.strerror or error}", code="unreachable", next_step=step
        ) from error
    raise CliError(f"what listens at {where} is no simulator's admin port", code="unreachable", next_step=step)
