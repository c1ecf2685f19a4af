"""The sent log: every line that the kernel's socket took whole, in the order in which it was taken.

Text, one entry per line, fields separated by one tab; the first line names them:

    line        number of the entry, from 1, rising by 1 over the whole run
    connection  id of the connection, unique in the run
    port        level1 | level2 | lookup | admin
    symbol      upper case; empty for lines without one
    src_row     1-based row of the vendor's message file; 0 for everything that is no vendor row
    wall_ns     Unix time in nanoseconds at which the send call that took the line's last byte returned
    text        the line without its line end

A line of which the kernel took only a part is not in the log. Entries are buffered and written each second, when
the buffer is full, and at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from infrastructure.simulator import render
from infrastructure.simulator.market import Int64s, Names

HEADER: Final = b"line\tconnection\tport\tsymbol\tsrc_row\twall_ns\ttext\n"
_BUFFER_BYTES: Final = 1 << 20


class SentLine(NamedTuple):
    """One entry."""

    line: int
    connection: int
    port: str
    symbol: str
    src_row: int
    wall_ns: int
    text: str


def read_sent_log(path: Path) -> Iterator[SentLine]:
    """Entries of a log; a torn last entry of a killed simulator is left out."""
    with path.open(encoding="latin-1", newline="\n") as file:
        next(file, None)
        for entry in file:
            if not entry.endswith("\n"):
                return
            line, connection, port, symbol, src_row, wall_ns, text = entry[:-1].split("\t", 6)
            yield SentLine(int(line), int(connection), port, symbol, int(src_row), int(wall_ns), text)


class SentLog:
    """Numbers accepted lines and, where a file is given, writes them. Not for concurrent use."""

    def __init__(self, names: Names, path: Path | None = None) -> None:
        self.lines = 0
        self._names = names
        self._file = None if path is None else path.open("wb", buffering=0)
        self._buffer: render.Bytes = np.zeros(_BUFFER_BYTES if path else 0, dtype=np.uint8)
        self._used = 0
        if self._file is not None:
            self._file.write(HEADER)

    def accepted(
        self,
        connection: int,
        port: render.Bytes,
        data: render.Bytes,
        ends: Int64s,
        symbols: Int64s,
        sources: Int64s,
        first: int,
        last: int,
        start: int,
        wall_ns: int,
    ) -> None:
        """Lines [first, last) of `data` were taken; line `first` begins at byte `start`."""
        while self._file is not None and first < last:
            done, start, size = render.render_log(
                data, ends, symbols, sources, first, last, start, self.lines + 1, connection, port, wall_ns,
                self._names.text, self._names.lengths, self._buffer[self._used :],
            )  # fmt: skip
            self._used += size
            self.lines += done - first
            if done == first and self._used == 0:
                self._buffer = np.zeros(2 * self._buffer.size, dtype=np.uint8)
            elif done < last:
                self.flush()
            first = done
        self.lines += last - first

    def flush(self) -> None:
        """Hand everything to the file."""
        if self._file is not None and self._used:
            self._file.write(self._buffer[: self._used].data)
            self._used = 0

    def close(self) -> None:
        """Flush and close. Safe to call twice."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None
