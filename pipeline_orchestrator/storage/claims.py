"""One pipeline per database: a claim in the table `claims`, seen by every pipeline that writes to the same tables.

A pipeline is its state directory (sole_writer.pipeline_id), so it never waits for its own old claim. Ages come
from the server's clock alone; ours only says when to ask again. Taking is ask, look, hold: of two who ask at once at
least one sees the other. It detects a second writer and keeps it out; an insert that is under way is not fenced.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

from pipeline_orchestrator.clock import SYSTEM, Clock
from pipeline_orchestrator.component import Context
from pipeline_orchestrator.errors import PermanentError, PipelineError
from pipeline_orchestrator.sole_writer import LIFE_S, LIVING, Holder, pipeline_id
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.ledger_file import set_aside
from pipeline_orchestrator.storage.migrate import load

RENEW_S = 5.0
FRESH_S = 10.0  # younger than this a claim need not be looked at before an insert
TABLE = "claims"


class LostClaimError(PermanentError):
    """Another pipeline has written since our last renewal: what this process knows of the tables is out of date."""


class Claim:
    """The claim of one storage process, shared by its tables. Belongs to one event loop."""

    def __init__(self, store: Store, state_dir: Path, instance: int, *, clock: Clock = SYSTEM) -> None:
        self.store, self.state_dir, self.instance = store, state_dir, instance
        self.uncertain = False  # an insert may still run: the claim is then left to expire
        self._owner = ""
        self._clock = clock
        self._turn = asyncio.Lock()
        self._connected = self._held = False
        self._renewed = (0, 0)

    async def hold(self, *, within: float = FRESH_S) -> None:
        """Returns when no other pipeline may write; asks the server when the last answer is older than `within`.

        Raises RetryableError naming the other one, LostClaimError when it came while this one believed to hold.
        """
        async with self._turn:
            if self._held and self._age() < within:
                return
            if not self._owner:
                self._owner = await asyncio.to_thread(pipeline_id, self.state_dir)
            if not self._connected:
                await self.store.connect()
                self._connected = True
            try:
                await self._take()
            except LostClaimError:
                raise
            except PermanentError:  # the table may be gone; with the whole database this raises again
                await self._make_table()
                await self._take()

    async def keep(self, ctx: Context) -> None:
        """Renew what is held until drain; a part of the storage component. Raises LostClaimError."""
        ctx.ready()
        while not ctx.drain.is_set():
            if self._held:
                try:
                    await self.hold(within=0.0)
                except LostClaimError:
                    raise
                except PipelineError as error:  # the next insert asks again before it is made
                    ctx.event("WARNING", "claim_not_renewed", cause=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEW_S):  # wait_for of 3.11 can swallow a cancellation
                    await ctx.drain.wait()

    async def release(self) -> None:
        """Let the next one in at once, unless an insert may still be running; safe to call twice."""
        async with self._turn:
            if not self._connected:
                return
            try:
                if self._held and not self.uncertain:
                    await self._say(asked=False, alive=False)
            except PipelineError:
                self.uncertain = True  # no answer: it expires
            finally:
                self._held = self._connected = False
                await self.store.release()

    def _age(self) -> float:
        """Seconds since the last renewal; the wall clock sees a suspended machine, a step of it only asks more."""
        wall, monotonic = self._renewed
        return max(self._clock.wall_ns() - wall, self._clock.monotonic_ns() - monotonic) / 1e9

    async def _take(self) -> None:
        await self._nobody_else()
        if self._held and self._age() < LIFE_S / 2:  # nobody can have taken it meanwhile
            await self._write_on()
            return
        await self._say(asked=True, alive=True)
        try:
            await self._nobody_else()
            await self._write_on()
        finally:
            await self._say(asked=True, alive=False)

    async def _write_on(self) -> None:
        """Hold from now on, with ledgers that nobody has written behind."""
        now = (self._clock.wall_ns(), self._clock.monotonic_ns())
        if await self._others_wrote_last():
            if self._held:
                raise LostClaimError(f"another pipeline wrote to database {self.store.database} meanwhile")
            await asyncio.to_thread(set_aside, self.state_dir)
        await self._say(asked=False, alive=True)
        self._held, self._renewed = True, now

    async def _nobody_else(self) -> None:
        rows = await self.store.query(LIVING, {"database": self.store.database, "owner": self._owner})
        if not rows:
            return
        refusal = Holder(*rows[0]).refusal(self.store.database)
        if self._held:
            raise LostClaimError(str(refusal), next_step=refusal.next_step)
        raise refusal

    async def _others_wrote_last(self) -> bool:
        """Whether another pipeline has held since this instance did: ledgers from before that are out of date."""
        rows = await self.store.query(
            "SELECT countIf(owner != {owner:String}), maxIf(renewed, owner != {owner:String})"
            " > maxIf(renewed, owner = {owner:String} AND instance = {me:Int32})"
            f" FROM {self.store.table(TABLE)} WHERE NOT asked",
            {"owner": self._owner, "me": self.instance},
        )
        return bool(rows[0][0] and rows[0][1])

    async def _say(self, *, asked: bool, alive: bool) -> None:
        values = (
            f"{_text(self._owner)}, {self.instance}, {asked}, {alive}, {_text(socket.gethostname())}, {os.getpid()}"
        )
        await self.store.command(
            f"INSERT INTO {self.store.table(TABLE)} (owner, instance, asked, alive, host, pid, state_dir)"
            f" VALUES ({values}, {_text(str(self.state_dir))})",
            {"async_insert": 0},
        )

    async def _make_table(self) -> None:
        for migration in load():
            if migration.name == TABLE:
                for statement in migration.statements(self.store.database):
                    await self.store.command(statement)


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
