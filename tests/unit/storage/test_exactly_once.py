"""A state machine: whatever fails, dies, is lost or made anew, every row ends up in the table exactly once."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline_orchestrator.errors import NotConnectedError, RetryableError, UncertainError
from pipeline_orchestrator.record import DeadLetter, Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from tests.doubles.crashing_sink import Steps, crashing_sink
from tests.doubles.fake_table import Crash, FakeTable, Fault
from tests.doubles.market_rows import Log, event

PARTITIONS = (0, 1)
LARGEST = 8  # rows of one batch and partition
FAULTS = st.builds(
    Fault,
    landed=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    then=st.sampled_from([UncertainError, NotConnectedError, RetryableError, asyncio.CancelledError, Crash]),
)
SHM = Path("/dev/shm")


class Storage(RuleBasedStateMachine):
    """The log is the truth; `seq` is one counter, its rows are spread over the partitions."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(dir=SHM if SHM.is_dir() else None))
        self.table = FakeTable()
        self.logs = 1
        self.log = Log(log_id="log-1", partitions={partition: [] for partition in PARTITIONS})
        self.truth: dict[int, list[dict[str, Any]]] = {partition: [] for partition in PARTITIONS}
        self.seq = 0
        self.letters: set[int] = set()
        self.sink: ClickHouseSink | None = None
        self.steps = Steps()
        self.at: dict[int, int] = {}

    @initialize()
    def begin(self) -> None:
        self.produce(5)

    # -- what happens to the log -----------------------------------------------------------------------------

    @rule(rows=st.integers(1, 60), poison=st.sets(st.integers(0, 59), max_size=2))
    def produce(self, rows: int, poison: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        """New lines; the server will refuse those numbered in `poison`."""
        self.table.refuse |= {self.seq + number for number in poison}
        for _ in range(rows):
            partition = self.seq * 7 % 3 % 2
            row = event(self.seq)
            self.log.append(partition, **row)
            self.truth[partition].append(row)
            self.seq += 1

    @rule(partition=st.sampled_from(PARTITIONS), rows=st.integers(1, 60))
    def resend(self, partition: int, rows: int) -> None:
        """Ingestion restarted: everything behind its cursor is sent again, in order, before anything new.

        Its cursor never lies before what it sent into this log first.
        """
        sent = self.log.partitions[partition][:1]
        for row in [row for row in self.truth[partition] if not sent or row["seq"] >= sent[0]["seq"]][-rows:]:
            self.log.append(partition, **row)

    @rule(more=st.integers(0, 60))
    def new_log(self, more: int) -> None:
        """The topic was recreated; ingestion resends from at least the first row that is not in the table."""
        self.stop()
        self.logs += 1
        self.log = Log(log_id=f"log-{self.logs}", partitions={partition: [] for partition in PARTITIONS})
        stored = {row.identity.seq for row in self.table.rows}
        for partition, rows in self.truth.items():
            missing = [at for at, row in enumerate(rows) if row["seq"] not in stored]
            first = min(missing, default=len(rows))
            for row in rows[max(0, first - more) :]:
                self.log.append(partition, **row)

    # -- what happens to the writer --------------------------------------------------------------------------

    def start(self) -> ClickHouseSink:
        if self.sink is None:
            sink = crashing_sink(self.table, self.directory, self.keep, self.steps, rebuild_window=2 * LARGEST)
            self.runner.run(sink.open())
            self.at = self.runner.run(sink.start_positions(self.log.bounds))
            self.sink = sink
        return self.sink

    def keep(self, letters: list[DeadLetter]) -> None:
        self.letters |= {letter.event_id.seq for letter in letters if letter.event_id is not None}

    @rule()
    def stop(self) -> None:
        if self.sink is not None:
            self.runner.run(self.sink.close())
            self.sink = None

    def die(self) -> None:
        """kill -9: only the kernel lets go of the lock."""
        assert self.sink is not None
        self.sink._file.unlock()
        self.sink = None

    @rule(
        faults=st.lists(FAULTS, max_size=3),
        rows=st.dictionaries(st.sampled_from(PARTITIONS), st.integers(1, LARGEST), min_size=1),
        tries=st.integers(1, 3),
        die_at=st.none() | st.integers(0, 11),
    )
    def write(self, faults: list[Fault], rows: dict[int, int], tries: int, die_at: int | None) -> None:
        sink = self.start()
        first = {partition: self.at[partition] for partition in rows}
        last = {
            partition: min(self.at[partition] + n, len(self.log.partitions[partition])) for partition, n in rows.items()
        }
        output = Output(self.log.batch(first, last))
        if not len(output.batch):
            return
        self.table.faults = list(faults)
        self.steps.die_at = None if die_at is None else self.steps.passed + die_at
        try:
            for number in range(tries):
                try:
                    self.runner.run(sink.write(output))
                    self.at |= last
                    return
                except (RetryableError, UncertainError, asyncio.CancelledError):
                    if number == tries - 1:
                        self.die()
        except Crash:
            self.die()
        finally:
            self.table.faults = []
            self.steps.die_at = None

    @rule()
    def reopen_source(self) -> None:
        if self.sink is not None:
            self.at = self.runner.run(self.sink.start_positions(self.log.bounds))

    @rule(damage=st.booleans())
    def lose_ledger(self, damage: bool) -> None:
        self.stop()
        ledger = self.directory / "ledger" / "events-0.json"
        if ledger.exists():
            if damage:
                ledger.write_bytes(ledger.read_bytes()[:-40])
            else:
                ledger.unlink()

    @precondition(lambda self: self.table.rows)
    @rule(which=st.integers(0, 10**6))
    def lose_sealed_row(self, which: int) -> None:
        """The engine lost a row of the newest sealed insert (power loss)."""
        self.stop()
        ledger = ClickHouseSink(self.table, state_dir=self.directory)._file.load()[0]
        if ledger is None or ledger.sealed is None or ledger.open is not None:
            return
        if ledger.sealed.log_id != self.log.log_id:
            return
        spans = {part.partition: part for part in ledger.sealed.ranges}
        inside = [
            row
            for row in self.table.rows
            if row.partition in spans
            and row.log_id == ledger.sealed.log_id
            and spans[row.partition].first <= row.offset <= spans[row.partition].last
        ]
        if inside:
            self.table.rows.remove(inside[which % len(inside)])
            self.start()  # found at this start, or never

    @rule()
    def wipe(self) -> None:
        """The store was dropped and made anew: what only the old one held is gone, the log is what there is."""
        self.stop()
        self.table.wipe()
        for partition, rows in self.log.partitions.items():
            seqs = {row["seq"] for row in rows}
            self.truth[partition] = [row for row in self.truth[partition] if row["seq"] in seqs]

    # -- what must hold --------------------------------------------------------------------------------------

    @invariant()
    def nothing_twice(self) -> None:
        found = Counter(row.identity for row in self.table.rows)
        assert all(count == 1 for count in found.values()), [row for row, count in found.items() if count > 1]

    def teardown(self) -> None:
        try:
            sink = self.start()
            while any(self.at[partition] < len(rows) for partition, rows in self.log.partitions.items()):
                last = {p: min(self.at[p] + LARGEST, len(rows)) for p, rows in self.log.partitions.items()}
                self.runner.run(sink.write(Output(self.log.batch(self.at, last))))
                self.at = last
            everything = {row["seq"] for rows in self.truth.values() for row in rows}
            assert sorted(row.identity.seq for row in self.table.rows) == sorted(everything - self.table.refuse)
            assert self.letters >= everything & self.table.refuse
            assert self.letters <= self.table.refuse
        finally:
            self.stop()
            self.runner.close()
            shutil.rmtree(self.directory)


Storage.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestStorage = Storage.TestCase
