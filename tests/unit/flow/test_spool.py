"""The spool: frames survive kills, damage is cut and told, epochs rise, one writer at a time."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_orchestrator.errors import RetryableError
from pipeline_orchestrator.flow import spool_format as form
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.flow.spool_cursor import Cursor, load_cursor, save_cursor
from pipeline_orchestrator.flow.spool_format import Place, iter_frames, list_segments


def opened(directory: Path, **options: int) -> Spool:
    spool = Spool(directory, 3, **options)  # type: ignore[arg-type]
    spool.open()
    return spool


def fill(spool: Spool, frames: int, size: int = 100) -> list[bytes]:
    written = []
    for number in range(frames):
        raw = b"%06d" % number + b"x" * size + b"\n"
        assert spool.append(1, raw, 1, number) is not None
        written.append(raw)
    return written


def tidied(spool: Spool) -> None:
    """Wait until the keeper has done what was asked of it: closing alone drops what its thread did not begin yet."""
    assert spool.keeper._pool is not None
    spool.keeper._pool.submit(lambda: None).result(60)
    spool.keeper.close()


def test_frames_come_back_as_they_were_written(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=1 << 12)
    written = fill(spool, 100)
    spool.close()
    frames = list(iter_frames(tmp_path))
    assert [frame.raw for frame in frames] == written
    assert [frame.first_seq for frame in frames] == list(range(100))
    assert {(frame.instance, frame.port, frame.epoch, frame.count) for frame in frames} == {(3, 1, spool.epoch, 1)}
    assert len(list_segments(tmp_path)) > 2


def test_epochs_rise_over_file_spool_and_clock(tmp_path: Path) -> None:
    first = opened(tmp_path)
    fill(first, 1)
    first.close()
    (tmp_path / "epoch").write_text(f"{first.epoch + 50}\n")
    second = opened(tmp_path)
    second.close()
    assert second.epoch == first.epoch + 51
    (tmp_path / "epoch").unlink()
    third = opened(tmp_path)
    third.close()
    assert third.epoch > first.epoch  # the spool itself still tells
    (tmp_path / "epoch").write_text("damaged")
    fourth = opened(tmp_path)
    fourth.close()
    assert fourth.epoch > first.epoch


def test_one_writer_per_directory(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(RetryableError, match=f"pid {os.getpid()}"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()


def test_a_torn_tail_is_cut_and_the_next_epoch_goes_on(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    written = fill(spool, 5)
    spool.close()
    (path,) = list_segments(tmp_path).values()
    unfinished = path.read_bytes()[-(form.FRAME_BYTES + len(written[-1])) : -20]
    with path.open("ab") as file:
        file.write(unfinished)
    again = opened(tmp_path)
    assert [damage.kind for damage in again.damages] == ["torn_tail"]
    fill(again, 2)
    again.close()
    assert [frame.raw for frame in iter_frames(tmp_path)][:5] == written
    assert len(list(iter_frames(tmp_path))) == 7


@pytest.mark.parametrize("keep", [0, 7, 39, 60])
def test_zeros_and_halves_after_a_power_loss_are_a_torn_tail(tmp_path: Path, keep: int) -> None:
    spool = opened(tmp_path)
    written = fill(spool, 3)
    spool.close()
    (path,) = list_segments(tmp_path).values()
    last = form.FRAME_BYTES + len(written[-1])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - last + keep] + bytes(4096))
    again = opened(tmp_path)
    again.close()
    assert [frame.raw for frame in iter_frames(tmp_path)] == written[:2]


def test_a_damaged_middle_is_kept_as_bad_and_everything_before_it_stays(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    written = fill(spool, 20)
    spool.close()
    (path,) = list_segments(tmp_path).values()
    data = bytearray(path.read_bytes())
    at = data.index(written[10][:6])
    data[at + 3] ^= 0xFF
    path.write_bytes(data)
    again = opened(tmp_path)
    (damage,) = again.damages
    assert (damage.kind, damage.kept_as) == ("corrupt_frame", path.name + ".bad")
    assert damage.lost_bytes > 0
    again.close()
    assert [frame.raw for frame in iter_frames(tmp_path)] == written[:10]
    assert path.with_name(path.name + ".bad").read_bytes() == data


def test_what_is_cut_off_a_segment_is_on_disk_before_the_segment_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path)
    written = fill(spool, 20)
    spool.close()
    (path,) = list_segments(tmp_path).values()
    data = bytearray(path.read_bytes())
    data[data.index(written[10][:6]) + 3] ^= 0xFF
    path.write_bytes(data)
    order: list[str] = []
    fsync, truncate = os.fsync, os.truncate

    def noted_fsync(fd: int) -> None:
        order.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    def noted_truncate(name: Path, size: int) -> None:
        order.append("cut")
        truncate(name, size)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "truncate", noted_truncate)
    opened(tmp_path).close()
    copied = next(i for i, name in enumerate(order) if name.startswith(path.name + ".bad"))
    assert copied < order.index("cut")


def test_every_flipped_bit_is_caught(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    fill(spool, 3, size=20)
    spool.close()
    (path,) = list_segments(tmp_path).values()
    data = path.read_bytes()
    header = form.decode_header(data)
    assert header is not None
    rng = random.Random(5)
    for _ in range(2000):
        bit = rng.randrange(len(data) * 8)
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << (bit % 8)
        if bit // 8 < header.size:
            assert form.decode_header(bytes(damaged)) is None
        else:
            assert form.valid_end(bytes(damaged), header.size) <= bit // 8


def test_a_segment_without_a_header_is_set_aside(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    fill(spool, 3)
    spool.close()
    form.segment_path(tmp_path, 2).write_bytes(b"not a segment of ours, whatever it may be")
    again = opened(tmp_path)
    assert [damage.kind for damage in again.damages] == ["corrupt_header"]
    fill(again, 1)
    again.close()
    assert len(list(iter_frames(tmp_path))) == 4
    assert (tmp_path / "000000000002.seg.bad").exists()


def test_a_cursor_survives_and_a_damaged_one_is_noticed(tmp_path: Path) -> None:
    cursor = Cursor(Place(7, 4711), 1700000000, 42, {"layout": ["Symbol"]}, "log-1")
    save_cursor(tmp_path, cursor)
    assert load_cursor(tmp_path) == (cursor, "")
    path = tmp_path / "cursor"
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    found, trouble = load_cursor(tmp_path)
    assert found is None
    assert "cursor.bad" in trouble
    assert (tmp_path / "cursor.bad").exists()


def test_numbers_of_lost_segments_are_not_used_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    fill(spool, 3)
    spool.close()
    save_cursor(tmp_path, Cursor(Place(9, 100), 1, 1))
    for path in list_segments(tmp_path).values():
        path.unlink()
    again = opened(tmp_path)
    fill(again, 1)
    again.close()
    assert list(list_segments(tmp_path)) == [10]


def test_a_full_disk_refuses_the_frame_and_leaves_the_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path)
    written = fill(spool, 3)
    real = os.writev

    def half(fd: int, parts: tuple[bytes, ...]) -> int:
        done = real(fd, [parts[0]])
        return done

    def no_room(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", half)
        patch.setattr(os, "write", no_room)
        assert spool.append(1, b"lost\n", 1, 0) is None
    assert spool.append(1, b"kept\n", 1, 0) == 3
    spool.close()
    assert [frame.raw for frame in iter_frames(tmp_path)] == [*written, b"kept\n"]


def test_a_full_disk_takes_what_kafka_has_before_it_refuses_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path, segment_bytes=1 << 14)
    fill(spool, 500)
    spool.keeper.acknowledged(spool.end.segment)
    tidied(spool)
    real, room = os.writev, len(list_segments(tmp_path))

    def full(fd: int, parts: tuple[bytes, ...]) -> int:
        if len(list_segments(tmp_path)) >= room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, parts)

    monkeypatch.setattr(os, "writev", full)
    assert spool.append(1, b"kept\n", 1, 0) is not None
    assert len(list_segments(tmp_path)) < room
    room = 0
    assert spool.append(1, b"lost\n", 1, 0) is None
    assert list(list_segments(tmp_path)) == [spool.end.segment], "all that Kafka has is gone"
    assert "No space left on device" in spool.refused_because and "bytes free" in spool.refused_because
    spool.close()


def test_a_segment_that_the_disk_cannot_hold_twice_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(tmp_path, segment_bytes=1 << 14)
    written = fill(spool, 500)
    with monkeypatch.context() as patch:

        def no_room(fd: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr("pipeline_orchestrator.flow.spool_keeping.os.fsync", no_room)
        spool.keeper.acknowledged(spool.end.segment)
        tidied(spool)
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith((".tmp", ".zst"))]
    assert [frame.raw for frame in iter_frames(tmp_path)] == written
    spool.close()


def test_lines_leave_a_reserve_that_facts_may_use(tmp_path: Path) -> None:
    spool = opened(tmp_path, quota_bytes=1 << 16, segment_bytes=1 << 14)
    while spool.append(1, b"x" * 500 + b"\n", 1, 0) is not None:
        pass
    assert spool.append(1, b"x" * 500 + b"\n", 1, 0) is None
    assert spool.refused_because == "its quota of 65536 bytes is used up"
    facts = 0
    while spool.append(0, b"f" * 100 + b"\n", 1, 0) is not None:
        facts += 1
    assert facts >= 10
    assert spool.used_bytes() <= 1 << 16
    spool.close()


def test_acknowledged_segments_are_compressed_readable_and_make_room(tmp_path: Path) -> None:
    spool = opened(tmp_path, quota_bytes=1 << 17, segment_bytes=1 << 14)
    written = fill(spool, 500)
    before = spool.used_bytes()
    spool.keeper.acknowledged(spool.end.segment)
    tidied(spool)
    assert spool.used_bytes() < before / 2
    assert any(path.name.endswith(".zst") for path in list_segments(tmp_path).values())
    assert [frame.raw for frame in iter_frames(tmp_path)] == written
    more = [spool.append(1, os.urandom(1000) + b"\n", 1, 0) for _ in range(100)]
    assert None not in more  # kept segments give way to new lines
    spool.close()


def test_kept_segments_go_after_their_time(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=1 << 12, keep_seconds=3600)
    fill(spool, 100)
    old = next(iter(list_segments(tmp_path).values()))
    os.utime(old, (1, 1))
    spool.keeper.acknowledged(spool.end.segment)
    tidied(spool)
    assert 1 not in list_segments(tmp_path)
    assert 2 in list_segments(tmp_path)
    spool.close()


WRITER = """
import sys
from pathlib import Path
from pipeline_orchestrator.flow.spool import Spool
spool = Spool(Path(sys.argv[1]), 0, segment_bytes=1 << 16, fsync_ms=5)
spool.open()
number = 0
while True:
    raw = b"%d " % number + b"y" * (number * 7919 % 3000) + b"\\n"
    spool.append(1, raw, 1, number)
    sys.stdout.buffer.write(b"%d\\n" % number)
    sys.stdout.buffer.flush()
    number += 1
"""


def test_kill_at_random_moments_loses_no_frame_whose_write_returned(tmp_path: Path) -> None:
    rng = random.Random(11)
    root = Path(__file__).resolve().parents[3]
    for round_number in range(8):
        directory = tmp_path / str(round_number)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, cwd=root
        ) as process:
            assert process.stdout is not None
            wanted = rng.randrange(1, 3000)
            for _ in range(wanted):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split(b"\n")
        told = wanted + len(rest) - 2 if len(rest) > 1 else wanted - 1  # the last line may be cut
        again = opened(directory)
        again.close()
        frames = list(iter_frames(directory))
        assert [int(frame.raw.split()[0]) for frame in frames] == list(range(len(frames)))
        assert len(frames) >= told
        assert all(len(frame.raw.split()[1:] or [b""]) == 1 for frame in frames)
