"""Run a daemon in this process: confined, with its log file, its composition and an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from manage.daemon import Build, Daemon, Request
from pipeline_orchestrator.confine import confine
from pipeline_orchestrator.orchestrator import log_writer


def run_daemon(
    request: Request,
    announce: Callable[[Mapping[str, Any]], None] = lambda _: None,  # Any: JSON
    build: Build | None = None,
    hold: Callable[[Daemon], None] = lambda _: None,
) -> int:
    """Run until stopped; the exit code. Raises CliError when it cannot begin.

    `build` None = the real pipeline; `hold` is given the daemon before it runs.
    """
    confine("pipeline")
    if build is None:
        from manage.composition import SupervisedPipeline

        build = SupervisedPipeline
    log = log_writer(request.settings, request.state)
    daemon = Daemon(request, build, log, announce)
    hold(daemon)
    try:
        return asyncio.run(daemon.run())
    finally:
        log.close()
