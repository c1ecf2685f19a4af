"""What came of a round, and the comparison of columns with plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Round:
    """Lines that went through both parsers, and a text for each thing that was not the same."""

    lines: int
    differences: list[str]


def column_difference(name: str, found: pa.ChunkedArray, expected: Sequence[Any]) -> tuple[int, str] | None:
    """First row where a column is not what is expected, and what stands there instead; None where all are equal.

    Days are compared as numbers, texts by what they say and not by their codes.
    """
    kind = found.type.value_type if pa.types.is_dictionary(found.type) else found.type
    if pa.types.is_date32(kind):
        kind = pa.int32()
    values = found.cast(kind)
    if values.equals(pa.chunked_array([pa.array(expected, kind)])):
        return None
    plain = values.to_pylist()
    at = next((row for row, pair in enumerate(zip(plain, expected, strict=False)) if pair[0] != pair[1]), -1)
    if at < 0:
        return min(len(plain), len(expected)), f"{name}: {len(plain)} values, expected {len(expected)}"
    return at, f"{name}: {plain[at]!r}, expected {expected[at]!r}"


def list_difference(what: str, found: Sequence[Any], expected: Sequence[Any]) -> str | None:
    """The same for lists."""
    if list(found) == list(expected):
        return None
    for at, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return f"{what} {at}: {str(one)[:400]}, expected {str(other)[:400]}"
    return f"{what}: {len(found)}, expected {len(expected)}"
