"""`simulate --describe`: a generated flow and a recorded one, figure beside figure, for people or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from manage.terminal import Terminal

SECONDS: Final = 600.0  # of market time, unless told otherwise
Document = Mapping[str, Any]  # JSON


def described(terminal: Terminal, config: Any, recorded: Path | None, seconds: float | None) -> None:
    """Compute and print; `config` is a SimulatorConfig. Raises what describe raises."""
    from infrastructure.simulator.describe import describe

    document = describe(config, recorded, SECONDS if seconds is None else seconds)
    terminal.answer(document, lambda: text(document))


def text(document: Document) -> str:
    """The table: a line per figure; what could not be computed is `unknown`."""
    sides = [document["generated"]] + ([document["recorded"]] if document["recorded"] else [])
    lines = [
        f"{name:<10} {side['source']}: symbol {side['symbol']}, {side['market_seconds']:,} s of market time, "
        f"{side['depth_lines']:,} depth lines, {side['trades']:,} trades"
        for name, side in zip(("simulator", "recorded"), sides, strict=False)
    ]
    heads = "".join(f"{head:>14} {'n':>9}" for head in ("simulator", "recorded")[: len(sides)])
    lines += ["", f"{'':<26}{heads}"]
    for name, figure in sides[0]["figures"].items():
        cells = "".join(_cell(side["figures"][name]) for side in sides)
        words = f"  {document['comparison'][name]['words']}" if document["comparison"] else ""
        unit = f" [{figure['unit']}]" if figure["unit"] else ""
        lines.append(f"{name + unit:<26}{cells}{words}".rstrip())
    return "\n".join([*lines, "", *_verdict(document)])


def _cell(figure: Document) -> str:
    value = figure["value"]
    shown = "unknown" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{shown:>14} {figure['n']:>9,}"


def _verdict(document: Document) -> list[str]:
    rows = document["comparison"]
    if not rows:
        return ["A generated market. Set a recorded day beside it: --recorded SYMBOL_DATE_..._message_...csv"]
    differ = [name for name, row in rows.items() if row["differs"]]
    unknown = [name for name, row in rows.items() if row["differs"] is None]
    said = [f"{len(differ)} of {len(rows)} figures differ" + (": " + ", ".join(differ) if differ else "") + "."]
    if unknown:
        said.append(f"Unknown: {', '.join(unknown)}.")
    return [
        *said,
        "Differ: ratio beyond 1.25, shares beyond 5 points, autocorrelations beyond 1.96 standard errors.",
        "One symbol over one stretch of time on each side: figures that are close do not make a generated market real.",
    ]
