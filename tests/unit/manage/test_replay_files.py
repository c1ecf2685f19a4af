"""`demo --replay` has the recording read by a process of its own: the supervisor stays small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from config.paths import PROJECT_ROOT
from config.sections import Settings
from manage import cli, replay_feed
from manage.composition import simulator_spec
from manage.exits import Exit

PROGRAM = """
import sys
from manage import cli, demo_session, prepared
prepared.kernels = prepared.redis_server = lambda *_: None
class Session:
    def __init__(self, *_): pass
    def run(self, _): return 41
demo_session.DemoSession = Session
print(cli.main(["demo", "--speed", "10x", "--replay", *sys.argv[1:]]), sorted({"numba", "numpy"} & set(sys.modules)))
"""


def test_neither_a_good_nor_a_bad_recording_is_loaded_into_the_supervisor(tmp_path: Path) -> None:
    recording = tmp_path / "AAA_2012-06-21_0_0_message_1.csv"
    recording.write_text("34200.1,1,10,5,1000000,1\n")

    def run() -> list[str]:
        command = [sys.executable, "-c", PROGRAM, str(recording), "-o", "table"]
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
        return [done.stdout.splitlines()[-1], *done.stderr.splitlines()]

    book = recording.with_name("AAA_2012-06-21_0_0_orderbook_1.csv")
    help_step = "  Try: manage_pipeline.py demo --help"
    why = f"{book}: No such file or directory"
    assert run() == ["2 []", f"✗ Invalid value for --replay: {why}", help_step]
    book.write_text("1000100,3,1000000,5\n")
    assert run() == ["41 []"]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Message file of a pair: an order added and partly taken at 100.00, before one that was there already."""
    path = tmp_path / "ABC_2024-03-07_message_1.csv"
    path.write_text("34200,1,11,10,1000000,1\n34201,4,7,15,1000000,1\n34203,2,11,4,1000000,1\n")
    book = path.with_name("ABC_2024-03-07_orderbook_1.csv")
    book.write_text("1000100,50,1000000,30\n1000100,50,1000000,15\n1000100,50,1000000,11\n")
    return path


def test_a_pair_by_order_has_places_in_queues_and_the_vendors_levels(
    pair: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = ["--queue", "ABC:11", "--queue", "ABC:7"]
    assert cli.main(["replay", str(pair), "--depth", "orders", *asked, "-o", str(out), "--json"]) == 0
    first, second = json.loads(capfd.readouterr().out)["queue"]
    # 11 shares are left at 100.00: 6 of the order, and 5 of which the pair tells nothing, which came before it.
    place = [first[name] for name in ("price", "size", "orders_ahead", "size_ahead", "size_at_price")]
    assert place == [100_000_000, 6, 1, 5, 11]
    assert not second["found"], "it was taken whole"
    rows = pq.read_table(out / "lobster_books.parquet").to_pylist()
    assert [row["bid_sizes"] for row in rows] == [[30], [15], [11]]
    kinds = set(pq.read_table(out / "events.parquet").column("kind").to_pylist())
    assert {"order_add", "order_change", "order_delete"} <= kinds and not kinds & {"level_set", "level_delete"}


def test_what_has_no_orders_is_refused_before_anything_is_read(
    pair: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    out = ["-o", str(tmp_path / "out"), "--json"]
    for arguments, why, step in (
        ([str(pair), "--queue", "ABC:11"], "replayed by price level", "replay --depth orders"),
        ([str(spool), "--depth", "orders"], "the depth that was read", "replay without --depth"),
    ):
        assert cli.main(["replay", *arguments, *out]) == Exit.USAGE
        error = json.loads(capfd.readouterr().out)["error"]
        assert why in error["message"] and error["next_step"] == step
    assert not (tmp_path / "out").exists()


def test_orders_asked_for_in_the_settings_are_kept_by_the_simulated_replay(tmp_path: Path) -> None:
    def depth(**feed: object) -> str:
        settings = Settings.model_validate({"symbols": ["ABC"], "iqfeed": feed})
        return str(json.loads(simulator_spec(settings, {"replay": ["x"]}, []).config)["depth"])

    assert [depth(), depth(depth="orders"), depth(depth_by_symbol={"ABC": "orders"})] == ["levels", "orders", "orders"]
    assert depth(depth="orders", depth_by_symbol={"ABC": "levels"}) == "levels"


def test_a_check_that_breaks_off_is_no_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("manage.prepared.redis_server", lambda: None)
    program = "import sys; sys.exit('first\\nout of memory')"
    monkeypatch.setattr(
        "pipeline_orchestrator.supervisor.child_environment.python_command",
        lambda *_: [sys.executable, "-c", program],
    )
    assert cli.main(["demo", "--replay", __file__]) == 1
    out, err = capfd.readouterr()
    assert "exit code 1: out of memory" in err
    assert json.loads(out)["error"]["code"] == "replay_check"


def test_ctrl_c_during_the_check_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)"
    monkeypatch.setattr(
        "pipeline_orchestrator.supervisor.child_environment.python_command",
        lambda *_: [sys.executable, "-c", program],
    )
    with pytest.raises(KeyboardInterrupt):
        replay_feed.check_files("x")


def test_both_sides_agree_on_the_exit_code() -> None:
    from infrastructure.simulator import check_files

    assert replay_feed.REFUSED == check_files.REFUSED
