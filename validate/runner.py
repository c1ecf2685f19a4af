"""Runs checks side by side under their time limits and says what the whole of them means."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.sections import Settings
from pipeline_orchestrator.telemetry.log_file import LogFile, LogWriter
from pipeline_orchestrator.telemetry.logs import LogEvent, one_line
from validate.check import Check, CheckResult, Verdict
from validate.checks import config as config_checks
from validate.checks import infrastructure as infrastructure_checks

MARKS = {Verdict.PASSED: "✓", Verdict.WARNING: "▲", Verdict.FAILED: "✗", Verdict.SKIPPED: "-"}
EXIT_OK, EXIT_UNAVAILABLE, EXIT_CONFIG, EXIT_THRESHOLD = 0, 69, 78, 99


@dataclass(frozen=True, slots=True)
class Validation:
    """All results, in the order of the checks."""

    results: tuple[CheckResult, ...]
    started: float
    seconds: float
    report: Path | None = None

    @property
    def failed(self) -> list[CheckResult]:
        """What must be mended before a start."""
        return [result for result in self.results if result.verdict is Verdict.FAILED]

    @property
    def exit_code(self) -> int:
        """0, or 78 for settings, 69 for services, 99 for anything else, in this order of rank."""
        groups = {result.group for result in self.failed}
        for group, code in (("settings", EXIT_CONFIG), ("services", EXIT_UNAVAILABLE)):
            if group in groups:
                return code
        return EXIT_THRESHOLD if groups else EXIT_OK

    @property
    def verdict(self) -> str:
        """`passed`, `passed with warnings` or `failed`."""
        if self.failed:
            return "failed"
        warned = any(result.verdict is Verdict.WARNING for result in self.results)
        return "passed with warnings" if warned else "passed"

    def document(self) -> dict[str, Any]:  # Any: JSON
        """The validation as JSON."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "started": _utc(self.started),
            "duration_ms": round(self.seconds * 1000, 1),
            "report": str(self.report) if self.report else None,
            "checks": [result.document() for result in self.results],
        }


def all_checks(origins: infrastructure_checks.Origins = infrastructure_checks.UNKNOWN) -> list[Check]:
    """Settings first, then services; `origins` as `load` gave them, to name where a refused value comes from."""
    return [*config_checks.checks(), *infrastructure_checks.checks(origins)]


async def run_checks(settings: Settings, checks: Sequence[Check] | None = None) -> Validation:
    """Run all checks side by side; a check that raises or takes too long has failed, with the cause as evidence."""
    chosen = all_checks() if checks is None else checks
    started, began = time.time(), time.perf_counter()
    results = await asyncio.gather(*(_run(check, settings) for check in chosen))
    return Validation(tuple(results), started, time.perf_counter() - began)


async def _run(check: Check, settings: Settings) -> CheckResult:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(check.timeout):
            result = await check.run(settings)
    except TimeoutError:
        result = CheckResult(check.name, Verdict.FAILED, f"no verdict within {check.timeout:g} s")
    except Exception as error:  # a broken check is a finding, and must not hide the others'
        result = CheckResult(check.name, Verdict.FAILED, f"the check itself failed: {one_line(error)}")
    if result.verdict is Verdict.FAILED and not check.required:
        result = replace(result, verdict=Verdict.WARNING)
    return replace(result, seconds=time.perf_counter() - began, group=check.group)


def write_report(validation: Validation, directory: Path) -> Validation:
    """Leave `pipeline_validation_report_<UTC>.txt` and the lines of `pipeline_validation.log` in `directory`.

    Returns the validation with the report's path; without one when the disk refuses.
    """
    stamp = datetime.fromtimestamp(validation.started, UTC).strftime("%Y%m%dT%H%M%S")
    report = directory / f"pipeline_validation_report_{stamp}_{os.getpid()}.txt"
    log = LogWriter(LogFile(directory / "pipeline_validation.log"))
    write = _logger(log)
    for result in validation.results:
        level = {Verdict.FAILED: "ERROR", Verdict.WARNING: "WARNING"}.get(result.verdict, "INFO")
        write(level, "check", name=result.name, verdict=result.verdict.value, message=result.message)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        report.write_text("\n".join(text_lines(validation)) + "\n", encoding="utf-8")
    except OSError as error:
        write("ERROR", "report_not_written", path=str(report), cause=str(error.strerror))
        return validation
    finally:
        write("INFO", "validated", verdict=validation.verdict, exit_code=validation.exit_code, report=str(report))
        log.close()
    return replace(validation, report=report)


def _logger(log: LogWriter) -> Callable[..., None]:
    def write(level: str, event: str, **fields: Any) -> None:  # Any: log fields
        log(LogEvent(time.time_ns() // 1000, level, "validate", event, fields), limited=False)

    return write


def text_lines(validation: Validation) -> list[str]:
    """The validation for people."""
    passed = sum(result.verdict is Verdict.PASSED for result in validation.results)
    lines = [
        f"Pipeline validation: {validation.verdict} ({passed} of {len(validation.results)} checks passed, "
        f"{len(validation.failed)} failed) at {_utc(validation.started)} in {validation.seconds:.2f} s",
        "",
    ]
    width = max((len(result.name) for result in validation.results), default=0)
    for result in validation.results:
        lines.append(f"{MARKS[result.verdict]} {result.name:<{width}}  {result.verdict.value:<7}  {result.message}")
        if result.next_step and result.verdict is not Verdict.PASSED:
            lines.append(f"  {'':<{width}}  Try: {result.next_step}")
    return lines


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
