"""Total Volume tells of trades that never came, and of nothing else: every shape that has another reason is silent."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline_orchestrator.flow.spool_facts import Fact, encode_fact
from pipeline_orchestrator.flow.spool_format import FACT_PORT, Frame
from pipeline_orchestrator.flow.spool_scan import table_of
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.layout import SELECTED, SYMBOL
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.volume_watch import AFTER_CORRECTION_US, SETTLE_US, Place, VolumeWatch
from pipeline_orchestrator.market.events import PORT
from tests.doubles.fake_feed import FakeFeed
from tests.unit.ingestion.harness import Running

T0_US = 1_704_207_600_000_000  # 10:00 Eastern of DAY
DAY = "01/02/2024"
WAITED = SETTLE_US / 1e6


def line(kind: str, contents: str, volume: int | str, size: int | str = "", **more: str) -> bytes:
    """A line of AAPL, the trade of which is `size` shares, at 10:00:00 and a microsecond for each share so far."""
    symbol = more.pop("symbol", "AAPL")
    time = f"10:00:00.{int(volume or 0) % 1_000_000:06d}"
    trade = {"Most Recent Trade": "1.5", "Most Recent Trade Size": str(size), "Most Recent Trade Time": time}
    values = {
        **({"Message Contents": contents, "Total Volume": str(volume), "Most Recent Trade Date": DAY} | trade),
        **{"Bid": "1.4", "Bid Time": time, "Ask Time": time},
        **{name.replace("_", " "): value for name, value in more.items()},
    }
    return f"{kind},{symbol},{','.join(values.get(name, '') for name in SELECTED)},\n".encode()


def trade(volume: int | str, size: int | str, contents: str = "Cbav", **more: str) -> bytes:
    return line("Q", contents, volume, size, **more)


def quote(volume: int | str, contents: str = "ba", **more: str) -> bytes:
    return line("Q", contents, volume, 1, **more)


class Stream:
    """Lines of an unbroken connection, batch by batch; `said` is what the watch said of them."""

    def __init__(self) -> None:
        self.open_gaps: list[Any] = []
        layout = (SYMBOL, *SELECTED)
        self.context = ParserContext(layout, None, None)
        self.parser = LineParser(self.context)
        journal: Any = SimpleNamespace(
            spool=SimpleNamespace(epoch=7),
            ledger=SimpleNamespace(of=lambda connection: self.open_gaps if connection == "level1" else []),
            context=self.context,
        )
        self.said: list[tuple[str, Place, Place, int]] = []
        self.watch = VolumeWatch(journal, lambda *said: self.said.append(said))
        self.seq, self.recv_us = 0, T0_US

    def batch(self, *frames: tuple[int, bytes], epoch: int = 7) -> None:
        """Frames of a port, one after the other."""
        made = []
        for port, raw in frames:
            count = 1 if port == FACT_PORT else raw.count(b"\n")
            made.append(Frame(0, port, epoch, self.seq, count, self.recv_us, raw))
            self.seq += count
        buf, table = table_of(made)
        rows, dead = self.parser.parse_table(buf, table)
        chunk: Any = SimpleNamespace(buf=buf, table=table)
        self.watch.observe(rows, chunk, dead)

    def send(self, *lines: bytes, **more: Any) -> None:
        self.batch((PORT["level1"], b"".join(lines)), **more)

    def wait(self, seconds: float = WAITED) -> list[tuple[str, int]]:
        """A T so much later; who misses how much, as far as it was said by now."""
        self.recv_us += int(seconds * 1e6)
        self.send(b"T,20240102 10:00:09\n")
        return [(symbol, missing) for symbol, _, _, missing in self.said]


def together(lines: list[bytes], cuts: int) -> Stream:
    """The lines in `cuts` batches."""
    stream = Stream()
    size = -(-len(lines) // cuts)
    for at in range(0, len(lines), size):
        stream.send(*lines[at : at + size])
    return stream


@pytest.mark.parametrize("cuts", [1, 2, 5])
def test_a_trade_that_accounts_for_less_than_the_volume_says_what_is_missing(cuts: int) -> None:
    stream = together([trade(100, 10), quote(100), trade(130, 30), trade(175, 5), trade(185, 10)], cuts)
    assert stream.said == []  # one that is only late may come yet
    assert stream.wait() == [("AAPL", 40)]
    ((_, after, before, _),) = stream.said
    assert (after.seq, before.seq) == (2, 3)
    assert (after.time_us, before.time_us) == (T0_US + 130, T0_US + 175)
    assert stream.wait() == [("AAPL", 40)]  # once


def test_a_quote_tells_of_it_too_unless_it_updates_the_volume_itself() -> None:
    stream = together([trade(100, 10), quote(120), quote(120), trade(125, 5)], 2)
    assert stream.wait() == [("AAPL", 20)]
    stream = together([trade(100, 10), quote(120, "bav"), quote(120), trade(125, 5)], 2)
    assert stream.wait() == []


def test_every_basis_counts_and_each_symbol_by_itself() -> None:
    stream = Stream()
    stream.send(trade(100, 10), trade(500, 1, symbol="MSFT"), trade(103, 3, "O"), trade(104, 1, "Ev"))
    stream.send(trade(600, 40, symbol="MSFT"), trade(114, 10))
    assert stream.wait() == [("MSFT", 60)]


def test_holes_of_one_time_are_one_interval() -> None:
    stream = Stream()
    stream.send(trade(100, 10), trade(120, 10), trade(130, 10), trade(190, 10))
    assert stream.wait() == [("AAPL", 60)]
    ((_, after, before, _),) = stream.said
    assert (after.seq, before.seq) == (0, 3)


@pytest.mark.parametrize(
    "lines",
    [
        [trade(500, 10)],  # the first that is seen
        [line("P", "Cbaohlcv", 500, 10), trade(510, 10)],
        [trade(500, 10), line("P", "Cbaohlcv", 900, 10), trade(910, 10)],  # a summary restates
        [trade(500, 10), trade(500, 10)],  # twice
        [trade(500, 10), trade(500, 25, "O")],  # one that does not count
        [trade(500, 10), trade(490, 25), trade(500, 10)],  # falls: taken back
        [trade(500, 10), trade(20, 5, Most_Recent_Trade_Date="01/03/2024")],  # a new day
        [trade(500, 10), trade("", 10), trade(510, 10)],  # a line that does not tell
        [trade(500, 10), quote("")],
        [trade(500, 10), trade(520, 10), trade(510, 10)],  # out of order
        [trade(500, 10), trade(540, 10), trade(510, 10), trade(530, 10), trade(520, 10)],
    ],
)
@pytest.mark.parametrize("cuts", [1, 5])
def test_what_has_another_reason_is_no_hole(lines: list[bytes], cuts: int) -> None:
    assert together(lines, cuts).wait() == []


def test_a_part_that_comes_late_is_not_missing_and_the_rest_is() -> None:
    stream = Stream()
    stream.send(trade(100, 10), trade(160, 10))
    stream.send(trade(130, 10))
    assert stream.wait() == [("AAPL", 40)]


@pytest.mark.parametrize(
    "fact",
    [
        Fact("lost", "level1", None, {"phase": "lost", "connection": "level1"}),
        Fact("connected", "level1", None, {"phase": "link", "connection": "level1"}),
        Fact("subscribed", "level1", "AAPL", {"phase": "watch", "connection": "level1"}),
    ],
)
def test_nothing_is_compared_over_a_break_and_what_was_found_before_it_is_said(fact: Fact) -> None:
    stream = Stream()
    stream.send(trade(100, 10), trade(150, 10))
    stream.batch((FACT_PORT, encode_fact(fact)))
    assert [missing for *_, missing in stream.said] == [40]
    stream.send(trade(300, 10))
    stream.send(trade(310, 10), trade(330, 10))
    assert stream.wait() == [("AAPL", 40), ("AAPL", 10)]


def test_nothing_is_compared_while_lines_are_refused_or_over_a_line_that_could_not_be_read() -> None:
    stream = Stream()
    stream.send(trade(100, 10))
    stream.open_gaps = [SimpleNamespace(watched=False)]
    stream.send(trade(200, 10), trade(250, 10))
    stream.open_gaps = [SimpleNamespace(watched=True)]  # another symbol has not answered yet
    stream.send(trade(300, 10), trade(310, 10))
    stream.send(trade(320, 10), trade(390, 70).replace(b",1.5,", b",1.x,"), trade(400, 10))
    stream.send(trade(500, 10), trade(510, 10))
    assert stream.wait() == []


def test_lines_that_are_sent_again_after_a_restart_are_not_compared() -> None:
    stream = Stream()
    stream.send(trade(100, 10), trade(200, 10), epoch=6)
    stream.send(trade(300, 10), trade(310, 10))
    assert stream.wait() == []


def test_a_symbol_is_not_judged_for_a_while_after_a_correction() -> None:
    stream = Stream()
    stream.send(trade(100, 10), b"C,AAPL,X,01/02/2024,10:00:00.1,1.5,10,1,01,5,18,\n")
    stream.send(trade(300, 10))
    stream.recv_us += AFTER_CORRECTION_US
    stream.send(trade(310, 10), trade(400, 10))
    assert stream.wait() == [("AAPL", 80)]


def test_a_restarted_table_of_names_is_another_one() -> None:
    stream = Stream()
    stream.send(trade(1, 1, symbol="OTHER"), trade(100, 10))
    stream.parser = LineParser(stream.context)
    stream.send(trade(200, 10), trade(1, 1, symbol="OTHER"))  # codes of the two have changed places
    stream.send(trade(260, 10))
    assert stream.wait() == [("AAPL", 50)]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_said_is_what_was_left_out_however_batches_are_cut(seed: int) -> None:
    """Against the sent stream: sizes left out are said exactly, but for those behind a symbol's last line."""
    chance = random.Random(seed)
    volumes, expected = dict.fromkeys(("A", "B", "C"), 0), dict.fromkeys(("A", "B", "C"), 0)
    pending = dict(expected)
    started: set[str] = set()
    stream, held = Stream(), []
    for number in range(600):
        symbol, size = chance.choice("ABC"), chance.randint(1, 50)
        traded = chance.random() < 0.6
        volumes[symbol] += size if traded else 0
        if traded and chance.random() < 0.2 and symbol in started:
            pending[symbol] += size
            continue
        held.append(trade(volumes[symbol], size, symbol=symbol) if traded else quote(volumes[symbol], symbol=symbol))
        started.add(symbol)
        expected[symbol] += pending[symbol]
        pending[symbol] = 0
        if chance.random() < 0.1 or number == 599:
            stream.send(*held)
            held = []
    stream.send(*held) if held else None
    stream.wait()
    found = dict.fromkeys(expected, 0)
    for symbol, _, _, missing in stream.said:
        found[symbol] += missing
    assert found == expected
    assert sum(expected.values()) > 0


async def test_it_becomes_one_fact_of_the_symbol_with_both_ends(tmp_path: Path) -> None:
    lines = trade(100, 10) + trade(150, 10)
    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False) as it:
        client = await feed.watched("level1")
        client.send(line("P", "Cbaohlcv", 90, 10))
        await it.sink.until(lambda: it.sink.of("quote"))
        client.send(lines)
        await it.sink.until(lambda: len(it.sink.of("trade")) == 2)
        await client.cut(reset=True)  # what has been found is said
        await it.sink.until(lambda: any(fact["phase"] == "missed" for fact in it.sink.facts("gap")))
    (fact,) = [fact for fact in it.sink.facts("gap") if fact["phase"] == "missed"]
    first, second = it.sink.of("trade")
    assert (fact["symbol"], fact["cause"], fact["detail"]) == ("AAPL", "volume_skipped", {"volume": 40})
    assert fact["from"] == {"epoch": first["epoch"], "seq": first["seq"], "event_time_us": T0_US + 100}
    assert fact["to"] == {"epoch": second["epoch"], "seq": second["seq"], "event_time_us": T0_US + 150}
    assert fact["gap_id"] == "0:{}:{}".format(*fact["id"])


async def test_the_setting_switches_it_off(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False, volume_gaps=False) as it:
        client = await feed.watched("level1")
        client.send(line("P", "Cbaohlcv", 90, 10))
        await it.sink.until(lambda: it.sink.of("quote"))
        client.send(trade(100, 10) + trade(150, 10))
        await it.sink.until(lambda: len(it.sink.of("trade")) == 2)
        await client.cut(reset=True)
        await it.sink.until(lambda: it.sink.facts("lost"))
    assert [fact for fact in it.sink.facts("gap") if fact["phase"] == "missed"] == []
