"""Recordings as the feed of a whole pipeline: what `start` and `demo` make of `--replay`."""

from __future__ import annotations

import json
from datetime import datetime
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
from manage.exits import CliError, Exit
from manage.feed_player import FeedPlayer
from manage.live_replay import recorded_symbols
from manage.replay_feed import replayed
from tests.doubles.embedded import free_port
from tests.unit.ingestion.harness import Running
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


def test_a_damaged_recording_played_to_the_running_pipeline_is_no_wrong_usage(recording: Path) -> None:
    """Exit code 1, as `replay -o` has; no option is named that was not typed."""
    assert recorded_symbols(Settings(), [recording], print) == ["AAPL", "MSFT"]
    recording.write_bytes(recording.read_bytes()[:-40])
    with pytest.raises(CliError, match=r"day.rec.zst is no recording, or one that is not whole") as caught:
        recorded_symbols(Settings(), [recording], print)
    error = caught.value
    assert (error.exit_code, error.code) == (Exit.FAILED, "cannot_replay") and "--replay" not in str(error)
    assert error.next_step == "manage_pipeline.py replay --help"


async def test_the_market_time_of_a_playing_begins_with_the_first_t_that_was_recorded(tmp_path: Path) -> None:
    life(tmp_path / "source", 0, 0, 3)  # T of noon and of the two seconds after it
    recording = exported(tmp_path / "source", tmp_path / "day.rec")
    level1, level2, lookup, admin = (free_port() for _ in range(4))
    config = SimulatorConfig(
        level1_port=level1, level2_port=level2, lookup_port=lookup, admin_port=admin, replay=(str(recording),),
        speed=None, hold=2,
    )  # fmt: skip
    player = FeedPlayer(config, lambda played: None)
    await player.open()
    async with Running(None, tmp_path / "played", ("MSFT",), level1_port=level1, port=level2):
        played = await player.play()
    assert (played.outcome, played.lines) == ("finished", played.total)
    assert played.market_from == "2021-06-04 12:00:00"
    assert played.market is not None and played.market >= "2021-06-04 12:00:02"
    noon, end = (datetime.fromisoformat(text) for text in (played.market_from, played.market))
    assert played.market_seconds == (end - noon).total_seconds()


@pytest.mark.parametrize(("speed", "words"), [("1x", ""), ("10x", "--speed 10x ")])
def test_the_command_that_swaps_a_replay_names_its_file_and_speed(tmp_path: Path, speed: str, words: str) -> None:
    request = Request(Settings(), tmp_path, options={"simulate": {"replay": ["x"], "speed": speed, "symbols": ["A"]}})
    asked = f"manage_pipeline.py restart --simulate --replay x {words}--state-dir {tmp_path}"
    assert way_there(request, {}, [{"key": "option simulate"}]) == asked


@pytest.mark.parametrize("words", [[], ["--simulate", "--rate", "5"]])
def test_start_takes_a_replay_for_a_simulated_feed_only(tmp_path: Path, words: list[str]) -> None:
    result = CliRunner().invoke(start, [*words, "--replay", __file__, "--state-dir", str(tmp_path)])
    assert result.exit_code == 2 and "--replay goes with --simulate, and without --rate" in result.stderr
