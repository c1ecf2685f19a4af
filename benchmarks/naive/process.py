"""market.events to features, bars and books, record by record over dicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer, ConsumerRecord

from benchmarks.naive.wire import decode, encode
from benchmarks.naive.worker import Job, consume

HALFLIFE_US = 60_000_000
LEVELS = 5
INTERVALS = {"1s": 1_000_000, "1m": 60_000_000}
Record = dict[str, Any]  # Any: values of an Avro record


@dataclass(slots=True)
class Symbol:
    """All that is known about one symbol."""

    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)
    building: bool = True
    quote: tuple[int | None, int | None, int | None, int | None] = (None, None, None, None)
    best: tuple[int, int, int, int] | None = None
    top: Any = None
    notional: int = 0
    volume: int = 0
    last: tuple[int | None, int | None] = (None, None)
    variance: float | None = None
    mid: tuple[int, int] | None = None
    bars: dict[str, Record] = field(default_factory=dict)


class Process:
    """State of all symbols, and the producer of what follows from an event."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self.symbols: dict[str, Symbol] = {}

    async def handle(self, records: list[ConsumerRecord]) -> None:
        """One poll."""
        for record in records:
            event = decode("market.events", record.value)
            event |= {"partition": record.partition, "offset": record.offset}
            if event["kind"] == "clock":
                await self.clock(event)
            elif event["symbol"] is not None and event["kind"] in {"trade", "quote", "level_set", "level_delete"}:
                await self.one(event)

    async def one(self, event: Record) -> None:
        """A trade, quote or change of a level: one features row, and a book row if the top changed."""
        state = self.symbols.setdefault(event["symbol"], Symbol())
        if event["kind"] in {"level_set", "level_delete"}:
            levels = state.bids if event["side"] == "bid" else state.asks
            if event["kind"] == "level_set" and event["size"] > 0:
                levels[event["price"]] = event["size"]
            else:
                levels.pop(event["price"], None)
        else:
            state.quote = (event["bid"], event["bid_size"], event["ask"], event["ask_size"])
        if event["kind"] == "trade":
            self.trade(state, event)
        await self.send("market.features", event, self.features(state, event))
        if event["kind"] in {"level_set", "level_delete"} and not state.building:
            top = (sorted(state.bids.items(), reverse=True)[:LEVELS], sorted(state.asks.items())[:LEVELS])
            if top != state.top:
                state.top = top
                await self.send("market.books", event, self.book(state, event))

    def trade(self, state: Symbol, event: Record) -> None:
        """VWAP and the open bars."""
        if event["basis"] not in {"C", "E"}:
            return
        price, size = event["price"], event["size"]
        state.notional += price * size
        state.volume += size
        state.last = (price, size)
        for name, width in INTERVALS.items():
            begin = event["event_time_us"] // width * width
            bar = state.bars.get(name)
            if bar is None or bar["open_time_us"] != begin:
                bar = state.bars[name] = {
                    "interval": name, "open_time_us": begin, "open": price, "high": price, "low": price,
                    "close": price, "volume": 0, "notional": 0, "trade_count": 0,
                }  # fmt: skip
            bar["high"], bar["low"] = max(bar["high"], price), min(bar["low"], price)
            bar["close"] = price
            bar["volume"] += size
            bar["notional"] += price * size
            bar["trade_count"] += 1

    def features(self, state: Symbol, event: Record) -> Record:
        """Values after the event, from the depth book if both sides are there, else from Level 1."""
        depth = bool(state.bids and state.asks and not state.building)
        if depth:
            bid, ask = max(state.bids), min(state.asks)
            top = (bid, state.bids[bid], ask, state.asks[ask])
        else:
            top = state.quote  # type: ignore[assignment]
        row: Record = {
            "kind": event["kind"],
            "best_bid": top[0],
            "best_bid_size": top[1],
            "best_ask": top[2],
            "best_ask_size": top[3],
            "book_state": "resyncing" if state.building else "valid",
            "book_source": "depth" if depth else "level1",
            "vwap": state.notional // state.volume if state.volume else None,
            "last_price": state.last[0],
            "last_size": state.last[1],
            "gap_flag": False,
        }
        if None in top:
            return row | {"null_reason": "no quote"}
        bid, bid_size, ask, ask_size = top
        sizes = bid_size + ask_size
        mid = (bid + ask) // 2
        row |= {"spread": ask - bid, "mid": mid}
        if sizes:
            row |= {
                "microprice": (bid * ask_size + ask * bid_size) // sizes,
                "imbalance": (bid_size - ask_size) / sizes,
            }
        if state.best:
            was_bid, was_bid_size, was_ask, was_ask_size = state.best
            row["order_flow_imbalance"] = (
                (bid_size if bid >= was_bid else 0)
                - (was_bid_size if bid <= was_bid else 0)
                - (ask_size if ask <= was_ask else 0)
                + (was_ask_size if ask >= was_ask else 0)
            )
        state.best = top
        now = event["event_time_us"]
        if state.mid and now and now > state.mid[1] and mid > 0:
            elapsed = now - state.mid[1]
            squared = math.log(mid / state.mid[0]) ** 2 / (elapsed / 1e6)
            weight = 0.5 ** (elapsed / HALFLIFE_US)
            state.variance = squared if state.variance is None else weight * state.variance + (1 - weight) * squared
        if now and mid > 0:
            state.mid = (mid, now)
        row["volatility"] = math.sqrt(state.variance) if state.variance is not None else None
        return row

    def book(self, state: Symbol, event: Record) -> Record:
        """The top levels."""
        bids, asks = state.top
        return {
            "book_state": "valid",
            "bid_prices": [price for price, _ in bids],
            "bid_sizes": [size for _, size in bids],
            "ask_prices": [price for price, _ in asks],
            "ask_sizes": [size for _, size in asks],
            "gap_flag": False,
        }

    async def clock(self, event: Record) -> None:
        """Level 2: snapshots are complete. Level 1: close the bars whose time is over."""
        if event["port"] == "level2":
            for state in self.symbols.values():
                state.building = False
            return
        for symbol, state in self.symbols.items():
            for name, width in INTERVALS.items():
                bar = state.bars.get(name)
                if bar is None or bar["open_time_us"] + width > event["event_time_us"]:
                    continue
                del state.bars[name]
                row = {key: value for key, value in bar.items() if key != "notional"} | {
                    "vwap": bar["notional"] // bar["volume"] if bar["volume"] else None,
                    "odd_lot_volume": 0,
                    "odd_lot_count": 0,
                    "final": True,
                    "gap_flag": False,
                }
                await self.send("market.bars", event | {"symbol": symbol}, row)

    async def send(self, topic: str, event: Record, row: Record) -> None:
        """One derived record; the key, so the partition, is its event's."""
        row |= {
            "src_instance": event["instance"],
            "src_epoch": event["epoch"],
            "src_seq": event["seq"],
            "src_partition": event["partition"],
            "src_offset": event["offset"],
            "symbol": event["symbol"],
            "trading_date": event["trading_date"],
            "event_time_us": event["event_time_us"],
            "recv_time_us": event["recv_time_us"],
        }
        await self.producer.send(topic, encode(topic, row), key=event["symbol"].encode())


async def main(job: Job) -> None:
    """Process for ever."""
    producer = AIOKafkaProducer(bootstrap_servers=job.kafka, acks="all", linger_ms=5, max_batch_size=1 << 20)
    await producer.start()
    try:
        await consume(job, ("market.events",), Process(producer).handle)
    finally:
        await producer.stop()
