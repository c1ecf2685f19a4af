"""The short program that says whether a LOBSTER pair can be replayed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from infrastructure.simulator.check_files import REFUSED, main
from tests.unit.simulator.test_lobster import pair

ROW = ("34200.1,1,10,5,1000000,1", "1000100,3,1000000,5,9999999999,0,-9999999999,0")


def test_a_whole_pair_is_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = str(pair(tmp_path, "AAA_2012-06-21_34200000_57600000", [ROW]))
    assert main([good, good]) == 0
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_replayed_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = pair(tmp_path, "AAA_2012-06-21_34200000_57600000", [ROW])
    bad.write_text("34200.1,1,10,x,1000000,1\n")
    alone = tmp_path / "BBB_2012-06-21_0_0_message_2.csv"
    alone.write_text(ROW[0])
    cut = tmp_path / "CCC_2012-06-21_0_0_message_2.csv.gz"
    cut.write_bytes(gzip.compress(ROW[0].encode())[:-4])
    torn = tmp_path / "DDD_2012-06-21_0_0_message_2.csv.gz"
    torn.write_bytes(gzip.compress(ROW[0].encode())[:10] + b"\xff" * 20)
    for file, said in [
        (bad, f"{bad}:1: not 6 numbers"),
        (alone, f"{alone.with_name(alone.name.replace('message', 'orderbook'))}: No such file or directory"),
        (cut, f"{cut}: Compressed file ended"),
        (torn, f"{torn}: Error -3"),
    ]:
        assert main([str(file)]) == REFUSED
        heard = capsys.readouterr().err
        assert heard.startswith(said) and heard.count("\n") == 1, heard


def test_an_order_at_two_prices_is_found_before_a_replay_by_order_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ("34200.2,1,10,5,990000,1", ROW[1])
    twice = str(pair(tmp_path, "EEE_2012-06-21_34200000_57600000", [ROW, again]))
    assert main(["--depth", "levels", twice]) == 0, "of price levels it can be played"
    assert main(["--depth", "orders", twice]) == REFUSED
    said = capsys.readouterr().err
    assert "message 2 has order 10 at another price or side than an earlier one" in said and said.count("\n") == 1
