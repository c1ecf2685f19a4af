"""One run of the demo as people see it: box, next commands, progress, account. And its temporary state directory."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from config.durations import spoken
from config.sections import Settings
from manage.daemon import Daemon, Request
from manage.demo import DemoPipeline
from manage.exits import Exit
from manage.render import milliseconds, number
from manage.run_daemon import run_daemon
from manage.setup import load_settings
from manage.starting import component_line
from manage.starts import Hold
from manage.stations import Account
from manage.terminal import Terminal
from pipeline_orchestrator.supervisor.instance_lock import InstanceLock
from pipeline_orchestrator.telemetry.log_file import LogWriter

Document = dict[str, Any]  # JSON
WAITING_SECONDS = 10.0


class DemoSession:
    """`wished` is the simulator's configuration, `depth` the form of Level 2: levels | orders.

    `state` None = a fresh directory, removed when all counts agree.
    """

    def __init__(
        self,
        terminal: Terminal,
        wished: Document,
        symbols: int,
        duration: float | None,
        state: Path | None,
        depth: str = "levels",
    ) -> None:
        self.terminal, self.wished, self.duration, self.depth = terminal, wished, duration, depth
        self.temporary = state is None
        self.state = state or Path(tempfile.mkdtemp(prefix="pipeline-demo-"))
        self.symbols = symbols
        self.pipeline: DemoPipeline | None = None
        self.daemon: Daemon | None = None
        self._drawn = False
        self._waiting_due = 1.0  # a short wait needs no word

    def run(self, hold: Hold) -> int:
        """The demo from start to account; 0 when every station holds the same, else 99.

        `hold` is released once the pipeline's own lock is held.
        """
        try:
            flags = {
                "services": {"mode": "embedded"},
                "symbols": self._names(),
                "state_dir": str(self.state),
                "iqfeed": {"depth": self.depth},
            }
            settings = load_settings(flags=flags).settings
            options = {"demo": True, "simulate": self.wished}
            request = Request(settings, self.state, "", options)
            code = run_daemon(request, lambda _: hold.release(), self._build, self._hold)
        except BaseException:
            self._clean(keep=False)
            raise
        account = self.pipeline.account if self.pipeline is not None else None
        early = "stopped before it was ready" if not (self.pipeline and self.pipeline.ready) else "cut short"
        cut = self.pipeline is not None and self.pipeline.cut
        if account is None:
            differences = [f"no account was taken: {early}"]
        else:
            differences = account.cut_short() if cut else account.differences()
        self._say_account(account, differences)
        self._clean(keep=self._keeps(account, differences))
        return code or (Exit.INTERRUPTED if cut else Exit.THRESHOLD if differences else Exit.OK)

    def _keeps(self, account: Account | None, differences: list[str]) -> bool:
        """Whether the state directory may tell more than was said: not where somebody did not want to wait."""
        cut = self.pipeline is not None and self.pipeline.cut
        return not self.temporary or (bool(differences) and account is not None and not cut)

    def _names(self) -> list[str]:
        """The symbols: of a replay those that it has, else the usual ones and as many more as asked for."""
        if "replay" in self.wished:
            return list(self.wished["symbols"])
        usual = list(Settings().symbols)
        return [*usual, *(f"SIM{n:03d}" for n in range(1, self.symbols + 1))][: self.symbols]

    def _hold(self, daemon: Daemon) -> None:
        self.daemon = daemon
        daemon.hurry = self._hurry

    def _hurry(self) -> bool:
        if self.pipeline is None or not self.pipeline.hurry():
            return False
        self._say("counting what is at each station now; Ctrl-C again ends at once")
        return True

    def _build(self, request: Request, log: LogWriter, lock: InstanceLock) -> DemoPipeline:
        assert self.daemon is not None
        self.pipeline = DemoPipeline(
            request, log, lock, show=self._show, duration=self.duration, end=partial(self.daemon.end)
        )
        return self.pipeline

    # -- what is shown -----------------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        if self._drawn:
            self.terminal.redraw("")
            self._drawn = False
        if self.terminal.for_people:
            self.terminal.text(line)
        else:
            self.terminal.note(line)

    def _show(self, event: str, document: Document) -> None:
        if event == "progress":
            if self.terminal.live:
                self.terminal.redraw(progress_line(document))
                self._drawn = True
        elif event == "settling":
            self._say_waiting(document)
        elif event == "component":
            self._say(component_line(self.terminal, document["id"], document))
        elif event == "ready":
            assert self.pipeline is not None
            for line in box(self.pipeline.settings, self.wished):
                self._say(line)
            self._say(f"ready {document['seconds']:.2f} s after the program's start. Next, in another terminal:")
            for command in ("status", "monitor --duration 30", "stop"):
                self._say(f"  python3 manage_pipeline.py {command} --state-dir {self.state}")
            self._say(f"ends by itself after {spoken(self.duration)}" if self.duration else "ends with Ctrl-C")
        elif event == "first_trade":
            self._say(f"first trade stored in ClickHouse {document['seconds']:.2f} s after the program's start")
        elif event == "stopping_feed":
            self._say("stopping the feed; what it sent works its way through")

    def _say_waiting(self, document: Document) -> None:
        """A live line, elsewhere one each `WAITING_SECONDS`."""
        if self.terminal.live:
            self.terminal.redraw(waiting_line(document))
            self._drawn = True
        elif document["seconds"] >= self._waiting_due:
            self._waiting_due = document["seconds"] + WAITING_SECONDS
            self._say(waiting_line(document))

    def _say_account(self, account: Account | None, differences: list[str]) -> None:
        first = self.pipeline.first_trade_seconds if self.pipeline is not None else None
        lines = account_lines(account) if account is not None else []
        lines += [f"✗ {difference}" for difference in differences] or ["✓ every station holds the same"]
        document = {
            "equal": not differences,
            "differences": differences,
            "first_trade_seconds": first,
            "account": account_document(account),
            "state_dir": str(self.state) if self._keeps(account, differences) else None,
        }
        if self._drawn:
            self.terminal.redraw("")
        self.terminal.answer(document, lambda: "\n".join(lines))

    def _clean(self, *, keep: bool) -> None:
        if not self.temporary:
            return
        if keep:
            self.terminal.note(f"state and logs are kept in {self.state}")
        else:
            shutil.rmtree(self.state, ignore_errors=True)


def box(settings: Settings, wished: Document) -> list[str]:
    """What is embedded, where it listens."""
    feed = settings.iqfeed
    market = f"{len(settings.symbols)} symbols, {wished['rate']} lines/s" if "rate" in wished else "replay"
    market = f"scenario {Path(wished['scenario']).stem}" if "scenario" in wished else market
    rows = [
        "Demo: embedded feed, broker, stores. Not for production.",
        f"feed        simulator ({market})  {feed.host}:{feed.level1_port} and :{feed.port}",
        f"            history from its Lookup port :{feed.lookup_port}, faults on its admin port :{feed.admin_port}",
        f"kafka       mock broker, in memory    {settings.kafka.bootstrap_servers}",
        "            keeps the newest 5 MiB of each partition: rates of a real broker need make services",
        f"clickhouse  chDB behind HTTP          {settings.clickhouse.host}:{settings.clickhouse.port}",
        f"redis       redis-server, in memory   {settings.redis.host}:{settings.redis.port}",
    ]
    width = max(map(len, rows))
    return [f"┌{'─' * (width + 2)}┐", *(f"│ {row:<{width}} │" for row in rows), f"└{'─' * (width + 2)}┘"]


def progress_line(document: Document) -> str:
    """One line with what has passed each station so far."""
    parts = [f"{document['seconds']:6.1f} s"]
    for word, key in (("sent", "sent"), ("ingested", "ingested_total"), ("processed", "processed_total")):
        parts.append(f"{word} {_count(document.get(key))}")
    parts.append(f"stored {_count(document.get('stored_total'))}")
    parts.append(f"latency p99 {milliseconds(document.get('latency_p99_ms'))}")
    return "  ".join(parts)


def waiting_line(document: Document) -> str:
    """One line with what the last lines wait for."""
    behind = document["behind"]
    parts = [
        f"{name} {behind[key]:,} {unit}"
        for name, key, unit in (
            ("Kafka", "kafka", "lines"),
            ("ClickHouse", "clickhouse", "lines"),
            ("features", "features", "rows"),
            ("Redis", "redis", "symbols"),
        )
        if behind[key]
    ]
    silent = [name for name, key in (("ClickHouse", "clickhouse"), ("features", "features")) if behind[key] is None]
    parts += [f"{name} unknown" for name in silent]
    what = f"behind: {', '.join(parts)}" if parts else "comparing the stations"
    return f"draining {document['seconds']:.0f} s  {what}  (Ctrl-C: the counts so far)"


def _count(value: Any) -> str:  # Any: a JSON figure
    return "-" if value is None else number(value)


def account_lines(account: Account) -> list[str]:
    """The account for people: one line per station."""
    rows = []
    if account.sent is not None:
        rows.append(("sent", account.sent, "lines taken by the sockets"))
    if account.spooled is not None:
        spooled = account.spooled
        rows.append(
            ("spooled", spooled.lines, f"lines, {spooled.clock:,} of them clock; and {spooled.facts:,} own facts")
        )
    if account.logged is not None:
        logged = account.logged
        note = f"distinct, {logged.clock:,} of them clock; {logged.repeats:,} repeats, {logged.dead:,} dead letters"
        if logged.forgotten:
            note += f"; {logged.forgotten:,} older records no longer in the broker's memory"
        rows.append(("kafka", logged.distinct, note))
    if account.stored is not None:
        stored = account.stored
        note = f"events (clock lines are not stored), {stored.trades:,} trades, {stored.features:,} feature rows"
        rows.append(("clickhouse", stored.events, note))
    if account.cached is not None and account.stored is not None:
        equal = len(account.stored.newest) - len(set(account.cached.different) & set(account.stored.newest))
        rows.append(("redis", account.cached.symbols, f"symbols, {equal:,} of them equal to the newest record"))
    return [f"  {name:<10} {count:>12,}  {note}" for name, count, note in rows]


def account_document(account: Account | None) -> Document | None:
    """The account as JSON, without the newest identity of each symbol."""
    if account is None:
        return None
    document = asdict(account)
    if document["stored"] is not None:
        document["stored"]["symbols"] = len(document["stored"].pop("newest"))
    return document
