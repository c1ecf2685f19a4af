"""A flat Avro record schema as a table of small integers that the kernels walk.

Flat means: every field is a primitive, an enum, an array of long, or a union of null with one of the first two.
That is the whole of the six topics; another schema is refused here and goes through `avro_reference`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# Operations: how one field is written. The kernels know these numbers.
LONG = 0  # zigzag varint, int64 column
INT = 1  # zigzag varint, int32 column (also date32)
BOOLEAN = 2  # one byte
DOUBLE = 3  # eight bytes, little endian
ENUM = 4  # zigzag varint of the code of a dictionary column
INTERNED = 5  # length and bytes, dictionary column
STRING = 6  # length and bytes, UTF-8 column
BYTES = 7  # length and bytes, binary column
LIST = 8  # blocks of longs, list<int64> column

NOT_NULLABLE = -1  # else the number of the null branch in the union

HEADER_BYTES = 5  # Confluent: 0x00 and the schema id, 4 bytes big endian
MAX_VARINT = 10

_PRIMITIVE = {"long": LONG, "int": INT, "boolean": BOOLEAN, "double": DOUBLE, "string": STRING, "bytes": BYTES}


@dataclass(frozen=True, slots=True)
class CodecPlan:
    """Per field, in order: name, operation, null branch, number of enum symbols (0 for others).

    `slots[f]` is the row of field f in the decoder's matrix of its width (see avro_reader), `null_slots[f]` its
    row in the validity matrix, -1 for a field without null.
    """

    names: tuple[str, ...]
    ops: npt.NDArray[np.int64]
    null_branch: npt.NDArray[np.int64]
    symbols: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    null_slots: npt.NDArray[np.int64]

    def count(self, *ops: int) -> int:
        """How many fields have one of these operations."""
        return int(np.isin(self.ops, ops).sum())


WIDE = (LONG, DOUBLE)  # 8 bytes per row; doubles travel as their bits
NARROW = (INT, BOOLEAN, ENUM)  # 4 bytes per row
SPANS = (INTERNED, STRING, BYTES, LIST)  # position and length (for LIST: count) per row


def compile_plan(schema: dict[str, Any], interned: frozenset[str]) -> CodecPlan | None:
    """The plan of a schema, or None when it is not flat. `interned` names the string fields that are dictionaries."""
    named: dict[str, dict[str, Any]] = {}
    rows: list[tuple[str, int, int, int]] = []
    for field in schema["fields"]:
        kind, null_branch = field["type"], NOT_NULLABLE
        if isinstance(kind, list):
            if len(kind) != 2 or kind.count("null") != 1:
                return None
            null_branch = kind.index("null")
            kind = kind[1 - null_branch]
        step = _operation(field["name"], kind, named, interned)
        if step is None or (step[0] == LIST and null_branch != NOT_NULLABLE):
            return None
        rows.append((field["name"], step[0], null_branch, step[1]))
    return _table(rows)


def _operation(
    name: str, kind: Any, named: dict[str, dict[str, Any]], interned: frozenset[str]
) -> tuple[int, int] | None:
    if isinstance(kind, str):
        if kind in named:
            return ENUM, len(named[kind]["symbols"])
        if kind == "string" and name in interned:
            return INTERNED, 0
        return (_PRIMITIVE[kind], 0) if kind in _PRIMITIVE else None
    if kind["type"] == "enum":
        named[kind["name"]] = kind
        return ENUM, len(kind["symbols"])
    if kind["type"] == "array":
        return (LIST, 0) if kind["items"] == "long" else None
    if kind.get("logicalType") == "date" and kind["type"] == "int":
        return INT, 0
    return None


def _table(rows: list[tuple[str, int, int, int]]) -> CodecPlan:
    taken = {WIDE: 0, NARROW: 0, SPANS: 0}
    nulls = 0
    slots, null_slots = [], []
    for _, op, null_branch, _ in rows:
        group = next(group for group in taken if op in group)
        slots.append(taken[group])
        taken[group] += 1
        null_slots.append(nulls if null_branch != NOT_NULLABLE else -1)
        nulls += null_branch != NOT_NULLABLE
    return CodecPlan(
        names=tuple(row[0] for row in rows),
        ops=np.array([row[1] for row in rows], np.int64),
        null_branch=np.array([row[2] for row in rows], np.int64),
        symbols=np.array([row[3] for row in rows], np.int64),
        slots=np.array(slots, np.int64),
        null_slots=np.array(null_slots, np.int64),
    )
