"""`Backfill`: brings the trades of closed gaps from the Lookup port into the log, beside the reader.

The tables are its memory: it asks them for closed gaps, asks history for the trades of each symbol, waits until all
that was spooled by then is in `events`, and spools what is not there. So a trade is never brought twice, whenever it
is stopped or killed: a gap that was not settled begins again, and what was brought is known. docs/decisions/backfill.md
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from config.sections import Settings
from config.split import instance_of
from pipeline_orchestrator.component import Context
from pipeline_orchestrator.errors import PipelineError
from pipeline_orchestrator.ingestion.backfill_job import ATTEMPTS, NO_DEPTH, NOT_KNOWN, TOO_OLD, Job, of_all
from pipeline_orchestrator.ingestion.backfill_match import KnownTrade, Point, missing_of
from pipeline_orchestrator.ingestion.backfill_tables import BackfillTables, Gap
from pipeline_orchestrator.ingestion.history_trade import HistoryTrade, trade_of_row
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.lookup.client import LookupClient
from pipeline_orchestrator.lookup.credit_bucket import CreditBucket
from pipeline_orchestrator.lookup.refusals import AnswerTimeoutError, LookupLostError, RefusedError
from pipeline_orchestrator.lookup.requests import ticks_between
from pipeline_orchestrator.market.gaps import Place
from pipeline_orchestrator.record import Mark
from pipeline_orchestrator.resilience.backoff import Backoff

Sealed = Callable[[], Awaitable[Mark | None]]
Answers = dict[tuple[str, str | None], tuple[pa.Table | None, int]]

LOOK_SECONDS = 2.0  # between two looks at the gaps
TOGETHER = 10  # gaps whose history is asked for before the tables are
LONGEST_SECONDS = 300.0
STORED_LOOKS, STORED_SECONDS = 30, 1.0  # at what is stored, and between two of them
ROWS_AT_ONCE = 1_000  # made Python objects by one call, during which no other thread runs
PIECES = 20  # per second, in which trades are spooled
ALL_AFTER_US = 10_000_000  # so long after a gap was closed its symbols' rows are looked for


class WaitError(PipelineError):
    """Not now: what is shown says why, and it is tried again."""


class Backfill:
    """One instance's side: its symbols, and the gaps that it wrote. `sealed` = up to where `events` holds its lines.

    `waits` = whether a symbol still waits for the instance that had it: what that one brought may not be stored yet.
    """

    def __init__(
        self,
        settings: Settings,
        instance: int,
        journal: Journal,
        sealed: Sealed,
        tables: BackfillTables | None = None,
        *,
        waits: Callable[[str], bool] = lambda symbol: False,
    ) -> None:
        self._feed, self._split, self._instance = settings.iqfeed, settings.ingestion, instance
        self._journal, self._sealed, self._waits = journal, sealed, waits
        self._tables = tables or BackfillTables(settings.clickhouse)
        rate = self._feed.backfill_requests_per_second
        self._bucket = CreditBucket(per_second=rate, capacity=max(1.0, rate))
        self._jobs: dict[tuple[str, str | None], Job] = {}
        self._said: set[tuple[str, str | None]] = set()  # settled, but the table does not show it yet
        self._settled: set[str] = set()  # gaps of which a symbol was settled: their row for all is looked at again
        self._waiting = 0
        self._trouble: str | None = None

    async def run(self, ctx: Context) -> None:
        """Until drain. Nothing here ends ingestion but a spool that cannot be written."""
        ctx.ready()
        ctx.gauge("backfill", "on" if self._feed.backfill else "off")
        if not self._feed.backfill:
            await ctx.drain.wait()
            return
        work = asyncio.create_task(self._work(ctx))
        draining = asyncio.create_task(ctx.drain.wait())
        try:
            await asyncio.wait({work, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            draining.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def _work(self, ctx: Context) -> None:
        backoff = Backoff(base=2.0, cap=60.0, floor=1.0)
        while True:
            pause, trouble = LOOK_SECONDS, None
            try:
                if self._journal.spool.is_open and await self.look(ctx):
                    pause = 0.0
                backoff.reset()
            except WaitError as error:
                pause, trouble = backoff.next_delay(), str(error) if self._waiting else None
            if trouble is not None and trouble != self._trouble:
                ctx.event("WARNING", "backfill_waits", reason=trouble)
            self._trouble = trouble
            ctx.gauge("backfill_gaps_waiting", self._waiting)
            ctx.gauge("backfill_waits_for", trouble)
            await asyncio.sleep(pause)

    async def look(self, ctx: Context) -> bool:
        """One look at the gaps, and one step for those that can be done now; True where there were some.

        Raises WaitError where something that is needed does not answer, OSError where the spool cannot be written.
        """
        closed = await asyncio.to_thread(self._tables.closed)
        if closed is None:
            raise WaitError("ClickHouse does not answer")
        keys = {gap.key for gap in closed}
        self._said &= keys
        self._jobs = {key: job for key, job in self._jobs.items() if key in keys}
        mine = [gap for gap in closed if self._is_mine(gap) and gap.key not in self._said]
        self._waiting = len(mine)
        now = self._journal.recv_ns() // 1000
        ready = self._due(ctx, mine, self._journal.clock_us("level1", now))
        whole = [gap for gap in mine if gap.symbol is None and gap.connection == "level1"]
        await self._settle_for_all(ctx, [gap.gap_id for gap in whole if gap.recv_us <= now - ALL_AFTER_US])
        if ready:
            await self._step(ctx, ready)
        return bool(ready)

    def _is_mine(self, gap: Gap) -> bool:
        if gap.symbol is not None:
            return instance_of(gap.symbol, self._split.instances, self._split.assign) == self._instance
        return (gap.instance if gap.instance < self._split.instances else 0) == self._instance

    def _due(self, ctx: Context, gaps: Iterable[Gap], clock_us: int | None) -> list[Job]:
        """Settle what cannot be had at all; the jobs whose next step can be done, one per symbol.

        Without the feed's clock (None) it is not known what can be: the market's time may be another than ours.
        """
        ready: dict[str, Job] = {}
        for gap in gaps:
            if gap.connection != "level1":
                self._settle(ctx, gap, "unresolved", {"rows": 0, "why": NO_DEPTH})
                continue
            if gap.symbol is None:
                continue
            if gap.begun.time_us is None or gap.ended.time_us is None:
                self._settle(ctx, gap, "unresolved", {"rows": 0, "why": NOT_KNOWN})
                continue
            if clock_us is None or self._waits(gap.symbol):
                continue
            job = self._jobs.setdefault(gap.key, Job(gap))
            if job.too_old(clock_us):
                self._settle(ctx, gap, "unresolved", {"rows": job.result.refilled, "why": TOO_OLD})
            elif job.due(clock_us) and len(ready) < TOGETHER:
                ready.setdefault(gap.symbol, job)
        return list(ready.values())

    # -- one step: ask history, wait for the tables, bring what is missing -------------------------------------------

    async def _step(self, ctx: Context, jobs: Sequence[Job]) -> None:
        answers = await self._ask(ctx, jobs)
        mark = self._journal.spool.next_id
        await self._until_stored(Mark(mark.epoch, mark.seq, -1))
        for job in jobs:
            if job.gap.key in answers:
                await self._take(ctx, job, *answers[job.gap.key])

    async def _ask(self, ctx: Context, jobs: Sequence[Job]) -> Answers:
        """The next slice of each; what is refused for good is settled. Raises WaitError.

        All are asked side by side over one connection. Those without an answer when it is lost are asked again, each
        over a connection of its own: one that makes the feed close the connection then holds up no other.
        """
        answers = Answers()
        failures = await self._ask_over_one(ctx, jobs, answers)
        lost = [job for job in jobs if isinstance(failures[job.gap.key], LookupLostError)]
        for job in lost:
            if len(jobs) > 1:
                try:
                    failures |= await self._ask_over_one(ctx, [job], answers)
                except WaitError:
                    if not answers:
                        raise
                    break  # the others are asked at the next look
            failure = failures[job.gap.key]
            if isinstance(failure, LookupLostError):
                self._retry(ctx, job, f"history closes the connection: {failure}")
        failure = next((each for each in failures.values() if each is not None), None)
        if failure is not None and not answers:
            raise WaitError(str(failure)) from failure
        return answers

    async def _ask_over_one(
        self, ctx: Context, jobs: Sequence[Job], answers: Answers
    ) -> dict[tuple[str, str | None], PipelineError | None]:
        """Ask over one new connection; by gap what came instead of an answer and may pass. Raises WaitError."""
        feed = self._feed
        client = LookupClient(
            feed.host,
            feed.lookup_port,
            protocol=feed.protocol,
            bucket=self._bucket,
            client_name=f"pipeline-backfill-{self._instance}",
        )
        try:
            await client.open()
            failures = await asyncio.gather(*(self._ask_one(ctx, client, job, answers) for job in jobs))
        except PipelineError as error:
            raise WaitError(str(error)) from error
        finally:
            await client.close()
        return {job.gap.key: failure for job, failure in zip(jobs, failures, strict=True)}

    async def _ask_one(self, ctx: Context, client: LookupClient, job: Job, answers: Answers) -> PipelineError | None:
        """Put the answer about a job's next slice among the others; returns what came instead and may pass."""
        try:
            answers[job.gap.key] = await self._answer(client, job)
        except RefusedError as error:
            self._failed(ctx, job, f"history refuses: {error.text}")
        except ValueError as error:  # a name or time that a request cannot hold
            self._failed(ctx, job, f"history cannot be asked: {error}")
        except AnswerTimeoutError as error:
            self._retry(ctx, job, f"history does not answer in time: {error}")
            return error
        except PipelineError as error:
            return error
        return None

    async def _answer(self, client: LookupClient, job: Job) -> tuple[pa.Table | None, int]:
        request = ticks_between(job.gap.symbol or "", job.at_us, job.slice_end_us)
        parts, unreadable = [], 0
        silence = self._feed.backfill_answer_seconds
        stream = client.stream(request, silence_seconds=silence, longest_seconds=LONGEST_SECONDS)
        async with contextlib.aclosing(stream):
            async for part in stream:
                times = part.rows.column("event_time_us")
                inside = pc.and_(pc.greater_equal(times, job.at_us), pc.less(times, job.slice_end_us))
                parts.append(part.rows.filter(inside))
                unreadable += len(part.refused)
        return (pa.Table.from_batches(parts) if parts else None), unreadable

    async def _until_stored(self, mark: Mark) -> None:
        """Everything spooled before the mark is in the tables. Raises WaitError."""
        for _ in range(STORED_LOOKS):
            sealed = await self._sealed()
            if sealed is not None and sealed >= mark:
                return
            await asyncio.sleep(STORED_SECONDS)
        raise WaitError("what was received is not in ClickHouse yet")

    async def _take(self, ctx: Context, job: Job, rows: pa.Table | None, unreadable: int) -> None:
        symbol = job.gap.symbol or ""
        known = await asyncio.to_thread(self._tables.trades, symbol, job.at_us, job.slice_end_us)
        if known is None:
            raise WaitError("ClickHouse does not answer")
        missing = await asyncio.to_thread(_missing, symbol, rows, known)
        await self._bring(ctx, missing, job.gap)
        await asyncio.to_thread(job.result.add, known, missing, unreadable)
        job.at_us = job.slice_end_us
        if not job.done:
            return
        points = [await asyncio.to_thread(self._tables.volume_at, job.gap, begin=begin) for begin in (True, False)]
        if any(point is False for point in points):
            job.again()
            raise WaitError("ClickHouse does not answer")
        before, after = (point if isinstance(point, Point) else None for point in points)
        state, detail = await asyncio.to_thread(job.result.verdict, before, after)
        if state == "unresolved":
            self._retry(ctx, job, str(detail["why"]), detail)
        else:
            self._settle(ctx, job.gap, state, detail)

    async def _bring(self, ctx: Context, trades: Sequence[HistoryTrade], gap: Gap) -> None:
        """Spool the trades, no faster than the settings say. Raises WaitError where there is no room."""
        at_once = max(1, self._feed.backfill_trades_per_second // PIECES)
        for begin in range(0, len(trades), at_once):
            some = trades[begin : begin + at_once]
            for number, trade in enumerate(some):
                if not self._journal.spool.is_open or self._journal.refill(trade, gap.gap_id) is None:
                    ctx.count("backfill_trades_total", number)
                    raise WaitError("the spool has no room")
            ctx.count("backfill_trades_total", len(some))
            await asyncio.sleep(len(some) / self._feed.backfill_trades_per_second)

    # -- what is said about a gap ------------------------------------------------------------------------------------

    def _retry(self, ctx: Context, job: Job, why: str, detail: dict[str, Any] | None = None) -> None:
        """Begin again, as history can be late; after the last attempt the gap is unresolved."""
        job.attempts += 1
        if job.attempts >= ATTEMPTS:
            self._failed(ctx, job, why, detail)
        else:
            job.retry()

    def _failed(self, ctx: Context, job: Job, why: str, detail: dict[str, Any] | None = None) -> None:
        self._settle(ctx, job.gap, "unresolved", detail or {"rows": job.result.refilled, "why": why})

    async def _settle_for_all(self, ctx: Context, closed: Iterable[str]) -> None:
        """The rows for all of those gaps whose symbols are settled, and of those where one was settled later."""
        for gap_id in self._settled.union(closed):
            rows = await asyncio.to_thread(self._tables.rows_of, gap_id)
            if rows is None:
                raise WaitError("ClickHouse does not answer")
            whole = next((row for row in rows if row.symbol is None), None)
            said = of_all(rows)
            if rows and whole is None:  # of one symbol alone: nothing is to be said for all
                self._settled.discard(gap_id)
            if whole is None or said is None or whole.state == "open" or whole.key in self._said:
                continue
            self._settled.discard(gap_id)
            if self._is_mine(whole) and (whole.state, whole.detail) != said:
                self._settle(ctx, whole, *said)

    def _say(self, gap: Gap, state: str, detail: dict[str, Any]) -> bool:
        fact = {
            "phase": state,
            "gap_id": gap.gap_id,
            "cause": gap.cause,
            "connection": gap.connection,
            "from": _place(gap.begun),
            "to": _place(gap.ended),
            "detail": detail,
        }
        return self._journal.fact("gap", gap.connection, gap.symbol, fact) is not None

    def _settle(self, ctx: Context, gap: Gap, state: str, detail: dict[str, Any]) -> None:
        """Spool what became of the gap; where there is no room it is found out again."""
        if not self._journal.spool.is_open or not self._say(gap, state, detail):
            return
        self._said.add(gap.key)
        self._jobs.pop(gap.key, None)
        self._waiting = max(0, self._waiting - 1)
        ctx.count("backfill_gaps_total", state=state)
        if gap.symbol is None:
            level = "INFO" if state == "filled" else "WARNING"
            ctx.event(level, "gap_settled", gap=gap.gap_id, connection=gap.connection, state=state, **detail)
        elif gap.connection == "level1":
            self._settled.add(gap.gap_id)


def _missing(symbol: str, rows: pa.Table | None, known: Sequence[KnownTrade]) -> list[HistoryTrade]:
    if rows is None:
        return []
    found = [
        trade_of_row(symbol, row)
        for begin in range(0, rows.num_rows, ROWS_AT_ONCE)
        for row in rows.slice(begin, ROWS_AT_ONCE).to_pylist()
    ]
    return missing_of([trade for trade in found if trade is not None], known)


def _place(place: Place) -> dict[str, int | None]:
    return {"epoch": place.epoch, "seq": place.seq, "event_time_us": place.time_us}
