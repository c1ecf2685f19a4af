"""kill -9 of the store, and of the writer, while rows are inserted: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.sections import ClickHouseConfig
from pipeline_orchestrator.errors import RetryableError, UncertainError
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.tables import TABLES
from tests.doubles.embedded import ROOT, EmbeddedClickHouseProcess
from tests.doubles.market_rows import Log, event

pytestmark = [pytest.mark.faults, pytest.mark.slow]
DAY = 86_400_000_000
ROWS, STEP = 4000, 200  # rows per partition of the topic, and of one batch


@pytest.fixture
def service(tmp_path: Path) -> Iterator[EmbeddedClickHouseProcess]:
    pytest.importorskip("chdb", reason="the embedded engine needs the extra `demo`")
    service = EmbeddedClickHouseProcess(tmp_path / "clickhouse" / "data")
    service.start()
    yield service
    service.stop()


def make_log() -> Log:
    """Two partitions; neighbouring rows lie in different partitions of the table, so an insert is not atomic."""
    log = Log()
    for seq in range(2 * ROWS):
        row = event(seq, symbol=f"S{seq % 11}")
        row["event_time_us"] -= seq % 5 * DAY
        log.append(seq % 2, **row)
    return log


async def write_all(sink: ClickHouseSink, log: Log, starts: dict[int, int]) -> None:
    at = starts
    while any(at[partition] < end for partition, end in log.end.items()):
        last = {partition: min(first + STEP, log.end[partition]) for partition, first in at.items()}
        output = Output(log.batch(at, last))
        while True:
            try:
                await sink.write(output)
                break
            except (RetryableError, UncertainError):
                await asyncio.sleep(0.05)
        at = last


async def test_the_store_is_killed_again_and_again(service: EmbeddedClickHouseProcess, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    chance, log = random.Random(seed), make_log()
    store = Store(ClickHouseConfig(port=service.port), insert_timeout=5.0, query_timeout=5.0)
    sink = ClickHouseSink(ClickHouseTable(store, TABLES[EVENTS]), state_dir=tmp_path / "state")
    await sink.open()
    writing = asyncio.create_task(write_all(sink, log, await sink.start_positions(log.bounds)))
    kills = 0
    while kills < 4 and not writing.done():
        await asyncio.wait({writing}, timeout=chance.uniform(0.02, 0.25))
        service.kill()
        await asyncio.to_thread(service.start)
        kills += 1
    await writing
    await sink.close()
    check(service, seed, kills)


@pytest.mark.timeout(120)
def test_the_writer_is_killed_again_and_again(service: EmbeddedClickHouseProcess, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    kills = 0
    for _ in range(30):
        command = [sys.executable, "-m", "tests.faults.test_storage_killed", str(service.port), str(tmp_path / "state")]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"writing\n"
            try:
                code = writer.wait(chance.uniform(0.02, 0.3) if kills < 4 else 60)
            except subprocess.TimeoutExpired:
                writer.send_signal(signal.SIGKILL)
                kills += 1
                continue
        assert code == 0
        break
    check(service, seed, kills)


def check(service: EmbeddedClickHouseProcess, seed: int, kills: int) -> None:
    found = service.sql(
        "SELECT count(), uniqExact(seq), min(seq), max(seq), uniqExact(k_part, k_off, k_idx) FROM market_data.events"
    )
    rows = 2 * ROWS
    assert found == f"{rows}\t{rows}\t0\t{rows - 1}\t{rows}", f"seed {seed}, {kills} kills"
    assert kills >= 1


async def _writer(port: int, state_dir: Path) -> None:
    log = make_log()
    store = Store(ClickHouseConfig(port=port))
    sink = ClickHouseSink(ClickHouseTable(store, TABLES[EVENTS]), state_dir=state_dir)
    await sink.open()
    starts = await sink.start_positions(log.bounds)
    sys.stdout.write("writing\n")
    sys.stdout.flush()
    await write_all(sink, log, starts)
    await sink.close()


if __name__ == "__main__":
    asyncio.run(_writer(int(sys.argv[1]), Path(sys.argv[2])))
