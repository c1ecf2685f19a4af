"""One short question to ClickHouse over plain HTTP, for those who must not load its client for it."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.parse
from typing import Any

from config.sections import ClickHouseConfig

TIMEOUT_S = 3.0


def ask(clickhouse: ClickHouseConfig, query: str, **parameters: str) -> list[list[Any]] | None:  # Any: column values
    """The rows of a query without FORMAT; `parameters` fill its `{name:Type}`. Blocks for at most about TIMEOUT_S.

    None without an answer, and where the server refuses the query (no such table, wrong password).
    """
    told = {f"param_{name}": value for name, value in parameters.items()}
    told["query"] = f"{query} FORMAT JSONCompactEachRow"
    secret = f"{clickhouse.username}:{clickhouse.password.get_secret_value()}"
    head = {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
    kind = http.client.HTTPSConnection if clickhouse.secure else http.client.HTTPConnection
    connection = kind(clickhouse.host, clickhouse.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/?{urllib.parse.urlencode(told)}", headers=head)
        answer = connection.getresponse()
        if answer.status != http.client.OK or not (answer.chunked or answer.length is not None):
            return None  # of unknown length it may be cut between two rows
        # Row by row: a long answer read in one call would hold up every other thread for as long.
        return [json.loads(line) for line in answer.read().splitlines()]
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
