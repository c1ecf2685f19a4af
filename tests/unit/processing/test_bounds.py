"""Kernels never index outside their arrays and never overflow: run as Python, where numpy notices both."""

from __future__ import annotations

import os
import subprocess
import sys

from config.paths import PROJECT_ROOT


def test_kernels_stay_inside_their_arrays() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.processing.bounds_program", *map(str, range(12))],
        cwd=PROJECT_ROOT,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
