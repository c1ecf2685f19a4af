"""Recordings as the feed of a whole pipeline: what `start` and `demo` make of `--replay`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from config.sections import Settings
from infrastructure.simulator.check_files import REFUSED, main
from infrastructure.simulator.config import SimulatorConfig
from infrastructure.simulator.recorded_market import RecordedMarket
from manage.asked import way_there
from manage.commands.start import start
from manage.composition import effective_settings, simulator_spec
from manage.daemon import Request
from manage.replay_feed import replayed
from tests.unit.recording.spools import life
from tests.unit.recording.test_feed import exported


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    life(tmp_path / "source", 0, 0, 3)
    life(tmp_path / "source", 1, 0, 3)
    return exported(tmp_path / "source", tmp_path / "day.rec.zst")


def test_the_pipeline_watches_the_symbols_of_the_recording(recording: Path, tmp_path: Path) -> None:
    wished = replayed(str(recording), "10x")
    assert wished == {"replay": [str(recording)], "speed": "10x", "symbols": ["AAPL", "MSFT"]}
    settings = effective_settings(
        Request(Settings(symbols=("TSLA",)), tmp_path / "state", options={"simulate": wished})
    )
    assert settings.symbols == ("AAPL", "MSFT")
    config = SimulatorConfig.from_mapping(json.loads(simulator_spec(settings, wished, []).config))
    assert (config.recording, config.speed, config.held) == (recording, 10.0, 2)
    assert isinstance(config.market(), RecordedMarket)


def test_a_damaged_recording_is_refused_before_a_pipeline_starts(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recording)]) == 0 and capsys.readouterr().out == "AAPL\nMSFT\n"
    recording.write_bytes(recording.read_bytes()[:-40])
    assert main([str(recording)]) == REFUSED
    assert "not whole" in capsys.readouterr().err


def test_a_running_replay_is_not_swapped_for_another_by_a_command_that_cannot(tmp_path: Path) -> None:
    request = Request(Settings(), tmp_path, options={"simulate": {"replay": ["x"], "speed": "1x", "symbols": ["A"]}})
    assert way_there(request, {}, [{"key": "option simulate"}]) == f"manage_pipeline.py stop --state-dir {tmp_path}"


@pytest.mark.parametrize("words", [[], ["--simulate", "--rate", "5"]])
def test_start_takes_a_replay_for_a_simulated_feed_only(tmp_path: Path, words: list[str]) -> None:
    result = CliRunner().invoke(start, [*words, "--replay", __file__, "--state-dir", str(tmp_path)])
    assert result.exit_code == 2 and "--replay goes with --simulate, and without --rate" in result.stderr
