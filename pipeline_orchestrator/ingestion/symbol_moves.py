"""Moves of symbols between ingestion instances: how one lets go of them, and when another may watch them.

The instance that held a symbol spools an `unsubscribed` fact for it at its next start; the one that the settings name
now watches it only after the holder's cursor has passed that fact. So every event of the old one stands before every
event of the new one in the symbol's partition. Both sides speak through files (holdings.py), never to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline_orchestrator.flow.spool import EPOCH_FILE, Spool
from pipeline_orchestrator.flow.spool_format import list_segments
from pipeline_orchestrator.ingestion.holdings import (
    HOLDINGS_FILE,
    Departure,
    Holdings,
    first_kept,
    has_passed,
    load_holdings,
    neighbours,
    save_holdings,
)
from pipeline_orchestrator.ingestion.journal import CONNECTIONS, Journal

HELD_SECONDS = 10.0
Times = dict[str, int | None]  # connection -> event time in microseconds UTC; None = unknown


class SymbolMoves:
    """One instance's side. `wanted`: its symbols by the settings; `every`: those of all instances together.

    `announce` before the journal is opened, `begin` once it is open and before anything is watched; then `advance` now
    and again while `unfinished`.
    `waiting` must not be watched yet. `log` names the log that the sender found, "" before it has.

    After a change of logs former holders send kept lines again. So a symbol waits for them at each start, also where
    it was taken over long ago: then for at most HELD_SECONDS, since Kafka may be away and the reader works without.
    """

    def __init__(
        self, journal: Journal, wanted: Sequence[str], every: Sequence[str], log: Callable[[], str] = lambda: ""
    ) -> None:
        self.journal, self.wanted, self.every, self._log = journal, tuple(wanted), frozenset(every), log
        self.all_symbols = tuple(every)  # in the order of the settings
        self.waiting: dict[str, list[int]] = {}  # symbol -> instances that have it still
        self.coming: dict[str, Times] = {}  # symbol -> its last times at the instance that had it before
        self.leaving: set[str] = set()  # their facts found no room yet
        self.holdings = Holdings()
        self._directory = journal.spool.directory
        self._last: Times = {}
        self._tails: dict[int, Times] = {}
        self._began_ns = 0

    @property
    def unfinished(self) -> bool:
        """Something is still to be taken or let go."""
        return bool(self.waiting or self.leaving)

    def announce(self) -> None:
        """Where no reader ever began, say that nothing is held, before others can see that one begins. Raises OSError.

        Else an instance that starts in the same moment would find a spool whose reader says nothing, wait for symbols
        that nobody has, and report a gap.
        """
        began = [name for name in (EPOCH_FILE, HOLDINGS_FILE) if (self._directory / name).exists()]
        if not began and not (self._directory.exists() and list_segments(self._directory)):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            save_holdings(self._directory, Holdings())

    def begin(self) -> None:
        """Let go of what is not ours any more, find out what we have to wait for, and make both durable.

        Raises OSError.
        """
        self._began_ns = self.journal.spool.clock.monotonic_ns()
        others = {number: load_holdings(path) for number, path in neighbours(self._directory).items()}
        own = load_holdings(self._directory)
        if own is None:
            own = Holdings(set() if self.journal.spool.first_start else self._unclaimed(others))
        self._last = last_times(self.journal)
        for symbol in self.wanted:
            self._expect(symbol, own, others)
        self.leaving = own.held - set(self.wanted)
        held = {symbol for symbol in self.wanted if symbol in own.held or symbol not in self.waiting}
        kept = first_kept(self._directory)
        left = {name: one for name, one in own.left.items() if name not in held and (one.epoch, one.seq) >= kept}
        self.holdings = Holdings(held | self.leaving, left)
        self._let_go()
        save_holdings(self._directory, self.holdings)

    def advance(self) -> list[str]:
        """Symbols that may be watched from now on; ours on disk before this returns. Raises OSError."""
        changed = self._let_go()
        known = neighbours(self._directory)
        said = {number: load_holdings(path) for number, path in known.items()}
        late = self.journal.spool.clock.monotonic_ns() - self._began_ns > HELD_SECONDS * 1e9
        free = []
        for symbol, having in self.waiting.items():
            self.waiting[symbol] = [n for n in having if n in known and not self._is_free(symbol, said[n], known[n])]
            if not self.waiting[symbol] or (late and symbol in self.holdings.held):
                free.append(symbol)
        for symbol in free:
            del self.waiting[symbol]
            changed = changed or symbol not in self.holdings.held
            self.holdings.held.add(symbol)
            self.holdings.left.pop(symbol, None)
        if changed:
            save_holdings(self._directory, self.holdings)
        return free

    def drained(self) -> None:
        """Say, once, that nobody needs to look after this spool any more. Raises OSError."""
        if not self.holdings.drained and not self.holdings.held:
            self.holdings.drained = True
            save_holdings(self._directory, self.holdings)

    def _expect(self, symbol: str, own: Holdings, others: dict[int, Holdings | None]) -> None:
        """Whom the symbol waits for, and since when nobody reads it."""
        if symbol in own.held:
            having = [number for number, one in others.items() if one is not None and symbol in one.left]
            since = self._last if having else None
        else:
            having = [number for number, one in others.items() if one is None or one.has(symbol)]
            since = self._sources(symbol, own, others)
        if since is not None:
            self.coming[symbol] = since
        if having:
            self.waiting[symbol] = having

    def _is_free(self, symbol: str, said: Holdings | None, directory: Path) -> bool:
        if said is None or symbol in said.held:
            return False
        return symbol not in said.left or said.drained or has_passed(directory, said.left[symbol], self._log())

    def _let_go(self) -> bool:
        """Spool the facts of what leaves; durable before the file can say so. False where there was nothing to do."""
        gone: dict[str, Departure] = {}
        for symbol in sorted(self.leaving):
            cause = "moved" if symbol in self.every else "removed"
            facts = [self.journal.unwatch(connection, symbol, cause) for connection in CONNECTIONS]
            newest = facts[-1]
            if newest is None or None in facts:
                break  # no room even for facts: what is said twice later does no harm
            gone[symbol] = Departure(newest.epoch, newest.seq, self._last)
        if not gone:
            return False
        self.journal.spool.sync()
        self.leaving -= gone.keys()
        self.holdings.held -= gone.keys()
        self.holdings.left |= gone
        return True

    def _unclaimed(self, others: dict[int, Holdings | None]) -> set[str]:
        """What an instance may have held that has no file to say so: all that no other one claims."""
        return {symbol for symbol in self.every if not any(one and one.has(symbol) for one in others.values())}

    def _sources(self, symbol: str, own: Holdings, others: dict[int, Holdings | None]) -> Times | None:
        """Up to when the symbol was read, per connection, by the one that had it last. None: nobody had it."""
        having = [number for number, one in others.items() if one is None or symbol in one.held]
        if having:
            found = [self._times_of(number, symbol) for number in having]
            return {name: _earliest([times.get(name) for times in found]) for name in CONNECTIONS}
        said = [own, *(one for one in others.values() if one is not None)]
        left = [one.left[symbol].last_us for one in said if symbol in one.left]
        if not left:
            return None
        return {name: _latest([times.get(name) for times in left]) for name in CONNECTIONS}

    def _times_of(self, number: int, symbol: str) -> Times:
        """Last times of an instance that has not let go yet; it reads nothing before it has."""
        if number in self._tails:
            return self._tails[number]
        directory = self._directory.parent / str(number)
        tail = Journal(Spool(directory, number))
        tail.read_tail()
        said = load_holdings(directory)
        if said is not None and symbol in said.left:
            return said.left[symbol].last_us  # it did so meanwhile, and the tail may be a newer one
        self._tails[number] = last_times(tail)
        return self._tails[number]


def last_times(journal: Journal) -> Times:
    """Event time of each connection's last line; None where it is unknown or there is no line."""
    places = {name: journal.place(name) for name in CONNECTIONS}
    return {name: None if place is None else place["event_time_us"] for name, place in places.items()}


def _earliest(times: list[int | None]) -> int | None:
    """Unknown where any of them is."""
    known = [time for time in times if time is not None]
    return min(known) if len(known) == len(times) else None


def _latest(times: list[int | None]) -> int | None:
    """Of those that are known: who read no line of a symbol read none after the others."""
    return max((time for time in times if time is not None), default=None)
