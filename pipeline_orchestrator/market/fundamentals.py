"""`F` lines of Level 1: what the feed says about a company or a contract, as typed values.

Protocols 6.1 and 6.2 put 57 fields behind the letter. Before, reserved empty places stood between the first 48, and
the last nine did not exist: as many fields in all, so the two forms are told apart by where the format code stands,
unless the protocol is named. Fields that a newer client adds are kept as text. A field that cannot be read as what it
should be keeps its text and is named in `unreadable`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Final

Value = int | float | str | dict[str, float | str | None]

NUMBER, DATE, TEXT, SPLIT = range(4)
_N, _D, _T, _S = NUMBER, DATE, TEXT, SPLIT
_FIELDS: Final[tuple[tuple[str, int], ...]] = (
    ("symbol", _T), ("exchange_id", _T), ("pe", _N), ("average_volume", _N), ("high_52_weeks", _N),
    ("low_52_weeks", _N), ("high_calendar_year", _N), ("low_calendar_year", _N), ("dividend_yield", _N),
    ("dividend_amount", _N), ("dividend_rate", _N), ("pay_date", _D), ("ex_dividend_date", _D),
    ("eps_current_year", _N), ("eps_next_year", _N), ("growth_five_years_percent", _N), ("fiscal_year_end_month", _N),
    ("company_name", _T), ("root_option_symbols", _T), ("held_by_institutions_percent", _N), ("beta", _N),
    ("leaps", _T), ("current_assets", _N), ("current_liabilities", _N), ("balance_sheet_date", _D),
    ("long_term_debt", _N), ("common_shares_thousands", _N), ("split_1", _S), ("split_2", _S), ("format_code", _T),
    ("precision", _N), ("sic", _N), ("historical_volatility", _N), ("security_type", _N), ("listed_market", _N),
    ("high_52_weeks_date", _D), ("low_52_weeks_date", _D), ("high_calendar_year_date", _D),
    ("low_calendar_year_date", _D), ("year_end_close", _N), ("maturity_date", _D), ("coupon_rate", _N),
    ("expiration_date", _D), ("strike_price", _N), ("naics", _N), ("exchange_root", _T),
    ("option_premium_multiplier", _N), ("option_multiple_deliverable", _T), ("session_open_time", _T),
    ("session_close_time", _T), ("base_currency", _T), ("contract_size", _N), ("contract_months", _T),
    ("minimum_tick_size", _N), ("first_delivery_date", _D), ("figi", _T), ("security_subtype", _T),
)  # fmt: skip
FIELDS: Final = tuple(name for name, _ in _FIELDS)
assert len(FIELDS) == 57, "protocol 6.1 and 6.2"

# Where fields 1 to 48 stood before 6.1 (1-based); places between them were reserved.
_RESERVED: Final = frozenset({14, 15, 16, 17, 18, 23, 34, 37, 38})
_OLD_PLACES: Final = tuple(place for place in range(1, 58) if place not in _RESERVED)
_OLD_PROTOCOLS: Final = frozenset({"5.0", "5.1", "5.2", "6.0"})


@dataclass(frozen=True, slots=True)
class Fundamentals:
    """`values` by name, None = the feed says nothing; `extra` = fields behind the known ones."""

    symbol: str
    values: dict[str, Value | None]
    extra: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = field(default=())


def parse_fundamental(line: str, protocol: str = "") -> Fundamentals:
    """Read one `F` line. Raises ValueError for another line, or one without a symbol."""
    fields = line.rstrip("\r\n").split(",")
    if fields[0] != "F" or len(fields) < 2 or not fields[1].strip():
        raise ValueError(f"no F line: {line[:40]!r}")
    if len(fields) > 2 and fields[-1] == "":
        fields.pop()
    old = protocol in _OLD_PROTOCOLS if protocol else _looks_old(fields)
    places = _OLD_PLACES if old else range(1, len(FIELDS) + 1)
    values: dict[str, Value | None] = dict.fromkeys(FIELDS)
    unreadable = []
    for (name, kind), place in zip(_FIELDS, places, strict=False):
        text = fields[place].strip() if place < len(fields) else ""
        if not text:
            continue
        try:
            values[name] = _value(text, kind)
        except ValueError:
            values[name] = text
            unreadable.append(name)
    extra = tuple(fields[len(FIELDS) + 1 :])
    return Fundamentals(fields[1].strip(), values, extra, tuple(unreadable))


def _looks_old(fields: list[str]) -> bool:
    """The format code, a small number, stood in field 39 before 6.1, where a date stands now."""
    place = _OLD_PLACES[FIELDS.index("format_code")]
    text = fields[place].strip() if place < len(fields) else ""
    return text.isascii() and text.isdigit()


def _value(text: str, kind: int) -> Value:
    if kind == NUMBER:
        return number(text)
    if kind == DATE:
        return day(text)
    if kind == SPLIT:
        factor, _, date = text.partition(" ")
        return {"factor": number(factor), "date": day(date) if date else None}
    return text


def number(text: str) -> int | float:
    """A whole number where the text has no fraction. Raises ValueError."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"no number: {text!r}") from None
    if not found.is_finite():
        raise ValueError(f"no number: {text!r}")
    return int(found) if found == found.to_integral_value() and "." not in text else float(found)


def day(text: str) -> str:
    """MM/DD/CCYY or CCYY-MM-DD as the latter. Raises ValueError."""
    for form in ("%m/%d/%Y", "%Y-%m-%d"):
        try:
            return datetime.strptime(text, form).date().isoformat()
        except ValueError:
            continue
    raise ValueError(f"no date: {text!r}")
