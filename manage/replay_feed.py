"""A replay as the simulator's feed: checked before anything is started, and as the simulator is told of it."""

from __future__ import annotations

import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import click

from manage.exits import CliError

REFUSED = 2  # exit code of check_files: the files are at fault


def check_speed(speed: str) -> None:
    """Raises click.BadParameter for what is no speed."""
    from infrastructure.simulator.pace import ConfigError, parse_speed

    try:
        parse_speed(speed)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--speed") from None


def check_files(file: str) -> list[str]:
    """Have a process of its own read the file: this one becomes the supervisor, and stays without its megabytes.

    Returns the symbols of a recording, nothing for a LOBSTER pair, which names its own. Raises click.BadParameter.
    """
    from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command

    command = python_command("infrastructure.simulator.check_files", file)
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
            f"cannot check {file}: exit code {done.returncode}" + (f": {last}" if last else ""),
            code="replay_check",
            evidence={"stderr": said},
            next_step=shlex.join(command),
        )
    return done.stdout.split()


def replayed(file: str, speed: str) -> dict[str, Any]:  # Any: JSON
    """The simulator's configuration for playing `file`; `symbols` are what the pipeline then watches."""
    symbols = check_files(file) or [Path(file).name.partition("_")[0]]
    return {"replay": [str(Path(file).resolve())], "speed": speed, "symbols": symbols}
