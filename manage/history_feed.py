"""Which feed `history` asks: that of the settings, or the simulator of the pipeline that runs, on a port of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from manage import instance
from manage.client import Control, ControlError
from manage.exits import CliError, Exit

if TYPE_CHECKING:
    from config.sections import IQFeedConfig


@dataclass(frozen=True, slots=True)
class LookupAddress:
    """Where to ask. `simulated`: it is the simulator of the pipeline that runs; `next_step` where nothing listens."""

    host: str
    port: int
    protocol: str
    simulated: bool
    next_step: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def lookup_address(feed: IQFeedConfig, state: Path, *, own: bool) -> LookupAddress:
    """The Lookup port of the pipeline in `state` where that runs with a simulated feed, else that of the settings.

    `own` = the settings' in any case. Raises CliError(75) where a simulated feed runs and its address cannot be had:
    another feed's answer would be taken for its history.
    """
    record = None if own else instance.read_record(state)
    if record is None or not record.alive() or record.options.get("simulate") is None:
        step = "start IQConnect, or: manage_pipeline.py config show --origin"
        return LookupAddress(feed.host, feed.lookup_port, feed.protocol, False, step)
    step = f"manage_pipeline.py status{instance.state_argument(state)}"
    host, _, port = _told(state, step).rpartition(":")
    return LookupAddress(host, int(port), feed.protocol, True, step)


def _told(state: Path, step: str) -> str:
    """`host:port` as the running pipeline's status has it."""
    why = "no address in its status yet"
    try:
        services = Control(instance.socket_of(state)).get("/v1/status").get("infrastructure_status") or {}
        address = str(((services.get("iqfeed") or {}).get("addresses") or {}).get("lookup") or "")
        if address.rpartition(":")[2].isdigit():
            return address
    except ControlError as error:
        why = str(error)
    raise CliError(
        f"the running pipeline does not tell where its simulator listens: {why}; --no-simulate asks the settings' feed",
        exit_code=Exit.TRY_LATER,
        code="try_later",
        evidence={"state_dir": str(state)},
        next_step=step,
    )
