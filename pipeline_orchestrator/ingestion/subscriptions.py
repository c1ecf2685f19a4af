"""Wanted symbols apart from what a connection really watches, and the commands that bring both together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline_orchestrator.ingestion.account import Account
from pipeline_orchestrator.ingestion.dialects import DIALECTS, NEWEST

CRLF = b"\r\n"
LIMIT, BEYOND, UNKNOWN, NO_DEPTH = "limit", "beyond limit", "unknown", "no depth"  # why a symbol is not served
LEVELS, ORDERS = "levels", "orders"  # forms of depth, as the settings name them


def set_protocol(version: str) -> bytes:
    """First command on every socket."""
    return b"S,SET PROTOCOL," + version.encode("ascii") + CRLF


def set_client_name(name: str) -> bytes:
    """Shows in the client statistics of IQConnect; has no answer."""
    return b"S,SET CLIENT NAME," + name.encode("ascii", "replace") + CRLF


def ask_names() -> bytes:
    """Asks for the names of all Level 1 fields."""
    return b"S,REQUEST ALL UPDATE FIELDNAMES" + CRLF


def select_fields(names: Sequence[str]) -> bytes:
    """Asks for a Level 1 layout; `names` never holds Symbol."""
    return b"S,SELECT UPDATE FIELDS," + ",".join(names).encode("ascii") + CRLF


def ask_news() -> bytes:
    """Asks for headlines as they come."""
    return b"S,NEWSON" + CRLF


def ask_clock() -> bytes:
    """Asks for one T line."""
    return b"T" + CRLF


class Subscriptions:
    """The watches of one connection.

    `wanted` is what the settings ask for, `withheld` the part of it that another instance has not let go of yet;
    `refused` maps a symbol to why it is not served: the feed knows none such (UNKNOWN), refused its watch (LIMIT), or
    was not asked since it lies beyond the account's limit (BEYOND). `without_depth` are those watched without any
    depth now.
    `news` and `regional`: headlines, and quotes per market center of each symbol, are wanted (Level 1 only).
    On Level 2 a symbol's form is `forms[symbol]`, else `depth`: WPL for levels, WOR for orders.
    """

    def __init__(
        self,
        connection: str,
        wanted: Iterable[str],
        depth_levels: int = 0,
        depth: str = LEVELS,
        forms: Mapping[str, str] | None = None,
        *,
        account: Account | None = None,
        protocol: str = NEWEST,
        news: bool = False,
        regional: bool = False,
    ) -> None:
        self.connection, self.depth_levels = connection, depth_levels
        self.depth, self.forms = depth, dict(forms or {})
        self._one_letter = connection == "level1" or DIALECTS[protocol].depth_by_participant
        self.wanted = tuple(dict.fromkeys(wanted))
        self.wanted_set = frozenset(self.wanted)
        self.withheld: frozenset[str] = frozenset()
        self.watched: set[str] = set()
        self.refused: dict[str, str] = {}
        self.without_depth: set[str] = set()
        self.account = account or Account(self.wanted)
        self.news, self.regional = news and connection == "level1", regional and connection == "level1"

    @property
    def limit(self) -> int | None:
        """Symbols that the account may watch, over all connections; None = not told."""
        return self.account.limit

    def may_watch(self, symbol: str) -> bool:
        """Whether a symbol is to be asked for; one beyond the account's limit counts as refused from here on."""
        if self.account.allows(symbol):
            return True
        self.watched.discard(symbol)
        self.refuse(symbol, BEYOND)
        return False

    @property
    def actual(self) -> int:
        """Symbols watched and not refused."""
        return len(self.watched - self.refused.keys())

    def forget(self) -> None:
        """The connection is gone, and with it every watch."""
        self.watched.clear()
        self.refused.clear()
        self.without_depth.clear()

    def watch(self, symbol: str) -> bytes:
        """Command that watches a symbol; watching again is harmless."""
        self.watched.add(symbol)
        self.refused.pop(symbol, None)
        name = symbol.encode("ascii", "replace")
        if self._one_letter:
            return b"w" + name + CRLF + (b"S,REGON," + name + CRLF if self.regional else b"")
        if self.form(symbol) == ORDERS:
            return b"WOR," + name + CRLF
        levels = b",%d" % self.depth_levels if self.depth_levels else b""
        return b"WPL," + name + levels + CRLF

    def unwatch(self, symbol: str) -> bytes:
        """Command that ends a watch."""
        self.watched.discard(symbol)
        name = symbol.encode("ascii", "replace")
        if self._one_letter:
            return b"r" + name + CRLF
        return (b"ROR," if self.form(symbol) == ORDERS else b"RPL,") + name + CRLF

    def form(self, symbol: str) -> str:
        """Form of a symbol's depth where the protocol has two: levels | orders."""
        return self.forms.get(symbol, self.depth)

    def refuse(self, symbol: str, why: str) -> bool:
        """The feed does not serve a symbol; True where that is news."""
        if symbol not in self.wanted_set or self.refused.get(symbol) == why:
            return False
        self.refused[symbol] = why
        return True
