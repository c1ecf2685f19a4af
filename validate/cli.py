"""`validate_data_pipeline.py`: the checks that `start` makes, on their own."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from config.settings import SettingsError, load
from validate.checks.config import log_directory
from validate.runner import EXIT_CONFIG, all_checks, run_checks, text_lines, write_report


def main(argv: Sequence[str] | None = None) -> int:
    """Validate and report; exit code 0 passed, 78 settings, 69 a required service, 99 another check."""
    options = _parser().parse_args(argv)
    flags = {"state_dir": options.state_dir} if options.state_dir else {}
    as_json = options.json or not sys.stdout.isatty()
    try:
        loaded = load(config=options.config or None, flags=flags)
    except SettingsError as error:
        sys.stderr.write(f"✗ {error}\n" + (f"  Try: {error.next_step}\n" if error.next_step else ""))
        if as_json:
            failure = {"code": "settings", "exit_code": EXIT_CONFIG, "message": str(error), "evidence": {}}
            sys.stdout.write(json.dumps({"error": {**failure, "next_step": error.next_step}}) + "\n")
        return EXIT_CONFIG
    settings = loaded.settings
    validation = write_report(asyncio.run(run_checks(settings, all_checks(loaded.origins))), log_directory(settings))
    if as_json:
        sys.stdout.write(json.dumps(validation.document()) + "\n")
    else:
        sys.stdout.write("\n".join(text_lines(validation)) + "\n")
    if validation.report:
        sys.stderr.write(f"report: {validation.report}\n")
    return validation.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="validate_data_pipeline.py",
        description="Check settings and services before a start; leaves a report in the log directory.",
        epilog="Exit codes: 0 passed, 69 a required service is unreachable, 78 settings, 99 another check failed.",
    )
    parser.add_argument(
        "--config", default="", metavar="FILE", help="settings file instead of config/pipeline_config.json"
    )
    parser.add_argument("--state-dir", default="", metavar="DIR", help="state directory of the pipeline")
    parser.add_argument("--json", action="store_true", help="JSON on stdout (the default where stdout is no terminal)")
    return parser
