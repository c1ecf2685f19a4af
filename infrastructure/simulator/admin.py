"""Admin (port 9300, LF): statistics each second, login commands, the upstream link of all ports.

No greeting: S,STATS starts at once. Login commands are answered and nothing is checked. `S,SIMULATE LOOKUP` with
NAME=VALUE,... is no command of IQFeed: it switches limits and faults of the Lookup port while the server runs. Nor is
`S,SIMULATE FEED` with a fault of fault_kinds.py: all ports misbehave by it. Both are answered with themselves, or E.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from infrastructure.simulator.connection import Connection
from infrastructure.simulator.feed import Feed
from infrastructure.simulator.session import Session
from infrastructure.simulator.stats import client_stats_line, stats_line

LINE_END: Final = b"\n"


class AdminSession(Session):
    """See the module."""

    stats_type: ClassVar[int] = 0
    streams: ClassVar[bool] = False

    def __init__(self, feed: Feed, connection: Connection, number: int) -> None:
        super().__init__(feed, connection, number)
        self._client_stats = False

    def greet(self) -> None:
        self.second()

    def second(self) -> None:
        """The lines of each second."""
        self.say(stats_line(self.feed))
        if self._client_stats:
            for session in list(self.feed.sessions):
                self.say(client_stats_line(session))

    def upstream(self, up: bool) -> None:
        """Shown by S,STATS alone."""

    def system(self) -> dict[str, Callable[[str], None]]:
        return super().system() | {
            "REGISTER CLIENT APP": lambda rest: self.say("S,REGISTER CLIENT APP COMPLETED,"),
            "REMOVE CLIENT APP": lambda rest: self.say("S,REMOVE CLIENT APP COMPLETED,"),
            "SET LOGINID": self._login_id,
            "SET PASSWORD": lambda rest: self.say(f"S,CURRENT PASSWORD,({rest[:1]}*****{rest[-1:]}),"),
            "SET SAVE LOGIN INFO": lambda rest: self._switch(
                rest, "save", "S,LOGIN INFO SAVED,", "S,LOGIN INFO NOT SAVED,"
            ),
            "SET AUTOCONNECT": lambda rest: self._switch(
                rest, "autoconnect", "S,AUTOCONNECT ON,", "S,AUTOCONNECT OFF,"
            ),
            "CONNECT": lambda rest: self.feed.set_upstream(True),
            "DISCONNECT": lambda rest: self.feed.set_upstream(False),
            "SIMULATE LOOKUP": self._simulate_lookup,
            "SIMULATE FEED": self._simulate_feed,
            "CLIENTSTATS ON": lambda rest: self._stats(True),
            "CLIENTSTATS OFF": lambda rest: self._stats(False),
        }

    def _login_id(self, rest: str) -> None:
        self.feed.login.login_id = rest.strip().rstrip(",")
        self.say(f"S,CURRENT LOGINID,{self.feed.login.login_id},")

    def _switch(self, rest: str, name: str, on: str, off: str) -> None:
        wanted = rest.strip().rstrip(",").lower() == "on"
        setattr(self.feed.login, name, wanted)
        self.say(on if wanted else off)

    def _simulate_lookup(self, rest: str) -> None:
        """A command of the simulator's own: NAME=VALUE of lookup_behaviour, separated by commas."""
        pairs = [setting.strip().partition("=") for setting in rest.split(",") if setting.strip()]
        try:
            self.feed.set_lookup({name: value for name, _, value in pairs})
        except ValueError as error:
            self.say(f"E,{error},")
            return
        self.say("S,SIMULATE LOOKUP," + rest)

    def _simulate_feed(self, rest: str) -> None:
        try:
            self.feed.misbehave(rest)
        except ValueError as error:
            self.say(f"E,{error},")
            return
        self.say("S,SIMULATE FEED," + rest)

    def _stats(self, on: bool) -> None:
        self._client_stats = on
