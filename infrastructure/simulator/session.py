"""What every port's conversation has in common: protocol, client name, clock, errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, Final

from infrastructure.simulator.connection import Connection
from infrastructure.simulator.eastern import clock_text
from infrastructure.simulator.feed import PROTOCOL, PROTOCOLS, Feed
from infrastructure.simulator.market import Rows

SYNTAX_ERROR: Final = "E,!SYNTAX_ERROR!,"
NO_PROTOCOL: Final = "E,Protocol not set: send S,SET PROTOCOL,6.2 first,"


class Session:
    """The conversation of one connection. Its state dies with the connection.

    Protocols 5.0 to 6.2 are spoken: another version asked for is answered with the newest, as an IQConnect answers
    that does not know it, and watches sent before any SET PROTOCOL are refused with an error line instead of the old
    dialect.
    """

    stats_type: ClassVar[int] = 0  # type in S,CLIENTSTATS
    streams: ClassVar[bool] = False  # gets market rows and T

    def __init__(self, feed: Feed, connection: Connection, number: int) -> None:
        self.feed, self.connection = feed, connection
        self.number = number  # id in CLIENTSTATS, unique per port
        self.client_name = ""
        self.since = datetime.now().astimezone()
        self.protocol_set = False
        self.protocol = PROTOCOL
        self.clock_on = True
        self._clock_said = False

    def greet(self) -> None:
        """What the server says first."""

    def command(self, line: str) -> None:
        """Answer one command line."""
        if not line:
            return
        if line.startswith("S,"):
            name, _, rest = line[2:].partition(",")
            handler = self.system().get(name.strip().upper())
            if handler is None:
                self.say(SYNTAX_ERROR)
            else:
                handler(rest)
        elif line == "T" and self.streams:
            self.say_clock()
        else:
            self.other(line)

    def other(self, line: str) -> None:
        """Answer a command that is no S, line."""
        self.say(SYNTAX_ERROR)

    def system(self) -> dict[str, Callable[[str], None]]:
        """Handlers of S, commands by name; they get the text after the name."""
        common: dict[str, Callable[[str], None]] = {"SET PROTOCOL": self._protocol, "SET CLIENT NAME": self._name}
        if self.streams:
            common["TIMESTAMPSON"] = lambda rest: self._clock(True)
            common["TIMESTAMPSOFF"] = lambda rest: self._clock(False)
        return common

    def deliver(self, rows: Rows) -> None:
        """Send what this connection watches of a batch."""

    def upstream(self, up: bool) -> None:
        """The link to the data source came up or went down."""
        self.say_upstream()

    def close(self) -> None:
        """The connection is gone: give up its watches."""

    @property
    def symbols_watched(self) -> int:
        """Symbols this connection watches."""
        return 0

    def say(self, line: str, symbol: int = -1) -> None:
        """Send one line."""
        self.connection.say(line, symbol)

    def say_upstream(self) -> None:
        """S,SERVER CONNECTED or DISCONNECTED."""
        self.say("S,SERVER CONNECTED" if self.feed.connected else "S,SERVER DISCONNECTED")

    def say_clock(self) -> None:
        """One T line."""
        self._clock_said = True
        self.say("T," + clock_text(self.feed.market.second_us))

    def say_clock_first(self) -> None:
        """A T before the first data of a connection: times of Level 1 have no date, so a reader needs one."""
        if self.clock_on and not self._clock_said and not self.connection.clock_lines_sent:
            self.say_clock()

    def symbol(self, text: str) -> int:
        """Index of a known symbol, -1 for an unknown one."""
        return self.feed.names.index.get(text.strip().upper(), -1)

    def _protocol(self, rest: str) -> None:
        behaviour, asked = self.feed.behaviour, rest.strip().removesuffix(",")
        known = asked in PROTOCOLS and asked <= behaviour.newest_protocol
        version = behaviour.answer_protocol or (asked if known else behaviour.newest_protocol)
        self.say(f"S,CURRENT PROTOCOL,{version}" + ("," if behaviour.ack_comma else ""))
        changed = not self.protocol_set or version != self.protocol
        self.protocol, self.protocol_set = version, True
        if changed:
            self.protocol_changed()

    def protocol_changed(self) -> None:
        """The connection just began to speak `protocol`."""

    def _name(self, rest: str) -> None:
        self.client_name = rest.strip().rstrip(",")

    def _clock(self, on: bool) -> None:
        self.clock_on = on
