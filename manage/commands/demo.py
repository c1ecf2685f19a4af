"""`demo`: the whole pipeline in one foreground program, with a simulated feed and embedded services."""

from __future__ import annotations

import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import click

from manage.exits import CliError
from manage.options import RATE, SOME_TIME, common
from manage.starts import holding
from manage.terminal import Terminal

REFUSED = 2  # exit code of check_files: the files are at fault


@click.command()
@click.option(
    "--rate", default="1000", show_default=True, type=RATE, metavar="R", help="Market lines per second, or max."
)
@click.option(
    "--symbols", "count", default=8, show_default=True, type=click.IntRange(1, 2000), help="How many symbols."
)
@click.option(
    "--replay",
    default=None,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="A LOBSTER message file (its order book file beside it) instead of a generated market.",
)
@click.option("--speed", default="1x", show_default=True, metavar="1x|10x|max", help="With --replay.")
@click.option("--duration", type=SOME_TIME, default=None, help="End after this long. Default: Ctrl-C.")
@click.option(
    "--state-dir", default="", metavar="DIR", help="Keep the state here. Default: a fresh one, removed again."
)
@common
def demo(
    terminal: Terminal, rate: str, count: int, replay: str | None, speed: str, duration: float | None, state_dir: str
) -> int:
    """Everything embedded, a simulated feed, nothing to install; ends with the counts at every station.

    \b
    manage_pipeline.py demo
    manage_pipeline.py demo --rate 5000 --symbols 50 --duration 20s
    Related: start --simulate, status, monitor
    """
    if replay:
        _check_speed(speed)
    state = Path(state_dir).resolve() if state_dir else None
    with holding(state) as hold:
        from manage import prepared

        prepared.redis_server()
        prepared.kernels(terminal)
        if replay:
            _check_files(replay)
        say = terminal.text if terminal.for_people else terminal.note
        say("Demo: starting an embedded feed, broker and stores")
        from manage.demo_session import DemoSession

        wished: dict[str, Any] = {"rate": rate}  # Any: JSON
        if replay:
            wished = {"replay": [str(Path(replay).resolve())], "speed": speed}
        session = DemoSession(terminal, wished, count, duration, state)
        return session.run(hold)


def _check_files(message_file: str) -> None:
    """Have a process of its own read the pair: this one becomes the supervisor, and stays without its megabytes."""
    from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command

    command = python_command("infrastructure.simulator.check_files", message_file)
    done = subprocess.run(
        command, env=child_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    said = done.stderr.strip()
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    if done.returncode == REFUSED:
        raise click.BadParameter(said, param_hint="--replay")
    if done.returncode:
        last = said.rpartition("\n")[2]
        raise CliError(
            f"cannot check {message_file}: exit code {done.returncode}" + (f": {last}" if last else ""),
            code="replay_check",
            evidence={"stderr": said},
            next_step=shlex.join(command),
        )


def _check_speed(speed: str) -> None:
    from infrastructure.simulator.pace import ConfigError, parse_speed

    try:
        parse_speed(speed)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--speed") from None
