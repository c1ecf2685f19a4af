"""One pipeline, one offered rate, one window: what was taken, where it lagged, whether anything is missing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, Contender, Product
from benchmarks.feed import Feed
from benchmarks.rig import Bench
from benchmarks.stations import Usage, usage
from benchmarks.sustained import Sample, Verdict, judge

WARM_UP_S = 6  # of flow before the window: just-in-time compilers, page faults, first snapshots
SETTLE_LIMIT_S = 40
STANDS_STILL_S = 10
MARKET_KINDS = "('trade', 'quote', 'level_set', 'level_delete')"
QUEUE_LIMIT_BYTES = 48 << 20  # unread by the pipeline: the simulator hangs up a little above


@dataclass(slots=True)
class Outcome:
    """What one trial found. `missing` counts market lines that the sockets took and ClickHouse has not."""

    contender: str
    verdict: Verdict
    sent: int
    missing: int | None
    repeated: int | None
    busy: dict[str, float] = field(default_factory=dict)  # role -> share of one core in the window
    memory: dict[str, int] = field(default_factory=dict)  # role -> resident bytes at its end
    status: dict[str, Any] = field(default_factory=dict)  # Any: the product's own snapshot at its end

    @property
    def held(self) -> bool:
        """Sustained: no growing lag, nothing missing."""
        return self.verdict.held and self.missing == 0


def run(
    bench: Bench,
    name: str,
    rate: int,
    window_s: int,
    *,
    sent_log: Path | None = None,
    instances: int = 1,
    own: dict[str, Any] | None = None,
) -> Outcome:
    """Start `name` against a fresh feed and fresh stores, watch it for the window, stop it.

    Topics and tables stay as they are at the end, until the next trial. `instances` of ingestion are the product's
    only; each has two connections. `own`: settings of `Bench.own`, where the caller has changed some. Any: values.
    """
    if own is None:
        own = bench.own(f"{name}-{rate}-{time.monotonic_ns()}", ingestion={"instances": instances})
        own["clickhouse"]["database"] = f"bench_{name}"
    bench.fresh(own)
    feed = Feed(own, rate=rate, sent_log=sent_log, connections=2 * instances)
    contender = CONTENDERS[name](own)
    try:
        contender.start()
        return _watch(bench, contender, feed, own, rate, window_s)
    finally:
        contender.stop()
        feed.stop()


def _watch(bench: Bench, contender: Contender, feed: Feed, own: dict[str, Any], rate: int, window_s: int) -> Outcome:
    database = own["clickhouse"]["database"]
    samples: list[Sample] = []
    began: float | None = None
    before: dict[int, Usage] = {}
    roles: dict[int, str] = {}
    line: dict[str, Any] | None
    while (line := feed.next()) is not None:
        if line["flow"] == "held":
            continue
        began = began or time.monotonic()
        if line["at"] - began < WARM_UP_S:
            continue
        if not samples:
            roles = contender.processes()
            before = usage(roles)
        samples.append(_sample(bench, database, line))
        if samples[-1].at - samples[0].at >= window_s:
            break
        if line["queued_bytes"] > QUEUE_LIMIT_BYTES and len(samples) >= 3:
            break
    if len(samples) < 3 or began is None:
        raise RuntimeError(f"{contender.name} was not connected long enough at {rate}/s")
    feed.finish()
    after = usage(roles)
    status = contender.status() if isinstance(contender, Product) else {}
    verdict = judge(samples, rate)
    seconds = samples[-1].at - samples[0].at
    outcome = Outcome(contender.name, verdict, samples[-1].sent, None, None, status=status)
    for pid, role in roles.items():
        if pid in after and pid in before:
            outcome.busy[role] = (after[pid].cpu_seconds - before[pid].cpu_seconds) / seconds
            outcome.memory[role] = after[pid].rss_bytes
    if verdict.held:
        _settle(bench, database, feed, outcome)
    return outcome


def _sample(bench: Bench, database: str, line: dict[str, Any]) -> Sample:
    kafka = bench.kafka.records("market.events", "market.features")
    [[events, features]] = bench.clickhouse.rows(
        f"SELECT (SELECT count() FROM {database}.events), (SELECT count() FROM {database}.features)"
    )
    return Sample(
        line["at"],
        line["market_lines"],
        kafka["market.events"],
        kafka["market.features"],
        _count(events),
        _count(features),
    )


def _count(cell: str | int | None) -> int:
    return int(cell or 0)  # 64-bit counts come as text in JSON


def _settle(bench: Bench, database: str, feed: Feed, outcome: Outcome) -> None:
    """Wait until the flow has ended and the stores stand still, then count."""
    stored, changed, limit = -1, time.monotonic(), time.monotonic() + SETTLE_LIMIT_S
    sent = 0
    while (line := feed.next()) is not None and time.monotonic() < limit:
        sent = line["market_lines"]
        now = bench.clickhouse.number(f"SELECT count() FROM {database}.events WHERE kind IN {MARKET_KINDS}")
        if now != stored:
            stored, changed = now, time.monotonic()
        if line["flow"] == "finished" and (stored >= sent or time.monotonic() - changed > STANDS_STILL_S):
            break
    distinct = bench.clickhouse.number(
        f"SELECT uniqExact(instance, epoch, seq, idx) FROM {database}.events WHERE kind IN {MARKET_KINDS}"
    )
    outcome.sent, outcome.missing, outcome.repeated = sent, sent - distinct, stored - distinct


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)
