"""Frames from a recorded file of feed lines: the same cutting into lines as at the socket, for the same parser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.ingestion.line_scan import CONTROLS_FULL, MAX_LINE, TOO_LONG, control_table, scan
from pipeline_orchestrator.market.events import PORT

CHUNK = 1 << 20


def recorded_frames(file: BinaryIO, port: str, unended: list[bytes] | None = None) -> Iterator[Frame]:
    """Lines of `file` as frames of instance 0, epoch 0; line n (from 1) has the seq n - 1.

    The receipt is unknown and stands as 0. A last line without a line end counts, or is put into `unended` where that
    is given: whether it was cut cannot be known. One longer than 64 KiB becomes an oversize frame of its head. Raises
    OSError.
    """
    controls, pending, seq, skipping = control_table(), b"", 0, False
    while True:
        piece = file.read(CHUNK)
        data = pending + piece
        if skipping:
            rest = data.find(b"\n")
            if rest < 0 and piece:
                pending = b""
                continue
            data, skipping = data[rest + 1 :] if rest >= 0 else b"", False
        if not piece and data and not data.endswith(b"\n"):
            last = data.rpartition(b"\n")[2]
            if unended is None or len(last) > MAX_LINE:
                data += b"\n"
            else:
                unended.append(last)
                data = data[: len(data) - len(last)]
        buf, start = np.frombuffer(bytearray(data), dtype=np.uint8), 0
        while start < len(data):
            found = scan(buf, start, len(data), controls)
            if found.lines:
                yield Frame(0, PORT[port], 0, seq, found.lines, 0, data[start : found.end])
                seq += found.lines
            start = found.end
            if found.stop == TOO_LONG:
                yield Frame(0, PORT[port], 0, seq, 1, 0, data[start : start + MAX_LINE], oversize=True)
                seq += 1
                start = data.index(b"\n", start) + 1
            elif found.stop != CONTROLS_FULL:
                break
        pending = data[start:]
        if len(pending) > MAX_LINE:
            yield Frame(0, PORT[port], 0, seq, 1, 0, pending[:MAX_LINE], oversize=True)
            seq, skipping, pending = seq + 1, True, b""
        if not piece:
            return
