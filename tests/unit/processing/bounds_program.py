"""Run by test_bounds.py in a process of its own: kernels as plain Python, where numpy checks every index."""

from __future__ import annotations

import sys
import warnings

from numba import config

from pipeline_orchestrator.processing.process_events import ProcessEvents
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


def main() -> int:
    assert config.DISABLE_JIT  # type: ignore[attr-defined]  # made from the environment
    warnings.simplefilter("error")  # an overflow of an integer is a warning
    logs = [random_log(int(seed), 150) for seed in sys.argv[1:]] + [deep_books()]
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
