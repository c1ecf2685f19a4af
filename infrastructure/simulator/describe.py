"""Statistics of the flow a simulator would send, beside those of a recorded day: a document, no server."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from infrastructure.simulator import lobster_files
from infrastructure.simulator.columns import SECOND_US
from infrastructure.simulator.config import SimulatorConfig
from infrastructure.simulator.eastern import midnight_us
from infrastructure.simulator.flow_sample import FlowSample, Walkable, sample
from infrastructure.simulator.flow_statistics import Figure, compare, figures
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.pace import ConfigError
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.scenario_market import ScenarioMarket

MOST_SECONDS: Final = 24 * 3600
_START: Final = datetime(2024, 3, 7, 10)  # a whole second, and the same at each call; Eastern
_START_US: Final = midnight_us(_START.date()) + _START.hour * 3600 * SECOND_US


def describe(config: SimulatorConfig, recorded: Path | None, seconds: float) -> dict[str, Any]:  # Any: JSON
    """Figures of the market of `config`, and of the first such stretch of a LOBSTER pair where one is given.

    Raises ConfigError, LobsterError, ScenarioError, OSError.
    """
    if not 1 <= seconds <= MOST_SECONDS:
        raise ConfigError(f"{seconds:g} s cannot be described: from 1 s to {MOST_SECONDS // 3600} h of market time")
    whole = int(seconds)
    market, what = _market(config)
    generated = sample(market, whole)
    mine = figures(generated)
    document: dict[str, Any] = {"generated": _side(what, generated, mine), "recorded": None, "comparison": None}
    if recorded is not None:
        theirs_flow = sample(ReplayMarket([lobster_files.load(recorded)], speed=None), whole)
        theirs = figures(theirs_flow)
        document["recorded"] = _side(f"LOBSTER {recorded.name}", theirs_flow, theirs)
        rows = {name: compare(name, figure, theirs[name]) for name, figure in mine.items()}
        document["comparison"] = {name: {"differs": differs, "words": words} for name, (differs, words) in rows.items()}
    return document


def _market(config: SimulatorConfig) -> tuple[Walkable, str]:
    if not config.replay and not config.scenario:
        if config.rate is None:
            raise ConfigError("--rate max has the stamps of the wall clock: name a rate to describe")
        if not config.symbols:
            raise ConfigError("no symbols")
        market = GeneratedMarket(
            config.symbols, rate=config.rate, seed=config.seed, limit=config.lines, start_us=_START_US
        )
        return market, f"generated at {config.rate:g} lines/s, seed {config.seed}"
    made = config.market(_START)
    if isinstance(made, ScenarioMarket):
        return made, f"scenario {Path(config.scenario).stem}, seed {config.seed}"
    if isinstance(made, ReplayMarket):
        return made, f"replay of {Path(config.replay[0]).name}"
    raise ConfigError("a recording of the product is not described: it is lines, not a market; name a LOBSTER pair")


def _side(what: str, flow: FlowSample, found: dict[str, Figure]) -> dict[str, Any]:  # Any: JSON
    return {
        "source": what,
        "symbol": flow.symbol,
        "market_seconds": flow.seconds,
        "depth_lines": flow.level_sets + flow.level_deletes,
        "trades": int(flow.trade_sizes.size),
        "corrections": flow.corrections,
        "figures": {name: asdict(figure) for name, figure in found.items()},
    }
