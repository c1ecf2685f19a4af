"""`manage_pipeline.py parse FILE`: recorded feed lines through the pipeline's own parser."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from manage.options import OutFile

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline_orchestrator.record import DeadLetter

LINES_PER_BATCH = 20_000
SHOWN_BYTES = 200  # of a refused line


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True))
@click.option("--port", type=click.Choice(["level1", "level2"]), required=True, help="Port the lines were read from.")
@click.option(
    "-o",
    "--output",
    "output_format",
    type=click.Choice(["json", "csv", "parquet"]),
    default="json",
    show_default=True,
    help="json: one event per line; csv: with a header; parquet: a file.",
)
@click.option(
    "--out",
    type=OutFile(),
    help="Write here instead of stdout; for parquet the default is FILE.parquet.",
)
def parse(file: Path, port: str, output_format: str, out: Path | None) -> None:
    """Turn recorded lines of a feed port into events.

    Both line ends are read. Level 1 lines follow the newest "S,CURRENT UPDATE FIELDNAMES" of the file, else the
    feed's default layout. Prices are integers in 1e-6 units, times microseconds UTC, seq is the line's number from
    0; the receipt is not recorded, so recv_time_us is null. Refused lines are named on stderr with their numbers
    and do not change the exit code.

    \b
    manage_pipeline.py parse day.txt --port level1 | jq -c 'select(.kind == "trade")'
    manage_pipeline.py parse depth.txt --port level2 -o parquet --out depth.parquet
    """
    from manage import prepared
    from manage.terminal import Terminal

    prepared.kernels(Terminal())
    kinds: Counter[str] = Counter()
    read = 0
    refused: Counter[str] = Counter()
    try:
        with ExitStack() as stack:
            write = _writer(stack, output_format, out, file)
            for rows, dead in _batches(file, port):
                kinds.update(rows.column("kind").to_pylist())
                read += rows.column("idx").to_pylist().count(0)  # a line makes one event, an old depth line two
                for letter in dead:
                    refused[letter.reason] += 1
                    click.echo(_refusal(file, letter), err=True)
                write(rows)
    except BrokenPipeError:  # the reader has seen enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    lines = read + refused.total()
    parts = [", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none"]
    if refused:
        parts.append("refused: " + ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items())))
    click.echo(f"{lines} lines, {kinds.total()} events: {'; '.join(parts)}", err=True)


def _batches(file: Path, port: str) -> Iterator[tuple[pa.RecordBatch, list[DeadLetter]]]:
    from pipeline_orchestrator.ingestion.line_parser import LineParser
    from pipeline_orchestrator.ingestion.recorded import recorded_frames

    parser = LineParser()
    with file.open("rb") as source:
        waiting, lines = [], 0
        for frame in recorded_frames(source, port):
            waiting.append(frame)
            lines += frame.count
            if lines >= LINES_PER_BATCH:
                yield _without_receipt(*parser.parse(waiting))
                waiting, lines = [], 0
        if waiting:
            yield _without_receipt(*parser.parse(waiting))


def _without_receipt(rows: pa.RecordBatch, dead: list[DeadLetter]) -> tuple[pa.RecordBatch, list[DeadLetter]]:
    """A file does not say when its lines were received: null, not 0."""
    import pyarrow as pa

    index = rows.schema.get_field_index("recv_time_us")
    return rows.set_column(index, pa.field("recv_time_us", pa.int64()), pa.nulls(len(rows), pa.int64())), dead


def _refusal(file: Path, letter: DeadLetter) -> str:
    line = letter.position["spool"][2] + 1
    shown = letter.raw[:SHOWN_BYTES].decode("latin-1").encode("unicode_escape").decode("ascii")
    more = f" ... ({len(letter.raw)} bytes)" if len(letter.raw) > SHOWN_BYTES else ""
    return f"{file}:{line}: {letter.reason}: {shown}{more}"


def _writer(stack: ExitStack, output_format: str, out: Path | None, file: Path) -> Any:  # Any: a function of a batch
    if output_format == "parquet":
        return _parquet(stack, out or file.with_name(file.name + ".parquet"))
    target: IO[str] = sys.stdout if out is None else stack.enter_context(out.open("w", encoding="utf-8", newline=""))
    return _csv(target) if output_format == "csv" else _json(target)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Dates as text, bytes as latin-1 (what the feed speaks)."""
    row["trading_date"] = None if row["trading_date"] is None else row["trading_date"].isoformat()
    row["raw"] = None if row["raw"] is None else row["raw"].decode("latin-1")
    return row


def _json(target: IO[str]) -> Any:  # Any: a function of a batch
    def write(rows: pa.RecordBatch) -> None:
        for row in rows.to_pylist():
            target.write(json.dumps(_plain(row), separators=(",", ":")) + "\n")

    return write


def _csv(target: IO[str]) -> Any:  # Any: a function of a batch
    from pipeline_orchestrator.market.events import EVENTS, arrow_schema

    writer = csv.DictWriter(target, arrow_schema(EVENTS).names, lineterminator="\n")
    writer.writeheader()

    def write(rows: pa.RecordBatch) -> None:
        writer.writerows(_plain(row) for row in rows.to_pylist())

    return write


def _parquet(stack: ExitStack, path: Path) -> Any:  # Any: a function of a batch
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pipeline_orchestrator.market.events import EVENTS, arrow_schema

    schema = arrow_schema(EVENTS)
    index = schema.get_field_index("recv_time_us")
    schema = schema.set(index, pa.field("recv_time_us", pa.int64()))
    schema = pa.schema([(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in schema])
    writer = stack.enter_context(pq.ParquetWriter(path, schema))
    click.echo(f"writing {path}", err=True)

    def write(rows: pa.RecordBatch) -> None:
        columns = [
            column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in rows.columns
        ]
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))

    return write
