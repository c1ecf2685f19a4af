"""Snapshots lost, cut, zeroed or flipped: never believed, kept aside, and what the state was rebuilt from is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.snapshot_codec import decode_header, encode, pack
from tests.doubles.clock import FakeClock
from tests.unit.processing.streams import NIGHTS, Log, random_log, run, settings_for
from tests.unit.processing.test_recovery import Worker, bounds_of


async def ended(state_dir: Path, log: Log) -> Worker:
    """A worker that took the whole log, wrote its snapshots and stopped."""
    worker = Worker(state_dir)
    await worker.open(bounds_of(log))
    for batch in worker.batches(log, 10):
        worker.process(batch)
        worker.recovery.acknowledged(batch)
    worker.recovery.close()
    return worker


async def test_three_snapshots_are_kept_and_a_damaged_one_is_set_aside_for_the_one_before(tmp_path: Path) -> None:
    log = random_log(3)
    first = await ended(tmp_path, log)
    files = sorted((tmp_path / "1").glob("*.snap"))
    assert len(files) == 3
    damaged = bytearray(files[-1].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    files[-1].write_bytes(damaged)
    second = Worker(tmp_path)
    await second.open(bounds_of(log))
    for batch in second.batches(log, 10):
        second.process(batch)
    assert second.processor.digest() == first.processor.digest()
    told = {event: fields for _, event, fields in second.recovery.notices}
    assert list(told) == ["snapshot_damaged", "processing_state_rebuilt"]
    assert told["processing_state_rebuilt"]["rebuilt_from"].startswith("an older snapshot and market.events, offsets ")
    assert len(list((tmp_path / "1").glob("*.bad-*"))) == 1


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda raw: raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :],
    "truncated": lambda raw: raw[: len(raw) // 3],
    "emptied": lambda raw: b"",
    "zeroed": lambda raw: bytes(len(raw)),
}


@pytest.mark.parametrize("lost", ["gone", *DAMAGE])
async def test_without_any_sound_snapshot_the_state_is_that_of_the_log_and_it_is_said(
    tmp_path: Path, lost: str
) -> None:
    log = random_log(3)
    first = await ended(tmp_path, log)
    files = sorted((tmp_path / "1").glob("*.snap"))
    for file in files:
        if lost == "gone":
            file.unlink()
        else:
            file.write_bytes(DAMAGE[lost](file.read_bytes()))
    second = Worker(tmp_path, clock=FakeClock())
    await second.open(bounds_of(log))
    end = bounds_of(log).end[1]
    assert second.positions[1] == 0 < end
    for batch in second.batches(log, 10):
        second.process(batch)
    assert second.processor.digest() == first.processor.digest()
    told = [(event, fields) for _, event, fields in second.recovery.notices if fields["partition"] == 1]
    damaged = [] if lost == "gone" else ["snapshot_damaged"] * len(files)
    assert [event for event, _ in told] == [*damaged, "processing_state_rebuilt"]
    assert told[-1][1]["rebuilt_from"] == f"market.events, offsets 0..{end - 1}"
    assert told[-1][1]["seconds"] >= 0
    kept = list((tmp_path / "1").glob("*.bad-*"))
    assert bool(kept) == (lost != "gone")
    assert {str(path) for path in kept} <= {fields["kept_as"] for event, fields in told if event == "snapshot_damaged"}


@pytest.mark.parametrize("where", [0, 5, 40, -5, -1])
def test_any_flipped_byte_and_any_cut_is_noticed(where: int) -> None:
    processor = ProcessEvents(settings_for(), range(3), NIGHTS)
    run(random_log(4), settings_for(), [], processor)
    raw = bytearray(b"".join(encode(*pack(processor, 0))))
    decode_header(bytes(raw))
    with pytest.raises(ValueError, match=r"cut|checksum|snapshot"):
        decode_header(bytes(raw[: len(raw) + where if where < 0 else where]))
    raw[where] ^= 0x10
    with pytest.raises(ValueError, match=r"checksum|snapshot"):
        decode_header(bytes(raw))
