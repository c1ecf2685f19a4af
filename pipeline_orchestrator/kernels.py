"""`python -m pipeline_orchestrator.kernels` compiles every numba kernel into its cache: part of the installation.

`warm()` of each module calls its kernels once with the types they get at run time; afterwards a worker loads them
from the cache in milliseconds instead of compiling for seconds. What was compiled from older sources goes first; where
all are compiled already it says nothing and ends at once.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module

from config.paths import PROJECT_ROOT
from pipeline_orchestrator.kernel_cache import all_compiled, forget_stale, kernel_digests, mark_compiled

KERNELS: tuple[str, ...] = (
    "pipeline_orchestrator.market.eastern:warm",
    "pipeline_orchestrator.market.calendar:warm",
    "pipeline_orchestrator.flow.spool_scan:warm",
    "pipeline_orchestrator.ingestion.line_scan:warm",
    "pipeline_orchestrator.ingestion.line_parser:warm",
    "pipeline_orchestrator.lookup.line_runs:warm",
    "pipeline_orchestrator.lookup.row_kernel:warm",
    "pipeline_orchestrator.transport.partitioning:warm",
    "pipeline_orchestrator.transport.avro_codec:warm",
    "pipeline_orchestrator.transport.record_batch:warm",
    "pipeline_orchestrator.transport.record_set:warm",
    "pipeline_orchestrator.processing.process_events:warm",
    "pipeline_orchestrator.processing.snapshot_codec:warm",
    "pipeline_orchestrator.processing.queue_position:warm",
    "pipeline_orchestrator.storage.marks:warm",
    "infrastructure.simulator.warm:warm",
)
"""`module:function` of every warm-up, explicit like the table of builders."""

DOT_S = 5.0  # the largest module takes half a minute, minutes on a busy machine


@dataclass(frozen=True, slots=True)
class Warmed:
    """One module's warm-up: seconds, or the error that stopped it."""

    name: str
    seconds: float
    error: str = ""


def warm_all(
    names: Iterable[str] = KERNELS,
    begins: Callable[[str], None] = lambda _: None,
    ended: Callable[[Warmed], None] = lambda _: None,
) -> list[Warmed]:
    """Call every warm-up; an error of one does not keep the others from being compiled."""
    results = []
    for name in names:
        begins(name)
        began, error = time.perf_counter(), ""
        module_name, _, function_name = name.partition(":")
        try:
            getattr(import_module(module_name), function_name)()
        except Exception as failure:  # collected and reported; the exit code tells
            error = f"{type(failure).__name__}: {failure}"
        results.append(Warmed(name, time.perf_counter() - began, error))
        ended(results[-1])
    return results


def preload() -> None:
    """Load every kernel of the stages into this process: workers forked of it neither compile nor load again.

    Milliseconds each from the cache, minutes in all without it. What was compiled from older sources is compiled
    again: a daemon may start where sources were updated and nothing else was done. Raises RuntimeError naming what
    failed.
    """
    forget_stale(PROJECT_ROOT)
    results = warm_all(name for name in KERNELS if not name.startswith("infrastructure."))
    failed = [result for result in results if result.error]
    if failed:
        raise RuntimeError("; ".join(f"{result.name}: {result.error}" for result in failed))


class _Progress:
    """A line per module on stdout: number and name, a dot every few seconds while it is compiled, then the seconds."""

    def __init__(self, of: int) -> None:
        self._number, self._of = 0, of
        self._ended = threading.Event()
        self._dots = threading.Thread()

    def begins(self, name: str) -> None:
        self._number += 1
        self._write(f"  {self._number:2}/{self._of} {name.partition(':')[0]:48}")
        self._ended = threading.Event()
        self._dots = threading.Thread(target=self._tick, args=(self._ended,), daemon=True)
        self._dots.start()

    def ended(self, warmed: Warmed) -> None:
        self._ended.set()
        self._dots.join()
        self._write(f" {warmed.seconds:5.1f} s\n" if not warmed.error else " cannot be compiled\n")

    def _tick(self, ended: threading.Event) -> None:
        while not ended.wait(DOT_S):
            self._write(".")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def main() -> int:
    """Progress on stdout, failures on stderr; 0 when everything is compiled."""
    forget_stale(PROJECT_ROOT)
    if all_compiled(PROJECT_ROOT):
        return 0
    sys.stdout.write("compiling kernels: once, and again after an update; one to three minutes\n")
    progress, digests = _Progress(len(KERNELS)), kernel_digests(PROJECT_ROOT)
    results = warm_all(KERNELS, progress.begins, progress.ended)
    failed = [result for result in results if result.error]
    for result in failed:
        sys.stderr.write(f"cannot compile {result.name}: {result.error}\n")
    seconds = sum(result.seconds for result in results)
    sys.stdout.write(f"{len(results) - len(failed)} of {len(results)} kernel modules ready in {seconds:.1f} s\n")
    if failed:
        return 1
    mark_compiled(PROJECT_ROOT, digests)
    return 0


def program() -> int:
    """`main` as a process of its own, which Ctrl-C kills; what is compiled so far is kept.

    An exception would come up inside a callback of the compiler, where it is dropped, and the rest would go on.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return main()


if __name__ == "__main__":
    sys.exit(program())
