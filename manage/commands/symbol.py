"""`symbol`: all that is known of one symbol, read from ClickHouse and Redis; no daemon is needed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from manage import instance
from manage.blank_status import rfc3339
from manage.client import Control, ControlError
from manage.embedded_stores import embedded_stores
from manage.exits import CliError, Exit
from manage.options import common, pipeline
from manage.terminal import Terminal

SCHEMA_VERSION = 1


@click.command()
@click.argument("symbol")
@pipeline
@common
def symbol(terminal: Terminal, state: Path, symbol: str, config: str, **_: Any) -> int:  # Any: options not used here
    """What is known of a symbol: status, newest quote and trade, book, gaps, corrections, fundamentals, news.

    Prices in documents are integers in 1e-6 units, times microseconds UTC; `not_served` is what the running pipeline
    says of the symbol, null where none runs. 1 = the symbol was never seen, 69 = ClickHouse cannot be reached.

    \b
    manage_pipeline.py symbol AAPL
    manage_pipeline.py symbol AAPL -o json | jq .fundamentals.values
    """
    from config import symbols as symbol_names
    from manage.setup import load_settings
    from manage.symbol_text import symbol_text

    settings = load_settings(config, str(state)).settings
    try:
        name = symbol_names.normal(symbol)
    except ValueError as error:
        raise click.UsageError(f"{symbol!r}: {error}") from None
    stores = {"clickhouse": settings.clickhouse, "redis": settings.redis}
    stores = embedded_stores(state, settings.services.mode, stores)
    refused = _not_served(name, state)
    document = asyncio.run(_look(name, stores, settings.market.calendar, refused)) | {"not_served": refused}
    terminal.answer(document, lambda: symbol_text(document, terminal.style))
    return int(Exit.OK)


def _not_served(name: str, state: Path) -> list[dict[str, str]] | None:
    """Which readers of the running pipeline do not get the symbol, and why; None where nobody can say."""
    try:
        refused = Control(instance.socket_of(state)).get("/v1/status").get("symbols_refused")
    except ControlError:
        return None
    return None if refused is None else [row for row in refused["symbols"] if row["symbol"] == name]


async def _look(
    name: str, stores: dict[str, Any], calendar: str, refused: list[dict[str, str]] | None
) -> dict[str, Any]:  # Any: sections; JSON
    from pipeline_orchestrator.errors import NotConnectedError, PermanentError, RetryableError, UncertainError
    from pipeline_orchestrator.market.calendar import calendar_named
    from pipeline_orchestrator.storage.clickhouse_store import Store
    from pipeline_orchestrator.symbol_view import SymbolView

    store = Store(stores["clickhouse"])
    try:
        await store.connect()
        found = await SymbolView(store, stores["redis"], calendar=calendar_named(calendar)).look(name)
    except (NotConnectedError, RetryableError, UncertainError) as error:
        raise CliError(
            str(error),
            exit_code=Exit.UNAVAILABLE,
            code="unreachable",
            evidence={"address": store.address},
            next_step=getattr(error, "next_step", "") or "manage_pipeline.py status",
        ) from error
    except PermanentError as error:
        raise CliError(
            f"{error}", code="cannot_read", evidence={"address": store.address},
            next_step="manage_pipeline.py start, which makes the tables",
        ) from error  # fmt: skip
    finally:
        await store.release()
    if found is None:
        why = f"is not served ({refused[0]['reason']})" if refused else "was never seen"
        add = "add it to `symbols` and start, or: manage_pipeline.py config show --origin"
        raise CliError(
            f"{name} {why}: no event of it is in {store.database}.events at {store.address}",
            code="never_seen",
            evidence={"symbol": name, "address": store.address, "database": store.database, "not_served": refused},
            next_step="manage_pipeline.py status" if refused else add,
        )
    return {"schema_version": SCHEMA_VERSION, "generated_at": rfc3339(), **found}
