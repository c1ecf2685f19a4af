"""What durability costs, and how fast a lost state comes back: the same work with and without, in one run."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from benchmarks.contenders import Product
from benchmarks.end_to_end import highest
from benchmarks.instances import ingestion, pipeline
from benchmarks.recorded import record
from benchmarks.report import Cell, Report, table
from benchmarks.rig import SYMBOLS, Bench, bench
from benchmarks.stages import frames
from benchmarks.trial import WARM_UP_S, Outcome, run, say
from config.sections import Settings
from pipeline_orchestrator.errors import UncertainError
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import EVENTS
from pipeline_orchestrator.record import Batch, LogBounds, OffsetRange, Output
from pipeline_orchestrator.storage.clickhouse_sink import ClickHouseSink
from pipeline_orchestrator.storage.clickhouse_store import Store
from pipeline_orchestrator.storage.clickhouse_table import ClickHouseTable
from pipeline_orchestrator.storage.migrate import migrate
from pipeline_orchestrator.storage.tables import TABLES

RATE = 20_000
NEVER_MS = 86_400_000  # between two fsyncs of the spool: none within a run
FSYNCS = {"each 100 ms": 100, "never": NEVER_MS}
LINES = 100_000
BATCHES = (1_000, 10_000, 50_000)  # rows an insert
RECOVERY_LIMIT_S = 300
METHOD = """\
{symbols} symbols, real Kafka (one node, 16 partitions), the ClickHouse engine and Redis on the same machine; windows of
{window} s after {warm} s of flow, medians of {runs} run(s). CPU = user + system time of the product's processes over
the messages that the feed's sockets took, at {rate:,} messages a second. Held = as in end_to_end.txt."""
READ_BACK = """\
Storage: {lines:,} events in inserts of so many rows, rows a second of wall time. "When unsure" is the product: what
became of an insert is known but for failures, then it is read back. "Always" calls every insert uncertain: it is read
back by key before it is sealed."""
RECOVERY = """\
Processing without its snapshots: it reads market.events from the beginning, after {seconds} s of flow at {rate:,}
messages a second. Seconds from the start of the worker until it had read all of it, to the second."""


class ReadBack(ClickHouseTable):
    """A table whose inserts succeed, and are all called uncertain: so each is resolved by reading its keys back."""

    async def insert(self, rows: pa.RecordBatch, query_id: str, token: str) -> None:
        """See ClickHouseTable.insert. Raises UncertainError, always."""
        await super().insert(rows, query_id, token)
        raise UncertainError("as if nobody knew")


def spool_rates(rig: Bench, window_s: int, runs: int) -> tuple[list[tuple[Cell, ...]], dict[str, list[int]]]:
    """Per figure: with the spool's fsync, without it, and the ratio; and the rates held."""
    trials: dict[str, list[Outcome]] = {name: [] for name in FSYNCS}
    held: dict[str, list[int]] = {name: [] for name in FSYNCS}
    for _ in range(runs):
        for name, fsync_ms in FSYNCS.items():
            own = rig.own(f"product-{time.monotonic_ns()}", spool={"fsync_ms": fsync_ms})
            trials[name].append(run(rig, "product", RATE, window_s, own=own))
            rate, _ = highest(rig, "product", window_s, spool={"fsync_ms": fsync_ms})
            held[name].append(rate)
            say(f"fsync {name}: held {rate:,}/s")
    rows: list[tuple[Cell, ...]] = []
    for what, figure in (("ingestion, CPU us per message", ingestion), ("all processes, CPU us per message", pipeline)):
        on, off = (median(figure(each) for each in trials[name]) for name in FSYNCS)
        rows.append((what, on, off, on / off))
    on, off = (median(held[name]) for name in FSYNCS)
    rows.append(("highest rate held, messages a second", on, off, on / off if off else None))
    return rows, held


def events() -> pa.RecordBatch:
    """Parsed lines of the simulator, both ports."""
    recorded = record(LINES)
    parse = LineParser(ParserContext(layout=tuple(recorded.layout)))
    return parse.parse([*frames(recorded.level1, "level1"), *frames(recorded.level2, "level2")])[0]


def batches_of(rows: pa.RecordBatch, size: int) -> list[Batch]:
    """Consecutive pieces of one partition of one log."""
    made = []
    for start in range(0, rows.num_rows, size):
        part = rows.slice(start, size)
        offsets = np.arange(start, start + part.num_rows, dtype=np.int64)
        place = OffsetRange(EVENTS, 0, int(offsets[0]), int(offsets[-1]), 0, part.num_rows)
        made.append(Batch(rows=part, ranges=(place,), offsets=offsets, log_id="bench"))
    return made


async def stored_per_second(settings: Settings, kind: type[ClickHouseTable], batches: Sequence[Batch]) -> float:
    """Rows a second of a sink over `kind`, each batch one insert, into empty tables."""
    store = Store(settings.clickhouse)
    await store.connect()
    try:
        await store.command(f"DROP DATABASE IF EXISTS `{settings.clickhouse.database}`")
        await migrate(store)
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            sink = ClickHouseSink(kind(store, TABLES[EVENTS]), state_dir=Path(directory))
            await sink.open()
            rows = sum(len(batch) for batch in batches)
            await sink.start_positions(LogBounds("bench", {0: 0}, {0: rows}))
            began = time.perf_counter()
            for batch in batches:
                await sink.write(Output(batch))
            took = time.perf_counter() - began
            await sink.close()
        [(stored,)] = await store.query(f"SELECT count() FROM {store.table('events')}")
        assert stored == rows, f"{stored} rows of {rows}"
    finally:
        await store.release()
    return rows / took


def read_back(rig: Bench, runs: int) -> list[tuple[Cell, ...]]:
    """Per size of the inserts: rows a second when unsure, always, ratio."""
    rows = events()
    own = rig.own("read-back")
    own["clickhouse"]["database"] = "bench_read_back"
    settings = Settings.model_validate(own)
    found: list[tuple[Cell, ...]] = []
    for size in BATCHES:
        batches = batches_of(rows, size)
        speeds: dict[type[ClickHouseTable], list[float]] = {ClickHouseTable: [], ReadBack: []}
        for _ in range(max(3, runs)):
            for kind, measured in speeds.items():
                measured.append(asyncio.run(stored_per_second(settings, kind, batches)))
        unsure, always = (median(measured) for measured in speeds.values())
        found.append((size, unsure, always, unsure / always))
    return found


def recovery(rig: Bench, window_s: int) -> tuple[Cell, ...]:
    """Records, seconds, records a second, the live rate in records a second, ratio."""
    own = rig.own(f"product-{time.monotonic_ns()}")
    live = run(rig, "product", RATE, window_s, own=own)
    records = rig.kafka.records(EVENTS)[EVENTS]
    shutil.rmtree(Path(own["state_dir"]) / "snapshots")
    product = Product(own)
    product.start()
    try:
        seconds = _until_read(product, records)
    finally:
        product.stop()
    per_second = live.verdict.taken * records / live.sent
    return records, seconds, records / seconds, per_second, records / seconds / per_second


def _until_read(product: Product, records: int) -> float:
    """Seconds from processing's start until it had read so many; looked at once a second, so that much too long."""
    limit = time.monotonic() + RECOVERY_LIMIT_S
    while time.monotonic() < limit:
        totals = product.status()["components"]["processing/0"]["totals"]
        if totals.get("component_received_records_total", 0) >= records:
            return time.time() - datetime.fromisoformat(totals["since"]).timestamp()
        time.sleep(0.5)
    raise RuntimeError(f"processing had not caught up after {RECOVERY_LIMIT_S} s")


def main(*, window_s: int = 20, runs: int = 1) -> None:
    """The spool's fsync, read-back, recovery."""
    report = Report("durability", "What durability costs, and how fast lost state comes back")
    report.add(METHOD.format(symbols=SYMBOLS, window=window_s, warm=WARM_UP_S, runs=runs, rate=RATE))
    with bench() as rig:
        report.add(READ_BACK.format(lines=LINES))
        head = ("rows an insert", "when unsure, rows/s", "always, rows/s", "ratio")
        report.add(table(head, read_back(rig, runs)))
        report.add(RECOVERY.format(rate=RATE, seconds=WARM_UP_S + window_s))
        report.add(table(("records", "seconds", "replayed /s", "live /s", "ratio"), [recovery(rig, window_s)]))
        rows, held = spool_rates(rig, window_s, runs)
        report.add(table(("figure", "fsync each 100 ms", "no fsync", "ratio"), rows))
        report.add(
            "\n".join(f"held, fsync {name}: {', '.join(f'{rate:,}' for rate in rates)}" for name, rates in held.items())
        )
    report.write()
