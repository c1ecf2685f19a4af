"""A market that plays a scenario: simulated market time, phase after phase, over the seeded kernels of scenario_flow.

Market time is kept in UTC and told as the Eastern wall clock, so a night on which that clock is set forward or back has
a missing or a repeated hour in every stamp and `T`. At midnight of the wall clock the trading day rolls: volume,
extremes and tick ids begin anew. Rows follow from scenario, symbols and seed alone, however calls cut the flow. The
last millisecond before the end of a phase, midnight and a change of the clock is quiet, so that no stamp, raised by a
microsecond over the one before it, passes them.

Before the flow starts the clock stands; after the last phase only the clock goes on. A machine that cannot keep up
makes market time lag; nothing is skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from infrastructure.simulator import columns as c
from infrastructure.simulator import order_flow, order_flow_book
from infrastructure.simulator import scenario_flow as kernel
from infrastructure.simulator.corrections import Correction
from infrastructure.simulator.eastern import NEW_YORK, next_change_us, offset_us, utc_us
from infrastructure.simulator.generated import alias_table, empty_flow_book, entries_of
from infrastructure.simulator.market import BATCH_LINES, NOTHING, Books, Int64s, Names, Rows
from infrastructure.simulator.scenario import FROZEN, Phase, Scenario
from infrastructure.simulator.scenario_corrections import Corrections

_SECOND_NS: Final = 1_000_000_000
_QUIET_US: Final = 1000
_NEVER: Final = 2**62
_ENTRIES_OF_BOOK: Final = 2 * order_flow_book.DEPTH * order_flow_book.QUEUE
_RESETS: Final = 256  # symbols in one batch
_TICK: Final = 0.002


class ScenarioMarket:
    """Implements market.Market. `speed` = market seconds per wall second; None = as fast as it is asked for.

    Raises ScenarioError where a phase halts a symbol that is not among `symbols`, or more than there are.
    """

    def __init__(
        self,
        scenario: Scenario,
        symbols: Sequence[str],
        *,
        seed: int = 1,
        speed: float | None = 1.0,
        zipf: float = 1.0,
        first_tick_id: int = 1,
    ) -> None:
        if not symbols:
            raise ValueError("a market needs at least one symbol")
        if speed is not None and speed <= 0:
            raise ValueError(f"speed is {speed}, must be above 0")
        n = len(symbols)
        self.names, self.speed, self.scenario = Names(tuple(symbols)), speed, scenario
        self._halts = scenario.halts(self.names.symbols)
        self.books = Books.empty(n, order_flow_book.DEPTH)
        self._book = empty_flow_book(self.books, self.names)
        self.state: Int64s = np.zeros((n, c.LEVEL1_COLUMNS), dtype=np.int64)
        self._rng = np.array([seed % 2**64], dtype=np.uint64)
        self._corrections = Corrections(self.names, seed)
        self._keep, self._other = alias_table(n, zipf)
        self._utc = _start_utc(scenario)
        self._offset, self._change = offset_us(self._utc), next_change_us(self._utc)
        start = self._utc + self._offset
        self._stamps: Int64s = np.full((n, 2), start, dtype=np.int64)
        self.book_times: Int64s = self._stamps[:, 1]
        self._ticks: Int64s = np.full((n, order_flow.CENTERS.size), first_tick_id - 1, dtype=np.int64)
        first_second = -(-start // c.SECOND_US) * c.SECOND_US
        self._clock: Int64s = np.array([first_second, 0, start], dtype=np.int64)
        rows, at = BATCH_LINES + 64, _ENTRIES_OF_BOOK
        self._rows1: Int64s = np.zeros((rows, c.LEVEL1_COLUMNS), dtype=np.int64)
        self._rows2: Int64s = np.zeros((rows, c.LEVEL2_COLUMNS), dtype=np.int64)
        self._rows3: Int64s = np.zeros((rows + at, c.LEVEL2_COLUMNS), dtype=np.int64)
        self._at: Int64s = np.zeros(4, dtype=np.int64)
        anchor: Int64s = np.zeros(n, dtype=np.int64)
        order_flow.open_books(self._rng, start, self.state, self._book, anchor)
        self._fair = np.maximum(anchor, kernel.LEAST_FAIR).astype(np.float64)
        self._fair_time: Int64s = np.full(n, start, dtype=np.int64)
        self._signs: Int64s = np.zeros(n, dtype=np.int64)
        self._halted = np.zeros(n, dtype=np.uint8)
        self._pending: list[int] = []  # symbols whose book is still to be emptied or laid anew
        self._made = 0
        self._ended = self._flowing = False
        self._zero_us, self._zero_ns, self._said_ns = self._utc, 0, -1
        self._enter(0)
        for s in range(n):
            kernel.lay_book(self._rng, self._book, s, float(self._fair[s]), self._params)
            order_flow.show_best(self.state[s], s, self._book)

    @property
    def unpaced(self) -> bool:
        return self.speed is None and self._flowing and not self.finished

    @property
    def finished(self) -> bool:
        return self._ended and not self._pending

    @property
    def lines(self) -> int:
        return self._made

    @property
    def second_us(self) -> int:
        return int(self._clock[order_flow_book.NEXT_SECOND]) - c.SECOND_US

    @property
    def utc_us(self) -> int:
        """Market time, UTC microseconds: everything up to it was made."""
        return self._utc

    @property
    def offset_us(self) -> int:
        """Eastern wall clock minus UTC for the rows of the newest batch."""
        return self._offset

    def orders_of(self, symbol: int) -> Int64s | None:
        return entries_of(self._book, symbol)

    def start(self, now_ns: int) -> None:
        if not self._flowing:
            self._zero_ns, self._flowing = now_ns, True

    def advance(self, now_ns: int, room: bool) -> Rows:
        if not self._flowing:
            return self._repeat_clock(now_ns)
        if self.unpaced:
            rows = self.step(_NEVER) if room else NOTHING
            if self.finished:  # from here on the clock goes on in step with the wall clock
                self._zero_us, self._zero_ns = self._utc, now_ns
            return rows
        return self.step(self._target_us(now_ns))

    def wait_seconds(self, now_ns: int) -> float:
        if not self._flowing:
            return 1.0 if self._said_ns < 0 else max(0.0, 1.0 - (now_ns - self._said_ns) / _SECOND_NS)
        if self.unpaced or self._pending:
            return 0.0
        clock = self._clock - self._offset
        acts = int(clock[kernel.NEXT_ACT]) if self._params[kernel.GAP] else _NEVER
        due = min(acts, int(clock[order_flow_book.NEXT_SECOND]), self._cut())
        return max(_TICK, (due - self._target_us(now_ns)) / c.SECOND_US / (self.speed or 1.0))

    def step(self, until_us: int) -> Rows:
        """The next batch of what happens up to market time `until_us` (UTC); no rows: market time is there."""
        while self._pending or self._utc < until_us:
            self._at[:] = 0
            if self._pending:
                return self._settle()
            cut = self._cut()
            edge = cut - 1 - (_QUIET_US if cut < self._corrections.due_us else 0)
            self._generate(min(until_us, edge))
            if self._at[:3].any():
                return self._rows()
            if until_us < cut:
                return NOTHING
            rows = self._cross(cut)
            if rows or self._ended:
                return rows
        return NOTHING

    def _target_us(self, now_ns: int) -> int:
        return self._zero_us + int((now_ns - self._zero_ns) / 1000 * (self.speed or 1.0))

    def _generate(self, until_us: int) -> None:
        until = until_us + self._offset
        kernel.generate_phase(
            self._rng, self._keep, self._other, self.state, self._book, self._fair, self._fair_time, self._signs,
            self._halted, self._stamps, self._ticks, self._clock, self._params, until, self._rows1, self._rows2,
            self._rows3, self._at,
        )  # fmt: skip
        acts = int(self._clock[kernel.NEXT_ACT]) if self._params[kernel.GAP] else _NEVER
        if min(acts, int(self._clock[order_flow_book.NEXT_SECOND])) > until:  # else a table was full
            self._utc = max(self._utc, until_us)

    def _rows(self, corrections: tuple[Correction, ...] = (), reset: tuple[int, ...] = ()) -> Rows:
        n1, n2, n3, _ = self._at.tolist()
        rows = Rows(self._rows1[:n1], self._rows2[:n2], self._rows3[:n3], corrections=corrections, reset=reset)
        self._made += int(np.count_nonzero(rows.level1[:, c.KIND])) + int(np.count_nonzero(rows.level2[:, c.KIND]))
        self._corrections.take(rows.level1)
        return rows

    def _cut(self) -> int:
        """The next instant, UTC, at which more happens than acts: phase, midnight, clock change, correction."""
        local = self._utc + self._offset
        midnight = (local // c.DAY_US + 1) * c.DAY_US - self._offset
        return min(self._phase_end, midnight, self._change, self._corrections.due_us)

    def _cross(self, cut: int) -> Rows:
        """Let happen what happens at an instant."""
        self._clock_rows(cut - 1)
        self._utc = cut
        if cut == self._change:
            shift = offset_us(cut) - self._offset
            self._stamps += shift
            self._fair_time += shift
            self._clock[[order_flow_book.NEXT_SECOND, kernel.NEXT_ACT]] += shift
            self._offset, self._change = offset_us(cut), next_change_us(cut)
        local = cut + self._offset
        if local % c.DAY_US == 0:
            self._corrections.forget()
            for s in range(len(self.state)):
                order_flow.roll_day(self.state[s], self._ticks[s])
        self._clock[kernel.NEXT_ACT] = max(local, int(self._clock[kernel.NEXT_ACT]))
        said = self._corrections.at(cut)
        if cut == self._phase_end:
            self._enter(self._phase + 1)
        self._clock_rows(cut)
        return self._rows(said)

    def _clock_rows(self, until_us: int) -> None:
        order_flow.put_clock_rows(self._rows1, self._rows2, self._rows3, self._at, self._clock, until_us + self._offset)

    def _enter(self, number: int) -> None:
        """Begin a phase; after the last one the market rests, and what was halted stays so."""
        self._phase = number
        self._ended = number >= len(self.scenario.phases)
        phase = Phase(rate=0.0) if self._ended else self.scenario.phases[number]
        self._phase_end = _NEVER if phase.seconds is None else self._utc + round(phase.seconds * c.SECOND_US)
        self._params = _params(phase)
        self._corrections.begin(phase, self._utc)
        if self._ended:
            return
        halted = np.zeros_like(self._halted)
        halted[list(self._halts[number])] = 1
        changed = np.flatnonzero(halted != self._halted) if phase.halt_quotes != FROZEN else None
        ended = np.flatnonzero(self._halted & ~halted & 1)
        self._pending = (ended if changed is None else changed).tolist()
        self._halted = halted
        if phase.rate:
            self._clock[kernel.NEXT_ACT] = self._utc + self._offset + kernel.gap_us(self._rng, 1, self._params)

    def _settle(self) -> Rows:
        """Empty or lay anew the books of symbols whose halt begins or ends, as many as a batch holds."""
        now = self._utc + self._offset
        reset: list[int] = []
        while self._pending and len(reset) < _RESETS and self._has_room():
            s = self._pending.pop(0)
            if self._halted[s]:
                kernel.empty_book(self._book, s, self._stamps, self._clock, now, self._rows2, self._rows3, self._at)
            else:
                kernel.move_fair(self._rng, self._fair, self._fair_time, s, now, self._params)
                kernel.lay_book(self._rng, self._book, s, float(self._fair[s]), self._params)
                self._stamps[s, 1] = max(now, int(self._stamps[s, 1]) + 1)
                reset.append(s)
            kernel.put_quote(
                self.state[s], s, self._book, self._stamps, self._clock, now, c.HAS_BID | c.HAS_ASK,
                self._rows1, self._at,
            )  # fmt: skip
        return self._rows(reset=tuple(reset))

    def _has_room(self) -> bool:
        """Whether the tables hold one more book that is emptied."""
        n1, n2, n3, _ = self._at.tolist()
        levels = n2 + 2 * order_flow_book.DEPTH <= len(self._rows2)
        return bool(n1 < len(self._rows1) and levels and n3 + _ENTRIES_OF_BOOK <= len(self._rows3))

    def _repeat_clock(self, now_ns: int) -> Rows:
        """The feed's heartbeat while market time stands: the second before the start, once a second."""
        if self._said_ns >= 0 and now_ns - self._said_ns < _SECOND_NS:
            return NOTHING
        self._said_ns = now_ns
        ahead = self._clock.copy()
        ahead[order_flow_book.NEXT_SECOND] = self.second_us
        self._at[:] = 0
        order_flow.put_clock_rows(self._rows1, self._rows2, self._rows3, self._at, ahead, self.second_us)
        self._clock[order_flow_book.ORDER] = ahead[order_flow_book.ORDER]
        return self._rows()


def _start_utc(scenario: Scenario) -> int:
    if scenario.start is None:
        return utc_us()
    return int(scenario.start.replace(tzinfo=NEW_YORK).timestamp()) * c.SECOND_US


def _params(phase: Phase) -> order_flow.Float64s:
    """The numbers of a phase as the kernels read them: relative prices, price units, microseconds."""
    params = np.zeros(kernel.PARAMS)
    params[kernel.GAP] = c.SECOND_US / phase.rate if phase.rate else 0.0
    params[kernel.VOLATILITY], params[kernel.DRIFT] = phase.volatility / 1e4, phase.drift / 1e4
    params[kernel.HALF] = phase.spread / 2 * order_flow.CENT
    params[kernel.DEPTH], params[kernel.ORDERS], params[kernel.SIZE] = phase.depth, phase.orders, phase.size
    params[kernel.TRADES], params[kernel.PERSISTENCE] = phase.trades, phase.persistence
    params[kernel.BURSTINESS] = phase.burstiness
    return params
