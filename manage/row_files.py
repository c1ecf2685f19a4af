"""Arrow batches as JSON lines, CSV or Parquet, to stdout or a file. Nulls: null, empty, null."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

Batch = Any  # pyarrow has no types


def row_writer(
    stack: ExitStack, output_format: str, path: Path | None, schema: Any
) -> Callable[[Batch], None]:  # Any: pyarrow
    """A function that writes a batch; `stack` closes what it opens. Parquet needs a path."""
    if output_format == "parquet":
        import pyarrow.parquet as pq

        if path is None:
            raise ValueError("Parquet needs a file")
        return stack.enter_context(pq.ParquetWriter(path, schema)).write_batch  # type: ignore[no-any-return]
    target: BinaryIO = sys.stdout.buffer if path is None else stack.enter_context(path.open("wb"))
    return _csv(stack, target, schema) if output_format == "csv" else _json(target)


def _json(target: BinaryIO) -> Callable[[Batch], None]:
    def write(rows: Batch) -> None:
        lines = (json.dumps(row, separators=(",", ":"), default=str) + "\n" for row in rows.to_pylist())
        target.write("".join(lines).encode())

    return write


def _csv(stack: ExitStack, target: BinaryIO, schema: Any) -> Callable[[Batch], None]:  # Any: pyarrow
    """No value of these rows holds a quotation mark, a comma or a line end, so none is quoted."""
    import pyarrow as pa
    from pyarrow import csv

    target.write((",".join(schema.names) + "\n").encode())
    options = csv.WriteOptions(include_header=False, quoting_style="none")

    def write(rows: Batch) -> None:
        sink = pa.BufferOutputStream()
        csv.write_csv(pa.Table.from_batches([rows]), sink, options)
        target.write(sink.getvalue())

    return write
