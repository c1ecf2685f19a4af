"""Which stages count as hung, by what they say and when."""

from __future__ import annotations

import pytest

from pipeline_orchestrator.channel import Changed
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.supervisor.events import Started
from tests.doubles.supervisor_stand import Stand, beat, spec


async def test_a_hung_stage_is_named_so_and_leaves_its_stacks_before_it_is_killed(stand: Stand) -> None:
    stand.apply(spec("processing/0"))
    stand.ready("processing/0")
    stand.pass_time(9.75)
    assert stand.state("processing/0") is State.RUNNING
    stand.pass_time(0.5)
    assert stand.state("processing/0") is State.STOPPING
    assert stand.view("processing/0").cause.startswith("hung: no beat")
    assert stand.launcher.handles["processing/0"].signals == ["abort"]
    stand.pass_time(2.25)
    assert stand.launcher.handles["processing/0"].signals == ["abort", "kill"]
    stand.exit("processing/0", -9)
    assert stand.state("processing/0") is State.BACKOFF
    assert stand.view("processing/0").cause.startswith("hung: no beat")


async def test_a_slow_worker_that_beats_and_progresses_is_left_alone(stand: Stand) -> None:
    stand.apply(spec("processing/0"))
    stand.ready("processing/0")
    for _ in range(60):
        stand.pass_time(1, beating=())
        stand.hear("processing/0", beat(token_age_s=8.0))
    assert stand.launcher.handles["processing/0"].signals == []
    assert stand.state("processing/0") is State.RUNNING


async def test_a_stage_that_only_beats_is_hung(stand: Stand) -> None:
    stand.apply(spec("processing/0"))
    stand.ready("processing/0")
    for second in range(12):
        stand.pass_time(1)
        if stand.state("processing/0") is State.RUNNING:
            stand.hear("processing/0", beat(token_age_s=second + 1.0))
    assert "no sign of progress" in stand.view("processing/0").cause


async def test_a_stage_that_took_long_to_start_is_not_hung_when_it_is_ready(stand: Stand) -> None:
    stand.apply(spec("processing/0"))
    stand.supervisor.handle(Started("processing/0", stand.view("processing/0").incarnation, 4000))
    for second in range(20):
        stand.pass_time(1)
        stand.hear("processing/0", beat(token_age_s=second + 1.0))
    stand.hear("processing/0", Changed("running"))
    stand.pass_time(0.5)
    assert stand.launcher.handles["processing/0"].signals == []
    assert stand.state("processing/0") is State.RUNNING


async def test_a_pause_of_the_supervisor_itself_kills_nobody(stand: Stand) -> None:
    stand.apply(spec("processing/0"))
    stand.ready("processing/0")
    stand.clock.advance(120)
    stand.supervisor.settle()
    assert stand.state("processing/0") is State.RUNNING
    assert stand.launcher.forgiven == pytest.approx(120)
    assert stand.recorder.levels("supervisor_paused") == ["WARNING"]
