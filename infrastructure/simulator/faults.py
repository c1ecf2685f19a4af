"""Faults at work: begins them on the connections of their ports, ends them in time, and draws from the server's seed.

A fault that lasts also meets connections that come while it lasts, except half_open without `new`. The n-th fault of a
run draws, on a connection, from a generator seeded with (seed, n, the connection's number): the same run again
misbehaves the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

import numpy as np

from infrastructure.simulator import level1, level2
from infrastructure.simulator.connection import Connection
from infrastructure.simulator.fault_bytes import garbage, line_ends
from infrastructure.simulator.fault_filters import Clock, Duplicate, LineFilter, Mute, Reorder, Skip
from infrastructure.simulator.fault_kinds import END, Fault, FaultError, parse
from infrastructure.simulator.fault_script import Script
from infrastructure.simulator.feed import Feed
from infrastructure.simulator.listeners import Listeners
from infrastructure.simulator.lookup_behaviour import LookupBehaviour

Event = Callable[[str, dict[str, Any]], None]  # Any: fields for a log line

_AGAIN_SECONDS: Final = 0.2  # until a port that is taken is asked for once more
_MIB: Final = 1 << 20
_WIRED: Final = ("slow", "slice", "duplicate", "reorder", "skip", "clock", "silence")


@dataclass(slots=True)
class _Active:
    """A fault that goes on. `undo` ends what is not a connection's."""

    number: int
    fault: Fault
    undo: Callable[[], None] = lambda: None
    timer: asyncio.TimerHandle | None = None
    burst: asyncio.TimerHandle | None = None


class Faults:
    """See the module. All calls come from the server's loop."""

    def __init__(self, feed: Feed, listeners: Listeners, seed: int, event: Event, script: Script = ()) -> None:
        self._feed, self._listeners, self._seed, self._event, self._script = feed, listeners, seed, event, script
        self._begun = 0
        self._active: dict[int, _Active] = {}
        self._dead: dict[int, list[Connection]] = {}
        self._timers: list[asyncio.TimerHandle] = []
        feed.misbehave = lambda text: self.begin(parse(text))

    def flow_started(self) -> None:
        """The script's times count from now."""
        loop = asyncio.get_running_loop()
        self._timers = [loop.call_later(at, self._scripted, fault) for at, fault in self._script]

    def _scripted(self, fault: Fault) -> None:
        try:
            self.begin(fault)
        except FaultError as error:
            self._event("fault_refused", {"fault": str(fault), "reason": str(error)})

    def begin(self, fault: Fault) -> None:
        """Begin a fault now. Raises FaultError where this server cannot have it; nothing has happened then."""
        if fault.name == END:
            self._end_all(fault.values["fault"])
            return
        self._check(fault)
        self._begun += 1
        active = _Active(self._begun, fault)
        self._event("fault_begins", {"fault": str(fault), "number": active.number})
        lasts = self._start(active)
        if lasts:
            self._active[active.number] = active
            if fault.seconds:
                loop = asyncio.get_running_loop()
                active.timer = loop.call_later(fault.seconds, self._end, active.number)

    def joined(self, connection: Connection) -> None:
        """A client was accepted: what goes on on its port meets it too."""
        for active in self._active.values():
            if connection.port not in active.fault.ports:
                continue
            if active.fault.name == "half_open" and active.fault.values["new"]:
                self._kill(active.number, connection)
            elif active.fault.name in _WIRED:
                self._apply(active, connection)

    def second(self) -> None:
        """What waits for a window to fill has waited long enough."""
        for connection in self._connections(("level1", "level2")):
            connection.flush_wire()

    def close(self) -> None:
        """Forget everything: the server ends. Safe to call twice."""
        for timer in self._timers:
            timer.cancel()
        for active in self._active.values():
            for each in (active.timer, active.burst):
                if each is not None:
                    each.cancel()
        self._active.clear()

    # -- kinds --------------------------------------------------------------------------------------------------------

    def _check(self, fault: Fault) -> None:
        symbol = fault.values.get("symbol", "")
        if symbol and symbol.upper() not in self._feed.names.index:
            raise FaultError(f"{fault.name}: {symbol!r} is no symbol of this market")
        if fault.name == "history_holes":
            try:
                LookupBehaviour(holes=(fault.values["span"],))
            except ValueError as error:
                raise FaultError(f"history_holes: span: {error}") from error

    def _start(self, active: _Active) -> bool:
        """Do it; True where it goes on."""
        fault, values = active.fault, active.fault.values
        name = fault.name
        if name == "silence" and not fault.seconds:
            for session in self._feed.sessions:
                if isinstance(session, level1.Level1Session | level2.Level2Session) and (
                    session.connection.port in fault.ports
                ):
                    session.silence(values["symbol"])
            return False
        if name in _WIRED:
            for connection in self._connections(fault.ports):
                self._apply(active, connection)
        elif name == "drop":
            self._drop(fault.ports, values["how"])
        elif name == "half_open":
            for connection in self._connections(fault.ports):
                self._kill(active.number, connection)
        elif name == "refuse":
            self._refuse(active)
        elif name == "endless":
            for connection in self._connections(fault.ports):
                connection.send_endless(int(values["mib"] * _MIB))
        elif name == "garbage":
            self._burst(active, 0)
            return bool(fault.seconds)
        elif name == "upstream":
            self._feed.set_upstream(False)
            active.undo = lambda: self._feed.set_upstream(True)
        elif name == "symbol_limit":
            before = self._feed.behaviour.symbol_limit
            self._limit(values["symbols"])
            active.undo = lambda: self._limit(before)
        elif name == "slow_history":
            before_lookup = self._feed.behaviour.lookup
            self._lookup(delay_seconds=values["seconds"], batch_delay_seconds=values["batch_seconds"])
            active.undo = lambda: self._lookup(
                delay_seconds=before_lookup.delay_seconds, batch_delay_seconds=before_lookup.batch_delay_seconds
            )
        else:
            holes = self._feed.behaviour.lookup.holes
            self._lookup(holes=(*holes, values["span"]))
            active.undo = lambda: self._lookup(holes=holes)
        return name not in ("drop", "endless")

    def _apply(self, active: _Active, connection: Connection) -> None:
        values, number = active.fault.values, active.number
        rng = Random(f"{self._seed}/{number}/{connection.number}")
        wire = connection.wire()
        if active.fault.name == "slow":
            wire.rates[number] = values["bytes_per_second"]
        elif active.fault.name == "slice":
            wire.slices[number] = (values["least"], values["most"], rng)
        else:
            wire.filters[number] = self._filter(active.fault, rng)

    def _filter(self, fault: Fault, rng: Random) -> LineFilter:
        values = fault.values
        index = self._feed.names.index
        if fault.name == "duplicate":
            return Duplicate(rng, values["share"], values["lag"])
        if fault.name == "reorder":
            return Reorder(rng, values["window"])
        if fault.name == "skip":
            return Skip(rng, values["share"], index[values["symbol"].upper()] if values["symbol"] else -1)
        if fault.name == "clock":
            return Clock(values["seconds"])
        return Mute(index[values["symbol"].upper()])

    def _drop(self, ports: Iterable[str], how: str) -> None:
        for connection in self._connections(ports):
            if how == "mid":
                connection.cut_line()
            else:
                connection.close(f"dropped: {how}", reset=how == "rst")

    def _kill(self, number: int, connection: Connection) -> None:
        connection.play_dead()
        self._dead.setdefault(number, []).append(connection)

    def _refuse(self, active: _Active) -> None:
        for name in active.fault.ports:
            self._listeners.close_one(name)
        if active.fault.values["drop"]:
            self._drop(active.fault.ports, "fin")
        active.undo = lambda: self._listen_again(active.fault.ports)

    def _listen_again(self, ports: tuple[str, ...]) -> None:
        refused = {
            name for other in self._active.values() if other.fault.name == "refuse" for name in other.fault.ports
        }
        for name in ports:
            if name in refused:
                continue
            try:
                self._listeners.open_one(name)
            except OSError as error:
                self._event("cannot_listen_again", {"port": name, "reason": error.strerror or str(error)})
                loop = asyncio.get_running_loop()
                self._timers.append(loop.call_later(_AGAIN_SECONDS, self._listen_again, (name,)))

    def _burst(self, active: _Active, count: int) -> None:
        values = active.fault.values
        for connection in self._connections(active.fault.ports):
            rng = Random(f"{self._seed}/{active.number}/{connection.number}/{count}")
            data = garbage(values["kind"], values["lines"], rng)
            connection.send_bytes(np.frombuffer(data, dtype=np.uint8), line_ends(data))
        if active.fault.seconds:
            loop = asyncio.get_running_loop()
            active.burst = loop.call_later(values["every"], self._burst, active, count + 1)

    def _limit(self, symbols: int) -> None:
        self._feed.behaviour = replace(self._feed.behaviour, symbol_limit=symbols)

    def _lookup(self, **values: Any) -> None:  # Any: fields of LookupBehaviour
        behaviour = self._feed.behaviour
        self._feed.behaviour = replace(behaviour, lookup=replace(behaviour.lookup, **values))

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _end_all(self, name: str) -> None:
        for number, active in list(self._active.items()):
            if name in ("", active.fault.name):
                self._end(number)

    def _end(self, number: int) -> None:
        active = self._active.pop(number, None)
        if active is None:
            return
        for timer in (active.timer, active.burst):
            if timer is not None:
                timer.cancel()
        if active.fault.name in _WIRED:
            for connection in self._connections(active.fault.ports):
                connection.lift(number)
        for connection in self._dead.pop(number, ()):
            connection.close("was half-open", reset=True)
        active.undo()
        self._event("fault_ends", {"fault": str(active.fault), "number": number})

    def _connections(self, ports: Iterable[str]) -> list[Connection]:
        named = set(ports)
        return [session.connection for session in self._feed.sessions if session.connection.port in named]
