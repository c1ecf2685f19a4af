"""What all connections share: the market, the link to the data source, the account, and who watches what."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np

from infrastructure.simulator import render
from infrastructure.simulator.history_market import MarketHistory
from infrastructure.simulator.lookup_behaviour import LookupBehaviour
from infrastructure.simulator.lookup_credits import Credits
from infrastructure.simulator.market import Int64s, Market, Names
from infrastructure.simulator.summaries import Summaries
from infrastructure.simulator.window import Window

if TYPE_CHECKING:
    from infrastructure.simulator.session import Session

VERSION: Final = "6.2.0.25"
PROTOCOL: Final = "6.2"
PROTOCOLS: Final = ("6.2", "6.1", "6.0", "5.2", "5.1", "5.0")  # those that are spoken
MOST_LEVELS: Final = 40


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the server behaves where recordings of real ones differ or show nothing.

    `queue_limit`: bytes a client may leave unread before it is closed. `symbol_limit`: distinct symbols of the
    account; 0 = the larger of 500 and the market's. `no_depth`: symbols known on Level 1 only (`q` on Level 2).
    """

    queue_limit: int = 64 << 20
    stall_seconds: float = 30.0  # unpaced flow only: a client that takes nothing for so long is closed
    symbol_limit: int = 0
    no_depth: frozenset[str] = frozenset()
    refuse_symbol_in_select: bool = False  # a SELECT list naming Symbol is ignored
    newest_protocol: str = PROTOCOL  # of the client program: asked for a newer or unknown one, it answers with this
    answer_protocol: str = ""  # answers, and speaks, this whatever was asked for; "" = what was asked for
    ack_comma: bool = True  # S,CURRENT PROTOCOL ends in a comma
    watches_survive: bool = True  # a loss of the upstream link
    clear_depth: bool = False  # send S,CLEAR DEPTH before the rows after a reconnect
    corrections: float = 0.0  # share of trades that are corrected a few seconds later
    lookup: LookupBehaviour = field(default_factory=LookupBehaviour)
    clear_depth_seconds: float = 0.0  # clear and resend every watched book each so many seconds; 0 = never
    old_depth_watch: bool = True  # w<SYM>, r<SYM> work beside WOR and WPL
    empty_delete_time: bool = False  # a participant's 5 carries no time
    summary_at_day_roll: bool = True  # a new P for every watch once the market's date is another one


class Scratch:
    """Buffers that one rendering call fills and one send call empties; shared by all connections."""

    def __init__(self) -> None:
        self.out: render.Bytes = np.zeros(1 << 20, dtype=np.uint8)
        self.ends, self.symbols, self.sources = (np.zeros(1 << 14, dtype=np.int64) for _ in range(3))


@dataclass(slots=True)
class Login:
    """What the admin port was told; nothing is checked."""

    login_id: str = "DEMO0001"
    save: bool = False
    autoconnect: bool = True


@dataclass(slots=True)
class Feed:
    """See the module's docstring. One per server."""

    market: Market
    behaviour: Behaviour = field(default_factory=Behaviour)
    connected: bool = True
    reconnections: int = 0
    sessions: list[Session] = field(default_factory=list)
    login: Login = field(default_factory=Login)
    scratch: Scratch = field(default_factory=Scratch)
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())
    misbehave: Callable[[str], None] = lambda text: None  # begin a fault (fault_kinds.py); raises ConfigError
    watched_ns: int = 0  # monotonic time of the newest watch command
    history_requests: int = 0  # taken so far, over all connections
    history: MarketHistory = field(init=False)
    credits: Credits = field(init=False)
    summaries: Summaries = field(init=False)
    _windows: dict[int, Window] = field(default_factory=dict)
    _cuts: dict[int, Int64s] = field(default_factory=dict)
    _watches: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.summaries = Summaries(self.market)
        self.history = MarketHistory(len(self.names.symbols), self.behaviour.lookup.history_bytes)
        self.credits = Credits(self.behaviour.lookup.requests_per_second)

    @property
    def names(self) -> Names:
        """The market's symbols."""
        return self.market.names

    @property
    def symbol_limit(self) -> int:
        """Symbols the account may watch at a time."""
        return self.behaviour.symbol_limit or max(500, len(self.names.symbols))

    @property
    def symbols_watched(self) -> int:
        """Distinct symbols, over all clients and both ports."""
        return len(self._watches)

    def take_watch(self, symbol: int) -> bool:
        """A connection begins to watch a symbol; False when the account's limit is reached."""
        if symbol not in self._watches and len(self._watches) >= self.symbol_limit:
            return False
        self._watches[symbol] += 1
        self.watched_ns = time.monotonic_ns()
        return True

    def drop_watch(self, symbol: int) -> None:
        """A connection no longer watches a symbol."""
        self._watches[symbol] -= 1
        if self._watches[symbol] <= 0:
            del self._watches[symbol]

    def levels(self, asked: int) -> int:
        """The number of levels a watch gets: 0 = all the market keeps."""
        clamped = min(max(asked, 1), MOST_LEVELS) if asked else 0
        return 0 if clamped >= self.market.books.price.shape[2] else clamped

    def open_window(self, levels: int) -> None:
        """Make sure that depth cut to `levels` can be had from the next batch on."""
        if levels and levels not in self._windows:
            self._windows[levels] = Window(self.market, levels)

    def cut_windows(self, level2: Int64s, reset: Sequence[int] = ()) -> None:
        """Bring every window up to a new batch; once per batch, before any session gets it."""
        self._cuts = {levels: window.cut(level2) for levels, window in self._windows.items()}
        for window in self._windows.values():
            for symbol in reset:
                window.reset(symbol)

    def depth_rows(self, level2: Int64s, levels: int) -> Int64s:
        """The depth rows of the newest batch cut to `levels`."""
        return self._cuts[levels] if levels else level2

    def set_lookup(self, given: Mapping[str, str]) -> None:
        """Change limits and faults of the Lookup port from the next request on. Raises ValueError."""
        if "history_bytes" in given:
            raise ValueError("history_bytes can be set at the start only")
        lookup = LookupBehaviour.from_mapping(given, self.behaviour.lookup)
        self.behaviour = replace(self.behaviour, lookup=lookup)
        if "requests_per_second" in given:
            self.credits = Credits(lookup.requests_per_second)

    def set_upstream(self, up: bool) -> None:
        """Bring the link to the data source up or down for all clients."""
        if up == self.connected:
            return
        self.connected = up
        self.reconnections += up
        for session in list(self.sessions):
            session.upstream(up)
