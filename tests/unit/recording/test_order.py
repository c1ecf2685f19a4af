"""Several files in one replay: in the order of reading whatever the order of the words, or refused; never in part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import zstandard
from click.testing import CliRunner

from infrastructure.simulator.recording_file import missing
from infrastructure.simulator.recording_sources import RecordingError as SimulatorRecordingError
from manage.commands.record import record
from manage.commands.replay import replay
from manage.exits import CliError
from pipeline_orchestrator.flow.recording import RecordingError, RecordingWriter, about, read_recording
from pipeline_orchestrator.flow.spool_format import Frame, iter_segment, list_segments
from pipeline_orchestrator.ingestion.recording_import import import_dumps
from pipeline_orchestrator.ingestion.spool_export import Span, export, spools
from tests.doubles.clock import FakeClock
from tests.unit.recording.spools import NOON_US, life

CLOCK = b"T,20210604 12:%02d:%02d\n"
TRADE = b"Q,MSFT,250.%d,10,12:%02d:%02d,5,%d,250,1,251,1,,,,,C,01,\n"


def dump(path: Path, minute: int) -> Path:
    """A Level 1 dump of one minute after noon: five trades of ten shares, and a clock after the minute."""
    lines = [CLOCK % (minute, at) + TRADE % (at, minute, at, 50 * minute + at) for at in range(10, 60, 10)]
    path.write_bytes(b"".join(lines) + CLOCK % (minute + 1, 30))
    return path


def imported(source: Path, at_s: int) -> Path:
    """A recording of a dump, imported at this time (Unix seconds)."""
    target = source.with_suffix(".rec")
    with RecordingWriter(target, {"made_by": "import", "sources": []}) as writer:
        import_dumps({"level1": source}, writer, clock=FakeClock(at_s * 1_000_000_000))
        writer.finish({"missing": []})
    return target


def part(state: Path, path: Path, begin_s: int, end_s: int) -> Path:
    """What was received in these seconds after noon, as a recording."""
    with RecordingWriter(path, {"made_by": "record"}) as writer:
        export(spools(state), Span(NOON_US + begin_s * 1_000_000, NOON_US + end_s * 1_000_000), writer)
        writer.finish({"missing": []})
    return path


def run(target: Path, *files: Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, answer, stderr of `replay`; the answer of a refused one is its error."""
    words = [*map(str, files), "-o", str(target), "--overwrite", "--json"]
    result = CliRunner().invoke(replay, words, standalone_mode=False)
    if isinstance(result.exception, CliError):
        return 1, {"error": str(result.exception), "next_step": result.exception.next_step}, result.stderr
    assert result.exception is None, result.exception
    return result.return_value, json.loads(result.stdout), result.stderr


def volumes(directory: Path) -> dict[tuple[str, int], int]:
    """Volume of every bar by interval and begin, in its newest revision."""
    bars = pq.read_table(directory / "bars.parquet").to_pylist()
    return {(bar["interval"], bar["open_time_us"]): bar["volume"] for bar in bars}


def test_an_import_is_an_epoch_of_its_own(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        record, ["--import", f"level1={dump(tmp_path / 'd.txt', 0)}", "-o", str(tmp_path / "d.rec"), "--json"]
    )
    assert result.exit_code == 0, result.output
    (epoch,) = {item.epoch for item in read_recording(tmp_path / "d.rec") if isinstance(item, Frame)}
    assert epoch > NOON_US // 1_000_000  # seconds of the clock, not those of the lines
    frames = [item for item in read_recording(imported(tmp_path / "d.txt", 77)) if isinstance(item, Frame)]
    assert {frame.epoch for frame in frames} == {77}


@pytest.mark.parametrize("turned", [False, True])
def test_imports_replayed_together_have_the_bars_of_each(tmp_path: Path, turned: bool) -> None:
    first, second = imported(dump(tmp_path / "a.txt", 0), 100), imported(dump(tmp_path / "b.txt", 3), 200)
    alone: dict[tuple[str, int], int] = {}
    for file in (first, second):
        assert run(tmp_path / "alone", file)[0] == 0
        alone |= volumes(tmp_path / "alone")
    assert sum(alone.values()) == 2 * 2 * 5 * 10, "two intervals, two files, five trades of ten shares"
    code, document, err = run(tmp_path / "both", *((second, first) if turned else (first, second)))
    assert code == 0 and document["missing"] == [], err
    assert volumes(tmp_path / "both") == alone


@pytest.mark.parametrize(
    ("minutes", "imports", "said", "step"),
    [
        ((0, 3), (100, 100), "import one of them again", "leave one of them out"),
        ((3, 0), (100, 200), "would count as late", "import {a} again, so that it is the newer one, or replay them"),
        ((0, 0), (100, 200), "would count as late", "replay them one by one"),
    ],
)
def test_imports_that_would_lose_lines_are_refused(
    tmp_path: Path, minutes: tuple[int, int], imports: tuple[int, int], said: str, step: str
) -> None:
    first, second = (
        imported(dump(tmp_path / name, minute), at)
        for name, minute, at in zip(("a.txt", "b.txt"), minutes, imports, strict=True)
    )
    for files in ((first, second), (second, first)):
        code, document, _ = run(tmp_path / "out", *files)
        assert code == 1 and said in document["error"] and document["next_step"].startswith(step.format(a=first))
        assert str(first) in document["error"] and str(second) in document["error"]
        assert not (tmp_path / "out").exists()


def test_parts_of_a_day_are_the_day_in_every_order_of_words(tmp_path: Path) -> None:
    life(tmp_path, 0, 0, 20)
    life(tmp_path, 1, 3, 15)
    early, late = part(tmp_path, tmp_path / "early.rec", 0, 9), part(tmp_path, tmp_path / "late.rec.zst", 9, 60)
    assert run(tmp_path / "day", tmp_path / "spool")[0] == 0
    expected = {path.name: path.read_bytes() for path in (tmp_path / "day").iterdir()}
    spools_turned = (tmp_path / "spool" / "1", tmp_path / "spool" / "0")
    segments = tuple(reversed(list_segments(tmp_path / "spool" / "0").values()))
    assert len(segments) > 2
    for files in ((early, late), (late, early), spools_turned, (*segments, tmp_path / "spool" / "1")):
        code, _, err = run(tmp_path / "out", *files)
        assert code == 0, err
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == expected


def test_the_same_lines_twice_are_refused_with_both_names(tmp_path: Path) -> None:
    life(tmp_path, 0, 0, 20)
    early, most = part(tmp_path, tmp_path / "early.rec", 0, 9), part(tmp_path, tmp_path / "most.rec", 5, 60)
    again = Path(shutil.copy(early, tmp_path / "again.rec"))
    segment = list_segments(tmp_path / "spool" / "0")[2]
    spool = tmp_path / "spool"
    for one, other in ((early, most), (early, again), (spool, early), (spool, spool / "0"), (spool, segment)):
        for files in ((one, other), (other, one)):
            code, document, _ = run(tmp_path / "out", *files)
            assert code == 1 and "hold the same lines" in document["error"], document
            assert str(one) in document["error"] and str(other) in document["error"]
            assert document["next_step"].startswith("leave one of them out")


def _flip(data: bytearray, at: int) -> None:
    data[at] ^= 255


def _header(data: bytearray, _: int) -> None:
    data[:4] = b"none"


@pytest.mark.parametrize("harm", [_flip, _header])
@pytest.mark.parametrize("named", ["spool", "spool/0"])
def test_a_damaged_spool_is_said_as_record_says_it(
    tmp_path: Path, named: str, harm: Callable[[bytearray, int], None]
) -> None:
    life(tmp_path, 0, 0, 25)
    path = list_segments(tmp_path / "spool" / "0")[2]
    data = bytearray(path.read_bytes())
    harm(data, len(data) // 2)
    path.write_bytes(data)
    words = ["--state-dir", str(tmp_path), "-o", str(tmp_path / "x.rec"), "--json"]
    recorded = CliRunner().invoke(record, words, standalone_mode=False)
    missing = json.loads(recorded.stdout)["missing"]
    assert recorded.return_value == 1 and missing
    code, document, err = run(tmp_path / "out", tmp_path / named)
    assert (code, document["missing"]) == (1, missing)
    assert [line for line in err.splitlines() if "missing" in line] == [
        line for line in recorded.stderr.splitlines() if "missing" in line
    ]
    run(tmp_path / "recorded", tmp_path / "x.rec")
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == (tmp_path / "recorded" / file.name).read_bytes(), "what is there is there"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_kept_segment_that_does_not_unpack_is_left_out_and_said(tmp_path: Path, share: float) -> None:
    life(tmp_path, 0, 0, 25)
    path = list_segments(tmp_path / "spool" / "0")[2]
    data = bytearray(zstandard.compress(path.read_bytes()))
    _flip(data, int(len(data) * share))
    path.with_name(path.name + ".zst").write_bytes(data)
    path.unlink()
    words = ["--state-dir", str(tmp_path), "-o", str(tmp_path / "x.rec"), "--json"]
    recorded = CliRunner().invoke(record, words, standalone_mode=False)
    code, document, _ = run(tmp_path / "out", tmp_path / "spool")
    assert code == recorded.return_value == 1
    assert document["missing"] == json.loads(recorded.stdout)["missing"] != []
    run(tmp_path / "recorded", tmp_path / "x.rec")
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == (tmp_path / "recorded" / file.name).read_bytes()


def test_a_damaged_segment_is_said_and_an_unfinished_newest_one_is_whole(tmp_path: Path) -> None:
    life(tmp_path, 0, 0, 25)
    segments = list_segments(tmp_path / "spool" / "0")
    data = bytearray(segments[2].read_bytes())
    data[len(data) // 2] ^= 255
    segments[2].write_bytes(data)
    code, document, err = run(tmp_path / "out", segments[2])
    (row,) = document["missing"]
    last = list(iter_segment(segments[2]))[-1]
    assert code == 1 and row["first"] == f"0:{last.epoch}:{last.first_seq + last.count}" and row["next"] is None
    assert f"{segments[2].name} is damaged at byte" in err
    newest = segments[max(segments)]
    newest.write_bytes(newest.read_bytes()[:-3])
    code, document, err = run(tmp_path / "out", newest)
    assert (code, document["missing"], err) == (0, [], "")


@pytest.mark.parametrize("name", ["x.rec", "x.rec.zst"])
def test_bytes_behind_the_end_of_a_recording_are_refused(tmp_path: Path, name: str) -> None:
    life(tmp_path, 0, 0, 9)
    path = part(tmp_path, tmp_path / name, 0, 60)
    whole = path.read_bytes()
    cut = whole[: len(whole) // 2]
    for behind in (whole, cut, b"x", b"\0" * 100, bytes(range(256)) * 300, b"\x28\xb5\x2f", b"\n"):
        path.write_bytes(whole + behind)
        for read in (lambda: list(read_recording(path)), lambda: about(path)):
            with pytest.raises(RecordingError, match=str(path)):
                read()
        code, document, _ = run(tmp_path / "out", path)
        assert code == 1 and "byte" in document["error"] and document["next_step"]
        if b"\x28\xb5\x2f" not in behind[:3] or behind == whole:  # the simulator finds whole frames only
            with pytest.raises(SimulatorRecordingError, match=str(path)):
                missing(path)
    path.write_bytes(whole)
    assert run(tmp_path / "out", path)[0] == 0
