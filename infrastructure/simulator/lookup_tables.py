"""Reference tables of the Lookup port and its symbol searches: the ids that the simulator's lines hold, no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from infrastructure.simulator.lookup_behaviour import ERRORS

EQUITY, FUTURE = 1, 8  # security types
NASDAQ, CME = 5, 34  # listed markets

# Market: id, short name, long name, group id, group name (the group is left out of the oldest dialect). Clients cut
# these rows at every comma, and no recorded name of a market holds one.
_MARKETS: Final = (
    (5, "NASDAQ", "Nasdaq stock market", 5, "NASDAQ"),
    (7, "NYSE", "New York exchange", 7, "NYSE"),
    (11, "NYSE_ARCA", "Arca (the electronic exchange of New York)", 7, "NYSE"),
    (18, "BATS", "Cboe BZX exchange", 18, "BATS"),
    (19, "NTRF", "Reports of trades off exchange to Nasdaq", 5, "NASDAQ"),
    (26, "EDGX", "Cboe EDGX exchange", 18, "BATS"),
    (34, "CME", "Chicago futures exchange", 34, "CME"),
)
_TABLES: Final[dict[str, tuple[tuple[object, ...], ...]]] = {
    "STC": (
        (1, "REGULAR", "An ordinary trade"),
        (23, "FORM_T", "Before or after the session"),
        (61, "SWEEP", "Sweep over several markets"),
        (135, "ODDLOT", "Less than a round lot"),
    ),
    "SST": ((EQUITY, "EQUITY", "Stock"), (FUTURE, "FUTURE", "Futures contract")),
    # Industry codes have one name, which may hold commas.
    "SSC": ((3571, "ELECTRONIC COMPUTERS"), (7372, "SOFTWARE, PREPACKAGED")),
    "SNC": ((334111, "Electronic Computer Manufacturing"), (513210, "Software, Publishers Of")),
}
COMMANDS: Final = frozenset({"SLM", *_TABLES})
INDUSTRIES: Final = {"SBS": 7372, "SBN": 513210}  # searches by SIC and NAICS code: the one that every company has
_LEAST_DIGITS: Final = 2


def table_rows(command: str, *, groups: bool) -> list[str]:
    """Rows of a table of COMMANDS, each field followed by a comma; `groups`: the newer form of SLM."""
    if command == "SLM":
        return [_row(row if groups else row[:3]) for row in _MARKETS]
    return [_row(row) for row in _TABLES[command]]


def kind_of(symbol: str) -> tuple[int, int]:
    """(listed market, security type): a symbol that begins with `@` is a future."""
    return (CME, FUTURE) if symbol.startswith("@") else (NASDAQ, EQUITY)


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
    place = {"e": 0, "t": 1}.get(by.lower())
    text = text.upper()
    return [
        _row((symbol, *kind_of(symbol), description(symbol)))
        for symbol in symbols
        if text in (symbol if where.lower() == "s" else description(symbol))
        and (place is None or not wanted or kind_of(symbol)[place] in wanted)
    ]


def of_industry(command: str, code: str, symbols: Sequence[str]) -> list[str]:
    """Rows of SBS or SBN: a code, or at least its first two digits. Raises ValueError with the error's text."""
    code, own = code.strip(), INDUSTRIES[command]
    if len(code) < _LEAST_DIGITS or not (code.isascii() and code.isdigit()):
        raise ValueError(ERRORS["syntax"])
    if not str(own).startswith(code):
        return []
    companies = [symbol for symbol in symbols if kind_of(symbol)[1] == EQUITY]
    return [_row((own, symbol, *kind_of(symbol), description(symbol))) for symbol in companies]


def _row(values: Sequence[object]) -> str:
    return "".join(f"{value}," for value in values)
