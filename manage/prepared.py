"""What must be there before anything is started: compiled kernels, and a redis-server where it is embedded.

An installation by `make` has both; after an update of the sources, or on Python 3.12, one may be missing.
"""

from __future__ import annotations

import signal
import subprocess

from config.paths import PROJECT_ROOT
from manage.exits import CliError, Exit
from manage.terminal import Terminal
from pipeline_orchestrator.kernel_cache import all_compiled, forget_stale
from pipeline_orchestrator.supervisor.child_environment import child_environment, python_command

STDERR = 2


def kernels(terminal: Terminal) -> None:
    """Compile what is not compiled of the sources as they are, here and now: workers would be late by minutes.

    Milliseconds when there is nothing to do. Progress goes to stderr. Raises CliError when they cannot be compiled.
    """
    forget_stale(PROJECT_ROOT)
    if all_compiled(PROJECT_ROOT):
        return
    terminal.note("- the kernels of these sources are not compiled yet")
    command = python_command("pipeline_orchestrator.kernels")
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env=child_environment(), stdin=subprocess.DEVNULL, stdout=STDERR, check=False
    )
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt
    if done.returncode:
        raise CliError(
            f"cannot compile the kernels: exit code {done.returncode}",
            code="kernels",
            next_step="make demo    (it mends the environment first)",
        )


def redis_server() -> None:
    """Raises CliError (69) when there is no redis-server that could run embedded."""
    from infrastructure.services.embedded_redis import HOW_TO_INSTALL, RedisNotFoundError, find_server

    try:
        find_server()
    except RedisNotFoundError as error:
        raise CliError(
            f"cannot start an embedded Redis: {error}",
            exit_code=Exit.UNAVAILABLE,
            code="redis_server",
            next_step=HOW_TO_INSTALL,
        ) from error
