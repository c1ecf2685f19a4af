"""What a simulator is made of, as plain values: for the command line and for the supervised component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from infrastructure.simulator import fault_script, lobster_files, scenario
from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.listeners import Port
from infrastructure.simulator.lookup_behaviour import LookupBehaviour
from infrastructure.simulator.market import Market
from infrastructure.simulator.pace import ConfigError, parse_rate, parse_speed
from infrastructure.simulator.recorded_market import RecordedMarket
from infrastructure.simulator.recorded_sessions import recorded_ports
from infrastructure.simulator.recording_sources import is_recording
from infrastructure.simulator.replay import ReplayMarket
from infrastructure.simulator.scenario_market import ScenarioMarket
from infrastructure.simulator.server import admin_port, level1_port, level2_port, lookup_port

BEHAVIOUR = ("symbol_limit", "corrections", "no_depth", "clear_depth_seconds")  # of Behaviour, in a configuration


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """`rate` in market lines per second, None = as fast as the sockets take, 0 = idle; ports 0 = any free one.

    `replay` names LOBSTER message files, or one recording or spool of the product, and replaces the generated
    market; so does `scenario`, a shipped name or a file, whose phases take the place of `rate` and `lines`. `speed` =
    market seconds per second of both, None = as fast as the sockets take. `hold` None = 1 for a replay and for an
    unpaced flow, else 0.
    """

    host: str = "127.0.0.1"
    level1_port: int = 5009
    level2_port: int = 9200
    lookup_port: int = 9100
    admin_port: int = 9300
    symbols: tuple[str, ...] = ()
    rate: float | None = 1000.0
    seed: int = 1
    lines: int | None = None
    replay: tuple[str, ...] = ()
    scenario: str = ""
    speed: float | None = 1.0
    depth: str = "levels"  # of a replay: levels | orders (orders are kept beside the levels)
    hold: int | None = None
    sent_log: str = ""
    faults: str = ""  # a script: fault_script.py
    first_tick_id: int = 1
    behaviour: Behaviour = field(default_factory=Behaviour)

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> SimulatorConfig:  # Any: parsed JSON
        """From a component's JSON config. Raises ConfigError for an unknown key.

        Keys are the fields of this class (`behaviour` excepted, `rate` and `speed` also as text), those of BEHAVIOUR,
        and `lookup`: values of LookupBehaviour by name. Where `settings` is given, its `iqfeed` section and `symbols`
        are the defaults of host, ports and symbols. A replay or scenario is held for two connections unless told
        otherwise: a pipeline reads both ports, and neither may miss the first rows.
        """
        settings = given.get("settings") or {}
        iqfeed = settings.get("iqfeed") or {}
        base = cls()
        base = replace(
            base,
            host=iqfeed.get("host", base.host),
            level1_port=iqfeed.get("level1_port", base.level1_port),
            level2_port=iqfeed.get("port", base.level2_port),
            lookup_port=iqfeed.get("lookup_port", base.lookup_port),
            admin_port=iqfeed.get("admin_port", base.admin_port),
            symbols=tuple(settings.get("symbols", ())),
        )
        values = {key: value for key, value in given.items() if key not in ("settings", "instance", "state_dir")}
        known = {"lookup", *BEHAVIOUR, *cls.__dataclass_fields__} - {"behaviour"}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
        for key, read in (("rate", parse_rate), ("speed", parse_speed)):
            if isinstance(values.get(key), str):
                values[key] = read(values[key])
        for key in ("symbols", "replay"):
            if key in values:
                values[key] = tuple(str(item) for item in values[key] or ())
        for key in ("sent_log", "faults"):
            if values.get(key, "") is None:
                values[key] = ""
        if values.get("depth", "levels") not in ("levels", "orders"):
            raise ConfigError(f"depth is {values['depth']!r}, must be levels or orders")
        if values.get("replay") or values.get("scenario"):
            values.setdefault("hold", 2)
        said = {key: values.pop(key) for key in BEHAVIOUR if key in values}
        values["behaviour"] = replace(base.behaviour, **parse_behaviour(said))
        if (lookup := values.pop("lookup", None)) is not None:
            values["behaviour"] = replace(values["behaviour"], lookup=parse_lookup(lookup))
        return replace(base, **values)

    def script(self) -> fault_script.Script:
        """The faults to come. Raises ConfigError naming the file and the line."""
        return fault_script.load(Path(self.faults)) if self.faults else ()

    @property
    def held(self) -> int:
        """Connections that must watch before the flow starts."""
        unpaced = self.speed is None if self.replay or self.scenario else self.rate is None
        if self.hold is None:
            return 1 if self.replay or unpaced else 0
        return max(self.hold, 1) if unpaced else self.hold

    def ports(self) -> list[Port]:
        """The ports to open."""
        if self.recording is not None:
            return [
                *recorded_ports(self.level1_port, self.level2_port),
                lookup_port(self.lookup_port),
                admin_port(self.admin_port),
            ]
        return [
            level1_port(self.level1_port),
            level2_port(self.level2_port),
            lookup_port(self.lookup_port),
            admin_port(self.admin_port),
        ]

    @property
    def recording(self) -> Path | None:
        """The recording that is played. Raises ConfigError, OSError."""
        found = [Path(name) for name in self.replay if is_recording(Path(name))]
        if found and len(self.replay) > 1:
            raise ConfigError(f"{found[0]} is a recording: it is played alone, not beside other files")
        return found[0] if found else None

    def market(self, start: datetime | None = None) -> Market:
        """The market; reads the files it needs. Raises ConfigError, LobsterError, RecordingError, OSError.

        `start` (Eastern wall clock) is where a scenario begins that does not say it itself; None = now.
        """
        if self.replay and self.scenario:
            raise ConfigError("a replay has no scenario: one of the two")
        if (recording := self.recording) is not None:
            return RecordedMarket(recording, speed=self.speed)
        if self.replay:
            days = [lobster_files.load(Path(name)) for name in self.replay]
            return ReplayMarket(days, speed=self.speed, by_order=self.depth == "orders")
        if not self.symbols:
            raise ConfigError("no symbols")
        if self.scenario:
            played = scenario.load(self.scenario)
            return ScenarioMarket(
                replace(played, start=played.start or start), self.symbols, seed=self.seed, speed=self.speed,
                first_tick_id=self.first_tick_id,
            )  # fmt: skip
        return GeneratedMarket(
            self.symbols, rate=self.rate, seed=self.seed, limit=self.lines, first_tick_id=self.first_tick_id
        )


def parse_behaviour(given: Mapping[str, Any]) -> dict[str, Any]:  # Any: parsed JSON; fields of Behaviour
    """Some fields of Behaviour, by the names of BEHAVIOUR. Raises ConfigError for one of another kind."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key == "no_depth":
            found[key] = frozenset(str(name) for name in value)
            continue
        kind = int if key == "symbol_limit" else int | float
        if isinstance(value, bool) or not isinstance(value, kind) or not 0 <= value < float("inf"):
            raise ConfigError(f"{key} is {value!r}, must be a number, 0 or more")
        found[key] = value
    if found.get("corrections", 0) > 1:
        raise ConfigError(f"corrections is {found['corrections']!r}, must be a share, at most 1")
    return found


def parse_lookup(given: Mapping[str, Any]) -> LookupBehaviour:  # Any: values, or their text
    """How the Lookup port behaves. Raises ConfigError."""
    try:
        return LookupBehaviour.from_mapping(given)
    except ValueError as error:
        raise ConfigError(f"lookup: {error}") from error


def make_symbols(count: int, first: Sequence[str] = ()) -> tuple[str, ...]:
    """`count` distinct symbols: the given ones, then made-up ones of four letters and more."""
    symbols = list(dict.fromkeys(first))[:count]
    taken = set(symbols)
    number = 0
    while len(symbols) < count:
        name, rest = "", number
        for _ in range(3):
            name = chr(65 + rest % 26) + name
            rest //= 26
        name = "Z" + name + (str(rest) if rest else "")
        number += 1
        if name not in taken:
            symbols.append(name)
    return tuple(symbols)
