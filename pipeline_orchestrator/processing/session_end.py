"""When the market closed, told to the kernels per clock event: the calendar itself is no kernel."""

from __future__ import annotations

import numpy as np

from pipeline_orchestrator.market.calendar import Calendar
from pipeline_orchestrator.market.events import KIND, PORT
from pipeline_orchestrator.processing.columns import Rows, value_at
from pipeline_orchestrator.processing.layout import NIL, Array


def with_session_ends(rows: Rows, calendar: Calendar) -> Rows:
    """The rows; each `T` of Level 1 outside a session gets the end of the last one as its `closed`.

    Where the calendar does not know, the market counts as open: nothing expires on a guess.
    """
    if calendar.sessions is None:
        return rows
    closed: Array = np.full(rows.kind.size, NIL, np.int64)
    clocks = np.flatnonzero((rows.kind == KIND["clock"]) & (rows.port == PORT["level1"]))
    for i in clocks.tolist():
        time = value_at(rows.time, i)
        session = calendar.session_of(time)
        if time != NIL and session.state == "closed" and session.begin is not None:
            closed[i] = session.begin
    closed.flags.writeable = False
    return rows._replace(closed=closed)
