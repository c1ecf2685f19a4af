"""The feed in `infrastructure_status`: what heartbeats of ingestion say, and why it is unknown where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.sections import Settings
from config.settings import settings_from
from manage import service_watch
from manage.daemon import Request
from manage.daemonize import feed_is_known
from manage.service_watch import INTERVAL_SECONDS, ServiceWatch, feed_status
from pipeline_orchestrator.channel import Beat
from pipeline_orchestrator.lifecycle import State
from pipeline_orchestrator.status import ComponentState, PipelineSnapshot, ServiceStatus
from pipeline_orchestrator.telemetry.snapshots import Snapshots
from tests.doubles.clock import FakeClock

UP = {"feed_connected{connection=level1}": 1, "feed_connected{connection=level2}": 1}


class Stand:
    """Snapshots as the supervisor builds them, of ingestion components with heartbeats at chosen times."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.snapshots = Snapshots(self.clock)
        self.beats: dict[str, int] = {}

    def beat(self, component: str, gauges: Mapping[str, int]) -> None:
        now = self.clock.monotonic_ns()
        self.beats[component] = now
        self.snapshots.beat(component, 1, Beat(1, 0.0, 0.0, now, {"gauges": dict(gauges)}))

    def seen(self, *components: str, state: State = State.RUNNING, instances: int = 2) -> ServiceStatus:
        states = [
            ComponentState(name, "stage", state, 0, pid=1, incarnation=1, last_beat_ns=self.beats.get(name))
            for name in components
        ]
        built: PipelineSnapshot = self.snapshots.build("running", states, since_ns=0, symbols=(), processes={})
        return feed_status(settings_from({"ingestion": {"instances": instances}}), built)


def test_a_connected_feed_is_ok_and_as_old_as_the_heartbeat_that_said_so() -> None:
    stand = Stand()
    stand.beat("ingestion/0", UP)
    stand.clock.advance(2.0)
    seen = stand.seen("ingestion/0")
    assert (seen.state, seen.age_s, seen.detail) == ("ok", 2.0, "2 of 2 connections up")


def test_a_late_heartbeat_makes_the_feed_unknown_with_its_age_and_the_reason() -> None:
    stand = Stand()
    stand.beat("ingestion/0", UP)
    stand.clock.advance(5.0)
    seen = stand.seen("ingestion/0")
    assert (seen.state, seen.age_s) == ("unknown", 5.0)
    assert seen.detail == "ingestion/0 is running, its newest heartbeat is 5.0 s old"
    stand.beat("ingestion/0", UP)
    assert stand.seen("ingestion/0").state == "ok"


def test_one_late_reader_of_two_makes_the_whole_unknown_and_is_named() -> None:
    stand = Stand()
    stand.beat("ingestion/1", UP)
    stand.clock.advance(5.0)
    stand.beat("ingestion/0", UP)
    seen = stand.seen("ingestion/0", "ingestion/1")
    assert (seen.state, seen.age_s) == ("unknown", 5.0)
    assert "ingestion/1" in seen.detail and "ingestion/0" not in seen.detail


def test_the_connections_of_all_readers_count_and_a_removed_one_has_none() -> None:
    stand = Stand()
    stand.beat("ingestion/0", UP)
    stand.beat("ingestion/1", {**UP, "feed_connected{connection=level2}": 0})
    stand.beat("ingestion/2", {"spool_bytes": 1})
    seen = stand.seen("ingestion/0", "ingestion/1", "ingestion/2")
    assert (seen.state, seen.detail) == ("unreachable", "3 of 4 connections up")
    assert stand.seen("ingestion/0", "ingestion/2", instances=1).state == "ok"


@pytest.mark.parametrize(
    ("state", "detail"),
    [
        (State.STARTING, "ingestion/0 is starting, no heartbeat yet"),
        (State.BACKOFF, "ingestion/0 is backoff"),
        (State.STOPPED, "ingestion/0 is stopped"),
    ],
)
def test_a_reader_that_never_spoke_is_named_with_its_state(state: State, detail: str) -> None:
    seen = Stand().seen("ingestion/0", state=state)
    assert (seen.state, seen.age_s, seen.detail) == ("unknown", None, detail)


def test_a_reader_that_has_not_told_of_its_connections_and_none_at_all_are_told_apart() -> None:
    stand = Stand()
    stand.beat("ingestion/0", {"spool_bytes": 1})
    assert stand.seen("ingestion/0").detail == "ingestion/0 is running, it has not told of its connections yet"
    assert stand.seen().detail == "no ingestion component that could say it"


@pytest.mark.parametrize(
    ("state", "options", "known"),
    [
        ("ok", {}, True),
        ("unreachable", {}, True),  # no feed is a state, and the start is over
        ("unknown", {}, False),
        ("ok", {"simulate": {"rate": None}}, True),
        ("unreachable", {"simulate": {"rate": None}}, False),  # ours comes up last
    ],
)
def test_a_start_is_over_when_its_feed_is_known_and_its_own_one_is_there(
    state: str, options: dict[str, Any], known: bool, tmp_path: Path
) -> None:
    document = {"infrastructure_status": {"iqfeed": {"state": state}}}
    assert feed_is_known(document, Request(Settings(), tmp_path, "", options)) is known
    assert feed_is_known({}, Request(Settings(), tmp_path, "", options))


class OverError(Exception):
    """Three rounds are done."""


class Slow(ServiceWatch):
    """Each round takes `takes` seconds of a clock that stands still otherwise."""

    def __init__(self, takes: float) -> None:
        self.clock, self.takes, self.done = FakeClock(), takes, ""

    async def look(self) -> None:
        if self.done.count("L") == 3:
            raise OverError
        self.done += "L"
        self.clock.advance(self.takes)

    def look_at_feed(self) -> None:
        self.done += "f"

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0.1
        self.done += "."
        self.clock.advance(seconds)


@pytest.mark.parametrize(
    ("takes", "rounds"), [(0.0, "L.f.f.f.f" * 3), (INTERVAL_SECONDS, "L.f" * 3), (4.5, "L.f" * 3), (1.99, "L.f" * 3)]
)
async def test_every_round_ends_with_a_pause_however_long_it_took(
    monkeypatch: pytest.MonkeyPatch, takes: float, rounds: str
) -> None:
    watch = Slow(takes)
    monkeypatch.setattr(service_watch, "time", SimpleNamespace(monotonic=lambda: watch.clock.monotonic_ns() / 1e9))
    monkeypatch.setattr(service_watch, "asyncio", SimpleNamespace(sleep=watch.sleep))
    with pytest.raises(OverError):
        await watch.run()
    assert watch.done == "f" + rounds  # the feed once before all: nobody need be waited for to say where it listens
