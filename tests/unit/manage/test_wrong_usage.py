"""What a command says to wrong usage and to settings that cannot be used: cause, place, exit code, next command."""

import json
from pathlib import Path

import pytest

from manage import cli
from manage.exits import Exit
from tests.unit.manage.test_output import in_pipe


def test_errors_name_the_next_command_on_stderr_and_as_document() -> None:
    done = in_pipe("staus")
    assert done.stderr == "✗ no verb 'staus'; did you mean status?\n  Try: manage_pipeline.py --help\n"
    assert json.loads(done.stdout)["error"]["exit_code"] == done.returncode == Exit.USAGE


@pytest.mark.parametrize("format_option", [("-o", "table"), ("-otable",), ("--output=wide",)])
def test_usage_error_keeps_the_format_asked_for(format_option: tuple[str, ...]) -> None:
    done = in_pipe("demo", "--rate", "-5", *format_option)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "") and "no rate" in done.stderr


def test_settings_errors_have_code_78_and_the_place(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text('{"kafka": {"batchsize": 1}}')
    done = in_pipe("config", "validate", "--config", str(bad))
    assert done.returncode == Exit.CONFIG
    assert f"✗ {bad}:1:12: kafka.batchsize: unknown key; did you mean kafka.batch_size?" in done.stderr
    (problem,) = json.loads(done.stdout)["error"]["evidence"]["problems"]
    assert problem["place"] == f"{bad}:1:12"


def test_faults_of_the_settings_lead_to_validate_and_from_there_to_what_must_change(tmp_path: Path) -> None:
    bad = tmp_path / "my settings.json"
    bad.write_text('{\n"kafka": {"batchsize": 1}}')
    given = ("--config", str(bad))

    def step(*arguments: str, **extra: str) -> str:
        done = in_pipe(*arguments, **extra)
        assert done.returncode == Exit.CONFIG
        return str(json.loads(done.stdout)["error"]["next_step"])

    where = ("--state-dir", str(tmp_path / "state"))
    assert step("start", *where, *given) == f"manage_pipeline.py config validate --config '{bad}'"
    assert step("start", *where, PIPELINE_KAFKA__LINGERMS="5") == "manage_pipeline.py config validate"
    for verb in ("validate", "show", "diff"):
        schema = "    or    manage_pipeline.py config schema"
        assert step("config", verb, *given) == f"edit line 2 of {bad}{schema}"
        assert step("config", verb, PIPELINE_KAFKA__LINGERMS="5") == f"unset PIPELINE_KAFKA__LINGERMS{schema}"
        assert step("config", verb, "--config", str(tmp_path / "none")) == f"ls -l {tmp_path}"
    assert in_pipe("config", "schema", PIPELINE_KAFKA__LINGERMS="5").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["demo", "--rate", "-5"], "'-5' is no rate; write lines per second above 0"),
        (["demo", "--rate", "0"], "'0' is no rate"),
        (["demo", "--rate", "nan"], "'nan' is no rate"),
        (["demo", "--rate", "inf"], "'inf' is no rate"),
        (["demo", "--rate", "fast"], "'fast' is no rate"),
        (["demo", "--symbols", "0"], "0 is not in the range 1<=x<=2000"),
        (["demo", "--duration", "0s"], "'0s' is no time at all"),
        (["demo", "--duration", "-5s"], "'-5s' is not a duration"),
        (["demo", "--duration", "nan"], "'nan' is not a duration"),
        (["demo", "--replay", __file__, "--speed", "0x"], "'0x' is no speed"),
        (["demo", "--replay", __file__], "test_wrong_usage.py is not SYMBOL_DATE_..._message_..."),
        (["monitor", "--duration", "0"], "'0' is no time at all"),
        (["start", "--simulate", "--rate", "nan"], "nan is not between 0 and 1,000,000,000 lines per second"),
        (["restart", "--simulate", "--rate", "-1"], "-1 is not between 0 and 1,000,000,000 lines per second"),
    ],
)
def test_senseless_figures_are_wrong_usage(arguments: list[str], named: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == Exit.USAGE
    assert named in capfd.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay"],
        ["replay", __file__],
        ["replay", "AMZN_message_1", "spool", "-o", "out"],
        ["parse"],
        ["parse", __file__, "--port", "level3"],
        ["simulate", "--rate", "fast"],
        ["simulate", "--port", "1"],
        ["simulate", "--symbols", "A B"],
        ["simulate", "--duration", "soon"],
    ],
)
def test_wrong_usage_names_the_help_of_its_verb_as_it_is_typed(
    arguments: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spool").mkdir()
    (tmp_path / "AMZN_message_1").touch()
    assert cli.main(arguments) == Exit.USAGE
    assert capfd.readouterr().err.endswith(f"  Try: manage_pipeline.py {arguments[0]} --help\n")
