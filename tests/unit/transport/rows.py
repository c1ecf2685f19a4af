"""Random rows of every topic, with the values at which codecs break."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa

from pipeline_orchestrator.market.events import arrow_schema, enum_symbols

LONGS = (0, -1, 1, 63, -64, 64, -65, 2**31, -(2**31) - 1, 2**62, 2**63 - 1, -(2**63))
INTS = (0, -1, 1, 63, -64, 64, 2**31 - 1, -(2**31))
DOUBLES = (0.0, -0.0, 1.5, -1e308, 5e-324, float("inf"))
TEXTS = ("", "AAPL", "BRK.B", "é", "漢字", "🙂", "x" * 63, "y" * 64, "z" * 200, "\x00")


def random_row(topic: str, rng: random.Random) -> dict[str, Any]:
    """One row; every field is null about every fourth time where it may be."""
    return {field.name: _value(topic, field, rng) for field in arrow_schema(topic)}


def random_rows(topic: str, count: int, seed: int) -> pa.RecordBatch:
    """`count` rows of a topic, the same for the same seed."""
    rng = random.Random(seed)
    return pa.RecordBatch.from_pylist([random_row(topic, rng) for _ in range(count)], schema=arrow_schema(topic))


def _value(topic: str, field: pa.Field, rng: random.Random) -> Any:
    kind = field.type
    if field.nullable and rng.random() < 0.25:
        return None
    if field.name in enum_symbols(topic):
        return rng.choice(enum_symbols(topic)[field.name])
    if pa.types.is_int64(kind):
        return rng.choice(LONGS) if rng.random() < 0.5 else rng.randrange(-(2**50), 2**50)
    if pa.types.is_int32(kind) or pa.types.is_date32(kind):
        return rng.randrange(0, 30_000) if pa.types.is_date32(kind) else rng.choice(INTS)
    if pa.types.is_float64(kind):
        return rng.choice(DOUBLES)
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_list(kind):
        return [rng.choice(LONGS) for _ in range(rng.choice((0, 1, 5, 70)))]
    if pa.types.is_binary(kind):
        return rng.randbytes(rng.choice((0, 1, 64, 300)))
    return rng.choice(TEXTS)
