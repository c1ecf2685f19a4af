"""Drills: which can be done where, which are refused, whom they may hit, and that a fault never outlives its drill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from config.sections import Settings
from manage.blank_status import blank_status
from manage.commands import drill as command
from manage.commands import status as status_command
from manage.commands.drill import check, drill
from manage.drill_faults import Guarded, Killed, Victim
from manage.drill_guard import fill
from manage.drill_run import FAIL, PASS, UNKNOWN, Run
from manage.drills import DRILLS, Place, chosen_worker, production, unwell, workers
from manage.exits import CliError, Exit

WORKERS = ("ingestion/0", "processing/0", "processing/1", "storage/0", "cache/0")
SLEEPER = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]


def status(feed: str = "simulated", mode: str = "external", **components: str) -> dict[str, Any]:
    """A pipeline that runs; `components`: states that are not."""
    states = {name: components.get(name.replace("/", "_"), "running") for name in (*WORKERS, "simulator/0")}
    services: dict[str, Any] = {
        name: {"state": "ok", "mode": mode, "address": f"127.0.0.1:{port}", "breaker": None}
        for name, port in (("kafka", 9092), ("clickhouse", 8123), ("redis", 6379))
    }
    services["iqfeed"] = {"state": "ok", "mode": feed, "address": "", "addresses": {"admin": "127.0.0.1:9300"}}
    return {
        "status": "running",
        "pid": os.getpid(),
        "components": {name: {"state": state, "pid": 1, "cause": ""} for name, state in states.items()},
        "infrastructure_status": services,
    }


def place(tmp_path: Path, document: dict[str, Any], services: dict[str, Any] | None = None) -> Place:
    (tmp_path / "spool" / "0").mkdir(parents=True, exist_ok=True)
    return Place(document, Settings(), tmp_path, services or {})


def group(kafka: int = 9092) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "services": {
            "kafka": {"state": "running", "pid": 2, "address": f"127.0.0.1:{kafka}"},
            "clickhouse": {"state": "running", "pid": 3, "address": "127.0.0.1:8123"},
        },
    }


@pytest.mark.parametrize(
    ("feed", "mode", "refused"),
    [("simulated", "external", False), ("external", "local", False), ("unknown", "embedded", False),
     ("external", "external", True), ("unknown", "unknown", True)],
)  # fmt: skip
def test_a_production_pipeline_is_refused_without_i_know(tmp_path: Path, feed: str, mode: str, refused: bool) -> None:
    document = status(feed, mode)
    assert bool(production(document)) is refused
    if refused:
        with pytest.raises(CliError, match="may be a production pipeline") as error:
            check(DRILLS["kill-worker"], place(tmp_path, document), i_know=False)
        assert error.value.exit_code == Exit.CANNOT_TELL and "--i-know" in error.value.next_step
    check(DRILLS["kill-worker"], place(tmp_path, document), i_know=True)


def test_what_cannot_be_done_from_outside_is_told_with_its_reason(tmp_path: Path) -> None:
    def reasons(document: dict[str, Any], services: dict[str, Any] | None = None) -> dict[str, str]:
        at = place(tmp_path, document, services)
        return {name: why for name, one in DRILLS.items() if (why := one.hinders(at))}

    external = reasons(status(feed="external", mode="external"))
    assert "kafka is external" in external["broker-down"] and "clickhouse is external" in external["store-slow"]
    assert "not this pipeline's simulator" in external["feed-half-open"]
    assert "shares its file system" in external["disk-full"]
    assert {"kill-worker", "freeze-worker"}.isdisjoint(external)
    assert reasons(status(mode="local"), group()).keys() == {"disk-full"}
    assert "services up" in reasons(status(mode="local"))["broker-down"]
    assert "127.0.0.1:1" in reasons(status(mode="local"), group(kafka=1))["broker-down"]
    assert "in memory" in reasons(status(mode="embedded"))["broker-down"]
    with pytest.raises(CliError, match="broker-down cannot be done here"):
        check(DRILLS["broker-down"], place(tmp_path, status()), i_know=False)


def test_nothing_is_rehearsed_on_a_pipeline_that_is_not_well(tmp_path: Path) -> None:
    ill = status(storage_0="backoff")
    assert unwell(status()) == "" and "storage/0 is backoff" in unwell(ill)
    with pytest.raises(CliError, match="storage/0 is backoff") as error:
        check(DRILLS["kill-worker"], place(tmp_path, ill), i_know=False)
    assert error.value.exit_code == Exit.TRY_LATER
    broken = status()
    broken["infrastructure_status"]["kafka"]["breaker"] = {"state": "open"}
    assert "breaker of kafka is open" in unwell(broken)
    assert unwell({}) == "the pipeline is unknown"


def test_only_workers_can_be_named() -> None:
    one = DRILLS["kill-worker"]
    assert workers(status())[0] == "processing/0" == chosen_worker(one, status(), "")
    assert chosen_worker(one, status(), "cache/0") == "cache/0"
    for wrong in ("simulator/0", "processing/7"):
        with pytest.raises(CliError, match="is no worker") as error:
            chosen_worker(one, status(), wrong)
        assert error.value.exit_code == Exit.USAGE
    with pytest.raises(CliError, match="takes no component"):
        chosen_worker(DRILLS["store-slow"], status(), "cache/0")


def test_a_half_open_feed_must_last_longer_than_the_reader_waits(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="silence_seconds") as error:
        DRILLS["feed-half-open"].fault(place(tmp_path, status()), "", 5.0)
    assert error.value.exit_code == Exit.USAGE


# -- the command


def call(monkeypatch: pytest.MonkeyPatch, document: dict[str, Any], code: Exit, *words: str) -> Result:
    monkeypatch.setattr(status_command, "look", lambda _: (document, code, "not running\n  Try: start"))
    return CliRunner().invoke(drill, [*words, "-o", "json"])


def test_the_list_names_each_drill(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    result = call(monkeypatch, status(feed="external"), Exit.OK, "list", "--state-dir", str(state))
    told = json.loads(result.output)
    assert told["production"] and told["drills"].keys() == DRILLS.keys()
    assert told["drills"]["kill-worker"]["hindered"] is None
    assert told["drills"]["kill-worker"]["components"][0] == "processing/0"
    assert "external" in told["drills"]["broker-down"]["hindered"]
    told = json.loads(call(monkeypatch, blank_status("stopped"), Exit.NOT_RUNNING, "list").output)
    assert told["production"] is None and {one["hindered"] for one in told["drills"].values()} == {"not running"}


def test_run_is_refused_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    def begun(*_: Any) -> None:  # Any: the arguments of a drill
        raise AssertionError("a fault was made")

    monkeypatch.setattr(command, "_run", begun)
    production_like = status(feed="external")
    for document, code, words, exit_code in (
        (production_like, Exit.OK, ("kill-worker",), Exit.CANNOT_TELL),
        (blank_status("stopped"), Exit.NOT_RUNNING, ("kill-worker",), Exit.NEEDS_RUNNING),
        (status(), Exit.OK, ("broker-down",), Exit.FAILED),
    ):
        result = call(monkeypatch, document, code, "run", *words, "--state-dir", str(state))
        assert isinstance(result.exception, CliError) and result.exception.exit_code == exit_code
    mistakes: tuple[tuple[str, ...], ...] = (("no-such",), ("kill-worker", "--for", "1h"))
    for mistake in mistakes:
        assert call(monkeypatch, status(), Exit.OK, "run", *mistake).exit_code == Exit.USAGE


def test_two_drills_do_not_run_at_once(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    state.mkdir()
    with command._alone(state):
        result = call(monkeypatch, status(), Exit.OK, "run", "kill-worker", "--state-dir", str(state))
    assert isinstance(result.exception, CliError) and result.exception.exit_code == Exit.TRY_LATER


# -- faults on real processes


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    process = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def poll(holds: Callable[[], bool]) -> None:
    """Another process has no event to wait on; the test's own limit ends it."""
    while not holds():
        threading.Event().wait(0.02)


def frozen(victim: Victim, seconds: float = 60.0) -> Guarded:
    return Guarded("frozen", seconds, "", "", victim=victim)


def test_only_a_process_of_this_pipeline_is_hit(sleeper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(CliError, match="left alone"):
        Victim(os.getpid(), sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(CliError, match="cannot reach"):
        Victim(sleeper.pid, os.getpid())


def test_a_killed_process_is_over_when_another_serves(sleeper: subprocess.Popen[bytes]) -> None:
    successors: list[int] = []
    victim = Victim(sleeper.pid, os.getpid())
    fault = Killed(victim, "it", "", lambda: bool(successors))
    assert not fault.over()
    fault.begin()
    assert sleeper.wait() == -signal.SIGKILL
    assert victim.ended() and not fault.over()
    successors.append(1)
    assert fault.over()
    fault.end()
    victim.close()


def test_a_frozen_process_goes_on_at_the_end(sleeper: subprocess.Popen[bytes]) -> None:
    victim = Victim(sleeper.pid, os.getpid())
    fault = frozen(victim)
    fault.begin()
    poll(lambda: process_state(sleeper.pid) == "T")
    assert not fault.over()
    fault.end()
    assert process_state(sleeper.pid) != "T" and fault.over()
    victim.close()


def test_a_frozen_process_goes_on_when_the_time_is_over_and_its_guard_leaves_when_it_is_killed(
    sleeper: subprocess.Popen[bytes],
) -> None:
    victim = Victim(sleeper.pid, os.getpid())
    fault = frozen(victim, 0.2)
    fault.begin()
    poll(fault.over)
    assert process_state(sleeper.pid) != "T"
    fault.end()
    second = frozen(victim)
    second.begin()
    sleeper.kill()
    poll(second.over)
    second.end()
    victim.close()


def test_a_slowed_process_stops_and_goes_on(sleeper: subprocess.Popen[bytes]) -> None:
    victim = Victim(sleeper.pid, os.getpid())
    fault = Guarded("slowed", 60.0, "", "", victim=victim)
    fault.begin()
    for wanted in (True, False, True):
        poll(lambda wanted=wanted: (process_state(sleeper.pid) == "T") is wanted)  # type: ignore[misc]
    fault.end()
    assert process_state(sleeper.pid) != "T"
    victim.close()


DRILL_THAT_IS_KILLED = """
import os, sys
from manage.drill_faults import Guarded, Victim
fault = Guarded("frozen", 600, "", "", victim=Victim(int(sys.argv[1]), int(sys.argv[2])))
fault.begin()
print(fault._guard.pid, flush=True)
sys.stdin.read()
"""


def test_a_fault_ends_when_its_drill_is_killed(sleeper: subprocess.Popen[bytes]) -> None:
    words = [sys.executable, "-c", DRILL_THAT_IS_KILLED, str(sleeper.pid), str(os.getpid())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        guard = os.pidfd_open(int(killed.stdout.readline()))
        poll(lambda: process_state(sleeper.pid) == "T")
        killed.kill()
    poll(lambda: process_state(sleeper.pid) != "T")
    os.close(guard)


def test_a_killed_guard_leaves_nothing_frozen(sleeper: subprocess.Popen[bytes]) -> None:
    victim = Victim(sleeper.pid, os.getpid())
    fault = frozen(victim)
    fault.begin()
    poll(lambda: process_state(sleeper.pid) == "T")
    assert fault._guard is not None
    fault._guard.kill()
    fault.end()
    assert process_state(sleeper.pid) != "T"
    victim.close()


def test_a_fault_that_cannot_begin_says_why(tmp_path: Path) -> None:
    fault = Guarded("filled", 1.0, "", "", directory=tmp_path / "none")
    with pytest.raises(CliError, match=r"cannot begin the fault: .*No such file"):
        fault.begin()
    assert fault.over()


SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
from manage.drill_faults import Guarded
from pipeline_orchestrator.flow.spool import Spool
from pipeline_orchestrator.ingestion.journal import Journal
directory = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(directory)], check=True)
"""

FILLED = (
    SMALL_DISK
    + """
fault = Guarded("filled", 600, "", "", directory=directory)
fault.begin()
try:
    (directory / "line").write_bytes(b"x" * 8192)
except OSError as error:
    print(error.strerror)
fault.end()
print((directory / "line").write_bytes(b"x" * 8192), sorted(os.listdir(directory)))
"""
)


SPOOLED = (
    SMALL_DISK
    + """
spool = Spool(directory / "0", 0)
journal = Journal(spool)
journal.open()
lines = b"x\\r\\n" * 1000
spool.append(1, lines, 1000, 1)
fault = Guarded("filled", 600, "", "", directory=directory / "0")
fault.begin()
while spool.append(1, lines, 1000, 1) is not None:
    pass
journal._refuse(1000)
print(journal.full, journal.resume())
fault.end()
print(journal.resume(), journal.full)
journal.close()
"""
)


def on_a_small_disk(program: str, directory: Path) -> list[str]:
    alone = ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mount of one's own")
    words = [*alone, sys.executable, "-c", program, str(directory)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_has_room_again_and_no_file_is_left(tmp_path: Path) -> None:
    assert on_a_small_disk(FILLED, tmp_path) == ["No space left on device", "8192 ['line']"]


def test_a_spool_takes_lines_again_when_its_full_disk_has_room(tmp_path: Path) -> None:
    assert on_a_small_disk(SPOOLED, tmp_path) == ["True False", "True False"]


def test_the_ballast_takes_what_is_left_and_other_errors_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    room = 5_000_000

    def fallocate(_: int, offset: int, size: int) -> None:
        if offset + size > room:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    assert room - 4096 <= fill(0) <= room
    with pytest.raises(OSError, match="Bad file"):
        monkeypatch.undo()
        fill(-1)


# -- the verdict


def judged(tmp_path: Path, drill_name: str, worker: str = "", **known: Any) -> Run:
    run = Run(DRILLS[drill_name], worker, place(tmp_path, status()), Killed.__new__(Killed), print)
    for name, value in known.items():
        setattr(run.outcome, name, value)
    run._judge()
    return run


GOOD: dict[str, Any] = {
    "detected_s": 1.0, "ended_us": 1, "recovered_s": 2.0, "lost": 0, "duplicated": 0, "gap_rows": 0
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "verdict", "why"),
    [
        ({}, PASS, ""),
        ({"detected_s": None}, FAIL, "never told"),
        ({"recovered_s": None}, FAIL, "not served again"),
        ({"lost": 3}, FAIL, "3 lines or rows lost"),
        ({"duplicated": 2}, FAIL, "2 lines duplicated"),
        ({"findings": [{"problem": "behind"}]}, FAIL, "see findings"),
        ({"lost": None, "duplicated": None, "why": ["not all"]}, UNKNOWN, "not all"),
    ],
)
def test_only_what_is_known_to_be_good_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: dict[str, Any], verdict: str, why: str
) -> None:
    monkeypatch.setattr(Killed, "did", "", raising=False)
    outcome = judged(tmp_path, "kill-worker", "processing/0", **{**GOOD, **changed}).outcome
    assert outcome.verdict == verdict and why in "; ".join(outcome.why)


def test_a_feed_that_nobody_read_owes_a_gap_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Killed, "did", "", raising=False)
    for name, worker in (("feed-half-open", ""), ("kill-worker", "ingestion/0")):
        assert judged(tmp_path, name, worker, **GOOD).outcome.verdict == FAIL
        assert judged(tmp_path, name, worker, **{**GOOD, "gap_rows": 2}).outcome.verdict == PASS
