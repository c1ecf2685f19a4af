"""Arrays inside kernels without reference counting.

numba counts references to an array each time one is taken out of a tuple, with an atomic instruction: many per event
in kernels that hand tuples of arrays around (measured: 10 times the work itself). The caller of a kernel holds its
arguments for as long as the kernel runs, so inside it the counts may be left alone.
"""

from __future__ import annotations

from typing import Any

from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

numba_cgutils: Any = cgutils  # Any: without types


def _strip(context: Any, builder: Any, kind: Any, value: Any) -> Any:  # Any: numba's code generation
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value=value)
        for name in ("meminfo", "parent"):
            setattr(array, name, numba_cgutils.get_null_value(getattr(array, name).type))
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        parts: Any = kind
        for at, part in enumerate(parts.types):
            value = builder.insert_value(value, _strip(context, builder, part, builder.extract_value(value, at)), at)
    return value


def _typed(typing: Any, value: Any) -> Any:  # Any: numba's type inference
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _strip(context, builder, signature.args[0], args[0])

    return value(value), generate


def _same(value: Any) -> Any:  # Any: whatever the kernel was given
    return value


_settings: Any = config  # Any: its names are made from the environment
borrowed: Any = _same if _settings.DISABLE_JIT else intrinsic(_typed)
"""`borrowed(x)` inside a kernel: the array or tuple of arrays without ownership. Never let one outlive the call."""
