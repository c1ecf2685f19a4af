"""Lines that a spool holds and no topic does: parsed again, to tell what they should have become.

Only segments that hold such lines are read again. A clock event is stored nowhere; a line that is refused again was
a dead letter; anything else was acknowledged by Kafka and has been lost since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline_orchestrator.audit.ranges import Int64s, LineFlags, Reader
from pipeline_orchestrator.flow.spool_format import Frame, decode_header, iter_segment, list_segments, read_segment
from pipeline_orchestrator.ingestion.assembly import parser_state
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.market.events import KIND
from pipeline_orchestrator.storage.columns import codes, integers

FRAMES_AT_ONCE = 4096


@dataclass(slots=True)
class UnmatchedLines:
    """`flags` has `flag` on the lines that no other station knows; `lost` gets those that should be stored."""

    flags: LineFlags
    flag: int
    lost: int  # flag
    clocks: int = 0
    dead: int = 0
    _wanted: dict[Reader, list[tuple[int, int]]] = field(default_factory=dict)

    def sort_out(self, state_dir: Path, instances: Iterable[int], without: int) -> None:
        """Raises OSError."""
        for found in self.flags.ranges(self.flag, without=without):
            self._wanted.setdefault((found.instance, found.epoch), []).append((found.first, found.last))
        for instance in instances:
            if any(reader[0] == instance for reader in self._wanted):
                for path in list_segments(state_dir / "spool" / str(instance)).values():
                    try:
                        self._segment(instance, path)
                    except (FileNotFoundError, ValueError):
                        continue  # compressed or removed this moment, or damaged: the spool's own findings tell

    def _segment(self, instance: int, path: Path) -> None:
        header = decode_header(read_segment(path))
        if header is None:
            return
        frames = list(iter_segment(path))
        if not any(self._touches(instance, frame) for frame in frames):
            return
        parser = LineParser(ParserContext.from_json(parser_state(header.state)))
        for begin in range(0, len(frames), FRAMES_AT_ONCE):
            rows, dead = parser.parse(frames[begin : begin + FRAMES_AT_ONCE])
            epochs, seqs = integers(rows.column("epoch")), integers(rows.column("seq"))
            clock = codes(rows.column("kind")) == KIND["clock"]
            for epoch in np.unique(epochs).tolist():
                mine = epochs == epoch
                wanted = self._inside((instance, epoch), seqs)
                self.clocks += int(np.count_nonzero(mine & wanted & clock))
                self.flags.mark((instance, epoch), np.unique(seqs[mine & wanted & ~clock]), self.lost)
            refused = [letter.event_id for letter in dead if letter.event_id is not None]
            self.dead += sum(bool(self._inside((one.instance, one.epoch), np.array([one.seq]))[0]) for one in refused)

    def _touches(self, instance: int, frame: Frame) -> bool:
        spans = self._wanted.get((instance, frame.epoch), ())
        return any(first < frame.first_seq + frame.count and last >= frame.first_seq for first, last in spans)

    def _inside(self, reader: Reader, seqs: Int64s) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        spans = self._wanted.get(reader, [])
        if not spans:
            return np.zeros(len(seqs), dtype=np.bool_)
        firsts, lasts = (np.array([span[end] for span in spans]) for end in (0, 1))
        at = np.searchsorted(firsts, seqs, side="right") - 1
        return (at >= 0) & (seqs <= lasts[np.maximum(at, 0)])
