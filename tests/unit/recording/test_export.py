"""`record`: the frames of a range, byte for byte; what is missing of it is named; `replay` of it equals the spool's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.sections import Settings
from manage.commands.record import record
from manage.commands.replay import replay
from manage.exits import CliError
from pipeline_orchestrator.flow.recording import RecordingError, RecordingWriter, about, read_recording
from pipeline_orchestrator.flow.spool_format import (
    Frame,
    SegmentHeader,
    decode_header,
    iter_segment,
    list_segments,
    segment_path,
    valid_end,
)
from pipeline_orchestrator.ingestion.spool_export import Missing, Span, export, spools
from pipeline_orchestrator.offline import replay_spool
from tests.unit.recording.spools import NOON_US, Feed, frames_of, life

SLOW = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory: instance 0 with two epochs, instance 1 with one, several segments each."""
    state = tmp_path_factory.mktemp("state")
    life(state, 0, 0, 25)
    life(state, 0, 40, 20)
    life(state, 1, 5, 30)
    assert len(list_segments(state / "spool" / "0")) > 3
    return state


@pytest.fixture(scope="module")
def one_segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same lives, each in one segment: what a header does not tell is told by frames outside the range."""
    state = tmp_path_factory.mktemp("one")
    life(state, 0, 0, 25, segment_bytes=1 << 20)
    life(state, 1, 5, 30, segment_bytes=1 << 20)
    return state


def copy(source: Path, target: Path) -> Path:
    for path in source.rglob("*.seg"):
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    return target


def write(state: Path, path: Path, span: Span = Span()) -> list[Missing]:  # noqa: B008 - immutable
    with RecordingWriter(path, {"made_by": "test"}) as writer:
        missing = export(spools(state), span, writer)
        writer.finish({"missing": [row.document() for row in missing]})
    return missing


def frames_in(path: Path) -> list[Frame]:
    return [item for item in read_recording(path) if isinstance(item, Frame)]


def run(*words: object) -> tuple[int, dict[str, Any], str]:
    result = CliRunner().invoke(record, [*map(str, words), "--json"], standalone_mode=False)
    code = result.return_value if result.exception is None else 1
    return code, json.loads(result.stdout) if result.stdout else {"error": result.exception}, result.stderr


@pytest.mark.parametrize("name", ["day.rec", "day.rec.zst"])
def test_a_whole_export_replays_to_the_bytes_that_the_spools_give(recorded: Path, tmp_path: Path, name: str) -> None:
    code, document, err = run("--state-dir", recorded, "-o", tmp_path / name)
    assert (code, document["missing"], err) == (0, [], "")
    expected = frames_of(recorded, 0, 1)
    assert frames_in(tmp_path / name) == expected
    assert (tmp_path / name).read_bytes().startswith(b"MDSPOOL1") != name.endswith(".zst")
    assert document["frames"] == len(expected) and document["instances"] == [0, 1]
    assert document["lines"] == sum(frame.count for frame in expected if frame.port)
    assert document["facts"] == sum(frame.port == 0 for frame in expected)
    assert document["bytes"] == sum(len(frame.raw) for frame in expected)
    assert (document["first_received"], document["last_received"]) == (
        "2021-06-04T16:00:00.000000Z",
        "2021-06-04T16:00:59.500000Z",
    )
    replay_spool(Settings(), [recorded / "spool" / "0", recorded / "spool" / "1"], tmp_path / "lying")
    replay_spool(Settings(), [tmp_path / name], tmp_path / "exported", lines_at_once=7)
    for path in sorted((tmp_path / "lying").iterdir()):
        assert (tmp_path / "exported" / path.name).read_bytes() == path.read_bytes(), path.name


@SLOW
@given(cut=st.tuples(st.integers(-1, 61_000), st.integers(-1, 61_000)), several=st.booleans())
def test_a_range_holds_exactly_its_frames_and_can_be_read_from_its_first_byte(
    recorded: Path,
    one_segment: Path,
    tmp_path_factory: pytest.TempPathFactory,
    cut: tuple[int, int],
    several: bool,
) -> None:
    recorded = recorded if several else one_segment
    begin, end = (NOON_US + ms * 1000 for ms in sorted(cut))
    target = tmp_path_factory.mktemp("range") / "part.rec"
    assert write(recorded, target, Span(begin, end)) == []
    expected = [frame for frame in frames_of(recorded, 0, 1) if begin <= frame.recv_us < end]
    if not expected:
        return  # a recording without a section is never put in place by the command
    assert frames_in(target) == expected
    whole = rows_of(*recorded_spools(recorded))
    assert rows_of(target) == [row for row in whole if begin <= row["recv_time_us"] < end]


def recorded_spools(state: Path) -> list[Path]:
    return [state / "spool" / "0", state / "spool" / "1"]


_ROWS: dict[tuple[Path, ...], list[dict[str, Any]]] = {}


def rows_of(*paths: Path) -> list[dict[str, Any]]:
    """Events of spools or recordings, each section from its own header."""
    from pipeline_orchestrator.ingestion.assembly import parser_state
    from pipeline_orchestrator.ingestion.context import ParserContext
    from pipeline_orchestrator.ingestion.line_parser import LineParser

    if paths in _ROWS:
        return _ROWS[paths]
    rows, parser = [], LineParser()
    for path in paths:
        for part in list_segments(path).values() if path.is_dir() else [path]:
            for item in read_recording(part):
                if isinstance(item, SegmentHeader):
                    parser.context = ParserContext.from_json(parser_state(item.state))
                else:
                    rows += parser.parse([item])[0].to_pylist()
    if paths[0].is_dir():
        _ROWS[paths] = rows
    return rows


@SLOW
@given(data=st.data())
def test_a_torn_tail_is_left_out_and_is_no_loss(
    recorded: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    state = copy(recorded, tmp_path_factory.mktemp("torn"))
    path = list(list_segments(state / "spool" / "0").values())[-1]
    whole = path.read_bytes()
    header = decode_header(whole)
    assert header is not None
    frames = list(iter_segment(path))
    at = data.draw(st.integers(header.size, len(whole) - 1))
    path.write_bytes(whole[:at])
    kept = len(list(iter_segment(path)))
    assert write(state, state / "x.rec") == []
    before = [frame for frame in frames_of(recorded, 0) if frame.epoch < header.epoch or frame not in frames]
    assert frames_in(state / "x.rec") == before + frames[:kept] + frames_of(recorded, 1)


@SLOW
@given(data=st.data())
def test_a_corrupt_frame_is_named_with_what_it_took_along(
    recorded: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    state = copy(recorded, tmp_path_factory.mktemp("corrupt"))
    segments = list_segments(state / "spool" / "0")
    number = data.draw(st.sampled_from(list(segments)[:-1]))
    path = segments[number]
    whole = bytearray(path.read_bytes())
    header = decode_header(bytes(whole))
    assert header is not None
    at = data.draw(st.integers(header.size, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    good = valid_end(bytes(whole), header.size)
    kept = list(iter_segment(path))
    after = kept[-1].first_seq + kept[-1].count if kept else header.next_seq
    follower = decode_header(segments[number + 1].read_bytes())
    assert follower is not None
    (missing,) = write(state, state / "x.rec")
    assert (missing.first, missing.next) == ((header.epoch, after), (follower.epoch, follower.next_seq))
    assert missing.cause == "damaged" and f"segment {number} is damaged at byte {good}" in missing.detail
    if follower.epoch == header.epoch:
        assert missing.count == follower.next_seq - after > 0
    assert frames_in(state / "x.rec") == frames_of(state, 0, 1)


def test_removed_segments_are_named_with_identities_and_exit_code_1(recorded: Path, tmp_path: Path) -> None:
    state = copy(recorded, tmp_path / "state")
    segments = list_segments(state / "spool" / "0")
    first, second, third, fourth = (decode_header(path.read_bytes()) for path in list(segments.values())[:4])
    assert first and second and third and fourth
    for number in list(segments)[1:3]:
        segments[number].unlink()
    code, document, err = run("--state-dir", state, "-o", tmp_path / "x.rec")
    begin = f"0:{second.epoch}:{second.next_seq}"
    assert code == 1 and (tmp_path / "x.rec").exists()
    assert document["missing"] == [
        {
            "instance": 0,
            "first": begin,
            "next": f"0:{fourth.epoch}:{fourth.next_seq}",
            "count": fourth.next_seq - second.next_seq if fourth.epoch == second.epoch else None,
            "cause": "removed",
            "detail": "segments 2 to 3",
        }
    ]
    assert f"missing: instance 0: from {begin} up to before 0:{fourth.epoch}" in err
    end = about(tmp_path / "x.rec")
    assert end is not None and end["end"]["missing"] == document["missing"]
    result = CliRunner().invoke(replay, [str(tmp_path / "x.rec"), "-o", str(tmp_path / "out"), "--bars", "--json"])
    assert result.exit_code == 0 and f"missing: instance 0: from {begin}" in result.stderr


def test_a_range_from_before_the_oldest_kept_segment_says_so(recorded: Path, tmp_path: Path) -> None:
    state = copy(recorded, tmp_path / "state")
    segments = list_segments(state / "spool" / "0")
    segments[1].unlink()
    oldest = decode_header(segments[2].read_bytes())
    assert oldest is not None
    assert write(state, tmp_path / "all.rec") == [], "all that is kept is whole"
    (missing,) = write(state, tmp_path / "range.rec", Span(NOON_US, None))
    assert missing == Missing(0, None, (oldest.epoch, oldest.next_seq), "removed")
    later = next(iter_segment(segments[2])).recv_us
    assert write(state, tmp_path / "later.rec", Span(later, None)) == [], "nothing of that range was removed"


def test_damage_outside_the_range_is_not_its_matter(recorded: Path, tmp_path: Path) -> None:
    state = copy(recorded, tmp_path / "state")
    segments = list_segments(state / "spool" / "0")
    data = bytearray(segments[1].read_bytes())
    data[-3] ^= 1
    segments[1].write_bytes(data)
    begin = next(iter_segment(segments[2])).recv_us + 1
    assert write(state, tmp_path / "x.rec", Span(begin, None)) == []
    assert len(write(state, tmp_path / "y.rec")) == 1


def test_a_segment_without_a_header_and_one_set_aside_are_damage(recorded: Path, tmp_path: Path) -> None:
    state = copy(recorded, tmp_path / "state")
    segments = list_segments(state / "spool" / "0")
    segments[2].write_bytes(b"x" * 500)
    (missing,) = write(state, tmp_path / "x.rec")
    assert missing.cause == "damaged" and missing.detail == "segment 2 is unreadable" and missing.count
    segments[2].rename(segments[2].with_name(segments[2].name + ".bad"))
    (missing,) = write(state, tmp_path / "y.rec")
    assert missing.cause == "damaged" and "set aside: 2" in missing.detail


def test_compressed_segments_give_the_same_recording(recorded: Path, tmp_path: Path) -> None:
    write(recorded, tmp_path / "plain.rec", Span(NOON_US + 3_200_000, NOON_US + 50_000_000))
    state = copy(recorded, tmp_path / "state")
    for instance in ("0", "1"):
        directory = state / "spool" / instance
        for number, path in list(list_segments(directory).items())[:-1]:
            packed = zstandard.ZstdCompressor().compress(path.read_bytes())
            segment_path(directory, number, kept=True).write_bytes(packed)
            path.unlink()
    assert write(state, tmp_path / "packed.rec", Span(NOON_US + 3_200_000, NOON_US + 50_000_000)) == []
    assert (tmp_path / "packed.rec").read_bytes() == (tmp_path / "plain.rec").read_bytes()


def test_a_running_writer_is_neither_hindered_nor_waited_for(tmp_path: Path) -> None:
    with Feed(tmp_path) as feed:
        feed.connect()
        feed.second(0)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "spool" / "0").iterdir()}
        code, document, _ = run("--state-dir", tmp_path, "-o", tmp_path / "one.rec")
        assert code == 0 and {path: path.stat().st_mtime_ns for path in (tmp_path / "spool" / "0").iterdir()} == before
        feed.second(1)
        code, more, _ = run("--state-dir", tmp_path, "-o", tmp_path / "two.rec")
    assert code == 0 and more["lines"] == document["lines"] + 5


def test_a_file_is_not_replaced_unless_told_and_nothing_is_left_of_a_failed_run(recorded: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.rec"
    target.write_bytes(b"mine")
    assert run("--state-dir", recorded, "-o", target)[0] != 0 and target.read_bytes() == b"mine"
    code, document, _ = run("--state-dir", recorded, "--from", "2030-01-01", "-o", target, "--overwrite")
    assert code != 0 and "hold nothing of that range" in str(document["error"])
    assert target.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [target]
    assert run("--state-dir", recorded, "-o", target, "--overwrite")[0] == 0 and len(frames_in(target)) > 100
    code, document, _ = run("--state-dir", tmp_path / "none", "-o", tmp_path / "y.rec")
    assert code != 0 and "no spool in" in str(document["error"])


def test_a_place_where_no_file_can_be_written_is_named_with_the_next_step(recorded: Path, tmp_path: Path) -> None:
    places = [(tmp_path / "none" / "x.rec", f"no directory {tmp_path / 'none'}", 2, f"mkdir -p {tmp_path / 'none'}")]
    if Path("/proc/self").is_dir():
        places.append((Path("/proc/self/x.rec"), "/proc/self/x.rec cannot be written: ", 1, "-o FILE"))
    for target, said, code, step in places:
        for source in (["--state-dir", recorded], ["--import", f"level1={__file__}"]):
            result = CliRunner().invoke(record, [*map(str, source), "-o", str(target)], standalone_mode=False)
            error = result.exception
            assert isinstance(error, CliError), result.output
            assert str(error).startswith(said) and ".part" not in str(error)
            assert (error.exit_code, step in error.next_step) == (code, True)


@SLOW
@given(data=st.data())
def test_a_recording_that_is_not_whole_is_refused(
    recorded: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / data.draw(st.sampled_from(["x.rec", "x.rec.zst"]))
    write(recorded, path, Span(NOON_US, NOON_US + 8_000_000))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(RecordingError, match=str(path)):
        list(read_recording(path))
    if path.suffix == ".rec":
        at = data.draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(RecordingError, match=str(path)):
            list(read_recording(path))


@pytest.mark.parametrize("words", [("--from", "yesterday"), ("--from", "2026-01-02", "--to", "2026-01-01")])
def test_times_that_cannot_be_used_are_usage_errors(tmp_path: Path, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(record, [*words, "-o", str(tmp_path / "x.rec")])
    assert result.exit_code == 2 and ("write 2026" in result.stderr or "--from is not before --to" in result.stderr)
