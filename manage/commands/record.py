"""`record`: what the spools hold, or raw dumps of other tools, as one file that `replay` and the simulator read."""

from __future__ import annotations

import errno
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manage.exits import CliError, Exit
from manage.options import OutFile, pipeline, warn_of_variables
from manage.terminal import Terminal

if TYPE_CHECKING:
    from pipeline_orchestrator.flow.recording import Contents
    from pipeline_orchestrator.ingestion.spool_export import Missing

Document = dict[str, Any]  # JSON
HELP = "manage_pipeline.py record --help"
WRONG_FILE = 0.9  # of so many lines that cannot be read, the file itself is doubted: a wrong port's T can be read
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InstantType(click.ParamType[int]):
    """A point in time as microseconds UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # Any: click
        from manage.times import instant_us

        if isinstance(value, int):
            return value
        try:
            return instant_us(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--from", "begin", type=InstantType(), metavar="T", help="Received at or after T. Default: all kept.")
@click.option("--to", "end", type=InstantType(), metavar="T", help="Received before T. Default: now.")
@click.option("--import", "imports", multiple=True, metavar="PORT=FILE",
              help="A raw dump of level1 or level2 instead of the spools; once per port.")  # fmt: skip
@click.option("-o", "--output", required=True, type=OutFile(writable=False), metavar="FILE",
              help="The recording; compressed when the name ends in .zst.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour in output.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@pipeline
def record(
    state: Path,
    begin: int | None,
    end: int | None,
    imports: tuple[str, ...],
    output: Path,
    overwrite: bool,
    as_json: bool,
    color: str,
    debug: bool,
    **_: Any,  # Any: options of `pipeline` that are not used here
) -> int:
    """Export the spools of a running or stopped pipeline, or import raw dumps of a feed's ports.

    \b
    manage_pipeline.py record -o all.rec.zst
    manage_pipeline.py record --from 2026-03-02T14:30:00Z --to 2026-03-02T21:00:00Z -o day.rec.zst
    manage_pipeline.py record --import level1=l1.txt --import level2=l2.txt -o day.rec
    Related: replay, simulate --replay, start --simulate --replay

    T is RFC 3339 (UTC where it names no zone), or 10m for ten minutes ago. Exit code 1: FILE is written, but of the
    range lines are missing (removed by retention, or damaged); they are named with their identities. So too where of an
    imported file no line can be read.
    """
    terminal = Terminal(output_format="json" if as_json else "", color=color, debug=debug)
    click.get_current_context().find_root().obj = terminal
    if imports and (begin is not None or end is not None):
        raise click.UsageError("--from and --to choose from the spools; an import takes whole files")
    if begin is not None and end is not None and begin >= end:
        raise click.UsageError("--from is not before --to")
    dumps = _dumps(imports)
    if output.exists() and not overwrite:
        raise CliError(f"{output} exists", exit_code=Exit.USAGE, code="exists", next_step="add --overwrite")
    _check_place(output)
    from manage import prepared

    warn_of_variables(terminal)
    prepared.kernels(terminal)
    try:
        document = _import(dumps, output) if dumps else _export(state, begin, end, output)
    except OSError as error:
        if not _of_writing(error, output):
            raise
        raise CliError(
            f"{output} cannot be written: {error.strerror or error}",
            code="cannot_write",
            next_step="manage_pipeline.py record -o FILE    (in a directory with room, and with leave to write)",
        ) from error
    say_missing(terminal, document["missing"])
    for line in _of_an_import(document):
        terminal.note(f"{terminal.style('!', 'warn', error=True)} {line}")
    terminal.answer(document, lambda: _text(document))
    return Exit.FAILED if document["missing"] or _unreadable(document) else Exit.OK


def _check_place(output: Path) -> None:
    """Raises CliError where there is no directory for FILE."""
    place = output.parent
    if not place.is_dir():
        there = place.exists()
        raise CliError(
            f"{place} is not a directory" if there else f"no directory {place}",
            exit_code=Exit.USAGE,
            code="no_directory",
            next_step="-o FILE in a directory" if there else f"mkdir -p {shlex.quote(str(place))}",
        )


def _of_writing(error: OSError, output: Path) -> bool:
    """Whether an error is about FILE, or the hidden file beside it that becomes FILE; not about what is read."""
    if error.filename is None:
        return error.errno in NO_ROOM
    named = Path(str(error.filename))
    return named.parent == output.parent and (named == output or named.name.startswith(f".{output.name}."))


def _unreadable(document: Document) -> list[str]:
    """Ports whose imported file has no line that can be read."""
    lines: dict[str, int] = document.get("lines_of", {})
    return [port for port, count in lines.items() if count and document["refused_lines"].get(port) == count]


def _dumps(imports: tuple[str, ...]) -> dict[str, Path]:
    from pipeline_orchestrator.ingestion.recording_import import PORTS_OF_DUMPS

    dumps: dict[str, Path] = {}
    for named in imports:
        port, _, name = named.partition("=")
        if port not in PORTS_OF_DUMPS or not name:
            raise click.BadParameter(f"{named!r}: write level1=FILE or level2=FILE", param_hint="--import")
        if port in dumps:
            raise click.BadParameter(
                f"{port} is named twice; a recording takes one file per port", param_hint="--import"
            )
        if not Path(name).is_file():
            raise click.BadParameter(f"{name} is not a file", param_hint="--import")
        dumps[port] = Path(name)
    return dumps


def _export(state: Path, begin: int | None, end: int | None, output: Path) -> Document:
    from manage.times import instant_text
    from pipeline_orchestrator.flow.recording import RecordingWriter
    from pipeline_orchestrator.ingestion.spool_export import Span, export, spools

    found = spools(state)
    if not found:
        raise CliError(
            f"no spool in {state / 'spool'}",
            code="no_spool",
            next_step="manage_pipeline.py record --state-dir DIR    (the pipeline's state directory)",
        )
    asked = {"from": instant_text(begin), "to": instant_text(end)}
    order = "as read" if len(found) == 1 else "one instance after another, each as read"
    told = {"made_by": "record", "order": order, "instances": list(found), **asked}
    with RecordingWriter(output, told) as writer:
        missing = export(found, Span(begin, end), writer)
        if not writer.contents.frames:
            raise CliError(
                f"the spools in {state / 'spool'} hold nothing of that range",
                code="empty",
                evidence={**asked, "missing": [row.document() for row in missing]},
                next_step="manage_pipeline.py record -o FILE    (without --from and --to: all that is kept)",
            )
        return _finish(writer.contents, writer.finish, output, told, missing)


def _import(dumps: dict[str, Path], output: Path) -> Document:
    from pipeline_orchestrator.flow.recording import RecordingWriter
    from pipeline_orchestrator.ingestion.recording_import import GUESSED, import_dumps, order_of

    sources = [{"port": port, "file": path.name, "bytes": path.stat().st_size} for port, path in dumps.items()]
    told = {"made_by": "import", "order": order_of(dumps), "receipt": GUESSED, "sources": sources}
    with RecordingWriter(output, told) as writer:
        found = import_dumps(dumps, writer)
        if not found.lines.total():
            raise CliError(f"no line in {', '.join(map(str, dumps.values()))}", code="empty", next_step=HELP)
        document = _finish(writer.contents, writer.finish, output, told, [])
        return document | {
            "lines_of": dict(found.lines),
            "refused_lines": dict(found.refused),
            "oversize_lines": dict(found.oversize),
            "without_line_end": {port: repr(line)[2:-1] for port, line in found.unended.items()},
        }


def _of_an_import(document: Document) -> list[str]:
    """What an import kept in part, or not at all, for people."""
    lines = [_refused(port, n, document["lines_of"]) for port, n in document.get("refused_lines", {}).items() if n]
    lines += [
        f"{port}: of {count:,} lines longer than 64 KiB the first 64 KiB are in"
        for port, count in document.get("oversize_lines", {}).items()
        if count
    ]
    return lines + [
        f"{port}: the last line has no line end and may be cut: left out: {text[:200]}    (add one if it is whole)"
        for port, text in document.get("without_line_end", {}).items()
    ]


def _refused(port: str, count: int, lines: dict[str, int]) -> str:
    if count < WRONG_FILE * lines[port]:
        return f"{port}: {count:,} of {lines[port]:,} lines cannot be read; they stay in and become dead letters"
    none = count == lines[port]
    said = f"none of its {count:,} lines can be read" if none else f"{count:,} of {lines[port]:,} lines cannot be read"
    return f"{port}: {said}: is it the other port's, or packed? They stay in and become dead letters"


def _finish(contents: Contents, finish: Any, output: Path, told: Document, missing: list[Missing]) -> Document:
    from manage.times import instant_text

    rows = [row.document() for row in missing]
    finish({"missing": rows})
    return {
        "file": str(output),
        "file_bytes": output.stat().st_size,
        "frames": contents.frames,
        "lines": contents.lines,
        "facts": contents.facts,
        "bytes": contents.bytes,
        "first_received": instant_text(contents.first_us),
        "last_received": instant_text(contents.last_us),
        "instances": contents.instances,
        "recording": told,
        "missing": rows,
    }


def say_missing(terminal: Terminal, rows: list[Document]) -> None:
    """Missing ranges, one per line, to stderr."""
    for row in rows:
        terminal.note(f"{terminal.style('!', 'warn', error=True)} missing: {missing_text(row)}")


def missing_text(row: Document) -> str:
    """A missing range for people: from the first missing identity up to, not including, the next kept one."""
    count = "" if row["count"] is None else f" ({row['count']:,} lines and facts)"
    detail = f", {row['detail']}" if row["detail"] else ""
    begin = row["first"] or "the oldest"
    end = f"up to before {row['next']}" if row["next"] else "to the end"
    return f"instance {row['instance']}: from {begin} {end}{count}: {row['cause']}{detail}"


def about_text(told: Document) -> list[str]:
    """What a recording says of itself, for people; nothing where all is as it was read."""
    lines = []
    if told.get("made_by") == "import":
        names = ", ".join(f"{row['port']} from {row['file']}" for row in told.get("sources", ()))
        lines.append(f"imported: {names}; {told.get('order')}; {told.get('receipt')}")
    elif len(told.get("instances", ())) > 1:
        lines.append(f"recorded from instances {', '.join(map(str, told['instances']))}: {told.get('order')}")
    return lines + [f"missing: {missing_text(row)}" for row in told.get("end", {}).get("missing", ())]


def _text(document: Document) -> str:
    lines = [
        f"{document['file']}   {document['file_bytes']:,} bytes",
        f"  {document['lines']:,} lines, {document['facts']:,} facts in {document['frames']:,} frames, "
        f"{document['bytes']:,} bytes unpacked",
        f"  received {document['first_received'] or 'unknown'} to {document['last_received'] or 'unknown'}",
        f"  instances {', '.join(map(str, document['instances']))}",
    ]
    return "\n".join(lines + [f"  {line}" for line in about_text(document["recording"])])
