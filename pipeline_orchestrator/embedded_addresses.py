"""Where embedded services listen: free loopback ports, chosen before anything runs, and a fresh log id.

The embedded broker keeps its log in memory, so each start is another log (`kafka.log_id` says so to every stage).
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from pydantic import SecretStr

from config.sections import Settings

LOOPBACK = "127.0.0.1"
_NO_LOGIN = {"username": "", "password": SecretStr("")}  # embedded services listen on loopback and know no users


def free_ports(count: int) -> list[int]:
    """So many free loopback ports; all are held until all are found, so that none is given twice."""
    with ExitStack() as held:
        found = []
        for _ in range(count):
            probe = held.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            found.append(int(probe.getsockname()[1]))
        return found


def with_embedded_addresses(settings: Settings) -> Settings:
    """The settings with addresses and log id of what runs embedded; unchanged in the other modes."""
    if settings.services.mode != "embedded":
        return settings
    kafka, clickhouse, redis = free_ports(3)
    return with_sections(
        settings,
        {
            "kafka": {
                "bootstrap_servers": f"{LOOPBACK}:{kafka}",
                "log_id": f"embedded-{uuid.uuid4()}",
                "security_protocol": "PLAINTEXT",
                "sasl_mechanism": "",
            },
            "clickhouse": {"host": LOOPBACK, "port": clickhouse, "secure": False, **_NO_LOGIN, "username": "default"},
            "redis": {"host": LOOPBACK, "port": redis, **_NO_LOGIN},
        },
    )


def with_sections(settings: Settings, sections: Mapping[str, Mapping[str, Any]]) -> Settings:  # Any: several types
    """The settings with some keys of some sections replaced; the values are taken as valid."""
    changed = {name: getattr(settings, name).model_copy(update=dict(values)) for name, values in sections.items()}
    return settings.model_copy(update=changed)
