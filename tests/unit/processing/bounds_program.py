"""Run by test_bounds.py in a process of its own: kernels as plain Python, where numpy checks every index."""

from __future__ import annotations

import sys
import warnings

from numba import config

from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.queue_position import queue_position
from pipeline_orchestrator.processing.snapshot_codec import decode_header, decode_sections, encode, pack, unpack
from tests.unit.processing.build import Feed
from tests.unit.processing.streams import NIGHTS, Log, expected, random_log, run, settings_for


def deep_books() -> Log:
    """More levels, symbols and bars than any first allocation holds."""
    feed = Feed()
    for number in range(40):
        name = f"S{number:02}"
        for level in range(60):
            feed.level(name, "bid", 1000 - level * (1 if number % 2 else -1), 1 + level)
        feed.now += 100_000
        for step in range(4):
            feed.now += 1_000_000 * (step + 1)
            feed.trade(name, 1000, 1)
    feed.clock(time=feed.now + 120_000_000)
    return Log(1, {0: list(enumerate(feed.rows))}, [0] * len(feed.rows))


def deep_queues() -> Log:
    """More orders than any first table holds, moved, deleted and added again; hash keys of all sizes."""
    feed = Feed()
    for number in range(400):
        feed.order("add", f"S{number % 3}", (number * 0x9E3779B97F4A7C15) % (1 << 64), "bid", 1000 + number % 7, 5)
    for number in range(0, 400, 2):
        feed.order("change", f"S{number % 3}", (number * 0x9E3779B97F4A7C15) % (1 << 64), "ask", 2000 + number, 6)
    for number in range(0, 400, 3):
        feed.order("delete", "S0", (number * 0x9E3779B97F4A7C15) % (1 << 64))
    for number in range(200):
        feed.order("add", "S1", number + (1 << 63), "bid", 900, 1 << 40, priority=(1 << 64) - 1 - number)
    return Log(1, {0: list(enumerate(feed.rows))}, [0] * len(feed.rows))


def main() -> int:
    assert config.DISABLE_JIT  # type: ignore[attr-defined]  # made from the environment
    warnings.simplefilter("error")  # an overflow of an integer is a warning
    logs = [random_log(int(seed), 150) for seed in sys.argv[1:]] + [deep_books(), deep_queues()]
    for at, log in enumerate(logs):
        settings = settings_for(("change", "5s", "off")[at % 3])
        processor = ProcessEvents(settings, range(log.partitions), NIGHTS)
        made = run(log, settings, [60, 61], processor)
        assert {name: len(rows) for name, rows in made.items()} == {
            name: len(rows) for name, rows in expected(log, settings).items()
        }
        copy = ProcessEvents(settings, range(log.partitions), NIGHTS)
        for partition in range(log.partitions):
            raw = b"".join(encode(*pack(processor, partition)))
            unpack(copy, partition, decode_header(raw), decode_sections(raw, decode_header(raw)))
        assert copy.digest() == processor.digest()
        for number in range(200 if log.partitions == 1 else 0):
            ahead = queue_position(copy, "S1", number + (1 << 63))
            assert ahead == queue_position(processor, "S1", number + (1 << 63))
            assert ahead is None or ahead.orders_ahead == 199 - number
    return 0


if __name__ == "__main__":
    sys.exit(main())
