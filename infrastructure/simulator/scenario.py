"""Scenarios: JSON files that say how a generated market behaves, phase after phase. Standard library only.

    {"title": "...", "start": "2024-03-07 09:28:00", "phases": [{"duration": "2m", "rate": 400, "spread": 3}, ...]}

`start` is the Eastern wall clock at the first phase (in the hour that November repeats: its first pass); without it the
market starts now. What a phase does not say has the default of `Phase`. Only the last phase may leave `duration` out:
it lasts until somebody ends it. Faults are told with the file, the place in it, and the nearest known name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from config import durations
from infrastructure.simulator.eastern import NEW_YORK
from infrastructure.simulator.pace import ConfigError

DIRECTORY: Final = Path(__file__).parent / "scenarios"
FROZEN: Final = "frozen"
WITHDRAWN: Final = "withdrawn"
_CHOICES: Final = {"halt_quotes": (FROZEN, WITHDRAWN), "correction_layout": ("documented", "live", "both")}
_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "rate": (0, 1e6),
    "volatility": (0, 1000),
    "drift": (-5000, 5000),
    "spread": (1, 200),
    "depth": (2, 12),
    "orders": (1, 10),
    "size": (0.01, 100),
    "trades": (0, 0.5),
    "persistence": (0, 0.99),
    "burstiness": (0, 0.95),
    "corrections": (0, 6000),
}
_TOP: Final = ("title", "start", "phases")


class ScenarioError(ConfigError):
    """A scenario cannot be used; the message names the file, the place and what would do."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of market time with one behaviour. `seconds` None = until somebody ends it.

    `halt`: names of symbols, all of them (`("*",)`), or how many of the first ones. A halted symbol has no trades and
    no new orders; its book stays as it is, or is emptied row by row. When a halt ends the book is a new one, told after
    `S,CLEAR DEPTH` as at any reset of a session.
    """

    seconds: float | None = None
    rate: float = 1000.0  # market lines (Q, 8, 9) per second of market time, mean over all symbols
    volatility: float = 3.0  # of the fair price: basis points per square root of a minute
    drift: float = 0.0  # of the fair price: basis points per minute
    spread: float = 2.0  # cents around the fair price within which no order is placed
    depth: int = 8  # price levels a side that the book tends to
    orders: float = 3.0  # orders per level that the book tends to; of an equity 20 a side at most
    size: float = 1.0  # factor on the size of orders
    trades: float = 0.10  # share of market orders among the acts
    persistence: float = 0.0  # chance that a market order has the side of the one before it, whatever comes next
    burstiness: float = 0.0  # share of acts that follow the one before them at once, the mean rate kept
    halt: tuple[str, ...] | int = ()
    halt_quotes: str = FROZEN
    corrections: float = 0.0  # C messages per minute: deleted, corrected or late trades
    correction_layout: str = "both"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario. `start` None = now."""

    name: str
    title: str
    start: datetime | None
    phases: tuple[Phase, ...]

    @property
    def seconds(self) -> float | None:
        """Market time of all phases; None = without end."""
        parts = [phase.seconds for phase in self.phases]
        return None if None in parts else sum(part for part in parts if part is not None)

    def halted(self, phase: Phase, symbols: tuple[str, ...]) -> frozenset[int]:
        """Indices of the symbols that a phase halts. Raises ScenarioError for one the market does not have."""
        if isinstance(phase.halt, int):
            return frozenset(range(min(phase.halt, len(symbols))))
        if phase.halt == ("*",):
            return frozenset(range(len(symbols)))
        for name in phase.halt:
            if name not in symbols:
                place = f"{self.name}: phases[{self.phases.index(phase)}].halt"
                raise ScenarioError(f"{place}: {name!r} is no symbol of this market{_nearest(name, symbols)}")
        return frozenset(symbols.index(name) for name in phase.halt)


def shipped() -> tuple[str, ...]:
    """Names of the scenarios that come with the simulator."""
    return tuple(sorted(path.stem for path in DIRECTORY.glob("*.json")))


def find(name: str) -> Path:
    """The file of a shipped scenario, or the file named. Raises ScenarioError."""
    if name in shipped():
        return DIRECTORY / f"{name}.json"
    path = Path(name)
    if path.is_file():
        return path
    raise ScenarioError(f"{name!r} is no scenario file and none of {', '.join(shipped())}{_nearest(name, shipped())}")


def load(name: str) -> Scenario:
    """Read and check a scenario, named as `find` takes it. Raises ScenarioError."""
    path = find(name)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ScenarioError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    return parse(document, str(path))


def parse(document: Any, file: str) -> Scenario:  # Any: parsed JSON
    """A scenario from its document; `file` stands in messages. Raises ScenarioError."""
    if not isinstance(document, dict):
        raise ScenarioError(f"{file}: must be an object with {', '.join(_TOP)}")
    _known(document, _TOP, file, "")
    listed = document.get("phases")
    if not isinstance(listed, list) or not listed:
        raise ScenarioError(f"{file}: phases: must be a list of at least one phase")
    title = document.get("title", "")
    if not isinstance(title, str):
        raise ScenarioError(f"{file}: title: must be text")
    phases = tuple(_phase(given, file, f"phases[{i}]") for i, given in enumerate(listed))
    for i, phase in enumerate(phases[:-1]):
        if phase.seconds is None:
            raise ScenarioError(f"{file}: phases[{i}].duration: only the last phase may be without one")
    return Scenario(file, title, _start(document.get("start"), file), phases)


def _phase(given: Any, file: str, place: str) -> Phase:  # Any: parsed JSON
    if not isinstance(given, dict):
        raise ScenarioError(f"{file}: {place}: must be an object")
    names = tuple(field.name for field in fields(Phase) if field.name != "seconds")
    _known(given, ("duration", *names), file, f"{place}.")
    values: dict[str, Any] = {}  # Any: checked below, name by name
    for name, value in given.items():
        values["seconds" if name == "duration" else name] = _value(name, value, f"{file}: {place}.{name}")
    return Phase(**values)


def _value(name: str, value: Any, place: str) -> Any:  # Any: parsed JSON, and a field of Phase
    if name == "duration":
        return _seconds(value, place)
    if name == "halt":
        return _halt(value, place)
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            near = _nearest(str(value), _CHOICES[name])
            raise ScenarioError(f"{place}: {value!r} must be one of {', '.join(_CHOICES[name])}{near}")
        return value
    low, high = _LIMITS[name]
    kinds = (int,) if name == "depth" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if kinds == (int,) else "a number"
        raise ScenarioError(f"{place}: {value!r} must be {kind} from {low:g} to {high:g}")
    return value


def _seconds(value: Any, place: str) -> float:  # Any: parsed JSON
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ScenarioError(f"{place}: {value!r} must be a time: 45, 45s, 5m or 1h30m")
    try:
        seconds = durations.seconds(str(value))
    except ValueError as error:
        raise ScenarioError(f"{place}: {error}") from error
    if not 0.01 <= seconds <= 30 * 86_400:
        raise ScenarioError(f"{place}: {value!r} must be from 10ms to 30d")
    return seconds


def _halt(value: Any, place: str) -> tuple[str, ...] | int:  # Any: parsed JSON
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if value == "*":
        return ("*",)
    if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
        return tuple(name.upper() for name in value)
    raise ScenarioError(f'{place}: {value!r} must be a list of symbols, "*" for all, or how many of the first ones')


def _start(value: Any, file: str) -> datetime | None:  # Any: parsed JSON
    if value is None:
        return None
    try:
        start = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        start = None
    if start is None or start.tzinfo is not None or not 1990 <= start.year <= 2099:
        raise ScenarioError(f"{file}: start: {value!r} must be an Eastern wall clock, CCYY-MM-DD HH:MM:SS")
    instant = start.replace(tzinfo=NEW_YORK).astimezone(UTC)
    if instant.astimezone(NEW_YORK).replace(tzinfo=None) != start:
        raise ScenarioError(f"{file}: start: {value!r} is in the hour that the Eastern clock leaves out that night")
    return start


def _known(given: dict[str, Any], names: tuple[str, ...], file: str, place: str) -> None:  # Any: parsed JSON
    for name in given:
        if name not in names:
            raise ScenarioError(f"{file}: {place}{name}: unknown key; known: {', '.join(names)}{_nearest(name, names)}")


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = get_close_matches(name, names, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
