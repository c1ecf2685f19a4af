"""A symbol search at a start: asked over a real Lookup port, kept, used when the feed is away, said in status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.sections import Settings, SymbolsSearchConfig
from config.settings import settings_from
from infrastructure.simulator.generated import GeneratedMarket
from infrastructure.simulator.server import Simulator, lookup_port
from manage import found_symbols, instance
from manage.daemon import Request
from manage.exits import CliError, Exit
from manage.found_symbols import SIMULATED, searched
from manage.simulated_search import answer
from manage.terminal import Terminal
from pipeline_orchestrator.embedded_addresses import free_ports
from pipeline_orchestrator.errors import NotConnectedError, PermanentError
from pipeline_orchestrator.lookup.find_symbols import find
from pipeline_orchestrator.symbol_search import FILE, Found, find_symbols, save, saved
from pipeline_orchestrator.symbol_source import SymbolSource, source_text
from tests.unit.manage.conftest import Run
from tests.unit.manage.test_lifecycle import start

NAMES = ("MSFT", "AAPL", "@ESH26", "ES1", "ES0", "A B")


def searching(port: int = 9, **search: Any) -> Settings:
    return settings_from({"symbols_search": {"text": "es", **search}, "iqfeed": {"lookup_port": port}})


@asynccontextmanager
async def feed() -> AsyncIterator[int]:
    server = Simulator(GeneratedMarket(NAMES, rate=0), [lookup_port(0)])
    await server.open()
    running = asyncio.create_task(server.run())
    try:
        yield server.addresses["lookup"][1]
    finally:
        server.stop()
        await running
        await server.close()


async def found(**search: Any) -> dict[str, Any]:
    async with feed() as port:
        return await find("127.0.0.1", port, "6.2", SymbolsSearchConfig(**{"text": "s", **search}))


async def test_what_is_found_is_sorted_narrowed_by_both_filters_and_cut_at_the_limit() -> None:
    assert (await found())["symbols"] == ["@ESH26", "ES0", "ES1", "MSFT"]
    assert (await found(security_types=(8,)))["symbols"] == ["@ESH26"]
    assert (await found(listed_markets=(5, 34), security_types=(1,)))["symbols"] == ["ES0", "ES1", "MSFT"]
    cut = await found(limit=2)
    assert (cut["symbols"], cut["found"]) == (["@ESH26", "ES0"], 4)
    odd = await found(text="a")
    assert (odd["symbols"], odd["unusable"]) == (["AAPL"], {"count": 1, "named": ["A B"]})
    assert (await found(text="simulated", field="description"))["found"] == 5


async def test_the_answer_is_kept_and_stands_in_only_for_the_same_search_of_the_same_feed(tmp_path: Path) -> None:
    async with feed() as port:
        new = await find_symbols(searching(port), tmp_path)
    assert (new.symbols, new.instead) == (("@ESH26", "ES0", "ES1"), "")
    (closed,) = free_ports(1)
    old = await find_symbols(searching(closed), tmp_path)
    assert (old.symbols, old.asked_ns) == (new.symbols, new.asked_ns) and str(closed) in old.instead
    with pytest.raises(NotConnectedError, match="no earlier answer") as caught:
        await find_symbols(searching(closed, limit=2), tmp_path)
    assert "IQConnect" in caught.value.next_step
    assert saved(tmp_path, searching().symbols_search, simulated=True) is None
    (tmp_path / FILE).write_text('{"search": 5')
    with pytest.raises(NotConnectedError):
        await find_symbols(searching(closed), tmp_path)


async def test_a_search_that_finds_nothing_is_an_error_even_beside_an_older_answer(tmp_path: Path) -> None:
    settings = searching(text="NOTHING")
    save(tmp_path, settings.symbols_search, Found(("A",), 1, 0, "x"), simulated=False)
    async with feed() as port:
        with pytest.raises(PermanentError, match="finds no symbol"):
            await find_symbols(searching(port, text="NOTHING"), tmp_path)


async def test_the_simulator_answers_a_start_that_is_simulated() -> None:
    asked = {"protocol": "6.2", "search": {"text": "@es"}}
    assert (await answer(asked))["symbols"] == ["@ES#", "@ESH26", "@ESM26"]


def test_a_simulated_start_watches_what_was_found_and_shows_where_it_is_from(
    fake_daemon: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIPELINE_SYMBOLS_SEARCH__TEXT", "@es")
    code, _, err = start(run, fake_daemon, "--simulate")
    assert code == 0 and "✓ 3 symbols found at the simulator" in err
    settings = Settings(symbols=("@ES#", "@ESH26", "@ESM26"), symbols_search=SymbolsSearchConfig(text="@es"))
    source = SymbolSource(settings, fake_daemon, simulated=True).document()
    assert {key: source[key] for key in ("source", "name", "count", "found", "address")} == {
        "source": "search", "name": "@es", "count": 3, "found": 3, "address": "the simulator",
    }  # fmt: skip
    code, again, _ = start(run, fake_daemon, "--simulate")
    assert (code, again["already_running"]) == (0, True), "the same search is no difference"
    assert instance.read_record(fake_daemon) is not None


def test_a_start_without_the_feed_and_without_an_answer_ends_with_69(
    state: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (closed,) = free_ports(1)
    monkeypatch.setenv("PIPELINE_SYMBOLS_SEARCH__TEXT", "@es")
    monkeypatch.setenv("PIPELINE_IQFEED__LOOKUP_PORT", str(closed))
    code, document, err = start(run, state)
    assert (code, document["error"]["code"]) == (69, "symbols_search") and str(closed) in err
    assert "IQConnect" in document["error"]["next_step"] and not instance.locked(state)
    code, document, _ = run("config", "validate", "--state-dir", state)
    assert (code, document["symbols"]["source"], document["symbols"]["asked_at"]) == (0, "search", None)


def test_an_older_answer_is_used_with_a_word_about_its_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def instead(settings: Settings, state_dir: Path, *, simulated: str = "") -> Found:
        assert simulated == ""
        return Found(("A", "B"), 7, 0, "x", instead="nothing listens there")

    monkeypatch.setattr(found_symbols, "find_symbols", instead)
    request = Request(searching(), tmp_path)
    assert searched(Terminal(), request).settings.symbols == ("A", "B")
    said = capsys.readouterr().err
    assert "nothing listens there: the first 2 by name of 7 symbols" in said and "1970-01-01" in said
    assert searched(Terminal(), Request(Settings(), tmp_path)).settings.symbols == Settings().symbols
    replay = Request(searching(), tmp_path, options={"simulate": {"replay": ["x"], "symbols": ["R"]}})
    assert searched(Terminal(), replay) is replay, "a replay names its own"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotConnectedError("x"), Exit.UNAVAILABLE),
        (PermanentError("x"), Exit.CONFIG),
        (OSError(28, "full"), Exit.FAILED),
    ],
)
def test_what_keeps_a_search_from_being_answered_has_its_exit_code(
    error: Exception, code: Exit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> Found:
        raise error

    monkeypatch.setattr(found_symbols, "find_symbols", fails)
    with pytest.raises(CliError) as caught:
        searched(Terminal(), Request(searching(), tmp_path, options={"simulate": {}}))
    assert caught.value.exit_code == code
    assert SIMULATED.startswith("manage.")


def test_sources_are_told_apart_in_words(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("A\nB\n")
    texts = [
        source_text(SymbolSource(settings, tmp_path, replayed=replayed).document())
        for settings, replayed in (
            (Settings(), False),
            (settings_from({"symbols_file": str(file)}), False),
            (Settings(), True),
            (searching(), False),
        )
    ]
    assert texts == [
        "4 of the settings", f"2 of {file}", "4 of the recording", "of the search 'es', asked at the next start",
    ]  # fmt: skip
    search = searching().symbols_search
    save(tmp_path, search, Found(("A",), 3, 0, "h:1"), simulated=False)
    told = source_text(SymbolSource(searching(), tmp_path).document())
    assert told.startswith("1 of 3 found by the search 'es' at h:1, ") and told.endswith("days ago")
    assert json.loads((tmp_path / FILE).read_text())["answer"]["symbols"] == ["A"]
