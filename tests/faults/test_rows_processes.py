"""Processes of a running pipeline die: F01 to F03, F05, F06, F41.

FAULT_KILLS: kills of each worker (the table's 200). FAULT_ROUNDS: deaths of everything at once (the table's 20).
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from config.sections import Settings
from pipeline_orchestrator.offline import replay_spool
from tests.doubles.pipeline import Pipeline
from tests.faults.conftest import Make
from tests.faults.stand import Stand
from tests.faults.test_processes_die import family
from tests.faults.verdict import check

KILLS = int(os.environ.get("FAULT_KILLS", "3"))
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "3"))
WORKERS = ("ingestion/0", "processing/0", "storage/0", "cache/0")
IDENTITY = "symbol src_epoch src_seq src_idx out"
COMPARED = {
    "books": "book_state bid_prices bid_sizes ask_prices ask_sizes",
    "features": "kind best_bid best_bid_size best_ask best_ask_size spread mid microprice vwap order_flow_imbalance"
    " last_price last_size book_state book_source null_reason",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 20 * KILLS + 40 * ROUNDS)]


def alive(pids: set[int]) -> set[int]:
    """Those that are there and no zombies."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if state not in {b"Z", b"X"}:
            found.add(pid)
    return found


def gone(pids: set[int]) -> bool:
    return not alive(pids)


def kill_all(pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # died with its parent


def repeated(stand: Stand) -> int:
    ((count,),) = stand.pipeline.sql("SELECT count() - uniqExact(instance, epoch, seq, idx) FROM {db}.events")
    return int(count)


def seed_of(stand: Stand) -> int:
    """The parent of the workers."""
    stat = Path(f"/proc/{stand.pid('storage/0')}/stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[1])


@pytest.mark.long_fault
def test_f01_a_killed_reader_loses_nothing_that_it_spooled_and_the_rest_is_a_gap(make_stand: Make) -> None:
    stand = make_stand("F01")
    for number in range(KILLS):
        stand.kill("ingestion/0", again=number % 3 == 0)
    causes = stand.pipeline.sql("SELECT cause, count() FROM {db}.gaps_latest WHERE symbol IS NULL GROUP BY 1")
    assert [cause for cause, _ in causes] == ["reader_lost"], causes
    check(stand)


@pytest.mark.long_fault
def test_f02_books_and_features_after_kills_are_those_of_an_undisturbed_run(make_stand: Make, tmp_path: Path) -> None:
    stand = make_stand("F02", extra={"PIPELINE_PROCESSING__SNAPSHOT_SECONDS": "5"})
    for number in range(KILLS):
        stand.kill("processing/0", again=number % 3 == 0)
    check(stand)
    settings = Settings.model_validate({"symbols": list(stand.symbols)})
    replay_spool(settings, [stand.pipeline.state / "spool"], tmp_path / "undisturbed")
    for table, columns in COMPARED.items():
        assert_same_rows(stand.pipeline, tmp_path / "undisturbed" / f"{table}.parquet", table, columns)


def assert_same_rows(pipeline: Pipeline, undisturbed: Path, table: str, columns: str) -> None:
    """Each identity has the same values in both; lists are compared as text."""
    names = [*IDENTITY.split(), *columns.split()]
    wanted = Counter(
        tuple("\\N" if cell is None else str(cell).replace(" ", "") for cell in row.values())
        for row in pq.read_table(undisturbed, columns=names).select(names).to_pylist()
    )
    found = Counter(tuple(row) for row in pipeline.sql(f"SELECT {', '.join(names)} FROM {{db}}.{table}"))
    assert found == wanted, (table, list((found - wanted).items())[:3], list((wanted - found).items())[:3])


@pytest.mark.long_fault
def test_f03_a_killed_writer_stores_each_row_once(make_stand: Make) -> None:
    stand = make_stand("F03")
    for number in range(KILLS):
        stand.kill("storage/0", again=number % 3 == 0)
    check(stand)


@pytest.mark.long_fault
def test_f03_a_killed_store_gets_each_row_once(make_stand: Make) -> None:
    stand = make_stand("F03")

    def back() -> None:
        stand.clickhouse.start()
        stand.clickhouse.restart()  # again, while storage recovers

    for _ in range(KILLS):
        found = stand.inject(
            "kill -9 of the store",
            stand.clickhouse.kill,
            lambda: stand.service("clickhouse") == "unreachable",
            heal=back,
        )
        found.injections = 2
    assert stand.component("storage/0")["restarts"] == 0
    assert not list((stand.clickhouse.directory / "data").rglob("*.native")), "orphans of the engine"
    check(stand)


@pytest.mark.long_fault
def test_f05_a_killed_supervisor_leaves_no_child_and_the_next_start_goes_on(make_stand: Make) -> None:
    stand = make_stand("F05")
    for _ in range(2):
        daemon = int(stand.status()["pid"])
        children = family(daemon)
        assert len(children) >= len(WORKERS) + 1

        def told_and_started() -> None:
            done = stand.pipeline.cli("status")
            assert done.returncode == 1, done.stderr
            assert "Traceback" not in done.stdout + done.stderr
            stand.start_pipeline()

        stand.inject(
            "kill -9 supervisor",
            partial(os.kill, daemon, signal.SIGKILL),
            partial(gone, children),
            heal=told_and_started,
        )
    check(stand)


@pytest.mark.long_fault
def test_f06_everything_killed_at_once_and_again_while_it_recovers(make_stand: Make) -> None:
    stand = make_stand("F06")
    for _ in range(ROUNDS):
        daemon = int(stand.status()["pid"])
        everything = family(daemon) | {daemon}

        def again() -> None:
            stand.pipeline.start("--no-wait")
            stand.pipeline.wait("the next generation", lambda: bool(stand.pid("ingestion/0")))
            moment = time.monotonic() + 1.0
            stand.pipeline.wait("one second of recovery", lambda: time.monotonic() >= moment)
            second = int(stand.status()["pid"])
            kill_all(family(second) | {second})
            stand.start_pipeline()

        found = stand.inject(
            "kill -9 of everything",
            partial(kill_all, everything),
            partial(gone, everything),
            heal=again,
        )
        found.injections = 2
        assert repeated(stand) == 0
    check(stand)


@pytest.mark.long_fault
def test_f41_without_their_seed_all_workers_are_replaced_once(make_stand: Make) -> None:
    stand = make_stand("F41")
    for _ in range(2):
        marks, seed = len(stand.log_lines()), seed_of(stand)
        old = {stand.pid(name) for name in WORKERS}
        stand.inject(
            "kill -9 of the seed",
            partial(os.kill, seed, signal.SIGKILL),
            lambda marks=marks: bool(stand.logged("seed_died", marks)),  # type: ignore[misc]
        )
        stand.pipeline.wait(
            "all workers",
            lambda old=old: not {stand.pid(name) for name in WORKERS} & {0, *old},  # type: ignore[misc]
        )
        assert not alive({*old, seed})
    check(stand)
