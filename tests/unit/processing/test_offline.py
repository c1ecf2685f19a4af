"""Replay of spool segments: facts included, byte-equal, whatever the cut, and through the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from config.sections import Settings
from manage.commands.replay import replay
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_facts import Fact
from pipeline_orchestrator.market.events import PORT, TOPICS
from pipeline_orchestrator.offline import replay_spool

NOON_NS = 1_622_822_400_000_000_000  # 2021-06-04 16:00 UTC, noon in New York
FIELDS = (
    "Symbol,Most Recent Trade,Most Recent Trade Size,Most Recent Trade Date,Most Recent Trade Time,Message Contents"
)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Two segments: connections, a book, trades, clocks, a line that is none, and a gap."""
    directory = tmp_path / "spool"
    spool = Spool(directory, 0, segment_bytes=2000)
    spool.open()
    now = NOON_NS

    def fact(kind: str, port: str, symbol: str | None = None, **detail: object) -> None:
        spool.append_fact(Fact(kind, port, symbol, {"connection": port} | detail), now)

    def lines(port: str, *texts: str) -> None:
        spool.append(PORT[port], b"".join(text.encode() + b"\r\n" for text in texts), len(texts), now)

    for port in ("level1", "level2"):
        fact("connected", port, phase="open", cause="start")
        fact("subscribed", port, "MSFT", phase="watch", cause="start")
    lines("level1", f"S,CURRENT UPDATE FIELDNAMES,{FIELDS}", "T,20210604 12:00:00", "total nonsense")
    lines(
        "level2", "T,20210604 12:00:00", *(f"7,MSFT,B,{250 - i}.00,5,1,4,12:00:00.{i:06},2021-06-04," for i in range(9))
    )
    lines("level2", "7,MSFT,A,251.5,5,1,4,12:00:00.1,2021-06-04,", "T,20210604 12:00:01")
    for step in range(30):
        lines("level1", f"Q,MSFT,250.{step:02},10,06/04/2021,12:00:{step:02}.5,C,", f"T,20210604 12:00:{step + 1:02}")
        lines("level2", f"8,MSFT,B,250.{step:02},7,1,4,12:00:{step:02}.600000,2021-06-04,")
    gap = spool.next_id
    gap_id = f"{gap.instance}:{gap.epoch}:{gap.seq}"
    begun: dict[str, Any] = {"from": {"epoch": 1, "seq": 1}}
    fact("gap", "level2", phase="begin", gap_id=gap_id, cause="connection_lost", **begun)
    fact("gap", "level2", phase="closed", gap_id=gap_id, to={"epoch": 1, "seq": 2})
    spool.close()
    assert len(list(directory.glob("*.seg"))) > 1
    return directory


def test_a_spool_gives_the_rows_of_the_pipeline(spool: Path, tmp_path: Path) -> None:
    summary = replay_spool(Settings(), [spool], tmp_path / "out")
    assert summary.refused == 1
    rows = {path.stem: pq.read_table(path).to_pylist() for path in (tmp_path / "out").iterdir()}
    assert summary.rows == {name: len(found) for name, found in rows.items()}
    assert summary.rows["features"] == 70
    assert rows["features"][-1]["book_state"] == "valid"
    assert [row["close"] for row in rows["bars"] if row["interval"] == "1s"] == [
        250_000_000 + step * 10_000 for step in range(30)
    ]
    assert rows["books"][-1]["book_state"] == "stale"
    assert [(row["state"], row["cause"]) for row in rows["gaps"]] == [
        ("open", "connection_lost"),
        ("closed", "connection_lost"),
    ]
    assert rows["dlq"][0]["raw"] == b"total nonsense"
    assert [row["seq"] for row in rows["events"]] == sorted(row["seq"] for row in rows["events"])


@pytest.mark.parametrize("lines_at_once", [1, 7, 1000])
def test_neither_the_cut_nor_the_run_changes_a_byte(spool: Path, tmp_path: Path, lines_at_once: int) -> None:
    replay_spool(Settings(), [spool], tmp_path / "one", lines_at_once=50)
    segments = sorted(spool.glob("*.seg"))
    replay_spool(Settings(), segments, tmp_path / "two", lines_at_once=lines_at_once)
    files = {path.name for path in (tmp_path / "one").iterdir()}
    assert files == {f"{topic.removeprefix('market.')}.parquet" for topic in TOPICS}
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_command_writes_what_was_asked_for(spool: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(replay, [str(spool), "--bars", "-o", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["rows"]) == {"events", "bars", "gaps", "dlq"}


def test_a_file_that_is_no_segment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.seg"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="no segment"):
        replay_spool(Settings(), [path], tmp_path / "out")
    with pytest.raises(ValueError, match="no segment"):
        replay_spool(Settings(), [tmp_path / "out"], tmp_path / "out2")
