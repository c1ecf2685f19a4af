"""`dlq list|show|replay`: what could not be used, with its bytes, and the way back into the pipeline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from manage.blank_status import rfc3339
from manage.commands.record import InstantType
from manage.exits import CliError, Exit
from manage.letter_store import LetterStore, summary, whole
from manage.letter_text import list_text, replay_text, show_text
from manage.options import DURATION, common, pipeline
from manage.terminal import Terminal

SCHEMA_VERSION = 1
LISTED, ALL_AT_ONCE, ASKED_AT_ONCE = 50, 10_000, 100
LANDING_POLL_SECONDS, CONTROL_SECONDS = 0.2, 60.0
LATER = frozenset({"no_answer", "closing", "spool_full", "not_running", "too_many"})  # worth another try as it is
Json = dict[str, Any]  # Any: JSON
T = TypeVar("T")
SPAN = (
    click.option("--from", "begin", type=InstantType(), metavar="T", help="Received (or refused) at or after T."),
    click.option("--to", "end", type=InstantType(), metavar="T", help="Before T; 10m = ten minutes ago."),
    click.option("--reason", default="", metavar="WORD", help="Only letters with this reason."),
    click.option("--source", default="", metavar="NAME", help="Only of spool, spool/0, market.events, ..."),
)


def chosen(function: Callable[..., Any]) -> Callable[..., Any]:  # Any: click callbacks
    """Add the options that choose letters."""
    for option in reversed(SPAN):
        function = option(function)
    return function


@click.group(no_args_is_help=True)
def dlq() -> None:
    """What could not be used: bad lines, records that cannot be decoded, rows that ClickHouse refuses.

    \b
    manage_pipeline.py dlq list --reason bad_number
    manage_pipeline.py dlq show 0:1767225600:42
    manage_pipeline.py dlq replay --all --reason bad_number
    Related: status (counts by reason), logs, record
    """


@dlq.command(name="list")
@chosen
@click.option("--limit", type=click.IntRange(1, 10_000), default=LISTED, show_default=True, help="Newest ones shown.")
@pipeline
@common
def list_letters(
    terminal: Terminal, state: Path, config: str, begin: int | None, end: int | None, reason: str, source: str,
    limit: int, **_: Any,
) -> int:  # fmt: skip  # Any: options not used here
    """Dead letters, newest first, with what became of those that were replayed.

    \b
    manage_pipeline.py dlq list
    manage_pipeline.py dlq list --from 1h --source market.events -o json | jq .letters
    """

    async def look(letters: LetterStore) -> Json:
        found, counts = await letters.search(
            from_us=begin, to_us=end, reason=reason, source=source, limit=limit, oldest_first=False
        )
        known = await letters.replays(found)
        rows = [summary(letter, known.get(letter.id)) for letter in found]
        return {"count": sum(counts.values()), "by_reason": counts, "letters": rows}

    document = _stamped(_asked(state, config, look))
    terminal.answer(document, lambda: list_text(document, terminal.style))
    return Exit.OK


@dlq.command()
@click.argument("letter_id", metavar="ID")
@pipeline
@common
def show(terminal: Terminal, state: Path, config: str, letter_id: str, **_: Any) -> int:  # Any: options not used here
    """One letter: its bytes (escaped and as hex), reason, position, headers, and where to look.

    ID as `list` shows it; the place of a record (market.events:3:17) shows the letters of all who refused it.

    \b
    manage_pipeline.py dlq show 0:1767225600:42
    manage_pipeline.py dlq show market.events:3:17 -o json
    """
    (wanted,) = _ids([letter_id])

    async def look(letters: LetterStore) -> Json:
        found = await letters.find([wanted])
        known = await letters.replays(found)
        return {"letters": [whole(letter, known.get(letter.id)) for letter in found]}

    document = _stamped(_asked(state, config, look))
    if not document["letters"]:
        raise _not_found(wanted)
    terminal.answer(document, lambda: show_text(document, terminal.style))
    return Exit.OK


@dlq.command()
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All letters of --reason that were not replayed yet.")
@chosen
@click.option("--timeout", type=DURATION, default=30.0, metavar="TIME", help="How long to wait until all is stored.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the tables hold what was replayed.")
@pipeline
@common
def replay(
    terminal: Terminal, state: Path, config: str, letter_ids: tuple[str, ...], everything: bool, begin: int | None,
    end: int | None, reason: str, source: str, timeout: float, no_wait: bool, **_: Any,
) -> int:  # fmt: skip  # Any: options not used here
    """Put letters back into the running pipeline, each once, after the cause was mended.

    A line is spooled anew and read again: it gets a new seq and `replay_of`; trades count as late, depth changes no
    book. A record's row is stored in its table as it was. Exit codes: 0 all replayed and stored, 1 some refused, 7
    the pipeline does not run, 75 try later.

    \b
    manage_pipeline.py dlq replay 0:1767225600:42
    manage_pipeline.py dlq replay --all --reason bad_number --from 1h
    """
    if everything == bool(letter_ids):
        raise click.UsageError("name the letters by ID, or give --all with --reason")
    if everything and not reason:
        raise click.UsageError("--all needs --reason: what was mended is one cause, not every one")
    if not everything and (reason or source or begin is not None or end is not None):
        raise click.UsageError("--reason, --source, --from and --to choose letters for --all")
    wanted = _ids(letter_ids)
    seen = 0  # letters of --all that were looked at

    async def choose(letters: LetterStore) -> tuple[list[str], int]:
        if not everything:
            places = [one for one in wanted if _is_place(one)]
            of = {letter.position: letter.id for letter in await letters.find(places) if not _by_processing(letter.id)}
            return [of.get(one, one) for one in wanted], 0
        nonlocal seen
        while True:  # pages without a letter that is left to replay are passed over
            found, counts = await letters.search(
                from_us=begin, to_us=end, reason=reason, source=source, limit=ALL_AT_ONCE, oldest_first=True, skip=seen
            )
            seen += len(found)
            known = await letters.replays(found)
            ids = [one.id for one in found if one.id not in known and not _by_processing(one.id)]
            beyond = max(0, sum(counts.values()) - seen) if len(found) == ALL_AT_ONCE else 0
            if ids or not beyond:
                return ids, beyond

    ids, beyond = _asked(state, config, choose)
    outcomes = _replayed(state, ids)
    while everything and beyond and not any("as" in one or one["code"] in LATER for one in outcomes):
        ids, beyond = _asked(state, config, choose)  # of this page nothing is left that can be: on to the next
        outcomes += _replayed(state, ids)
    if everything:
        outcomes = [one for one in outcomes if one.get("code") != "replayed_before"]
    done = [one for one in outcomes if "as" in one]
    refused = [one for one in outcomes if "as" not in one]
    waiting: list[str] = []
    if done and not no_wait:
        waiting = _asked(state, config, lambda letters: _landed(letters, done, timeout))
    document = _stamped({"replayed": done, "refused": refused, "not_stored_yet": waiting, "beyond": beyond})
    terminal.answer(document, lambda: replay_text(document, terminal.style))
    if any(one["code"] not in LATER for one in refused):
        return Exit.FAILED
    return Exit.TRY_LATER if refused or waiting else Exit.OK


async def _landed(letters: LetterStore, done: list[Json], timeout: float) -> list[str]:
    """Wait for the rows of replayed lines and note them; ids of those that did not come in time."""
    limit = time.monotonic() + timeout
    missing = {one["id"]: one for one in done if "table" not in one}
    while missing:
        for of, row in (await letters.landed(list(missing))).items():
            missing.pop(of).update(table=row["table"], what=row["what"])
        if not missing or time.monotonic() >= limit:
            break
        await asyncio.sleep(LANDING_POLL_SECONDS)
    return list(missing)


def _replayed(state: Path, ids: Sequence[str]) -> list[Json]:
    """What the running pipeline did with these letters."""
    from manage.client import Control, ControlError, DeniedError, NotRunningError, RefusedError
    from manage.instance import socket_of, state_argument

    control = Control(socket_of(state), timeout=CONTROL_SECONDS)
    status = f"manage_pipeline.py status{state_argument(state)}"
    outcomes: list[Json] = []
    try:
        if not ids:
            control.get("/v1/info")  # so that a pipeline that does not run is said also where there is nothing to do
        for at in range(0, len(ids), ASKED_AT_ONCE):
            outcomes += control.post("/v1/replay", {"ids": list(ids[at : at + ASKED_AT_ONCE])})["outcomes"]
    except NotRunningError as error:
        raise CliError(
            "the pipeline does not run, and only it can replay",
            exit_code=Exit.NEEDS_RUNNING,
            code="not_running",
            next_step=f"manage_pipeline.py start{state_argument(state)}",
        ) from error
    except DeniedError as error:
        raise CliError(str(error), exit_code=Exit.CANNOT_TELL, code="not_permitted", next_step=status) from error
    except RefusedError as error:
        step = str(error.error.get("next_step") or status)
        raise CliError(str(error), exit_code=Exit.TRY_LATER, code="refused", next_step=step) from error
    except ControlError as error:
        text = f"{error}; what was asked may have been done, a second replay is refused in any case"
        raise CliError(text, exit_code=Exit.TRY_LATER, code="no_answer", next_step=status) from error
    return outcomes


def _asked(state: Path, config: str, work: Callable[[LetterStore], Awaitable[T]]) -> T:
    """Run `work` on the pipeline's ClickHouse."""
    from manage.embedded_stores import embedded_stores
    from manage.setup import load_settings
    from pipeline_orchestrator.errors import NotConnectedError, PermanentError, RetryableError, UncertainError
    from pipeline_orchestrator.storage.clickhouse_store import Store

    settings = load_settings(config, str(state)).settings
    stores: dict[str, Any] = {"clickhouse": settings.clickhouse}  # Any: sections of the settings
    stores = embedded_stores(state, settings.services.mode, stores)
    store = Store(stores["clickhouse"])

    async def run() -> T:
        try:
            await store.connect()
            return await work(LetterStore(store))
        finally:
            await store.release()

    evidence = {"address": store.address, "database": store.database}
    try:
        return asyncio.run(run())
    except (NotConnectedError, RetryableError, UncertainError) as error:
        step = getattr(error, "next_step", "") or "manage_pipeline.py status"
        raise CliError(
            str(error), exit_code=Exit.UNAVAILABLE, code="unreachable", evidence=evidence, next_step=step
        ) from error
    except PermanentError as error:
        step = "manage_pipeline.py start, which makes the tables"
        raise CliError(str(error), code="cannot_read", evidence=evidence, next_step=step) from error


def _ids(typed: Sequence[str]) -> list[str]:
    from pipeline_orchestrator.dead_letters import normal_id

    try:
        return list(dict.fromkeys(normal_id(text) for text in typed))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _is_place(text: str) -> bool:
    from pipeline_orchestrator.dead_letters import line_of, record_of

    return line_of(text) is None and record_of(text) is None


def _by_processing(letter_id: str) -> bool:
    """Processing refuses the records that storage refuses, too; only storage can store them."""
    return letter_id.startswith("processing/")


def _not_found(letter_id: str) -> CliError:
    return CliError(
        f"there is no dead letter {letter_id}",
        code="not_found",
        evidence={"id": letter_id},
        next_step="manage_pipeline.py dlq list",
    )


def _stamped(document: Json) -> Json:
    return {"schema_version": SCHEMA_VERSION, "generated_at": rfc3339(), **document}
