"""Reference tables of the Lookup port and its symbol search: the ids that the simulator's lines hold, no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from infrastructure.simulator.lookup_behaviour import ERRORS

EQUITY: Final = 1
NASDAQ: Final = 5

# Market: id, short name, long name, group id, group name (the group is left out of the oldest dialect).
_MARKETS: Final = (
    (5, "NASDAQ", "Nasdaq stock market", 5, "NASDAQ"),
    (7, "NYSE", "New York exchange", 7, "NYSE"),
    (11, "NYSE_ARCA", "Arca, the electronic exchange of New York", 7, "NYSE"),
    (18, "BATS", "Cboe BZX exchange", 18, "BATS"),
    (19, "NTRF", "Reports of trades off exchange to Nasdaq", 5, "NASDAQ"),
    (26, "EDGX", "Cboe EDGX exchange", 18, "BATS"),
)
_TABLES: Final[dict[str, tuple[tuple[object, ...], ...]]] = {
    "STC": (
        (1, "REGULAR", "An ordinary trade"),
        (23, "FORM_T", "Before or after the session"),
        (61, "SWEEP", "Sweep over several markets"),
        (135, "ODDLOT", "Less than a round lot"),
    ),
    "SST": ((1, "EQUITY", "Stock"), (8, "FUTURE", "Futures contract")),
    # Industry codes have one name, which may hold commas.
    "SSC": ((3571, "ELECTRONIC COMPUTERS"), (7372, "SOFTWARE, PREPACKAGED")),
    "SNC": ((334111, "Electronic Computer Manufacturing"), (513210, "Software, Publishers Of")),
}
COMMANDS: Final = frozenset({"SLM", *_TABLES})


def table_rows(command: str, *, groups: bool) -> list[str]:
    """Rows of a table of COMMANDS, each field followed by a comma; `groups`: the newer form of SLM."""
    if command == "SLM":
        return [_row(row if groups else row[:3]) for row in _MARKETS]
    return [_row(row) for row in _TABLES[command]]


def description(symbol: str) -> str:
    """The name a search shows; it holds a comma, as real ones may."""
    return f"{symbol} SIMULATED, INC"


def search(fields: Sequence[str], symbols: Sequence[str]) -> list[str]:
    """Rows of an SBF request: field to search (s symbol, d description), text, filter (e market, t type), its ids.

    The text is found anywhere, in either case; ids are separated by blanks. Raises ValueError with the error's text.
    """
    where, text, by, ids = (field.strip() for field in [*fields[:4], *[""] * (4 - len(fields[:4]))])
    if where.lower() not in ("s", "d") or by.lower() not in ("", "e", "t") or not text:
        raise ValueError(ERRORS["syntax"])
    if not all(part.isascii() and part.isdigit() for part in ids.split()):
        raise ValueError(ERRORS["syntax"])
    wanted = {int(part) for part in ids.split()}
    own = {"e": NASDAQ, "t": EQUITY}.get(by.lower())
    if own is not None and wanted and own not in wanted:
        return []
    text = text.upper()
    return [
        _row((symbol, NASDAQ, EQUITY, description(symbol)))
        for symbol in symbols
        if text in (symbol if where.lower() == "s" else description(symbol))
    ]


def _row(values: Sequence[object]) -> str:
    return "".join(f"{value}," for value in values)
