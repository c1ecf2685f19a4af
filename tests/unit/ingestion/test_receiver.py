"""Bytes of a socket, cut anywhere, become the same lines; nothing is kept of what never ended."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.ingestion.line_scan import MAX_CONTROLS, MAX_LINE, Scan
from pipeline_orchestrator.ingestion.receiver import LineReceiver


class Keeper:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.controls: list[bytes] = []
        self.clocks: list[int] = []

    def take_lines(self, raw: memoryview, found: Scan, controls: list[tuple[bytes, int]]) -> None:
        lines = bytes(raw).split(b"\n")[:-1]
        assert len(lines) == found.lines
        for line, number in controls:
            assert lines[number].removesuffix(b"\r") == line
        self.lines += lines
        self.controls += [line for line, _ in controls]
        if found.clock >= 0:
            self.clocks.append(found.clock)

    def take_oversize(self, head: memoryview) -> None:
        assert len(head) == MAX_LINE
        self.lines.append(b"<oversize>" + bytes(head[:5]))


def feed(data: bytes, cuts: list[int]) -> tuple[Keeper, int]:
    async def run() -> tuple[Keeper, int]:
        keeper = Keeper()
        receiver = LineReceiver(keeper, lambda: 0)
        edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        for begin, end in itertools.pairwise(edges):
            at = begin
            while at < end:
                room = receiver.get_buffer(-1)
                size = min(len(room), end - at)
                room[:size] = data[at : at + size]
                receiver.buffer_updated(size)
                at += size
        assert not receiver.ended.done()
        return keeper, receiver.discard()

    return asyncio.run(run())


pieces = st.one_of(
    st.sampled_from(
        [
            b"S,SERVER CONNECTED\n",
            b"T,20240102 10:00:00\r\n",
            b"T,rubbish\n",
            b"n,NOPE\n",
            b"\n",
            b"x" * MAX_LINE + b"\n",
            b"y" * (MAX_LINE + 1) + b"\n",
            b"z" * (3 * MAX_LINE) + b"\r\n",
            b"Q,AAPL,1.5\r\n",
        ]
    ),
    st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"") + b"\n"),
)


@given(st.lists(pieces, max_size=8).map(b"".join), st.lists(st.integers(0, 1 << 20), max_size=8), st.binary(max_size=9))
@settings(deadline=None, max_examples=120)
def test_lines_do_not_depend_on_how_the_bytes_are_cut(data: bytes, cuts: list[int], tail: bytes) -> None:
    rest = tail.replace(b"\n", b"")
    keeper, torn = feed(data + rest, cuts)
    expected = [b"<oversize>" + line[:5] if len(line) > MAX_LINE else line for line in data.split(b"\n")[:-1]]
    assert keeper.lines == expected
    assert torn == len(rest)


def test_more_control_lines_than_fit_in_one_scan_are_all_seen() -> None:
    data = b"".join(b"S,LINE %d\n" % number for number in range(3 * MAX_CONTROLS))
    keeper, _ = feed(data, [])
    assert keeper.controls == data.split(b"\n")[:-1]


def test_the_newest_valid_clock_is_told() -> None:
    keeper, _ = feed(b"T,20240102 10:00:00\nT,20240102 10:00:01\r\nT,nonsense\nT\n", [])
    assert keeper.clocks == [1_704_189_601_000_000]


def test_an_error_of_the_sink_ends_the_connection() -> None:
    async def run() -> None:
        class Broken(Keeper):
            def take_lines(self, raw: memoryview, found: Scan, controls: list[tuple[bytes, int]]) -> None:
                raise OSError(5, "Input/output error")

        receiver = LineReceiver(Broken(), lambda: 0)
        receiver.get_buffer(-1)[:2] = b"x\n"
        receiver.buffer_updated(2)
        assert isinstance(receiver.ended.exception(), OSError)

    asyncio.run(run())
