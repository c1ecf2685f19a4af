"""`drill list|run`: faults to rehearse on a running pipeline, each with a verdict."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manage.blank_status import rfc3339
from manage.exits import CliError, Exit
from manage.instance import state_argument
from manage.options import SOME_TIME, common, pipeline
from manage.terminal import Terminal

if TYPE_CHECKING:
    from manage.drills import Drill, Place

SCHEMA_VERSION = 1
LOCK_NAME = "drill.lock"
LONGEST_S = 300.0
Json = dict[str, Any]  # Any: JSON


@click.group(no_args_is_help=True)
def drill() -> None:
    """Do a fault to the running pipeline, end it, and say what it cost.

    \b
    manage_pipeline.py drill list
    manage_pipeline.py drill run kill-worker processing/0
    manage_pipeline.py drill run feed-half-open --for 15s -o json
    Related: status, audit
    """


@drill.command(name="list")
@pipeline
@common
def list_drills(terminal: Terminal, state: Path, config: str, **_: Any) -> int:  # Any: options not used here
    """All drills; of those that cannot be done here the reason."""
    from manage.drills import DRILLS, production, workers

    place, remark = _place(state, config)
    drills = {
        name: {
            "does": one.does,
            "ends": one.ends,
            "hindered": remark if place is None else one.hinders(place) or None,
            "components": workers(place.status) if place is not None and one.takes_worker else [],
        }
        for name, one in DRILLS.items()
    }
    why = None if place is None else production(place.status) or None
    document = _stamped({"production": None if place is None else why is not None, "why": why, "drills": drills})
    terminal.answer(document, lambda: _list_text(document, terminal))
    return Exit.OK


@drill.command()
@click.argument("name", metavar="NAME")
@click.argument("component", metavar="[COMPONENT]", default="")
@click.option("--for", "seconds", type=SOME_TIME, default=15.0, metavar="TIME",
              help="How long a fault lasts that does not end by itself [15s], at most 5m.")  # fmt: skip
@click.option("--i-know", is_flag=True, help="Do it to a production pipeline.")
@pipeline
@common
def run(
    terminal: Terminal, state: Path, config: str, name: str, component: str, seconds: float, i_know: bool, **_: Any
) -> int:  # Any: options not used here
    """Do the fault NAME, end it, wait until lines flow again, audit the drill's time.

    COMPONENT is for kill-worker and freeze-worker, else the first processing. The fault ends also on Ctrl-C and when
    this command is killed. Exit codes: 0 pass, 99 fail, 75 not all could be judged (or try later), 4 refused, 1
    cannot be done here, 7 no pipeline runs.

    \b
    manage_pipeline.py drill run kill-worker
    manage_pipeline.py drill run freeze-worker storage/0
    """
    from manage import prepared
    from manage.drill_run import FAIL, PASS
    from manage.drills import chosen_worker

    one = _named(name)
    place, remark = _place(state, config)
    if place is None:
        raise CliError(remark, exit_code=Exit.NEEDS_RUNNING, code="not_running",
                       next_step=f"manage_pipeline.py start{state_argument(state)}")  # fmt: skip
    if seconds > LONGEST_S:
        raise click.UsageError(f"--for {seconds:g}: at most {LONGEST_S:g} s")
    check(one, place, i_know)
    worker = chosen_worker(one, place.status, component)
    prepared.kernels(terminal)
    with _alone(state):
        document = _stamped(_run(terminal, one, worker, place, seconds))
    terminal.answer(document, lambda: _run_text(document, terminal))
    return {PASS: Exit.OK, FAIL: Exit.THRESHOLD}.get(document["verdict"], Exit.TRY_LATER)


def check(drill: Drill, place: Place, i_know: bool) -> None:
    """Raises CliError where the drill is refused, cannot be done here, or would find the pipeline already unwell."""
    from manage.drills import production, unwell

    if (why := production(place.status)) and not i_know:
        raise CliError(
            f"refused: this may be a production pipeline: {why}",
            exit_code=Exit.CANNOT_TELL,
            code="not_permitted",
            next_step=f"manage_pipeline.py drill run {drill.name} --i-know{state_argument(place.state)}",
        )
    if why := drill.hinders(place):
        step = "manage_pipeline.py drill list"
        raise CliError(f"{drill.name} cannot be done here: {why}", code="not_possible", next_step=step)
    if why := unwell(place.status):
        raise CliError(
            f"nothing is rehearsed on a pipeline that is not well: {why}",
            exit_code=Exit.TRY_LATER,
            code="not_well",
            next_step=f"manage_pipeline.py status{state_argument(place.state)}",
        )


def _run(terminal: Terminal, drill: Drill, worker: str, place: Place, seconds: float) -> Json:
    from manage.drill_run import Run
    from manage.interrupts import interrupted
    from pipeline_orchestrator.errors import NotConnectedError, RetryableError, UncertainError

    fault = drill.fault(place, worker, seconds)
    terminal.note(f"- to undo by hand, should this command not do it: {fault.by_hand}")
    try:
        return asyncio.run(Run(drill, worker, place, fault, terminal.note).run()).document()
    except KeyboardInterrupt:
        raise interrupted(
            "the fault was ended; nothing was judged",
            f"manage_pipeline.py status{state_argument(place.state)}    or    {fault.by_hand}",
        ) from None
    except (NotConnectedError, RetryableError, UncertainError) as error:
        raise CliError(str(error), exit_code=Exit.UNAVAILABLE, code="unreachable",
                       next_step="manage_pipeline.py status") from error  # fmt: skip


def _named(name: str) -> Drill:
    from manage.drills import DRILLS

    if name not in DRILLS:
        raise click.UsageError(f"no drill {name!r}; they are: {', '.join(DRILLS)}")
    return DRILLS[name]


def _place(state: Path, config: str) -> tuple[Place | None, str]:
    """The running pipeline, or why there is none."""
    from infrastructure.services.local import group_record
    from manage.commands.status import look
    from manage.drills import Place
    from manage.embedded_stores import in_force
    from manage.setup import load_settings

    status, code, remark = look(state)
    if code is not Exit.OK:
        return None, (remark.splitlines() or ["no pipeline runs"])[0].removeprefix("! ")
    settings = load_settings(config, str(state)).settings
    services = {name: getattr(settings, name) for name in ("kafka", "clickhouse", "redis")}
    there = settings.model_copy(update=in_force(status, settings.services.mode, services))
    return Place(status, there, state, group_record(settings)), ""


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One drill at a time: two faults have no verdict."""
    with (state / LOCK_NAME).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CliError("another drill runs", exit_code=Exit.TRY_LATER, code="busy") from None
        yield


def _stamped(document: Json) -> Json:
    return {"schema_version": SCHEMA_VERSION, "generated_at": rfc3339(), **document}


def _list_text(document: Json, terminal: Terminal) -> str:
    lines = []
    for name, one in document["drills"].items():
        mark = terminal.style("✗", "dim") if one["hindered"] else terminal.style("✓", "good")
        lines.append(f"{mark} {name:<15} {one['does']} Ends {one['ends']}.")
        if one["hindered"]:
            lines.append(f"  {'':<15} not here: {one['hindered']}")
        elif one["components"]:
            lines.append(f"  {'':<15} of: {', '.join(one['components'])}")
    if document["production"]:
        lines.append(f"{terminal.style('!', 'warn')} needs --i-know: {document['why']}")
    return "\n".join(lines)


def _run_text(document: Json, terminal: Terminal) -> str:
    style = {"pass": "good", "fail": "bad"}.get(document["verdict"], "warn")
    lines = [
        f"{terminal.style(document['verdict'].upper(), style)}   {document['drill']}: {document['did']}",
        f"  detected after   {_seconds(document['detected_s'])}   {document['seen']}",
        f"  recovered after  {_seconds(document['recovered_s'])}",
        f"  lost {_count(document['lost'])}   duplicated {_count(document['duplicated'])}"
        f"   gap rows {_count(document['gap_rows'])}",
    ]
    lines += [f"  {terminal.style('▲', 'warn')} {why}" for why in document["why"]]
    lines += [
        f"  {one['station']} {one['problem']} {one.get('range', '')}: {one['cause']}" for one in document["findings"]
    ]
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} s"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
