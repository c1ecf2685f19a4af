"""The judges of a feed on a clock of their own: first lines, garbage, the feed's clock, the queue in front of us."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.sections import IQFeedConfig
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion import admin_link
from pipeline_orchestrator.ingestion.admin_link import QUEUED_KB, AdminLink
from pipeline_orchestrator.ingestion.feed_clock import FeedClock
from pipeline_orchestrator.ingestion.feed_signs import FeedSigns
from pipeline_orchestrator.ingestion.first_lines import RECONNECT_PAUSE_SECONDS, FirstLines
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.protocol_alarm import ProtocolAlarm
from pipeline_orchestrator.market.events import PORT
from tests.doubles.context import FakeContext

S = 1_000_000_000


class Watched:
    """A connection whose symbols are watched at seq 0; lines of symbols come by name."""

    def __init__(self, *symbols: str, seconds: float = 10.0) -> None:
        self.first = FirstLines("level2", seconds)
        self.symbols = symbols
        self.seq = 0
        self.parser = LineParser()

    def line(self, symbol: str, at: int, market_us: int | None = 0, seq: int | None = None) -> int:
        self.seq += 1
        raw = f"8,{symbol},B,1.5,1,1,2,10:00:00.5,2024-01-02,\r\n".encode()
        frame = Frame(0, PORT["level2"], 7, self.seq if seq is None else seq, 1, at // 1000, raw)
        rows, _ = self.parser.parse([frame])
        return self.first.observe(rows, 7, dict.fromkeys(self.symbols, 0), market_us)

    def due(self, at: int) -> list[str]:
        return sorted(self.first.due(self.symbols, at, at))


def test_a_symbol_without_a_line_is_watched_again_once_and_missing_after_as_long_again() -> None:
    it = Watched("A", "B")
    assert it.due(0) == []
    for second in range(1, 31):
        assert it.line("A", second * S) == 1
        assert it.due(second * S) == (["B"] if second == 10 else [])
        assert it.first.missing == ({"B"} if second >= 20 else set())
    it.line("B", 31 * S)
    assert not it.first.missing and it.first.sent_again == 1


def test_nobody_is_judged_while_nothing_fresh_is_parsed() -> None:
    it = Watched("A", "B")
    it.due(0)
    assert it.due(60 * S) == []
    it.line("A", 50 * S)
    assert it.due(60 * S) == []
    it.line("A", 60 * S)
    assert it.due(60 * S) == ["B"]


def test_a_line_from_before_the_watch_answers_nothing() -> None:
    it = Watched("A", "B")
    it.due(0)
    it.line("B", 1 * S, seq=0)
    it.line("A", 10 * S)
    assert it.due(10 * S) == ["B"]


def test_a_connection_is_made_anew_once_for_a_symbol_and_not_too_often() -> None:
    it = Watched("A", "B", "C")
    it.due(0)
    it.first.missing = {"B"}
    assert it.first.may_reconnect(1 * S)
    assert not it.first.may_reconnect(int(RECONNECT_PAUSE_SECONDS + 2) * S)
    it.first.missing.add("C")
    assert it.first.may_reconnect(int(RECONNECT_PAUSE_SECONDS + 2) * S)
    it.first.begin()
    assert it.first.missing == {"B", "C"}


def test_ages_are_told_in_market_time_oldest_first() -> None:
    it = Watched("A", "B")
    it.due(0)
    it.line("A", 1 * S, market_us=5_000_000)
    it.line("B", 1 * S, market_us=9_000_000)
    assert it.first.ages(5, 10_000_000) == [("A", 5.0), ("B", 1.0)]
    assert it.first.ages(1, 10_000_000) == [("A", 5.0)]
    assert it.first.ages(5, None) == []


def test_more_than_half_bad_for_ten_seconds_is_an_alarm_and_less_is_none() -> None:
    alarm = ProtocolAlarm("level1")
    for second in range(10):
        alarm.add(49, 51)
        alarm.tick(second * S)
        assert not alarm.cause
    alarm.add(0, 1)
    alarm.sample = b"\xff\x00HTTP"
    alarm.tick(10 * S)
    assert alarm.cause.endswith(r"not of this protocol, the newest: \xff\x00HTTP")
    for second in range(11, 40):
        alarm.tick(second * S)  # nothing comes: nothing is known
    assert alarm.cause
    for second in range(40, 46):
        alarm.add(100, 0)
        alarm.tick(second * S)
    assert not alarm.cause


def test_one_good_second_starts_the_ten_anew() -> None:
    alarm = ProtocolAlarm("level1")
    for second in range(18):
        alarm.add(1, 0 if second == 9 else 2)
        alarm.tick(second * S)
    assert not alarm.cause


@pytest.mark.parametrize(
    ("skew_s", "pace", "live", "alarm"),
    [(0.1, 1.0, True, False), (3.0, 1.0, True, True), (-3600.0, 1.0, True, True), (86_400.0, 1.0, False, False),
     (3.0, 10.0, False, False)],
)  # fmt: skip
def test_a_clock_of_the_present_alarms_from_two_seconds_on_and_a_replay_never(
    skew_s: float, pace: float, live: bool, alarm: bool
) -> None:
    clock = FeedClock()
    for second in range(8):
        wall = 1_700_000_000_000_000 + second * 1_000_000
        clock.heard(int(1_700_000_000_000_000 + pace * second * 1_000_000 - skew_s * 1e6), wall, second * S)
    assert (clock.live, clock.alarm) == (live, alarm)
    if pace == 1.0:
        assert clock.skew_ms == pytest.approx(skew_s * 1000)


def test_one_late_timestamp_is_no_skew() -> None:
    clock = FeedClock()
    for second in range(6):
        late = 5_000_000 if second == 4 else 0
        clock.heard(second * 1_000_000, second * 1_000_000 + late, second * S)
    assert clock.skew_ms == 0 and not clock.alarm


def test_a_clock_is_silent_only_after_it_ran() -> None:
    clock = FeedClock()
    clock.heard(0, 0, 0)
    assert clock.silent_seconds(60 * S) is None
    for second in range(1, 6):
        clock.heard(second * 1_000_000, second * 1_000_000, second * S)
    assert clock.silent_seconds(12 * S) == 7.0


def stats(kind: int, number: int, queued: float, name: str = "me") -> str:
    return f"S,CLIENTSTATS,{kind},{number},{name},20240102 100000,2,0,1.00,2.00,{queued:.2f},\n"


def test_a_queue_that_lasts_is_a_slow_reader_and_only_ours_counts() -> None:
    now = [0]
    link = AdminLink(IQFeedConfig(), "me", lambda: now[0])
    for second in range(3):
        now[0] = second * S
        assert not link.too_slow("level1")
        link.take(stats(1, 4, QUEUED_KB + 1))
        link.take(stats(1, 9, 0.0, "somebody else"))
        link.take(stats(1, 2, 0.0))  # an older connection of ours
        link.take(stats(2, 1, 0.0))
    assert link.too_slow("level1") and not link.too_slow("level2")
    assert link.queued_kb == {"level1": QUEUED_KB + 1, "level2": 0.0}
    link.take(stats(1, 4, QUEUED_KB))
    assert not link.too_slow("level1")


def test_statistics_that_cannot_be_read_tell_nothing() -> None:
    link = AdminLink(IQFeedConfig(), "me", lambda: 0)
    for line in ("", "S,STATS", "S,CLIENTSTATS,1", stats(1, 1, 1).replace("1.00,2.00,1.00", "a,b,c"), "\xff,\x00"):
        link.take(line)
    assert link.upstream is None and not link.queued_kb
    link.take("S,STATS,,,0,0,1,0,0,0,,,Not Connected,6.0.0.4,me,0,0,,0.02,0.02,,")
    assert link.upstream is False


async def test_an_admin_port_that_falls_silent_is_left_and_what_it_told_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = asyncio.Event()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(stats(0, 1, 2000.0).encode() + b"\r\n")
        await reader.read()  # its end is ours
        left.set()
        writer.close()

    monkeypatch.setattr(admin_link, "SILENCE_SECONDS", 0.05)
    server = await asyncio.start_server(served, "127.0.0.1", 0)
    link = AdminLink(IQFeedConfig(admin_port=server.sockets[0].getsockname()[1]), "me", lambda: 1)
    holding = asyncio.create_task(link.hold())
    async with asyncio.timeout(20), server:
        await left.wait()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    assert (link.upstream, link.queued_kb) == (None, {})


@pytest.mark.parametrize("text", ["unable to perform operation on <TCPTransport>; the handler is closed", "ours"])
async def test_an_admin_port_that_resets_at_once_is_tried_again(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    class Broken:
        closed = False

        def write(self, _: bytes) -> None:
            raise RuntimeError(text)

        def close(self) -> None:
            self.closed = True

    writer, waits = Broken(), asyncio.Event()

    async def connected(*_: object) -> tuple[asyncio.StreamReader, Broken]:
        return asyncio.StreamReader(), writer

    async def waiting(_: float) -> None:
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "open_connection", connected)
    monkeypatch.setattr(asyncio, "sleep", waiting)
    holding = asyncio.create_task(AdminLink(IQFeedConfig(), "me", lambda: 1).hold())
    await asyncio.wait({holding, asyncio.create_task(waits.wait())}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert writer.closed and waits.is_set() is (text != "ours")  # a fault of ours ends it
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


def test_a_clock_that_stands_still_is_asked_once_per_silence_and_told_all_the_while(tmp_path: Path) -> None:
    clock, asked, told = FeedClock(), list[int](), 0
    for second in range(5):
        clock.heard(second * 1_000_000, second * 1_000_000, second * S)
    now = 0
    session = SimpleNamespace(ask_clock=lambda: asked.append(now))
    link: Any = SimpleNamespace(name="level1", clock=clock, session=session)
    unused: Any = None
    signs = FeedSigns(IQFeedConfig(silence_seconds=20), [link], unused, unused)
    for now in range(5, 70):
        signs.troubles = []
        signs._judge_clock(FakeContext(tmp_path, "ingestion/0"), link, now * S)
        told += len(signs.troubles)
    assert asked == [24, 44, 64]
    assert told == 70 - 24
