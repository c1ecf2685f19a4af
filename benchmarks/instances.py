"""What a second ingestion instance costs: the same flow through one reader and through two, in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from benchmarks.report import Cell, Report, table
from benchmarks.rig import SYMBOLS, bench
from benchmarks.trial import WARM_UP_S, Outcome, run, say

RATE = 20_000  # messages a second, well below what one instance holds
WINDOW_S = 12
COUNTS = (1, 2)
METHOD = """\
{rate:,} messages a second of {symbols} symbols, which the rule splits among the instances; window {window} s after
{warm} s of flow; medians of {runs} run(s), one and two instances in turn. Real Kafka (one node, 16 partitions), the
ClickHouse engine and Redis on the same machine. CPU = user + system time of the product's processes (feed and services
apart) over the messages that the feed's sockets took. Resident memory includes pages that a worker shares with the
seed."""


def ingestion(outcome: Outcome) -> float:
    """Microseconds of CPU that all ingestion processes together spent per message."""
    return cpu_us(outcome, lambda role: role.startswith("ingestion/"))


def pipeline(outcome: Outcome) -> float:
    """The same of all of the product's processes."""
    return cpu_us(outcome, lambda role: True)


def cpu_us(outcome: Outcome, counts: Callable[[str], bool]) -> float:
    """Microseconds of CPU per message of the roles that count."""
    return sum(share for role, share in outcome.busy.items() if counts(role)) / outcome.verdict.taken * 1e6


def cost(trials: Mapping[int, Sequence[Outcome]]) -> list[tuple[Cell, ...]]:
    """Per figure: median with one instance, with two, and their ratio."""
    rows: list[tuple[Cell, ...]] = []
    for what, figure in (("ingestion, CPU us per message", ingestion), ("all processes, CPU us per message", pipeline)):
        one, two = (median(figure(each) for each in trials[count]) for count in COUNTS)
        rows.append((what, one, two, two / one))
    return rows


def main(*, window_s: int = WINDOW_S, runs: int = 1) -> None:
    """One and two instances, `runs` times; medians."""
    report = Report("instances", "Cost of a second ingestion instance", part="cost")
    report.add(METHOD.format(rate=RATE, symbols=SYMBOLS, window=window_s, warm=WARM_UP_S, runs=runs))
    trials: dict[int, list[Outcome]] = {count: [] for count in COUNTS}
    with bench() as rig:
        for _ in range(runs):
            for count in COUNTS:
                outcome = run(rig, "product", RATE, window_s, instances=count)
                trials[count].append(outcome)
                said = "held" if outcome.held else outcome.verdict.why
                say(f"{count} instance(s): {said}; ingestion {ingestion(outcome):.2f} us of CPU per message")
    report.add(table(("figure", "1 instance", "2 instances", "ratio"), cost(trials)))
    report.add(
        table(
            ("instances", "process", "CPU us per message", "resident MiB"),
            [
                (count, role, cpu_us(each, lambda one, role=role: one == role), each.memory[role] // 2**20)  # type: ignore[misc]
                for count, (*_, each) in trials.items()
                for role in sorted(each.busy)
            ],
        )
    )
    report.add(
        table(
            ("instances", "taken /s", "lag growth, s (worst station)", "missing", "repeated", "verdict"),
            [
                (
                    count,
                    int(each.verdict.taken),
                    round(max(each.verdict.growth.values()), 2),
                    each.missing,
                    each.repeated,
                    "held" if each.held else each.verdict.why,
                )
                for count, tried in trials.items()
                for each in tried
            ],
        )
    )
    report.write()
