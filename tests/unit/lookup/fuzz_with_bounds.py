"""Run by test_kernel_bounds in a process of its own: kernels with bounds checking, fed with damaged answers."""

from __future__ import annotations

import random
import sys

import numpy as np

from pipeline_orchestrator.lookup.line_runs import find_runs, table_of
from pipeline_orchestrator.lookup.row_layouts import PROTOCOLS
from pipeline_orchestrator.lookup.row_parser import RowParser
from tests.unit.lookup.reference_rows import Reference

SEEDS = [
    b"R1,LH,2018-04-17 17:51:22.123456,96.0700,1061909,0,0.0000,0.0000,4145784264,O,19,143A,2,17,",
    b"R1,LH,2024-11-03 01:30:00.5,1.5,1,2,1.,.5,18446744073709551615,C,5,873D17,0,3,",
    b"R1,LH,2023-06-28 00:00:00,4411.50,4411.25,4411.25,4411.50,42885,55,0,",
    b"R1,LH,2023-05-25,288.8400,272.8500,287.9100,280.9900,878367,0,",
    b"R1,2021-06-09 15:34:59,126.1250,100,55829120,126.1200,126.1300,126639,0,0,C,",
    b"R1,!ENDMSG!,",
    b"R1,E,!NO_DATA!,,",
    b"R",
    b"",
]
BITS = [b",", b"\r", b".", b"-", b":", b"9" * 20, b"\x00", b"\xff", b"0", b"A", b" ", b"," * 20, b"F" * 70]


def damaged(rng: random.Random) -> bytes:
    line = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randrange(0, 4)):
        at = rng.randrange(len(line) + 1)
        how = rng.randrange(4)
        if how == 0:
            line[at:at] = rng.choice(BITS)
        elif how == 1:
            del line[at : at + rng.randrange(1, 6)]
        elif how == 2 and at < len(line):
            line[at] = rng.randrange(256)
        else:
            del line[at:]
    return bytes(line)


def main(rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(rounds):
        data = b"".join(damaged(rng) + rng.choice([b"\n", b"\r\n"]) for _ in range(40))
        if rng.random() < 0.3:
            data = data[: rng.randrange(1, len(data))]
        rows, protocol = rng.choice(["ticks", "intervals", "days"]), rng.choice(PROTOCOLS)
        newest_first = rng.random() < 0.5
        parsed = RowParser(rows, protocol, request_id=b"R1", newest_first=newest_first).parse(data)
        expected, refused = Reference(rows, protocol, b"R1", newest_first).parse(data)
        assert parsed.rows.to_pylist() == expected, (seed, number)
        assert [(row.number, row.text, row.reason) for row in parsed.refused] == refused, (seed, number)
        buf = np.frombuffer(data, dtype=np.uint8)
        runs = np.zeros((rng.choice([1, 3, 100]), 4), dtype=np.int64)
        at, lines = 0, []
        while True:
            found, following = find_runs(buf, at, buf.size, *table_of([b"R1", b"R", b"R11"]), runs)
            lines += [data[begin:end] for begin, end, *_ in runs[:found].tolist()]
            if following == at:
                break
            at = following
        assert b"".join(lines) == data[: data.rfind(b"\n") + 1], (seed, number)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
