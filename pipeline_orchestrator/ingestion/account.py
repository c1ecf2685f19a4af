"""How many symbols the account may watch, and which of ours those are.

Level 1 tells it (`S,CUST`, field 9), and it counts for both ports and for all programs of the login. Instances do not
speak with each other, and need not: each knows all symbols of the settings in their order, so the first `limit` of
them are the same for all. Symbols behind them are not asked for, except that one of ours takes the place of each of
ours that the feed does not know. What other programs of the login watch nobody tells;
then the feed refuses (`S,SYMBOL LIMIT REACHED`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

LIMIT_FIELD = 10  # of the fields of an S,CUST line, `S` being 0
TOLD_SECONDS = 3.0  # how long Level 2 waits for what Level 1 is told


class Account:
    """What an instance knows of the login. `every`: symbols of all instances in the order of the settings, `own` ours.

    `limit` None = not told. `settled` is set once Level 1 has been greeted, whether it was told a limit or not;
    `level1` False = this instance does not read Level 1, and nobody will tell.
    """

    def __init__(self, own: Sequence[str], every: Sequence[str] = (), *, level1: bool = True) -> None:
        self.limit: int | None = None
        self.settled = asyncio.Event()
        self.on_change: list[Callable[[], None]] = []
        self._own = tuple(own)
        self._place = {symbol: place for place, symbol in enumerate(dict.fromkeys(every or own))}
        self._unknown: set[str] = set()
        self._instead: set[str] = set()
        if not level1:
            self.settled.set()

    def told(self, fields: Sequence[str]) -> None:
        """Take an S,CUST line; an empty or unreadable number leaves the limit unknown."""
        text = fields[LIMIT_FIELD].strip() if len(fields) > LIMIT_FIELD else ""
        limit = int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None
        if limit != self.limit:
            self.limit = limit
            self._fill()

    def unknown(self, symbol: str) -> None:
        """The feed knows no such symbol: another one of ours may have its place."""
        if symbol in self._place and symbol not in self._unknown:
            self._unknown.add(symbol)
            if self.limit is not None and self.limit < len(self._place):  # else nobody waits for a place
                self._fill()

    def allows(self, symbol: str) -> bool:
        """Whether a symbol may be asked for; one that the settings do not name counts as the last."""
        return self._within(symbol) or symbol in self._instead

    def _within(self, symbol: str) -> bool:
        return self.limit is None or self._place.get(symbol, len(self._place)) < self.limit

    def _fill(self) -> None:
        """Give away the places of unknown symbols, first to the first of ours behind the limit; tell who listens."""
        self._instead = set()
        free = sum(self._within(symbol) for symbol in self._unknown)
        for symbol in self._own:
            if free <= 0:
                break
            if not self._within(symbol):
                self._instead.add(symbol)
                free -= symbol not in self._unknown
        for change in self.on_change:
            change()

    async def wait_settled(self) -> None:
        """Until Level 1 has told, at most TOLD_SECONDS; waited for once."""
        try:
            async with asyncio.timeout(TOLD_SECONDS):
                await self.settled.wait()
        except TimeoutError:
            self.settled.set()
