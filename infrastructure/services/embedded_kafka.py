"""Embedded Kafka: librdkafka's mock broker in a process of its own, for the demo, trials and tests.

As a component: `build({"host", "port", "partitions"})`. By hand:
`python -m infrastructure.services.embedded_kafka --port P`. It listens on the port that it is given, so that its
address is known before it runs. Everything is in memory and gone with the process; each start is another log (new
topic ids). Limits: see `embedded_kafka_mock`; `dropped_records` in its status says how far they were reached.

Exit codes of the program: 0 after SIGTERM/SIGINT, 1 when it cannot start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infrastructure.services.embedded_kafka_mock import LIMIT_BATCHES, LIMIT_BYTES, MockKafka, MockKafkaError
from infrastructure.services.embedded_kafka_watch import KafkaWatch, KafkaWatchError, Watermarks

log = logging.getLogger("embedded_kafka")

BEAT_S = 1.0
LOOPBACK = frozenset({"127.0.0.1", "localhost"})
TOPICS_FILE = Path(__file__).resolve().parents[1] / "kafka" / "topics.json"


@dataclass(frozen=True, slots=True)
class Options:
    """Where it listens (port 0 = any) and how many partitions each topic has; `topics` default: the declared ones."""

    port: int
    host: str = "127.0.0.1"
    partitions: int = 16
    topics: tuple[str, ...] = ()


class EmbeddedKafka:
    """The component. Duck-typed: `run(ctx)` with ready, progress, gauge, event, degraded, recovered and drain."""

    def __init__(self, options: Options) -> None:
        self.options = options

    async def run(self, ctx: Any) -> None:  # Any: infrastructure does not import the component contract
        """Serve until drain. Raises MockKafkaError (port taken, library missing)."""
        broker = start_embedded_kafka(self.options)
        watch = KafkaWatch(broker.address, _topics(self.options), self.options.partitions)
        ctx.gauge("storage", "in memory, lost with this process")
        ctx.gauge("limit_bytes_per_partition", LIMIT_BYTES)
        ctx.gauge("limit_batches_per_partition", LIMIT_BATCHES)
        ctx.gauge("record_timestamps", "not real")
        silent = warned = False
        try:
            ctx.ready()
            while not ctx.drain.is_set():
                began = time.perf_counter()
                try:
                    marks = await asyncio.to_thread(watch.look)
                except KafkaWatchError as error:
                    silent = True
                    ctx.degraded(f"the mock broker does not answer: {error}")
                else:
                    if silent:
                        silent = False
                        ctx.recovered()
                    ctx.gauge("round_trip_ms", round((time.perf_counter() - began) * 1e3, 3))
                    ctx.gauge("held_records", marks.held)
                    ctx.gauge("dropped_records", marks.dropped)
                    if marks.dropped and not warned:
                        warned = True
                        _warn(ctx, marks)
                    ctx.progress(0)
                try:
                    await asyncio.wait_for(ctx.drain.wait(), BEAT_S)
                except TimeoutError:
                    continue
        finally:
            await asyncio.to_thread(watch.close)
            await asyncio.to_thread(broker.close)


def _warn(ctx: Any, marks: Watermarks) -> None:
    ctx.event(
        "WARNING",
        "embedded_kafka_drops_oldest",
        dropped=marks.dropped,
        limit_bytes_per_partition=LIMIT_BYTES,
        limit_batches_per_partition=LIMIT_BATCHES,
        note="a reader that is further behind than this misses records; use a real broker where that matters",
    )


def build(config: Mapping[str, Any]) -> EmbeddedKafka:  # Any: parsed JSON
    """The component for a config {host, port, partitions} (optional: topics, default those of topics.json)."""
    return EmbeddedKafka(
        Options(
            port=int(config["port"]),
            host=str(config.get("host", "127.0.0.1")),
            partitions=int(config.get("partitions", 16)),
            topics=tuple(config.get("topics", ())),
        )
    )


def start_embedded_kafka(options: Options) -> MockKafka:
    """Start the broker in this process; it answers when this returns. Raises MockKafkaError."""
    if options.host not in LOOPBACK:
        raise MockKafkaError(f"embedded Kafka listens on loopback only, not on {options.host}")
    return MockKafka(options.host, options.port, _topics(options), options.partitions)


def declared_topics() -> tuple[str, ...]:
    """Names of the topics in infrastructure/kafka/topics.json."""
    document = json.loads(TOPICS_FILE.read_text(encoding="utf-8"))
    return tuple(topic["name"] for topic in document["topics"])


def _topics(options: Options) -> Sequence[str]:
    return options.topics or declared_topics()


def main(argv: list[str] | None = None) -> int:
    """The program: arguments in, exit code out."""
    parser = argparse.ArgumentParser(
        prog="embedded_kafka", description="in-memory Kafka on loopback (librdkafka's mock)"
    )
    parser.add_argument("--port", type=int, required=True, help="0 = any free one; it is printed")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--partitions", type=int, default=16)
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # blocked before librdkafka makes its threads, which inherit it; then sigwait alone takes them
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        broker = start_embedded_kafka(Options(given.port, given.host, given.partitions))
    except MockKafkaError as error:
        log.error("cannot start embedded Kafka: %s", error)
        return 1
    log.info("ready on %s, in memory", broker.address)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    broker.close()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
