"""All that is known of one symbol, read from ClickHouse and Redis: what `manage_pipeline.py symbol` shows.

Never part of the data path: lines of kind `other` (fundamentals, headlines, regional quotes) are stored as bytes and
read here. Prices are integers in 1e-6 units, times microseconds UTC, ages seconds by this machine's clock. What is
not known is None.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from config.sections import RedisConfig
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.market.calendar import ALWAYS_OPEN, Calendar
from pipeline_orchestrator.market.fundamentals import parse_fundamental
from pipeline_orchestrator.market.news import parse_headline
from pipeline_orchestrator.market.regional import parse_regional
from pipeline_orchestrator.newest_row import newest_row
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.redis_rows import KEY_PREFIX
from pipeline_orchestrator.symbol_status import SymbolStatus

Json = dict[str, Any]  # Any: JSON values
REDIS_SECONDS = 2.0
SHOWN_NEWS, SHOWN_GAPS, SHOWN_CORRECTIONS = 5, 20, 5

_RECEIVED = "toUnixTimestamp64Micro(recv_time)"
_EVENT_TIME = "if(isNull(event_time), NULL, toUnixTimestamp64Micro(assumeNotNull(event_time)))"
_FEATURES = (
    "best_bid", "best_bid_size", "best_ask", "best_ask_size", "spread", "mid", "microprice", "imbalance", "vwap",
    "volatility", "last_price", "last_size", "book_state", "book_source", "null_reason", "gap_flag",
)  # fmt: skip
_TRADE = ("price", "size", "basis", "market_center", "conditions", "tick_id", "total_volume")
_QUOTE = ("bid", "bid_size", "ask", "ask_size", "summary")


class SymbolView:
    """Asks one open store. `look` raises what `Store.query` raises; Redis away is no error, ClickHouse answers then."""

    def __init__(
        self, store: Store, redis: RedisConfig, clock: Clock = SYSTEM, calendar: Calendar = ALWAYS_OPEN
    ) -> None:
        self._store, self._redis, self._clock = store, redis, clock
        self._status = SymbolStatus(self._ask, store.table("events"), calendar, clock)

    async def look(self, symbol: str) -> Json | None:
        """The document, or None where no event of the symbol was ever stored."""
        events = self._store.table("events")
        seen = await self._ask(f"SELECT 1 FROM {events} WHERE symbol = {{symbol:String}} LIMIT 1", symbol)
        if not seen:
            return None
        instance = await self._instance(symbol)
        features = await self._features(symbol)
        features_us = None if features is None else features["recv_time_us"]
        number = None if instance is None else instance["instance"]
        return {
            "symbol": symbol,
            "ingestion": instance,
            "status": await self._status.look(symbol, number, features_us),
            "features": features,
            "trade": await self._newest(symbol, "kind = 'trade'", _TRADE),
            "quote": await self._newest(symbol, "kind = 'quote'", _QUOTE),
            "book": await self._book(symbol),
            "gaps_open": await self._gaps(symbol, number),
            "unresolved": await self._unresolved(symbol),
            "corrections": await self._corrections(symbol),
            "fundamentals": await self._fundamentals(symbol),
            "regional": await self._regional(symbol),
            "news": await self._news(symbol),
        }

    async def _ask(self, sql: str, symbol: str, **more: Any) -> list[tuple[Any, ...]]:  # Any: query parameters, rows
        return await self._store.query(sql, {"symbol": symbol, **more})

    def _stamped(self, received_us: int, **values: Any) -> Json:  # Any: JSON values
        age = self._clock.wall_ns() // 1000 - received_us
        return values | {"recv_time_us": received_us, "age_s": round(age / 1e6, 3)}

    async def _newest(self, symbol: str, which: str, names: Sequence[str]) -> Json | None:
        where = f"symbol = {{symbol:String}} AND {which} AND source = 'L'"
        columns = (_RECEIVED, _EVENT_TIME, *names)
        rows = await self._ask(newest_row(self._store.table("events"), columns, where), symbol)
        if not rows:
            return None
        received, event_time, *values = rows[0]
        return self._stamped(received, event_time_us=event_time, **dict(zip(names, values, strict=True)))

    async def _features(self, symbol: str) -> Json | None:
        row = await self._cached(symbol)
        source = "redis"
        if row is None:
            source = "clickhouse"
            columns, place = (_RECEIVED, _EVENT_TIME, *_FEATURES), ("src_epoch", "src_seq")
            sql = newest_row(self._store.table("features"), columns, "symbol = {symbol:String}", place=place)
            rows = await self._ask(sql, symbol)
            if not rows:
                return None
            row = dict(zip(("recv_time_us", "event_time_us", *_FEATURES), rows[0], strict=True))
        values = {name: row.get(name) for name in ("event_time_us", *_FEATURES)}
        return self._stamped(int(row["recv_time_us"]), source=source, **values)

    async def _cached(self, symbol: str) -> Json | None:
        """The newest value in Redis; None where it has none or cannot be asked."""
        config = self._redis
        client = Redis(
            host=config.host,
            port=config.port,
            db=config.db,
            username=config.username or None,
            password=config.password.get_secret_value() or None,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            found = await client.get(f"{KEY_PREFIX}{symbol}")
        except (RedisError, OSError, TimeoutError):
            return None
        finally:
            await client.aclose()
        document = json.loads(found) if found else None
        return document if isinstance(document, dict) and "recv_time_us" in document else None

    async def _book(self, symbol: str) -> Json | None:
        columns = (_RECEIVED, "book_state", "gap_flag", "bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
        place = ("src_epoch", "src_seq", "out")
        sql = newest_row(self._store.table("books"), columns, "symbol = {symbol:String}", place=place)
        rows = await self._ask(sql, symbol)
        if not rows:
            return None
        received, state, flag, bids, bid_sizes, asks, ask_sizes = rows[0]
        return self._stamped(
            received,
            state=state,
            gap_flag=bool(flag),
            bids=[list(level) for level in zip(bids, bid_sizes, strict=True)],
            asks=[list(level) for level in zip(asks, ask_sizes, strict=True)],
        )

    async def _instance(self, symbol: str) -> Json | None:
        """The ingestion instance that watches the symbol by its newest fact; unwatched = it serves it no more."""
        rows = await self._ask(
            f"SELECT instance, kind, {_RECEIVED} FROM {self._store.table('events')}"
            " WHERE symbol = {symbol:String} AND kind IN ('subscribed', 'unsubscribed')"
            " ORDER BY recv_time DESC, seq DESC LIMIT 1",
            symbol,
        )
        if not rows:
            return None
        instance, kind, received = rows[0]
        return self._stamped(received, instance=instance, watched=kind == "subscribed")

    async def _gaps(self, symbol: str, instance: int | None) -> list[Json]:
        """Open gaps of the symbol: its own, and those of its instance that did not end for it yet."""
        gaps, latest = self._store.table("gaps"), self._store.table("gaps_latest")
        rows = await self._ask(
            "SELECT gap_id, port, cause, if(isNull(from_time), NULL, toUnixTimestamp64Micro(assumeNotNull(from_time))),"
            f" {_RECEIVED} FROM {latest} WHERE state = 'open' AND (symbol = {{symbol:String}} OR"
            " (isNull(symbol) AND (src_instance = {instance:Int32} OR {instance:Int32} < 0)))"
            f" AND gap_id NOT IN (SELECT gap_id FROM {gaps} WHERE symbol = {{symbol:String}} AND state = 'closed')"
            f" ORDER BY recv_time DESC LIMIT {SHOWN_GAPS}",
            symbol,
            instance=-1 if instance is None else instance,
        )
        return [
            self._stamped(received, gap_id=gap_id, port=port, cause=cause, from_time_us=begun)
            for gap_id, port, cause, begun, received in rows
        ]

    async def _unresolved(self, symbol: str) -> dict[str, int]:
        """How many corrections and late trades did not reach their bar, and gaps were not filled, by cause."""
        rows = await self._ask(
            f"SELECT cause, count() FROM {self._store.table('gaps_latest')}"
            " WHERE symbol = {symbol:String} AND state = 'unresolved' GROUP BY cause ORDER BY cause",
            symbol,
        )
        return {str(cause): int(count) for cause, count in rows}

    async def _corrections(self, symbol: str) -> list[Json]:
        """The newest corrections, with the reason where one was not applied."""
        rows = await self._ask(
            f"SELECT {_RECEIVED}, {_EVENT_TIME}, ifNull(toString(trading_date), ''), correction, price, size, tick_id,"
            f" basis, market_center, instance, epoch, seq FROM {self._store.table('events')}"
            " WHERE symbol = {symbol:String} AND kind = 'correction'"
            f" ORDER BY recv_time DESC, seq DESC LIMIT {SHOWN_CORRECTIONS}",
            symbol,
        )
        if not rows:
            return []
        flagged = await self._ask(
            f"SELECT gap_id, cause, detail FROM {self._store.table('gaps_latest')} WHERE symbol = {{symbol:String}}"
            " AND state = 'unresolved' AND has({ids:Array(String)}, gap_id)",
            symbol,
            ids=[":".join(str(part) for part in row[-3:]) for row in rows],
        )
        why = {gap_id: json.loads(detail or "{}").get("why") or str(cause) for gap_id, cause, detail in flagged}
        names = ("correction", "price", "size", "tick_id", "basis", "market_center")
        return [
            self._stamped(
                received,
                event_time_us=event_time,
                date=date or None,
                **dict(zip(names, values, strict=True)),
                not_applied=why.get(f"{instance}:{epoch}:{seq}"),
            )
            for received, event_time, date, *values, instance, epoch, seq in rows
        ]

    async def _fundamentals(self, symbol: str) -> Json | None:
        rows = await self._lines(symbol, "F,", 1)
        for received, line in rows:
            try:
                found = parse_fundamental(line)
            except ValueError:
                return self._stamped(received, values=None, line=line)
            return self._stamped(
                received, values=found.values, extra=list(found.extra), unreadable=list(found.unreadable)
            )
        return None

    async def _regional(self, symbol: str) -> list[Json]:
        rows = await self._ask(
            f"SELECT max({_RECEIVED}), argMax(hex(raw), recv_time) FROM {self._store.table('events')}"
            " WHERE symbol = {symbol:String} AND kind = 'other' AND startsWith(assumeNotNull(raw), 'R,')"
            " GROUP BY splitByChar(',', assumeNotNull(raw))[12]",
            symbol,
        )
        quotes = []
        for received, raw in rows:
            try:
                quote = parse_regional(_text(raw))
            except ValueError:
                continue  # the line stays in the table as it came
            quotes.append(
                self._stamped(
                    received,
                    market_center=quote.market_center,
                    bid=quote.bid,
                    bid_size=quote.bid_size,
                    bid_time=quote.bid_time,
                    ask=quote.ask,
                    ask_size=quote.ask_size,
                    ask_time=quote.ask_time,
                )
            )
        return sorted(quotes, key=lambda each: each["market_center"] or 0)

    async def _news(self, symbol: str) -> list[Json]:
        rows = await self._ask(
            f"SELECT {_RECEIVED}, hex(raw) FROM {self._store.table('events')}"
            " WHERE isNull(symbol) AND kind = 'other' AND startsWith(assumeNotNull(raw), 'N,')"
            " AND position(splitByChar(',', assumeNotNull(raw))[4], {named:String}) > 0"
            f" ORDER BY recv_time DESC LIMIT {SHOWN_NEWS}",
            symbol,
            named=f":{symbol}:",
        )
        news = []
        for received, raw in rows:
            try:
                headline = parse_headline(_text(raw))
            except ValueError:
                continue  # named the symbol, but has no headline
            news.append(
                self._stamped(
                    received,
                    time_us=headline.time_us,
                    distributor=headline.distributor,
                    story_id=headline.story_id,
                    headline=headline.text,
                )
            )
        return news

    async def _lines(self, symbol: str, prefix: str, limit: int) -> list[tuple[int, str]]:
        rows = await self._ask(
            f"SELECT {_RECEIVED}, hex(raw) FROM {self._store.table('events')} WHERE symbol = {{symbol:String}}"
            " AND kind = 'other' AND startsWith(assumeNotNull(raw), {prefix:String})"
            f" ORDER BY sort_time DESC, seq DESC LIMIT {limit}",
            symbol,
            prefix=prefix,
        )
        return [(int(received), _text(raw)) for received, raw in rows]


def _text(raw: str) -> str:
    """The feed's bytes are Latin-1."""
    return bytes.fromhex(raw).decode("latin-1")
