"""One segment open for reading, plain or compressed, at any byte position."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline_orchestrator.flow.spool_format import KEPT_SUFFIX, SegmentHeader, decode_header, read_segment


class SegmentReader:
    """Random access to a segment's bytes; a compressed one is unpacked into memory once.

    `header` is None where it is damaged. Raises OSError, or ValueError for a damaged archive.
    """

    def __init__(self, number: int, path: Path) -> None:
        self.number, self.path = number, path
        self._fd, self._data = -1, b""
        if path.name.endswith(KEPT_SUFFIX):
            self._data = read_segment(path)
            self.header: SegmentHeader | None = decode_header(self._data)
        else:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.header = decode_header(self._head())

    def size(self) -> int:
        """Bytes in the segment now."""
        return os.fstat(self._fd).st_size if self._fd >= 0 else len(self._data)

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill `target` from `offset` on; returns the bytes read."""
        if self._fd >= 0:
            return os.preadv(self._fd, (target,), offset)
        piece = self._data[offset : offset + len(target)]
        target[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._data = b""

    def _head(self) -> bytes:
        size = 1 << 16
        while True:
            head = os.pread(self._fd, size, 0)
            if len(head) < size or decode_header(head) is not None or size > 1 << 26:
                return head
            size *= 8
