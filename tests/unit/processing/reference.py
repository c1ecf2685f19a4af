"""What processing must do, as plain Python: dicts, ints and Fractions, one event at a time, nothing fast.

Written from the design, not from the kernels; the tests compare both on the same events. One object is one partition.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date, datetime
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from tests.unit.processing.reference_corrections import CorrectionReference
from tests.unit.processing.reference_depth import DepthReference
from tests.unit.processing.reference_features import SECOND, features_of
from tests.unit.processing.reference_state import Bar, Instance, Row, Symbol, half_even

LENGTHS = {"1s": SECOND, "1m": 60 * SECOND}
DEPTH_KINDS = {"order_add", "order_change", "order_delete", "level_set", "level_delete", "depth_clear"}

MARKET = DEPTH_KINDS | {"trade", "quote"}


class Reference(CorrectionReference, DepthReference):
    def __init__(
        self,
        partition: int,
        *,
        levels: int = 5,
        books: str = "change",
        keep_s: float = 7200,
        keep_trades: int = 20_000,
        closed_since: Callable[[int], int | None] = lambda _: None,
    ) -> None:
        self.partition, self.levels, self.books = partition, levels, books
        self.keep, self.keep_trades = round(keep_s * SECOND), keep_trades
        self.decay = math.log(2) / 60
        super().__init__(closed_since)
        self.symbols: dict[str, Symbol] = {}
        self.instances: dict[int, Instance] = {}
        self.gaps: dict[str, Row] = {}
        self.out: dict[str, list[Row]] = {f"market.{name}": [] for name in ("features", "bars", "books", "gaps")}

    # -- output

    def emit(self, topic: str, row: Row, offset: int, **columns: Any) -> None:
        source = {
            "src_instance": row["instance"],
            "src_epoch": row["epoch"],
            "src_seq": row["seq"],
            "src_idx": row["idx"],
            "src_partition": self.partition,
            "src_offset": offset,
            "recv_time_us": row["recv_time_us"],
        }
        same = [each for each in self.out[topic] if each["src_offset"] == offset]
        self.out[topic].append(source | {"out": len(same)} | columns)

    def gap_open(self, symbol: Symbol, connection: str) -> bool:
        instance = self.instances[symbol.instance]
        if connection not in instance.begun:
            return False
        gap = instance.begun[connection][0]
        ended = [each[connection][0] for each in (symbol.ended, instance.closed) if connection in each]
        return all(gap > other for other in ended)

    # -- events

    def take(self, row: Row, offset: int) -> None:
        if (
            row["kind"] in MARKET | {"correction"}
            and row.get("trading_date") is None
            and row.get("event_time_us") is not None
        ):
            moment = datetime.fromtimestamp(row["event_time_us"] / 1e6, ZoneInfo("America/New_York"))
            row = row | {"trading_date": (moment.date() - date(1970, 1, 1)).days}
        instance = self.instances.setdefault(row["instance"], Instance())
        identity = (row["epoch"], row["seq"], row["idx"])
        if instance.mark is not None and identity <= instance.mark:
            return
        instance.mark = identity
        symbol = None
        if row.get("symbol") is not None:
            symbol = self.symbols.setdefault(row["symbol"], Symbol(row["symbol"]))
        kind = row["kind"]
        featured = kind in DEPTH_KINDS | {"trade", "quote"}
        read_by = featured or kind in {"connected", "lost", "subscribed", "unsubscribed", "gap", "other", "correction"}
        if symbol is not None and read_by and symbol.instance != row["instance"]:
            symbol.instance, symbol.ended = row["instance"], {}
        if featured:
            if symbol is None:
                return
            before = symbol.top(self.levels)
            old = row.get("replay_of") is not None or row["source"] == "H"
            if kind == "trade":
                self.trade(row, offset, symbol, instance, old)
            elif kind == "quote" and not old:
                self.quote(row, symbol)
            depth = not old and kind in DEPTH_KINDS
            completed = depth and self.after_quiet(row, symbol)
            emptied = depth and self.depth(row, symbol, instance)
            gap_open = self.gap_open(symbol, "level1") or self.gap_open(symbol, "level2")
            self.emit("market.features", row, offset, **features_of(row, symbol, self.decay, gap_open))
            if completed or emptied or symbol.top(self.levels) != before:
                self.show(row, offset, symbol)
        elif kind == "correction":
            if symbol is not None:
                self.correction(row, offset, symbol, instance)
        elif kind == "clock":
            if row["port"] == "level1" and row.get("event_time_us") is not None:
                self.clock(row, offset, instance)
            elif row["port"] == "level2":
                for other in self.of(row["instance"]):
                    if other.trust == "resyncing" and other.begun:
                        other.trust = "valid"
                        self.restated(other)
                        self.show(row, offset, other)
                    elif self.unanswered(row, other):
                        self.show(row, offset, other)
        elif kind in {"connected", "lost", "subscribed", "unsubscribed"}:
            self.connection(row, offset, symbol)
        elif kind == "gap":
            self.gap(row, offset, symbol, instance)
        elif kind == "other" and symbol is not None and row["port"] == "level2":
            raw = row.get("raw") or b""
            if raw.startswith((b"q,", b"n,")):
                self.empty(row, offset, symbol, "none", need_summary=False)

    def of(self, instance: int) -> list[Symbol]:
        return sorted((each for each in self.symbols.values() if each.instance == instance), key=lambda each: each.name)

    def empty(self, row: Row, offset: int, symbol: Symbol, trust: str, need_summary: bool | None = None) -> None:
        had = any(symbol.book().values())
        symbol.levels, symbol.orders = {"bid": {}, "ask": {}}, {}
        symbol.trust, symbol.begun, symbol.unconfirmed, symbol.asked = trust, False, None, None
        if need_summary is not None:
            symbol.need_summary = need_summary
        if had:
            self.show(row, offset, symbol)

    def connection(self, row: Row, offset: int, symbol: Symbol | None) -> None:
        raw = row.get("raw") or b""
        connection = json.loads(raw)["connection"] if raw.startswith(b"{") else row["port"]
        kind = row["kind"]
        if symbol is not None:
            if connection == "level2" and kind == "subscribed":
                again = json.loads(raw).get("cause") == "redrive"
                if again and self.restate(symbol):
                    self.show(row, offset, symbol)
                else:
                    need = self.needs_summary(symbol) if again else True
                    self.empty(row, offset, symbol, "resyncing", need_summary=need)
                symbol.asked = row["recv_time_us"] if again else None
            elif connection == "level2" and kind == "unsubscribed":
                self.empty(row, offset, symbol, "none", need_summary=True)
            elif connection == "level1" and kind == "unsubscribed":
                symbol.level1 = (None, None, None, None)
        elif connection == "level2":
            for other in self.of(row["instance"]):
                if kind == "lost" and other.trust != "none":
                    self.empty(row, offset, other, "stale")
                elif kind == "connected" and other.trust == "stale":
                    self.empty(row, offset, other, "resyncing", need_summary=True)

    def gap(self, row: Row, offset: int, symbol: Symbol | None, instance: Instance) -> None:
        try:
            fact = json.loads(row["raw"])
        except ValueError:
            return
        connection, gap_id, phase = fact["connection"], fact["gap_id"], fact["phase"]
        gap = tuple(int(part) for part in gap_id.split(":"))[1:]
        assert len(gap) == 2
        place = fact["from" if phase == "begin" else "to"]
        if phase == "begin":
            self.gaps.setdefault(gap_id, fact)
        known = self.gaps.get(gap_id)
        if symbol is not None or self.partition == 0:
            start = (known or {}).get("from", {})
            end = {} if phase == "begin" else place
            self.emit(
                "market.gaps",
                row,
                offset,
                gap_id=gap_id,
                symbol=row.get("symbol"),
                port=connection,
                cause=(known or {}).get("cause", "unknown"),
                state="open" if phase == "begin" else "closed",
                from_time_us=start.get("event_time_us"),
                from_epoch=start.get("epoch"),
                from_seq=start.get("seq"),
                to_time_us=end.get("event_time_us"),
                to_epoch=end.get("epoch"),
                to_seq=end.get("seq"),
                detail=None,
                revision=0 if phase == "begin" else 1,
            )
        if phase == "closed":
            self.gaps.pop(gap_id, None)
        time = place.get("event_time_us")
        if phase == "begin" and symbol is None:
            instance.begun[connection] = (gap, time)
            for other in self.of(row["instance"]):
                if connection == "level2" and other.trust != "none":
                    self.empty(row, offset, other, "stale")
                if connection == "level1":
                    for interval, bars in other.bars.items():
                        for begin, bar in bars.items():
                            if not bar.published and (time is None or begin + LENGTHS[interval] > time):
                                bar.gap = True
        elif phase == "end" and symbol is not None:
            symbol.ended[connection] = (gap, instance.clock if time is None else time)
        elif phase == "closed" and symbol is None:
            instance.closed[connection] = (gap, instance.clock if time is None else time)

    # -- Level 1 and depth

    def quote(self, row: Row, symbol: Symbol) -> None:
        sides = []
        for side in ("bid", "ask"):
            price, size = row.get(side), row.get(f"{side}_size")
            if price is None or (price == 0 and not size):
                price, size = None, None
            sides += [price, size]
        symbol.level1 = (sides[0], sides[1], sides[2], sides[3])

    def trade(self, row: Row, offset: int, symbol: Symbol, instance: Instance, old: bool) -> None:
        if not old and any(row.get(name) is not None for name in ("bid", "bid_size", "ask", "ask_size")):
            self.quote(row, symbol)
        price, size, basis, date = row.get("price"), row.get("size"), row.get("basis"), row.get("trading_date")
        if price is None or size is None or size < 0 or basis is None:
            return
        if date is not None and (symbol.date is None or (date > symbol.date and not old)):
            symbol.date, symbol.traded = date, []
        counted = False
        if basis in "CE":
            if date is None or date == symbol.date:
                symbol.traded.append((price, size))
                counted = True
            if not old:
                symbol.last = (price, size)
        if row.get("event_time_us") is not None:
            missed = self.into_bars(row, symbol, instance, counted)
            if missed and symbol.tell(row["event_time_us"], LENGTHS[missed[-1]]):
                self.not_revised(row, offset, symbol, missed)

    def into_bars(self, row: Row, symbol: Symbol, instance: Instance, counted: bool) -> list[str]:
        """Put a trade into its bars; intervals whose bar lies too far back."""
        time, date = row["event_time_us"], row.get("trading_date")
        missed = []
        for interval, length in LENGTHS.items():
            begin = time - time % length
            if self.too_old(symbol, instance, begin, length, instance.clock):
                missed.append(interval)
                continue
            bars = symbol.bars[interval]
            if begin not in bars:
                bars[begin] = Bar(date=date, gap=self.reaches(symbol, instance, begin, begin + length))
            bar = bars[begin]
            bar.changed = True
            bar.date = date if bar.date is None else bar.date
            if row["basis"] in "CE":
                bar.trades.append((time, row["price"], row["size"]))
            else:
                bar.odd.append(row["size"])
        if "1m" not in missed:
            self.keep_trade(row, symbol, counted)
        return missed

    def too_old(self, symbol: Symbol, instance: Instance, begin: int, length: int, clock: int | None) -> bool:
        if clock is None or begin + length + self.keep >= clock:
            return False
        known = instance.begun.get("level1", (None, None))[1] is not None
        in_gap = known and self.gap_open(symbol, "level1") and self.reaches(symbol, instance, begin, begin + length)
        return not in_gap

    def not_revised(self, row: Row, offset: int, symbol: Symbol, missed: list[str]) -> None:
        time, length = row.get("event_time_us"), LENGTHS[missed[-1]]
        begin = None if time is None else time - time % length
        detail = json.dumps({"intervals": missed})
        self.flag(row, offset, symbol, "bar_not_revised", begin, None if begin is None else begin + length, detail)

    def flag(
        self, row: Row, offset: int, symbol: Symbol, cause: str, begin: int | None, end: int | None, detail: str
    ) -> None:
        self.emit(
            "market.gaps",
            row,
            offset,
            gap_id=f"{row['instance']}:{row['epoch']}:{row['seq']}",
            symbol=symbol.name,
            port="level1",
            cause=cause,
            state="unresolved",
            from_time_us=begin,
            from_epoch=None,
            from_seq=None,
            to_time_us=end,
            to_epoch=None,
            to_seq=None,
            detail=detail,
            revision=0,
        )

    def reaches(self, symbol: Symbol, instance: Instance, begin: int, end: int) -> bool:
        if "level1" not in instance.begun:
            return False
        gap, start = instance.begun["level1"]
        until: float | None = math.inf
        for known in (instance.closed, symbol.ended):
            if "level1" in known and known["level1"][0] >= gap:
                until = known["level1"][1]
        return (start is None or end > start) and until is not None and begin < until

    def show(self, row: Row, offset: int, symbol: Symbol) -> None:
        if self.books == "off":
            return
        if self.books != "change":
            symbol.unshown = True
            return
        self.book(row, offset, symbol)

    def book(self, row: Row, offset: int, symbol: Symbol) -> None:
        bids, asks = symbol.top(self.levels)
        symbol.unshown = False
        self.emit(
            "market.books",
            row,
            offset,
            symbol=symbol.name,
            trading_date=row.get("trading_date"),
            event_time_us=row.get("event_time_us"),
            book_state=symbol.shown_trust(),
            bid_prices=[price for price, _ in bids],
            bid_sizes=[size for _, size in bids],
            ask_prices=[price for price, _ in asks],
            ask_sizes=[size for _, size in asks],
            gap_flag=self.gap_open(symbol, "level2"),
        )

    # -- bars

    def clock(self, row: Row, offset: int, instance: Instance) -> None:
        clock = row["event_time_us"]
        instance.clock = clock
        period = None
        if self.books not in {"change", "off"}:
            number = clock // (int(self.books.removesuffix("s")) * SECOND)
            if instance.shown is None or number > instance.shown:
                instance.shown = period = number
        for symbol in self.of(row["instance"]):
            for interval, length in LENGTHS.items():
                bars = symbol.bars[interval]
                for begin in sorted(bars):
                    bar = bars[begin]
                    if bar.changed and begin + length <= clock:
                        bar.revision += bar.published
                        bar.published, bar.changed = True, False
                        self.bar(row, offset, symbol, interval, begin, bar)
                for begin in sorted(bars):
                    if bars[begin].changed or not self.too_old(symbol, instance, begin, length, clock):
                        break
                    del bars[begin]
            before = symbol.top(self.levels)
            self.expire(symbol, clock)
            if symbol.top(self.levels) != before:
                self.show(row, offset, symbol)
            if period is not None and symbol.unshown:
                self.book(row, offset, symbol)

    def bar(self, row: Row, offset: int, symbol: Symbol, interval: str, begin: int, bar: Bar) -> None:
        in_time = sorted(bar.trades, key=lambda each: each[0])  # stable: equal times stay in log order
        prices = [price for _, price, _ in in_time]
        volume = sum(size for _, _, size in in_time)
        self.emit(
            "market.bars",
            row,
            offset,
            symbol=symbol.name,
            trading_date=bar.date,
            interval=interval,
            open_time_us=begin,
            event_time_us=row["event_time_us"],
            open=prices[0] if prices else None,
            high=max(prices, default=None),
            low=min(prices, default=None),
            close=prices[-1] if prices else None,
            volume=volume,
            vwap=half_even(Fraction(sum(p * s for _, p, s in in_time), volume)) if volume else None,
            trade_count=len(prices),
            odd_lot_volume=sum(bar.odd),
            odd_lot_count=len(bar.odd),
            final=True,
            revision=bar.revision,
            gap_flag=bar.gap,
            session="open" if self.closed_since(begin) is None else "closed",
        )
