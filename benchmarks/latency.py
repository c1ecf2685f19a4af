"""How long from the feed to the features in Kafka, at rates far below the limit.

Read afterwards from the topic, so that measuring disturbs nothing: a features record's broker time (LogAppendTime,
whole milliseconds, taken as their middle) minus (a) the receipt that ingestion stamped, (b) the moment at which the
simulator's send call had returned. (b) pairs the i-th market line of a symbol and port in the simulator's log with the
i-th features row of that symbol and port, which is what the product promises. Percentiles are of all messages in the
window.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, TopicPartition

from benchmarks.report import Cell, Report, table
from benchmarks.rig import PARTITIONS, Bench, bench
from benchmarks.trial import WARM_UP_S, Outcome, run, say
from infrastructure.simulator.sent_log import read_sent_log
from pipeline_orchestrator import pandas_block
from pipeline_orchestrator.market.events import FEATURES
from pipeline_orchestrator.transport.avro_codec import AvroCodec

RATES = (1_000, 10_000)
DEPTH_KINDS = {"level_set", "level_delete", "depth_clear"}
Floats = npt.NDArray[np.float64]


def read_features(bench_: Bench) -> list[tuple[str, bool, int, float]]:
    """(symbol, depth, receipt in microseconds, broker time in milliseconds) of every features record, in log order."""
    consumer = Consumer(
        {
            "bootstrap.servers": bench_.settings.kafka.bootstrap_servers,
            "group.id": "benchmark",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(FEATURES, number, 0) for number in range(PARTITIONS)])
    values: list[bytes] = []
    times: list[int] = []
    ended = 0
    while ended < PARTITIONS:
        for message in consumer.consume(10_000, timeout=5):
            if message.error():
                ended += 1
                continue
            values.append(message.value() or b"")
            times.append(message.timestamp()[1])
    consumer.close()
    rows, refused = AvroCodec(FEATURES).decode(values)
    assert not refused
    columns = {name: rows.column(name).to_pylist() for name in ("symbol", "kind", "recv_time_us")}
    return [
        (symbol, kind in DEPTH_KINDS, received, at + 0.5)
        for symbol, kind, received, at in zip(
            columns["symbol"], columns["kind"], columns["recv_time_us"], times, strict=True
        )
    ]


def latencies(rows: list[tuple[str, bool, int, float]], sent_log: Path) -> tuple[Floats, Floats, float]:
    """Milliseconds from receipt and from the socket, after the warm-up; and the share of rows that found their line."""
    sent: dict[tuple[str, bool], list[int]] = defaultdict(list)
    first = 0
    for line in read_sent_log(sent_log):
        if line.text[:2] in {"Q,", "P,", "7,", "8,", "9,"}:
            sent[line.symbol, line.port == "level2"].append(line.wall_ns)
            first = first or line.wall_ns
    begin_ms = first / 1e6 + WARM_UP_S * 1000
    place: dict[tuple[str, bool], int] = defaultdict(int)
    since_receipt, since_sent = [], []
    lost = 0
    for symbol, depth, received_us, at_ms in rows:
        number = place[symbol, depth]
        place[symbol, depth] += 1
        stamps = sent[symbol, depth]
        if number >= len(stamps):
            lost += 1
            continue
        if stamps[number] / 1e6 >= begin_ms:
            since_receipt.append(at_ms - received_us / 1000)
            since_sent.append(at_ms - stamps[number] / 1e6)
    return np.array(since_receipt), np.array(since_sent), 1 - lost / max(1, len(rows))


def main(*, window_s: int = 20, runs: int = 1) -> None:
    """Both contenders at each rate; medians of the runs."""
    pandas_block.install()
    report = Report("latency", "Latency: feed -> features acknowledged in Kafka")
    report.add((__doc__ or "").split("\n\n", 1)[1].strip())
    rows: list[tuple[Cell, ...]] = []
    memory: list[tuple[Cell, ...]] = []
    with bench() as rig, tempfile.TemporaryDirectory() as temporary:
        for rate in RATES:
            for name in ("product", "naive"):
                figures = []
                outcome: Outcome | None = None
                for number in range(runs):
                    log = Path(temporary) / f"{name}-{rate}-{number}.tsv"
                    outcome = run(rig, name, rate, window_s, sent_log=log)
                    receipt, sent, paired = latencies(read_features(rig), log)
                    log.unlink()
                    cuts = [float(np.percentile(each, q)) for each in (receipt, sent) for q in (50, 99)]
                    figures.append([*cuts, paired])
                    say(f"{name} {rate:,}/s: {outcome.verdict.why}; p50 {cuts[2]:.1f} ms, p99 {cuts[3]:.1f} ms")
                middle = np.median(np.array(figures), axis=0)
                assert outcome is not None
                rows.append((rate, name, *(round(float(each), 1) for each in middle[:4]), f"{middle[4]:.1%}"))
                memory += [
                    (rate, f"{name}: {role}", round(outcome.busy[role], 2), outcome.memory[role] // 2**20)
                    for role in sorted(outcome.memory)
                ]
    header = ("msg/s", "pipeline", "receipt p50 ms", "p99 ms", "sent p50 ms", "p99 ms", "rows paired")
    report.add(table(header, rows))
    report.add(table(("msg/s", "process", "share of one core", "resident MiB"), memory))
    report.write()
