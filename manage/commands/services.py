"""`services up|down|status`: Kafka, ClickHouse and Redis on this machine."""

from __future__ import annotations

from typing import Any

import click

from infrastructure.services import local
from infrastructure.services.errors import ServicesError
from manage.exits import CliError, Exit
from manage.options import common, pipeline
from manage.render import milliseconds
from manage.setup import load_settings
from manage.terminal import Terminal


@click.group(no_args_is_help=True)
def services() -> None:
    """Kafka, ClickHouse and Redis on this machine, on loopback, with data in <project>/services.

    \b
    manage_pipeline.py services up
    manage_pipeline.py services status
    """


@services.command()
@pipeline
@common
def up(terminal: Terminal, config: str, state_flag: str, **_: Any) -> int:  # Any: unused options
    """Start what is missing and wait until all three answer; nothing to do is success."""
    settings = load_settings(config, state_flag).settings
    try:
        report = local.up(settings, terminal.note)
    except ServicesError as error:
        raise _cli_error(error) from error
    return _answer(terminal, report)


@services.command()
@pipeline
@common
def down(terminal: Terminal, config: str, state_flag: str, **_: Any) -> int:  # Any: unused options
    """Stop them; their data stays."""
    settings = load_settings(config, state_flag).settings
    try:
        stopped = local.down(settings, terminal.note)
        report = local.status(settings)
    except ServicesError as error:
        raise _cli_error(error) from error
    terminal.answer({"stopped": stopped, **report}, lambda: text(report))
    return Exit.OK


@services.command()
@pipeline
@common
def status(terminal: Terminal, config: str, state_flag: str, **_: Any) -> int:  # Any: unused options
    """What runs, asked just now; exit code 3 when they do not all run."""
    settings = load_settings(config, state_flag).settings
    try:
        report = local.status(settings)
    except ServicesError as error:
        raise _cli_error(error) from error
    return _answer(terminal, report)


def _answer(terminal: Terminal, report: dict[str, Any]) -> int:  # Any: JSON
    terminal.answer(report, lambda: text(report))
    return Exit.OK if report.get("state") == "running" else Exit.NOT_RUNNING


def text(report: dict[str, Any]) -> str:  # Any: JSON
    """The services as lines."""
    lines = [f"local services: {report.get('state', 'unknown')}   {report.get('directory', '')}"]
    for name, each in (report.get("services") or {}).items():
        answer = milliseconds(each["round_trip_ms"]) if each.get("round_trip_ms") is not None else "no answer"
        pid = f"pid {each['pid']}" if each.get("pid") else ""
        cause = f"   {each['cause']}" if each.get("cause") else ""
        lines.append(f"  {name:<10}  {each['state']:<11}  {each['address']:<21}  {answer:<9}  {pid}{cause}".rstrip())
    return "\n".join(lines)


def _cli_error(error: ServicesError) -> CliError:
    code = Exit(error.exit_code) if error.exit_code in set(Exit) else Exit.FAILED
    return CliError(error.message, exit_code=code, code="services", next_step=error.next_step)
