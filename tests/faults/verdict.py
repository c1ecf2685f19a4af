"""What holds after every fault, read from outside: the letters are those of the fault table.

(a) every line whose spool write returned is stored exactly once, and bars and last books are those of the lines;
(b) every other line that the feed sent lies inside a gap of its symbol; (c) is each test's own: what status, exit code
and log said; (d) no process, open or unfinished file, lock or socket is left; (e) the order of each symbol is that of
reading; (f) tests inject twice.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

from infrastructure.simulator.sent_log import SentLine
from tests.doubles.oracle import expected_from
from tests.doubles.pipeline import Pipeline
from tests.doubles.readings import Reading, identities, outside, readings, spooled_frames
from tests.faults.derived import assert_bars, assert_books
from tests.faults.stand import Stand

OWN_FACTS = "raw IS NOT NULL AND raw LIKE '{%'"
OWN_KINDS = {"subscribed", "unsubscribed"}
SOURCE = "src_instance, src_epoch, src_seq, src_idx, out"
IDENTITIES = {
    "events": "instance, epoch, seq, idx",
    "features": SOURCE,
    "books": f"src_partition, {SOURCE}",
    "bars": f"src_partition, {SOURCE}",
}
UNFINISHED = (".tmp", ".part", ".new")

Stored = set[tuple[int, int, int]]


def stored(pipeline: Pipeline) -> Stored:
    """Identities of everything in `events` and among the dead letters."""
    rows = pipeline.sql("SELECT instance, epoch, seq FROM {db}.events")
    rows += pipeline.sql("SELECT src_instance, src_epoch, src_seq FROM {db}.dlq")
    return {(int(instance), int(epoch), int(seq)) for instance, epoch, seq in rows}


def check(stand: Stand, *, settle_s: float = 90) -> None:
    """End feed and pipeline, and assert (a), (b), (d) and (e); the figures go to the last fault of the stand."""
    pipeline = stand.pipeline
    gap_rows = pipeline.sql("SELECT count() FROM {db}.gaps_latest WHERE symbol IS NULL")
    stand.faults[-1].gap_rows = int(gap_rows[0][0])  # before the feed's own end, which is one more
    stand.simulator.stop()
    try:
        pipeline.wait("all that was spooled is stored", lambda: not _missing(stand), settle_s)
    except AssertionError:
        stand.faults[-1].lost = len(_missing(stand))
        raise
    pipeline.stop()
    last = stand.faults[-1]
    frames = spooled_frames(stand.spooled, (0,))
    found, never_read = readings(frames, stand.simulator.sent_log)
    unread = [*found, *_unread_connections(never_read)]
    missing = identities(frames) - stored(pipeline)
    doubles = {name: _doubles(pipeline, name, key) for name, key in IDENTITIES.items()}
    uncovered = outside(unread, pipeline.gap_intervals())
    last.lost = len(missing) + len(uncovered)
    last.duplicated = sum(doubles.values())
    assert not missing, f"(a) spooled and not stored: {sorted(missing)[:10]}"
    assert not any(doubles.values()), f"(a) stored twice: {doubles}"
    assert not stored(pipeline) - identities(frames), "(a) stored and never spooled"
    assert_content_is_what_was_sent(pipeline, found)
    features = pipeline.sql("SELECT count() FROM {db}.features")
    made_of = "kind IN ('trade', 'quote', 'level_set', 'level_delete', 'depth_clear')"
    assert features == pipeline.sql(f"SELECT count() FROM {{db}}.events WHERE {made_of}"), "(a) features"
    assert assert_bars(pipeline, frames) > 0, "(a) no bar"
    assert_books(pipeline, found)
    assert not uncovered, f"(b) sent, never read and in no gap: {uncovered[:5]}"
    assert_order(pipeline)
    assert_nothing_is_left(stand)


def _missing(stand: Stand) -> Stored:
    try:
        return identities(spooled_frames(stand.spooled, (0,))) - stored(stand.pipeline)
    except OSError:
        return {(-1, -1, -1)}  # the store does not answer yet


def _doubles(pipeline: Pipeline, table: str, key: str) -> int:
    ((count,),) = pipeline.sql(f"SELECT count() - uniqExact({key}) FROM {{db}}.{table}")
    ((offsets,),) = pipeline.sql(f"SELECT count() - uniqExact(k_part, k_off, k_idx) FROM {{db}}.{table}")
    return int(count) + int(offsets)


def _unread_connections(lines: list[SentLine]) -> list[Reading]:
    """Connections of which a reader took nothing, in the form of those that were read."""
    of: dict[tuple[str, int], list[SentLine]] = defaultdict(list)
    for line in lines:
        of[(line.port, line.connection)].append(line)
    return [Reading(0, 0, port, -1, [], those, []) for (port, _), those in of.items()]


def assert_content_is_what_was_sent(pipeline: Pipeline, found: list[Reading]) -> None:
    """Per symbol and kind as many rows as lines that were read; each trade by its tick id."""
    expected = expected_from((line.connection, line.port, line.text) for each in found for line in each.read)
    rows = pipeline.sql(
        f"SELECT symbol, kind, count() FROM {{db}}.events WHERE symbol IS NOT NULL AND NOT ({OWN_FACTS}) GROUP BY 1, 2"
    )
    counts = {(symbol, kind): int(count) for symbol, kind, count in rows if kind not in OWN_KINDS}
    assert counts == {key: count for key, count in expected.counts.items() if key[0]}, "(a) content"
    ticks = Counter(tuple(row) for row in pipeline.sql("SELECT symbol, tick_id FROM {db}.events WHERE kind = 'trade'"))
    assert ticks == expected.ticks, "(a) trades"


def assert_order(pipeline: Pipeline) -> None:
    """Per symbol, in the order of the log, the identity only rises."""
    falls = pipeline.sql(
        "SELECT count() FROM (SELECT (epoch, seq, idx) AS at, lagInFrame((epoch, seq, idx), 1, (0, 0, 0)) OVER"
        " (PARTITION BY symbol ORDER BY k_off, k_idx ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before"
        " FROM {db}.events WHERE symbol IS NOT NULL) WHERE before > at"
    )
    assert falls == [["0"]], f"(e) {falls}"


def assert_nothing_is_left(stand: Stand) -> None:
    """(d) of the whole machine's processes, of open files, and of files, sockets and locks in the state directory."""
    state, own = stand.pipeline.state, os.getpid()
    alive = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and int(entry.name) != own]
    left = [pid for pid in alive if _belongs(pid, stand)]
    assert not left, f"(d) processes {left}"
    holders = {pid: files for pid in alive if (files := _open_files(pid, state))}
    assert not holders, f"(d) open files {holders}"
    unfinished = [path for path in state.rglob("*") if path.name.endswith(UNFINISHED) or path.is_socket()]
    assert not unfinished, f"(d) {unfinished}"
    temporary = [path for path in stand.temporary.rglob("*") if not path.is_dir()]
    assert not temporary, f"(d) {temporary}"


def _belongs(pid: int, stand: Stand) -> bool:
    """Whether the pipeline started a process: its directory for temporary files is handed down to each."""
    try:
        return f"TMPDIR={stand.temporary}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # ended meanwhile


def _open_files(pid: int, state: Path) -> list[str]:
    """Files of the state directory that a process holds open; a lock is held by nothing else."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            name = str(descriptor.readlink())
        except OSError:
            continue
        if name.startswith(f"{state}/"):
            found.append(name)
    return found
