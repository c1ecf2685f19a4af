"""Processes are named by more than a number, die with their parent and are stopped by handle."""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

from infrastructure.services.processes import identify, port_owner, stop

SLEEPER = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()",
]


def _started(command: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_identity_ends_with_the_process_even_while_it_is_a_zombie() -> None:
    with _started(SLEEPER) as process:
        identity = identify(process.pid)
        assert identity is not None
        assert identity.alive()
        process.kill()
        handle = os.pidfd_open(process.pid)
        select.select([handle], [], [])
        os.close(handle)
        assert not identity.alive()
        assert identify(process.pid) is None


def test_a_successor_of_the_same_number_is_neither_alive_nor_stopped() -> None:
    with _started(SLEEPER) as process:
        identity = identify(process.pid)
        assert identity is not None
        predecessor = dataclasses.replace(identity, start_ticks=identity.start_ticks - 1)
        assert not predecessor.alive()
        assert stop(predecessor, 1.0)
        assert process.poll() is None
        process.kill()


def test_stop_waits_for_the_end() -> None:
    with _started(SLEEPER) as process:
        identity = identify(process.pid)
        assert identity is not None
        assert stop(identity, 10.0)
        assert not identity.alive()


def test_stop_kills_what_ignores_sigterm_and_says_so() -> None:
    with _started(STUBBORN) as process:
        identity = identify(process.pid)
        assert identity is not None
        assert not stop(identity, 0.1)
        assert process.wait() == -signal.SIGKILL


def test_child_is_killed_with_its_parent() -> None:
    program = f"""
import os, subprocess, sys
from infrastructure.services.processes import dies_with_parent
child = subprocess.Popen({SLEEPER!r}, stdout=subprocess.PIPE, preexec_fn=dies_with_parent(os.getpid()))
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        readable, _, _ = select.select([handle], [], [], 10)
        os.close(handle)
        assert readable


def test_port_owner_names_the_listening_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"pid {os.getpid()} " in (port_owner(port) or "")
    assert port_owner(port) is None
