"""`python -m benchmarks [PART ...] [--full] [--runs N] [--window S]`; default: all parts."""

from __future__ import annotations

import argparse
import sys

PARTS = ("stages", "kinds", "startup", "latency", "instances", "durability", "end-to-end")


def main() -> int:
    """Run the parts that were asked for, one after another."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)} [all]")
    parser.add_argument("--full", action="store_true", help="windows of 60 s, medians of three runs")
    parser.add_argument("--runs", type=int, default=0, help="runs per figure [1, 3 with --full]")
    parser.add_argument("--window", type=int, default=0, help="seconds per rate [20, 60 with --full]")
    given = parser.parse_args()
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part {sorted(unknown)[0]!r}; known: {', '.join(PARTS)}")
    window = given.window or (60 if given.full else 20)
    runs = given.runs or (3 if given.full else 1)
    for part in given.parts or PARTS:
        if part == "stages":
            from benchmarks import stages

            stages.main()
        elif part == "kinds":
            from benchmarks import kinds

            kinds.main()
        elif part == "startup":
            from benchmarks import startup

            startup.main(runs=max(3, runs))
        elif part == "latency":
            from benchmarks import latency

            latency.main(window_s=window, runs=runs)
        elif part == "instances":
            from benchmarks import instances

            instances.main(window_s=60 if given.full else given.window or instances.WINDOW_S, runs=runs)
        elif part == "durability":
            from benchmarks import durability

            durability.main(window_s=window, runs=runs)
        else:
            from benchmarks import end_to_end

            end_to_end.main(window_s=window, runs=runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
