"""Compiled kernels before anything starts: what is missing is compiled by a process of its own, and waited for.

Stages that had to compile their own would all do it at once, within the time that a start is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from config.paths import PROJECT_ROOT
from pipeline_orchestrator.errors import PermanentError
from pipeline_orchestrator.kernel_cache import all_compiled, forget_stale
from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command

COMMAND = "python -m pipeline_orchestrator.kernels"


async def compile_kernels(noted: Callable[[str, str, Mapping[str, Any]], None]) -> None:  # Any: JSON-able values
    """Milliseconds when all are compiled of the sources as they are, else one to three minutes.

    `noted(level, event, fields)` is told when it begins and when it is done. Raises PermanentError with the compiler's
    last words when one cannot be compiled. Cancelled, it ends the compilation; what is compiled so far is kept.
    """
    if await asyncio.to_thread(_compiled):
        return
    noted("WARNING", "kernels_not_compiled", {"next_step": f"wait one to three minutes; beforehand: {COMMAND}"})
    child = await asyncio.create_subprocess_exec(
        *python_command("pipeline_orchestrator.kernels"),
        cwd=PROJECT_ROOT,
        env=child_environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise PermanentError(
            f"cannot compile the kernels: exit code {child.returncode}" + (f": {last}" if last else ""),
            next_step=COMMAND,
        )
    noted("INFO", "kernels_compiled", {})


def _compiled() -> bool:
    forget_stale(PROJECT_ROOT)
    return all_compiled(PROJECT_ROOT)
