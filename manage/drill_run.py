"""One drill from its fault to its verdict: what was done, when it was seen, when lines flowed again, what it cost.

Times come from looking ten times a second; status itself is up to a second old. The fault is ended on every way out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from manage.client import Control, ControlError
from manage.drill_faults import Fault
from manage.drill_flow import ASK_S, Flow, Found, Moment
from manage.drills import Doc, Drill, Place, may_miss_lines, unwell
from manage.exits import CliError, Exit
from manage.instance import socket_of
from pipeline_orchestrator.audit.cut import Window
from pipeline_orchestrator.audit.findings import DOUBLED, MISSING, Finding, Report
from pipeline_orchestrator.audit.run import Audit
from pipeline_orchestrator.errors import NotConnectedError, PermanentError, RetryableError, UncertainError
from pipeline_orchestrator.storage.clickhouse_store import Store

LOOK_S = 0.1
FLOW_WITHIN_S = 15.0  # for a line of each instance, before the fault
SEEN_WITHIN_S = 60.0  # after its end
AGAIN_WITHIN_S = 120.0  # after its end
SETTLED_WITHIN_S = 120.0  # for rows in flight, and for the gap's row
BEFORE_US = 5_000_000  # what was under way when the fault began is judged, too
PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"
NOW_AND_THEN = (NotConnectedError, RetryableError, UncertainError)

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """Seconds: from the fault until status told of it, and from its end until served again. None = not known.

    Served again = all runs, and market lines received after the fault's end are stored, and features of them, of each
    instance whose were before the fault.
    """

    drill: str
    worker: str
    did: str
    began_us: int = 0
    ended_us: int | None = None
    seen: str = ""
    detected_s: float | None = None
    recovered_s: float | None = None
    lost: int | None = None
    duplicated: int | None = None
    gap_rows: int | None = None
    findings: list[dict[str, Any]] = field(default_factory=list)  # Any: JSON
    why: list[str] = field(default_factory=list)  # of anything but a pass
    verdict: str = UNKNOWN

    def document(self) -> dict[str, Any]:  # Any: JSON
        """As JSON."""
        return asdict(self)


class Run:
    """`run` once."""

    def __init__(self, drill: Drill, worker: str, place: Place, fault: Fault, say: Say) -> None:
        self.drill, self.worker, self.place, self.fault, self._say = drill, worker, place, fault, say
        self.outcome = Outcome(drill.name, worker, fault.did)
        self._control = Control(socket_of(place.state))
        self._store = Store(place.settings.clickhouse)
        self._flow = Flow(self._store, place.settings, place.state)
        self._flowed: Found = {}
        self._ended = 0.0
        self._end: Moment | None = None
        self._not_back = ""

    async def run(self) -> Outcome:
        """Raises CliError, and what a store that does not answer before the fault raises."""
        await self._store.connect()
        try:
            await self._lines_flow()
            try:
                await self._until_over()
            finally:
                self._take_back()
            if self._end is not None:
                await self._until_served(self._end)
            await self._count()
        finally:
            await self._store.release()
        self._judge()
        return self.outcome

    async def _lines_flow(self) -> None:
        """Raises CliError where no lines come: nothing could be measured."""
        since = self._flow.now()

        async def all_flow() -> bool:
            self._flowed = await self._flow.since(since)
            return self._flowed == self._flow.all

        await self._until(all_flow, FLOW_WITHIN_S)
        if not all(self._flowed.get(table) for table in self._flow.all):
            raise CliError(
                "no market lines are being stored, so a drill could not tell when they are again",
                exit_code=Exit.TRY_LATER,
                code="no_lines",
                next_step="manage_pipeline.py status",
            )

    async def _until_over(self) -> None:
        """Begin the fault, wait until it is seen and over."""
        before = self.place.status
        self.outcome.began_us, began = time.time_ns() // 1000, time.monotonic()
        self.fault.begin()
        self._say(f"- {self.fault.did}")

        async def look() -> bool:
            seen = "" if self.outcome.seen else self.drill.seen(before, await self._status(), self.worker)
            if seen:
                self.outcome.seen, self.outcome.detected_s = seen, round(time.monotonic() - began, 1)
                self._say(f"- seen after {self.outcome.detected_s} s: {seen}")
            if self.outcome.ended_us is None and self.fault.over():
                self._over()
            return self.outcome.ended_us is not None

        await self._until(look, 600.0)  # longer than any fault lasts
        await self._until(lambda: self._and_seen(look), SEEN_WITHIN_S)

    async def _and_seen(self, look: Callable[[], Awaitable[bool]]) -> bool:
        return await look() and bool(self.outcome.seen)

    def _over(self) -> None:
        self._end = self._flow.now()
        self._ended, self.outcome.ended_us = time.monotonic(), self._end.us
        self._say("- the fault is over")

    def _take_back(self) -> None:
        try:
            self.fault.end()
        except (CliError, OSError) as error:
            self.outcome.why.append(f"the fault could not be ended: {error}")
            self._say(f"! the fault could not be ended: {error}; by hand: {self.fault.by_hand}")

    async def _until_served(self, end: Moment) -> None:
        """Until all runs and lines received since the fault's end are stored."""

        async def served() -> bool:
            self._not_back = unwell(await self._status())
            if self._not_back:
                return False
            self._not_back = "no market line received since then is stored"
            return await self._flows_since(end)

        if await self._until(served, AGAIN_WITHIN_S):
            self.outcome.recovered_s = round(time.monotonic() - self._ended, 1)
            self._say(f"- served again after {self.outcome.recovered_s} s; counting")

    async def _count(self) -> None:
        """Gap rows, then an audit of the drill's time once none of it is in flight any more."""
        now = self._flow.now()
        window = Window(self.outcome.began_us - BEFORE_US, now.us)
        owed = may_miss_lines(self.drill, self.worker)
        last: list[Report] = []

        async def gaps() -> bool:  # their beginnings: one that only ends in this time is of an earlier loss
            rows = await self._store.query(
                f"SELECT count() FROM {self._store.table('gaps')} WHERE symbol IS NULL AND revision = 0"
                f" AND toUnixTimestamp64Micro(recv_time) >= {self.outcome.began_us}",
                deadline=ASK_S,
            )
            self.outcome.gap_rows = int(rows[0][0])
            return bool(self.outcome.gap_rows) or not owed

        async def audited() -> bool:
            last[:] = [await Audit(self.place.settings, self.place.state, self._store, window).run()]
            return not last[0].in_flight and not last[0].unjudged

        await self._until(gaps, SETTLED_WITHIN_S)
        await self._until(lambda: self._flows_since(now), SETTLED_WITHIN_S)  # spares an audit
        if await self._until(audited, SETTLED_WITHIN_S):
            await self._until(gaps, ASK_S)
        elif last:
            told = ", ".join([f"{last[0].in_flight} in flight", *last[0].unjudged[:5]])
            self.outcome.why.append(
                f"not all of the drill's time could be judged within {SETTLED_WITHIN_S:g} s: {told}"
            )
            self.outcome.findings = last[0].document()["findings"]
            return
        else:
            self.outcome.why.append("the audit had no answer")
            return
        report = last[0]
        self.outcome.lost, self.outcome.duplicated = _lines(report, MISSING), _lines(report, DOUBLED)
        self.outcome.findings = report.document()["findings"]

    def _judge(self) -> None:
        """A pass needs all of it; what is not known is no failure, and no pass."""
        outcome, failed = self.outcome, []
        if outcome.detected_s is None:
            failed.append("status never told of it")
        if outcome.ended_us is None:
            failed.append(f"the fault did not end by itself; by hand: {self.fault.by_hand}")
        elif outcome.recovered_s is None:
            failed.append(f"not served again within {AGAIN_WITHIN_S:g} s: {self._not_back}")
        if outcome.lost:
            failed.append(f"{outcome.lost} lines or rows lost")
        if outcome.duplicated:
            failed.append(f"{outcome.duplicated} lines duplicated")
        if outcome.findings and not outcome.lost and not outcome.duplicated:
            failed.append("the audit found something, see findings")
        if outcome.gap_rows == 0 and may_miss_lines(self.drill, self.worker):
            failed.append("nobody read the feed meanwhile, and no row of gaps says so")
        unknown = bool(outcome.why) or outcome.lost is None or outcome.gap_rows is None
        outcome.why = failed + outcome.why
        outcome.verdict = FAIL if failed else UNKNOWN if unknown else PASS

    async def _status(self) -> Doc:
        try:
            return await asyncio.to_thread(self._control.get, "/v1/status")
        except (ControlError, OSError):
            return {}

    async def _flows_since(self, moment: Moment) -> bool:
        """Whether lines and features received since then are stored, of each instance whose were before the fault."""
        found = await self._flow.since(moment)
        return all(numbers <= found[table] for table, numbers in self._flowed.items())

    async def _until(self, holds: Callable[[], Awaitable[bool]], seconds: float) -> bool:
        """Look again and again until it holds; a service that does not answer is asked again."""
        end = time.monotonic() + seconds
        while True:
            try:
                if await holds():
                    return True
            except (*NOW_AND_THEN, OSError) as error:  # OSError: a file that the running pipeline took away meanwhile
                self._not_back = str(error)
            except PermanentError as error:
                raise CliError(f"cannot count: {error}", code="cannot_audit") from error
            if time.monotonic() > end:
                return False
            await asyncio.sleep(LOOK_S)


def _lines(report: Report, problem: str) -> int:
    """Lines (rows where identities are not known) that a problem is about; the first thousand findings of it."""
    return sum(_size(finding) for finding in report.findings if finding.problem == problem)


def _size(finding: Finding) -> int:
    return finding.lines.lines if finding.lines is not None else finding.rows or 0
