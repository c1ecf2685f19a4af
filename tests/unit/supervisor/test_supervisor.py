"""The supervisor's decisions against scripted launchers and a clock that stands still."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_orchestrator.channel import Changed, Ended, Update, Updated
from pipeline_orchestrator.component import Restart
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.supervisor.desired import DesiredStore
from pipeline_orchestrator.supervisor.events import Exited, Heard
from pipeline_orchestrator.telemetry.oom_kills import OomKills
from tests.doubles.supervisor_stand import Stand, spec


async def test_everything_is_launched_at_once_and_ready_in_order(stand: Stand) -> None:
    stand.apply(spec("processing/0", "storage/0"), spec("storage/0", "kafka"), spec("kafka"))
    assert sorted(name for name, _ in stand.launcher.launched) == ["kafka", "processing/0", "storage/0"]
    stand.ready("processing/0", "storage/0")
    assert stand.state("processing/0") is State.STARTING
    assert "waits for storage/0" in stand.view("processing/0").cause
    stand.ready("kafka")
    order = [name for name, state in stand.recorder.states if state == "running"]
    assert order == ["kafka", "storage/0", "processing/0"]
    assert stand.supervisor.was_ready


async def test_trouble_before_readiness_is_shown_while_starting(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    stand.hear("storage/0", Changed("starting", "cannot open ClickHouse", "services up"))
    assert stand.state("storage/0") is State.STARTING
    assert (stand.view("storage/0").cause, stand.view("storage/0").next_step) == (
        "cannot open ClickHouse",
        "services up",
    )


async def test_degraded_and_recovered_follow_the_components_word(stand: Stand) -> None:
    stand.apply(spec("ingestion/0"))
    stand.ready("ingestion/0")
    stand.hear("ingestion/0", Changed("degraded", "no feed at 127.0.0.1:5009", "start IQConnect"))
    assert stand.state("ingestion/0") is State.DEGRADED
    assert stand.view("ingestion/0").cause == "no feed at 127.0.0.1:5009"
    stand.hear("ingestion/0", Changed("running"))
    assert stand.state("ingestion/0") is State.RUNNING
    assert stand.view("ingestion/0").cause == ""


async def test_ready_with_trouble_becomes_degraded_and_counts_as_ready(stand: Stand) -> None:
    stand.apply(spec("ingestion/0"))
    stand.hear("ingestion/0", Changed("degraded", "no feed", ""))
    assert stand.state("ingestion/0") is State.DEGRADED
    assert stand.supervisor.unready() == ()


async def test_a_crash_means_backoff_and_a_successor_of_the_next_incarnation(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    stand.ready("storage/0")
    stand.exit("storage/0", -9, detail="SIGKILL")
    assert stand.state("storage/0") is State.BACKOFF
    assert stand.view("storage/0").cause.startswith("killed by SIGKILL from outside; ")
    stand.pass_time(0.75)
    assert stand.launcher.launched == [("storage/0", 1), ("storage/0", 2)]
    assert stand.view("storage/0").restarts == 1


async def test_the_successor_is_not_launched_before_the_predecessor_is_gone(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    stand.ready("storage/0")
    stand.pass_time(60)  # hung, aborted, killed; its exit does not come
    assert stand.launcher.handles["storage/0"].signals == ["abort", "kill"]
    assert stand.launcher.launched == [("storage/0", 1)]
    assert "does not die" in stand.view("storage/0").cause
    stand.exit("storage/0", -9)
    stand.pass_time(1)
    assert stand.launcher.launched == [("storage/0", 1), ("storage/0", 2)]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (3, 4, ", likely OOM: 1 of this machine killed for want of memory just now, last RSS 4096 bytes"),
        (3, 3, " from outside; no OOM kill of this machine just now, last RSS 4096 bytes"),
        (None, None, " from outside; whether for want of memory cannot be told here, last RSS 4096 bytes"),
    ],
)
async def test_who_killed_is_said_as_far_as_the_kernel_tells(
    stand: Stand, tmp_path: Path, before: int | None, after: int | None, said: str
) -> None:
    stand.supervisor._endings.oom_kills = OomKills(proc=tmp_path, cgroups=tmp_path)
    stand.apply(spec("storage/0"))
    stand.ready("storage/0")
    for count in (before, after):
        if count is not None:
            (tmp_path / "vmstat").write_text(f"oom_kill {count}\n")
        if count == before:
            stand.supervisor.saw_memory({4000: 4096, 4001: 7})
    stand.exit("storage/0", -9, detail="SIGKILL")
    assert stand.view("storage/0").cause == f"killed by SIGKILL{said}"


async def test_reports_of_a_dead_incarnation_mean_nothing(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    stand.ready("storage/0")
    stand.exit("storage/0")
    stand.pass_time(0.75)
    stand.supervisor.handle(Heard("storage/0", 1, Changed("running")))
    stand.supervisor.handle(Exited("storage/0", 1, 0))
    stand.supervisor.settle()
    assert stand.state("storage/0") is State.STARTING
    assert stand.view("storage/0").incarnation == 2


async def test_an_errors_own_words_are_the_cause(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    stand.hear("storage/0", Ended("raised", "PermanentError: table is of another version", "migrate"))
    stand.exit("storage/0", 1)
    assert stand.view("storage/0").cause == "PermanentError: table is of another version"
    assert stand.view("storage/0").next_step == "migrate"


async def test_too_many_failures_escalate_to_a_slow_steady_retry_that_is_said(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    for _ in range(6):
        stand.exit("storage/0")
        stand.pass_time(0.0)
        while stand.state("storage/0") is State.BACKOFF:
            stand.pass_time(0.25)
    assert stand.state("storage/0") is State.FAILED
    assert "6 failures within 60 s; tried again every 30 s" in stand.view("storage/0").cause
    assert stand.recorder.levels("component_failed") == ["ERROR"]
    launched = len(stand.launcher.launched)
    stand.pass_time(29)
    assert len(stand.launcher.launched) == launched
    stand.pass_time(1.5)
    assert len(stand.launcher.launched) == launched + 1
    stand.exit("storage/0")
    assert stand.state("storage/0") is State.FAILED
    assert stand.recorder.levels("component_failed") == ["ERROR", "ERROR"]


async def test_a_good_minute_ends_the_escalation(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    for _ in range(6):
        stand.exit("storage/0")
        while stand.state("storage/0") is State.BACKOFF:
            stand.pass_time(0.25)
    stand.pass_time(31)
    stand.ready("storage/0")
    stand.pass_time(62, beating=("storage/0",))
    stand.exit("storage/0")
    assert stand.state("storage/0") is State.BACKOFF


async def test_stop_drains_in_reverse_order_one_group_after_the_other(stand: Stand) -> None:
    stand.apply(spec("ingestion/0", "processing/0"), spec("processing/0", "storage/0"), spec("storage/0"))
    stand.ready("storage/0", "processing/0", "ingestion/0")
    stand.supervisor.stop(30)
    stand.supervisor.settle()
    assert [stand.drains(n) for n in ("ingestion/0", "processing/0", "storage/0")] == [1, 0, 0]
    stand.exit("ingestion/0", 0)
    assert [stand.drains(n) for n in ("ingestion/0", "processing/0", "storage/0")] == [1, 1, 0]
    stand.exit("processing/0", 0)
    stand.exit("storage/0", 0)
    assert [(end.id, end.how) for end in stand.supervisor.stopped] == [
        ("ingestion/0", "drained"),
        ("processing/0", "drained"),
        ("storage/0", "drained"),
    ]
    assert {view.state for view in stand.supervisor.views()} == {State.STOPPED}


async def test_one_that_does_not_drain_is_killed_and_the_rest_still_drains(stand: Stand) -> None:
    stand.apply(spec("ingestion/0", "storage/0"), spec("storage/0"))
    stand.ready("storage/0", "ingestion/0")
    stand.supervisor.stop(10)
    stand.supervisor.settle()
    stand.pass_time(5.25, beating=("storage/0",))
    assert stand.launcher.handles["ingestion/0"].signals == ["kill"]
    stand.exit("ingestion/0", -9)
    assert "did not drain within 5" in stand.view("ingestion/0").cause
    assert stand.drains("storage/0") == 1
    stand.exit("storage/0", 0)
    assert [(end.id, end.how) for end in stand.supervisor.stopped] == [
        ("ingestion/0", "killed"),
        ("storage/0", "drained"),
    ]


async def test_a_second_stop_with_force_kills_everything_at_once(stand: Stand) -> None:
    stand.apply(spec("ingestion/0", "storage/0"), spec("storage/0"))
    stand.ready("storage/0", "ingestion/0")
    stand.supervisor.stop(30)
    stand.supervisor.settle()
    stand.supervisor.stop(force=True)
    stand.supervisor.settle()
    assert [stand.launcher.handles[name].signals for name in ("ingestion/0", "storage/0")] == [["kill"], ["kill"]]


async def test_what_survives_sigkill_is_named(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    stand.ready("storage/0")
    stand.supervisor.stop(force=True)
    stand.pass_time(6)
    (end,) = stand.supervisor.stopped
    assert (end.id, end.how, end.pid) == ("storage/0", "stuck", 4000)


async def test_a_component_waiting_for_its_restart_is_stopped_at_once(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    stand.exit("storage/0")
    stand.supervisor.stop(30)
    stand.supervisor.settle()
    assert stand.state("storage/0") is State.STOPPED
    stand.pass_time(40)
    assert stand.launcher.launched == [("storage/0", 1)]


async def test_workers_that_died_with_the_seed_start_again_without_blame(stand: Stand) -> None:
    stand.apply(*(spec(f"processing/{n}") for n in range(3)))
    stand.ready(*(f"processing/{n}" for n in range(3)))
    for _ in range(10):
        for n in range(3):
            stand.exit(f"processing/{n}", None, blameless=True, detail="seed process died (SIGKILL)")
    assert stand.view("processing/0").incarnation == 11
    assert stand.view("processing/0").cause == "restarts after: seed process died (SIGKILL)"
    assert {view.state for view in stand.supervisor.views()} == {State.STARTING}


async def test_a_launch_that_is_refused_is_a_failure_like_any_other(stand: Stand) -> None:
    stand.launcher.refuse = True
    stand.apply(spec("storage/0"))
    stand.supervisor.handle(stand.supervisor._events.get_nowait())
    stand.supervisor.handle(stand.supervisor._events.get_nowait())
    assert stand.state("storage/0") is State.BACKOFF
    assert "Too many open files" in stand.view("storage/0").cause


async def test_a_stopped_component_stays_stopped_over_a_restart_of_the_daemon(tmp_path: Path) -> None:
    stand = Stand(tmp_path, desired=DesiredStore(tmp_path))
    stand.apply(spec("cache/0"), spec("storage/0"))
    stand.ready("cache/0", "storage/0")
    stand.supervisor.stop_component("cache/0")
    stand.supervisor.settle()
    stand.exit("cache/0", 0)
    assert stand.state("cache/0") is State.STOPPED
    after = Stand(tmp_path, desired=DesiredStore(tmp_path))
    after.apply(spec("cache/0"), spec("storage/0"))
    assert after.launcher.launched == [("storage/0", 1)]
    assert after.state("cache/0") is State.STOPPED
    after.ready("storage/0")
    assert after.supervisor.was_ready
    after.supervisor.start_component("cache/0")
    after.supervisor.settle()
    assert after.launcher.launched[-1] == ("cache/0", 1)
    assert DesiredStore(tmp_path).value.stopped == frozenset()


async def test_a_wished_restart_has_no_backoff(stand: Stand) -> None:
    stand.apply(spec("storage/0"))
    stand.ready("storage/0")
    stand.supervisor.restart_component("storage/0")
    stand.supervisor.settle()
    assert stand.drains("storage/0") == 1
    stand.exit("storage/0", 0)
    assert stand.launcher.launched[-1] == ("storage/0", 2)


async def test_applying_the_same_list_changes_nothing(stand: Stand) -> None:
    stand.apply(spec("a"), spec("b"))
    stand.ready("a", "b")
    stand.apply(spec("a"), spec("b"))
    assert stand.launcher.launched == [("a", 1), ("b", 1)]
    assert [stand.launcher.handles[name].commands for name in "ab"] == [[], []]


async def test_a_component_that_left_the_list_is_drained_and_forgotten(stand: Stand) -> None:
    stand.apply(spec("a"), spec("b"))
    stand.ready("a", "b")
    stand.apply(spec("a"))
    assert stand.drains("b") == 1
    stand.exit("b", 0)
    assert [view.id for view in stand.supervisor.views()] == ["a"]


async def test_another_config_is_offered_and_taken_without_a_restart(stand: Stand) -> None:
    stand.apply(spec("a"))
    stand.ready("a")
    stand.apply(spec("a", config='{"n":1}'))
    assert stand.launcher.handles["a"].commands == [Update('{"n":1}', 1)]
    stand.hear("a", Updated(True, 1))
    stand.apply(spec("a", config='{"n":1}'))
    assert stand.launcher.launched == [("a", 1)]
    assert stand.drains("a") == 0


async def test_a_component_that_declines_a_config_is_replaced(stand: Stand) -> None:
    stand.apply(spec("a"))
    stand.ready("a")
    stand.apply(spec("a", config='{"n":1}'))
    stand.hear("a", Updated(False, 1))
    assert stand.drains("a") == 1
    stand.exit("a", 0)
    assert stand.launcher.launched[-1] == ("a", 2)
    assert stand.launcher.launches["a"].spec["config"] == '{"n":1}'


async def test_only_the_answer_to_the_newest_offer_counts(stand: Stand) -> None:
    stand.apply(spec("a"))
    stand.ready("a")
    stand.apply(spec("a", config='{"n":1}'))
    stand.apply(spec("a", config='{"n":2}'))
    stand.hear("a", Updated(True, 1), Updated(False, 2))
    assert stand.drains("a") == 1
    stand.exit("a", 0)
    assert stand.launcher.launches["a"].spec["config"] == '{"n":2}'


async def test_a_transient_component_that_returns_is_done(stand: Stand) -> None:
    stand.apply(spec("job/0", restart=Restart.TRANSIENT))
    stand.ready("job/0")
    stand.exit("job/0", 0)
    stand.pass_time(60)
    assert stand.state("job/0") is State.STOPPED
    assert stand.launcher.launched == [("job/0", 1)]


async def test_a_temporary_component_that_fails_stays_failed_with_its_cause(stand: Stand) -> None:
    stand.apply(spec("job/0", restart=Restart.TEMPORARY))
    stand.hear("job/0", Ended("raised", "ValueError: bad input"))
    stand.exit("job/0", 1)
    stand.pass_time(60)
    assert stand.state("job/0") is State.FAILED
    assert stand.view("job/0").cause == "ValueError: bad input"
    assert stand.launcher.launched == [("job/0", 1)]


async def test_a_bad_list_of_components_changes_nothing(stand: Stand) -> None:
    stand.apply(spec("a"))
    with pytest.raises(ValueError, match="does not exist"):
        stand.supervisor.apply([spec("a"), spec("b", "ghost")])
    assert [view.id for view in stand.supervisor.views()] == ["a"]
