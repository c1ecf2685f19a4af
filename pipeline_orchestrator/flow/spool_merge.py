"""Frames of several spools in one order, for reading them offline.

Frames of one instance stay in the order of its spool. Between instances the order is that of receipt, by windows of
WINDOW_US: in each an instance's frames stand together, the lowest instance first, so that the parser gets runs and
not single frames. Where a watch begins or ends the order is exact, so that a symbol that moves between instances is
read as it was: to the end by the one, then by the other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_orchestrator.flow.recording import read_recording
from pipeline_orchestrator.flow.spool_format import FACT_PORT, Frame, SegmentHeader

WINDOW_US = 1_000_000
_WATCHES = (b'{"kind":"subscribed"', b'{"kind":"unsubscribed"')


class Run(NamedTuple):
    """Frames of one instance. `state`: the segment's header sets the parser, since nothing continues the run before."""

    instance: int
    frames: list[Frame]
    state: dict[str, Any] | None  # JSON of the spool's writer


class _Step(NamedTuple):
    time_us: int  # newest receipt of the instance so far: never falls, whatever the wall clock did
    frame: Frame
    state: dict[str, Any] | None


def runs_of(by_instance: Mapping[int, Sequence[Path]], lines_at_once: int) -> Iterator[Run]:
    """Segments and recordings as runs of about so many lines; those of one instance in the order given.

    Raises OSError, RecordingError for a file that is neither, or a recording that is not whole.
    """
    steps = [_steps(instance, by_instance[instance]) for instance in sorted(by_instance)]
    if len(steps) == 1:
        yield from _cut(steps[0], lines_at_once)
    else:
        yield from _gathered(heapq.merge(*steps, key=lambda step: step.time_us), lines_at_once)


def _steps(instance: int, segments: Sequence[Path]) -> Iterator[_Step]:
    """The frames of one instance; the parser goes on from one section to the next where nothing lies between."""
    after: tuple[int, int] | None = None
    time_us = 0
    state: dict[str, Any] | None = None
    mine = False
    for path in segments:
        for item in read_recording(path):
            if isinstance(item, SegmentHeader):
                mine = item.instance == instance
                if mine:
                    state = state if after == (item.epoch, item.next_seq) else item.state
                    after = (item.epoch, item.next_seq)
            elif mine:
                time_us = max(time_us, item.recv_us)
                yield _Step(time_us, item, state)
                state, after = None, (item.epoch, item.first_seq + item.count)


def _gathered(steps: Iterable[_Step], lines_at_once: int) -> Iterator[Run]:
    """Runs by window and instance; which ones does not depend on `lines_at_once`, only how they are cut."""
    waiting: dict[int, list[_Step]] = {}
    window, exact = -1, False
    for step in steps:
        instance = step.frame.instance
        watches = step.frame.port == FACT_PORT and step.frame.raw.startswith(_WATCHES)
        if step.time_us // WINDOW_US != window or ((watches or exact) and waiting.keys() - {instance}):
            for number in sorted(waiting):
                yield from _cut(waiting[number], lines_at_once)
            waiting.clear()
            window, exact = step.time_us // WINDOW_US, False
        waiting.setdefault(instance, []).append(step)
        exact = exact or watches
    for number in sorted(waiting):
        yield from _cut(waiting[number], lines_at_once)


def _cut(steps: Iterable[_Step], lines_at_once: int) -> Iterator[Run]:
    """One instance's frames, cut where the parser is set anew and after about so many lines."""
    frames: list[Frame] = []
    state: dict[str, Any] | None = None
    lines = 0
    for step in steps:
        if frames and (step.state is not None or lines >= lines_at_once):
            yield Run(frames[0].instance, frames, state)
            frames, state, lines = [], None, 0
        state = step.state if step.state is not None else state
        frames.append(step.frame)
        lines += step.frame.count
    if frames:
        yield Run(frames[0].instance, frames, state)
