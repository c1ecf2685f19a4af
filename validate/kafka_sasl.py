"""Signing in to Kafka by SASL over a plain connection: what a probe needs to know that its credentials are taken.

SaslHandshake version 1, then SaslAuthenticate version 0 (KIP-43, KIP-152); PLAIN (RFC 4616) and SCRAM (RFC 5802).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import struct

from config.sections import KafkaConfig
from validate.refusals import NotItselfError, RefusedError

HANDSHAKE, AUTHENTICATE = 17, 36
MAX_ANSWER = 1 << 20
MAX_ITERATIONS = 1 << 20


async def sign_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kafka: KafkaConfig) -> None:
    """Returns when the broker has let us in. Raises RefusedError, NotItselfError, EOFError, OSError."""
    mechanism = kafka.sasl_mechanism
    answer = await _call(reader, writer, HANDSHAKE, 1, _text(mechanism))
    if _code(answer):
        raise RefusedError(f"mechanism {mechanism} is refused", "kafka.sasl_mechanism")
    user, password = kafka.sasl_username, kafka.sasl_password.get_secret_value()
    if mechanism == "PLAIN":
        await _authenticate(reader, writer, f"\0{user}\0{password}".encode(), user)
        return
    digest = "sha256" if mechanism == "SCRAM-SHA-256" else "sha512"
    first = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={secrets.token_hex(16)}"
    challenge = (await _authenticate(reader, writer, f"n,,{first}".encode(), user)).decode("utf-8", "replace")
    await _authenticate(reader, writer, scram_answer(digest, password, first, challenge), user)


def scram_answer(digest: str, password: str, first: str, challenge: str) -> bytes:
    """The client's final message to the server's challenge. Raises NotItselfError for one that is none."""
    fields = dict(part.partition("=")[::2] for part in challenge.split(","))
    try:
        salt, rounds, nonce = base64.b64decode(fields["s"]), int(fields["i"]), fields["r"]
    except (KeyError, ValueError) as error:
        raise NotItselfError("a SCRAM challenge that is none") from error
    if not 0 < rounds <= MAX_ITERATIONS:
        raise NotItselfError(f"a SCRAM challenge of {rounds} iterations")
    salted = hashlib.pbkdf2_hmac(digest, password.encode(), salt, rounds)
    key = hmac.digest(salted, b"Client Key", digest)
    final = f"c=biws,r={nonce}"
    signature = hmac.digest(hashlib.new(digest, key).digest(), f"{first},{challenge},{final}".encode(), digest)
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return f"{final},p={base64.b64encode(proof).decode()}".encode()


async def _authenticate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: bytes, user: str) -> bytes:
    answer = await _call(reader, writer, AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
    if _code(answer):
        raise RefusedError(f"user {user!r} is refused", "kafka.sasl_password", "kafka.sasl_username")
    try:
        (length,) = struct.unpack_from(">h", answer, 2)
        at = 4 + max(0, length)
        (size,) = struct.unpack_from(">i", answer, at)
    except struct.error as error:
        raise NotItselfError("something answers, but not Kafka") from error
    return answer[at + 4 : at + 4 + max(0, size)]


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, api: int, version: int, body: bytes
) -> bytes:
    """One request and the body of its answer."""
    request = struct.pack(">hhi", api, version, api) + _text("") + body
    writer.write(struct.pack(">i", len(request)) + request)
    length, correlation = struct.unpack(">ii", await reader.readexactly(8))
    if correlation != api or not 6 <= length <= MAX_ANSWER:
        raise NotItselfError("something answers, but not Kafka")
    return await reader.readexactly(length - 4)


def _code(answer: bytes) -> int:
    return int.from_bytes(answer[:2], "big", signed=True)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw
