from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.telemetry.metrics import (
    BUCKETS,
    Histogram,
    Meter,
    add_delta,
    base_name,
    bucket_of,
    edge,
    label_of,
    labelled,
    new_total,
)

DURATIONS = st.floats(0.0, 4000.0, allow_nan=False)
OBSERVATIONS = st.lists(st.tuples(DURATIONS, st.integers(1, 1000)), max_size=40)


def filled(observations: list[tuple[float, int]]) -> Histogram:
    histogram = Histogram()
    for seconds, weight in observations:
        histogram.observe(seconds, weight)
    return histogram


@given(st.integers(0, BUCKETS))
def test_an_edge_belongs_to_its_own_bucket(index: int) -> None:
    assert bucket_of(edge(index)) == index


@given(DURATIONS)
def test_a_duration_lies_within_its_bucket(seconds: float) -> None:
    index = bucket_of(seconds)
    assert index == 0 or edge(index - 1) * 0.999999 <= seconds
    assert seconds <= edge(index) * 1.000001


@given(OBSERVATIONS, OBSERVATIONS)
def test_merged_histograms_equal_one_that_saw_everything(
    a: list[tuple[float, int]], b: list[tuple[float, int]]
) -> None:
    merged, whole = filled(a), filled([*a, *b])
    merged.merge(filled(b))
    assert merged.buckets == whole.buckets
    assert merged.max == whole.max
    assert merged.sum == pytest.approx(whole.sum)
    assert merged.percentile(0.99) == whole.percentile(0.99)


@given(st.lists(st.floats(1e-5, 1000.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_off_by_at_most_a_bucket(values: list[float], share: float) -> None:
    found = filled([(value, 1) for value in values]).percentile(share)
    exact = sorted(values)[max(0, -(-int(share * len(values) * 1000) // 1000) - 1)]
    below = sorted(values)[max(0, int(share * len(values)) - 1)]
    assert found is not None
    assert min(below, exact) / 1.1 <= found <= max(values)
    assert found <= sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1.1


def test_a_weight_counts_as_so_many_messages() -> None:
    histogram = filled([(0.001, 99), (1.0, 1)])
    assert histogram.count == 100
    assert histogram.percentile(0.5) == pytest.approx(0.001, rel=0.1)
    assert histogram.percentile(1.0) == pytest.approx(1.0, rel=0.1)


def test_no_message_means_unknown_not_zero() -> None:
    assert Histogram().percentile(0.99) is None


def test_a_clock_that_stepped_back_counts_as_zero() -> None:
    histogram = filled([(-5.0, 3)])
    assert histogram.sum == 0.0
    assert histogram.percentile(1.0) == 0.0


@given(OBSERVATIONS)
def test_a_histogram_survives_json(observations: list[tuple[float, int]]) -> None:
    histogram = filled(observations)
    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram


def test_labels_are_sorted_and_can_be_read_back() -> None:
    name = labelled("errors_total", {"retryable": "true", "cause": "sink"})
    assert name == "errors_total{cause=sink,retryable=true}"
    assert base_name(name) == "errors_total"
    assert label_of(name, "cause") == "sink"
    assert label_of(name, "part") == ""
    assert labelled("plain", {}) == "plain"


def fill(meter: Meter, n: int) -> None:
    meter.count("records_total", n, {})
    meter.count("errors_total", 1, {"cause": "sink"})
    meter.gauge("lag", n, {})
    meter.timed("busy", 0.1 * n, "")
    meter.timed("blocked", 0.2 * n, "clickhouse")
    meter.observe("latency", 0.001 * n, n)


def test_deltas_add_up_to_what_was_counted() -> None:
    meter, total = Meter(), new_total()
    for n in (1, 2, 3):
        fill(meter, n)
        add_delta(total, json.loads(json.dumps(meter.take())))
    assert total["counters"] == {"records_total": 6, "errors_total{cause=sink}": 3}
    assert total["gauges"] == {"lag": 3}
    assert total["times"]["busy"] == pytest.approx(0.6)
    assert total["times"]["blocked"] == {"clickhouse": pytest.approx(1.2)}
    assert total["histograms"]["latency"].count == 6


def test_a_delta_that_could_not_be_sent_is_not_lost() -> None:
    meter, total = Meter(), new_total()
    fill(meter, 1)
    unsent = meter.take()
    fill(meter, 2)
    meter.put_back(unsent)
    add_delta(total, json.loads(json.dumps(meter.take())))
    assert total["counters"]["records_total"] == 3
    assert total["gauges"] == {"lag": 2}
    assert total["histograms"]["latency"].count == 3
    assert total["times"]["blocked"] == {"clickhouse": pytest.approx(0.6)}


def test_nothing_counted_is_an_empty_delta() -> None:
    assert Meter().take() == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gauge_that_is_no_number_is_unknown(value: float) -> None:
    meter = Meter()
    meter.gauge("lag", value, {})
    assert meter.take()["gauges"] == {"lag": None}
