"""What every store behind a topic must do: subclass with a `stage_sink` fixture."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from pipeline_orchestrator.errors import NotConnectedError
from pipeline_orchestrator.flow.connector import Sink
from pipeline_orchestrator.record import LogBounds, Output
from tests.doubles.market_rows import Log, feature


class StoreSink(Sink, Protocol):
    """A sink that says where reading starts."""

    async def start_positions(self, bounds: LogBounds) -> dict[int, int]: ...


class Rig(Protocol):
    """One store, reachable or not."""

    def sink(self) -> StoreSink:
        """A new incarnation of the writer."""

    def absent(self) -> StoreSink:
        """A writer whose store is not there."""

    async def newest(self) -> dict[str, int]:
        """symbol -> src_seq of the newest row that a reader of the store finds."""

    async def rows(self) -> int | None:
        """Rows in the store; None where it keeps newest values only."""


def features(rows: int) -> Log:
    log = Log()
    log.topic = "market.features"
    for seq in range(rows):
        log.append(seq % 3 % 2, **feature(seq, symbol=f"S{seq % 3}"))
    return log


class SinkContract:
    async def test_what_was_written_is_found_by_a_reader(self, rig: Rig) -> None:
        log, sink = features(30), rig.sink()
        await sink.open()
        starts = await sink.start_positions(log.bounds)
        assert starts == {0: 0, 1: 0}
        await sink.write(Output(log.batch(starts)))
        assert await rig.newest() == {"S0": 27, "S1": 28, "S2": 29}
        assert await rig.rows() in (30, None)
        await sink.close()

    async def test_the_same_output_again_changes_nothing(self, rig: Rig) -> None:
        log, sink = features(30), rig.sink()
        await sink.open()
        output = Output(log.batch(await sink.start_positions(log.bounds)))
        for _ in range(3):
            await sink.write(output)
        assert await rig.newest() == {"S0": 27, "S1": 28, "S2": 29}
        assert await rig.rows() in (30, None)
        await sink.close()

    async def test_a_new_incarnation_goes_on_and_loses_nothing(self, rig: Rig) -> None:
        log = features(30)
        at = {0: 0, 1: 0}
        for upto in (3, 9, 20):
            sink = rig.sink()
            await sink.open()
            starts = await sink.start_positions(log.bounds)
            assert all(starts[partition] <= at[partition] for partition in at)
            last = {partition: min(upto, end) for partition, end in log.end.items()}
            await sink.write(Output(log.batch(starts, last)))
            at = last
            await sink.close()
        assert await rig.newest() == {"S0": 27, "S1": 28, "S2": 29}
        assert await rig.rows() in (30, None)

    @pytest.mark.parametrize("steps", [1, 3, 10, 40, 120])
    async def test_a_write_that_was_cancelled_can_be_repeated(self, rig: Rig, steps: int) -> None:
        """Cancelled after some turns of the loop: at different points between its beginning and its end."""
        log, sink = features(3000), rig.sink()
        await sink.open()
        output = Output(log.batch(await sink.start_positions(log.bounds)))
        writing = asyncio.create_task(sink.write(output))
        for _ in range(steps):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await sink.write(output)
        assert await rig.newest() == {"S0": 2997, "S1": 2998, "S2": 2999}
        assert await rig.rows() in (3000, None)
        await sink.close()

    async def test_an_empty_batch_is_written_without_complaint(self, rig: Rig) -> None:
        log, sink = features(3), rig.sink()
        await sink.open()
        starts = await sink.start_positions(log.bounds)
        await sink.write(Output(log.batch(starts, starts)))
        assert await rig.newest() == {}
        assert await rig.rows() in (0, None)
        await sink.close()

    async def test_an_absent_store_is_not_connected_and_its_probe_says_so(self, rig: Rig) -> None:
        sink = rig.absent()
        with pytest.raises(NotConnectedError) as caught:
            await sink.open()
        assert caught.value.next_step
        probe = await sink.probe()
        assert probe.ok is not True
        assert probe.round_trip_ms is None
        await sink.close()

    async def test_a_present_store_answers_its_probe_and_closing_twice_is_safe(self, rig: Rig) -> None:
        sink = rig.sink()
        await sink.open()
        probe = await sink.probe()
        assert probe.ok is True and probe.round_trip_ms is not None and probe.round_trip_ms > 0
        await sink.close()
        await sink.close()
