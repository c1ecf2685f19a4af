"""How a demo ends while its last lines are on their way: what is waited for, Ctrl-C once, Ctrl-C twice."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from manage import demo
from manage.composition import SupervisedPipeline
from manage.demo import DemoPipeline
from manage.demo_session import DemoSession, waiting_line
from manage.starts import Hold
from manage.stations import Account, Logged, Spooled, Stored, in_thread
from manage.terminal import Terminal
from pipeline_orchestrator.orchestrator import PipelineOrchestrator

BEHIND = Account(
    sent=120,
    spooled=Spooled(lines=100, clock=10, facts=5),
    logged=Logged(distinct=70, clock=9),
    stored=Stored(events=40, distinct=40, features=30),
    cached=None,
)
Session = Callable[[float | None], DemoSession]


class NoSimulator:
    def stop_component(self, name: str) -> None:
        raise KeyError(name)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Session:
    """A demo without components that never settles; its account is BEHIND."""

    async def nothing(*_: object) -> None:
        return

    async def account(*_: object) -> Account:
        return BEHIND

    async def count(_: object, query: str) -> int:
        return {"SELECT count() + (SELECT count() FROM dlq) FROM events": 40, demo.FEATURES_DUE: 39}.get(query, 30)

    for name in ("start", "stop", "wait"):
        monkeypatch.setattr(SupervisedPipeline, name, nothing)
    monkeypatch.setattr(DemoPipeline, "_count", count)
    monkeypatch.setattr(demo, "spool_bytes", lambda _: 1)
    monkeypatch.setattr(demo, "count_spool", lambda _: BEHIND.spooled)
    monkeypatch.setattr(demo, "take_account", account)
    monkeypatch.setattr(PipelineOrchestrator, "supervisor", NoSimulator())
    monkeypatch.setattr("manage.run_daemon.confine", lambda _: None)
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(tmp_path / "temporary"))
    monkeypatch.setattr(SupervisedPipeline, "kill", lambda self: setattr(self, "_forced", True))
    return lambda duration: DemoSession(Terminal(output_format="json"), {"rate": "5"}, 2, duration, None)


def interrupt_when(monkeypatch: pytest.MonkeyPatch, *events: str) -> list[str]:
    """A Ctrl-C at the first of each of these events; the list of all events shown."""
    seen: list[str] = []
    left = list(events)
    shown = DemoSession._show

    def show(self: DemoSession, event: str, document: dict[str, Any]) -> None:
        seen.append(event)
        shown(self, event, document)
        if left and event == left[0]:
            left.pop(0)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(DemoSession, "_show", show)
    return seen


def test_ctrl_c_while_the_last_lines_are_on_their_way_shows_the_counts_so_far(
    session: Session, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen = interrupt_when(monkeypatch, "settling")
    assert session(0.01).run(Hold()) == 130
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["differences"] == ["cut short by Ctrl-C while 75 lines were on their way"]
    assert document["account"]["sent"] == 120 and document["account"]["stored"]["distinct"] == 40
    assert "counting what is at each station now" in err
    assert seen[-1] == "account"
    assert document["state_dir"] is None and not (tmp_path / "temporary").exists()


def test_a_demo_ended_by_ctrl_c_is_cut_short_by_the_next(
    session: Session, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    interrupt_when(monkeypatch, "ready", "settling")
    assert session(None).run(Hold()) == 130
    assert json.loads(capfd.readouterr().out)["account"] is not None


def test_a_second_ctrl_c_ends_at_once(
    session: Session, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def never(*_: object) -> Account:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(demo, "take_account", never)
    interrupt_when(monkeypatch, "settling")
    assert session(0.01).run(Hold()) == 130
    document = json.loads(capfd.readouterr().out)
    assert document["account"] is None and document["differences"] == ["no account was taken: cut short"]


async def test_a_count_that_hangs_holds_nobody_up() -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await in_thread(release.wait)
    release.set()
    assert await in_thread(lambda: 7) == 7
    failing: Awaitable[Any] = in_thread(lambda: {"x": 1}["y"])
    with pytest.raises(KeyError):
        await failing


def test_what_is_waited_for_is_named_by_station() -> None:
    behind = {"kafka": 1200, "clickhouse": 34567, "features": 0, "redis": None}
    line = waiting_line({"seconds": 12.3, "behind": behind})
    assert line == "draining 12 s  behind: Kafka 1,200 lines, ClickHouse 34,567 lines  (Ctrl-C: the counts so far)"
    nothing = {"kafka": None, "clickhouse": None, "features": 0, "redis": 3}
    assert "behind: Redis 3 symbols, ClickHouse unknown" in waiting_line({"seconds": 1.0, "behind": nothing})
    assert "comparing the stations" in waiting_line({"seconds": 1.0, "behind": dict.fromkeys(behind, 0)})


def test_a_pipe_hears_every_ten_seconds_what_is_waited_for(
    session: Session, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = session(None)
    for seconds in (0.0, 1.0, 5.0, 10.9, 11.1):
        said._show("settling", {"seconds": seconds, "behind": {"kafka": 7, "clickhouse": 9, "features": 0, "redis": 0}})
    err = capfd.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in err] == ["draining 1 s", "draining 11 s"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "cut short by Ctrl-C while 75 lines were on their way"),
        ({"sent": None}, "cut short by Ctrl-C while 55 lines were on their way"),
        ({"spooled": None}, "cut short by Ctrl-C; how many lines were on their way is unknown"),
        (
            {"logged": Logged(forgotten=9)},
            "75 lines were on their way (or among the 9 that the embedded broker dropped)",
        ),
        ({"stored": Stored(events=115, distinct=115)}, "cut short by Ctrl-C: every line is in ClickHouse"),
        ({"stored": Stored(events=41, distinct=40)}, "1 rows stand twice in ClickHouse"),
    ],
)
def test_an_account_that_was_not_waited_for_names_what_was_on_its_way(parts: dict[str, Any], said: str) -> None:
    account = Account(**{**{name: getattr(BEHIND, name) for name in BEHIND.__slots__}, **parts})
    assert said in " | ".join(account.cut_short())
