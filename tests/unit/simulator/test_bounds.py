"""Kernels stay inside their arrays. Compiled apart: numba's cache does not know the flag."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.paths import PROJECT_ROOT


@pytest.mark.timeout(620)  # compiles every kernel
def test_kernels_read_and_write_inside_their_arrays(tmp_path: Path) -> None:
    cache = PROJECT_ROOT / ".pytest_cache" / "numba-boundscheck"
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.simulator.bounds_check", str(tmp_path)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
