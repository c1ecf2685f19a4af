"""A pipeline without components, scripted by `<state>/fake.json`; as a program it is the detached daemon around it.

Script keys: "hold_start" true = never ready; "fail" = text raised by start; "hold_stop" true = drains until killed;
"shown" = state of its component while it runs; "unreachable" = name of a service that is reported unreachable;
"feed" = where the feed listens, address by connection.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

from manage import detached
from manage.blank_status import blank_status
from manage.daemon import Request


class FakePipeline:
    def __init__(self, request: Request, *_: object) -> None:
        script = request.state / "fake.json"
        self.script: dict[str, Any] = json.loads(script.read_text()) if script.exists() else {}
        self.symbols = list(request.settings.symbols)
        self.state = "starting"
        self.hold = asyncio.Event()
        self.calls: list[str] = []

    async def start(self) -> None:
        self.calls.append("start")
        if self.script.get("fail"):
            raise RuntimeError(self.script["fail"])
        if self.script.get("hold_start"):
            await self.hold.wait()
        self.state = "running"

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def stop(self, grace_seconds: float) -> None:
        self.calls.append(f"stop {grace_seconds:g}")
        if self.script.get("hold_stop"):
            await self.hold.wait()
        self.state = "stopped"

    def kill(self) -> None:
        self.calls.append("kill")
        self.hold.set()

    async def ask(self, component_id: str, verb: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        self.calls.append(f"ask {component_id} {verb}")
        outcomes = [{"id": one, "code": "not_found", "why": f"{component_id} has none"} for one in body["ids"]]
        return {"outcomes": outcomes}

    def status(self) -> Mapping[str, Any]:
        shown = self.script.get("shown", self.state) if self.state == "running" else self.state
        component = {
            "kind": "stage",
            "state": shown,
            "pid": 1,
            "since": "2026-01-01T00:00:00.000Z",
            "cause": "",
            "next_step": "",
            "embedded": False,
            "rates": {"in_per_s": 1532.0, "out_per_s": 1532.0},
            "totals": {"component_sent_records_total": 41},
        }
        document = blank_status(self.state, symbols=self.symbols, components={"ingestion/0": component})
        document["infrastructure_status"]["iqfeed"]["addresses"] = self.script.get("feed", {})
        name = self.script.get("unreachable")
        if name:
            document["infrastructure_status"][name].update(state="unreachable", mode="local", address="localhost:9092")
        if document["infrastructure_status"]["iqfeed"]["state"] == "unknown":
            document["infrastructure_status"]["iqfeed"].update(state="ok")  # or every start waits for it
        return document


if __name__ == "__main__":
    sys.exit(detached.main(sys.argv[1:], FakePipeline))
