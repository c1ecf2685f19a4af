"""Rows of reference tables and of symbol searches: small answers, read as text.

Names may hold commas. A table's row is `id,short name,long name[,group id,group name],`; a search's row is
`symbol,market id,security type id,description,`. Protocol 6.2 puts `LS` in front of both. Sources differ about tables
(`LM`, or nothing): all three are read, which leaves no doubt since their rows begin with a number.
"""

from __future__ import annotations

import pyarrow as pa

from pipeline_orchestrator.lookup.row_layouts import SYMBOL_TAG, TAGGED
from pipeline_orchestrator.lookup.row_parser import Parsed, RefusedRow

TABLE = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("short_name", pa.string(), nullable=False),
        pa.field("long_name", pa.string()),
        pa.field("group_id", pa.int64()),
        pa.field("group_name", pa.string()),
    ]
)
SEARCH = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("market_id", pa.int64(), nullable=False),
        pa.field("security_type_id", pa.int64(), nullable=False),
        pa.field("description", pa.string(), nullable=False),
    ]
)
WITH_GROUP = 5  # fields of a row with id and name of a group
_TABLE_TAGS = (SYMBOL_TAG, b"LM,")
UNSPLIT = {"SSC", "SNC"}  # one name only, which holds commas
MAX_DIGITS = 18

Row = tuple[object, ...]


class TextRowParser:
    """Reads the answer to a reference table (`command` SLM ...) or to SBF; the same duty as RowParser."""

    def __init__(self, command: str, protocol: str, *, request_id: bytes = b"") -> None:
        self._search = command == "SBF"
        self._unsplit = command in UNSPLIT
        self._prefix = request_id + b"," if request_id else b""
        self._tags = () if protocol != TAGGED else (SYMBOL_TAG,) if self._search else _TABLE_TAGS
        self._lines = 0

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch."""
        return SEARCH if self._search else TABLE

    def parse(self, data: bytes) -> Parsed:
        """Rows of whole lines, LF or CRLF; the last may end with the data."""
        rows: list[Row] = []
        refused = []
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for number, raw in enumerate(lines, self._lines):
            line = raw.removesuffix(b"\r")
            row = self._row(line)
            if isinstance(row, str):
                refused.append(RefusedRow(number, line, row))
            else:
                rows.append(row)
        self._lines += len(lines)
        columns = zip(*rows, strict=True) if rows else ((),) * len(self.schema)
        arrays = [pa.array(list(column), type=field.type) for column, field in zip(columns, self.schema, strict=True)]
        return Parsed(pa.RecordBatch.from_arrays(arrays, schema=self.schema), tuple(refused))

    def _row(self, line: bytes) -> Row | str:
        """The values, or the reason why not."""
        if not line:
            return "empty_line"
        if not line.startswith(self._prefix):
            return "foreign_id"
        rest = line[len(self._prefix) :]
        tag = next((tag for tag in self._tags if rest.startswith(tag)), b"")
        if self._search and self._tags and not tag:
            return "missing_tag"
        rest = rest[len(tag) :]
        text = rest.decode("latin-1").removesuffix(",")
        return _searched(text) if self._search else _of_table(text, unsplit=self._unsplit)


def looks_like_a_found_symbol(rest: bytes) -> bool:
    """Whether a line that begins with `E,` is a row about the ticker E: two numbers follow."""
    fields = rest.split(b",", 3)
    return len(fields) == len(SEARCH) and fields[1].isdigit() and fields[2].isdigit()


def _searched(text: str) -> Row | str:
    fields = text.split(",", 3)
    if len(fields) < 3 or not fields[0]:
        return "missing_field"
    if not (_is_number(fields[1]) and _is_number(fields[2])):
        return "bad_number"
    return fields[0], int(fields[1]), int(fields[2]), fields[3] if len(fields) == len(SEARCH) else ""


def _of_table(text: str, *, unsplit: bool) -> Row | str:
    code, _, names = text.partition(",")
    if not _is_number(code):
        return "bad_number"
    if not names:
        return "missing_field"
    if unsplit:
        return int(code), names, None, None, None
    fields = [code, *names.split(",")]
    if len(fields) >= WITH_GROUP and _is_number(fields[-2]):
        return int(code), fields[1], ",".join(fields[2:-2]), int(fields[-2]), fields[-1]
    return int(code), fields[1], ",".join(fields[2:]) if len(fields) > 2 else None, None, None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
