"""One line -> its events, in plain Python: the definition that the kernel is tested against.

It also does the rare lines of the live path (system messages). The table is the design's "from line to event":

    Q with C, E or O   trade (carries bid and ask too)      3 order_add     4 order_change   5 order_delete
    Q without, P       quote (P: summary)                   6   order_add (summary)
    C                  correction                           7   level_set (summary)   8 level_set   9 level_delete
    T                  clock                                S,CLEAR DEPTH          depth_clear
    F R N E n q M O 0  other                                S,SERVER (DIS)CONNECTED connected, lost; any other S: other
    Z 2                two events, bid (idx 0) and ask (idx 1): order_add (summary) of a Z, order_change of a 2,
                       order_delete where the line says that the side is not quoted

Decisions the table leaves open. A quote carries no trade fields (a quote-only Q repeats the last trade's). Trailing
fields may be missing, as the protocol says, but a Q or P that ends before Message Contents (where the layout has it)
does not say what it is and is refused, like a trade without price or size. Every number, time and date of a Q or P
must be sound, also those that this kind of event does not carry; texts are looked at where they are used. A line with
Message Contents C, E or O is a trade only if the layout holds price and size; then both must be there. `0` answers a
query that is never sent: its bytes are kept, and it is no order. `5` needs a side only where it has no order id. `Z`
and `2` are the depth of protocols before 6.2: one line per market maker with both sides, and for futures per level
number (`MD01`, ...), which is the participant of its rows; a line is refused whole. A non-zero Delay makes a line
`other`, whatever follows. Depth types but `0` belong to Level 2 and Q, P, C to Level 1; elsewhere they are unknown. A
size of 0 is passed on as sent: what it means is the book's decision. An `other` by its type that is nothing but
that letter says nothing and is refused, apart from `O`, which the depth port sends without any field; with fields it is
kept whatever they hold. A correction without date and time has no trading date: the trade that it names may be of
another one than today's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, TypeVar

from pipeline_orchestrator.ingestion import layout as lay
from pipeline_orchestrator.ingestion import reasons
from pipeline_orchestrator.ingestion import reference_fields as take
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.reasons import LineError
from pipeline_orchestrator.market.eastern import DAY_US, eastern_to_utc_us
from pipeline_orchestrator.market.events import PORT

_Value = TypeVar("_Value")
Event = dict[str, Any]  # column -> value as in the market.events schema; absent = null; dates as day numbers

LEVEL1, LEVEL2 = PORT["level1"], PORT["level2"]
_ORDERS: Final = {b"3": "order_add", b"4": "order_change", b"6": "order_add"}
_LEVELS: Final = {b"7": "level_set", b"8": "level_set"}
_BOTH_SIDES: Final = {b"Z": "order_add", b"2": "order_change"}
_SUMMARIES: Final = frozenset({b"P", b"6", b"7", b"Z"})
_SYMBOL_FIRST: Final = frozenset({b"F", b"R", b"n", b"q", b"0"})
_OTHER: Final = frozenset({*_SYMBOL_FIRST, b"N", b"E", b"M", b"O"})
_CHECKS: Final[dict[str, Callable[[bytes], int | None]]] = {
    lay.PRICE: take.price,
    lay.INTEGER: take.integer,
    lay.TIME: take.time_of_day,
    lay.DATE: take.date,
}


def split(line: bytes) -> list[bytes]:
    """Fields of a line without its line end; at most one trailing empty field is dropped."""
    fields = line.split(b",")
    if len(fields) > 1 and not fields[-1]:
        fields.pop()
    return fields[: lay.MAX_FIELDS]


def parse_events(line: bytes, port: int, context: ParserContext, recv_us: int) -> tuple[list[Event], ParserContext]:
    """Events of one line (LF and one CR already stripped) by their `idx`, and the parser's state after it.

    `port` is a code of `market.events.PORT`, `recv_us` the receipt (settles the doubled hour). Raises LineError;
    the state is then unchanged.
    """
    if port == LEVEL2 and line[:1] in _BOTH_SIDES and line[1:2] in {b"", b","}:
        return _both_sides(split(line), context, recv_us), context
    event, context = parse_line(line, port, context, recv_us)
    return [event], context


def parse_line(line: bytes, port: int, context: ParserContext, recv_us: int) -> tuple[Event, ParserContext]:
    """The same for a line of a type that makes one event; `Z` and `2` are unknown here."""
    if not line:
        raise LineError(reasons.EMPTY_LINE)
    if len(line) > 1 and line[1:2] != b",":
        raise LineError(reasons.UNKNOWN_TYPE)
    fields = split(line)
    kind = fields[0]
    if kind == b"T":
        return _clock(fields, port, context, recv_us)
    if kind == b"S":
        return _system(line, fields, port, context)
    if kind in _OTHER:
        if len(fields) < 2 and kind != b"O":
            raise LineError(reasons.MISSING_FIELD)
        name = take.symbol_or_none(_field(fields, 1)) if kind in _SYMBOL_FIRST else None
        return _other(line, name, context), context
    if port == LEVEL1 and kind in {b"Q", b"P"}:
        return _update(line, fields, context, recv_us), context
    if port == LEVEL1 and kind == b"C":
        return _correction(fields, context, recv_us), context
    if port == LEVEL2 and kind in _ORDERS:
        return _order(fields, context, recv_us), context
    if port == LEVEL2 and kind in _LEVELS:
        return _level(fields, context, recv_us), context
    if port == LEVEL2 and kind == b"5":
        return _order_delete(fields, context, recv_us), context
    if port == LEVEL2 and kind == b"9":
        return _level_delete(fields, context, recv_us), context
    raise LineError(reasons.UNKNOWN_TYPE)


def latest_time(line: bytes, port: int, context: ParserContext, recv_us: int) -> int | None:
    """The latest time a line speaks of: its event time, or for Q and P also the time of the trade it restates."""
    try:
        events, _ = parse_events(line, port, context, recv_us)
        times = [event.get("event_time_us") for event in events]
        if events[0]["kind"] in {"trade", "quote"}:
            fields, where = split(line), lay.positions(context.layout)
            day = take.date(_field(fields, int(where[lay.T_DATE])))
            tod = take.time_of_day(_field(fields, int(where[lay.T_TIME])))
            times.append(_line_time(day, tod, context, recv_us))
    except LineError:
        return None
    return max((time for time in times if time is not None), default=None)


def _field(fields: list[bytes], index: int) -> bytes:
    return fields[index] if 0 <= index < len(fields) else b""


def _clock_day(context: ParserContext) -> int | None:
    return None if context.clock1 is None else context.clock1 // DAY_US


def _other(line: bytes, symbol: str | None, context: ParserContext, kind: str = "other") -> Event:
    return {"kind": kind, "symbol": symbol, "trading_date": _clock_day(context), "raw": line}


def _clock(fields: list[bytes], port: int, context: ParserContext, recv_us: int) -> tuple[Event, ParserContext]:
    local = take.clock(_field(fields, 1))
    event = {"kind": "clock", "trading_date": local // DAY_US, "event_time_us": eastern_to_utc_us(local, recv_us)}
    if port == LEVEL1:
        context = replace(context, clock1=local)
    elif port == LEVEL2:
        context = replace(context, clock2=local)
    return event, context


def _system(line: bytes, fields: list[bytes], port: int, context: ParserContext) -> tuple[Event, ParserContext]:
    key = _field(fields, 1)
    if key == b"CLEAR DEPTH":
        symbol = take.symbol(_field(fields, 2))
        side = take.side(_field(fields, 3))
        return {
            "kind": "depth_clear",
            "symbol": symbol,
            "trading_date": _clock_day(context),
            "side": side,
        }, context
    if key in {b"SERVER CONNECTED", b"SERVER DISCONNECTED"}:
        return _other(line, None, context, "connected" if key == b"SERVER CONNECTED" else "lost"), context
    name = take.symbol_or_none(_field(fields, 2)) if key == b"SYMBOL LIMIT REACHED" else None
    if port == LEVEL1:
        layout = lay.parse_layout(line)
        if layout is not None:
            context = replace(context, layout=layout)
    return _other(line, name, context), context


@lru_cache(maxsize=8)
def _places(layout: tuple[str, ...]) -> tuple[list[int], int, list[tuple[int, str]]]:
    """Where each target stands in a layout, the commas a line needs, the fields that are only checked."""
    return [int(place) for place in lay.positions(layout)], lay.least_commas(layout), lay.checks(layout)


def _update(line: bytes, fields: list[bytes], context: ParserContext, recv_us: int) -> Event:
    """Q and P by the layout in force. Fields are looked at in this order; the first bad one names the reason."""
    where, least, checks = _places(context.layout)

    def text(target: int) -> bytes:
        return _field(fields, where[target])

    symbol = take.symbol(text(lay.T_SYMBOL))
    if take.integer(text(lay.T_DELAY)):
        return _other(line, symbol, context)
    if line.count(b",") < least:
        raise LineError(reasons.MISSING_FIELD)
    basis = ""
    if fields[0] == b"Q" and where[lay.T_PRICE] >= 0 and where[lay.T_SIZE] >= 0:
        contents = text(lay.T_CONTENTS)
        if contents and not contents.isalpha():
            raise LineError(reasons.BAD_VALUE)
        basis = next((letter for letter in "CEO" if letter.encode() in contents), "")
    event: Event = {"kind": "trade" if basis else "quote", "symbol": symbol, "summary": fields[0] == b"P"}
    event["bid"] = take.price(text(lay.T_BID))
    event["bid_size"] = take.integer(text(lay.T_BID_SIZE))
    event["ask"] = take.price(text(lay.T_ASK))
    event["ask_size"] = take.integer(text(lay.T_ASK_SIZE))
    event["total_volume"] = take.integer(text(lay.T_VOLUME))
    day = take.date(text(lay.T_DATE))
    code = take.day_code(text(lay.T_DAY_CODE))
    near = _clock_day(context) if day is None else day
    event["trading_date"] = near if near is None or code is None else take.nearest_day(code, near)
    trade: Event = {"basis": basis}
    trade["price"] = _needed(take.price(text(lay.T_PRICE)), bool(basis))
    trade["size"] = _needed(take.integer(text(lay.T_SIZE)), bool(basis))
    trade["tick_id"] = take.integer(text(lay.T_TICK_ID))
    trade["market_center"] = take.integer(text(lay.T_CENTER), take.MAX_INT32)
    trade["aggressor"] = take.integer(text(lay.T_AGGRESSOR), take.MAX_INT32)
    traded = take.time_of_day(text(lay.T_TIME))
    bid, ask = take.time_of_day(text(lay.T_BID_TIME)), take.time_of_day(text(lay.T_ASK_TIME))
    for position, form in checks:
        _CHECKS[form](_field(fields, position))
    if not basis:
        event["event_time_us"] = _quote_time(bid, ask, context, recv_us)
        return event
    trade["conditions"] = take.plain_text(text(lay.T_CONDITIONS))
    trade["event_time_us"] = _line_time(day, traded, context, recv_us)
    return {**event, **trade}


def _quote_time(bid: int | None, ask: int | None, context: ParserContext, recv_us: int) -> int | None:
    """The later of both, dated by the Level 1 clock; None while neither or no clock is known."""
    if context.clock1 is None:
        return None
    local = max((take.dated(tod, context.clock1) for tod in (bid, ask) if tod is not None), default=None)
    return None if local is None else int(eastern_to_utc_us(local, recv_us))


def _line_time(day: int | None, tod: int | None, context: ParserContext, recv_us: int) -> int | None:
    """Date and time of a line; a missing date is guessed from the Level 1 clock."""
    if tod is None:
        return None
    if day is not None:
        return int(eastern_to_utc_us(day * DAY_US + tod, recv_us))
    if context.clock1 is None:
        return None
    return int(eastern_to_utc_us(take.dated(tod, context.clock1), recv_us))


def _correction(fields: list[bytes], context: ParserContext, recv_us: int) -> Event:
    """Two layouts are in use: the live one has the trade type after I or X, the documented one has not."""
    event: Event = {"kind": "correction", "symbol": take.symbol(_field(fields, 1))}
    letter = _field(fields, 2)
    if not letter:
        raise LineError(reasons.MISSING_FIELD)
    if letter not in {b"I", b"X"}:
        raise LineError(reasons.BAD_VALUE)
    event["correction"] = letter.decode()
    third = _field(fields, 3)
    typed = len(third) == 1 or (not third and len(fields) > 10)
    if typed and third in {b"C", b"E", b"O"}:
        event["basis"] = third.decode()
    at = 4 if typed else 3
    day = take.date(_field(fields, at))
    tod = take.time_of_day(_field(fields, at + 1))
    event["price"] = take.price(_field(fields, at + 2))
    event["size"] = take.integer(_field(fields, at + 3))
    event["tick_id"] = take.integer(_field(fields, at + 4))
    event["conditions"] = take.plain_text(_field(fields, at + 5))
    event["market_center"] = take.integer(_field(fields, at + 6), take.MAX_INT32)
    _stamped(event, day, tod, context, recv_us)
    if day is None and tod is None:
        event["trading_date"] = None
    return event


def _order(fields: list[bytes], context: ParserContext, recv_us: int) -> Event:
    event: Event = {"kind": _ORDERS[fields[0]], "summary": fields[0] in _SUMMARIES}
    event["symbol"] = take.symbol(_field(fields, 1))
    event["order_id"] = take.unsigned_bits(_field(fields, 2))
    event["mmid"] = take.plain_text(_field(fields, 3))
    event["side"] = take.side(_field(fields, 4))
    event["price"] = _required(take.price, _field(fields, 5))
    event["size"] = _required(take.integer, _field(fields, 6))
    event["priority"] = take.unsigned_bits(_field(fields, 7))
    event["precision"] = take.integer(_field(fields, 8), take.MAX_INT32)
    tod, day = take.time_of_day(_field(fields, 9)), take.date(_field(fields, 10))
    return _stamped(event, day, tod, context, recv_us)


def _order_delete(fields: list[bytes], context: ParserContext, recv_us: int) -> Event:
    event: Event = {"kind": "order_delete", "symbol": take.symbol(_field(fields, 1))}
    event["order_id"] = take.unsigned_bits(_field(fields, 2))
    event["mmid"] = take.plain_text(_field(fields, 3))
    side = _field(fields, 4)
    event["side"] = take.side(side) if side or event["order_id"] is None else None
    tod, day = take.time_of_day(_field(fields, 5)), take.date(_field(fields, 6))
    return _stamped(event, day, tod, context, recv_us)


def _both_sides(fields: list[bytes], context: ParserContext, recv_us: int) -> list[Event]:
    """Field 9, the condition code, is not looked at. A participant's two sides share the line's date."""
    both: Event = {"symbol": take.symbol(_field(fields, 1)), "mmid": _present(take.plain_text(_field(fields, 2)))}
    both["summary"] = fields[0] in _SUMMARIES
    prices = take.price(_field(fields, 3)), take.price(_field(fields, 4))
    sizes = take.integer(_field(fields, 5)), take.integer(_field(fields, 6))
    bid_time, day = take.time_of_day(_field(fields, 7)), take.date(_field(fields, 8))
    ask_time = take.time_of_day(_field(fields, 10))
    valid = _present(take.flag(_field(fields, 11))), _present(take.flag(_field(fields, 12)))
    take.flag(_field(fields, 13))  # end of a message group: told to people, not to a book
    events = []
    for side, price, size, tod, quoted in zip(("bid", "ask"), prices, sizes, (bid_time, ask_time), valid, strict=True):
        event: Event = {**both, "kind": _BOTH_SIDES[fields[0]] if quoted else "order_delete", "side": side}
        if quoted:
            event["price"], event["size"] = _needed(price, True), _needed(size, True)
        events.append(_stamped(event, day, tod, context, recv_us))
    return events


def _level(fields: list[bytes], context: ParserContext, recv_us: int) -> Event:
    event: Event = {"kind": "level_set", "summary": fields[0] in _SUMMARIES}
    event["symbol"] = take.symbol(_field(fields, 1))
    event["side"] = take.side(_field(fields, 2))
    event["price"] = _required(take.price, _field(fields, 3))
    event["size"] = _required(take.integer, _field(fields, 4))
    event["order_count"] = take.integer(_field(fields, 5), take.MAX_INT32)
    event["precision"] = take.integer(_field(fields, 6), take.MAX_INT32)
    tod, day = take.time_of_day(_field(fields, 7)), take.date(_field(fields, 8))
    return _stamped(event, day, tod, context, recv_us)


def _level_delete(fields: list[bytes], context: ParserContext, recv_us: int) -> Event:
    event: Event = {"kind": "level_delete", "symbol": take.symbol(_field(fields, 1))}
    event["side"] = take.side(_field(fields, 2))
    event["price"] = _required(take.price, _field(fields, 3))
    tod, day = take.time_of_day(_field(fields, 4)), take.date(_field(fields, 5))
    return _stamped(event, day, tod, context, recv_us)


def _required(reader: Callable[[bytes], int | None], text: bytes) -> int:
    value = reader(text)
    if value is None:
        raise LineError(reasons.MISSING_FIELD)
    return value


def _present(value: _Value | None) -> _Value:
    if value is None:
        raise LineError(reasons.MISSING_FIELD)
    return value


def _needed(value: int | None, needed: bool) -> int | None:
    if value is None and needed:
        raise LineError(reasons.MISSING_FIELD)
    return value


def _stamped(event: Event, day: int | None, tod: int | None, context: ParserContext, recv_us: int) -> Event:
    event["event_time_us"] = _line_time(day, tod, context, recv_us)
    event["trading_date"] = _clock_day(context) if day is None else day
    return event
