"""Who else writes to a ClickHouse database: the living claim of another pipeline, asked before anything is started.

The claim itself is storage's (storage/claims.py). Here is what a command may load quickly: the name of a state
directory, and the question.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from config.sections import ClickHouseConfig, Settings
from pipeline_orchestrator.clickhouse_question import ask
from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.durable import replace_durably, sync_directory
from pipeline_orchestrator.errors import RetryableError

LIFE_S = 30  # without renewal a claim is dead after this long, by the server's clock
LOOK_S = 1.0
RETRY_S = 2.0  # how often one that waits looks again
LIVING = (
    "SELECT argMax(host, renewed), argMax(pid, renewed), argMax(state_dir, renewed),"
    f" {LIFE_S} - dateDiff('millisecond', max(renewed), now64(6, 'UTC')) / 1000 AS remains"
    " FROM {database:Identifier}.claims WHERE owner != {owner:String} GROUP BY owner, instance, asked"
    " HAVING argMax(alive, renewed) AND remains > 0 ORDER BY remains DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """Another pipeline with a living claim; `left_s` is how long it stays alive without renewal."""

    host: str
    pid: int
    state_dir: str
    left_s: float

    def refusal(self, database: str) -> RetryableError:
        """Why nobody else may write to `database` now."""
        return RetryableError(
            f"database {database} is written to by the pipeline of {self.host}, storage pid {self.pid},"
            f" state directory {self.state_dir}",
            retry_after=RETRY_S,
            next_step=f"manage_pipeline.py stop --state-dir {self.state_dir}, or give this one services of its own",
        )


def pipeline_id(state_dir: Path) -> str:
    """The state directory's own name, made at the first call. A copy of the directory carries the same one."""
    path = state_dir / "pipeline.id"
    if not path.exists():
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        replace_durably(new, [f"{uuid.uuid4()}\n".encode("ascii")])
        with suppress(FileExistsError):  # another worker was first: its id counts
            os.link(new, path)
        new.unlink()
        sync_directory(state_dir)
    return path.read_text(encoding="ascii").strip()


async def require_sole_writer(
    settings: Settings, state_dir: Path, say: Callable[[str], None] = lambda _: None, clock: Clock = SYSTEM
) -> None:
    """Returns when no other pipeline's claim lives on the database, or when nobody can tell.

    A claim that is renewed raises RetryableError (within about RENEW_S); one that is not, its pipeline was killed,
    is waited for, at most LIFE_S, which `say` is told. Embedded services are this pipeline's alone.
    """
    if settings.services.mode == "embedded":
        return
    database, owner = settings.clickhouse.database, await asyncio.to_thread(pipeline_id, state_dir)
    first = holder = await asyncio.to_thread(rival, settings.clickhouse, owner)
    if first is not None:
        say(f"{first.refusal(database)}; looking whether it still lives: {first.left_s:.0f} s at most")
    while holder is not None and first is not None:
        if holder.left_s > first.left_s:
            raise holder.refusal(database)
        await clock.sleep(min(LOOK_S, holder.left_s))
        holder = await asyncio.to_thread(rival, settings.clickhouse, owner)


def rival(clickhouse: ClickHouseConfig, owner: str) -> Holder | None:
    """The youngest living claim of another owner; None also without a table, or without an answer."""
    rows = ask(clickhouse, LIVING, database=clickhouse.database, owner=owner) or []
    return next((Holder(host, int(pid), path, float(left)) for host, pid, path, left in rows), None)
