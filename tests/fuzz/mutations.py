"""Damage of the kinds that feeds, proxies, disks and other programs do to a line."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

BITS = (
    b",", b"\r", b"\n", b"\r\n", b".", b"-", b"+", b":", b"/", b" ", b"\x00", b"\x00" * 9, b"\xff", b"\x7f", b"\x80",
    b"0", b"A", b"T", b"1e5", b"NaN", b"0x1F", b"," * 20, b"," * 130, b"9" * 18, b"9" * 19, b"9" * 20, b"9" * 40, b"-0",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"2147483648",
    b"9223372036854.775807", b"9223372036854.775808", b"1.1234567", b"0" * 30, b"F" * 64, b"F" * 65, b"X" * 300,
    "١٢".encode(), "１２".encode(), "²".encode(), b"\xb2", b"\xb9", "−1".encode(), "é".encode("latin-1"),
    b"\xef\xbb\xbf",
)  # fmt: skip
DATES = (
    b"2024-02-30", b"2023-02-29", b"2024-02-29", b"1900-02-29", b"1899-12-31", b"2199-12-31", b"2200-01-01",
    b"0000-00-00", b"9999-12-31", b"02/29/2024", b"13/01/2024", b"00/00/0000", b"20240102",
    b"2024/01/02", b"01-02-2024", b"2024-1-2",
    b"2024-11-03", b"2024-03-10", b"11/03/2024", b"1970-01-01", b"1900-01-01", b"",
)  # fmt: skip
TIMES = (
    b"99:99:99", b"99:99:99.000000", b"99:99:99.", b"99:99:98", b"23:59:60", b"23:59:60.999999", b"24:00:00",
    b"23:60:00", b"00:00:61", b"9:30:00", b"09:30", b"09:30:00.", b"09:30:00.1234567",
    b"09:30:00,5", b"01:30:00", b"02:30:00.5",
    b"00:00:00", b"00:00:01.999999", b"23:59:59.999999", b"0a:30:00", b"-9:30:00", b"",
)  # fmt: skip
Fault = Callable[[random.Random, bytes, bytes], bytes]
_DATE = re.compile(rb"\d{4}-\d\d-\d\d|\d\d/\d\d/\d{4}|\d{8}(?= )")
_TIME = re.compile(rb"\d\d:\d\d:\d\d(?:\.\d+)?")
_DIGIT = re.compile(rb"\d")
_FOREIGN = [[chr(zero + digit).encode() for digit in range(10)] for zero in (0x660, 0x966, 0xFF10)]
LONGEST = 70_000  # beyond the 64 KiB that a line may have


def damaged(rng: random.Random, line: bytes, other: bytes) -> bytes:
    """`line` with one to four faults; `other` is a line that may have run into it. It may hold line ends."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        line = _FAULTS[rng.randrange(len(_FAULTS))](rng, line, other)
    return line


def _at(rng: random.Random, line: bytes) -> int:
    return rng.randrange(len(line) + 1)


def _inserted(rng: random.Random, line: bytes, other: bytes) -> bytes:
    at = _at(rng, line)
    return line[:at] + rng.choice(BITS) + line[at:]


def _deleted(rng: random.Random, line: bytes, other: bytes) -> bytes:
    at = _at(rng, line)
    return line[:at] + line[at + rng.choice((1, 1, 2, 3, 5, 12)) :]


def _overwritten(rng: random.Random, line: bytes, other: bytes) -> bytes:
    at = _at(rng, line)
    return line[:at] + bytes([rng.randrange(256)]) + line[at + 1 :]


def _bit_flipped(rng: random.Random, line: bytes, other: bytes) -> bytes:
    if not line:
        return line
    at = rng.randrange(len(line))
    return line[:at] + bytes([line[at] ^ 1 << rng.randrange(8)]) + line[at + 1 :]


def _cut(rng: random.Random, line: bytes, other: bytes) -> bytes:
    return line[: _at(rng, line)]


def _beheaded(rng: random.Random, line: bytes, other: bytes) -> bytes:
    return line[_at(rng, line) :]


def _joined(rng: random.Random, line: bytes, other: bytes) -> bytes:
    return line[: _at(rng, line)] + other[_at(rng, other) :]


def _field_replaced(rng: random.Random, line: bytes, other: bytes) -> bytes:
    fields = line.split(b",")
    fields[rng.randrange(len(fields))] = rng.choice((b"", *BITS))
    return b",".join(fields)


def _fields_swapped(rng: random.Random, line: bytes, other: bytes) -> bytes:
    fields = line.split(b",")
    a, b = rng.randrange(len(fields)), rng.randrange(len(fields))
    fields[a], fields[b] = fields[b], fields[a]
    return b",".join(fields)


def _field_gone(rng: random.Random, line: bytes, other: bytes) -> bytes:
    fields = line.split(b",")
    del fields[rng.randrange(len(fields))]
    return b",".join(fields)


def _field_twice(rng: random.Random, line: bytes, other: bytes) -> bytes:
    fields = line.split(b",")
    at = rng.randrange(len(fields))
    return b",".join([*fields[:at], *fields[at : at + 1] * rng.choice((2, 2, 3, 90)), *fields[at + 1 :]])


def _odd(pattern: re.Pattern[bytes], values: tuple[bytes, ...]) -> Fault:
    def replaced(rng: random.Random, line: bytes, other: bytes) -> bytes:
        places = [match.span() for match in pattern.finditer(line)]
        if not places:
            return line
        a, b = rng.choice(places)
        return line[:a] + rng.choice(values) + line[b:]

    return replaced


def _foreign_digits(rng: random.Random, line: bytes, other: bytes) -> bytes:
    places = [match.start() for match in _DIGIT.finditer(line)]
    if not places:
        return line
    at, script = rng.choice(places), rng.choice(_FOREIGN)
    return line[:at] + script[line[at] - 48] + line[at + 1 :]


def _very_long(rng: random.Random, line: bytes, other: bytes) -> bytes:
    if len(line) > LONGEST:
        return line
    at = _at(rng, line)
    size = rng.choice((200, 1000)) if rng.random() < 0.995 else rng.choice((65_535, 65_536, 65_537, LONGEST))
    return line[:at] + rng.choice((b"9", b"0", b"x", b",", b" ", b"\x00")) * size + line[at:]


_FAULTS: tuple[Fault, ...] = (
    _inserted, _inserted, _deleted, _deleted, _overwritten, _overwritten, _bit_flipped, _cut, _cut, _beheaded, _joined,
    _field_replaced, _field_replaced, _fields_swapped, _field_gone, _field_twice, _odd(_DATE, DATES),
    _odd(_TIME, TIMES), _foreign_digits, _very_long,
)  # fmt: skip
