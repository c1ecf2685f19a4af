"""A process whose kernels check their bounds: numba does so only when asked, and its cache ignores the question.

So the flag needs a cache directory of its own, and each state of the sources its own one in there, since numba does
not see that a function of another file was compiled in.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import numpy as np
from numba import njit

from config.paths import PROJECT_ROOT
from pipeline_orchestrator.kernel_cache import kernel_digests

FLAG = "NUMBA_BOUNDSCHECK"


def environment() -> dict[str, str]:
    """Of a process that compiles with bounds checking; what it compiles is kept for the next one."""
    digest = hashlib.sha256(json.dumps(kernel_digests(PROJECT_ROOT), sort_keys=True).encode()).hexdigest()
    cache = PROJECT_ROOT / ".pytest_cache" / "numba-boundscheck" / digest[:16]
    return {**os.environ, FLAG: "1", "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(PROJECT_ROOT)}


@njit(error_model="numpy")
def _read(buf: Any, at: int) -> int:  # Any: arrays inside kernels
    return int(buf[at])


def are_checked() -> bool:
    """Whether a read behind the end of an array raises in this process."""
    try:
        _read(np.zeros(4, dtype=np.uint8), 4)
    except IndexError:
        return True
    return False
