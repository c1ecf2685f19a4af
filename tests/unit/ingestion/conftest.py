"""Kernels are compiled before the first test that talks to a feed: a compiling loop looks like a silent one."""

from __future__ import annotations

import pytest

from pipeline_orchestrator.ingestion import line_parser, line_scan


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> None:
    line_scan.warm()
    line_parser.warm()
