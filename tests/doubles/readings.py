"""What the readers spooled beside what the feed's sockets took, connection by connection.

A reader takes a connection's lines from the first one on, in order. So the lines of one epoch and port must be the
begin of exactly one connection's sent lines; what follows in that connection was sent and never read.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from infrastructure.simulator.sent_log import SentLine, read_sent_log
from pipeline_orchestrator.flow.spool_format import Frame
from pipeline_orchestrator.flow.spool_reader import iter_frames

EASTERN = ZoneInfo("America/New_York")
LAYOUT = "S,CURRENT UPDATE FIELDNAMES,"
PORTS = ("", "level1", "level2")  # "" = facts

Place = tuple[int, int, str, int]  # instance, epoch, port, and which of its connections
Identity = tuple[int, int, int]  # instance, epoch, seq


@dataclass(frozen=True, slots=True)
class Reading:
    """One reader's one connection. `last` is the seq of its last spooled line, clock lines included."""

    instance: int
    epoch: int
    port: str
    last: int
    read: list[SentLine]
    unread: list[SentLine]
    recv_us: list[int]  # of `read`, line by line


def spooled_frames(state: Path, instances: Sequence[int]) -> list[Frame]:
    """All frames of all spools, per instance in the order of writing."""
    return [frame for number in instances for frame in iter_frames(state / "spool" / str(number))]


def identities(frames: Sequence[Frame]) -> set[Identity]:
    """Of every line and fact but clock lines, which are counted and not stored."""
    return {
        (frame.instance, frame.epoch, frame.first_seq + at)
        for frame in frames
        for at, line in enumerate(_lines(frame))
        if frame.port == 0 or not line.startswith("T,")
    }


def readings(frames: Sequence[Frame], sent_log: Path) -> tuple[list[Reading], list[SentLine]]:
    """Every connection that was read, and the lines of those that never were. Clock lines are in neither.

    Fails where spooled lines are not the begin of one connection's lines, or two readings are of the same one.
    """
    sent: dict[tuple[str, int], list[SentLine]] = defaultdict(list)
    for line in read_sent_log(sent_log):
        if line.port in PORTS and not line.text.startswith("T,"):
            sent[(line.port, line.connection)].append(line)
    taken: dict[Place, list[str]] = defaultdict(list)
    received: dict[Place, list[int]] = defaultdict(list)
    last: dict[Place, int] = {}
    ended: Counter[tuple[int, int, str]] = Counter()
    for frame in frames:
        if not frame.port:
            fact = json.loads(bytes(frame.raw))["fact"]
            if fact.get("phase") == "lost":  # its next line, greetings before "open" too, is of another connection
                ended[(frame.instance, frame.epoch, fact["connection"])] += 1
        else:
            port = PORTS[frame.port]
            of = frame.instance, frame.epoch, port, ended[(frame.instance, frame.epoch, port)]
            market = [line for line in _lines(frame) if not line.startswith("T,")]
            taken[of] += market
            received[of] += [frame.recv_us] * len(market)
            last[of] = frame.first_seq + frame.count - 1
    found = []
    for (instance, epoch, port, number), lines in taken.items():
        whole = [
            key
            for key, those in sent.items()
            if key[0] == port and [line.text for line in those[: len(lines)]] == lines
        ]
        here = (instance, epoch, port, number)
        assert whole, f"{port} of instance {instance}, epoch {epoch}: not the begin of one unread connection"
        first_us = received[here][0] if received[here] else 0  # few lines may begin several connections alike
        those = sent.pop(min(whole, key=lambda key: abs(sent[key][0].wall_ns // 1000 - first_us)))
        rest = those[len(lines) :]
        found.append(Reading(instance, epoch, port, last[here], those[: len(lines)], rest, received[here]))
    return found, [line for those in sent.values() for line in those]


def _lines(frame: Frame) -> list[str]:
    return [part.removesuffix(b"\r").decode("latin-1") for part in bytes(frame.raw).split(b"\n")[: frame.count]]


Interval = tuple[str, str, int | None, int | None]  # symbol, port, from and to in microseconds UTC; None = open end


def outside(found: Sequence[Reading], gaps: Sequence[Interval]) -> list[tuple[SentLine, int]]:
    """What was sent and never read, and lies in no gap of its symbol and port; each line with its time."""
    missed = []
    for each in found:
        layouts = [line.text.split(",")[2:] for line in each.read if line.text.startswith(LAYOUT)]
        for line in each.unread:
            if line.text.startswith(LAYOUT):
                layouts.append(line.text.split(",")[2:])
            time_us = event_time_us(line, layouts[-1] if layouts else [])
            if time_us is not None and not any(
                (line.symbol, line.port) == (symbol, port)
                and (begin is None or begin <= time_us)
                and (end is None or time_us <= end)
                for symbol, port, begin, end in gaps
            ):
                missed.append((line, time_us))
    return missed


def event_time_us(line: SentLine, layout: Sequence[str]) -> int | None:
    """When it happened, of a quote, trade or price level: read off the text; None for every other line.

    `layout`: names of the fields of Q lines, in order.
    """
    fields = line.text.split(",")
    if fields[0] in {"7", "8"}:
        times = [fields[7]]
    elif fields[0] == "9":
        times = [fields[4]]
    elif fields[0] == "Q":
        values = dict(zip(layout, fields[1:], strict=False))
        traded = set(values["Message Contents"]) & set("CEO")
        times = [values["Most Recent Trade Time"]] if traded else [values["Bid Time"], values["Ask Time"]]
    else:
        return None
    return max(_near(line.wall_ns, time) for time in times)


def _near(wall_ns: int, time: str) -> int:
    """An Eastern time of day, on the day on which it lies nearest to a moment."""
    sent = datetime.fromtimestamp(wall_ns / 1e9, EASTERN)
    of_day = datetime.strptime(time, "%H:%M:%S.%f").time()
    days = (sent.date() + timedelta(days=by) for by in (-1, 0, 1))
    near = min((datetime.combine(day, of_day, EASTERN) for day in days), key=lambda at: abs(at - sent))
    return round(near.timestamp() * 1_000_000)
