"""Installation compiles every kernel that a worker will call."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading

import pytest

from config.paths import PROJECT_ROOT
from pipeline_orchestrator import kernels

# In a process of its own: other tests compile kernels too, and would hide one that is not reached.
PROGRAM = """
import json, sys
from importlib import import_module
from pathlib import Path
from numba.core.registry import CPUDispatcher
from pipeline_orchestrator import kernels

failed = [each.error for each in kernels.warm_all() if each.error]
assert not failed, failed
found = {}
for package in ("pipeline_orchestrator", "infrastructure"):
    for path in sorted(Path(package).rglob("*.py")):
        name = ".".join(path.with_suffix("").parts)
        text = path.read_text()
        if ("njit" in text or "processing.inner" in text) and name != "pipeline_orchestrator.kernels":
            for each in vars(import_module(name)).values():
                if isinstance(each, CPUDispatcher) and each.py_func.__module__ == name:
                    found[f"{name}:{each.py_func.__name__}"] = each
# One that kernels call is compiled into them; loaded from the cache it has no signature of its own.
inner = {name for each in found.values() for name in each.py_func.__code__.co_names}
print(json.dumps([name for name, each in found.items() if not each.signatures and name.split(":")[1] not in inner]))
"""


@pytest.mark.timeout(240)  # with an empty cache it compiles everything
def test_no_kernel_is_left_for_the_first_batch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_each_module_is_named_before_and_timed_after_it_is_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(kernels, "KERNELS", ("os:getpid", "json:nothing"))
    monkeypatch.setattr(kernels, "forget_stale", lambda _: [])
    monkeypatch.setattr(kernels, "all_compiled", lambda _: False)
    monkeypatch.setattr(kernels, "mark_compiled", lambda *_: said.append("marked"))
    assert kernels.main() == 1
    out, err = capsys.readouterr()
    first, second = out.splitlines()[1:3]
    assert first.split()[:2] == ["1/2", "os"] and first.endswith(" s")
    assert second.split()[:2] == ["2/2", "json"] and second.endswith("cannot be compiled")
    assert "cannot compile json:nothing" in err
    assert said == []


def test_a_long_compilation_shows_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = threading.Event()

    class Screen(io.StringIO):
        def write(self, text: str, /) -> int:
            if text == ".":
                seen.set()
            return super().write(text)

    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(kernels, "DOT_S", 0.001)
    progress = kernels._Progress(1)
    progress.begins("slow:warm")
    assert seen.wait(30)  # the compilation ends only after the first dot
    progress.ended(kernels.Warmed("slow:warm", 31.0))
    assert ". " in screen.getvalue() and screen.getvalue().endswith(" 31.0 s\n")


INTERRUPTED = """
import ctypes, os
from pipeline_orchestrator import kernels

def compile_in_a_callback():
    def wait():
        os.write(2, b"compiling")
        os.read(0, 1)
        return 0
    ctypes.CFUNCTYPE(ctypes.c_int)(wait)()

os.getpid = compile_in_a_callback
kernels.KERNELS = ("os:getpid", "os:getppid")
kernels.forget_stale = lambda _: []
kernels.all_compiled = lambda _: False
kernels.mark_compiled = lambda *_: True
raise SystemExit(kernels.program())
"""


def test_ctrl_c_ends_a_compilation_at_once_even_inside_a_callback_of_the_compiler() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stderr is not None
    assert child.stderr.read(9) == b"compiling"
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=30)
    assert child.returncode == -signal.SIGINT
    assert b"2/2" not in out


def test_nothing_is_loaded_or_said_when_all_are_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "KERNELS", ("json:nothing",))
    monkeypatch.setattr(kernels, "forget_stale", lambda _: [])
    monkeypatch.setattr(kernels, "all_compiled", lambda _: True)
    assert kernels.main() == 0
    assert capsys.readouterr().out == ""


def test_a_seed_forgets_what_older_sources_left_before_it_loads_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def warm_all(_: object) -> list[kernels.Warmed]:
        order.append("load")
        return []

    monkeypatch.setattr(kernels, "forget_stale", lambda _: order.append("forget"))
    monkeypatch.setattr(kernels, "warm_all", warm_all)
    kernels.preload()
    assert order == ["forget", "load"]
