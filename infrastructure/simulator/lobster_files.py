"""LOBSTER pairs as arrays: the message file and the order-book file beside it, plain or gzipped.

`SYMBOL_DATE_..._message_...csv[.gz]` names symbol and day; the book file has `orderbook` in place of `message`.
Row i of the book file is the book after row i of the message file. Times are New York time of day with up to nine
decimals (more in rare rows), read as decimal text: a double cannot hold a date and nanoseconds.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Int64s = npt.NDArray[np.int64]

MISSING_PRICE: Final = 9_999_999_999  # asks; bids carry its negative
_NAME = re.compile(r"(?P<symbol>[^_,]{1,30})_(?P<day>\d{4}-\d{2}-\d{2})_(?P<rest>.*)")
_MESSAGE_COLUMNS: Final = 6


class LobsterError(ValueError):
    """A pair cannot be read; the message names the file and, where there is one, the line."""


@dataclass(frozen=True, slots=True)
class VendorDay:
    """One pair. `time_ns` counts from midnight, `price` and book prices are in 1e-4 dollars.

    `book[i]` = ask price, ask size, bid price, bid size per level, best first, after message i.
    """

    symbol: str
    day: date
    time_ns: Int64s
    kind: Int64s
    size: Int64s
    price: Int64s
    direction: Int64s
    book: Int64s
    order_id: Int64s = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # may be left out for depth by level

    @property
    def rows(self) -> int:
        """Messages."""
        return int(self.time_ns.size)

    @property
    def depth(self) -> int:
        """Levels a side in the book file."""
        return int(self.book.shape[1] // 4)


def load(message_file: Path) -> VendorDay:
    """Read a pair by its message file. Raises LobsterError, FileNotFoundError."""
    match = _NAME.fullmatch(message_file.name)
    if match is None or "message" not in match["rest"]:
        raise LobsterError(f"{message_file.name} is not SYMBOL_DATE_..._message_...: symbol and day come from the name")
    name = f"{match['symbol']}_{match['day']}_" + match["rest"].replace("message", "orderbook", 1)
    book_file = message_file.with_name(name)
    messages = _numbers(message_file)
    book = _numbers(book_file)
    if messages.shape[1] != _MESSAGE_COLUMNS:
        raise LobsterError(f"{message_file}: {messages.shape[1]} columns, must be {_MESSAGE_COLUMNS}")
    if book.shape[1] % 4:
        raise LobsterError(f"{book_file}: {book.shape[1]} columns, must be four per level")
    if len(messages) != len(book):
        raise LobsterError(f"{message_file} has {len(messages)} rows, {book_file.name} has {len(book)}")
    try:
        day = date.fromisoformat(match["day"])
    except ValueError as error:
        raise LobsterError(f"{message_file.name}: {match['day']} is not a date") from error
    falling = np.flatnonzero(np.diff(messages[:, 0]) < 0)
    if falling.size:
        raise LobsterError(f"{message_file}:{falling[0] + 2}: earlier than the row before it")
    time_ns, kind, ids, size, price, direction = (np.ascontiguousarray(messages[:, i]) for i in range(_MESSAGE_COLUMNS))
    return VendorDay(match["symbol"].upper(), day, time_ns, kind, size, price, direction, book, ids)


def _numbers(path: Path) -> Int64s:
    """A CSV file of numbers without a header; the first column of a message file in 1e-9 units."""
    raw = path.read_bytes()
    data = gzip.decompress(raw) if path.suffix == ".gz" else raw
    first, _, _ = data.partition(b"\n")
    columns = first.count(b",") + 1
    rows = data.count(b"\n") + (0 if data.endswith(b"\n") else 1)
    if not first.strip():
        raise LobsterError(f"{path} is empty")
    table: Int64s = np.zeros((rows, columns), dtype=np.int64)
    scaled = 9 if columns == _MESSAGE_COLUMNS else 0
    bad = parse_numbers(np.frombuffer(data, dtype=np.uint8), table, scaled)
    if bad >= 0:
        raise LobsterError(f"{path}:{bad + 1}: not {columns} numbers")
    return table


@njit(cache=True, error_model="numpy")
def parse_numbers(data: npt.NDArray[np.uint8], table: Int64s, scaled: int) -> int:
    """Fill `table` from CSV bytes; returns the row of a fault, or -1.

    Column 0 is in units of 10**-scaled, more decimals are cut; the others are whole numbers.
    """
    rows, columns = table.shape
    pos = 0
    for r in range(rows):
        for k in range(columns):
            negative = False
            if pos < data.size and data[pos] == 45:
                negative = True
                pos += 1
            value = digits = decimals = 0
            point = False
            while pos < data.size:
                b = data[pos]
                if 48 <= b <= 57:
                    digits += 1
                    if point and decimals == scaled:
                        pos += 1  # the vendor's own rounding shows in rare rows: cut
                        continue
                    if point:
                        decimals += 1
                    if digits > 18:
                        return r
                    value = value * 10 + (b - 48)
                elif b == 46 and not point and k == 0 and scaled:
                    point = True
                else:
                    break
                pos += 1
            if digits == 0:
                return r
            if k == 0:
                for _ in range(scaled - decimals):
                    value *= 10
            table[r, k] = -value if negative else value
            if k < columns - 1:
                if pos >= data.size or data[pos] != 44:
                    return r
                pos += 1
        if pos < data.size and data[pos] == 13:
            pos += 1
        if pos < data.size:
            if data[pos] != 10:
                return r
            pos += 1
    return -1
