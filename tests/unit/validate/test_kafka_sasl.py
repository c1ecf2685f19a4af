"""Kafka's answer to our credentials: taken, refused, or no Kafka at all."""

from __future__ import annotations

import asyncio
import struct

import pytest

from config.sections import KafkaConfig
from config.settings import load, settings_from
from tests.unit.validate.test_validate import Talk, serving
from validate import probes
from validate.check import Verdict
from validate.kafka_sasl import scram_answer
from validate.refusals import NotItselfError
from validate.runner import all_checks, run_checks

REFUSED = 58
FIRST = "n=user,r=rOprNGfwEbeRWgbNEkqO"
CHALLENGE = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def broker(*answers: bytes, heard: list[bytes]) -> Talk:
    """Answers one request after the other, and keeps what it heard."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            (length,) = struct.unpack(">i", await reader.readexactly(4))
            request = await reader.readexactly(length)
            heard.append(request)
            writer.write(struct.pack(">i", 4 + len(answer)) + request[4:8] + answer)
            await writer.drain()
        await reader.read(1)

    return talk


def taken(token: bytes = b"") -> bytes:
    return struct.pack(">hhi", 0, -1, len(token)) + token


HANDSHAKE = struct.pack(">hih", 0, 1, 5) + b"PLAIN"
REFUSAL = struct.pack(">hh", REFUSED, 3) + b"no!" + struct.pack(">i", 0)


def signing(port: int, mechanism: str) -> dict[str, str]:
    return {
        "bootstrap_servers": f"127.0.0.1:{port}",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_username": "user",
    }


def config(port: int, mechanism: str) -> KafkaConfig:
    return settings_from({"kafka": {**signing(port, mechanism), "sasl_password": "pencil"}}).kafka


async def test_plain_credentials_that_are_taken() -> None:
    heard: list[bytes] = []
    async with serving(broker(HANDSHAKE, taken(), heard=heard)) as port:
        found = await probes.probe_kafka(config(port, "PLAIN"))
    assert found.ok and heard[0].endswith(b"\0\5PLAIN") and heard[1].endswith(b"\0\0\0\x0c\0user\0pencil")


def test_scram_answers_as_its_standard_shows() -> None:
    """The example of RFC 7677, section 3."""
    answer = scram_answer("sha256", "pencil", FIRST, CHALLENGE)
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    assert answer.decode() == f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="


@pytest.mark.parametrize("challenge", ["", "r=x", "r=x,s=!,i=y", "r=x,s=AAAA,i=0", "r=x,s=AAAA,i=999999999"])
def test_a_challenge_that_is_none_is_no_kafka(challenge: str) -> None:
    with pytest.raises(NotItselfError):
        scram_answer("sha256", "pencil", FIRST, challenge)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_scram_credentials_that_are_taken_and_refused(mechanism: str) -> None:
    for last, ok in ((taken(b"v=x"), True), (REFUSAL, False)):
        async with serving(broker(HANDSHAKE, taken(CHALLENGE.encode()), last, heard=[])) as port:
            found = await probes.probe_kafka(config(port, mechanism))
        assert (found.ok, bool(found.refused)) == (ok, not ok)


async def test_a_mechanism_that_is_not_offered_is_named() -> None:
    async with serving(broker(struct.pack(">hi", 33, 0), heard=[])) as port:
        found = await probes.probe_kafka(config(port, "PLAIN"))
    assert (found.detail, found.refused) == ("mechanism PLAIN is refused", ("kafka.sasl_mechanism",))


async def test_refused_credentials_lead_to_where_they_were_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_KAFKA__SASL_PASSWORD", "hunter2")
    async with serving(broker(HANDSHAKE, REFUSAL, heard=[])) as port:
        loaded = load(program={"kafka": signing(port, "PLAIN"), "services": {"mode": "external"}})
        checks = [check for check in all_checks(loaded.origins) if check.name == "kafka"]
        (result,) = (await run_checks(loaded.settings, checks)).results
    assert result.verdict is Verdict.FAILED and "hunter2" not in repr(result)
    assert result.message == f"Kafka at 127.0.0.1:{port} refuses the credentials (user 'user' is refused)"
    assert result.next_step.startswith("correct kafka.sasl_password (environment PIPELINE_KAFKA__SASL_PASSWORD) and")
