"""Run by test_kernel_bounds in a process of its own: kernels with bounds checking, fed with damaged lines.

Out-of-bounds reads raise nothing in ordinary kernels; NUMBA_BOUNDSCHECK=1 makes them raise, and needs a cache
directory of its own, because the cache does not know that flag.
"""

from __future__ import annotations

import random
import sys

import numpy as np

from pipeline_orchestrator.flow.spool_format import FRAME_BYTES, Frame, encode_frame
from pipeline_orchestrator.flow.spool_scan import COLUMNS, scan_frames
from pipeline_orchestrator.ingestion.context import ParserContext
from pipeline_orchestrator.ingestion.layout import DEFAULT_LAYOUT, SELECTED, SYMBOL
from pipeline_orchestrator.ingestion.line_parser import LineParser
from pipeline_orchestrator.ingestion.line_scan import control_table, scan
from tests.unit.ingestion.expected import reference, rows_of

LONG_LAYOUT = (SYMBOL, "Last Time", *SELECTED, "Settlement Date", "Open", "Last Size", *("VWAP",) * 110, "Last Date")
SEEDS = [
    b"Q,AAPL,189.7000,120,01/02/2024,09:59:59.123456,873D17,11,1,2,4145784264,1061909,C,189.69,300,09:59:59.2,189.71,"
    b"200,09:59:59.1,,",
    b"P,AAPL,189.7000,120,01/02/2024,99:99:99,,11,1,31,1,1,Cbaohlcv,-1.,0,,.5,0,,0,",
    b"Q,AAPL,189.7000,120,09:59:59.123456,11,1061909,189.69,300,189.71,200,1.5,2.5,.5,1.,C,873D17,",
    b"Q,AAPL,09:59:59," + b"," * 18 + b"2024-01-02,1.5,7" + b"," * 110 + b"2024-01-02",
    b"T,20241103 01:30:00",
    b"S,CURRENT UPDATE FIELDNAMES,Symbol,Bid,Ask,",
    b"S,CLEAR DEPTH,@ESZ24,B,",
    b"C,SPY,I,O,07/16/2025,,619.0500,15000,859256116,198944,24,",
    b"3,@ESM19,12345678,MD01,B,2938.25,65,11,2,20:31:04.876740,2019-04-23,",
    b"5,TSLA,,CHXE,B,,2022-04-01,",
    b"7,@ESM19,B,2938.25,65,11,2,20:31:04.876740,2019-04-23,",
    b"9,@ESM19,A,2938.25,20:31:04.876740,2019-04-23,",
    b"Z,@ESM19,MD01,2938.,2938.25,65,23,20:31:04.876740,2019-04-23,52,20:31:04.876740,T,T,F,",
    b"2,BLIN,BOSX,0.,0.,0,0,99:99:99,2021-07-02,20,99:99:99,F,F,",
    b"F,AAPL,5",
    b"n,X",
    b"O",
    b"",
]
BITS = [b",", b"\r", b"\n", b".", b"-", b":", b"/", b"9" * 20, b"\x00", b"\xff", b"0", b"A", b" ", b"," * 130]


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
        data = b"".join(damaged(rng) + rng.choice([b"\n", b"\r\n"]) for _ in range(60))
        if rng.random() < 0.3:
            data = data[: rng.randrange(1, len(data))]
        layout = rng.choice([(SYMBOL, *SELECTED), DEFAULT_LAYOUT, LONG_LAYOUT])
        lines = data.count(b"\n") + (not data.endswith(b"\n"))
        frame = Frame(0, rng.choice([1, 2]), 1, 0, lines, 1_730_615_400_000_000, data)
        context = ParserContext(layout)
        batch, dead = LineParser(context).parse([frame])
        rows, refused, _ = reference([frame], context)
        assert rows_of(batch) == rows, (seed, number)
        assert [(d.position["spool"][2], d.reason, d.raw) for d in dead] == refused, (seed, number)
        buf = np.frombuffer(bytearray(data), dtype=np.uint8)
        scan(buf, 0, len(data), control_table())
        spooled = encode_frame(0, 1, 0, 1, 0, lines, 0, data) + data
        cut = bytearray(spooled[: rng.randrange(len(spooled) + 1)] + rng.randbytes(rng.randrange(FRAME_BYTES + 2)))
        scan_frames(
            np.frombuffer(cut or bytearray(1), dtype=np.uint8), len(cut), 100, np.zeros((4, COLUMNS), dtype=np.int64)
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
