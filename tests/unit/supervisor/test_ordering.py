from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.component import ComponentSpec
from pipeline_orchestrator.supervisor import ordering


def spec(name: str, *needs: str) -> ComponentSpec:
    return ComponentSpec(id=name, kind="stage", builder="worker", depends_on=needs)


PIPELINE = {
    "simulator": ("ingestion",),
    "ingestion": ("processing",),
    "processing": ("storage", "cache"),
    "storage": ("kafka",),
    "cache": ("kafka",),
    "kafka": (),
}


def test_waves_put_each_after_what_it_needs() -> None:
    assert ordering.waves(PIPELINE) == [["kafka"], ["cache", "storage"], ["processing"], ["ingestion"], ["simulator"]]


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11))))
    )
)
def test_waves_hold_every_name_once_and_never_before_its_needs(case: tuple[int, set[tuple[int, int]]]) -> None:
    n, edges = case
    table = {str(i): tuple(str(b) for a, b in edges if a == i and b < i) for i in range(n)}
    groups = ordering.waves(table)
    place = {name: index for index, group in enumerate(groups) for name in group}
    assert sorted(place) == sorted(table)
    assert all(place[need] < place[name] for name, needs in table.items() for need in needs)


def test_a_circle_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"circle: a, b"):
        ordering.check([spec("a", "b"), spec("b", "a"), spec("c")])


def test_an_unknown_dependency_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'a' depends on 'ghost'"):
        ordering.check([spec("a", "ghost")])


def test_two_components_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two components are named 'a'"):
        ordering.check([spec("a"), spec("a")])


def test_a_circle_in_transit_still_gives_every_name_a_place() -> None:
    assert ordering.waves({"a": ("b",), "b": ("a",), "c": ()}) == [["c"], ["a", "b"]]


def test_readiness_waits_for_wanted_dependencies_only() -> None:
    stage = spec("processing", "storage", "cache")
    assert ordering.waits_for(stage, wanted={"storage", "cache"}, ready={"cache"}) == ("storage",)
    assert ordering.waits_for(stage, wanted={"cache"}, ready={"cache"}) == ()


def test_a_component_drains_only_when_nothing_alive_needs_it() -> None:
    assert not ordering.may_drain("storage", PIPELINE, {"processing", "storage"})
    assert ordering.may_drain("storage", PIPELINE, {"storage", "kafka", "cache"})


def test_a_dead_link_in_the_chain_does_not_change_the_order() -> None:
    assert not ordering.may_drain("storage", PIPELINE, {"ingestion", "storage"})
    assert ordering.may_drain("ingestion", PIPELINE, {"ingestion", "storage"})


def test_a_circle_does_not_keep_its_members_from_ending() -> None:
    assert ordering.may_drain("a", {"a": ("b",), "b": ("a",)}, {"a", "b"})


def test_the_drain_budgets_of_all_groups_fit_into_the_whole() -> None:
    remaining, spent = 30.0, 0.0
    for left in range(5, 0, -1):
        budget = ordering.drain_budget(remaining - spent, left)
        assert budget > 0
        spent += budget
    assert spent == pytest.approx(30.0)


def test_no_budget_is_left_after_the_deadline() -> None:
    assert ordering.drain_budget(-3.0, 2) == 0.0
    assert ordering.drain_budget(-3.0, 1) == 0.0
