"""Checks of the settings themselves and of the directories they name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from config import paths
from config.sections import Settings
from validate.check import Check, CheckResult, Verdict

MIN_FREE_BYTES = 256 << 20


def checks() -> list[Check]:
    """All checks of this group; they ask nobody but this machine."""
    return [
        Check("symbols", "settings", check_symbols, required=False),
        Check("feed ports", "settings", check_ports),
        Check("state directory", "settings", check_state_directory),
        Check("log directory", "settings", check_log_directory),
        Check("disk space", "settings", check_space),
    ]


def state_directory(settings: Settings) -> Path:
    """Where this pipeline keeps its state."""
    return Path(settings.state_dir) if settings.state_dir else paths.state_dir()


def log_directory(settings: Settings) -> Path:
    """Where this pipeline logs."""
    return Path(settings.logging.directory) if settings.logging.directory else paths.logs_dir(state_directory(settings))


async def check_symbols(settings: Settings) -> CheckResult:
    """At least one symbol is to be watched, or a search is to find some at the start."""
    if search := settings.symbols_search.text:
        return CheckResult("symbols", Verdict.PASSED, f"those of the search {search!r}, asked at each start")
    if not settings.symbols:
        return CheckResult(
            "symbols", Verdict.FAILED, "no symbol is named: nothing will be watched", next_step="symbols"
        )
    return CheckResult(
        "symbols", Verdict.PASSED, f"{len(settings.symbols)} symbols", {"symbols": len(settings.symbols)}
    )


async def check_ports(settings: Settings) -> CheckResult:
    """The feed's four ports differ, and at least one of Level 1 and Level 2 is read."""
    feed = settings.iqfeed
    ports = {"level1_port": feed.level1_port, "port": feed.port, "lookup_port": feed.lookup_port}
    ports["admin_port"] = feed.admin_port
    if len(set(ports.values())) < len(ports):
        return CheckResult(
            "feed ports", Verdict.FAILED, "two ports of the feed are the same", dict(ports), "iqfeed.port"
        )
    if not feed.level1 and not feed.level2:
        return CheckResult(
            "feed ports", Verdict.FAILED, "neither Level 1 nor Level 2 is read", next_step="iqfeed.level1 = true"
        )
    return CheckResult("feed ports", Verdict.PASSED, "differ", dict(ports))


async def check_state_directory(settings: Settings) -> CheckResult:
    """The state directory can be written, or made."""
    return _writable("state directory", state_directory(settings))


async def check_log_directory(settings: Settings) -> CheckResult:
    """The log directory can be written, or made."""
    return _writable("log directory", log_directory(settings))


async def check_space(settings: Settings) -> CheckResult:
    """The disk of the state directory holds more than a reserve; less than the spools' quota is a warning."""
    directory, readers = _existing(state_directory(settings)), settings.ingestion.instances
    free, quota = shutil.disk_usage(directory).free, settings.spool.quota_bytes * readers
    evidence = {"free_bytes": free, "spool_quota_bytes": quota, "directory": str(directory)}
    text = f"{free >> 20:,} MiB free for {directory}"
    if free < MIN_FREE_BYTES:
        return CheckResult("disk space", Verdict.FAILED, text, evidence, f"free space on the disk of {directory}")
    if free < quota:
        note = f"{text}, less than the spool may take ({quota >> 20:,} MiB)"
        lower = "lower spool.quota_bytes" + (", which counts per ingestion.instances" if readers > 1 else "")
        return CheckResult("disk space", Verdict.WARNING, note, evidence, lower)
    return CheckResult("disk space", Verdict.PASSED, text, evidence)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _writable(name: str, path: Path) -> CheckResult:
    nearest = _existing(path)
    if not nearest.is_dir():
        return CheckResult(
            name, Verdict.FAILED, f"{nearest} is not a directory", {"path": str(path)}, f"ls -ld {nearest}"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        return CheckResult(
            name, Verdict.FAILED, f"{nearest} cannot be written by us", {"path": str(path)}, f"ls -ld {nearest}"
        )
    return CheckResult(name, Verdict.PASSED, str(path), {"path": str(path)})
