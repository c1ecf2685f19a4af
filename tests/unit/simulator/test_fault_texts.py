"""The text form of faults, and scripts of them: what is read, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from infrastructure.simulator import fault_script
from infrastructure.simulator.fault_kinds import KINDS, FaultError, help_text, parse


def test_commas_and_blanks_say_the_same_and_what_is_left_out_has_its_default() -> None:
    one, two = parse("drop,port=level1,how=rst"), parse("drop port=level1 how=rst")
    assert one == two
    assert parse("drop").ports == ("level1", "level2")
    assert parse("half_open duration=1m30s").seconds == 90.0
    assert parse("history_holes,span=20240307 100000-20240307 100500").values["span"].endswith("100500")


def test_a_fault_as_text_reads_back_as_itself() -> None:
    given = {"silence": "silence symbol=AAPL", "history_holes": "history_holes span=100000-100500"}
    for name in KINDS:
        fault = parse(given.get(name, name))
        assert parse(str(fault)) == fault


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'' is no fault"),
        ("dorp", "did you mean 'drop'?"),
        ("drop prt=level1", "'prt' is no option; known: port, how; did you mean 'port'?"),
        ("drop port=level3", "'level3' must be one of"),
        ("slow bytes_per_second=0", "bytes_per_second: '0' must be from 0.1"),
        ("slow bytes_per_second=nan", "must be from"),
        ("slice least=9", "least is 9, more than most, 7"),
        ("reorder window=1.5", "'1.5' must be a whole number"),
        ("refuse duration=soon", "is not a duration"),
        ("half_open new=maybe", "must be on or off"),
        ("silence", "symbol must be given"),
        ("end fault=dorp", "'dorp' is no fault"),
    ],
)
def test_a_mistake_names_the_fault_the_option_and_what_would_do(text: str, told: str) -> None:
    with pytest.raises(FaultError) as caught:
        parse(text)
    assert told in str(caught.value)


def test_help_lists_every_fault_with_its_options() -> None:
    text = help_text()
    for name, kind in KINDS.items():
        assert any(line.split()[0] == name for line in text.splitlines() if not line.startswith(" "))
        assert all(f"{option.name}=" in text for option in kind.options)


def test_a_script_is_read_in_the_order_of_its_times(tmp_path: Path) -> None:
    path = tmp_path / "faults.txt"
    path.write_text(
        "# a bad day\n1m upstream duration=3\n0 slice\n2.5  drop port=level1 how=rst  # the client's turn\n"
    )
    assert [(at, fault.name) for at, fault in fault_script.load(path)] == [
        (0, "slice"),
        (2.5, "drop"),
        (60, "upstream"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1s slice\nlater drop\n", "faults.txt:2: begins with a time"),
        ("1s slice\n\n2s drop how=never\n", "faults.txt:3: drop: how: 'never' must be one of fin, rst, mid"),
        ("# nothing\n", "no fault in it"),
        ("5s\n", "faults.txt:1: '' is no fault"),
    ],
)
def test_a_bad_script_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "faults.txt"
    path.write_text(text)
    with pytest.raises(FaultError) as caught:
        fault_script.load(path)
    assert told in str(caught.value)


def test_a_script_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultError, match=r"missing\.txt: cannot be read"):
        fault_script.load(tmp_path / "missing.txt")
