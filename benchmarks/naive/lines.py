"""One line of the feed to one event, as a dict of the schema market.events."""

from __future__ import annotations

import calendar
from datetime import date
from functools import lru_cache
from typing import Any

SELECTED = (
    "Most Recent Trade", "Most Recent Trade Size", "Most Recent Trade Date", "Most Recent Trade Time",
    "Most Recent Trade Conditions", "Most Recent Trade Market Center", "Most Recent Trade Aggressor",
    "Most Recent Trade Day Code", "TickID", "Total Volume", "Message Contents", "Bid", "Bid Size", "Bid Time",
    "Ask", "Ask Size", "Ask Time", "Delay",
)  # fmt: skip
SIDES = {"B": "bid", "A": "ask"}
EMPTY: dict[str, Any] = dict.fromkeys(
    (
        "symbol", "trading_date", "event_time_us", "price", "size", "side", "basis", "bid", "bid_size", "ask",
        "ask_size", "tick_id", "total_volume", "market_center", "conditions", "aggressor", "level", "order_id", "mmid",
        "order_count", "priority", "precision", "correction", "replay_of", "raw",
    )
)  # fmt: skip
EPOCH = date(1970, 1, 1)


@lru_cache(8)
def day(text: str) -> tuple[int, date]:
    """Microseconds UTC of a day's Eastern midnight, and the day. The clock changes of a Sunday are left out."""
    if "/" in text:
        month, day_of_month, year = text.split("/")
    else:
        year, month, day_of_month = text.split("-") if "-" in text else (text[:4], text[4:6], text[6:])
    found = date(int(year), int(month), int(day_of_month))
    second_sunday_of_march = 14 - calendar.weekday(found.year, 3, 7)
    first_sunday_of_november = 7 - calendar.weekday(found.year, 11, 7)
    summer = (
        date(found.year, 3, second_sunday_of_march) < found < date(found.year, 11, max(1, first_sunday_of_november))
    )
    return ((found - EPOCH).days * 86_400 + (4 if summer else 5) * 3_600) * 1_000_000, found


def time_us(text: str) -> int:
    """HH:MM:SS.ffffff in microseconds."""
    clock, _, fraction = text.partition(".")
    hours, minutes, seconds = clock.split(":")
    whole = int(hours) * 3_600 + int(minutes) * 60 + int(seconds)
    return whole * 1_000_000 + (int(fraction.ljust(6, "0")) if fraction else 0)


def price(text: str) -> int | None:
    """A decimal price in 1e-6 units."""
    return round(float(text) * 1_000_000) if text else None


def number(text: str) -> int | None:
    """An integer, or null where the field is empty."""
    return int(text) if text else None


def level1(line: str, layout: list[str]) -> dict[str, Any] | None:
    """The event of a Level 1 line; None for lines that make none here. Any: values of an Avro record."""
    fields = line.split(",")
    if fields[0] == "T":
        start, found = day(line[2:10])
        return {**EMPTY, "kind": "clock", "event_time_us": start + time_us(line[11:]), "trading_date": found}
    if fields[0] not in {"Q", "P"}:
        return {**EMPTY, "kind": "other", "raw": line.encode()}
    row = dict(zip(layout, fields[1:], strict=False))
    contents = row["Message Contents"]
    basis = next((letter for letter in "CEO" if letter in contents), None) if fields[0] == "Q" else None
    start, found = day(row["Most Recent Trade Date"])
    event = {
        **EMPTY,
        "kind": "trade" if basis else "quote",
        "symbol": row["Symbol"],
        "trading_date": found,
        "bid": price(row["Bid"]),
        "bid_size": number(row["Bid Size"]),
        "ask": price(row["Ask"]),
        "ask_size": number(row["Ask Size"]),
        "summary": fields[0] == "P",
        "total_volume": number(row["Total Volume"]),
    }
    if basis:
        event |= {
            "basis": basis,
            "event_time_us": start + time_us(row["Most Recent Trade Time"]),
            "price": price(row["Most Recent Trade"]),
            "size": number(row["Most Recent Trade Size"]),
            "tick_id": number(row["TickID"]),
            "market_center": number(row["Most Recent Trade Market Center"]),
            "conditions": row["Most Recent Trade Conditions"],
            "aggressor": number(row["Most Recent Trade Aggressor"]),
        }
    else:
        stamps = [time_us(row[name]) for name in ("Bid Time", "Ask Time") if row[name]]
        event["event_time_us"] = start + max(stamps) if stamps else None
    return event


def level2(line: str) -> dict[str, Any] | None:
    """The event of a Level 2 line by price level."""
    fields = line.split(",")
    if fields[0] in {"7", "8"}:
        _, symbol, side, at, size, orders, precision, clock, on, *_ = fields
        start, found = day(on)
        return {
            **EMPTY,
            "kind": "level_set",
            "symbol": symbol,
            "side": SIDES[side],
            "price": price(at),
            "size": int(size),
            "order_count": number(orders),
            "precision": number(precision),
            "event_time_us": start + time_us(clock),
            "trading_date": found,
            "summary": fields[0] == "7",
        }
    if fields[0] == "9":
        _, symbol, side, at, clock, on, *_ = fields
        start, found = day(on)
        return {
            **EMPTY,
            "kind": "level_delete",
            "symbol": symbol,
            "side": SIDES[side],
            "price": price(at),
            "event_time_us": start + time_us(clock),
            "trading_date": found,
        }
    if fields[0] == "T":
        start, found = day(line[2:10])
        return {**EMPTY, "kind": "clock", "event_time_us": start + time_us(line[11:]), "trading_date": found}
    if line.startswith("S,CLEAR DEPTH"):
        return {**EMPTY, "kind": "depth_clear", "symbol": fields[2], "side": SIDES[fields[3]]}
    return {**EMPTY, "kind": "other", "raw": line.encode()}
