"""The live pipeline on the test team's own IQFeed, by order: processing is killed, the books are the server's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT
from infrastructure.services.plan import free_port
from tests.doubles.order_market import TOP
from tests.doubles.pipeline import Pipeline
from tests.doubles.services import RealClickHouse, RealKafka, RealRedis

SYMBOLS = ("@ES#", "@NQ#", "AAPL", "SPY")
CHANGES = 12_000

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(200)]


def test_books_and_queues_are_the_servers_although_processing_was_killed(
    tmp_path: Path, own_kafka: RealKafka, clickhouse_server: RealClickHouse, redis_server: RealRedis, database: str
) -> None:
    ports = [free_port() for _ in range(3)]
    extra = dict(zip(("LEVEL1_PORT", "PORT", "ADMIN_PORT"), map(str, ports), strict=True)) | {"DEPTH": "orders"}
    environment = {f"PIPELINE_IQFEED__{name}": value for name, value in extra.items()}
    environment["PIPELINE_PROCESSING__BOOK_LEVELS"] = str(TOP)
    pipeline = Pipeline(
        tmp_path, own_kafka, clickhouse_server, redis_server, symbols=SYMBOLS, database=database, extra=environment
    )
    words = [sys.executable, "-m", "tests.doubles.feed_program", str(CHANGES), "3", *map(str, ports), *SYMBOLS]
    feed = subprocess.Popen(words, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
    depth = "port = 'level2' AND symbol IS NOT NULL AND kind NOT IN ('subscribed', 'unsubscribed', 'gap')"
    try:
        pipeline.start()
        pipeline.wait("some depth stored", lambda: pipeline.stored(depth) > CHANGES // 10)
        os.kill(pipeline.pid_of("processing/0"), signal.SIGKILL)
        assert feed.stdout is not None
        told = json.loads(feed.stdout.readline())
        sent = sum(told["sent"].values())
        pipeline.wait("all depth stored", lambda: pipeline.stored(depth) >= sent)
        newest = (
            "SELECT bid_prices, bid_sizes, ask_prices, ask_sizes FROM {db}.books WHERE symbol = '%s' "
            "ORDER BY src_epoch DESC, src_seq DESC, src_idx DESC, out DESC LIMIT 1"
        )

        def shown(symbol: str) -> list[list[int]]:
            rows = pipeline.sql(newest % symbol)
            return [json.loads(column) for column in rows[0]] if rows else []

        for symbol, (bids, asks) in told["books"].items():
            truth = [[level[at] for level in side] for side in (bids, asks) for at in (0, 1)]
            pipeline.wait(f"the book of {symbol}", lambda s=symbol, t=truth: shown(s) == t, 30)  # type: ignore[misc]
        pipeline.stop()
    finally:
        pipeline.cli("stop", "--force")
        feed.terminate()
        feed.communicate()
    assert pipeline.sql("SELECT count() FROM {db}.events WHERE " + depth) == [[str(sent)]]
    assert pipeline.sql("SELECT count() - uniqExact(instance, epoch, seq, idx) FROM {db}.events") == [["0"]]
    assert pipeline.sql("SELECT count() FROM {db}.dlq") == [["0"]]
    asked = [word for order in told["queue"] for word in ("--queue", order)]
    spool = str(pipeline.state / "spool")
    done = subprocess.run(
        [sys.executable, "manage_pipeline.py", "replay", spool, *asked, "-o", str(tmp_path / "out"), "--json"],
        cwd=PROJECT_ROOT,
        env=pipeline.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    places = {f"{one['symbol']}:{one['order_id']}": one for one in json.loads(done.stdout)["queue"]}
    assert {name: [one["orders_ahead"], one["size_ahead"]] for name, one in places.items()} == told["queue"]
