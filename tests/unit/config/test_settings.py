import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import keys, paths, variables
from config.sections import Settings
from config.settings import SettingsError, differences, load, masked, restore, reveal, settings_from
from tests.unit.config.faulty import problems, write


def test_each_layer_outranks_the_next_key_by_key(tmp_path: Path) -> None:
    write(paths.user_config_file(), '{"kafka": {"linger_ms": 1, "batch_size": 2048, "partitions": 4}}')
    write(paths.config_file(), '{"kafka": {"linger_ms": 2, "batch_size": 4096}}')
    loaded = load(environ={"PIPELINE_KAFKA__LINGER_MS": "3"}, flags={"services": {"mode": "embedded"}})
    assert (loaded.settings.kafka.linger_ms, loaded.settings.kafka.batch_size) == (3, 4096)
    assert loaded.settings.kafka.partitions == 4
    origins = {key: str(loaded.origins[f"kafka.{key}"]) for key in ("linger_ms", "batch_size", "partitions")}
    assert origins == {
        "linger_ms": "environment PIPELINE_KAFKA__LINGER_MS",
        "batch_size": f"project file {paths.config_file()}:1:28",
        "partitions": f"user file {paths.user_config_file()}:1:48",
    }
    assert str(loaded.origins["services.mode"]) == "flag command line"
    assert str(loaded.origins["redis.port"]) == "default"


def test_named_file_takes_the_place_of_the_project_file(tmp_path: Path) -> None:
    write(paths.config_file(), '{"kafka": {"linger_ms": 2}, "redis": {"port": 7000}}')
    custom = write(tmp_path / "custom.json", '{"kafka": {"linger_ms": 9}}')
    settings = load(config=custom).settings
    assert (settings.kafka.linger_ms, settings.redis.port) == (9, Settings().redis.port)


def test_missing_named_file_is_an_error(tmp_path: Path) -> None:
    assert f"{tmp_path}/none.json: no such file" in problems(config=tmp_path / "none.json")


def test_guide_examples_are_accepted_as_written(tmp_path: Path) -> None:
    document = {
        "symbols": ["AAPL", "GOOGL", "MSFT", "TSLA", "NVDA"],
        "kafka": {"bootstrap_servers": "localhost:9092"},
        "performance": {"startup_timeout_seconds": 60},
        "alerts": {
            "alert_thresholds": {
                "latency_max_ms": 1000,
                "throughput_min_msg_per_sec": 100,
                "error_rate_max_percent": 5.0,
                "health_score_min": 70,
            }
        },
    }
    assert load(config=write(tmp_path / "updated.json", json.dumps(document), 0o644)).settings.symbols[-1] == "NVDA"
    for program in (
        {"iqfeed": {"host": "localhost", "port": 9200, "username": "your_username", "password": "your_password"}},
        {
            "kafka": {
                "bootstrap_servers": "kafka1:9092,kafka2:9092",
                "compression_type": "lz4",
                "batch_size": 16384,
                "linger_ms": 10,
            }
        },
        {
            "clickhouse": {
                "host": "clickhouse-cluster",
                "port": 8123,
                "database": "market_data",
                "username": "user",
                "password": "password",
            }
        },
    ):
        revealed = reveal(settings_from(program))
        for section, values in program.items():
            assert {key: revealed[section][key] for key in values} == values


def test_shipped_project_file_states_the_defaults() -> None:
    shipped = Path(__file__).parents[3] / "config" / "pipeline_config.json"
    assert differences(Settings(), load(config=shipped).settings) == []


def test_unknown_key_names_place_and_nearest_key(tmp_path: Path) -> None:
    custom = write(tmp_path / "c.json", '{\n  "kafka": {\n    "bootstrap_server": "x:1"\n  }\n}')
    text = problems(config=custom)
    assert f"{custom}:3:5: kafka.bootstrap_server: unknown key; did you mean kafka.bootstrap_servers?" in text
    assert '    "bootstrap_server": ********' in text


def test_key_in_the_wrong_section_is_found_elsewhere(tmp_path: Path) -> None:
    assert "did you mean kafka.linger_ms?" in problems(program={"linger_ms": 3})


def test_unknown_variable_names_the_nearest() -> None:
    text = problems(environ={"PIPELINE_KAFKA__BOOTSTRAP_SERVER": "x:1"})
    assert text == "PIPELINE_KAFKA__BOOTSTRAP_SERVER: unknown variable; did you mean PIPELINE_KAFKA__BOOTSTRAP_SERVERS?"


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ('{\n  "kafka": {,}\n}', "2:13", "not JSON"),
        ('{"kafka": {"linger_ms": 1,\n "linger_ms": 2}}', "2:2", "stands here twice"),
        ('{"kafka":\n {"linger_ms": NaN}}', "2:16", "NaN and Infinity are not JSON numbers"),
        ('{"kafka":\n {"linger_ms": -Infinity}}', "2:16", "NaN and Infinity are not JSON numbers"),
        ("", "1:1", "not JSON"),
        ('{"symbols": ["AAPL"', "1:20", "not JSON"),
    ],
)
def test_json_errors_name_line_and_column_with_a_caret(tmp_path: Path, text: str, place: str, cause: str) -> None:
    custom = write(tmp_path / "c.json", text)
    found = problems(config=custom)
    assert found.startswith(f"{custom}:{place}: ") and cause in found
    if text:
        line, column = (int(part) for part in place.split(":"))
        shown = found.splitlines()[1:]
        assert shown == ["    " + text.splitlines()[line - 1], "    " + " " * (column - 1) + "^"]


def test_wrong_types_and_ranges_name_the_key_the_place_and_the_value(tmp_path: Path) -> None:
    custom = write(
        tmp_path / "c.json",
        '{"redis": {"port": "6379"},\n "kafka": {"batch_size": true, "linger_ms": -1},\n "iqfeed": 5}',
    )
    with pytest.raises(SettingsError) as caught:
        load(config=custom)
    assert f"{custom}:3:2: iqfeed: expected an object" in str(caught.value)
    write(custom, custom.read_text().replace("5}", "{}}"))
    text = problems(config=custom)
    assert f'{custom}:1:12: redis.port: expected a valid integer, found "6379"' in text
    assert f"{custom}:2:12: kafka.batch_size: expected a valid integer, found true" in text
    assert f"{custom}:2:32: kafka.linger_ms: expected a value greater than or equal to 0, found -1" in text


@pytest.mark.parametrize("protocol", ["6.2", "6.1", "6.0", "5.2", "5.1", "5.0"])
def test_protocols_that_can_be_served(protocol: str) -> None:
    assert load(environ={"PIPELINE_IQFEED__PROTOCOL": protocol}).settings.iqfeed.protocol == protocol


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("6.3", "'6.3' is not one of 6.2, 6.1, 6.0, 5.2, 5.1, 5.0; did you mean 6."),
        ("5.20", "did you mean 5.2?"),
        ("", "did you mean 6.2?"),
        ("4.9", "protocol 4.9 cannot be served: before 5.0 Level 1 has no field list"),
        ("4", "the oldest that can is 5.0"),
    ],
)
def test_other_protocols_are_refused_with_the_nearest_or_the_reason(tmp_path: Path, protocol: str, said: str) -> None:
    text = problems(environ={"PIPELINE_IQFEED__PROTOCOL": protocol})
    assert text.startswith("PIPELINE_IQFEED__PROTOCOL: iqfeed.protocol: ") and said in text
    custom = write(tmp_path / "c.json", f'{{"iqfeed": {{"protocol": "{protocol}"}}}}')
    text = problems(config=custom)
    assert text.startswith(f"{custom}:1:13: iqfeed.protocol: ") and said in text


def test_all_problems_are_reported_at_once() -> None:
    text = problems(environ={"PIPELINE_X": "1", "PIPELINE_REDIS__PORT": "many"}, program={"kafka": {"lingr_ms": 1}})
    assert len([line for line in text.splitlines() if not line.startswith(" ")]) == 3


def test_symbols_from_a_variable_as_list_or_json() -> None:
    for text in ("aapl,msft", '["AAPL", "MSFT"]', "AAPL, MSFT,"):
        assert load(environ={"PIPELINE_SYMBOLS": text}).settings.symbols == ("AAPL", "MSFT")


@pytest.mark.parametrize("value", ["24 hours", "", "0", "-1s", "1e3s", "٣s"])
def test_durations_that_people_do_not_write_are_refused(value: str) -> None:
    assert "spool.keep" in problems(program={"spool": {"keep": value}})


def test_secret_file_must_be_ours_alone(tmp_path: Path) -> None:
    file = write(tmp_path / "pw", "s3cret\n", 0o644)
    text = problems(program={"clickhouse": {"password_file": str(file)}})
    assert "mode 0644" in text and "s3cret" not in text
    file.chmod(0o600)
    loaded = load(program={"clickhouse": {"password_file": str(file)}})
    assert loaded.settings.clickhouse.password.get_secret_value() == "s3cret"
    assert str(loaded.origins["clickhouse.password"]) == f"secret file {file}"


def test_home_of_an_unknown_user_is_an_ordinary_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "~no-such-user-0/x"
    assert "cannot read" in problems(environ={"PIPELINE_REDIS__PASSWORD_FILE": name})
    assert "no such file" in problems(config=name)
    monkeypatch.setenv("PIPELINE_STATE_DIR", name)
    assert paths.chosen_state_dir() == Path.cwd() / name


def test_secret_file_must_be_a_file(tmp_path: Path) -> None:
    assert f"{tmp_path} is not a regular file" in problems(program={"redis": {"password_file": str(tmp_path)}})


def test_secret_in_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    custom = write(tmp_path / "c.json", '{"redis":\n {"password": "s3cret"}}', 0o640)
    with pytest.raises(SettingsError) as caught:
        load(config=custom)
    assert str(caught.value).startswith(f"{custom}:2:3: redis.password")
    assert caught.value.next_step == f"chmod 600 {custom}"
    assert "s3cret" not in str(caught.value)
    custom.chmod(0o600)
    assert load(config=custom).settings.redis.password.get_secret_value() == "s3cret"


def test_syntax_error_beside_a_secret_does_not_quote_it(tmp_path: Path) -> None:
    custom = write(tmp_path / "c.json", '{"redis": {"password": "s3\\"cret" "port": 1}}')
    assert "cret" not in problems(config=custom)


@pytest.mark.parametrize("secret", ["a", "s3cret", "a much longer one than any mask is"])
def test_an_excerpt_says_nothing_of_the_length_of_a_secret(tmp_path: Path, secret: str) -> None:
    line = '{"redis": {"password": "X", "prt": 1, "password_file": ""}, "iqfeed": {"password": 5}}'.replace("X", secret)
    custom = write(tmp_path / "c.json", line)
    custom.chmod(0o600)
    first, excerpt, caret = problems(config=custom).splitlines()[:3]
    assert first.startswith(f"{custom}:1:{line.index('prt')}: redis.prt: unknown key")  # where an editor finds it
    shown = (
        '    {"redis": {"password": ********, "prt": ********, "password_file": ""}, "iqfeed": {"password": ********}}'
    )
    assert excerpt == shown
    assert caret == " " * (shown.index("prt") - 1) + "^"


def test_the_caret_of_a_fault_within_a_secret_stands_at_its_mask(tmp_path: Path) -> None:
    custom = write(tmp_path / "c.json", '{"redis": {"password": "a\tb"}}')
    _, excerpt, caret = problems(config=custom).splitlines()
    assert excerpt[caret.index("^") :] == "********}}"


def test_credentials_outrank_files_and_variables(tmp_path: Path) -> None:
    write(tmp_path / "cred" / "redis.password", "from-manager", 0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "cred"), "PIPELINE_REDIS__PASSWORD": "from-variable"}
    loaded = load(environ=environ)
    assert loaded.settings.redis.password.get_secret_value() == "from-manager"
    assert str(loaded.origins["redis.password"]) == "credential redis.password"


def test_no_output_form_holds_a_secret() -> None:
    settings = settings_from({section: {"password": "s3cret"} for section in ("iqfeed", "clickhouse", "redis")})
    assert "s3cret" not in repr(settings) + str(settings) + json.dumps(masked(settings))
    assert json.dumps(masked(settings)).count("********") == 3
    assert "s3cret" not in json.dumps(differences(Settings(), settings))
    assert json.dumps(reveal(settings)).count("s3cret") == 3


def test_restore_gives_back_what_reveal_gave() -> None:
    settings = settings_from({"symbols": ["A", "B"], "redis": {"password": "x"}})
    assert restore(json.loads(json.dumps(reveal(settings)))) == settings


def test_relative_paths_of_files_mean_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    custom = write(tmp_path / "c.json", '{"state_dir": "here"}')
    assert load(config=custom).settings.state_dir == str(paths.PROJECT_ROOT / "here")
    assert load(environ={"PIPELINE_STATE_DIR": "here"}).settings.state_dir == str(tmp_path / "here")
    assert str(paths.chosen_state_dir("", str(custom))) == str(paths.PROJECT_ROOT / "here")
    assert paths.chosen_state_dir("here") == tmp_path / "here"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SECTION_NAMES = st.sampled_from([path[0] for path in keys.all_keys()]) | st.text(max_size=10)
KEY_NAMES = st.sampled_from([path[-1] for path in keys.all_keys()]) | st.text(max_size=10)


@given(st.dictionaries(SECTION_NAMES, JSON_VALUES | st.dictionaries(KEY_NAMES, JSON_VALUES, max_size=4), max_size=4))
def test_any_document_is_either_loaded_or_refused_with_problems(document: dict[str, Any]) -> None:
    try:
        settings = load(program=document, environ={}).settings
    except SettingsError as error:
        assert error.problems
    else:
        for section, values in document.items():
            assert isinstance(values, dict) or section in {"symbols", "state_dir"}, "nothing unknown gets through"
        assert restore(reveal(settings)) == settings


@given(st.sampled_from(sorted(keys.all_keys())), st.text(max_size=12).filter(lambda text: "\0" not in text))
def test_any_variable_text_is_either_loaded_or_refused_by_name(path: keys.Path, text: str) -> None:
    variable = keys.all_keys()[path].variable
    try:
        loaded = load(environ={variable: text})
    except SettingsError as error:
        assert any(variable in str(problem) for problem in error.problems)
    else:
        assert loaded.origins[".".join(path)].where in {variable, text}


@given(st.sampled_from([key for key in keys.all_keys().values() if len(key.path) > 1]))
def test_every_key_one_letter_off_gets_a_suggestion(key: keys.Key) -> None:
    wrong = (*key.path[:-1], key.path[-1] + "x")
    assert "did you mean" in keys.suggestion(wrong)


def test_an_unknown_key_hides_no_other_fault_of_its_file(tmp_path: Path) -> None:
    custom = write(
        tmp_path / "c.json",
        '{"kafka": {"lingerms": 5, "batch_size": "big"},\n "iqfeed": 5,\n "redis": {"port": 70000}}',
    )
    with pytest.raises(SettingsError) as caught:
        load(config=custom, environ={"PIPELINE_REDIS__DB": "x"})
    text = str(caught.value)
    assert "1:12: kafka.lingerms: unknown key; did you mean kafka.linger_ms?" in text
    assert '1:27: kafka.batch_size: expected a valid integer, found "big"' in text
    assert "2:2: iqfeed: expected an object" in text
    assert "3:12: redis.port: expected a value less than or equal to 65535, found 70000" in text
    assert "PIPELINE_REDIS__DB: redis.db: expected a valid integer" in text
    assert len(caught.value.problems) == 5


def test_names_of_variables_known_without_the_models_are_those_of_the_models() -> None:
    named = [key.variable.removeprefix(variables.PREFIX) for key in keys.all_keys().values()]
    assert named == variables.NAMES, "config/variables.py has to list:\n" + "\n".join(named)


def test_unknown_variables_are_told_from_settings_and_strangers() -> None:
    environ = ["PIPELINE_KAFKA__LINGERMS", "PIPELINE_STATE_DIRR", "PIPELINE_SYMBOLS", "PATH", "PIPELINE_" + "Z" * 30]
    assert variables.unknown(environ) == [
        ("PIPELINE_KAFKA__LINGERMS", "PIPELINE_KAFKA__LINGER_MS"),
        ("PIPELINE_STATE_DIRR", "PIPELINE_STATE_DIR"),
        ("PIPELINE_" + "Z" * 30, ""),
    ]


@pytest.mark.parametrize("layer", ["variable", "file"])
def test_a_fault_of_several_keys_names_who_set_the_newest_of_them(tmp_path: Path, layer: str) -> None:
    shipped = {"security_protocol": "PLAINTEXT", "sasl_mechanism": "", "sasl_username": ""}
    environ = {"PIPELINE_KAFKA__LINGER_MS": "3"}  # has no part in it
    if layer == "variable":
        environ["PIPELINE_KAFKA__SECURITY_PROTOCOL"] = "SASL_SSL"
    else:
        shipped["security_protocol"] = "SASL_SSL"
    custom = write(tmp_path / "c.json", json.dumps({"kafka": shipped}, indent=1))
    where = "PIPELINE_KAFKA__SECURITY_PROTOCOL" if layer == "variable" else f"{custom}:3:3"
    text = problems(config=custom, environ=environ)
    message = "kafka.security_protocol: security_protocol SASL_SSL needs sasl_mechanism and sasl_username"
    assert text.splitlines()[0] == f"{where}: {message}"


def test_two_keys_out_of_order_are_blamed_on_the_one_that_was_given() -> None:
    text = problems(environ={"PIPELINE_SUPERVISION__HUNG_SECONDS": "0.5"})
    assert text.startswith("PIPELINE_SUPERVISION__HUNG_SECONDS: supervision.hung_seconds: heartbeat_seconds must be")


FLOATS = [key for key in keys.all_keys().values() if key.variable and "float" in str(key.annotation)]


@pytest.mark.parametrize("key", FLOATS, ids=lambda key: key.dotted)
@pytest.mark.parametrize("value", ["1e999", "-1e999"])
def test_no_setting_is_infinite_or_not_a_number(tmp_path: Path, key: keys.Key, value: str) -> None:
    text = value
    for name in reversed(key.path):
        text = json.dumps({name: "?"}).replace('"?"', text)
    custom = write(tmp_path / "c.json", text)
    assert f"{key.dotted}: expected a finite number" in problems(config=custom, environ={})
    for word in (value, "inf", "nan"):
        assert f"{key.variable}: {key.dotted}: expected a" in problems(environ={key.variable: word})
    with pytest.raises(SettingsError):
        settings_from({key.path[0]: _nested(key.path[1:], float(value))})


def _nested(path: keys.Path, value: float) -> Any:
    return value if not path else {path[0]: _nested(path[1:], value)}


@pytest.mark.parametrize("asked", [{"depth": "orders"}, {"depth_by_symbol": {"@ES#": "orders", "AAPL": "levels"}}])
def test_depth_by_order_before_6_2_is_refused_with_the_way_out(asked: dict[str, Any]) -> None:
    text = problems(program={"iqfeed": {"protocol": "5.2", **asked}})
    assert "cannot be served with protocol 5.2: before 6.2 depth has one form" in text
    assert "set protocol to 6.2, or depth to levels" in text
    for served in ({"protocol": "6.2"}, {"protocol": "5.2", "level2": False}):
        assert settings_from({"iqfeed": {**served, **asked}}).iqfeed.depth_levels == 0
    assert (
        settings_from({"iqfeed": {"protocol": "5.2", "depth_by_symbol": {"AAPL": "levels"}}}).iqfeed.depth == "levels"
    )
