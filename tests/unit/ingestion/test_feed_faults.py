"""Ingestion while the simulator misbehaves: what is kept, what is said, and how it comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from infrastructure.simulator.fault_kinds import parse
from infrastructure.simulator.feed import Behaviour
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.sent_log import read_sent_log
from pipeline_orchestrator.flow.spool_reader import iter_frames
from pipeline_orchestrator.ingestion import admin_link, feed_clock, protocol_alarm, reader
from pipeline_orchestrator.ingestion.line_scan import MAX_LINE
from pipeline_orchestrator.market.events import PORT
from tests.unit.ingestion.harness import Running
from tests.unit.simulator.conversation import Server, serving

SYMBOLS = ("AAPL", "MSFT")


class Fed:
    """A simulator and one ingestion instance that reads it."""

    def __init__(self, server: Server, running: Running, directory: Path) -> None:
        self.server, self.it, self.directory = server, running, directory

    def fault(self, text: str) -> None:
        self.server.simulator.faults.begin(parse(text))

    async def until(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)

    async def live(self, rows: int = 20) -> None:
        """So many more quotes or trades have come."""
        have = len(self.it.sink.rows)
        await self.it.sink.until(lambda: len(self.it.sink.rows) >= have + rows)

    def gauge(self, name: str, connection: str = "level1") -> Any:
        return self.it.ctx.gauges.get(f"{name}|connection={connection}")

    def count(self, name: str, connection: str = "level1") -> int:
        return self.it.ctx.counts[f"{name}|connection={connection}"]

    def spooled(self, port: str = "level1") -> list[bytes]:
        frames = [f for f in iter_frames(self.directory / "state" / "spool" / "0") if f.port == PORT[port]]
        return [line.removesuffix(b"\r") for f in frames for line in f.raw.split(b"\n")[: f.count]]

    def sent(self, port: str = "level1") -> list[bytes]:
        log = read_sent_log(self.directory / "sent.tsv")
        return [line.text.encode("latin-1") for line in log if line.port == port]


@asynccontextmanager
async def fed(
    tmp_path: Path, rate: float = 500, behaviour: Behaviour | None = None, **iqfeed: Any
) -> AsyncIterator[Fed]:
    market = GeneratedMarket(SYMBOLS, rate=rate, seed=3)
    async with serving(market, behaviour=behaviour, sent_log=tmp_path / "sent.tsv") as server:
        at = {name: port for name, (_, port) in server.simulator.addresses.items()}
        ports = {"level1_port": at["level1"], "port": at["level2"], "admin_port": at["admin"]}
        async with Running(None, tmp_path / "state", SYMBOLS, **{**ports, **iqfeed}) as running:
            watched = {"subscribed"} if rate else {"other"}
            await running.sink.until(lambda: watched <= {row["kind"] for row in running.sink.rows})
            yield Fed(server, running, tmp_path)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures and steps ten times a second."""
    monkeypatch.setattr(reader, "TELL_SECONDS", 0.1)


@pytest.mark.parametrize(("how", "cause"), [("fin", "eof"), ("rst", "reset")])
async def test_a_dropped_connection_is_a_gap_and_every_symbol_is_watched_anew(
    tmp_path: Path, how: str, cause: str
) -> None:
    async with fed(tmp_path, level2=False) as feed:
        await feed.live()
        feed.fault(f"drop port=level1 how={how}")
        sink = feed.it.sink
        await sink.until(lambda: [f for f in sink.facts("gap") if f["phase"] == "closed"])
        again = [row["symbol"] for row in sink.of("subscribed")][len(SYMBOLS) :]
    assert sink.facts("lost")[0]["cause"] == cause
    assert sorted(again) == sorted(SYMBOLS)
    assert sink.facts("gap")[0]["cause"] == "connection_lost"


async def test_a_refused_port_is_down_with_the_reason_and_the_next_attempt(tmp_path: Path) -> None:
    async with fed(tmp_path, level2=False, reconnect_max_seconds=0.4) as feed:
        feed.fault("refuse port=level1 duration=1.2")
        await feed.until(lambda: "connection refused" in (feed.it.ctx.cause or ""))
        await feed.until(lambda: feed.gauge("feed_next_attempt"))
        assert feed.gauge("feed_next_attempt").startswith("level1: next attempt ")
        assert feed.gauge("feed_connected") == 0
        await feed.until(lambda: feed.it.ctx.cause is None)
        await feed.live()
        await feed.until(lambda: feed.gauge("feed_connected") == 1)
        assert feed.gauge("feed_next_attempt") is None


async def test_a_half_open_link_is_noticed_on_a_market_without_a_tick(tmp_path: Path) -> None:
    async with fed(tmp_path, rate=0, level2=False, silence_seconds=1.5) as feed:
        await feed.until(lambda: feed.gauge("feed_connected") == 1)
        feed.fault("half_open port=level1 duration=0")
        sink = feed.it.sink
        await sink.until(lambda: sink.facts("lost"))
        assert sink.facts("lost")[0]["cause"] == "silence"
        await sink.until(lambda: len(sink.of("subscribed")) == 2 * len(SYMBOLS))


async def test_a_link_that_drips_bytes_is_as_dead_as_a_silent_one(tmp_path: Path) -> None:
    async with fed(tmp_path, level2=False, silence_seconds=1.0) as feed:
        await feed.live()
        feed.fault("slow port=level1 bytes_per_second=2 duration=30")
        sink = feed.it.sink
        await sink.until(lambda: sink.facts("lost"))
    assert sink.facts("lost")[0]["cause"] == "silence"


async def test_an_endless_line_is_counted_once_and_its_first_bytes_are_kept(tmp_path: Path) -> None:
    async with fed(tmp_path, level2=False) as feed:
        await feed.live()
        feed.fault("endless port=level1 mib=20")
        await feed.it.sink.until(lambda: feed.it.sink.dead)
        await feed.live()
        await feed.until(lambda: feed.count("feed_oversized_lines_total"))
    (letter,) = feed.it.sink.dead
    assert (letter.reason, letter.raw) == ("oversize", b"0123456789ABCDEF" * 16)
    assert feed.count("feed_oversized_lines_total") == 1
    assert not feed.count("feed_reconnects_total")
    (kept,) = [line for line in feed.spooled() if line.startswith(b"0123")]
    assert len(kept) == MAX_LINE


@pytest.mark.parametrize("kind", ["random", "utf8", "http", "telnet", "nul"])
async def test_garbage_is_kept_raw_with_its_position_and_the_feed_stays_up(tmp_path: Path, kind: str) -> None:
    async with fed(tmp_path) as feed:
        await feed.live()
        feed.fault(f"garbage port=streams kind={kind} lines=7")
        await feed.it.sink.until(lambda: len(feed.it.sink.dead) >= 14)
        await feed.live()
    sink = feed.it.sink
    for port in ("level1", "level2"):
        dead = [letter for letter in sink.dead if letter.headers["port"] == port]
        spooled = feed.spooled(port)
        assert spooled == feed.sent(port)[: len(spooled)]
        assert len(dead) == 7
        assert Counter(letter.raw for letter in dead) - Counter(spooled) == Counter()
        events = [row for row in sink.rows if row["port"] == port and not (row["raw"] or b"").startswith(b"{")]
        assert len({(row["epoch"], row["seq"]) for row in events}) + len(dead) == len(spooled)
        assert not {(letter.event_id.epoch, letter.event_id.seq) for letter in dead if letter.event_id} & {
            (row["epoch"], row["seq"]) for row in events
        }
        assert not feed.count("feed_reconnects_total", port)


async def test_a_hundred_thousand_fields_are_one_bad_line(tmp_path: Path) -> None:
    async with fed(tmp_path, level2=False) as feed:
        feed.fault("garbage port=level1 kind=fields lines=2")
        await feed.it.sink.until(lambda: len(feed.it.sink.dead) == 2)
        await feed.live()
    assert {letter.reason for letter in feed.it.sink.dead} == {"oversize"}


async def test_a_port_that_mostly_sends_garbage_is_a_protocol_alarm_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol_alarm, "ALARM_SECONDS", 0.5)
    async with fed(tmp_path, rate=20, level2=False) as feed:
        feed.fault("garbage port=level1 kind=http lines=50 every=0.05 duration=60")
        await feed.until(lambda: "not of this protocol" in (feed.it.ctx.cause or ""))
        assert feed.gauge("feed_bad_line_share") > 0.5
        assert not feed.count("feed_reconnects_total")
        feed.fault("end")
        await feed.until(lambda: feed.it.ctx.cause is None)


async def test_sliced_lines_are_the_lines_that_were_sent_byte_for_byte(tmp_path: Path) -> None:
    async with fed(tmp_path, rate=40) as feed:
        feed.fault("slice port=streams least=1 most=7 duration=0")
        await feed.live(60)
    for port in ("level1", "level2"):
        spooled = feed.spooled(port)
        assert len(spooled) > 20
        assert spooled == feed.sent(port)[: len(spooled)]
    assert not feed.it.sink.dead


async def test_a_connection_cut_in_a_line_loses_that_line_alone_and_counts_it(tmp_path: Path) -> None:
    async with fed(tmp_path, level2=False) as feed:
        await feed.live()
        feed.fault("drop port=level1 how=mid")
        await feed.until(lambda: feed.count("feed_torn_tails_total") == 1)
        await feed.live()
        assert feed.count("feed_torn_bytes_total") > 0
    spooled = feed.spooled()
    assert spooled == feed.sent()[: len(spooled)]
    assert not feed.it.sink.dead


@pytest.mark.parametrize("fault", ["duplicate share=0.3 lag=20 duration=0", "reorder window=1000 duration=0"])
async def test_duplicates_and_reordered_lines_are_kept_as_they_were_sent(tmp_path: Path, fault: str) -> None:
    async with fed(tmp_path, rate=2000, level2=False) as feed:
        feed.fault(fault)
        await feed.live(1500)
    spooled = feed.spooled()
    assert spooled == feed.sent()[: len(spooled)]
    volumes = [row["total_volume"] for row in feed.it.sink.of("trade", symbol="AAPL")]
    assert volumes != sorted(set(volumes))
    assert not feed.it.sink.dead


async def test_a_lost_upstream_is_said_and_is_a_gap_until_it_is_back(tmp_path: Path) -> None:
    async with fed(tmp_path) as feed:
        await feed.live()
        feed.fault("upstream duration=1.2")
        await feed.until(lambda: "no link to its servers" in (feed.it.ctx.cause or ""))
        await feed.until(lambda: feed.it.ctx.gauges.get("feed_upstream_connected") == 0)
        await feed.until(lambda: feed.it.ctx.cause is None)
        sink = feed.it.sink
        await sink.until(lambda: len([f for f in sink.facts("gap") if f["phase"] == "closed"]) == 2)
    assert {f["cause"] for f in sink.facts("gap") if f["phase"] == "begin"} == {"feed_disconnected"}


async def test_a_wrong_clock_is_shown_and_alarms_until_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_clock, "_KEPT", 2)
    async with fed(tmp_path, rate=0, level2=False) as feed:
        await feed.until(lambda: abs(feed.gauge("clock_skew_ms") or 9999) < 1500)
        feed.fault("clock port=level1 seconds=-3600 duration=3.2")
        await feed.until(lambda: feed.gauge("feed_clock_alarm"))
        assert "+360" in feed.gauge("feed_clock_alarm")
        assert 3_590_000 < feed.gauge("clock_skew_ms") < 3_610_000
        assert feed.it.ctx.cause is None
        await feed.until(lambda: feed.gauge("feed_clock_alarm") is None)
    said = [fields["alarm"] for _, event, fields in feed.it.ctx.events if event == "clock_skew"]
    assert said == [True, False]


async def test_a_reader_that_is_too_slow_is_told_by_the_queue_in_front_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_link, "QUEUED_KB", 20.0)
    monkeypatch.setattr(admin_link, "QUEUED_TIMES", 2)
    async with fed(tmp_path, rate=3000, level2=False) as feed:
        feed.fault("slow port=level1 bytes_per_second=2000 duration=0")
        await feed.until(lambda: "reads too slowly" in (feed.it.ctx.cause or ""))
        assert feed.gauge("feed_queued_kbytes") > 20
        feed.fault("end")
        await feed.until(lambda: feed.it.ctx.cause is None)


async def test_a_symbol_that_never_answers_is_watched_again_then_the_connection_is_made_anew_then_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_clock, "_KEPT", 2)
    market = GeneratedMarket(SYMBOLS, rate=100, seed=3)
    async with serving(market, sent_log=tmp_path / "sent.tsv") as server:
        server.simulator.faults.begin(parse("silence port=level1 symbol=MSFT duration=600"))
        at = {name: port for name, (_, port) in server.simulator.addresses.items()}
        ports = {"level1_port": at["level1"], "port": at["level2"], "admin_port": at["admin"]}
        options: dict[str, Any] = {**ports, "level2": False, "first_line_seconds": 0.3}
        async with Running(None, tmp_path / "state", SYMBOLS, **options) as it:
            feed = Fed(server, it, tmp_path)
            await feed.until(lambda: it.sink.facts("lost"))
            assert it.sink.facts("lost")[0]["cause"] == "silent_symbols"
            assert feed.count("feed_watches_sent_again_total") == 1
            await feed.until(lambda: feed.gauge("feed_connected") == 1 and "never answered" in (it.ctx.cause or ""))
            assert (it.ctx.cause or "").endswith("1 of 2 symbols never answered their watch: MSFT")
            await feed.live(50)
            assert len(it.sink.facts("lost")) == 1
            assert "AAPL" in feed.gauge("feed_oldest_symbols") and "MSFT" not in feed.gauge("feed_oldest_symbols")
            feed.fault("end")
            await feed.until(lambda: it.ctx.cause is None)
