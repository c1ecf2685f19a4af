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
) -> int:
    """Run until stopped; the exit code. Raises CliError when it cannot begin. `build` None = the real pipeline."""
    confine("pipeline")
    if build is None:
        from manage.composition import SupervisedPipeline

        build = SupervisedPipeline
    log = log_writer(request.settings, request.state)
    try:
        return asyncio.run(Daemon(request, build, log, announce).run())
    finally:
        log.close()
