"""Recorded lines beside the project, where they are."""

from __future__ import annotations

from config.paths import PROJECT_ROOT

FOLDER = PROJECT_ROOT.parent / "shared" / "fixtures" / "iqfeed"


def recorded_lines(*patterns: str, most: int = 400) -> list[bytes]:
    """Lines of the files that fit, without line ends, at most so many of each; empty without such files."""
    files = sorted(path for pattern in patterns for path in FOLDER.glob(pattern)) if FOLDER.is_dir() else []
    return [line.removesuffix(b"\r") for path in files for line in path.read_bytes().split(b"\n")[:most] if line]
