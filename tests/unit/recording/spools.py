"""Spools as ingestion writes them, through its own journal: a second of market per step, in segments and epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_format import Frame, iter_frames
from pipeline_orchestrator.ingestion.journal import Journal
from pipeline_orchestrator.ingestion.line_scan import control_table, scan
from tests.doubles.clock import FakeClock

NOON_US = 1_622_822_400_000_000  # 2021-06-04 16:00 UTC, noon in New York
FIELDS = (
    "Symbol,Most Recent Trade,Most Recent Trade Size,Most Recent Trade Date,Most Recent Trade Time,Message Contents"
)
LINE_ENDS = {"level1": b"\n", "level2": b"\r\n"}


class Feed:
    """One life of an ingestion instance: `with Feed(state, 0) as feed: feed.connect(); feed.second(3)`."""

    def __init__(self, state: Path, instance: int = 0, *, at: int = 0, segment_bytes: int = 2500) -> None:
        self.clock = FakeClock((NOON_US + at * 1_000_000) * 1000)
        directory = state / "spool" / str(instance)
        self.spool = Spool(directory, instance, segment_bytes=segment_bytes, clock=self.clock)
        self.journal = Journal(self.spool)
        self.symbol = ("MSFT", "AAPL")[instance]

    def __enter__(self) -> Feed:
        self.journal.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.journal.close()

    def lines(self, port: str, *texts: str) -> None:
        raw = b"".join(text.encode() + LINE_ENDS[port] for text in texts)
        controls = control_table()
        found = scan(np.frombuffer(bytearray(raw), dtype=np.uint8), 0, len(raw), controls)
        listed = [(raw[start:end], line) for start, end, line in controls[: found.controls].tolist()]
        self.journal.lines(port, memoryview(raw), found, listed, raw[found.last_start : found.last_end])

    def connect(self) -> None:
        for port in ("level1", "level2"):
            self.journal.opened(port, "127.0.0.1:1", "start")
        self.lines("level1", "S,CURRENT PROTOCOL,6.2,", f"S,CURRENT UPDATE FIELDNAMES,{FIELDS}")
        self.lines("level2", "S,CURRENT PROTOCOL,6.2,")
        for port in ("level1", "level2"):
            self.journal.watch(port, self.symbol, "start")
        self.lines("level2", *(f"7,{self.symbol},B,{250 - i}.00,5,1,4,12:00:00.{i:06},2021-06-04," for i in range(5)))
        self.lines("level2", f"7,{self.symbol},A,251.5,5,1,4,12:00:00.1,2021-06-04,")

    def second(self, step: int) -> None:
        """Lines of second `step` after noon on both ports, received in that second."""
        wall = (NOON_US + step * 1_000_000) * 1000
        self.clock.advance((wall - self.clock.wall_ns()) / 1e9)
        at = f"12:{step // 60:02}:{step % 60:02}"
        self.lines(
            "level1",
            f"T,20210604 {at}",
            f"Q,{self.symbol},250.{step % 100:02},10,06/04/2021,{at}.2,C,",
            "no line at all",
        )
        self.clock.advance(0.5)
        self.lines("level2", f"T,20210604 {at}", f"8,{self.symbol},B,250.{step % 100:02},7,1,4,{at}.6,2021-06-04,")


def life(state: Path, instance: int, begin: int, seconds: int, *, segment_bytes: int = 2500) -> None:
    """One epoch of so many seconds."""
    with Feed(state, instance, at=begin, segment_bytes=segment_bytes) as feed:
        feed.connect()
        for step in range(begin, begin + seconds):
            feed.second(step)


def frames_of(state: Path, *instances: int) -> list[Frame]:
    """What the spools hold, one instance after another."""
    return [frame for instance in instances for frame in iter_frames(state / "spool" / str(instance))]
