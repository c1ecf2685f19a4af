"""The answer of `symbol` for people: one line per fact, its age behind it, `unknown` where nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Style = Callable[[str, str], str]
Json = Any  # a JSON-able value
UNKNOWN = "unknown"
LEVELS = 5


def symbol_text(document: Json, style: Style) -> str:
    """All lines."""
    return "\n".join(_lines(document, style))


def price(value: int | None) -> str:
    """Units of 1e-6 as a decimal number."""
    return UNKNOWN if value is None else f"{Decimal(value).scaleb(-6).normalize():f}"


def age(row: Json) -> str:
    """How old a row is."""
    seconds = None if row is None else row.get("age_s")
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"  ({seconds / length:.1f} {unit} ago)"
    return f"  ({seconds:.1f} s ago)"


def _lines(document: Json, style: Style) -> Iterator[str]:
    fundamentals = document["fundamentals"]
    values = (fundamentals or {}).get("values") or {}
    yield style(document["symbol"], "bold") + (f"  {values['company_name']}" if values.get("company_name") else "")
    yield f"ingestion   {_ingestion(document['ingestion'])}"
    yield from _not_served(document["not_served"], style)
    yield from _status(document["status"], style)
    yield f"trade       {_trade(document['trade'])}"
    yield f"quote       {_quote(document['quote'])}"
    yield f"features    {_features(document['features'])}"
    yield from _book(document["book"])
    yield from _gaps(document, style)
    yield from _corrections(document["corrections"], style)
    yield from _fundamentals(fundamentals, values)
    yield from _regional(document["regional"])
    yield from _news(document["news"])


def _known(value: Json) -> str:
    return UNKNOWN if value is None else str(value)


def _not_served(rows: Json, style: Style) -> Iterator[str]:
    """Why the running pipeline does not get the symbol; what is below is of the time before."""
    for reason in dict.fromkeys(row["reason"] for row in rows or ()):
        told = [f"{row['component']} {row['connection']}" for row in rows if row["reason"] == reason]
        yield f"not served  {style(reason, 'warn')} ({', '.join(told)})"


def _ingestion(row: Json) -> str:
    if row is None:
        return UNKNOWN
    return f"ingestion/{row['instance']}" + ("" if row["watched"] else ", watches it no more") + age(row)


def _trade(row: Json) -> str:
    if row is None:
        return UNKNOWN
    return f"{price(row['price'])} x {_known(row['size'])}  type {_known(row['basis'])}" + age(row)


def _quote(row: Json) -> str:
    if row is None:
        return UNKNOWN
    sides = (f"{price(row[side])} x {_known(row[f'{side}_size'])}" for side in ("bid", "ask"))
    return " / ".join(sides) + age(row)


def _features(row: Json) -> str:
    if row is None:
        return UNKNOWN
    shown = f"mid {price(row['mid'])}  vwap {price(row['vwap'])}  last {price(row['last_price'])}"
    why = f"  ({row['null_reason']})" if row["null_reason"] else ""
    return f"{shown}  book {row['book_state']}, from {row['book_source']}{why}, {row['source']}" + age(row)


def _book(row: Json) -> Iterator[str]:
    if row is None:
        yield f"book        {UNKNOWN}"
        return
    yield f"book        {row['state']}" + (", in a gap" if row["gap_flag"] else "") + age(row)
    bids, asks = row["bids"][:LEVELS], row["asks"][:LEVELS]
    for at in range(max(len(bids), len(asks))):
        bid = f"{bids[at][1]:>8} {price(bids[at][0]):>12}" if at < len(bids) else " " * 21
        yield f"  {bid}" + (f"  {price(asks[at][0]):<12} {asks[at][1]}" if at < len(asks) else "")


def _gaps(document: Json, style: Style) -> Iterator[str]:
    gaps = document["gaps_open"]
    yield f"gaps        {len(gaps)} open" if gaps else "gaps        none open"
    for gap in gaps:
        yield f"  {style(gap['cause'], 'bad')} on {gap['port']} since {_moment(gap['from_time_us'])}, {gap['gap_id']}"
    for cause, count in document["unresolved"].items():
        yield f"  {count} x {cause}"


def _status(row: Json, style: Style) -> Iterator[str]:
    quoted, silence, condition = row["quoted"], row["silence"], row["condition"]
    parts = [style(row["trading"], "warn" if row["trading"] in {"silent", "not quoted"} else "")]
    if row["storage_behind"] and row["trading"] == "unknown":
        parts.append("storage is behind the features")
    elif quoted is not None and quoted["sides"] != "both":
        parts.append(f"{quoted['sides']} quoted{age(quoted)}")
    if silence is not None and row["trading"] in {"silent", "not quoted"}:
        others = f"{silence['other_trades']} trades of {silence['other_symbols']} others since"
        parts.append(f"newest line{age(silence)}, {others}")
    yield f"status      {', '.join(parts)}"
    if condition is not None:
        yield f"  {condition['meaning']} (trade condition {condition['code']}){age(condition)}"
    for answer in row["answers"]:
        yield f"  {style(answer['meaning'], 'warn')} ({answer['port']}){age(answer)}"
    session, link, account = row["session"], row["link"], row["account"]
    until = f" until {_moment(session['end_us'])}" if session["end_us"] is not None else ""
    yield f"session     {session['state']}{until}, calendar {session['calendar']}"
    said = UNKNOWN if link is None else link["state"] + (f" ({link['said']})" if link["said"] else "") + age(link)
    yield f"feed        {said}" + (f", account {account['service']}" if account is not None else "")


def _corrections(rows: Json, style: Style) -> Iterator[str]:
    if rows:
        yield "corrections"
    for row in rows:
        what = {"I": "insert", "X": "delete"}.get(row["correction"], UNKNOWN)
        when = _moment(row["event_time_us"]) if row["event_time_us"] is not None else row["date"] or "time unknown"
        tick = "" if row["tick_id"] is None else f"  tick {row['tick_id']}"
        yield f"  {what}  {price(row['price'])} x {_known(row['size'])}  {when}{tick}{age(row)}"
        if row["not_applied"]:
            yield f"    {style('not applied', 'warn')}: {row['not_applied']}"


def _fundamentals(row: Json, values: Json) -> Iterator[str]:
    if row is None or row.get("values") is None:
        yield f"fundamentals {UNKNOWN}" + age(row)
        return
    yield f"fundamentals{age(row)}"
    for name, value in values.items():
        if value is None or name in {"symbol", "company_name"}:
            continue
        shown = f"{value['factor']} on {_known(value['date'])}" if isinstance(value, dict) else value
        yield f"  {name:<30} {shown}" + ("  (as sent)" if name in row["unreadable"] else "")
    if row["extra"]:
        yield f"  {'further fields':<30} {', '.join(row['extra'])}"


def _regional(rows: Json) -> Iterator[str]:
    if not rows:
        yield f"regional    {UNKNOWN}; none is stored (they come with iqfeed.regional = true)"
        return
    yield "regional"
    for row in rows:
        yield f"  center {_known(row['market_center']):<6} {_quote(row)}"


def _news(rows: Json) -> Iterator[str]:
    if not rows:
        yield f"news        {UNKNOWN}; none is stored (they come with iqfeed.news = true)"
        return
    yield "news"
    for row in rows:
        yield f"  {_moment(row['time_us'])}  {row['distributor']}  {row['headline']}"


def _moment(time_us: int | None) -> str:
    return UNKNOWN if time_us is None else f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}Z"
