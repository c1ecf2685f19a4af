"""What commands print: in a pipe, on a terminal, with and without colour, and as documents."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.paths import PROJECT_ROOT
from manage import cli
from manage.exits import Exit
from manage.protocol import StatusReply
from manage.render import duration, local_time, milliseconds, moment, number, render_status, size
from manage.terminal import yaml_lines

PROGRAM = [sys.executable, str(PROJECT_ROOT / "manage_pipeline.py")]
STATUS: dict[str, Any] = {
    "schema_version": 1,
    "generated_at": "2026-11-21T10:00:00.000Z",
    "status": "degraded",
    "pid": 4121,
    "since": "2026-11-21T06:48:00.000Z",
    "symbols": ["AAPL"],
    "health_score": None,
    "deductions": [],
    "not_evaluated": ["health_score", "bottlenecks", "active_alerts"],
    "bottlenecks": [],
    "active_alerts": [],
    "components": {
        "storage/0": {
            "kind": "stage",
            "state": "running",
            "pid": 12,
            "restarts": 0,
            "age_s": 0.4,
            "rates": {"in_per_s": 1118.0, "out_per_s": 1118.0},
            "time": {"idle": 1.0, "busy": 30.0, "blocked": 69.0, "blocked_on": "clickhouse", "unaccounted": 0.0},
            "gauges": {"lag_records": 3041, "lag_seconds": 2.7},
            "process": {"cpu_percent": 31.2, "rss_bytes": 222298112, "fds": 30},
        },
        "ingestion/0": {
            "kind": "stage",
            "state": "degraded",
            "cause": "no feed at 127.0.0.1:5009",
            "next_step": "start IQConnect",
            "pid": 11,
            "rates": {"in_per_s": None, "out_per_s": None},
            "time": None,
        },
        "kafka/0": {"kind": "service", "state": "running", "embedded": True, "rates": {}},
    },
    "metrics": {
        "ingested_total": 15320,
        "processed_total": None,
        "stored_total": 0,
        "latency_p50_ms": 8.25,
        "latency_p99_ms": 2700.0,
    },
    "infrastructure_status": {
        "kafka": {"state": "ok", "mode": "embedded", "address": "127.0.0.1:1", "round_trip_ms": 3.0},
        "clickhouse": {"state": "slow", "mode": "local", "address": "127.0.0.1:2", "round_trip_ms": 412.0},
        "redis": {"state": "unreachable", "mode": "local", "address": "127.0.0.1:3", "round_trip_ms": None},
        "iqfeed": {"state": "unknown", "round_trip_ms": None},
    },
    "budgets": {
        "spool": {
            "used_bytes": 212 << 20,
            "limit_bytes": 20 << 30,
            "bytes_per_day": float(1 << 30),
            "seconds_to_full": 1_700_000.0,
        },
        "snapshots": {"used_bytes": 1 << 20, "limit_bytes": 9 << 20, "volume": "/data", "free_bytes": 4096},
        "logs": {"used_bytes": None, "limit_bytes": None},
    },
    "maintenance": None,
}
GOLDEN = """\
▲ Market pipeline  DEGRADED   health unknown   up 3h 12m   pid 4121   snapshot 0.4 s old
  STAGE               STATE      IN /s  OUT /s  idle/busy/blocked           LAG              CPU   MEMORY
  ingestion/0         degraded       -       -  -                           -                  -        -
  storage/0           running    1,118   1,118    1/ 30/ 69 % on clickhouse  3,041 rec 2.7 s  31 %  212 MiB
  kafka/0 (embedded)  running        -       -  -                           -                  -        -
  ▲ ingestion/0: no feed at 127.0.0.1:5009   → start IQConnect
  totals      received 15,320 → processed unknown → stored 0
  latency     p50 8.25 ms p99 2.7 s
  not judged  health score, bottlenecks, active alerts
  services    kafka ok 3 ms (embedded) · clickhouse slow 412 ms · redis unreachable at 127.0.0.1:3 · iqfeed unknown
  budgets     spool 212 MiB of 20 GiB, 1 GiB/day, full in 19d 16h · snapshots 1 MiB of 9 MiB, 4 KiB free on /data \
· logs unknown"""


def environment(**extra: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    kept["TERM"] = "xterm"
    return {**kept, **extra}


def on_terminal(*arguments: str, **extra: str) -> tuple[int, str]:
    """Run with stdout and stderr on one pseudo-terminal; exit code and what it showed."""
    leader, follower = pty.openpty()
    child = subprocess.Popen(
        [*PROGRAM, *arguments], stdin=follower, stdout=follower, stderr=follower, env=environment(**extra)
    )
    os.close(follower)
    shown = b""
    try:
        while select.select([leader], [], [], 30)[0]:
            try:
                part = os.read(leader, 1 << 16)
            except OSError:
                break
            if not part:
                break
            shown += part
    finally:
        os.close(leader)
    return child.wait(30), shown.decode().replace("\r\n", "\n")


def in_pipe(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, env=environment(**extra))


def test_status_tells_why_a_breaker_is_open_since_when_and_when_it_is_probed() -> None:
    closed = {"state": "closed", "reason": "", "since": STATUS["since"], "next_probe": None, "component": "cache/0"}
    opened = {
        "state": "open",
        "reason": "ClickHouse at 127.0.0.1:2: refused",
        "since": "2026-11-21T09:59:48.000Z",
        "next_probe": "2026-11-21T10:00:02.500Z",
        "component": "storage/0",
        "components": {"storage/0": "open", "storage/1": "half-open", "cache/0": "closed"},
    }
    services = {**STATUS["infrastructure_status"]}
    services["clickhouse"] = {**services["clickhouse"], "breaker": opened}
    services["redis"] = {**services["redis"], "breaker": {**closed, "components": {"cache/0": "closed"}}}
    picture = render_status({**STATUS, "infrastructure_status": services}, now=moment(STATUS["generated_at"]))
    assert "  breakers    clickhouse open · redis closed\n" in picture
    assert (
        "  ▲ clickhouse open in storage/0, for 12s, next probe in 2.5 s, in 1 more process: "
        "ClickHouse at 127.0.0.1:2: refused\n"
    ) in picture


def test_status_picture_is_the_golden_one() -> None:
    assert StatusReply.model_validate({**STATUS, "components": {}}).status == "degraded"
    now = moment(STATUS["generated_at"])
    assert now is not None
    picture = render_status(STATUS, now=now + 0.4)
    assert squeeze(picture) == squeeze(GOLDEN)
    widths = {len(line.rstrip()) for line in picture.splitlines() if "running" in line or "degraded " in line}
    assert max(widths) <= 120


def test_where_the_feed_listens_is_shown_with_every_port() -> None:
    ports = {"level1": "127.0.0.1:41", "level2": "127.0.0.1:42", "lookup": "127.0.0.1:43", "admin": "127.0.0.1:44"}
    services = {**STATUS["infrastructure_status"], "iqfeed": {"state": "ok", "mode": "simulated", "addresses": ports}}
    document = {**STATUS, "components": {}, "infrastructure_status": services}
    assert StatusReply.model_validate(document).infrastructure_status["iqfeed"].addresses == ports
    assert "feed simulated, 127.0.0.1: level1 41 · level2 42 · lookup 43 · admin 44" in [
        re.sub(r"  +", " ", line).strip() for line in render_status(document).splitlines()
    ]
    assert not any(line.strip().startswith("feed ") for line in render_status(STATUS).splitlines())


def squeeze(text: str) -> list[str]:
    return [re.sub(r"  +", "  ", line).strip() for line in text.splitlines()]


def test_colour_only_adds_to_words() -> None:
    now = moment(STATUS["generated_at"])
    coloured = render_status(STATUS, lambda text, name: f"\x1b[3{len(name)}m{text}\x1b[0m" if name else text, now=now)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render_status(STATUS, now=now)


def test_refused_symbols_are_a_cause_with_a_step_and_those_without_depth_a_line() -> None:
    reader = {
        "state": "degraded",
        "cause": "level1: 3 of 500 symbols refused: 3 by the limit: A, B, C",
        "next_step": "name fewer symbols",
        "gauges": {
            "feed_without_depth_symbols{connection=level2,part=reader}": "level2: 1 of 500 symbols without depth: D",
            "feed_without_depth_symbols{connection=level1,part=reader}": None,
        },
    }
    lines = render_status({**STATUS, "components": {"ingestion/0": reader}}).splitlines()
    assert "  ▲ ingestion/0: level1: 3 of 500 symbols refused: 3 by the limit: A, B, C   → name fewer symbols" in lines
    assert [line for line in lines if "depth" in line] == ["  no depth    level2: 1 of 500 symbols without depth: D"]


def test_wide_adds_columns() -> None:
    assert "RESTARTS" in render_status(STATUS, wide=True) and "RESTARTS" not in render_status(STATUS)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(1532.4), "1,532"),
        (number(0), "0"),
        (number(0.0214), "0.0214"),
        (number(None), "unknown"),
        (number(True), "unknown"),
        (milliseconds(412), "412 ms"),
        (milliseconds(2700), "2.7 s"),
        (milliseconds(None), "unknown"),
        (size(212 << 20), "212 MiB"),
        (size(0), "0 B"),
        (size(None), "unknown"),
        (duration(11520), "3h 12m"),
        (duration(-3), "0s"),
        (duration("x"), "unknown"),
        (local_time("soon"), "unknown"),
    ],
)
def test_figures_have_units_and_unknown_is_a_word(shown: str, text: str) -> None:
    assert shown == text


def test_pipe_gets_exactly_one_document_and_the_code_of_the_terminal(tmp_path: Path) -> None:
    piped = in_pipe("status", "--state-dir", str(tmp_path))
    document = json.loads(piped.stdout)
    assert StatusReply.model_validate(document).status == "stopped"
    assert (document["components"], document["bottlenecks"], document["active_alerts"]) == ({}, [], [])
    assert {each["state"] for each in document["infrastructure_status"].values()} == {"unknown"}
    code, shown = on_terminal("status", "--state-dir", str(tmp_path))
    assert piped.returncode == code == Exit.NOT_RUNNING
    assert "STOPPED" in shown and "Try: manage_pipeline.py start" in shown and "{" not in shown


def test_formats_can_be_asked_for_anywhere(tmp_path: Path) -> None:
    where = ("--state-dir", str(tmp_path))
    assert json.loads(on_terminal("status", "--json", *where)[1].split("not running")[0])["status"] == "stopped"
    table = in_pipe("status", "-o", "table", *where)
    assert table.stdout.startswith("- Market pipeline  STOPPED")
    assert in_pipe("status", "-o", "yaml", *where).stdout.startswith('"schema_version": 1\n')
    assert "components" in json.loads(in_pipe("status", "-o", "help", *where).stdout)["properties"]
    quiet = in_pipe("status", "-q", *where)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (3, "", "")


@pytest.mark.parametrize(
    ("extra", "arguments", "coloured"),
    [
        ({}, [], True),
        ({"NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": ""}, [], True),
        ({"TERM": "dumb"}, [], False),
        ({}, ["--color", "never"], False),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
    ],
)
def test_colour_follows_terminal_and_environment(
    tmp_path: Path, extra: dict[str, str], arguments: list[str], coloured: bool
) -> None:
    _, shown = on_terminal("status", "--state-dir", str(tmp_path), *arguments, **extra)
    assert ("\x1b[" in shown) is coloured


def test_pipe_is_coloured_only_by_force(tmp_path: Path) -> None:
    arguments = ("status", "-o", "table", "--state-dir", str(tmp_path))
    assert "\x1b[" not in in_pipe(*arguments).stdout
    assert "\x1b[" in in_pipe(*arguments, FORCE_COLOR="1").stdout


def test_head_ends_the_output_without_complaint(tmp_path: Path) -> None:
    command = f"{PROGRAM[0]} {PROGRAM[1]} config schema | head -c 20"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_config_show_masks_secrets_and_names_origins(tmp_path: Path) -> None:
    for arguments in (["show"], ["show", "--origin"], ["diff"], ["show", "-o", "table"]):
        done = in_pipe("config", *arguments, PIPELINE_REDIS__PASSWORD="s3cret")
        assert done.returncode == 0 and "s3cret" not in done.stdout and "********" in done.stdout
    rows = json.loads(in_pipe("config", "show", "--origin", PIPELINE_REDIS__PORT="7000").stdout)
    assert rows["redis.port"] == {"value": 7000, "origin": "environment PIPELINE_REDIS__PORT"}
    assert rows["kafka.batch_size"]["origin"].startswith("project file")


def test_completion_scripts_call_the_program_back() -> None:
    for shell in ("bash", "zsh", "fish", "powershell"):
        assert "_MANAGE_PIPELINE_COMPLETE" in in_pipe("completion", shell).stdout
    done = in_pipe(_MANAGE_PIPELINE_COMPLETE="bash_complete", COMP_WORDS="manage_pipeline.py st", COMP_CWORD="1")
    assert {"plain,start", "plain,status", "plain,stop"} <= set(done.stdout.split())


def test_every_verb_explains_itself(capfd: pytest.CaptureFixture[str]) -> None:
    for group in cli.VERBS.values():
        for verb in group:
            assert cli.main([verb, "--help"]) == 0
            shown = capfd.readouterr().out
            assert shown.startswith(f"Usage: manage_pipeline.py {verb}"), verb


def test_help_needs_no_verb_module() -> None:
    program = (
        "import sys; from manage.cli import main; main(['-h']); print([m for m in sys.modules if 'commands' in m])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_status_loads_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; from manage.cli import main; main(['status', '--state-dir', sys.argv[1]]);"
        "print(sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(eval(done.stdout.splitlines()[-1]))
    assert not loaded & {"pydantic", "rich", "asyncio", "aiohttp", "numpy", "pyarrow", "psutil", "http", "email", "ssl"}


def test_status_names_a_wrong_variable_without_loading_the_models(tmp_path: Path) -> None:
    program = (
        "import sys; from manage.cli import main; code = main(['status', '--state-dir', sys.argv[1]]);"
        "print(code, sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=environment(PIPELINE_STATE_DIRR="/x", PIPELINE_SYMBOLS="AAPL"),
    )
    code, _, loaded = done.stdout.splitlines()[-1].partition(" ")
    assert (code, "PIPELINE_SYMBOLS" in done.stderr) == ("3", False)
    assert "! PIPELINE_STATE_DIRR: unknown variable, ignored; did you mean PIPELINE_STATE_DIR?" in done.stderr
    assert not set(eval(loaded)) & {"pydantic", "rich", "asyncio", "aiohttp", "numpy"}


def test_only_verbs_that_read_the_settings_refuse_a_wrong_variable(tmp_path: Path) -> None:
    wrong = {"PIPELINE_KAFKA__LINGERMS": "5"}
    meant = "PIPELINE_KAFKA__LINGERMS: unknown variable"
    for verb, code in ((["stop"], 0), (["monitor", "--duration", "1"], 7), (["logs"], 1)):
        done = in_pipe(*verb, "--state-dir", str(tmp_path), **wrong)
        assert (done.returncode, done.stderr.count(meant)) == (code, 1), verb
    for refusing in (["start"], ["restart"], ["config", "show"]):
        done = in_pipe(*refusing, "--state-dir", str(tmp_path), **wrong)
        assert done.returncode == Exit.CONFIG and meant in done.stderr, refusing
    assert in_pipe("status", "-q", "--state-dir", str(tmp_path), **wrong).stderr == ""


def test_yaml_form_keeps_nesting() -> None:
    value = {"a": [1, {"b": "x: y", "c": []}], "d": {}, "e": {"f": None}, "g": [[1, 2]]}
    assert list(yaml_lines(value)) == [
        '"a":',
        "  - 1",
        '  - "b": "x: y"',
        '    "c": []',
        '"d": {}',
        '"e":',
        '  "f": null',
        '"g":',
        "  - - 1",
        "    - 2",
    ]


def test_corrections_that_changed_no_bar_are_a_line_with_a_step_and_others_are_not_told() -> None:
    def said(applied: int, missed: int) -> list[str]:
        gauges = {"corrections": applied, "corrections_not_applied": missed}
        lines = render_status({**STATUS, "components": {"processing/0": {"gauges": gauges}}}).splitlines()
        return [line for line in lines if "corrections" in line]

    assert said(1200, 3) == ["  corrections 1,200 applied, 3 not   → symbol NAME"]
    assert said(1200, 0) == []


def test_an_audit_that_is_due_is_shown_as_pending_and_a_result_keeps_its_age() -> None:
    nothing = {"at_us": None, "age_s": None, "rows": None, "missing_rows": None, "duplicated_rows": None}
    pending = {"result": "pending", "pending": True, **nothing}
    whole = {"result": "whole", "pending": True, "rows": 7, "age_s": 60.0, "missing_rows": 0, "duplicated_rows": 0}

    def shown(audit: dict[str, Any]) -> str:
        lines = render_status({**STATUS, "audit": audit}).splitlines()
        return next(line.strip() for line in lines if line.strip().startswith("audit"))

    assert shown(pending) == "audit       pending: the tables have not been counted since this start"
    assert shown(whole).startswith("audit       7 rows, each stored once, ")
    assert shown(whole).endswith(" ago; the next one is pending")
    assert shown({**whole, "pending": False}).endswith(" ago")
