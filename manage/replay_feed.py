"""A replay as the simulator's feed: checked before anything is started, and as the simulator is told of it."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.split import instance_of
from manage.exits import CliError

if TYPE_CHECKING:
    from config.sections import Settings

REFUSED = 2  # exit code of check_files: the files are at fault


def check_speed(speed: str) -> None:
    """Raises click.BadParameter for what is no speed."""
    from infrastructure.simulator.pace import ConfigError, parse_speed

    try:
        parse_speed(speed)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--speed") from None


def connections(settings: Settings, symbols: Iterable[str]) -> int:
    """How many connections the pipeline's readers make for these: a replay begins when none can miss its first rows."""
    split, feed = settings.ingestion, settings.iqfeed
    readers = {instance_of(symbol, split.instances, split.assign) for symbol in symbols}
    return len(readers) * (feed.level1 + feed.level2)


def depth_of(settings: Settings, symbols: Iterable[str]) -> str:
    """What a replay of a LOBSTER pair must keep (levels | orders); orders are kept beside the levels."""
    feed = settings.iqfeed
    return "orders" if "orders" in {feed.depth_by_symbol.get(symbol, feed.depth) for symbol in symbols} else "levels"


def symbol_of(message_file: str) -> str:
    """The symbol that the name of a LOBSTER message file begins with."""
    return Path(message_file).name.partition("_")[0].upper()


def check_files(file: str, depth: str = "levels", note: Callable[[str], None] = lambda line: None) -> list[str]:
    """Have a process of its own read the file: this one becomes the supervisor, and stays without its megabytes.

    `depth` is what is to be made of a LOBSTER pair. `note` gets what is missing of a recording. Returns the symbols of
    a recording, nothing for a LOBSTER pair, which names its own. Raises click.BadParameter.
    """
    from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command

    command = python_command("infrastructure.simulator.check_files", "--depth", depth, file)
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
    for line in said.splitlines():
        note(f"! {file}: missing: {line}")
    return done.stdout.split()


def replayed(
    file: str, speed: str, depth: str = "levels", note: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:  # Any: JSON
    """The simulator's configuration for playing `file`; `symbols` are what the pipeline then watches."""
    symbols = check_files(file, depth, note) or [symbol_of(file)]
    return {"replay": [str(Path(file).resolve())], "speed": speed, "symbols": symbols}
