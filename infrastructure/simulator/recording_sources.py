"""Where recorded lines lie: one file of `record`, or the segments of spools as a pipeline left or is writing them.

A spool is a directory of `<number>.seg` and `<number>.seg.zst`; a directory of spools has one subdirectory per
ingestion instance. Segments that a running pipeline writes to are read as far as they reached when they were listed: a
pipeline to which its own spool is played does not play for ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import zstandard

MAGIC: Final = b"MDSPOOL1"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
PLAIN, KEPT = ".seg", ".seg.zst"
_CHUNK: Final = 1 << 20


class RecordingError(ValueError):
    """A file cannot be played; the message names it and the place."""


class Source(NamedTuple):
    """A recording or a segment; `limit` = unpacked bytes that belong to it, None = all."""

    path: Path
    limit: int | None = None


class Sources(NamedTuple):
    """What is played: `path` is what was asked for, `parts` in the order of reading."""

    path: Path
    parts: tuple[Source, ...]
    spool: bool


def is_recording(path: Path) -> bool:
    """Whether it is a directory, or a file that begins like a recording or a segment; every file of zstd counts.

    Raises OSError.
    """
    if path.is_dir():
        return True
    with path.open("rb") as file:
        return file.read(len(MAGIC)).startswith((MAGIC, ZSTD_MAGIC))


def sources(path: Path) -> Sources:
    """The parts of a recording, a segment, a spool or a directory of spools. Raises RecordingError, OSError."""
    if not path.is_dir():
        return Sources(path, (_source(path),), spool=False)
    below = sorted((entry for entry in path.iterdir() if entry.is_dir() and entry.name.isdigit()), key=_instance)
    parts = [part for spool in (path, *below) for part in _segments(spool)]
    if not parts:
        raise RecordingError(f"{path} holds no segment of a spool")
    return Sources(path, tuple(parts), spool=True)


def opened(source: Source) -> Any:  # Any: a readable context manager
    """The unpacked bytes of a source, to its limit; of a segment that was compressed meanwhile too.

    Raises RecordingError for one that was removed meanwhile, OSError.
    """
    path = source.path
    file: Any
    try:
        file = path.open("rb")
    except FileNotFoundError:
        path = path.with_name(path.name.removesuffix(PLAIN) + KEPT)
        if not source.path.name.endswith(PLAIN) or not path.exists():
            raise RecordingError(f"{source.path} is gone: record the spool first, and play the recording") from None
        file = path.open("rb")
    packed = file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
    file.seek(0)
    if packed:
        file = zstandard.ZstdDecompressor().stream_reader(file, read_size=_CHUNK, read_across_frames=True, closefd=True)
    return file if source.limit is None else _Limited(file, source.limit)


class _Limited:
    """The first bytes of a stream."""

    def __init__(self, stream: Any, limit: int) -> None:  # Any: a readable context manager
        self._stream, self._left = stream, limit

    def __enter__(self) -> _Limited:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data


def _source(path: Path) -> Source:
    with path.open("rb") as file:
        packed = file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
    return Source(path, None if packed else path.stat().st_size)


def _segments(spool: Path) -> list[Source]:
    """In order; the plain file where both forms exist, and none that is too short for a header."""
    found: dict[int, Path] = {}
    for path in spool.iterdir():
        stem = path.name.removesuffix(KEPT).removesuffix(PLAIN)
        if stem.isdigit() and path.name.endswith((PLAIN, KEPT)) and (int(stem) not in found or path.suffix == PLAIN):
            found[int(stem)] = path
    listed = []
    for number in sorted(found):
        try:
            source = _source(found[number])
        except FileNotFoundError:  # compressed or removed meanwhile
            kept = found[number].with_name(found[number].name.removesuffix(PLAIN) + KEPT)
            source = Source(kept) if kept.exists() else Source(found[number], 0)
        if source.limit is None or source.limit > len(MAGIC):
            listed.append(source)
    return listed


def _instance(path: Path) -> int:
    return int(path.name)
