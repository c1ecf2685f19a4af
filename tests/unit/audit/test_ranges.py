"""Ranges of lines against a model of plain sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.audit.ranges import LineFlags, LineRange

BLOCK = 32
LOST, HELD, OTHER = 1, 2, 4
# Around the border of a block and far apart, so that runs cross blocks and skip some.
SEQS = st.sampled_from([*range(20), *range(BLOCK - 6, BLOCK + 6), *range(3 * BLOCK - 3, 3 * BLOCK + 3)])
MARKS = st.lists(st.tuples(st.sampled_from([(0, 5), (0, 6), (1, 5)]), SEQS, st.sampled_from([LOST, HELD, OTHER])))


def flagged(marks: list[tuple[tuple[int, int], int, int]]) -> tuple[LineFlags, dict[tuple[int, int, int], int]]:
    flags = LineFlags(BLOCK)
    model: dict[tuple[int, int, int], int] = {}
    for reader, seq, flag in marks:
        flags.mark(reader, np.array([seq, seq]), flag)
        model[*reader, seq] = model.get((*reader, seq), 0) | flag
    return flags, model


def model_ranges(model: dict[tuple[int, int, int], int], wanted: int, without: int, between: int) -> list[LineRange]:
    found: list[LineRange] = []
    broken = True
    for (instance, epoch, seq), flag in sorted(model.items()):
        last = found[-1] if found and found[-1][:2] == (instance, epoch) else None
        if flag & wanted and not flag & without:
            joins = last is not None and not broken if between else last is not None and last.last + 1 == seq
            if joins and last is not None:
                found[-1] = last._replace(last=seq, lines=last.lines + 1)
            else:
                found.append(LineRange(instance, epoch, seq, seq, 1))
            broken = False
        elif flag & between:
            broken = True
    return found


@given(MARKS, st.sampled_from([0, HELD]), st.sampled_from([0, OTHER, HELD]))
def test_ranges_are_those_of_the_sets(
    marks: list[tuple[tuple[int, int], int, int]], between: int, without: int
) -> None:
    flags, model = flagged(marks)
    assert list(flags.ranges(LOST, without=without, between=between)) == model_ranges(model, LOST, without, between)
    assert flags.count(LOST, without) == sum(bool(f & LOST) and not f & without for f in model.values())


@given(st.lists(st.tuples(SEQS, st.integers(0, 40))))
def test_marking_a_range_marks_each_of_its_lines(spans: list[tuple[int, int]]) -> None:
    whole, single = LineFlags(BLOCK), LineFlags(BLOCK)
    for first, count in spans:
        whole.mark_range((0, 1), first, count, LOST)
        single.mark((0, 1), np.arange(first, first + count), LOST)
    assert list(whole.ranges(LOST)) == list(single.ranges(LOST))


def test_rows_of_several_readers_are_kept_apart() -> None:
    flags = LineFlags()
    flags.mark_rows(np.array([0, 1, 0, 0]), np.array([7, 7, 8, 7]), np.array([3, 3, 3, 4]), LOST)
    assert [str(found) for found in flags.ranges(LOST)] == ["0:7:3..4", "0:8:3..3", "1:7:3..3"]
    assert flags.newest((0, 7)) == 4 and flags.newest((2, 7)) == -1
