"""Corrections as plain Python: trades kept with the bar of their minute, and what `C` lines make of them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tests.unit.processing.reference_features import SECOND
from tests.unit.processing.reference_state import Bar, Instance, Kept, Row, Symbol

MISSING = "no kept trade has this identity, price, size and time"
SEVERAL = "more than one kept trade fits"
INCOMPLETE = "the line lacks what is needed: price, size (0 or more); type to insert, tick id or time to delete"
KNOWN = "a trade with this identity is there already"
NO_TIME = "the inserted trade has no time, so its bar is not known"
MINUTE = 60 * SECOND
EASTERN = ZoneInfo("America/New_York")


def midnight(day: int) -> int:
    local = datetime(1970, 1, 1, tzinfo=EASTERN) + timedelta(days=day)  # wall clock arithmetic
    return int(local.timestamp()) * SECOND


def fits(row: Row, kept: Kept) -> bool:
    trade = kept.row
    if any(trade.get(name) != row.get(name) for name in ("price", "size", "market_center")):
        return False
    if row.get("event_time_us") is not None:
        if row["event_time_us"] != trade["event_time_us"]:
            return False
    elif kept.date is not None and row.get("trading_date") is not None and kept.date != row["trading_date"]:
        return False
    if row.get("tick_id") is not None and trade.get("tick_id") is not None:
        return bool(row["tick_id"] == trade["tick_id"])
    return row.get("event_time_us") is not None and row.get("conditions") == trade.get("conditions")


class CorrectionReference:
    keep_trades: int

    def too_old(self, symbol: Symbol, instance: Instance, begin: int, length: int, clock: int | None) -> bool:
        raise NotImplementedError

    def into_bars(self, row: Row, symbol: Symbol, instance: Instance, counted: bool) -> list[str]:
        raise NotImplementedError

    def flag(
        self, row: Row, offset: int, symbol: Symbol, cause: str, begin: int | None, end: int | None, detail: str
    ) -> None:
        raise NotImplementedError

    def not_revised(self, row: Row, offset: int, symbol: Symbol, missed: list[str]) -> None:
        raise NotImplementedError

    def keep_trade(self, row: Row, symbol: Symbol, counted: bool) -> None:
        minutes = symbol.bars["1m"]
        begin = row["event_time_us"] - row["event_time_us"] % (60 * SECOND)
        bar = minutes[begin]
        if not bar.thinned and sum(len(each.kept) for each in minutes.values()) >= self.keep_trades:
            having = [at for at, each in minutes.items() if each.kept and at < begin]
            oldest = minutes[min(having)] if having else bar
            oldest.kept, oldest.thinned = [], True
        if not bar.thinned:
            bar.kept.append(Kept(row, row.get("trading_date"), counted))

    def correction(self, row: Row, offset: int, symbol: Symbol, instance: Instance) -> None:
        why, missed = INCOMPLETE, list[str]()
        if None not in (row.get("price"), row.get("size"), row.get("correction")):
            if row["correction"] == "I":
                why, missed = self.insert(row, symbol, instance)
            elif row.get("tick_id") is not None or row.get("event_time_us") is not None:
                why, missed = self.delete(row, symbol)
        if why:
            begin, end, date = row.get("event_time_us"), None, row.get("trading_date")
            if begin is None and date is not None:
                begin, end = midnight(date), midnight(date + 1)
            self.flag(row, offset, symbol, "correction_not_applied", begin, end, json.dumps({"why": why}))
        elif missed:
            self.not_revised(row, offset, symbol, missed)

    def found(self, row: Row, symbol: Symbol) -> list[tuple[int, Kept]]:
        return [(at, each) for at, bar in symbol.bars["1m"].items() for each in bar.kept if fits(row, each)]

    def insert(self, row: Row, symbol: Symbol, instance: Instance) -> tuple[str, list[str]]:
        if row.get("basis") is None and row.get("conditions") == "01":
            row = row | {"basis": "C"}
        if row.get("basis") is None or row["size"] < 0:
            return INCOMPLETE, []
        time = row.get("event_time_us")
        if time is None:
            return NO_TIME, []
        begin = time - time % MINUTE
        minute = symbol.bars["1m"].get(begin)
        if self.too_old(symbol, instance, begin, MINUTE, instance.clock) or (minute is not None and minute.thinned):
            return "", ["1s", "1m"]
        if self.found(row, symbol):
            return KNOWN, []
        date = row.get("trading_date")
        counted = row["basis"] in "CE" and date is not None and date == symbol.date
        if counted:
            symbol.traded.append((row["price"], row["size"]))
        return "", self.into_bars(row, symbol, instance, counted)

    def delete(self, row: Row, symbol: Symbol) -> tuple[str, list[str]]:
        found = self.found(row, symbol)
        if len(found) != 1:
            return SEVERAL if found else MISSING, []
        begin, kept = found[0]
        trade = kept.row
        if kept.counted and kept.date == symbol.date:
            symbol.traded.remove((trade["price"], trade["size"]))
        minute = symbol.bars["1m"][begin]
        minute.kept = [each for each in minute.kept if each is not kept]
        self.again(minute, minute.kept)
        at = trade["event_time_us"] - trade["event_time_us"] % SECOND
        second = symbol.bars["1s"].get(at)
        if second is None:
            return "", ["1s"]
        self.again(second, [each for each in minute.kept if at <= each.row["event_time_us"] < at + SECOND])
        return "", []

    def again(self, bar: Bar, trades: list[Kept]) -> None:
        bar.changed = True
        rows = [each.row for each in trades]
        bar.trades = [(each["event_time_us"], each["price"], each["size"]) for each in rows if each["basis"] in "CE"]
        bar.odd = [each["size"] for each in rows if each["basis"] == "O"]
