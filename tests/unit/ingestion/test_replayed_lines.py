"""Lines that are spooled anew: read as they would have been then, at most once, and as old news."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from config.sections import ClickHouseConfig
from pipeline_orchestrator.flow.spool_facts import Fact, encode_fact
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion import reference_fields
from pipeline_orchestrator.ingestion.assembly import spool_directory
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.layout import SELECTED
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.replay_letters import ReplayLetters
from pipeline_orchestrator.ingestion.replayed_line import ReplayedLine
from pipeline_orchestrator.ingestion.spooled_line import find_line
from pipeline_orchestrator.market.events import PORT
from pipeline_orchestrator.transport.dead_letter import dead_letter_rows
from tests.doubles.fake_feed import FakeFeed
from tests.unit.ingestion.harness import KeepingSink, Running

AT = 1_704_207_600_000_000  # 2024-01-02 15:00 UTC, 10:00 in New York
BAD = b"8,AAPL,B,187.1234567,7,1,2,10:00:00.25,2024-01-02,"
GOOD = b"8,AAPL,B,187.5,7,1,2,10:00:00.25,2024-01-02,"


def parsed(*lines: ReplayedLine, context: ParserContext | None = None) -> tuple[list[dict[str, Any]], list[Any]]:
    frames = [Frame(0, 0, 9, seq, 1, AT + seq, encode_fact(line.fact())) for seq, line in enumerate(lines)]
    rows, dead = LineParser(context).parse(frames)
    return rows.to_pylist(), dead


def line(raw: bytes, port: str = "level2", context: ParserContext | None = None) -> ReplayedLine:
    return ReplayedLine("0:5:17", port, raw, AT, context or ParserContext())


class Tables:
    """`dlq` and `events` as the questions see them, out of what a sink was given."""

    def __init__(self, sink: KeepingSink) -> None:
        self.sink, self.up = sink, True

    def __call__(self, sql: str) -> list[list[Any]] | None:
        if not self.up:
            return None
        letters = dead_letter_rows(self.sink.dead, "ingestion/0").rows.to_pylist() if self.sink.dead else []
        if "JSONExtractString" in sql:
            return [
                [found[1], row["src_instance"], row["src_epoch"], row["src_seq"], row["reason"]]
                for row in letters
                if (found := re.search('"replay_of": "([^"]+)"', row["headers"] or "")) and f"'{found[1]}'" in sql
            ]
        if "replay_of" in sql:
            return [
                [row["replay_of"], row["instance"], row["epoch"], row["seq"], row["kind"]]
                for row in self.sink.rows
                if row["replay_of"] and f"'{row['replay_of']}'" in sql
            ]
        wanted = re.findall(r"src_instance = (\d+) AND epoch = (\d+) AND seq = (\d+)", sql)
        names = ("writer", "epoch", "seq", "idx", "reason", "detail", "source", "src_instance", "src_epoch", "src_seq",
                 "src_partition", "src_offset", "symbol", "port", "headers", "recv_time_us")  # fmt: skip
        return [
            [*(row[name] for name in names), row["raw"].hex(), 0, 0]
            for row in letters
            if (str(row["src_instance"]), str(row["src_epoch"]), str(row["src_seq"])) in wanted
        ]


def replays(it: Running) -> tuple[ReplayLetters, Tables]:
    tables = Tables(it.sink)
    return ReplayLetters(it.reader.journal, ClickHouseConfig(), tables), tables


def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version, which reads more decimals than are kept."""
    strict = reference_fields.price
    monkeypatch.setattr(reference_fields, "price", lambda text: strict(text[:-1] if text == b"187.1234567" else text))


def test_a_replayed_line_names_what_it_repeats_and_both_of_its_events_do() -> None:
    rows, dead = parsed(line(GOOD), line(b"2,AAPL,MM,187,188,3,4,10:00:00,2024-01-02,,10:00:00,T,T,T,"))
    assert not dead
    assert [(row["seq"], row["idx"], row["kind"], row["replay_of"]) for row in rows] == [
        (0, 0, "level_set", "0:5:17"),
        (1, 0, "order_change", "0:5:17"),
        (1, 1, "order_change", "0:5:17"),
    ]
    assert [row["recv_time_us"] for row in rows] == [AT, AT + 1, AT + 1]
    assert {row["port"] for row in rows} == {"level2"}


def test_a_replayed_line_is_read_with_the_clock_of_then_and_moves_no_clock() -> None:
    then = ParserContext(("Symbol", *SELECTED), 1_704_189_600_000_000)  # 2024-01-02 10:00 Eastern
    now = ParserContext(clock1=1_704_189_600_000_000 + 86_400_000_000 * 400)
    names = dict.fromkeys(then.layout, "")
    names |= {"Symbol": "AAPL", "Message Contents": "b", "Bid": "2", "Bid Size": "3", "Bid Time": "10:00:00.5"}
    quote = ("Q," + ",".join(names[name] for name in then.layout) + ",").encode()
    parser = LineParser(now)
    again = [line(quote, "level1", then), line(b"T,20230101 09:00:00", "level1", then)]
    frames = [Frame(0, 0, 9, seq, 1, AT, encode_fact(one.fact())) for seq, one in enumerate(again)]
    rows, dead = parser.parse(frames)
    assert not dead
    first, second = rows.to_pylist()
    assert first["kind"] == "quote"
    assert first["event_time_us"] == AT + 500_000
    assert (second["kind"], second["raw"]) == ("other", b"T,20230101 09:00:00")
    assert parser.context == now


def test_a_replayed_line_that_is_still_bad_is_a_letter_with_its_bytes_and_what_it_repeats() -> None:
    rows, (letter,) = parsed(line(BAD))
    assert not rows
    assert (letter.reason, letter.raw, letter.position) == ("too_precise", BAD, {"spool": [0, 9, 0]})
    assert (letter.headers["replay_of"], letter.headers["port"]) == ("0:5:17", "level2")


def test_a_fact_that_holds_no_line_is_a_bad_fact() -> None:
    raw = encode_fact(Fact("replay", "level1", None, {"of": 3}))
    rows, dead = LineParser().parse([Frame(0, 0, 9, 0, 1, AT, raw)])
    assert (len(rows), dead[0].reason, dead[0].raw) == (0, "bad_fact", raw)


async def test_a_bad_line_is_spooled_anew_once_and_is_found_with_what_was_known_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path) as it:
        client = await feed.watched("level2")
        client.send(GOOD + b"\n" + BAD + b"\r\n" + GOOD + b"\n")
        await it.sink.until(lambda: it.sink.dead and len(it.sink.of("level_set")) == 2)
        (letter,) = it.sink.dead
        name = ":".join(map(str, letter.position["spool"]))
        found = find_line(spool_directory(tmp_path, 0), *letter.position["spool"][1:])
        assert found is not None
        assert (found.port, found.line, found.whole) == ("level2", BAD, True)
        assert found.context.clock2 is not None  # the T that the feed had answered
        letters, _ = replays(it)
        lenient(monkeypatch)
        (done,) = (await letters.answer("replay", {"ids": [name, name]}))["outcomes"]
        await it.sink.until(lambda: it.sink.of("level_set", replay_of=name))
        (second,) = await letters.replay([name])
        assert (second["code"], "as" in second) == ("replayed_before", False)
    (row,) = it.sink.of("level_set", replay_of=name)
    assert (row["price"], row["size"], row["event_time_us"]) == (187_123_456, 7, AT + 250_000)
    assert done == {"id": name, "as": f"0:{row['epoch']}:{row['seq']}"}


@pytest.mark.parametrize("kept", ["spool", "tables"])
async def test_a_second_replay_is_refused_after_a_restart_by_what_is_stored(tmp_path: Path, kept: str) -> None:
    sink = KeepingSink()
    async with FakeFeed() as feed:
        async with Running(feed, tmp_path, sink=sink, spool={"segment_bytes": 1 << 16}) as it:
            client = await feed.watched("level2")
            client.send(BAD + b"\n")
            await sink.until(lambda: sink.dead)
            name = ":".join(map(str, sink.dead[0].position["spool"]))
            (done,) = await replays(it)[0].replay([name])
            await sink.until(lambda: len(sink.dead) == 2)  # refused again
        if kept == "tables":
            for path in spool_directory(tmp_path, 0).glob("*.seg*"):
                path.unlink()
        else:
            sink.dead.pop()  # not stored yet: only the spool knows
        async with Running(feed, tmp_path, sink=sink) as it:
            (outcome,) = await replays(it)[0].replay([name])
    assert outcome["code"] == "replayed_before"
    assert done["as"] in outcome["why"]


async def test_nothing_is_spooled_while_nobody_can_say_what_was_replayed(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path) as it:
        client = await feed.watched("level2")
        client.send(BAD + b"\n")
        await it.sink.until(lambda: it.sink.dead)
        letters, tables = replays(it)
        tables.up = False
        name = ":".join(map(str, it.sink.dead[0].position["spool"]))
        before = it.reader.journal.spool.next_id
        outcomes = await letters.replay([name, "1:1:1"])
        tables.up = True
        others = await letters.replay(["0:1:1", "1:1:1", "storage/0@ab:1:2"])
        assert it.reader.journal.spool.next_id == before
    assert {outcome["code"] for outcome in outcomes} == {"no_answer"}
    assert [outcome["code"] for outcome in others] == ["not_found", "not_ours", "not_ours"]


async def test_no_replayed_line_is_forgotten_before_the_tables_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline_orchestrator.ingestion.journal.REPLAYS_KNOWN", 2)
    async with FakeFeed() as feed, Running(feed, tmp_path) as it:
        client = await feed.watched("level2")
        client.send((BAD + b"\n") * 4)
        await it.sink.until(lambda: len(it.sink.dead) == 4)
        names = [":".join(map(str, letter.position["spool"])) for letter in it.sink.dead]
        tables, behind = Tables(it.sink), True
        letters = ReplayLetters(
            it.reader.journal, ClickHouseConfig(), lambda sql: [] if behind and "replay_of" in sql else tables(sql)
        )
        outcomes = [*await letters.replay(names[:1]), *await letters.replay(names[1:3]), *await letters.replay(names)]
        codes = [each.get("code") for each in outcomes]
        assert codes == [None, None, "too_many", "replayed_before", "replayed_before", "too_many", "too_many"]
        assert "wait until" in outcomes[2]["why"]
        await it.sink.until(lambda: len(it.sink.dead) == 6)  # both refused again
        behind = False
        outcomes = [outcome for name in names for outcome in await letters.replay([name])]
        assert [each.get("code") for each in outcomes] == ["replayed_before", "replayed_before", None, None]


async def test_the_head_of_a_line_without_end_is_not_replayed(tmp_path: Path) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path, level2=False) as it:
        client = await feed.watched("level1")
        client.send(b"Q,AAPL," + b"9" * 300_000 + b"\n")
        await it.sink.until(lambda: it.sink.dead)
        name = ":".join(map(str, it.sink.dead[0].position["spool"]))
        (outcome,) = await replays(it)[0].replay([name])
    assert outcome["code"] == "not_whole"


async def test_a_replayed_line_ends_no_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeFeed() as feed, Running(feed, tmp_path) as it:
        client = await feed.watched("level2")
        client.send(BAD + b"\n")
        await it.sink.until(lambda: it.sink.dead)
        letters, _ = replays(it)
        lenient(monkeypatch)
        await client.cut()
        newer = await feed.watched("level2", connections=2)
        await it.sink.until(lambda: it.sink.facts("gap"))
        name = ":".join(map(str, it.sink.dead[0].position["spool"]))
        await letters.replay([name])
        await it.sink.until(lambda: it.sink.of("level_set", replay_of=name))
        assert [fact["phase"] for fact in it.sink.facts("gap")] == ["begin"]
        newer.send(GOOD + b"\n")
        await it.sink.until(lambda: [fact["phase"] for fact in it.sink.facts("gap")] == ["begin", "end", "closed"])
    assert it.sink.of("level_set")[-1]["port"] == "level2" and PORT["level2"] == 2
