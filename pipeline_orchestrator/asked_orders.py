"""Places of orders in their queues at the end of a replayed spool.

A reader that is stopped writes `lost` with the cause `shutdown`, and from there on nothing of its books is believed:
they are empty. A spool of a pipeline that was stopped ends so, and whoever asks for a place then means the place at
that stop. It is kept until the order's symbol is watched again. After any other loss there is no place to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pipeline_orchestrator.flow.spool_facts import Fact, decode_fact
from pipeline_orchestrator.flow.spool_format import FACT_PORT, Frame
from pipeline_orchestrator.processing.process_events import ProcessEvents
from pipeline_orchestrator.processing.queue_position import QueuePosition, queue_position

Order = tuple[str, int]  # symbol, unsigned order id


class AskedOrders:
    """Hand all frames to `feed`, in order, then ask for `answers`."""

    def __init__(self, processor: ProcessEvents, asked: Iterable[Order]) -> None:
        self.processor, self.asked = processor, list(asked)
        self._at_stop: dict[Order, QueuePosition] = {}

    def feed(self, frames: Sequence[Frame], take: Callable[[Sequence[Frame]], object]) -> None:
        """Pass frames of one instance on to `take`, cut so that the places at each stop are seen."""
        begin = 0
        for at, frame in enumerate(frames if self.asked else ()):
            fact = _fact(frame)
            if fact is None or fact.port != "level2":
                continue
            if fact.kind == "subscribed":
                self._at_stop = {one: place for one, place in self._at_stop.items() if one[0] != fact.symbol}
            elif fact.kind == "lost" and fact.detail.get("cause") == "shutdown":
                if begin < at:
                    take(frames[begin:at])
                before = {one: place for one in self.asked if (place := queue_position(self.processor, *one))}
                take(frames[at : at + 1])
                self._at_stop |= {one: p for one, p in before.items() if queue_position(self.processor, *one) is None}
                begin = at + 1
        if begin < len(frames):
            take(frames[begin:])

    def answers(self) -> list[QueuePosition | None]:
        """Per order asked for: its place now, else at the stop; None where the books hold no such order."""
        return [queue_position(self.processor, *one) or self._at_stop.get(one) for one in self.asked]


def _fact(frame: Frame) -> Fact | None:
    if frame.port != FACT_PORT:
        return None
    try:
        return decode_fact(frame.raw)
    except ValueError:
        return None  # the parser refuses it with a dead letter
