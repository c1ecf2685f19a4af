"""The highest rate that holds, for the product and for the naive pipeline, in one run on one machine."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from benchmarks.report import Report, table
from benchmarks.rig import SYMBOLS, Bench, bench
from benchmarks.sustained import next_rate
from benchmarks.trial import Outcome, run, say

FIRST = {"naive": 10_000, "product": 50_000}
CLOSE_ENOUGH = 1.15
METHOD = """\
Offered by the simulator over two sockets (Level 1 and Level 2), {symbols} symbols, Zipf; real Kafka (one node,
16 partitions), the ClickHouse engine and Redis on the same machine. Window {window} s after 6 s of flow. Held = the
feed was taken at the offered rate, no station's lag grew by more than a second's worth of messages over the window,
and afterwards every market line that the sockets took is in ClickHouse once. Rates are doubled, then closed in to
{close:.0%}; a rate that failed is tried once more."""


def highest(bench_: Bench, name: str, window_s: int, **sections: Any) -> tuple[int, list[Outcome]]:
    """The highest rate held (0 if none), and every trial. `sections` of the settings are given to each. Any: values."""

    def tried_at(rate: int) -> Outcome:
        own = bench_.own(f"{name}-{rate}-{time.monotonic_ns()}", **sections)
        own["clickhouse"]["database"] = f"bench_{name}"
        return run(bench_, name, rate, window_s, own=own)

    tried: dict[int, bool] = {}
    outcomes = []
    while (rate := next_rate(tried, FIRST[name], CLOSE_ENOUGH)) is not None:
        outcome = tried_at(rate)
        if not outcome.held:
            why = outcome.verdict.why if not outcome.verdict.held else f"{outcome.missing} lines are missing"
            say(f"{name} {rate:,}/s: {why}; once more")
            outcome = tried_at(rate)  # a neighbour's load must not decide
        tried[rate] = outcome.held
        outcomes.append(outcome)
        say(f"{name} {rate:,}/s: {'held' if outcome.held else outcome.verdict.why}")
    return max((rate for rate, held in tried.items() if held), default=0), outcomes


def main(*, window_s: int = 20, runs: int = 1) -> None:
    """Both contenders, `runs` times; medians."""
    report = Report("end_to_end", "End to end: feed -> spool -> Kafka -> features -> ClickHouse and Redis")
    report.add(METHOD.format(symbols=SYMBOLS, window=window_s, close=CLOSE_ENOUGH - 1))
    found: dict[str, list[int]] = {"naive": [], "product": []}
    trials: list[Outcome] = []
    for number in range(runs):
        with bench() as rig:
            for name, rates in found.items():
                rate, outcomes = highest(rig, name, window_s)
                rates.append(rate)
                trials += outcomes
                say(f"run {number + 1} of {runs}: {name} held {rate:,}/s")
    naive, product = median(found["naive"]), median(found["product"])
    rows = [
        (name, int(median(rates)), ", ".join(f"{rate:,}" for rate in rates)) for name, rates in found.items()
    ]  # fmt: skip
    report.add(table(("pipeline", "held msg/s (median)", "runs"), rows))
    report.add(f"ratio product / naive: {product / naive:.1f}" if naive else "ratio: unknown, naive held no rate")
    report.add(
        table(
            ("pipeline", "offered", "taken", "lag growth, s (worst station)", "missing", "repeated", "verdict"),
            [
                (
                    each.contender,
                    int(each.verdict.offered),
                    int(each.verdict.taken),
                    round(max(each.verdict.growth.values()), 2),
                    each.missing,
                    each.repeated,
                    "held" if each.held else each.verdict.why,
                )
                for each in trials
            ],
        )
    )
    best = {name: _best(trials, name) for name in found}
    report.add(
        table(
            ("process at its highest rate", "share of one core", "CPU us per message", "resident MiB"),
            [
                (
                    f"{name}: {role}",
                    round(share, 2),
                    round(share / each.verdict.taken * 1e6, 2),
                    each.memory[role] // 2**20,
                )
                for name, each in best.items()
                if each
                for role, share in sorted(each.busy.items())
            ],
        )
    )
    report.write()


def _best(trials: list[Outcome], name: str) -> Outcome | None:
    held = [each for each in trials if each.contender == name and each.held]
    return max(held, key=lambda each: each.verdict.offered, default=None)
