"""The figures that say what a second ingestion instance costs."""

from __future__ import annotations

import pytest

from benchmarks.instances import cost, ingestion, pipeline
from benchmarks.sustained import Verdict
from benchmarks.trial import Outcome


def outcome(taken: float, **busy: float) -> Outcome:
    verdict = Verdict(held=True, offered=taken, taken=taken, growth={}, why="")
    return Outcome("product", verdict, 0, 0, 0, busy={role.replace("_", "/"): share for role, share in busy.items()})


def test_the_instances_count_together_and_per_message() -> None:
    two = outcome(10_000, ingestion_0=0.10, ingestion_1=0.06, processing_0=0.14)
    assert ingestion(two) == pytest.approx(16)
    assert pipeline(two) == pytest.approx(30)


def test_the_cost_is_the_ratio_of_medians() -> None:
    ones = [outcome(10_000, ingestion_0=share, cache_0=0.1) for share in (0.1, 0.9, 0.2)]
    twos = [outcome(10_000, ingestion_0=share, ingestion_1=0.1, cache_0=0.1) for share in (0.1, 0.2, 0.9)]
    (_, one, two, ratio), (_, *_, whole) = cost({1: ones, 2: twos})
    assert (one, two, ratio) == pytest.approx((20, 30, 1.5))
    assert whole == pytest.approx(40 / 30)
