"""What a storage writer knows for certain, and every decision made from it. Values and pure functions only.

Per partition: the next offset to read, the marks of everything before it, and *rechecks*: ranges of which it is not
known how much landed. A recheck is settled by identity: rows that the table already holds are not inserted again, so
it works across logs as well. An `Intent` names, before the INSERT is sent, what it will contain and where the writer
stands before and after; on a start the table is counted against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pipeline_orchestrator.errors import ForeignLogError, PermanentError, RetryableError
from pipeline_orchestrator.record import Mark

Marks = Mapping[str, Mark]  # writer ("0" for instance 0, "ingestion/0" in the dead letters) -> mark


class Recheck(NamedTuple):
    """Rows of this log and these offsets may or may not be in the table."""

    log_id: str
    first: int
    last: int


class Count(NamedTuple):
    """What the table holds of a range: rows, and distinct keys among them."""

    rows: int
    keys: int


NOTHING = Count(0, 0)


class LastRow(NamedTuple):
    """The newest row behind a position: its offset and identity, compared when the log is read again."""

    offset: int
    who: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Position:
    """Where one partition stands. Everything of `log_id` below `next` is in the table, rechecks apart.

    `rows` = how many rows of the partition, of any log, the table holds by then; None = not known.
    """

    log_id: str
    next: int
    marks: Marks = field(default_factory=dict)
    last: LastRow | None = None
    rechecks: tuple[Recheck, ...] = ()
    generation: int = 0
    rows: int | None = None

    @property
    def reads_again(self) -> bool:
        """Whether it was sent back in its own log and has not come to where it was.

        Rechecks of other logs do not count: they matter only to what comes from `next` on, and a writer that is
        gone never sends it.
        """
        return any(recheck.log_id == self.log_id for recheck in self.rechecks)


@dataclass(frozen=True, slots=True)
class PartRange:
    """One partition's share of an insert: `rows` rows with offsets in [first, last] will be in the table."""

    partition: int
    first: int
    last: int
    rows: int
    before: Position
    after: Position


@dataclass(frozen=True, slots=True)
class Intent:
    """An insert that was about to be made. Its attempts are named `base`-0, `base`-1, ... below `attempts`.

    `owes_letters`: some of its records become dead letters, which are durable for certain only once it is sealed.
    """

    base: str
    attempts: int
    log_id: str
    table_uuid: str
    ranges: tuple[PartRange, ...]
    oldest_us: int = 0  # smallest sort time of its rows: what TTL may have taken
    owes_letters: bool = False

    def query_ids(self) -> list[str]:
        """Every id under which an attempt may still run."""
        return [f"{self.base}-{number}" for number in range(self.attempts)]

    def token(self, attempt: int) -> str:
        """Deduplication token of one attempt; never used twice."""
        return f"{self.base}-{attempt}-token"


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that one storage instance knows about one table."""

    table: str
    topic: str
    instance: int
    generation: int = 0
    table_uuid: str = ""
    positions: Mapping[int, Position] = field(default_factory=dict)
    open: Intent | None = None
    sealed: Intent | None = None
    late: Intent | None = None  # rows that earlier inserts had to leave out, about to land now: one range each

    def check_landable(self, log_id: str, partition: int, offset: int) -> None:
        """Raises RetryableError while the stage may still insert this offset itself: a late row would be its double.

        Raises LogReplacedError where it never can be told, because storage reads another log by now.
        """
        position = self.positions.get(partition)
        if position is not None and position.log_id != log_id:
            raise LogReplacedError(
                f"{self.topic}/{partition}: offset {offset} counts in log {log_id}, which was replaced by log"
                f" {position.log_id}; what was read again came with that one, and this letter keeps the bytes"
            )
        if position is None:
            why = "storage has no position there"
        elif offset >= position.next:
            why = f"storage has not come to offset {offset} yet (next is {position.next})"
        elif position.reads_again:
            why = "storage is still finding out which rows are there"
        else:
            return
        raise RetryableError(f"{self.topic}/{partition}: {why}")


class LogReplacedError(PermanentError):
    """A record of a log that is read no more."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something an operator should know. `audit` = what is stored may be incomplete elsewhere too: compare all."""

    event: str
    text: str
    audit: bool = False


def intend(ledger: Ledger, intent: Intent) -> Ledger:
    """INTEND. Raises ValueError while another insert is open: there is one open range at most."""
    if ledger.open is not None:
        raise ValueError(f"{ledger.table}: an insert is open already ({ledger.open.base})")
    return replace(ledger, open=intent)


def seal(ledger: Ledger) -> Ledger:
    """SEAL: the open insert is in the table, all of it, and its dead letters are durable."""
    if ledger.open is None:
        raise ValueError(f"{ledger.table}: nothing to seal")
    after = {part.partition: part.after for part in ledger.open.ranges}
    sealed = replace(ledger.open, owes_letters=False)
    return replace(ledger, positions={**ledger.positions, **after}, open=None, sealed=sealed)


def advance(ledger: Ledger, positions: Mapping[int, Position]) -> Ledger:
    """Positions move over records of which no row is stored."""
    return replace(ledger, positions={**ledger.positions, **positions})


def settle(ledger: Ledger, counts: Mapping[int, Count]) -> tuple[Ledger, list[Note]]:
    """At a start: decide an open insert by `counts`, what was found per partition. No attempt may still run.

    A partition that holds all its rows is sealed; any other goes back to before, its range to be rechecked. So do
    all of them where dead letters are owed: the records are read again, and refused again.
    """
    if ledger.open is None:
        return ledger, []
    positions, landed = dict(ledger.positions), 0
    for part in ledger.open.ranges:
        whole = counts.get(part.partition, NOTHING).keys >= part.rows and not ledger.open.owes_letters
        landed += whole
        positions[part.partition] = part.after if whole else _back(part, ledger.open.log_id)
    whole_intent = landed == len(ledger.open.ranges)
    text = f"an insert of {ledger.table} was open: {landed} of {len(ledger.open.ranges)} partitions had landed whole"
    if ledger.open.owes_letters:
        text = f"an insert of {ledger.table} was open and owed dead letters: its records are read again"
    settled = replace(ledger, positions=positions, open=None, sealed=ledger.open if whole_intent else None)
    return settled, [Note("open_insert_settled", text)]


def recount(ledger: Ledger, counts: Mapping[int, Count], ttl_cutoff_us: int | None) -> tuple[Ledger, list[Note]]:
    """At a start: compare the last sealed insert with the table; a short partition goes back and is refilled.

    Rows older than `ttl_cutoff_us` may have been removed by TTL: such an insert is not judged. More rows than
    sealed means duplicates: reported, never repaired here.
    """
    if ledger.sealed is None or (ttl_cutoff_us is not None and ledger.sealed.oldest_us < ttl_cutoff_us):
        return ledger, []
    positions, notes = dict(ledger.positions), []
    for part in ledger.sealed.ranges:
        found = counts.get(part.partition, NOTHING)
        where = f"{ledger.table}, partition {part.partition}, offsets {part.first}..{part.last}"
        if found.keys < part.rows:
            positions[part.partition] = _back(part, ledger.sealed.log_id)
            text = f"{where}: {found.keys} of {part.rows} sealed rows found; read again from {part.first}"
            notes.append(Note("sealed_rows_missing", text, audit=True))
        elif found.rows > part.rows:
            notes.append(
                Note("sealed_rows_doubled", f"{where}: {found.rows} rows, {part.rows} were sealed", audit=True)
            )
    if not notes:
        return ledger, []
    short = any(note.event == "sealed_rows_missing" for note in notes)
    return replace(ledger, positions=positions, sealed=None if short else ledger.sealed), notes


def landed(ledger: Ledger, log_id: str, partition: int, offset: int) -> Ledger:
    """A row that an insert had to leave out was stored later: its range and all counts hold one more."""

    def one_more(intent: Intent | None) -> Intent | None:
        if intent is None:
            return None
        ranges = []
        for part in intent.ranges:
            if part.partition != partition:
                ranges.append(part)
                continue
            inside = intent.log_id == log_id and part.first <= offset <= part.last
            before = part.before if inside else _counted(part.before)
            ranges.append(replace(part, rows=part.rows + inside, before=before, after=_counted(part.after)))
        return replace(intent, ranges=tuple(ranges))

    positions = {number: _counted(at) if number == partition else at for number, at in ledger.positions.items()}
    return replace(ledger, positions=positions, open=one_more(ledger.open), sealed=one_more(ledger.sealed))


def _counted(position: Position) -> Position:
    return position if position.rows is None else replace(position, rows=position.rows + 1)


def _back(part: PartRange, log_id: str) -> Position:
    recheck = Recheck(log_id, part.first, part.last)
    return replace(part.before, rechecks=(*part.before.rechecks, recheck))


def wiped(ledger: Ledger, table_uuid: str) -> tuple[Ledger, list[Note]]:
    """Another table stands where the ledger's was: nothing known about the old one holds for it."""
    if not ledger.table_uuid or ledger.table_uuid == table_uuid:
        return replace(ledger, table_uuid=table_uuid), []
    text = f"table {ledger.table} is a new one (was {ledger.table_uuid}, is {table_uuid}): read again from the log"
    fresh = Ledger(ledger.table, ledger.topic, ledger.instance, ledger.generation, table_uuid)
    return fresh, [Note("store_wiped", text, audit=True)]


def adopt(own: Ledger, others: Iterable[Ledger], partitions: Iterable[int]) -> Ledger:
    """Take over partitions that another instance owned before; the youngest generation of each wins.

    What that instance had open for them becomes a recheck; where late rows were about to land, the rows are not
    counted any more. Partitions outside `partitions` are kept as they are:
    their new owner may not have started yet.
    """
    positions = dict(own.positions)
    for other in others:
        if other.table_uuid != own.table_uuid:
            continue
        open_parts = {part.partition: part for part in other.open.ranges} if other.open is not None else {}
        late = {part.partition for part in other.late.ranges} if other.late is not None else set()
        for partition in partitions:
            theirs, mine = other.positions.get(partition), positions.get(partition)
            if partition in open_parts and other.open is not None:
                theirs = _back(open_parts[partition], other.open.log_id)
            if theirs is not None and partition in late:
                theirs = replace(theirs, rows=None)
            if theirs is not None and (mine is None or theirs.generation > mine.generation):
                positions[partition] = theirs
    return replace(own, positions=positions)


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where to read from, and the position that holds until the first write."""

    start: int
    position: Position
    notes: tuple[Note, ...] = ()


def resume(position: Position, partition: int, topic: str, log_id: str, beginning: int, end: int) -> Resumption:
    """Continue in the same log, or begin a new one with the marks that survive it.

    In the same log reading starts one row before the position, so that its identity is compared. Raises
    ForeignLogError when the log is shorter than what was read of it.
    """
    where = f"{topic}/{partition}"
    if position.log_id != log_id:
        fresh = replace(position, log_id=log_id, next=beginning, last=None)
        text = f"{where}: another log ({log_id}, was {position.log_id}); read from its beginning {beginning}"
        return Resumption(beginning, fresh, (Note("new_log", text),))
    if position.next > end:
        raise ForeignLogError(
            f"{where} ends at {end}, but {position.next} was reached in it: it is another log under the same id",
            next_step="give the new log its own kafka.log_id, or restore the old one",
        )
    if position.next < beginning:
        text = f"{where}: offsets {position.next}..{beginning - 1} were removed before they were stored"
        moved = replace(position, next=beginning, last=None)
        return Resumption(beginning, moved, (Note("log_start_passed_us", text, audit=True),))
    if position.last is not None and beginning <= position.last.offset:
        return Resumption(position.last.offset, position)
    return Resumption(position.next, replace(position, last=None))


class LogFacts(NamedTuple):
    """What the table holds of one log and partition: its newest offset."""

    log_id: str
    newest: int


def rebuild_windows(facts: Iterable[LogFacts], window: int) -> tuple[Recheck, ...]:
    """The ranges in which a lost ledger may have left holes: the newest `window` offsets of each log."""
    return tuple(Recheck(fact.log_id, max(0, fact.newest + 1 - window), fact.newest) for fact in facts)


def rewound(position: Position, first: int, marks: Marks, rows: int | None) -> Position:
    """The same partition, to be read again from `first`: what the table holds from there on is not stored twice.

    `marks` and `rows` are those of the table outside of the rechecks that result. Of no effect behind `next`.
    """
    if first >= position.next:
        return position
    again = Recheck(position.log_id, first, position.next - 1)
    return replace(position, next=first, marks=dict(marks), last=None, rechecks=(*position.rechecks, again), rows=rows)


def rebuilt(
    table: str,
    partition: int,
    log_id: str,
    beginning: int,
    windows: tuple[Recheck, ...],
    marks: Marks,
    rows: int | None = None,
    seconds: float = 0.0,
) -> Resumption:
    """A position made from the table alone; `marks` and `rows` are those outside of `windows`.

    `seconds` = how long the table took to answer.
    """
    current = [window for window in windows if window.log_id == log_id]
    start = max(beginning, current[0].first) if current else beginning
    position = Position(log_id, start, dict(marks), rechecks=windows, rows=rows)
    if not windows:
        return Resumption(start, position)
    text = (
        f"ledger of {table}, partition {partition} rebuilt from the table in {seconds:.2f} s: read again from {start}"
    )
    return Resumption(start, position, (Note("ledger_rebuilt", text, audit=True),))
