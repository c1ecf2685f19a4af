"""What a simulator can be told to do wrong: names, options with their bounds, and one text form. Standard library only.

    FAULT[,OPTION=VALUE...]        drop,port=level1,how=rst      or with blanks: drop port=level1 how=rst

The same text is a line of the admin port (`S,SIMULATE FEED,` before it), an entry of a script (fault_script.py), and
what `simulate --send` takes. What each does: `help_text`, made from the table below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from config import durations
from infrastructure.simulator.pace import ConfigError

PORTS: Final = ("level1", "level2", "lookup", "admin")
_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    **{name: (name,) for name in PORTS},
    "streams": ("level1", "level2"),
    "all": PORTS,
}
GARBAGE: Final = ("random", "utf8", "http", "telnet", "nul", "fields")
END: Final = "end"


class FaultError(ConfigError):
    """A fault cannot be used; the message names it, the option and what would do."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `kind` is number | whole | seconds | choice | switch | text; `default` None = must be given."""

    name: str
    kind: str
    default: Any  # Any: a value of the kind
    low: float = 0.0
    high: float = 1e9
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> Any:  # Any: a value of the kind
        """The value of a text. Raises ValueError."""
        if self.kind == "text":
            return text
        if self.kind == "switch":
            if text.lower() not in ("on", "off"):
                raise ValueError(f"{text!r} must be on or off")
            return text.lower() == "on"
        if self.kind == "choice":
            if text not in self.choices:
                raise ValueError(f"{text!r} must be one of {', '.join(self.choices)}{_nearest(text, self.choices)}")
            return text
        value = _number(text, self.kind)
        if not self.low <= value <= self.high:
            raise ValueError(f"{text!r} must be from {self.low:g} to {self.high:g}")
        return value

    @property
    def shown(self) -> str:
        """`name=default`."""
        if self.default is None:
            return f"{self.name}=..."
        said = {True: "on", False: "off"}.get(self.default) if self.kind == "switch" else self.default
        return f"{self.name}={said:g}" if isinstance(said, float) else f"{self.name}={said}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One fault."""

    does: str
    options: tuple[Option, ...] = ()


def _port(default: str, choices: tuple[str, ...] = tuple(_GROUPS)) -> Option:
    return Option("port", "choice", default, choices=choices)


def _lasts(seconds: float, low: float = 0.0) -> Option:
    return Option("duration", "seconds", seconds, low, 86_400)


_STREAMS: Final = ("level1", "level2", "streams")
KINDS: Final[dict[str, Kind]] = {
    "drop": Kind(
        "Close the connections: fin, rst, or mid = in the middle of the next line.",
        (_port("streams"), Option("how", "choice", "fin", choices=("fin", "rst", "mid"))),
    ),
    "half_open": Kind(
        "Say nothing more and read nothing more, sockets stay; at the end they are closed. new=on: new clients too.",
        (_port("streams"), _lasts(60), Option("new", "switch", False)),
    ),
    "refuse": Kind(
        "Stop listening. drop=on: close the connections too.",
        (_port("streams"), _lasts(5, 0.01), Option("drop", "switch", True)),
    ),
    "slow": Kind(
        "Send so many bytes a second; what is not sent waits, as KB queued in S,CLIENTSTATS.",
        (_port("streams"), Option("bytes_per_second", "number", 1.0, 0.1, 1e9), _lasts(10)),
    ),
    "slice": Kind(
        "Send in pieces of least to most bytes, one per turn: lines are cut anywhere.",
        (_port("streams"), Option("least", "whole", 1, 1, 65536), Option("most", "whole", 7, 1, 65536), _lasts(10)),
    ),
    "endless": Kind(
        "One line of so many MiB, then its line end.",
        (_port("streams"), Option("mib", "number", 1.0, 0.001, 4096)),
    ),
    "garbage": Kind(
        "Lines that are none of this protocol, between the others: bursts of `lines`, one each `every` seconds."
        " duration=0: one burst.",
        (
            _port("streams"),
            Option("kind", "choice", "random", choices=GARBAGE),
            Option("lines", "whole", 20, 1, 100_000),
            Option("every", "seconds", 0.1, 0.001, 3600),
            _lasts(0),
        ),
    ),
    "duplicate": Kind(
        "Send a share of the live market lines a second time, `lag` lines later.",
        (_port("level1", _STREAMS), Option("share", "number", 0.1, 0, 1), Option("lag", "whole", 0, 0, 100_000),
         _lasts(10)),
    ),
    "reorder": Kind(
        "Mix the order of live market lines within windows of so many; a window waits a second at most.",
        (_port("level1", _STREAMS), Option("window", "whole", 1000, 2, 100_000), _lasts(10)),
    ),
    "skip": Kind(
        "Leave out a share of the live market lines (of one symbol: symbol=A); Total Volume goes on and tells.",
        (_port("level1", _STREAMS), Option("share", "number", 0.05, 0, 1), Option("symbol", "text", ""), _lasts(10)),
    ),
    "clock": Kind(
        "T is wrong by so many seconds, and right again at the end.",
        (_port("streams", _STREAMS), Option("seconds", "number", 3600.0, -1e8, 1e8), _lasts(10)),
    ),
    "upstream": Kind(
        "The link to the data source is lost, for all ports, and comes back at the end.",
        (_lasts(5),),
    ),
    "symbol_limit": Kind(
        "The account may watch so many symbols; what is watched stays.",
        (Option("symbols", "whole", 1, 1, 1e6), _lasts(0)),
    ),
    "silence": Kind(
        "Nothing more of one symbol on a port, without a word. duration=0: until it is watched anew; else for so long,"
        " watched anew or not.",
        (_port("level2", ("level1", "level2")), Option("symbol", "text", None), _lasts(0)),
    ),
    "slow_history": Kind(
        "Answers of the Lookup port begin so many seconds late, and wait before each further batch.",
        (
            Option("seconds", "number", 3.0, 0, 3600),
            Option("batch_seconds", "number", 0.0, 0, 3600),
            _lasts(30),
        ),
    ),
    "history_holes": Kind(
        "History has no trades in a span of the Eastern clock: HHMMSS-HHMMSS or CCYYMMDD HHMMSS-CCYYMMDD HHMMSS.",
        (Option("span", "text", None), _lasts(0)),
    ),
    END: Kind(
        "End what goes on: all of it, or the faults of one name.",
        (Option("fault", "text", ""),),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """A checked fault. `values` holds every option of its kind; times in seconds, 0 = until it is ended."""

    name: str
    values: Mapping[str, Any]  # Any: see Option.read

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports it is about; none where it has no port."""
        return _GROUPS[self.values["port"]] if "port" in self.values else ()

    @property
    def seconds(self) -> float:
        """How long it lasts; 0 = until it is ended, or at once."""
        return float(self.values.get("duration", 0.0))

    def __str__(self) -> str:
        said = [f"{name}={_said(value)}" for name, value in self.values.items() if value != ""]
        return ",".join([self.name, *said])


def parse(text: str) -> Fault:
    """Read the text form. Raises FaultError."""
    parts = [part.strip() for part in (text.split(",") if "," in text else text.split())]
    name, *settings = [part for part in parts if part] or [""]
    kind = KINDS.get(name)
    if kind is None:
        raise FaultError(f"{name!r} is no fault; known: {', '.join(KINDS)}{_nearest(name, tuple(KINDS))}")
    values = {option.name: option.default for option in kind.options}
    options = {option.name: option for option in kind.options}
    for setting in settings:
        key, _, given = setting.partition("=")
        option = options.get(key.strip())
        if option is None:
            known = ", ".join(options) or "none"
            raise FaultError(f"{name}: {key!r} is no option; known: {known}{_nearest(key, tuple(options))}")
        try:
            values[option.name] = option.read(given.strip())
        except ValueError as error:
            raise FaultError(f"{name}: {option.name}: {error}") from error
    for option in kind.options:
        if values[option.name] is None or (option.default is None and values[option.name] == ""):
            raise FaultError(f"{name}: {option.name} must be given")
    if name == "slice" and values["least"] > values["most"]:
        raise FaultError(f"slice: least is {values['least']}, more than most, {values['most']}")
    if name == END and values["fault"] and values["fault"] not in KINDS:
        raise FaultError(f"end: {values['fault']!r} is no fault{_nearest(values['fault'], tuple(KINDS))}")
    return Fault(name, values)


def help_text() -> str:
    """All faults with their options and defaults."""
    lines = []
    for name, kind in KINDS.items():
        lines.append(" ".join([name, *(option.shown for option in kind.options)]))
        lines.append(f"    {kind.does}")
        choices = [f"{o.name}: {', '.join(o.choices)}" for o in kind.options if o.choices]
        lines += [f"    {choice}" for choice in choices]
    return "\n".join(lines)


def _number(text: str, kind: str) -> float | int:
    if kind == "seconds":
        return durations.seconds(text)
    try:
        return int(text) if kind == "whole" else float(text)
    except ValueError:
        raise ValueError(f"{text!r} must be a {'whole ' if kind == 'whole' else ''}number") from None


def _said(value: Any) -> str:  # Any: a value of an option
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = get_close_matches(name, names, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
