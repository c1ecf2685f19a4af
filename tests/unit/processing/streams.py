"""Random streams of events that visit every rule, and ways to run them through processing and the reference."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from config.sections import BarsConfig, ProcessingConfig, Settings
from pipeline_orchestrator.market.calendar import Calendar
from pipeline_orchestrator.market.sessions import Sessions
from pipeline_orchestrator.processing.process_events import ProcessEvents
from tests.unit.processing.build import DAY, Feed, Row, batch_of
from tests.unit.processing.reference import Reference

TOPICS = ("market.features", "market.bars", "market.books", "market.gaps")
SYMBOLS = ("AA", "B", "C.D", "Z")
PENNY = 10_000


@dataclass
class Log:
    """Records per partition: (offset, row) in order; `sequence` = partitions in the order of writing."""

    partitions: int
    records: dict[int, list[tuple[int, Row]]] = field(default_factory=dict)
    sequence: list[int] = field(default_factory=list)

    def append(self, partition: int, row: Row, hole: int = 0) -> None:
        run = self.records.setdefault(partition, [])
        run.append(((run[-1][0] + 1 if run else 0) + hole, row))
        self.sequence.append(partition)


def random_log(seed: int, events: int = 250, partitions: int = 3) -> Log:
    """Events of two instances over a few symbols, as ingestion would write them, and worse."""
    rng = random.Random(seed)
    feeds = [Feed(instance=0, epoch=5), Feed(instance=7, epoch=2)]
    traded: list[Row] = []
    log = Log(partitions)
    open_gaps: list[list[str]] = [[], []]
    for _ in range(events):
        at = rng.choice((0, 0, 0, 1))
        feed = feeds[at]
        feed.now += rng.choice((0, 0, 1, 400, 90_000, 700_000, 3_000_000))
        feed.now += rng.choice((0,) * 40 + (400_000_000, 901_000_000))
        if rng.random() < 0.01:
            feed.epoch, feed.seq = feed.epoch + 1, 0
        row = _correction(rng, feed, traded) if traded and rng.random() < 0.12 else _event(rng, feed, open_gaps[at])
        if row["kind"] == "trade" and row.get("symbol") is not None:
            traded.append(row)
        hole = rng.choice((0, 0, 0, 2))
        if row.get("symbol") is not None:
            place = SYMBOLS.index(row["symbol"]) % partitions if rng.random() < 0.97 else 1
            places = [place]
        elif row["kind"] in {"clock", "connected", "lost", "gap"}:
            places = list(range(partitions))
        else:
            places = [0]
        for place in places:
            log.append(place, row, hole)
            if rng.random() < 0.03:
                log.append(place, rng.choice(log.records[place])[1])  # a repeat
    return log


def _event(rng: random.Random, feed: Feed, open_gaps: list[str]) -> Row:
    symbol = rng.choice(SYMBOLS)
    kind = rng.choices(
        ("trade", "quote", "set", "delete", "clear", "order", "clock", "fact", "none", "other", "bad"),
        (20, 14, 20, 6, 2, 24, 12, 8, 3, 2, 2),
    )[0]
    old: dict[str, Any] = {}
    if rng.random() < 0.05:
        old = {"replay_of": "0:4:17", "event_time_us": feed.now - rng.choice((0, 2_000_000, 70_000_000, 4_000_000_000))}
    if rng.random() < 0.02:
        old = {"event_time_us": None, "trading_date": None}
    if rng.random() < 0.02:
        old = {"source": "H"}
    side = rng.choice(("bid", "ask"))
    price = 100_000_000 + PENNY * (rng.randint(-8, 2) if side == "bid" else rng.randint(-2, 8))
    if kind == "trade":
        if rng.random() < 0.5:
            old |= {"bid": price - PENNY, "bid_size": rng.randint(0, 9), "ask": price + PENNY * rng.randint(-1, 3)}
            old |= {"ask_size": rng.choice((None, 0, 5))}
        date = {"trading_date": DAY + rng.choice((0, 0, 0, 0, 0, 0, 0, -1, 1))} if "trading_date" not in old else {}
        time = {"event_time_us": feed.now - rng.choice((0, 0, 0, 0, 1_500_000))} if "event_time_us" not in old else {}
        odd = price + rng.choice((0, 0, 1, 37))
        old |= {
            "tick_id": rng.choice((None, feed.seq, feed.seq, feed.seq, 5)),
            "conditions": rng.choice(("01", "8717")),
        }
        old |= {"market_center": rng.choice((5, 19, None))}
        return feed.trade(symbol, odd, rng.choice((0, 1, 3, 10, 250)), rng.choice("CCEO"), **date, **time, **old)
    if kind == "quote":
        bid = rng.choice((None, 0, price, price - 1, price - 3 * PENNY))
        return feed.quote(
            symbol,
            bid,
            rng.choice((None, 0, 1, 7, 100)),
            rng.choice((None, 0, price + PENNY, price + 1, price - PENNY)),
            rng.choice((None, 0, 1, 7, 100)),
            summary=rng.random() < 0.2,
            **old,
        )
    if kind == "set":
        return feed.level(symbol, side, price, rng.choice((0, 1, 2, 3, 500)), summary=rng.random() < 0.4, **old)
    if kind == "delete":
        return feed.delete(symbol, side, price, **old)
    if kind == "clear":
        return feed.add("depth_clear", symbol, "level2", side=rng.choice(("bid", "ask", None)), **old)
    if kind == "order":
        return _order(rng, feed, rng.choice((*SYMBOLS[2:], symbol)), side, price, old)
    if kind == "clock":
        return feed.clock(
            rng.choice(("level1", "level1", "level2")), rng.choice((None, None, None, feed.now - 5_000_000))
        )
    if kind == "none":
        raw = rng.choice((f"q,{symbol},", f"n,{symbol}", f"F,{symbol},1", "")).encode()
        return feed.add("other", symbol, rng.choice(("level2", "level1")), raw=raw or None, event_time_us=None)
    if kind == "other":
        return feed.add("other", None, "level1", raw=b"S,KEY,1", event_time_us=None)
    if kind == "bad":
        return rng.choice(
            (
                lambda: feed.add("trade", None, price=1, size=1, basis="C"),
                lambda: feed.add("trade", symbol, price=None, size=5, basis="C"),
                lambda: feed.add("trade", symbol, price=price, size=-5, basis="C"),
                lambda: feed.add("level_set", symbol, "level2", side=None, price=5, size=5),
                lambda: feed.add("level_set", symbol, "level2", side="bid", price=price, size=None),
                lambda: feed.add("order_add", symbol, "level2", side=side, price=price, size=5),
                lambda: feed.add("order_change", symbol, "level2", side=side, price=price, size=1 << 41, order_id=3),
                lambda: feed.add("order_delete", symbol, "level2", mmid="NSDQ"),
                lambda: feed.add("correction", symbol, price=price, size=5),
                lambda: feed.add("canary", symbol),
                lambda: feed.add("gap", None, "level1", raw=b'{"phase": "begin"'),
            )
        )()
    return _fact(rng, feed, symbol, open_gaps)


def _correction(rng: random.Random, feed: Feed, traded: list[Row]) -> Row:
    """Names a trade of the stream, more or less exactly; or inserts one like it."""
    trade = rng.choice(traded[-30:])
    names = ("price", "size", "market_center", "tick_id", "conditions", "event_time_us", "trading_date", "basis")
    line: Row = {name: trade.get(name) for name in names} | {"correction": rng.choice("XXXI")}
    if line["correction"] == "I":
        line |= {"tick_id": rng.choice((line["tick_id"], 10_000 + feed.seq, None)), "size": rng.choice((1, 70, -1))}
        line["basis"] = rng.choice(("C", "E", "O", None))
    for name in names:
        if rng.random() < 0.06:
            line[name] = rng.choice((None, {"price": 1, "size": 7, "trading_date": DAY}.get(name)))
    if rng.random() < 0.4:
        line["event_time_us"] = None
    return feed.add("correction", trade["symbol"], **line)


def _order(rng: random.Random, feed: Feed, symbol: str, side: str, price: int, old: dict[str, Any]) -> Row:
    """Orders with ids beyond 63 bits, or participants' rows; both for one symbol."""
    who: dict[str, Any] = {"order_id": rng.choice((-1, -5, 0, 7, 648907593934, 1 << 62)), "mmid": None}
    if symbol == SYMBOLS[2] or rng.random() < 0.1:
        who = {"order_id": None, "mmid": rng.choice(("NSDQ", "AMEX", "CHXE", "TOOLONGNAME"))}
    if rng.random() < 0.2:
        return feed.add("order_delete", symbol, "level2", **({"side": side} | who | old))
    kind = rng.choice(("order_add", "order_change", "order_change"))
    size = rng.choice((0, 1, 2, 3, 500))
    priority = rng.choice((None, 1, 2, -3))
    summary = kind == "order_add" and rng.random() < 0.6
    more = {"priority": priority, "summary": summary} | who | old
    return feed.add(kind, symbol, "level2", side=side, price=price, size=size, **more)


def _fact(rng: random.Random, feed: Feed, symbol: str, open_gaps: list[str]) -> Row:
    port = rng.choice(("level1", "level2", "level2"))
    what = rng.choice(
        ("connected", "lost", "line", "watch", "watch", "watch", "unwatch", "begin", "end", "end", "closed")
    )
    if what in {"connected", "lost"}:
        return feed.fact(what, None, port, phase="open")
    if what == "line":
        kind = rng.choice(("connected", "lost"))
        return feed.add(kind, None, port, raw=f"S,SERVER {kind.upper()}".encode(), event_time_us=None)
    if what in {"watch", "unwatch"}:
        if what == "watch" and rng.random() < 0.5:
            return feed.fact("subscribed", symbol, "level2", phase=what, cause="redrive")
        return feed.fact("subscribed" if what == "watch" else "unsubscribed", symbol, port, phase=what)
    place = {"epoch": feed.epoch, "seq": feed.seq, "event_time_us": rng.choice((None, feed.now, feed.now - 900_000))}
    if what == "begin" or not open_gaps:
        gap_id = f"{feed.instance}:{feed.epoch}:{feed.seq}"
        open_gaps.append(gap_id)
        return feed.fact("gap", None, port, phase="begin", gap_id=gap_id, cause="reader_lost", **{"from": place})
    gap_id = rng.choice(open_gaps[-2:])
    return feed.fact("gap", symbol if what == "end" else None, port, phase=what, gap_id=gap_id, to=place)


def half_hours() -> Calendar:
    """Open in the first half of each hour of the days that the streams visit."""
    hour = 3_600_000_000
    begins = np.arange((DAY - 1) * 24, (DAY + 4) * 24, dtype=np.int64) * hour
    days = np.repeat(np.arange(DAY - 1, DAY + 4, dtype=np.int64), 24)
    ends = begins + hour // 2
    return Calendar("nights", Sessions(begins, ends, days, int(begins[0]), int(begins[-1]) + hour, 0, "nights", ""))


def closed_since(us: int) -> int | None:
    """What half_hours says, for the reference."""
    half = 1_800_000_000
    return us // half * half if us // half % 2 else None


NIGHTS = half_hours()


def settings_for(books: str = "change", levels: int = 3, keep: str = "60s", keep_trades: int = 12) -> Settings:
    processing = ProcessingConfig(books=books, book_levels=levels)
    return Settings(processing=processing, bars=BarsConfig(keep=keep, keep_trades=keep_trades))


def run(
    log: Log, settings: Settings, cuts: Sequence[int], processor: ProcessEvents | None = None
) -> dict[str, list[Row]]:
    """Rows per topic and partition, concatenated over batches cut after these many records of the whole log."""
    processor = processor or ProcessEvents(settings, range(log.partitions), NIGHTS)
    taken = dict.fromkeys(range(log.partitions), 0)
    found: dict[str, list[Row]] = {f"{topic}/{p}": [] for topic in TOPICS for p in range(log.partitions)}
    bounds = sorted({0, len(log.sequence), *(cut % (len(log.sequence) + 1) for cut in cuts)})
    for begin, end in pairwise(bounds):
        runs: dict[int, list[tuple[int, Row]]] = {}
        for partition in log.sequence[begin:end]:
            runs.setdefault(partition, []).append(log.records[partition][taken[partition]])
            taken[partition] += 1
        for out in processor.process(batch_of(dict(runs))).outgoing:
            for row, partition in zip(out.rows.to_pylist(), out.partitions.tolist(), strict=True):
                assert row["src_partition"] == partition
                found[f"{out.topic}/{partition}"].append(row)
    return found


def expected(log: Log, settings: Settings) -> dict[str, list[Row]]:
    """The same by the reference."""
    found: dict[str, list[Row]] = {}
    keep = float(settings.bars.keep.removesuffix("s"))
    for partition in range(log.partitions):
        reference = Reference(
            partition,
            levels=settings.processing.book_levels,
            books=settings.processing.books,
            keep_s=keep,
            keep_trades=settings.bars.keep_trades,
            closed_since=closed_since,
        )
        for offset, row in log.records.get(partition, []):
            reference.take(row, offset)
        for topic in TOPICS:
            found[f"{topic}/{partition}"] = reference.out[topic]
    return found
