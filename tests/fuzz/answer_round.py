"""A round of the lookup port: several answers in one stream, sorted out by id, then parsed row by row."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline_orchestrator.lookup.line_runs import END, ERROR, NOBODY, ROW, find_runs, table_of
from pipeline_orchestrator.lookup.row_layouts import PROTOCOLS
from pipeline_orchestrator.lookup.row_parser import RowParser
from tests.fuzz.answer_lines import AnswerLines
from tests.fuzz.comparison import Round, column_difference, list_difference
from tests.unit.lookup.reference_rows import Reference

LINES = 3000
IDS = [b"R1", b"R", b"R11", b"I", b"LH"]
Owned = tuple[bytes, int, int]  # a line with its line end, the request or -1, what it is


def owned_lines(data: bytes, ids: list[bytes]) -> list[Owned]:
    """Plain twin of `find_runs`: every finished line, whose it is, and what."""
    found = []
    for line in data.split(b"\n")[:-1]:
        text = line.removesuffix(b"\r")
        owner = next((at for at, each in enumerate(ids) if text.startswith(each + b",")), -1)
        kind = NOBODY
        if owner >= 0:
            rest = text[len(ids[owner]) + 1 :]
            is_end = rest == b"!ENDMSG!" or rest.startswith(b"!ENDMSG!,")
            kind = END if is_end else ERROR if rest.startswith(b"E,") else ROW
        found.append((line + b"\n", owner, kind))
    return found


class AnswerRounds:
    """Rounds of `lookup`."""

    def run(self, rng: random.Random) -> Round:
        """Draw, sort out by id, cut, parse, compare."""
        rows, protocol = rng.choice(("ticks", "ticks", "intervals", "days")), rng.choice(PROTOCOLS)
        ids = rng.sample(IDS, rng.randrange(1, 4)) if rng.random() < 0.8 else [b""]
        lines = AnswerLines(rng, rows, protocol)
        data = lines.data(ids, rng.choice((20, LINES, LINES)))
        if rng.random() < 0.1:
            data = data[: rng.randrange(len(data))]
        if ids == [b""]:
            pieces = {b"": [line + b"\n" for line in data.split(b"\n")[:-1]]}
            last = data[data.rfind(b"\n") + 1 :]
            pieces[b""] += [last] if last else []  # the parser takes a last line without an end
            differences = []
        else:
            expected = owned_lines(data, ids)
            difference = list_difference("line of a request", self._sorted_out(rng, data, ids), expected)
            differences = [difference] if difference else []
            pieces = {each: [] for each in ids}
            for line, owner, kind in expected:
                if kind in {ROW, ERROR}:
                    pieces[ids[owner]].append(line)
        count = sum(len(some) for some in pieces.values())
        for each, some in pieces.items():
            differences += self._compared(rng, rows, protocol, each, some)
        return Round(max(count, data.count(b"\n")), differences)

    def _sorted_out(self, rng: random.Random, data: bytes, ids: list[bytes]) -> list[Owned]:
        """What `find_runs` says of a stream that arrives in reads of any size."""
        runs = np.zeros((rng.choice((1, 3, 100)), 4), dtype=np.int64)
        table = table_of(ids)
        found: list[Owned] = []
        size = rng.choice((300, 5_000, 1 << 20))
        buf = np.frombuffer(data or b"\0", dtype=np.uint8)
        at, arrived = 0, 0
        while arrived < len(data):
            arrived = min(len(data), arrived + rng.randrange(1, size))
            while True:
                count, following = find_runs(buf, at, arrived, *table, runs)
                for begin, end, owner, kind in runs[:count].tolist():
                    found += [(line + b"\n", owner, kind) for line in data[begin:end].split(b"\n")[:-1]]
                if following == at:
                    break
                at = following
        return found

    def _compared(self, rng: random.Random, rows: str, protocol: str, each: bytes, some: list[bytes]) -> list[str]:
        newest_first = rng.random() < 0.5
        bound = None if rng.random() < 0.7 else 1_730_610_000_000_000 + rng.randrange(-4, 5) * 1_800_000_000
        parser = RowParser(rows, protocol, request_id=each, newest_first=newest_first, bound_us=bound)
        reference = Reference(rows, protocol, each, newest_first)
        reference.above = bound
        expected, refused = reference.parse(b"".join(some))
        batches, found, at = [], [], 0
        most = rng.choice((1, 40, 5_000)) if len(some) < 100 else rng.choice((40, 5_000))
        while at < len(some):
            take = rng.randrange(1, most + 1)
            parsed = parser.parse(b"".join(some[at : at + take]))
            batches.append(parsed.rows)
            found += [(row.number, row.text, row.reason) for row in parsed.refused]
            at += take
        where = f"{rows} of {protocol or 'no protocol'}, id {each!r}"
        difference = list_difference("refusal", found, refused)
        differences = [f"{where}: {difference}"] if difference else []
        table = pa.Table.from_batches(batches, parser.schema)
        for name in parser.schema.names:
            wanted: list[Any] = [row[name] for row in expected]
            if name == "date":
                wanted = [None if day is None else day.toordinal() - 719_163 for day in wanted]
            unequal = column_difference(name, table.column(name), wanted)
            if unequal is not None:
                differences.append(f"{where}: row {unequal[0]}: {unequal[1]}; {some[unequal[0] : unequal[0] + 2]!r}")
        return differences
