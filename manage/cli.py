"""The command line: verbs by name, one exit code table, errors in one form.

A verb's module is imported when the verb is called, so that `status` pays for nothing else.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from manage.exits import CliError, Exit
from manage.terminal import FORMATS, Terminal

# verb -> (where its click command is, one line of help), grouped as `--help` shows them
VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "start": ("manage.commands.start:start", "Check, then start the pipeline and wait until it is ready."),
        "stop": ("manage.commands.stop:stop", "Drain and stop the pipeline."),
        "restart": ("manage.commands.restart:restart", "Stop, then start with the same or new settings."),
        "demo": ("manage.commands.demo:demo", "Everything embedded, a simulated feed, nothing to install."),
    },
    "Watch": {
        "status": ("manage.commands.status:status", "State of every component, now."),
        "monitor": ("manage.commands.monitor:monitor", "The same, once a second."),
        "logs": ("manage.commands.logs:logs", "The daemon's log lines."),
        "audit": ("manage.commands.audit:audit", "Compare spool, Kafka, ClickHouse and Redis; name what is missing."),
        "symbol": ("manage.commands.symbol:symbol", "What is known of one symbol: fundamentals, book, gaps, news."),
    },
    "Rehearse": {
        "drill": ("manage.commands.drill:drill", "Kill, freeze, slow, fill: a fault on purpose, with a verdict."),
    },
    "Mend": {
        "dlq": ("manage.commands.dlq:dlq", "What could not be used: list, show, replay."),
    },
    "Prepare": {
        "config": ("manage.commands.config:config", "Show, validate and compare settings."),
        "services": ("manage.commands.services:services", "Kafka, ClickHouse and Redis on this machine."),
        "completion": ("manage.commands.completion:completion", "Print the completion script of a shell."),
    },
    "Feed and files": {
        "simulate": ("manage.commands.simulate:simulate", "An IQFeed server that generates or replays a market."),
        "history": ("manage.commands.history:history", "Past ticks and bars from the feed's Lookup port."),
        "parse": ("manage.commands.parse:parse", "Recorded feed lines to events."),
        "record": ("manage.commands.record:record", "The spools, or dumps of other tools, as one file."),
        "replay": ("manage.commands.replay:replay", "Recorded files through processing, to Parquet."),
    },
}


class VerbGroup(click.Group):
    """Loads a verb's module only when that verb is used; help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for group in VERBS.values() for verb in group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for group in VERBS.values():
            if cmd_name in group:
                module, _, name = group[cmd_name][0].partition(":")
                command: click.Command = getattr(importlib.import_module(module), name)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        verbs = self.list_commands(ctx)
        if args and args[0] not in verbs and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], verbs, n=1)
            ctx.fail(f"no verb {args[0]!r}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, group in VERBS.items():
            with formatter.section(title):
                formatter.write_dl([(verb, text) for verb, (_, text) in group.items()])


@click.group(
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 not running, 4 cannot tell or not permitted, 7 needs a running "
    "pipeline, 69 a service is unreachable, 75 try later, 78 settings invalid, 99 a threshold is not met, "
    "130 interrupted.",
)
def cli() -> None:
    """Run and watch the market-data pipeline.

    \b
    manage_pipeline.py demo                 # nothing needed
    manage_pipeline.py start --simulate     # local services, simulated feed
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raises for what an operator can cause."""
    if instruction := os.environ.get("_MANAGE_PIPELINE_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "manage_pipeline.py", "_MANAGE_PIPELINE_COMPLETE", instruction)
    arguments = list(sys.argv[1:] if argv is None else argv)
    context: click.Context | None = None
    try:
        with cli.make_context("manage_pipeline.py", arguments) as context:
            result = cli.invoke(context)
            return int(result) if isinstance(result, int) else int(Exit.OK)
    except click.exceptions.Exit as error:
        return int(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return int(Exit.USAGE)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "manage_pipeline.py"
        _terminal(context, arguments).error(
            CliError(error.format_message(), exit_code=Exit.USAGE, code="usage", next_step=f"{where} --help")
        )
        return int(Exit.USAGE)
    except CliError as error:
        terminal = _terminal(context, arguments)
        if terminal.debug:
            import traceback

            terminal.note(traceback.format_exc().rstrip())
        terminal.error(error)
        return int(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _terminal(context, arguments).note("interrupted")
        return int(Exit.INTERRUPTED)
    except OSError as error:
        terminal = _terminal(context, arguments)
        if terminal.debug:
            raise
        terminal.error(CliError(f"{error.strerror or error}: {error.filename}" if error.filename else str(error)))
        return int(Exit.FAILED)


def _terminal(context: click.Context | None, arguments: list[str]) -> Terminal:
    """The command's own terminal, or one made from the words typed when parsing them failed."""
    if context is not None and isinstance(context.obj, Terminal):
        return context.obj
    wanted = ["json"] if "--json" in arguments else []
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        named = following if word in {"-o", "--output"} else word.removeprefix("--output=").removeprefix("-o")
        if named != word and named in FORMATS:
            wanted.append(named)
    return Terminal(output_format=wanted[0] if wanted else "", debug="--debug" in arguments)
