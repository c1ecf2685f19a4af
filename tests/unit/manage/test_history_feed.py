"""`history` beside a running pipeline: the Lookup port of its simulated feed, or of the settings, and which is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manage import instance
from manage.cli import main
from tests.unit.manage.test_history import MINUTE, TICKS, run, serving

ABSENT = "127.0.0.1:1"  # nothing listens on port 1


def runs(state: Path, *options: str, lookup: str = "") -> None:
    """Start a pipeline there, whose status tells where its feed's Lookup port is."""
    state.mkdir(parents=True, exist_ok=True)
    (state / "fake.json").write_text(json.dumps({"feed": {"lookup": lookup} if lookup else {}}))
    assert main(["start", "--no-validate", "--state-dir", str(state), *options]) == 0


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings' Lookup port is one where nobody listens."""
    monkeypatch.setenv("PIPELINE_IQFEED__LOOKUP_PORT", "1")


def test_a_simulated_pipeline_is_asked_at_its_own_lookup_port(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fake_daemon: Path
) -> None:
    with serving(monkeypatch, TICKS) as server:
        runs(fake_daemon, "--simulate", lookup=f"127.0.0.1:{server.port}")
        elsewhere(monkeypatch)
        capfd.readouterr()
        code, out, err = run(capfd, "AAPL", *MINUTE, "--state-dir", str(fake_daemon))
        assert (code, len(out.splitlines())) == (0, 2), err
        assert f"asking the simulator of the running pipeline at 127.0.0.1:{server.port}" in err
        monkeypatch.setenv("PIPELINE_STATE_DIR", str(fake_daemon))
        assert run(capfd, "AAPL", *MINUTE)[0] == 0
        code, _, err = run(capfd, "AAPL", *MINUTE, "--no-simulate")
        assert (code, "asking the simulator" in err) == (69, False)
        assert "no Lookup port at 127.0.0.1:1" in err


@pytest.mark.parametrize("started", [True, False])
def test_without_a_simulated_pipeline_the_settings_are_asked(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fake_daemon: Path, started: bool
) -> None:
    if started:
        runs(fake_daemon, lookup=ABSENT)
        capfd.readouterr()
    with serving(monkeypatch, TICKS):
        code, out, err = run(capfd, "AAPL", *MINUTE, "--state-dir", str(fake_daemon))
    assert (code, len(out.splitlines())) == (0, 2), err
    assert "asking" not in err


def test_a_simulated_pipeline_that_ended_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fake_daemon: Path
) -> None:
    runs(fake_daemon, "--simulate", lookup=ABSENT)
    record = instance.read_record(fake_daemon)
    assert record is not None
    watched = instance.Watched(record)
    watched.kill()
    assert watched.wait(20)
    watched.close()
    capfd.readouterr()
    with serving(monkeypatch, TICKS):
        code, _, err = run(capfd, "AAPL", *MINUTE, "--state-dir", str(fake_daemon))
    assert (code, "asking" in err) == (0, False)


def test_a_simulator_that_does_not_listen_leads_to_status_and_not_to_iqconnect(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fake_daemon: Path
) -> None:
    runs(fake_daemon, "--simulate", lookup=ABSENT)
    capfd.readouterr()
    code, _, err = run(capfd, "AAPL", *MINUTE, "--state-dir", str(fake_daemon), "-o", "csv")
    assert code == 69
    assert f"Try: manage_pipeline.py status --state-dir {fake_daemon}" in err and "IQConnect" not in err


def test_where_the_simulator_cannot_be_told_the_settings_are_not_asked_instead(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fake_daemon: Path
) -> None:
    runs(fake_daemon, "--simulate")
    capfd.readouterr()
    with serving(monkeypatch, TICKS) as server:
        code, out, err = run(capfd, "AAPL", *MINUTE, "--state-dir", str(fake_daemon), "-o", "csv")
    assert (code, out, server.requests) == (75, "", [])
    assert "does not tell where its simulator listens" in err
