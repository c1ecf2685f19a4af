"""Compiles every numba kernel into the cache: `python -m pipeline_orchestrator.kernels`, at installation.

Afterwards a worker's start loads machine code instead of compiling for tens of seconds. Called again, it only loads.
A kernel module names its own way to be compiled, `warm()`, which runs it on the smallest input of the types that are
used later; this page lists those modules (a test finds kernels that are not reached from here).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib import import_module

WARMED = (
    "pipeline_orchestrator.market.eastern",
    "pipeline_orchestrator.flow.spool_scan",
    "pipeline_orchestrator.transport.partitioning",
    "pipeline_orchestrator.transport.avro_codec",
)
"""Modules with a `warm()`; by name, because the simulator's kernels are no part of this package."""


def compile_all(modules: Sequence[str] = WARMED) -> dict[str, float]:
    """Compile or load all kernels; seconds per module. Raises what a module's `warm()` raises."""
    seconds = {}
    for name in modules:
        begun = time.perf_counter()
        import_module(name).warm()
        seconds[name] = time.perf_counter() - begun
    return seconds


def main() -> int:
    """Say what took long."""
    begun = time.perf_counter()
    sys.stderr.write("compiling kernels (once per installation)\n")
    for name, seconds in compile_all().items():
        if seconds >= 1:
            sys.stderr.write(f"  {name}: {seconds:.1f} s\n")
    sys.stderr.write(f"kernels are compiled and cached ({time.perf_counter() - begun:.1f} s)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
