"""Options that every command shares, and how a command finds its pipeline. Imports click and the standard library."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from config import paths
from manage.terminal import FORMATS, Terminal

Command = Callable[..., Any]  # Any: click callbacks
MAX_RATE = 1e9  # lines per second, the simulator's own limit


class OutFile(click.Path):
    """The name of a file to write, as Path; a directory and an empty name are refused."""

    def __init__(self, *, writable: bool = True) -> None:
        super().__init__(path_type=Path, dir_okay=False, writable=writable)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # Any: as click has
        """See click.ParamType."""
        if not str(value):
            self.fail("an empty name", param, ctx)
        return super().convert(value, param, ctx)


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


def warn_of_variables(terminal: Terminal) -> None:
    """Name variables that look like settings and are none: for verbs that go on all the same.

    Whoever asks what runs, or wants it stopped, is not refused because of a variable; it may have been meant to name
    the pipeline, though, so nobody must overlook it. Verbs that read the settings refuse it.
    """
    if all(not name.startswith("PIPELINE_") for name in os.environ):
        return
    from config.variables import unknown

    for name, near in unknown(os.environ):
        hint = f"; did you mean {near}?" if near else ""
        terminal.note(f"{terminal.style('!', 'warn', error=True)} {name}: unknown variable, ignored{hint}")


class DurationType(click.ParamType[float]):
    """`45`, `45s`, `5m`, `1h30m` as seconds; `positive` refuses 0."""

    name = "duration"

    def __init__(self, *, positive: bool = False) -> None:
        self.positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # Any: click
        from config.durations import seconds

        if isinstance(value, int | float):
            return float(value)
        try:
            found = seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if self.positive and found <= 0:
            self.fail(f"{value!r} is no time at all; write 45, 45s, 5m or 1h30m", param, ctx)
        return found


class RateType(click.ParamType[str]):
    """Lines per second, a finite number above 0, or `max`; as text, the way the simulator takes it."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # Any: click
        text = str(value).strip().lower()
        if text == "max":
            return text
        try:
            rate = float(text)
        except ValueError:
            rate = -1.0
        if not 0 < rate <= MAX_RATE:
            self.fail(
                f"{value!r} is no rate; write lines per second above 0, at most {MAX_RATE:,.0f}, or max", param, ctx
            )
        return text


def simulated_rate(_: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """Callback of `start` and `restart --rate`: a finite number; 0 is an idle feed."""
    if value is None or 0 <= value <= MAX_RATE:
        return value
    raise click.BadParameter(f"{value:g} is not between 0 and {MAX_RATE:,.0f} lines per second", param=option)


DURATION = DurationType()
SOME_TIME = DurationType(positive=True)
RATE = RateType()
