"""`manage_pipeline.py history SYMBOL`: past ticks and bars from the Lookup port; no daemon is needed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manage.exits import CliError, Exit
from manage.options import DurationType, OutFile, pipeline
from manage.terminal import Terminal

if TYPE_CHECKING:
    from manage.history_feed import LookupAddress
    from pipeline_orchestrator.lookup.row_parser import RefusedRow
    from pipeline_orchestrator.lookup.span import Span

SHOWN_REFUSALS = 20
SHOWN_BYTES = 200  # of a refused row


@click.command()
@click.argument("symbol")
@click.option("--from", "begin", default="", metavar="T", help="First moment; without it the newest --limit rows.")
@click.option("--to", "end", default="", metavar="T", help="End, itself not included [now].")
@click.option("--bars", type=DurationType(positive=True), metavar="D", help="Bars of 60, 60s, 5m instead of ticks.")
@click.option("--daily", is_flag=True, help="Daily bars instead of ticks.")
@click.option("--limit", type=click.IntRange(1, 2**31 - 1), metavar="N", help="At most so many rows: the newest.")
@click.option(
    "-o",
    "--output",
    "output_format",
    type=click.Choice(["json", "csv", "parquet"]),
    default="json",
    show_default=True,
    help="json: one row per line; csv: with a header; parquet: a file.",
)
@click.option(
    "--out",
    type=OutFile(),
    help="Write here instead of stdout; for parquet the default is SYMBOL.parquet.",
)
@click.option("--timeout", type=DurationType(positive=True), default="1h", show_default=True, metavar="D",
              help="Longest time for the whole answer.")  # fmt: skip
@click.option("--no-simulate", "own", is_flag=True, help="The feed of the settings, also where a simulated one runs.")
@pipeline
def history(
    symbol: str,
    begin: str,
    end: str,
    bars: float | None,
    daily: bool,
    limit: int | None,
    output_format: str,
    out: Path | None,
    timeout: float,
    own: bool,
    state: Path,
    state_flag: str,
    config: str,
) -> int:
    """Past ticks of a symbol, or bars, oldest first.

    T is YYYY-MM-DD[ HH:MM[:SS]] or ISO 8601. With Z or an offset it means that; without, it is US Eastern time, the
    feed's own; in the hour that November repeats, the first pass. Prices are integers in 1e-6 units, times
    microseconds UTC; a bar carries the time at which it begins, a daily bar its date. --limit keeps the newest rows
    of the span; the feed counts the second of --to as part of it, and what lies there is left out afterwards. Ticks
    reach back 180 days, 8 while the market is open.

    Asked is iqfeed.lookup_port of the settings; where the pipeline of this state directory runs with a simulated feed
    (start --simulate, demo), its simulator, which stderr says.

    Rows that cannot be read are named on stderr and make the exit code 1; 69 = nothing listens at that port;
    75 = no answer in time, too many requests, or a feed without its own link. In time: no 30 s without a line of the
    answer, and all of it within --timeout. A refused request writes nothing to stdout or --out; rows before a
    failure in mid-answer stay on stdout (with --from and --limit there are none). "No data" is an answer: 0 rows, exit
    code 0.

    \b
    manage_pipeline.py history AAPL --from "2024-01-02 09:30" --to "2024-01-02 16:00" -o parquet
    manage_pipeline.py history AAPL --from 2024-01-02 --to 2024-01-03 --bars 60s -o csv
    manage_pipeline.py history AAPL --daily --limit 20
    """
    from manage import prepared
    from manage.history_feed import lookup_address
    from manage.setup import load_settings

    terminal = Terminal(output_format="json" if output_format == "json" else "table")
    click.get_current_context().find_root().obj = terminal
    feed = load_settings(config, state_flag).settings.iqfeed
    prepared.kernels(terminal)
    span = _span(symbol, begin, end, bars, daily, limit)
    where = lookup_address(feed, state, own=own)
    if where.simulated:
        terminal.note(f"- asking the simulator of the running pipeline at {where} (--no-simulate: the settings' feed)")
    target = (
        out if out is not None or output_format != "parquet" else Path(f"{symbol.upper().replace('/', '_')}.parquet")
    )
    if target is not None and not target.parent.is_dir():
        raise CliError(
            f"cannot write {target}: {target.parent} is no directory",
            code="cannot_write",
            next_step=f"mkdir -p {target.parent}",
        )
    with ExitStack() as stack:
        return int(asyncio.run(_fetch(terminal, where, span, _Output(stack, output_format, target), timeout)))


def _span(symbol: str, begin: str, end: str, bars: float | None, daily: bool, limit: int | None) -> Span:
    """What is asked for. Raises a usage error naming the option."""
    from pipeline_orchestrator.clock import SYSTEM
    from pipeline_orchestrator.lookup.span import Span, moment

    if bars is not None and (daily or bars != int(bars)):
        raise click.UsageError("--bars and --daily exclude each other" if daily else "--bars takes whole seconds")
    if not begin and limit is None:
        raise click.UsageError("name the span with --from, or the newest rows with --limit")
    if end and not begin:
        raise click.UsageError("--to needs --from")
    try:
        return Span(
            symbol,
            moment(begin) if begin else None,
            moment(end) if end else SYSTEM.wall_ns() // 1000,
            bar_seconds=int(bars or 0),
            daily=daily,
            limit=limit,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


async def _fetch(terminal: Terminal, where: LookupAddress, span: Span, output: _Output, timeout: float) -> Exit:
    """Stream the answer into the output. Raises CliError."""
    from pipeline_orchestrator.errors import NotConnectedError, PermanentError, RetryableError
    from pipeline_orchestrator.lookup.client import LookupClient
    from pipeline_orchestrator.lookup.span import rows_of

    client = LookupClient(where.host, where.port, protocol=where.protocol)
    rows, refused = 0, Counter[str]()
    try:
        await client.open()
        schema = span.schema(client.parser(span.request).schema)
        async for batch, unreadable in rows_of(client, span, timeout):
            for row in unreadable:
                refused[row.reason] += 1
                if refused.total() <= SHOWN_REFUSALS:
                    terminal.note(_refusal(row))
            if len(batch):  # a request that is refused opens nothing, and leaves no header
                output.open(schema)
                output.write(batch)
            rows += len(batch)
            _progress(f"{rows:,} rows")
            if output.reader_gone:  # it has seen enough (| head)
                return Exit.OK
        output.open(schema)
        output.close()
    except (NotConnectedError, PermanentError, RetryableError) as error:
        _progress("")
        kept = "nothing is written" if output.path else f"the {rows:,} rows before it are on stdout"
        raise _failed(error, where, rows, kept if rows else "") from error
    finally:
        await client.close()
    _progress("")
    parts = [f"{rows:,} {'row' if rows == 1 else 'rows'} of {span}" + (f" -> {output.path}" if output.path else "")]
    if refused:
        parts.append("refused: " + ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items())))
    terminal.note("; ".join(parts))
    return Exit.FAILED if refused else Exit.OK


def _failed(
    error: Any, where: LookupAddress, rows: int, written: str
) -> CliError:  # Any: an error of the pipeline's tree
    from pipeline_orchestrator.errors import NotConnectedError, PermanentError

    came = f" ({written})" if written else ""
    if isinstance(error, NotConnectedError):
        step, code, name = (
            where.next_step,
            Exit.UNAVAILABLE,
            "unreachable",
        )
    elif isinstance(error, PermanentError):
        step, code, name = "manage_pipeline.py history --help", Exit.FAILED, "refused"
    else:
        step, code, name = "the same command later, or with a shorter span", Exit.TRY_LATER, "try_later"
    return CliError(
        f"{error}{came}",
        exit_code=code,
        code=name,
        evidence={"address": str(where), "rows": rows},
        next_step=error.next_step or step,
    )


def _refusal(row: RefusedRow) -> str:
    shown = row.text[:SHOWN_BYTES].decode("latin-1").encode("unicode_escape").decode("ascii")
    more = f" ... ({len(row.text)} bytes)" if len(row.text) > SHOWN_BYTES else ""
    return f"row {row.number + 1} of the answer: {row.reason}: {shown}{more}"


def _progress(text: str) -> None:
    """The figure so far, on one line that is written over; for people only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()


class _Output:
    """Rows to stdout or a file. A file of ours appears whole or not at all: it gets its name at the end."""

    def __init__(self, stack: ExitStack, output_format: str, path: Path | None) -> None:
        self.path, self.reader_gone = path, False
        self._outer, self._format = stack, output_format
        self._inner = ExitStack()
        self._part: Path | None = None
        self._write: Any = None  # Any: a function of a batch

    def open(self, schema: Any) -> None:  # Any: pyarrow has no types
        """Before the first row, or at the end of an answer without one: until then nothing is touched."""
        from manage.row_files import row_writer

        if self._write is not None:
            return  # it is open
        target = self.path
        if target is not None and (target.is_file() or not target.exists()):  # a device or a pipe is written directly
            target = self._part = target.with_name(f"{target.name}.part")
            self._outer.callback(target.unlink, missing_ok=True)
        self._outer.callback(self._inner.close)
        self._write = row_writer(self._inner, self._format, target, schema)

    def write(self, batch: Any) -> None:  # Any: pyarrow has no types
        """Write a batch; a reader of stdout that left is noted in `reader_gone`."""
        try:
            self._write(batch)
            if self.path is None:
                sys.stdout.flush()
        except BrokenPipeError:
            if self.path is not None:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.reader_gone = True

    def close(self) -> None:
        """Everything is written: the file gets its name."""
        self._inner.close()
        if self._part is not None and self.path is not None:
            self._part.replace(self.path)
