"""Which feed a pipeline runs with, said by `start` in words and changed by `restart`; what the demo counts of it."""

from pathlib import Path
from typing import Any

import pytest

from config.settings import settings_from
from manage import instance
from manage.daemon import Request
from manage.demo import DemoPipeline
from pipeline_orchestrator.orchestrator import log_writer
from pipeline_orchestrator.supervisor.instance_lock import InstanceLock
from tests.unit.manage.conftest import Run
from tests.unit.manage.test_lifecycle import start


def test_start_beside_another_feed_says_it_in_words_and_names_the_way_there(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon, "--simulate", "--rate", 500)
    code, document, err = start(run, fake_daemon)
    assert code == 1 and "runs with the simulator at 500 messages/s, asked for the feed of the settings" in err
    assert document["error"]["next_step"] == f"manage_pipeline.py restart --no-simulate --state-dir {fake_daemon}"
    code, document, err = start(run, fake_daemon, "--simulate", "--rate", 20)
    assert code == 1 and "asked for the simulator at 20 messages/s" in err and "{" not in err
    step = f"manage_pipeline.py restart --simulate --rate 20 --state-dir {fake_daemon}"
    assert document["error"]["next_step"] == step


def test_restart_takes_another_feed(fake_daemon: Path, run: Run) -> None:
    def feed(*options: object) -> tuple[int, Any]:
        code, _, _ = run("restart", "--no-validate", "--state-dir", fake_daemon, *options)
        record = instance.read_record(fake_daemon)
        return code, record.options.get("simulate") if record is not None else None

    start(run, fake_daemon)
    assert run("restart", "--rate", 5, "--state-dir", fake_daemon)[0] == 2, "no simulated feed runs"
    assert feed("--simulate", "--rate", 500) == (0, {"rate": 500.0})
    assert feed("--rate", 20) == (0, {"rate": 20.0})
    assert feed() == (0, {"rate": 20.0})
    assert feed("--simulate") == (0, {"rate": None})
    assert feed("--no-simulate") == (0, None)
    assert run("restart", "--no-simulate", "--rate", 5, "--state-dir", fake_daemon)[0] == 2


async def test_progress_after_the_first_trade_counts_what_the_store_holds(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_from({"services": {"mode": "embedded"}})
    seen: list[str] = []
    lock = InstanceLock.acquire(state)
    log = log_writer(settings, state)
    pipeline = DemoPipeline(
        Request(settings, state, options={"simulate": {"rate": "5"}}),
        log,
        lock,
        show=lambda event, _: seen.append(f"{event} {pipeline.totals()['stored_total']}"),
    )

    async def count(query: str) -> int:
        return 3 if "trade" in query else 41

    monkeypatch.setattr(pipeline, "_count", count)
    assert pipeline.totals()["stored_total"] is None
    await pipeline._time_first_trade()
    assert seen == ["first_trade 41"]
    log.close()
    lock.release()
