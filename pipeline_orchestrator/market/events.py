"""The in-process form of every topic: one Arrow schema each, derived from the Avro schemas in config/schemas.

The Avro files are the single definition. In Arrow, every Avro enum and the columns `symbol`, `conditions`, `mmid`,
`interval` are `dictionary<int32, string>` (so that kernels see small integers); for an enum the dictionary is always
exactly the schema's symbol list, in order, so that code == position in that list. `bytes` is `binary`, plain
`long`/`int`/`double`/`boolean` are int64/int32/float64/bool, `date` is date32, arrays are list<int64>.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pyarrow as pa

from config.paths import SCHEMA_DIR

EVENTS = "market.events"
FEATURES = "market.features"
BARS = "market.bars"
BOOKS = "market.books"
GAPS = "market.gaps"
DLQ = "market.dlq"
TOPICS = (EVENTS, FEATURES, BARS, BOOKS, GAPS, DLQ)

PRICE_SCALE = 1_000_000  # prices are integers in 1e-6 units

KINDS = (
    "other",
    "trade",
    "quote",
    "order_add",
    "order_change",
    "order_delete",
    "level_set",
    "level_delete",
    "depth_clear",
    "correction",
    "clock",
    "connected",
    "lost",
    "subscribed",
    "unsubscribed",
    "gap",
    "canary",
)
KIND = {name: code for code, name in enumerate(KINDS)}
PORTS = ("none", "level1", "level2", "lookup")
PORT = {name: code for code, name in enumerate(PORTS)}
SIDES = ("bid", "ask")
BASES = ("C", "E", "O")

DICTIONARY_STRINGS = frozenset({"symbol", "conditions", "mmid", "interval"})
STRING_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


@cache
def avro_schema(topic: str) -> dict[str, Any]:  # Any: Avro schemas are JSON
    """The Avro schema of a topic as parsed JSON. Raises FileNotFoundError for a topic without one."""
    schema: dict[str, Any] = json.loads((SCHEMA_DIR / f"{topic}.avsc").read_text(encoding="utf-8"))
    return schema


@cache
def enum_symbols(topic: str) -> dict[str, tuple[str, ...]]:
    """Column -> its enum's symbols, for the enum columns of a topic."""
    named: dict[str, tuple[str, ...]] = {}
    columns: dict[str, tuple[str, ...]] = {}
    for field in avro_schema(topic)["fields"]:
        kind = _without_null(field["type"])
        if isinstance(kind, dict) and kind["type"] == "enum":
            named[kind["name"]] = tuple(kind["symbols"])
            columns[field["name"]] = tuple(kind["symbols"])
        elif isinstance(kind, str) and kind in named:
            columns[field["name"]] = named[kind]
    return columns


@cache
def arrow_schema(topic: str) -> pa.Schema:
    """The Arrow schema of a topic's batches (see the module docstring for the mapping)."""
    return pa.schema([_field(topic, field) for field in avro_schema(topic)["fields"]])


_PRIMITIVE = {
    "int": pa.int32(),
    "long": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "bytes": pa.binary(),
}


def _without_null(kind: Any) -> Any:  # Any: an Avro type is a string, a dict or a union list
    if isinstance(kind, list):
        return next(branch for branch in kind if branch != "null")
    return kind


def _field(topic: str, field: dict[str, Any]) -> pa.Field:
    name, nullable = field["name"], isinstance(field["type"], list)
    kind = _without_null(field["type"])
    if name in enum_symbols(topic) or name in DICTIONARY_STRINGS:
        return pa.field(name, STRING_DICTIONARY, nullable=nullable)
    if isinstance(kind, dict) and kind.get("logicalType") == "date":
        return pa.field(name, pa.date32(), nullable=nullable)
    if isinstance(kind, dict) and kind["type"] == "array":
        return pa.field(name, pa.list_(pa.int64()), nullable=nullable)
    return pa.field(name, _PRIMITIVE[kind], nullable=nullable)
