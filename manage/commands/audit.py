"""`audit`: what spool, Kafka, ClickHouse and Redis hold, compared by ranges of identities; with `--repair` refilled."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manage import instance
from manage.blank_status import rfc3339
from manage.embedded_stores import embedded_stores
from manage.exits import CliError, Exit
from manage.options import common, pipeline
from manage.terminal import Terminal

if TYPE_CHECKING:
    from config.sections import Settings
    from pipeline_orchestrator.audit.cut import Window

SCHEMA_VERSION = 1


@click.command()
@click.option("--from", "begin", default="", metavar="TIME", help="Only lines received at or after this time.")
@click.option("--to", "end", default="", metavar="TIME", help="Only lines received at or before this time.")
@click.option("--repair", is_flag=True, help="Have what others still hold stored again, then audit once more.")
@click.option("--timeout", default=60.0, type=click.FloatRange(min=1), metavar="SECONDS", help="For --repair [60].")
@pipeline
@common
def audit(
    terminal: Terminal,
    state: Path,
    begin: str,
    end: str,
    repair: bool,
    timeout: float,
    config: str,
    **_: Any,  # Any: options not used here
) -> int:
    """Compare what every station holds, up to what storage has sealed; name missing and duplicated ranges.

    Times are like 2024-03-07T14:30 (UTC unless they say otherwise). A range is INSTANCE:EPOCH:FIRST..LAST, line
    numbers of one reader. Works while the pipeline runs, and beside a stopped one whose services are up. Reads
    only; --repair asks the running storage to store again what a topic holds and its table lacks, and writes Redis
    values that are behind. Duplicates are shown, never removed.

    0 = nothing missing or duplicated, 99 = something is, 75 = nothing found, but not all could be judged yet or the
    repair is not finished, 69 = a service cannot be reached.

    \b
    manage_pipeline.py audit
    manage_pipeline.py audit --from 2024-03-07T14:00 --to 2024-03-07T15:00 -o json
    manage_pipeline.py audit --repair
    """
    from manage import prepared
    from manage.audit_text import audit_text
    from manage.setup import load_settings
    from pipeline_orchestrator.audit.cut import Window

    window = Window(_time(begin, "--from"), _time(end, "--to"))
    if window.begin_us is not None and window.end_us is not None and window.begin_us > window.end_us:
        raise click.UsageError("--from lies after --to")
    settings = load_settings(config, str(state)).settings
    running = instance.locked(state)
    services = {name: getattr(settings, name) for name in ("kafka", "clickhouse", "redis")}
    settings = settings.model_copy(update=embedded_stores(state, settings.services.mode, services))
    if repair and not running:
        raise CliError(
            "--repair needs the running pipeline: its storage stores the rows",
            exit_code=Exit.NEEDS_RUNNING,
            code="not_running",
            next_step="manage_pipeline.py start, then audit --repair",
        )
    prepared.kernels(terminal)
    document = asyncio.run(_guarded(settings, state, window, repair, timeout))
    terminal.answer(document, lambda: audit_text(document, terminal.style))
    return int(exit_code(document))


def exit_code(document: dict[str, Any]) -> Exit:  # Any: JSON
    """Success only where all was judged, and what was to be repaired is."""
    if document["verdict"] == "damaged":
        return Exit.THRESHOLD
    finished = document["repair"] is None or document["repair"]["finished"]
    return Exit.OK if document["verdict"] == "whole" and finished else Exit.TRY_LATER


def _time(text: str, flag: str) -> int | None:
    """Microseconds UTC. Raises click.UsageError."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{flag} {text}: not a time like 2024-03-07T14:30:00") from None
    return round((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() * 1e6)


async def _guarded(
    settings: Settings, state: Path, window: Window, repair: bool, timeout: float
) -> dict[str, Any]:  # Any: JSON
    from pipeline_orchestrator.errors import NotConnectedError, PermanentError, RetryableError, UncertainError

    try:
        return await _audit(settings, state, window, repair, timeout)
    except (NotConnectedError, RetryableError, UncertainError) as error:
        raise CliError(
            str(error),
            exit_code=Exit.UNAVAILABLE,
            code="unreachable",
            next_step=getattr(error, "next_step", "") or "manage_pipeline.py status",
        ) from error
    except PermanentError as error:
        step = getattr(error, "next_step", "") or "manage_pipeline.py start, which makes topics and tables"
        raise CliError(f"cannot audit: {error}", code="cannot_audit", next_step=step) from error


async def _audit(
    settings: Settings, state: Path, window: Window, repair: bool, timeout: float
) -> dict[str, Any]:  # Any: JSON
    from pipeline_orchestrator.audit.mend import mend_cache, mend_tables
    from pipeline_orchestrator.audit.run import Audit
    from pipeline_orchestrator.storage.clickhouse_store import Store

    began = time.monotonic()
    store = Store(settings.clickhouse)
    await store.connect()
    try:
        first = Audit(settings, state, store, window)
        report = await first.run()
        repaired: dict[str, Any] | None = None  # Any: JSON
        if repair and not report.whole:
            done = await mend_tables(first, timeout)
            values = await mend_cache(first)
            repaired = {"before": report.document(), "partitions": len(first.orders), "values": values}
            repaired["finished"] = done
            report = await Audit(settings, state, store, window).run()
    finally:
        await store.release()
    return {
        "schema_version": SCHEMA_VERSION,
        "generated_at": rfc3339(),
        "seconds": round(time.monotonic() - began, 3),
        "from_us": window.begin_us,
        "to_us": window.end_us,
        **report.document(),
        "repair": repaired,
    }
