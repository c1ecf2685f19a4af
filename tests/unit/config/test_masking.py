"""What an error quotes of a faulty file: never a secret, under whatever name it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import SettingsError, load
from tests.unit.config.faulty import problems, write

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"redis": {"pasword": "X"}}', '{"redis": {"pasword": ********}}'),
        ('{"redis": {"Password": "X"}}', '{"redis": {"Password": ********}}'),
        ('{"redis": {"passwd": "X", "prt": "X"}}', '{"redis": {"passwd": ********, "prt": ********}}'),
        ('{"clickhouse": {"pass": "X"}, "redis": {"db": 1}}', '{"clickhouse": {"pass": ********}, "redis": {"db": 1}}'),
        ('{"kafka": {"sasl_pasword": ["X", "X"]}}', '{"kafka": {"sasl_pasword": ********}}'),
        ('{"redis": {"pasword": {"X": ["X"]}, "db": 1}}', '{"redis": {"pasword": ********, "db": 1}}'),
        ('{"redis": {"password" "X"}}', '{"redis": {"password" ********}}'),
        ('{"redis": {"pasword" "X"}}', '{"redis": {********}}'),
        ('{"redis": {password: "X"}}', '{"redis": {password: ********}}'),
        ('{"redis": {pasword: "X"}}', '{"redis": {********: ********}}'),
        ('{"redis": {"password": ["X", "X"}}', '{"redis": {"password": ********}'),
        ('{"redis": {"p\\u0061ssword": "X", "prt": 1}}', '{"redis": {"p\\u0061ssword": ********, "prt": ********}}'),
        ('{"redis": {"password": "X, "db": 1}}', '{"redis": {"password": ********'),
        ('["X"]', "********"),
        ('{"redis": "X"}', '{"redis": ********}'),
        ('{"redis": {"host": "x" "db": 1}}', '{"redis": {"host": "x" "db": 1}}'),
        ('{"symbols": ["A", "B"}', '{"symbols": ["A", "B"}'),
        ('{"symbols": ["A", "B C", "D, E"]}', '{"symbols": ["A", "B C", "D, E"]}'),
        ('{"symbols": "A B"}', '{"symbols": "A B"}'),
        ('{"symbols": ["A", "B C", pasword: X', '{"symbols": ["A", ********, ********: ********'),
        ('{"redis": {"pasword": "X X", "port": "a b"}}', '{"redis": {"pasword": ********, "port": "a b"}}'),
        ('{"symbols": ["A", {"pasword": "X"}, "B"]}', None),
        ('{"redis": {"port": [{"pasword": "X"}]}}', None),
    ],
)
def test_only_values_of_known_keys_that_are_no_secrets_are_quoted(tmp_path: Path, text: str, shown: str | None) -> None:
    found = problems(config=write(tmp_path / "c.json", text.replace("X", SECRET)))
    assert SECRET not in found
    assert shown is None or f"    {shown}" in found.splitlines()


def test_a_secret_on_a_line_of_its_own_is_masked(tmp_path: Path) -> None:
    custom = write(tmp_path / "c.json", '{"redis": {"pasword":\n [1,\n  "X" "Y"\n ]}}'.replace("X", SECRET))
    assert problems(config=custom).splitlines()[1:] == ["      ********", "      ^"]


def test_no_message_of_a_variable_quotes_a_secret() -> None:
    environ = {"PIPELINE_REDIS__PASWORD": SECRET, "PIPELINE_REDIS__PASSWORD_": SECRET, "PIPELINE_REDIS__PORT": "x"}
    text = problems(environ=environ, program={"redis": {"pasword": SECRET, "password": [SECRET]}})
    assert "did you mean redis.password?" in text and SECRET not in text


SECRET_KEYS = st.sampled_from(["password", "pasword", "passwd", "Password", "sasl_password", "pass", "p\\u0061ssword"])
DAMAGES = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 2), st.text('{}[]:,"\\\n 1ax', max_size=2)), min_size=0, max_size=4
)


@given(st.sampled_from(["redis", "kafka", "clickhouse", "iqfed"]), SECRET_KEYS, st.booleans(), DAMAGES)
def test_whatever_the_damage_of_a_file_its_secret_is_not_quoted(
    tmp_path_factory: pytest.TempPathFactory, section: str, key: str, listed: bool, damages: list[tuple[int, int, str]]
) -> None:
    value = f'["x", "{SECRET}"]' if listed else f'"{SECRET}"'
    text = f'{{"symbols": ["A"], "nothing": 1,\n"{section}": {{"port": 1, "{key}": {value}, "host": "h"}}, "x": "y"}}'
    for position, length, inserted in damages:
        at = position % (len(text) + 1)
        text = text[:at] + inserted + text[at + length :]
    try:
        load(config=write(tmp_path_factory.mktemp("damaged") / "c.json", text), environ={})
    except SettingsError as error:
        assert SECRET not in str(error) + error.next_step
