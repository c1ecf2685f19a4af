"""Kind by kind: the parser, the books and history, each against what one would write by hand.

Product and peer run in turns in one process and are measured by processor time (side_by_side.py), so the ratios stand
on a busy machine too. That both make the same of every line, message and row is asserted before anything is measured.
"""

from __future__ import annotations

import os

from benchmarks import kind_books, kind_clock, kind_history, kind_parser
from benchmarks.report import Report, table
from pipeline_orchestrator import pandas_block

LINES, MESSAGES, ROWS = 20_000, 10_000, 30_000


def main() -> None:
    """Four tables."""
    pandas_block.install()
    report = Report("kinds", "Kind by kind, per second of processor time, medians; ratio = product / peer")
    report.add(
        f"Parser: {LINES:,} lines a kind in reads of 64 KiB. Peer: `split` and conversion of the same fields.\n"
        "`split alone` converts nothing.\n\n" + table(kind_parser.HEADER, kind_parser.parser_rates(LINES))
    )
    report.add(
        f"Books: {MESSAGES:,} messages a kind, decoded events in, rows of the five best levels out; the product makes\n"
        "features besides. Peer: dicts and bisect. Ratios by rows a batch; depth = orders, levels or rows a symbol\n\n"
        + table(kind_books.HEADER, kind_books.book_rates(MESSAGES))
    )
    report.add(
        "Clock: what every `T` of Level 1 costs while participants' rows are held\n\n"
        + table(kind_clock.HEADER, kind_clock.clock_costs())
    )
    report.add(
        f"History: {ROWS:,} rows an answer from a socket that sends them at once; the client's processor time.\n"
        "Peer: a blocking socket, `split` and conversion of the same fields\n\n"
        + table(kind_history.HEADER, kind_history.history_rates(ROWS))
    )
    report.add("load after the run: " + " ".join(f"{each:.2f}" for each in os.getloadavg()))
    report.write()


if __name__ == "__main__":
    main()
