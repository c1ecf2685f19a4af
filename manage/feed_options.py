"""Options of the simulator, the same wherever one is started: `start`, `restart`, `demo`, `simulate`.

What the market is (`--replay`, `--scenario`, `--speed`; each command has its own `--rate`) and how the server behaves.
The value that a pipeline keeps, its `simulate` option, is the simulator's configuration, without what was not said.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from manage.replay_feed import check_speed, replayed
from manage.scenarios import SCENARIO, played

Command = Callable[..., Any]  # Any: click callbacks
Document = dict[str, Any]  # JSON
Note = Callable[[str], None]

MARKET = ("rate", "replay", "scenario", "speed", "symbols")  # keys that say what the market is
BEHAVIOUR = {
    "symbol_limit": "--symbol-limit",
    "corrections": "--corrections",
    "no_depth": "--no-depth",
    "clear_depth_seconds": "--clear-depth-every",
}
_MARKET_OPTIONS = (
    click.option(
        "--replay",
        default=None,
        metavar="PATH",
        type=click.Path(exists=True),
        help="Of the simulator: play a recording, a spool or a LOBSTER pair (message file); its symbols are watched.",
    ),
    click.option("--scenario", type=SCENARIO, help="Of the simulator: calm, open, halt, ... or a FILE with phases."),
    click.option("--speed", default=None, show_default="1x", metavar="1x|10x|max", help="Of a replay or scenario."),
)
_BEHAVIOUR_OPTIONS = (
    click.option("--symbol-limit", type=click.IntRange(min=1), help="Of the simulator: symbols an account may watch."),
    click.option(
        "--corrections",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help="Of the simulator: so many of the trades are corrected seconds later, e.g. 0.01.",
    ),
    click.option("--no-depth", default="", metavar="A,B", help="Of the simulator: symbols without Level 2 (q)."),
    click.option(
        "--clear-depth-every",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Of the simulator: S,CLEAR DEPTH for every watched book, and its rows anew.",
    ),
)


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """What was typed; `speed` None = not said, which is 1x.

    `behaviour` holds what was said of it, by the names of the simulator's configuration.
    """

    replay: str | None
    scenario: str | None
    speed: str | None
    behaviour: Document

    def check(self, *, simulated: bool, rate: bool, played: bool = False) -> None:
        """What does not go together; `rate`: one was typed; `played`: a replay or scenario that ran goes on.

        Raises click.UsageError, click.BadParameter.
        """
        if self.scenario and (not simulated or rate or self.replay):
            raise click.UsageError("--scenario goes with --simulate, and without --rate and --replay")
        if self.replay and (not simulated or rate):
            raise click.UsageError("--replay goes with --simulate, and without --rate")
        if self.behaviour and not simulated:
            raise click.UsageError(f"{BEHAVIOUR[next(iter(self.behaviour))]} goes with --simulate")
        if self.speed is not None:
            if not (self.timed or played):
                raise click.UsageError("--speed goes with --replay or --scenario")
            check_speed(self.speed)

    @property
    def timed(self) -> bool:
        """Whether the market is a replay or a scenario."""
        return bool(self.replay or self.scenario)

    def market(self, rate: float | str | None, depth: str = "levels", note: Note = lambda line: None) -> Document:
        """What the market is to be; reads the files of a replay, of which `note` gets what is missing.

        `depth` (levels | orders) is what will be made of a LOBSTER pair. Raises click.BadParameter, CliError.
        """
        if self.scenario:
            return played(self.scenario, self.speed or "1x")
        return replayed(self.replay, self.speed or "1x", depth, note) if self.replay else {"rate": rate}

    def config(self, rate: float | str | None, depth: str = "levels", note: Note = lambda line: None) -> Document:
        """The simulator's configuration; see `market`."""
        return {**self.market(rate, depth, note), **self.behaviour}


def behaviour_options(function: Command) -> Command:
    """Add the options of how the server behaves, as they stand."""
    for option in reversed(_BEHAVIOUR_OPTIONS):
        function = option(function)
    return function


def feed_options(function: Command) -> Command:
    """Add all of them; the command gets `feed`."""

    @functools.wraps(function)
    def wrapped(replay: str | None, scenario: str | None, speed: str | None, **rest: Any) -> Any:  # Any: click values
        behaviour = taken_behaviour(rest)
        return function(feed=FeedOptions(replay, scenario, speed, behaviour), **rest)

    command: Command = behaviour_options(wrapped)
    for option in reversed(_MARKET_OPTIONS):
        command = option(command)
    return command


def taken_behaviour(typed: Document) -> Document:
    """Take the values of the behaviour options out of what click gives; only those that were typed.

    Raises click.BadParameter for a list of symbols that is none.
    """
    clear, limit = typed.pop("clear_depth_every"), typed.pop("symbol_limit")
    found = {"symbol_limit": limit, "corrections": typed.pop("corrections"), "clear_depth_seconds": clear}
    if names := typed.pop("no_depth"):
        from config.symbols import normal

        try:
            found["no_depth"] = [normal(name) for name in names.split(",")]
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--no-depth") from None
    return {name: value for name, value in found.items() if value is not None}


def changed(
    running: Document | None,
    feed: FeedOptions,
    *,
    simulate: bool | None,
    rate: float | None,
    depth: str = "levels",
    note: Note = lambda line: None,
) -> Document | None:
    """The `simulate` option of a pipeline that ran with `running`, after a restart with these options; None = none.

    `simulate` None = as it ran; `depth` and `note` as of FeedOptions.market. Raises click.UsageError where what was
    typed needs a simulated feed.
    """
    if simulate is False or (simulate is None and running is None):
        if rate is not None or feed.timed or feed.behaviour or feed.speed is not None:
            said = "" if simulate is False else ": no simulated feed runs here"
            named = "--rate" if rate is not None else "--replay" if feed.replay else "--scenario"
            if not (rate is not None or feed.timed):
                named = BEHAVIOUR[next(iter(feed.behaviour))] if feed.behaviour else "--speed"
            raise click.UsageError(f"{named} goes with --simulate{said}")
        return None
    kept = dict(running or {})
    goes_on = not simulate and rate is None and bool(kept.get("replay") or kept.get("scenario"))
    feed.check(simulated=True, rate=rate is not None, played=goes_on)
    if simulate or running is None:
        return feed.config(rate, depth, note)
    if rate is not None or feed.timed:
        kept = {key: value for key, value in running.items() if key not in MARKET} | feed.market(rate, depth, note)
    elif feed.speed is not None:
        kept["speed"] = feed.speed
    return {**kept, **feed.behaviour}


def in_words(config: Mapping[str, Any]) -> str:  # Any: JSON
    """A simulator's configuration as one says it: `the simulator at 500 messages/s with --symbol-limit 5`."""
    behaviour = " ".join(_typed(config))
    return _market_words(config) + (f" with {behaviour}" if behaviour else "")


def _market_words(config: Mapping[str, Any]) -> str:  # Any: JSON
    if config.get("replay"):
        return "a replay as its feed"
    if config.get("scenario"):
        return f"the scenario {config['scenario']} as its feed"
    rate = config.get("rate")
    if rate is None:
        return "the simulator at its usual rate"
    return f"the simulator at {rate:g} messages/s" if isinstance(rate, int | float) else f"the simulator, rate {rate}"


def as_typed(config: Mapping[str, Any]) -> str:  # Any: JSON
    """The options that ask for this configuration."""
    words = ["--simulate"]
    if config.get("replay"):
        words.append(f"--replay {shlex.quote(str(config['replay'][0]))}")
    if config.get("scenario"):
        words.append(f"--scenario {shlex.quote(str(config['scenario']))}")
    if config.get("speed", "1x") != "1x":
        words.append(f"--speed {config['speed']}")
    if isinstance(rate := config.get("rate"), int | float):
        words.append(f"--rate {rate:g}")
    return " ".join([*words, *_typed(config)])


def _typed(config: Mapping[str, Any]) -> list[str]:  # Any: JSON
    found = []
    for name, option in BEHAVIOUR.items():
        value = config.get(name)
        if value is not None:
            text = ",".join(value) if isinstance(value, list) else f"{value:g}"
            found.append(f"{option} {shlex.quote(text)}")
    return found
