"""start, stop, status, restart against a real detached daemon around a pipeline without components."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from config.paths import PROJECT_ROOT
from config.sections import Settings
from manage import cli, daemonize, instance, starting
from manage.client import Control
from manage.daemon import Request
from manage.exits import CliError
from manage.protocol import StatusReply
from manage.starts import Hold
from manage.terminal import Terminal
from pipeline_orchestrator.supervisor.instance_lock import InstanceLock
from tests.unit.manage.conftest import Run


def start(run: Run, state: Path, *extra: object) -> tuple[int, Any, str]:
    return run("start", "--no-validate", "--state-dir", state, *extra)


def script(state: Path, **keys: object) -> None:
    state.mkdir(parents=True, exist_ok=True)
    (state / "fake.json").write_text(json.dumps(keys))


def pid_of(state: Path) -> int:
    record = instance.read_record(state)
    assert record is not None
    return record.pid


def test_start_status_stop_round(fake_daemon: Path, run: Run) -> None:
    code, answer, err = start(run, fake_daemon)
    assert (code, answer["started"], answer["status"]) == (0, True, "running")
    assert "✓ ingestion/0 running" in err
    code, document, _ = run("status", "--state-dir", fake_daemon)
    assert (code, document["status"], document["pid"]) == (0, "running", answer["pid"])
    StatusReply.model_validate(document)
    code, stopped, _ = run("stop", "--state-dir", fake_daemon)
    assert (code, stopped["was_running"], stopped["killed"]) == (0, True, False)
    assert stopped["components"]["ingestion/0"]["totals"] == {"component_sent_records_total": 41}
    assert not (fake_daemon / "run" / "control.sock").exists()
    assert not instance.locked(fake_daemon) and not instance.left_behind(fake_daemon)


def test_second_start_finds_the_first_and_succeeds(fake_daemon: Path, run: Run) -> None:
    _, first, _ = start(run, fake_daemon)
    code, second, _ = start(run, fake_daemon)
    assert (code, second["already_running"], second["pid"], second["since"]) == (0, True, first["pid"], first["since"])
    assert second["socket"] == str(fake_daemon / "run" / "control.sock")


def test_a_start_that_lost_by_a_moment_waits_until_the_winner_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the winner's lock and its socket nobody answers; equal settings are success all the same."""
    request = Request(Settings(), tmp_path)
    running = {"pid": 7, "since": "2026-03-02T14:30:00Z"}
    answers = iter([None, None, running])

    def lost(*_: object) -> None:
        raise CliError("a pipeline already runs there", code="already_running")

    monkeypatch.setattr(starting, "launch", lost)
    monkeypatch.setattr(starting, "found_running", lambda *_: next(answers))
    winner = InstanceLock.acquire(tmp_path)
    answer = starting.start_detached(Terminal(), request, Hold(), timeout=1, wait=False, stays=True)
    winner.release()
    assert (answer["already_running"], answer["pid"]) == (True, 7)


def test_second_start_with_other_settings_names_the_difference(fake_daemon: Path, run: Run, tmp_path: Path) -> None:
    start(run, fake_daemon)
    other = tmp_path / "other.json"
    other.write_text('{"kafka": {"linger_ms": 77}, "redis": {"password": "s3cret"}}')
    other.chmod(0o600)
    code, document, err = start(run, fake_daemon, "--config", other)
    assert code == 1
    keys = {row["key"] for row in document["error"]["evidence"]["differences"]}
    assert keys == {"kafka.linger_ms", "redis.password"}
    assert "kafka.linger_ms: runs 5, asked for 77" in err and "s3cret" not in err + json.dumps(document)
    code, document, err = start(run, fake_daemon, "--simulate")
    assert code == 1 and "runs with the feed of the settings, asked for the simulator at its usual rate" in err
    assert document["error"]["next_step"] == f"manage_pipeline.py restart --simulate --state-dir {fake_daemon}"


def test_second_start_in_the_foreground_fails(fake_daemon: Path, run: Run) -> None:
    _, first, _ = start(run, fake_daemon)
    code, document, _ = start(run, fake_daemon, "--foreground")
    assert (code, document["error"]["code"]) == (1, "already_running")
    assert document["error"]["evidence"]["pid"] == first["pid"]


@pytest.mark.slow
def test_of_many_starts_at_once_exactly_one_wins(fake_daemon: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from manage import daemonize, cli\n"
        "daemonize.python_command = lambda m, *a: [sys.executable, '-m', 'tests.doubles.fake_pipeline', *a]\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )

    def one(_: int) -> tuple[int, Any]:
        command = [sys.executable, "-c", program, "start", "--no-validate", "--state-dir", str(fake_daemon)]
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
        return done.returncode, json.loads(done.stdout)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(4)))
    assert [code for code, _ in results] == [0] * 4, results
    assert sorted(answer["started"] for _, answer in results) == [False, False, False, True]
    assert {answer["pid"] for _, answer in results} == {pid_of(fake_daemon)}


def test_stop_of_a_stopped_pipeline_succeeds(run: Run, state: Path) -> None:
    code, document, _ = run("stop", "--state-dir", state)
    assert (code, document["was_running"]) == (0, False)
    assert document["next_step"] == f"manage_pipeline.py start --state-dir {state}"


def test_killed_daemon_is_reported_and_the_next_start_works(
    fake_daemon: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    _, first, _ = start(run, fake_daemon)
    end(fake_daemon, signal.SIGKILL)
    code, document, err = run("status", "--state-dir", fake_daemon)
    assert (code, document["status"], document["components"]) == (1, "stopped", {})
    assert "not running, state left behind" in err and str(first["pid"]) in err
    died = document["died"]
    assert StatusReply.model_validate(document).status == "stopped"
    assert died["pid"] == first["pid"] and 0 <= died["last_seen_age_s"] < 60
    assert first["since"] <= died["since"] and died["last_seen"] <= document["generated_at"]
    assert cli.main(["status", "-o", "table", "--state-dir", str(fake_daemon)]) == 1
    band = capfd.readouterr().out.splitlines()[0]
    down = f"✗ Market pipeline  DOWN - the daemon (pid {first['pid']}) died without stopping, last seen "
    assert band.startswith(down) and band.endswith("s ago")
    assert run("monitor", "--duration", 5, "--state-dir", fake_daemon)[0] == 7
    code, second, _ = start(run, fake_daemon)
    assert code == 0 and second["pid"] != first["pid"]
    assert run("status", "--state-dir", fake_daemon)[1]["died"] is None
    assert "stale_socket_removed" in (fake_daemon / "logs" / "pipeline_orchestrator.log").read_text()


def test_stop_clears_what_a_killed_daemon_left(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon)
    end(fake_daemon, signal.SIGKILL)
    code, document, _ = run("stop", "--state-dir", fake_daemon)
    assert (code, document["left_behind_removed"]) == (0, True)
    code, document, _ = run("status", "--state-dir", fake_daemon)
    assert (code, document["status"], document["died"]) == (3, "stopped", None)


def end(state: Path, number: int) -> None:
    record = instance.read_record(state)
    assert record is not None
    watched = instance.Watched(record)
    os.kill(record.pid, number)
    assert watched.wait(10)
    watched.close()


def test_sigterm_drains_and_leaves_nothing(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon)
    end(fake_daemon, signal.SIGTERM)
    assert run("status", "--state-dir", fake_daemon)[0] == 3
    log = (fake_daemon / "logs" / "pipeline_orchestrator.log").read_text()
    assert "daemon signal name=SIGTERM" in log and "drain_cut_short" not in log


def test_second_sigterm_cuts_the_drain_short(fake_daemon: Path, run: Run) -> None:
    script(fake_daemon, hold_stop=True)
    start(run, fake_daemon)
    os.kill(pid_of(fake_daemon), signal.SIGTERM)
    control = Control(instance.socket_of(fake_daemon))
    while control.get("/v1/status")["status"] != "stopping":
        pass
    end(fake_daemon, signal.SIGTERM)
    assert "drain_cut_short" in (fake_daemon / "logs" / "pipeline_orchestrator.log").read_text()


def test_hangup_says_that_reload_is_not_there(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon)
    os.kill(pid_of(fake_daemon), signal.SIGHUP)
    assert Control(instance.socket_of(fake_daemon)).get("/v1/status")["status"] == "running"
    assert "reload_not_available" in (fake_daemon / "logs" / "pipeline_orchestrator.log").read_text()


def test_start_waits_for_the_end_of_a_stopping_pipeline(fake_daemon: Path, run: Run) -> None:
    script(fake_daemon, hold_stop=True)
    _, first, _ = start(run, fake_daemon)
    os.kill(first["pid"], signal.SIGTERM)
    control = Control(instance.socket_of(fake_daemon))
    while control.get("/v1/status")["status"] != "stopping":
        pass
    script(fake_daemon)
    timer = threading.Timer(0.5, os.kill, (first["pid"], signal.SIGTERM))
    timer.start()
    code, second, err = start(run, fake_daemon)
    timer.join()
    assert (code, second["started"]) == (0, True) and second["pid"] != first["pid"]
    assert "waiting for its end" in err


def test_second_start_waits_until_the_first_is_ready(fake_daemon: Path, run: Run) -> None:
    script(fake_daemon, hold_start=True)
    start(run, fake_daemon, "--no-wait")
    code, document, _ = start(run, fake_daemon, "--timeout", "300ms")
    assert (code, document["error"]["code"]) == (75, "timeout")
    assert run("status", "--state-dir", fake_daemon)[1]["status"] == "starting", "what it did not start it leaves"


def test_stop_force_ends_a_drain_that_hangs(fake_daemon: Path, run: Run) -> None:
    script(fake_daemon, hold_stop=True)
    start(run, fake_daemon)
    code, document, _ = run("stop", "--force", "--state-dir", fake_daemon)
    assert (code, document["stopped"], document["killed"]) == (0, True, False)


def test_stop_force_kills_a_daemon_that_does_not_answer(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon)
    os.kill(pid_of(fake_daemon), signal.SIGSTOP)
    code, document, err = run("status", "--state-dir", fake_daemon)
    assert (code, document["status"]) == (4, "unknown") and "for 2 s" in err
    code, document, _ = run("stop", "--state-dir", fake_daemon)
    assert (code, document["error"]["code"]) == (75, "silent")
    assert "it has the request, and stops by itself should it ever wake up" in document["error"]["message"]
    assert document["error"]["next_step"] == f"manage_pipeline.py stop --force --state-dir {fake_daemon}"
    code, document, _ = run("stop", "--force", "--state-dir", fake_daemon)
    assert (code, document["killed"]) == (0, True)
    assert run("status", "--state-dir", fake_daemon)[0] == 3


def test_stop_that_a_frozen_daemon_did_not_answer_happens_when_it_wakes(fake_daemon: Path, run: Run) -> None:
    start(run, fake_daemon)
    pid = pid_of(fake_daemon)
    os.kill(pid, signal.SIGSTOP)
    assert run("stop", "--state-dir", fake_daemon)[0] == 75
    end(fake_daemon, signal.SIGCONT)
    assert run("status", "--state-dir", fake_daemon)[0] == 3, "as the message said"


def test_stopped_component_names_a_command(fake_daemon: Path, run: Run) -> None:
    script(fake_daemon, shown="stopped")
    start(run, fake_daemon)
    component = run("status", "--state-dir", fake_daemon)[1]["components"]["ingestion/0"]
    assert component["next_step"] == f"manage_pipeline.py restart --state-dir {fake_daemon}"


def test_stop_during_start_works(fake_daemon: Path, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    script(fake_daemon, hold_start=True)
    answers: list[tuple[int, Any, str]] = []
    code, answer, _ = start(run, fake_daemon, "--no-wait")
    assert (code, answer["status"]) == (0, "starting")
    waiter = threading.Thread(target=lambda: answers.append((cli.main(waiting), None, "")))
    waiting = ["start", "--no-validate", "--state-dir", str(fake_daemon)]
    code, document, _ = run("status", "--state-dir", fake_daemon)
    assert (code, document["status"]) == (0, "starting")
    code, document, _ = run("stop", "--state-dir", fake_daemon)
    assert (code, document["stopped"]) == (0, True)
    assert not waiter.is_alive()


def test_start_told_to_stop_meanwhile_says_so(fake_daemon: Path, run: Run) -> None:
    script(fake_daemon, hold_start=True)
    control: list[Any] = []

    def say(name: str, component: Any) -> None:
        if not control:
            control.append(Control(instance.socket_of(fake_daemon)).post("/v1/stop", {}))

    start(run, fake_daemon, "--no-wait")
    with pytest.raises(CliError) as caught:
        daemonize.await_ready(Request(Settings(), fake_daemon), 20, say)
    assert caught.value.code in {"stopped", "ended"}


def test_failing_start_names_its_last_cause(fake_daemon: Path, run: Run) -> None:
    script(fake_daemon, fail="the moon is full")
    code, document, err = start(run, fake_daemon)
    assert code == 1 and document["error"]["code"] in {"ended", "daemon_died"}
    assert "the moon is full" in err
    assert not instance.locked(fake_daemon)


def test_start_refuses_a_foreign_socket_and_names_it(fake_daemon: Path, run: Run) -> None:
    path = fake_daemon / "run" / "control.sock"
    path.parent.mkdir(parents=True)
    path.symlink_to("nowhere")
    code, document, _ = start(run, fake_daemon)
    assert (code, document["error"]["code"]) == (1, "socket")
    assert "symbolic link; refused" in document["error"]["message"] and path.is_symlink()


def test_restart_keeps_config_and_options(fake_daemon: Path, run: Run, tmp_path: Path) -> None:
    config = tmp_path / "own.json"
    config.write_text('{"symbols": ["NVDA"]}')
    _, first, _ = start(run, fake_daemon, "--config", config, "--simulate", "--rate", 50)
    code, again, _ = run("restart", "--no-validate", "--state-dir", fake_daemon)
    assert code == 0 and again["pid"] != first["pid"]
    record = instance.read_record(fake_daemon)
    assert record is not None and (record.config, record.options["simulate"]) == (str(config), {"rate": 50.0})
    assert run("status", "--state-dir", fake_daemon)[1]["symbols"] == ["NVDA"]


def test_restart_with_bad_settings_stops_nothing(fake_daemon: Path, run: Run, tmp_path: Path) -> None:
    _, first, _ = start(run, fake_daemon)
    bad = tmp_path / "bad.json"
    bad.write_text('{"symbol": []}')
    code, document, _ = run("restart", "--state-dir", fake_daemon, "--config", bad)
    assert (code, document["error"]["code"]) == (78, "settings")
    assert pid_of(fake_daemon) == first["pid"]


def test_restart_of_a_stopped_pipeline_starts_it(fake_daemon: Path, run: Run) -> None:
    code, answer, _ = run("restart", "--no-validate", "--state-dir", fake_daemon)
    assert (code, answer["started"]) == (0, True)


def test_start_without_services_fails_with_the_next_command(
    fake_daemon: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIPELINE_KAFKA__BOOTSTRAP_SERVERS", f"127.0.0.1:{probe.getsockname()[1]}")
        code, document, err = run("start", "--state-dir", fake_daemon)
    assert code == document["error"]["exit_code"] == 69
    assert "✗ cannot start: kafka: no answer from 127.0.0.1:" in err
    assert "  Try: manage_pipeline.py services up" in err
    assert document["error"]["evidence"]["report"].startswith(str(fake_daemon / "logs"))
    assert not (fake_daemon / "lock").exists()


def test_secrets_reach_the_daemon_in_no_readable_place(
    fake_daemon: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_REDIS__PASSWORD", "canary-s3cret")
    start(run, fake_daemon)
    proc = Path(f"/proc/{pid_of(fake_daemon)}")
    assert b"canary-s3cret" not in (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
    for path in fake_daemon.rglob("*"):
        if path.is_file():
            assert b"canary-s3cret" not in path.read_bytes(), path


def test_a_dead_daemon_whose_record_is_damaged_is_still_a_dead_daemon(
    state: Path, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    state.mkdir()
    lock = state / "lock"
    lock.write_text("{")
    os.utime(lock, (1_700_000_000.25, 1_700_000_000.25))
    code, document, _ = run("status", "--state-dir", state)
    assert code == 1
    died = document["died"]
    assert (died["pid"], died["since"], died["last_seen"]) == (None, None, "2023-11-14T22:13:20.250Z")
    assert cli.main(["status", "-o", "table", "--state-dir", str(state)]) == 1
    assert "DOWN - the daemon died without stopping, last seen " in capfd.readouterr().out
