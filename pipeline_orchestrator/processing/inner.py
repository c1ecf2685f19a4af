"""Functions that only kernels call: compiled into their callers and nothing else.

numba gives every function an entry for Python, which takes apart and puts together all arrays of its arguments. For
functions that hand tuples of arrays around, this was a third of the time to compile them (measured: 73 s against
46 s of processor time). Without it Python cannot call them; what both need is written for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])  # Any: whatever a kernel hands over
_settings: dict[str, Any] = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def inner(function: _Function) -> _Function:
    """Part of whoever calls it."""
    compiled: _Function = njit(forceinline=True, **_settings)(function)
    return compiled


def rare(function: _Function) -> _Function:
    """Called seldom: a call of its own keeps the caller small, but counts references again (see borrow.py)."""
    compiled: _Function = njit(**_settings)(function)
    return compiled
