from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline_orchestrator.component import ComponentSpec, Placement
from pipeline_orchestrator.supervisor.reconcile import diff

SPECS = st.builds(
    ComponentSpec,
    id=st.sampled_from(["a", "b", "c", "d"]),
    kind=st.just("stage"),
    builder=st.just("worker"),
    config=st.sampled_from(["{}", '{"n":1}']),
    placement=st.sampled_from(list(Placement)),
)
LISTS = st.lists(SPECS, unique_by=lambda spec: spec.id)


@given(LISTS)
def test_equal_lists_mean_nothing_to_do(specs: list[ComponentSpec]) -> None:
    changes = diff({spec.id: spec for spec in specs}, specs)
    assert changes.nothing
    assert set(changes.keep) == {spec.id for spec in specs}


@given(LISTS, LISTS)
def test_every_component_gets_exactly_one_verdict(actual: list[ComponentSpec], wanted: list[ComponentSpec]) -> None:
    changes = diff({spec.id: spec for spec in actual}, wanted)
    verdicts = [*changes.start, *changes.stop, *changes.keep, *changes.reconfigured, *changes.replaced]
    assert sorted(verdicts) == sorted({spec.id for spec in [*actual, *wanted]})
    assert set(changes.start) == {s.id for s in wanted} - {s.id for s in actual}
    assert set(changes.stop) == {s.id for s in actual} - {s.id for s in wanted}


def test_another_config_alone_is_offered_while_running() -> None:
    old = ComponentSpec(id="a", kind="stage", builder="worker")
    assert diff({"a": old}, [replace(old, config='{"x":1}')]).reconfigured == ("a",)


def test_another_placement_means_replacement() -> None:
    old = ComponentSpec(id="a", kind="stage", builder="worker")
    changed = replace(old, placement=Placement.SPAWNED, config='{"x":1}')
    assert diff({"a": old}, [changed]).replaced == ("a",)
