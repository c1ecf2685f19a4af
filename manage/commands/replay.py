"""`replay`: recorded files through parser and processing into Parquet, or as the feed of the pipeline that runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manage.exits import CliError, Exit
from manage.options import pipeline
from manage.terminal import Terminal

if TYPE_CHECKING:
    from config.sections import Settings
    from infrastructure.simulator.lobster import ReplayRun
    from infrastructure.simulator.lobster_files import VendorDay
    from pipeline_orchestrator.flow.spool_format import Frame
    from pipeline_orchestrator.offline import Summary

VENDOR_BOOKS = "lobster_books.parquet"
EPOCH = 1  # of the lines of a vendor's file, which has no reader


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, path_type=Path))
@click.option("--books", "levels", type=click.IntRange(1, 40), help="Books: so many levels a side.")
@click.option("--features", is_flag=True, help="Features after every trade, quote and depth event.")
@click.option("--bars", is_flag=True, help="Bars of 1 second and 1 minute.")
@click.option(
    "--depth",
    type=click.Choice(["levels", "orders"]),
    help="Of LOBSTER pairs: price levels, or the orders behind them [levels].",
)
@click.option("--queue", multiple=True, metavar="SYMBOL:ORDER_ID", help="Place of this order in its queue at the end.")
@click.option(
    "--speed",
    default="",
    metavar="1x|10x|max",
    help="Instead of -o: play to the pipeline that runs and waits for its feed.",
)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Directory.")
@click.option("--overwrite", is_flag=True, help="Replace the result of an earlier run in that directory.")
@pipeline
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour in output.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def replay(
    files: tuple[Path, ...],
    levels: int | None,
    features: bool,
    bars: bool,
    depth: str | None,
    queue: tuple[str, ...],
    speed: str,
    output: Path | None,
    overwrite: bool,
    config: str,
    state_flag: str,
    state: Path,
    as_json: bool,
    color: str,
    debug: bool,
) -> int:
    """Recordings, spool segments, spool directories or LOBSTER pairs to events, features, bars, books and gaps.

    \b
    manage_pipeline.py replay day.rec.zst --speed 10x
    manage_pipeline.py replay state/spool -o out
    manage_pipeline.py replay state/spool/0 --queue @ESZ21:648907593934 -o out
    manage_pipeline.py replay day.rec.zst -o out
    manage_pipeline.py replay AMZN_2012-06-21_message_5.csv --books 5 -o out
    manage_pipeline.py replay AMZN_2012-06-21_message_5.csv --depth orders --queue AMZN:16113575 -o out

    Without --books, --features and --bars all are written. A LOBSTER pair is named by its message file; it gives
    lobster_books.parquet besides, one row per message of the vendor, with either depth the vendor's own levels. Of
    orders the pair tells a part only, the rest is synthetic: see docs/data.md. Files appear together, when all are
    complete. Exit code 1: they are there, but of a spool or segment lines are missing (removed by retention, or
    damaged); they are named with their identities.

    With --speed nothing is written here: this command is the feed of the running pipeline, which must be waiting for
    one (start without --simulate), and ends with the counts of what it received and stored.
    """
    from manage import prepared
    from manage.result_directory import result_directory
    from pipeline_orchestrator.market.events import TOPICS

    terminal = Terminal(output_format="json" if as_json else "", color=color, debug=debug)
    click.get_current_context().find_root().obj = terminal
    if speed or output is None:
        _check_live(speed, output, levels is not None or features or bars or bool(queue) or overwrite or bool(depth))
        from manage.live_replay import replay_live

        return replay_live(terminal, state, config, state_flag, files, speed)
    orders = [_order(text) for text in queue]
    every = levels is None and not features and not bars
    wanted = {"features": features or every, "bars": bars or every, "books": levels is not None or every}
    topics = ["market.events", *(f"market.{name}" for name, asked in wanted.items() if asked), "market.gaps"]
    owned = [f"{topic.removeprefix('market.')}.parquet" for topic in TOPICS] + [VENDOR_BOOKS]
    vendor = [path for path in files if path.is_file() and "message" in path.name]
    if vendor and len(vendor) < len(files):
        raise CliError(
            "spool segments and LOBSTER pairs cannot be mixed in one replay",
            exit_code=Exit.USAGE,
            code="usage",
            next_step="manage_pipeline.py replay --help",
        )
    if depth and not vendor:
        raise CliError(
            "--depth is of LOBSTER pairs: a recording has the depth that was read",
            exit_code=Exit.USAGE,
            code="usage",
            next_step="replay without --depth",
        )
    if vendor and orders and depth != "orders":
        raise CliError(
            "--queue needs orders, and a LOBSTER pair is replayed by price level",
            exit_code=Exit.USAGE,
            code="usage",
            next_step="replay --depth orders",
        )
    words = ["manage_pipeline.py", "replay", *map(str, files), *(["--books", str(levels)] if levels else [])]
    words += [f"--{name}" for name in ("features", "bars") if wanted[name] and not every]
    words += ["--depth", depth] if depth else []
    words += [word for one in queue for word in ("--queue", one)]
    words += [*(["--config", config] if config else []), "-o", str(output), "--overwrite"]
    recordings: dict[str, Any] = {}  # Any: JSON
    missing: list[dict[str, Any]] = []  # Any: JSON
    try:
        with result_directory(output, owned, overwrite=overwrite, again=shlex.join(words)) as fresh:
            prepared.kernels(terminal)
            settings = _settings(config, levels)
            if vendor:
                summary = replay_lobster(settings, vendor, fresh, topics, depth=depth or "levels", queue=orders)
            else:
                from pipeline_orchestrator.offline import replay_spool

                recordings = _say_recordings(terminal, files)
                missing = _say_missing(terminal, files)
                summary = replay_spool(settings, files, fresh, topics, queue=orders)
    except (ValueError, OSError) as error:
        step = getattr(error, "next_step", "") or "manage_pipeline.py replay --help"
        raise CliError(str(error), code="cannot_replay", next_step=step) from error
    document = {
        "directory": str(output),
        "events": summary.events,
        "refused_lines": summary.refused,
        "rows": summary.rows,
        **({"recordings": recordings} if recordings else {}),
        "missing": missing,
    }
    if orders:
        document["queue"] = [
            {"symbol": symbol, "order_id": order_id, "found": found is not None} | (asdict(found) if found else {})
            for (symbol, order_id), found in zip(orders, summary.queue, strict=True)
        ]
    terminal.answer(document, lambda: _text(document))
    return Exit.FAILED if missing else Exit.OK


def _check_live(speed: str, output: Path | None, others: bool) -> None:
    """Raises click.UsageError for what does not go together."""
    if not speed:
        raise click.UsageError("write -o DIR for files, or --speed 1x|10x|max to play to the pipeline that runs")
    if output is not None:
        raise click.UsageError(
            "-o writes files as fast as it can, --speed plays to the pipeline that runs: one of both"
        )
    if others:
        raise click.UsageError("--books, --features, --bars, --depth, --queue and --overwrite go with -o only")


def _say_recordings(terminal: Terminal, files: Sequence[Path]) -> dict[str, Any]:  # Any: JSON
    """What the recordings among the files say of themselves; notes of what was lost or reordered go to stderr."""
    from manage.commands.record import about_text
    from pipeline_orchestrator.flow.recording import about

    told = {str(path): found for path in files if path.is_file() and (found := about(path)) is not None}
    for name, found in told.items():
        for line in about_text(found):
            terminal.note(f"{terminal.style('!', 'warn', error=True)} {name}: {line}")
    return told


def _say_missing(terminal: Terminal, files: Sequence[Path]) -> list[dict[str, Any]]:  # Any: JSON
    """What the spools and segments among the files lost, as `record` says it."""
    from manage.commands.record import say_missing
    from pipeline_orchestrator.ingestion.spool_export import lacking

    rows = [row.document() for row in lacking(files)]
    say_missing(terminal, rows)
    return rows


def replay_lobster(
    settings: Settings,
    messages: Sequence[Path],
    directory: Path,
    topics: Sequence[str],
    *,
    depth: str = "levels",
    queue: Sequence[tuple[str, int]] = (),
) -> Summary:
    """LOBSTER pairs as price levels or as orders; lobster_books.parquet besides. Raises LobsterError, OSError.

    `queue` as in offline.replay_spool.
    """
    import numpy as np

    from infrastructure.simulator.lobster import replay_runs
    from infrastructure.simulator.lobster_files import load
    from pipeline_orchestrator.offline import LINES_AT_ONCE, OfflineRun
    from pipeline_orchestrator.processing.queue_position import queue_position
    from pipeline_orchestrator.vendor_books import VendorBooks, write_vendor_books

    days = [load(path) for path in messages]
    totals = {day.symbol: day.rows for day in days}
    run = OfflineRun(settings, directory, topics)
    books = {symbol: VendorBooks(symbol, settings.processing.book_levels) for symbol in totals}
    recv_us = min(map(_begin_us, days))
    frames = opening(sorted(totals), recv_us)
    lines = len(frames)
    held = lines
    symbols = [np.full(lines, -1, np.int64)]
    sources = [np.zeros(lines, np.int64)]
    names: tuple[str, ...] = ()

    def flush() -> None:
        base = run.summary.events
        _, output = run.feed(frames)
        symbol, source = np.concatenate(symbols), np.concatenate(sources)
        assert run.summary.events - base == symbol.size, "a line of the vendor's file was refused"
        for at, name in enumerate(names):
            mine = np.flatnonzero(symbol == at)
            books[name].take(mine + base, source[mine], output)
        for each in (frames, symbols, sources):
            each.clear()

    for part in replay_runs(messages, depth=depth):
        names = part.names
        frames.append(_frame(part, lines, recv_us))
        symbols.append(part.symbols)
        sources.append(part.src_rows)
        lines, held = lines + len(part), held + len(part)
        if held >= LINES_AT_ONCE:
            flush()
            held = 0
    if frames:
        flush()
    run.summary.queue = [queue_position(run.processor, symbol, order_id) for symbol, order_id in queue]
    summary = run.close()
    tables = [books[symbol].finish(total) for symbol, total in sorted(totals.items())]
    summary.rows["lobster_books"] = write_vendor_books(directory / VENDOR_BOOKS, tables)
    return summary


def opening(symbols: Sequence[str], recv_us: int) -> list[Frame]:
    """The facts that a live reader spools before the first line: connected, and a watch per symbol and connection."""
    from pipeline_orchestrator.flow.spool_facts import Fact, encode_fact
    from pipeline_orchestrator.flow.spool_format import FACT_PORT, Frame

    facts = []
    for port in ("level1", "level2"):
        opened = {"phase": "open", "cause": "start", "connection": port, "peer": "", "protocol": "6.2"}
        facts.append(Fact("connected", port, None, opened))
    for port in ("level1", "level2"):
        watched = {"phase": "watch", "cause": "start", "connection": port}
        facts += [Fact("subscribed", port, symbol, watched) for symbol in symbols]
    return [Frame(0, FACT_PORT, EPOCH, seq, 1, recv_us, encode_fact(fact)) for seq, fact in enumerate(facts)]


def _frame(part: ReplayRun, seq: int, recv_us: int) -> Frame:
    from pipeline_orchestrator.flow.spool_format import Frame
    from pipeline_orchestrator.market.events import PORT

    return Frame(0, PORT[part.port], EPOCH, seq, len(part), recv_us, part.raw)


def _begin_us(day: VendorDay) -> int:
    """The recording's first moment in microseconds UTC: stands for the receipt, which a vendor's file has not."""
    from datetime import UTC, datetime, time, timedelta
    from zoneinfo import ZoneInfo

    midnight = datetime.combine(day.day, time(), ZoneInfo("America/New_York"))
    first = int(day.time_ns[0]) if day.rows else 0
    return (midnight.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) + first // 1000


def _settings(config: str, levels: int | None) -> Settings:
    from manage.setup import load_settings

    settings = load_settings(config).settings
    processing = settings.processing.model_copy(update={"book_levels": levels or settings.processing.book_levels})
    if processing.books == "off":
        processing = processing.model_copy(update={"books": "change"})
    return settings.model_copy(update={"processing": processing})


def _order(text: str) -> tuple[str, int]:
    """Symbol and order id of `--queue`. Raises CliError."""
    symbol, _, number = text.rpartition(":")
    if symbol and number.isascii() and number.isdigit() and int(number) < 1 << 64:
        return symbol.upper(), int(number)
    raise CliError(
        f"--queue {text}: not SYMBOL:ORDER_ID with an unsigned 64-bit order id",
        exit_code=Exit.USAGE,
        code="usage",
        next_step="for example --queue @ESZ21:648907593934",
    )


def _place(found: dict[str, Any]) -> str:  # Any: JSON
    named = f"  order {found['order_id']} of {found['symbol']}: "
    if not found["found"]:
        return named + "not in the book"
    price = f"{Decimal(found['price']).scaleb(-6).normalize():,f}"
    ahead = f"{found['orders_ahead']:,} orders ({found['size_ahead']:,}) ahead of it"
    there = f"{found['orders_at_price']:,} orders ({found['size_at_price']:,}) at this price"
    return f"{named}{found['side']} {found['size']:,} at {price}, {ahead}, {there}; book {found['book_state']}"


def _text(document: dict[str, Any]) -> str:  # Any: JSON
    rows = "\n".join(f"  {name + '.parquet':24} {count:>12,} rows" for name, count in document["rows"].items())
    refused = f", {document['refused_lines']:,} lines refused" if document["refused_lines"] else ""
    places = "".join(f"\n{_place(found)}" for found in document.get("queue", ()))
    return f"{document['events']:,} events{refused} -> {document['directory']}\n{rows}{places}"
