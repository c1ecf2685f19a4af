"""Scenarios: JSON files that say how a generated market behaves, phase after phase. Standard library only.

    {"title": "...", "start": "2024-03-07 09:28:00", "phases": [{"duration": "2m", "rate": 400, "spread": 3}, ...]}

`start` is the Eastern wall clock at the first phase (in the hour that November repeats: its first pass); without it the
market starts now. What a phase does not say has the default of `Phase`. Only the last phase may leave `duration` out:
it lasts until somebody ends it. All faults of a file are told at once, each with its place and the nearest known name.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, fields
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
    """A scenario cannot be used; the message names the file, and of every fault the place and what would do."""


class _Object(dict[str, Any]):  # Any: parsed JSON
    """A JSON object that knows which of its keys stand there more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        count = Counter(name for name, _ in pairs)
        self.twice = frozenset(name for name in count if count[name] > 1)


@dataclass(slots=True)
class _Faults:
    """Collects the faults of one file, in the order in which they are found."""

    file: str
    found: list[str] = field(default_factory=list)

    def add(self, place: str, why: str) -> None:
        self.found.append(f"{place}: {why}" if place else why)

    def check(self) -> None:
        """Raises ScenarioError where any was found."""
        if len(self.found) == 1:
            raise ScenarioError(f"{self.file}: {self.found[0]}")
        if self.found:
            raise ScenarioError("\n  ".join([f"{self.file}: {len(self.found)} faults:", *self.found]))


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

    def halts(self, symbols: tuple[str, ...]) -> list[frozenset[int]]:
        """Per phase the indices of the symbols it halts. Raises ScenarioError for symbols the market does not have."""
        faults = _Faults(self.name)
        found = []
        for number, phase in enumerate(self.phases):
            place = f"phases[{number}].halt"
            if isinstance(phase.halt, int):
                if phase.halt > len(symbols):
                    faults.add(place, f"{phase.halt} is more than the {len(symbols)} symbols of this market")
                found.append(frozenset(range(min(phase.halt, len(symbols)))))
                continue
            named = symbols if phase.halt == ("*",) else phase.halt
            for name in named:
                if name not in symbols:
                    faults.add(place, f"{name!r} is no symbol of this market{_nearest(name, symbols)}")
            found.append(frozenset(symbols.index(name) for name in named if name in symbols))
        faults.check()
        return found


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
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        raise ScenarioError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    except RecursionError as error:
        raise ScenarioError(f"{path}: not usable: nested too deeply") from error
    except ValueError as error:  # a number of more digits than Python converts
        raise ScenarioError(f"{path}: not usable: {error}") from error
    return parse(document, str(path))


def parse(document: Any, file: str) -> Scenario:  # Any: parsed JSON
    """A scenario from its document; `file` stands in messages. Raises ScenarioError with all its faults."""
    faults = _Faults(file)
    if not isinstance(document, dict):
        raise ScenarioError(f"{file}: must be an object with {', '.join(_TOP)}")
    _known(document, _TOP, faults, "")
    title = document.get("title", "")
    if not isinstance(title, str):
        faults.add("title", "must be text")
    start = _start(document.get("start"), faults)
    listed = document.get("phases")
    if not isinstance(listed, list) or not listed:
        faults.add("phases", "must be a list of at least one phase")
        listed = []
    phases = tuple(_phase(given, faults, f"phases[{i}]", last=i == len(listed) - 1) for i, given in enumerate(listed))
    faults.check()
    return Scenario(file, title, start, phases)


def _phase(given: Any, faults: _Faults, place: str, *, last: bool) -> Phase:  # Any: parsed JSON
    if not isinstance(given, dict):
        faults.add(place, "must be an object")
        return Phase()
    names = ("duration", *(known.name for known in fields(Phase) if known.name != "seconds"))
    _known(given, names, faults, f"{place}.")
    if "duration" not in given and not last:
        faults.add(f"{place}.duration", "only the last phase may be without one")
    values: dict[str, Any] = {}  # Any: checked below, name by name
    for name, value in given.items():
        if name not in names:
            continue
        try:
            values["seconds" if name == "duration" else name] = _value(name, value)
        except ValueError as error:
            faults.add(f"{place}.{name}", str(error))
    return Phase(**values)


def _value(name: str, value: Any) -> Any:  # Any: parsed JSON, and a field of Phase
    """Raises ValueError, which says what would do."""
    if name == "duration":
        return _seconds(value)
    if name == "halt":
        return _halt(value)
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            near = _nearest(str(value), _CHOICES[name])
            raise ValueError(f"{value!r} must be one of {', '.join(_CHOICES[name])}{near}")
        return value
    low, high = _LIMITS[name]
    kinds = (int,) if name == "depth" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "a whole number" if kinds == (int,) else "a number"
        raise ValueError(f"{value!r} must be {kind} from {low:g} to {high:g}")
    return value


def _seconds(value: Any) -> float:  # Any: parsed JSON
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} must be a time: 45, 45s, 5m or 1h30m")
    seconds = durations.seconds(str(value))
    if not 0.01 <= seconds <= 30 * 86_400:
        raise ValueError(f"{value!r} must be from 10ms to 30d")
    return seconds


def _halt(value: Any) -> tuple[str, ...] | int:  # Any: parsed JSON
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if value == "*":
        return ("*",)
    if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
        return tuple(name.upper() for name in value)
    raise ValueError(f'{value!r} must be a list of symbols, "*" for all, or how many of the first ones')


def _start(value: Any, faults: _Faults) -> datetime | None:  # Any: parsed JSON
    if value is None:
        return None
    try:
        start = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        start = None
    if start is None or start.tzinfo is not None or not 1990 <= start.year <= 2099:
        faults.add("start", f"{value!r} must be an Eastern wall clock, CCYY-MM-DD HH:MM:SS")
        return None
    instant = start.replace(tzinfo=NEW_YORK).astimezone(UTC)
    if instant.astimezone(NEW_YORK).replace(tzinfo=None) != start:
        faults.add("start", f"{value!r} is in the hour that the Eastern clock leaves out that night")
    return start


def _known(given: dict[str, Any], names: tuple[str, ...], faults: _Faults, place: str) -> None:  # Any: parsed JSON
    for name in given:
        if name not in names:
            faults.add(f"{place}{name}", f"unknown key; known: {', '.join(names)}{_nearest(name, names)}")
        if isinstance(given, _Object) and name in given.twice:
            faults.add(f"{place}{name}", "stands there twice")


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = get_close_matches(name, names, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
