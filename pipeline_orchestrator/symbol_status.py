"""What is known of a symbol's market and trading status, read from ClickHouse: part of `manage_pipeline.py symbol`.

The feed has no message that says "halted". What it does say is shown with its age: its link to the data source, the
kind of account, its answer to the watch, sides of the newest quote, trade conditions that name a halt. What follows
from the rest is shown as what it is: nothing came of this symbol while others traded. Times are microseconds UTC.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from pipeline_orchestrator.clock import Clock
from pipeline_orchestrator.market.calendar import Calendar
from pipeline_orchestrator.market.gaps import read_document
from pipeline_orchestrator.market.trade_conditions import STATUS_PATTERN, status_of
from pipeline_orchestrator.newest_row import newest_row

Json = dict[str, Any]  # JSON values
Ask = Callable[..., Awaitable[list[tuple[Any, ...]]]]
SILENT_AFTER_TRADES: Final = 20  # of other symbols,
SILENT_AFTER_US: Final = 10_000_000  # over so much market time
ANSWERS: Final = {"n": "unknown to the feed", "q": "no depth now", "S": "refused: limit of the account"}

_RECEIVED = "toUnixTimestamp64Micro(recv_time)"
_DATED = "toUnixTimestamp64Micro(sort_time)"
_DEPTH = "kind IN ('order_add', 'order_change', 'order_delete', 'level_set')"  # says that there is some
_MOVES = "kind IN ('trade', 'quote', 'order_add', 'order_change', 'order_delete', 'level_set', 'level_delete')"


class SymbolStatus:
    """Asks through `ask(sql, symbol, **parameters)` about the table `events`."""

    def __init__(self, ask: Ask, events: str, calendar: Calendar, clock: Clock) -> None:
        self._ask, self._events, self._calendar, self._clock = ask, events, calendar, clock

    async def look(self, symbol: str, instance: int | None, features_us: int | None = None) -> Json:
        """The document's part `status`; None = not known. `features_us` = receipt of the newest features row."""
        quoted = await self._quoted(symbol)
        silence = await self._silence(symbol)
        behind = False
        if features_us is not None and silence is not None:
            stored = await self._ask(
                f"SELECT max({_RECEIVED}) FROM {self._events} WHERE symbol = {{symbol:String}}", symbol
            )
            behind = int(stored[0][0]) < features_us
        return {
            "trading": _trading(quoted, silence, behind),
            "storage_behind": behind,
            "quoted": quoted,
            "silence": silence,
            "condition": await self._condition(symbol),
            "session": self._session(),
            "link": await self._link(instance),
            "account": await self._account(instance),
            "answers": await self._answers(symbol),
        }

    def _stamped(self, received_us: int, **values: Any) -> Json:  # Any: JSON values
        age = self._clock.wall_ns() // 1000 - received_us
        return values | {"recv_time_us": received_us, "age_s": round(age / 1e6, 3)}

    def _session(self) -> Json:
        """By the calendar, now."""
        found = self._calendar.session_of(self._clock.wall_ns() // 1000)
        return {"calendar": self._calendar.name, "state": found.state, "begin_us": found.begin, "end_us": found.end}

    async def _quoted(self, symbol: str) -> Json | None:
        columns = (
            _RECEIVED,
            "ifNull(bid, 0) != 0 OR ifNull(bid_size, 0) != 0",
            "ifNull(ask, 0) != 0 OR ifNull(ask_size, 0) != 0",
        )
        where = (
            "symbol = {symbol:String} AND source = 'L' AND (kind = 'quote' OR (kind = 'trade' AND"
            " NOT (isNull(bid) AND isNull(ask) AND isNull(bid_size) AND isNull(ask_size))))"
        )
        rows = await self._ask(newest_row(self._events, columns, where), symbol)
        if not rows:
            return None
        received, bid, ask = rows[0]
        sides = "both" if bid and ask else "bid only" if bid else "ask only" if ask else "no side"
        return self._stamped(received, sides=sides)

    async def _silence(self, symbol: str) -> Json | None:
        """What came of others since the newest line about this symbol's market, in the market's time."""
        where = f"symbol = {{symbol:String}} AND {_MOVES} AND NOT summary AND source = 'L'"
        columns = (_RECEIVED, _DATED, "instance", "epoch", "seq")
        rows = await self._ask(newest_row(self._events, columns, where), symbol)
        if not rows:
            return None
        received, dated, instance, epoch, seq = rows[0]
        others = await self._ask(
            f"SELECT count(), uniq(symbol), max({_DATED}) FROM {self._events}"
            " WHERE symbol != {symbol:String} AND kind = 'trade' AND source = 'L'"
            " AND sort_time >= fromUnixTimestamp64Micro({dated:Int64}, 'UTC')"
            " AND instance = {instance:Int32} AND (epoch, seq) > ({epoch:Int64}, {seq:Int64})",
            symbol,
            dated=int(dated),
            instance=int(instance),
            epoch=int(epoch),
            seq=int(seq),
        )
        trades, symbols, latest = others[0]
        lasted = max(0, int(latest) - int(dated)) if trades else 0
        return self._stamped(
            received, other_trades=int(trades), other_symbols=int(symbols), market_s=round(lasted / 1e6, 3)
        )

    async def _condition(self, symbol: str) -> Json | None:
        """The newest trade whose conditions tell a status."""
        rows = await self._ask(
            f"SELECT {_RECEIVED}, conditions FROM {self._events} WHERE symbol = {{symbol:String}} AND kind = 'trade'"
            " AND source = 'L' AND match(upper(ifNull(conditions, '')), {pattern:String})"
            " ORDER BY sort_time DESC, seq DESC LIMIT 1",
            symbol,
            pattern=STATUS_PATTERN,
        )
        found = status_of(rows[0][1]) if rows else None
        return None if found is None else self._stamped(rows[0][0], code=found[0], meaning=found[1])

    async def _link(self, instance: int | None) -> Json | None:
        """The newest that Level 1 said, or ingestion saw, of the way to the data source."""
        rows = await self._ask(
            f"SELECT {_RECEIVED}, kind, hex(ifNull(raw, '')) FROM {self._events} WHERE isNull(symbol)"
            " AND kind IN ('connected', 'lost') AND (port = 'level1' OR position(ifNull(raw, ''), '\"level1\"') > 0)"
            " AND (instance = {instance:Int32} OR {instance:Int32} < 0) ORDER BY recv_time DESC, seq DESC LIMIT 1",
            "",
            instance=-1 if instance is None else instance,
        )
        if not rows:
            return None
        received, kind, raw = rows[0]
        own = read_document(bytes.fromhex(raw))
        said = str(own.get("cause", "")) if own is not None else bytes.fromhex(raw).decode("latin-1").strip()
        return self._stamped(received, state=kind, said=said)

    async def _account(self, instance: int | None) -> Json | None:
        """real_time or delayed, by the newest S,CUST."""
        rows = await self._ask(
            f"SELECT {_RECEIVED}, splitByChar(',', assumeNotNull(raw))[3] FROM {self._events} WHERE isNull(symbol)"
            " AND kind = 'other' AND startsWith(assumeNotNull(raw), 'S,CUST,')"
            " AND (instance = {instance:Int32} OR {instance:Int32} < 0) ORDER BY recv_time DESC, seq DESC LIMIT 1",
            "",
            instance=-1 if instance is None else instance,
        )
        return self._stamped(rows[0][0], service=rows[0][1]) if rows else None

    async def _answers(self, symbol: str) -> list[Json]:
        """What each connection answered to its newest watch in place of data: `n`, `q`, S,SYMBOL LIMIT REACHED.

        A `q` that depth came after is no answer any more.
        """
        rows = await self._ask(
            f"SELECT {_RECEIVED}, port, substring(assumeNotNull(raw), 1, 1), (recv_time, epoch, seq) <"
            f" (SELECT max((recv_time, epoch, seq)) FROM {self._events}"
            f" WHERE symbol = {{symbol:String}} AND port = 'level2' AND {_DEPTH})"
            f" FROM {self._events} AS events LEFT JOIN (SELECT port, max(recv_time) AS since FROM {self._events}"
            " WHERE symbol = {symbol:String} AND kind = 'subscribed'"
            " AND NOT match(ifNull(raw, ''), '\"cause\": ?\"redrive\"') GROUP BY port) AS watches USING (port)"
            " WHERE symbol = {symbol:String} AND kind = 'other' AND match(assumeNotNull(raw),"
            " '^(n|q|S,SYMBOL LIMIT REACHED),') AND recv_time >= since"
            " ORDER BY recv_time DESC, seq DESC LIMIT 1 BY port",
            symbol,
        )
        return [
            self._stamped(received, port=port, meaning=ANSWERS[letter])
            for received, port, letter, depth_since in rows
            if not (letter == "q" and depth_since)
        ]


def _trading(quoted: Json | None, silence: Json | None, behind: bool) -> str:
    """`unknown`; `not quoted`: the newest quote has no side; `silent`: others traded since; else `live`.

    `behind` = features were made of a newer line than the newest stored, as is usual for a moment: that line can only
    end a silence or bring a quote, so `live` stays true and the others are not known.
    """
    if silence is None:
        return "unknown"
    still = silence["other_trades"] >= SILENT_AFTER_TRADES and silence["market_s"] * 1e6 >= SILENT_AFTER_US
    sideless = quoted is not None and quoted["sides"] == "no side"
    if not still and not sideless:
        return "live"
    if behind:
        return "unknown"
    return "not quoted" if sideless else "silent"
