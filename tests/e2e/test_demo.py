"""`demo` as a stranger runs it: everything embedded, equal counts at every station, nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from config.paths import PROJECT_ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


def command(*options: str) -> list[str]:
    return [sys.executable, str(PROJECT_ROOT / "manage_pipeline.py"), "demo", *options]


def environment(temporary: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
    return {**kept, "TMPDIR": str(temporary)}


def members(leader: int) -> list[psutil.Process]:
    return psutil.Process(leader).children(recursive=True)


def test_demo_ends_with_equal_counts_and_leaves_nothing(tmp_path: Path) -> None:
    options = ("--duration", "15s", "--rate", "500", "--symbols", "5")  # time for a first trade on a busy machine
    with subprocess.Popen(
        command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    ) as demo:
        assert demo.stderr is not None and demo.stdout is not None
        heard = []
        for line in demo.stderr:
            heard.append(line)
            if "first trade stored" in line:
                break
        assert heard and "first trade stored" in heard[-1], "".join(heard)
        state = Path(re.search(r"--state-dir (\S+)", "".join(heard))[1])  # type: ignore[index]  # shown before
        workers = members(demo.pid)
        listening = {
            each.laddr.port for worker in workers for each in worker.net_connections() if each.status == "LISTEN"
        }
        assert (state / "run" / "control.sock").is_socket() and len(listening) >= 6
        rest = demo.stderr.read()
        document = json.loads(demo.stdout.read())
        code = demo.wait(60)
    assert (code, document["differences"]) == (0, []), rest
    account = document["account"]
    assert document["equal"] and account["sent"] == account["spooled"]["lines"] > 500
    assert account["stored"]["trades"] > 0 and account["stored"]["symbols"] == account["cached"]["symbols"] == 5
    assert document["first_trade_seconds"] > 0
    assert "Demo: embedded feed, broker, stores. Not for production." in "".join(heard)
    psutil.wait_procs(workers, timeout=10)
    assert [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE] == []
    assert list(tmp_path.iterdir()) == [], "the temporary state directory is gone"
    still = {each.laddr.port for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr}
    assert not listening & still


def test_second_interrupt_cuts_the_demo_short_and_leaves_no_process(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with subprocess.Popen(
        command("--rate", "200", "--state-dir", str(state)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    ) as demo:
        assert demo.stderr is not None and demo.stdout is not None
        for line in demo.stderr:
            if "first trade stored" in line:
                break
        workers = members(demo.pid)
        demo.send_signal(signal.SIGINT)
        for line in demo.stderr:
            if "stopping the feed" in line:
                break
        demo.send_signal(signal.SIGINT)
        demo.stderr.read()
        document = json.loads(demo.stdout.read())
        code = demo.wait(60)
    assert code in {0, 130} and document["equal"] is (code == 0)
    psutil.wait_procs(workers, timeout=10)
    assert [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE] == []
    assert not (state / "run" / "control.sock").exists() and (state / "lock").read_bytes() == b""
