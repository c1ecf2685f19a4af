"""`config show|validate|diff|schema`: what the settings are, where each came from, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from config import keys, paths
from config.sections import Settings
from config.settings import Loaded, differences, masked
from manage.options import common, pipeline
from manage.setup import load_settings
from manage.terminal import Terminal
from pipeline_orchestrator.symbol_source import SymbolSource, source_text


@click.group(no_args_is_help=True)
def config() -> None:
    """Show, validate and compare settings.

    \b
    manage_pipeline.py config show --origin
    manage_pipeline.py config validate --config config/custom_pipeline.json
    """


@config.command()
@click.option("--origin", is_flag=True, help="Where each value comes from.")
@pipeline
@common
def show(terminal: Terminal, config: str, state_flag: str, origin: bool, **_: Any) -> None:  # Any: unused options
    """The settings in force; secrets masked."""
    loaded = load_settings(config, state_flag, mending=True)
    document = masked(loaded.settings)
    if not origin:
        terminal.answer(
            document, lambda: json.dumps(document, indent=2, ensure_ascii=False), Settings.model_json_schema
        )
        return
    rows = {
        key.dotted: {"value": _value(document, key.path), "origin": str(loaded.origins.get(key.dotted, "default"))}
        for key in keys.all_keys().values()
    }
    terminal.answer(rows, lambda: "\n".join(_lines(rows)))


@config.command()
@pipeline
@common
def validate(terminal: Terminal, config: str, state_flag: str, **_: Any) -> None:  # Any: unused options
    """Every fault with its file, line and column; exit code 78 when there is one.

    Says where the symbols come from, too; a symbol search is asked by a start only, here its last answer is shown.
    """
    loaded = load_settings(config, state_flag, mending=True)
    files = [str(path) for path in loaded.files]
    state = Path(loaded.settings.state_dir) if loaded.settings.state_dir else paths.state_dir()
    source = SymbolSource(loaded.settings, state).document()
    text = f"valid: {', '.join(files) or 'defaults only'}\nsymbols: {source_text(source)}"
    terminal.answer({"valid": True, "files": files, "symbols": source}, lambda: text)


@config.command()
@pipeline
@common
def diff(terminal: Terminal, config: str, state_flag: str, **_: Any) -> None:  # Any: unused options
    """What differs from the defaults."""
    loaded = load_settings(config, state_flag, mending=True)
    found = differences(Settings(), loaded.settings)
    rows = [
        {"key": row["key"], "default": row["old"], "value": row["new"], "origin": _origin(loaded, row["key"])}
        for row in found
    ]
    text = "\n".join(
        f"{row['key']}: {json.dumps(row['default'])} → {json.dumps(row['value'])}   ({row['origin']})" for row in rows
    )
    terminal.answer({"differences": rows}, lambda: text or "no difference from the defaults")


@config.command()
@common
def schema(terminal: Terminal, **_: Any) -> None:  # Any: unused options
    """JSON Schema of the settings, for editors."""
    document = Settings.model_json_schema()
    terminal.answer(document, lambda: json.dumps(document, indent=2), lambda: document)


def _origin(loaded: Loaded, key: str) -> str:
    return str(loaded.origins.get(key, "default"))


def _value(document: dict[str, Any], path: keys.Path) -> Any:  # Any: JSON
    value: Any = document
    for name in path:
        value = value[name]
    return value


def _lines(rows: dict[str, dict[str, Any]]) -> list[str]:  # Any: JSON
    texts = {key: f"{key} = {json.dumps(row['value'], ensure_ascii=False)}" for key, row in rows.items()}
    width = min(60, max(map(len, texts.values())))
    return [f"{texts[key]:<{width}}  {row['origin']}" for key, row in rows.items()]
