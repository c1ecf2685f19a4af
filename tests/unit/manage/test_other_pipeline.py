"""A start beside another pipeline on the same database ends before anything was started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.sections import LoggingConfig, Settings
from manage import starting
from manage.daemon import Request
from manage.exits import CliError, Exit
from manage.terminal import Terminal
from pipeline_orchestrator.sole_writer import Holder
from validate.runner import Validation


def test_the_refusal_names_the_other_one_and_says_to_try_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def all_passed(*_: Any) -> Validation:
        return Validation((), 0.0, 0.0)

    async def refused(settings: Settings, state: Path, _: object) -> None:
        assert state == tmp_path / "mine"
        raise Holder("far", 77, "/srv/other", 21.0).refusal(settings.clickhouse.database)

    monkeypatch.setattr(starting, "run_checks", all_passed)
    monkeypatch.setattr(starting, "require_sole_writer", refused)
    settings = Settings(logging=LoggingConfig(directory=str(tmp_path / "logs")))
    with pytest.raises(CliError) as told:
        starting.validate(Terminal(), Request(settings, tmp_path / "mine"))
    assert told.value.exit_code is Exit.TRY_LATER
    assert str(told.value) == (
        "cannot start: database market_data is written to by the pipeline of far, storage pid 77,"
        " state directory /srv/other"
    )
    assert told.value.next_step.startswith("manage_pipeline.py stop --state-dir /srv/other")
