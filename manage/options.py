"""Options that every command shares, and how a command finds its pipeline. Imports click and the standard library."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from config import paths
from manage.terminal import FORMATS, Terminal

Command = Callable[..., Any]  # Any: click callbacks


def common(function: Command) -> Command:
    """Add the output options; the command gets `terminal`."""

    @click.option("-o", "--output", type=click.Choice(FORMATS), default=None, help="Form of the answer on stdout.")
    @click.option("--json", "as_json", is_flag=True, help="Same as -o json.")
    @click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour in output.")
    @click.option("--debug", is_flag=True, help="Show tracebacks.")
    @functools.wraps(function)
    def wrapped(output: str | None, as_json: bool, color: str, debug: bool, **rest: Any) -> Any:  # Any: click values
        terminal = Terminal(output_format="json" if as_json else output or "", color=color, debug=debug)
        click.get_current_context().find_root().obj = terminal
        return function(terminal=terminal, **rest)

    return wrapped


def pipeline(function: Command) -> Command:
    """Add `--state-dir` and `--config`; the command gets `state` (Path), and `config` and `state_flag` as typed."""

    @click.option("--state-dir", "state_flag", default="", metavar="DIR", help="State directory of the pipeline.")
    @click.option("--config", default="", metavar="FILE", help="Settings file instead of config/pipeline_config.json.")
    @functools.wraps(function)
    def wrapped(state_flag: str, config: str, **rest: Any) -> Any:  # Any: click values
        state: Path = paths.chosen_state_dir(state_flag, config)
        return function(state=state, state_flag=state_flag, config=config, **rest)

    return wrapped


class DurationType(click.ParamType[float]):
    """`45`, `45s`, `5m`, `1h30m` as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # Any: click
        from config.durations import seconds

        if isinstance(value, int | float):
            return float(value)
        try:
            return seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationType()
