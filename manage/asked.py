"""What runs against what was asked for: in words, and the command that leads from one to the other."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from config import paths
from manage import instance
from manage.daemon import Request
from manage.feed_options import as_typed, in_words

Document = Mapping[str, Any]  # JSON


def difference_text(row: Document) -> str:
    """What runs and what was asked for, in words."""
    name, old, new = str(row["key"]), row["old"], row["new"]
    if name == "option simulate":
        return f"runs with {_feed(old)}, asked for {_feed(new)}"
    if name == "option demo":
        return "runs as a demo" if old else "asked for as a demo"
    return f"{name}: runs {json.dumps(old)}, asked for {json.dumps(new)}"


def _feed(wished: Any) -> str:  # Any: JSON, the simulator's configuration
    return in_words(wished) if isinstance(wished, Mapping) else "the feed of the settings"


def way_there(request: Request, running: Document, rows: Iterable[Document]) -> str:
    """The command that makes what runs into what was asked for."""
    state = instance.state_argument(request.state)
    names = {row["key"] for row in rows}
    if "option demo" in names:
        return f"manage_pipeline.py stop{state}"
    words = ["manage_pipeline.py restart"]
    wanted = request.config or (str(paths.config_file()) if running.get("config") else "")
    if wanted and wanted != running.get("config"):
        words.append(f"--config {shlex.quote(wanted)}")
    if "option simulate" in names:
        wished = request.options.get("simulate")
        words.append("--no-simulate" if wished is None else as_typed(wished))
    return " ".join(words) + state
