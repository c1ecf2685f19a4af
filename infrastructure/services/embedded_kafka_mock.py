"""librdkafka's mock broker by ctypes: an in-memory Kafka on a port of our choice.

The library is the one inside confluent-kafka's wheel. Limits, read in its source and measured: per partition it
keeps 5 MiB or 100,000 batches and then drops the oldest without a word; record timestamps in acknowledgements are
always 1234; a fetch without data sleeps its whole wait; topics cannot be created over the protocol.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIMIT_BYTES = 5 << 20  # per partition
LIMIT_BATCHES = 100_000  # per partition

_PRODUCER = 0
_BROKER = 1
_BACKLOG = 128


class MockKafkaError(Exception):
    """The mock broker cannot be had."""


class MockKafka:
    """One broker with the given topics, listening on `host:port` (port 0 = any free one) until `close`.

    The mock itself can only listen on a random port. So its listening socket is replaced, under the same
    descriptor, by one of ours that is bound where we want it, and the broker is told to advertise that address.
    All its work happens in librdkafka's own threads.
    """

    def __init__(self, host: str, port: int, topics: Sequence[str], partitions: int) -> None:
        self._library = _library()
        self._client: int | None = None
        self._cluster: int | None = None
        listener = _listen(host, port)
        self.host, self.port = listener.getsockname()[:2]
        try:
            self._start(listener)
            for topic in topics:
                self._check(self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1))
        except BaseException:
            self.close()
            raise
        finally:
            listener.close()

    @property
    def address(self) -> str:
        """host:port, as clients take it."""
        return f"{self.host}:{self.port}"

    def _start(self, listener: socket.socket) -> None:
        library, error = self._library, ctypes.create_string_buffer(512)
        conf = library.rd_kafka_conf_new()
        for name, value in ((b"log_level", b"0"), (b"bootstrap.servers", self.address.encode())):
            if library.rd_kafka_conf_set(conf, name, value, error, len(error)) != 0:
                raise MockKafkaError(f"librdkafka refuses {name.decode()}: {error.value.decode()}")
        self._client = library.rd_kafka_new(_PRODUCER, conf, error, len(error))
        if not self._client:
            raise MockKafkaError(f"librdkafka does not start: {error.value.decode()}")
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, 1)
        if not self._cluster:
            raise MockKafkaError("librdkafka's mock cluster does not start")
        own = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        os.dup2(listener.fileno(), _listening_descriptor(int(own.rpartition(":")[2]), listener.fileno()))
        host = self.host.encode()
        self._check(library.rd_kafka_mock_broker_set_host_port(self._cluster, _BROKER, host, self.port))
        # without a controller, requests about topics and settings wait for one until they time out
        self._check(library.rd_kafka_mock_set_controller_id(self._cluster, _BROKER))

    def _check(self, code: int) -> None:
        if code != 0:
            text = self._library.rd_kafka_err2str(code).decode()
            raise MockKafkaError(f"librdkafka's mock broker refuses: {text}")

    def close(self) -> None:
        """Stop the broker and free its memory. Safe to call twice."""
        cluster, self._cluster = self._cluster, None
        client, self._client = self._client, None
        if cluster:
            self._library.rd_kafka_mock_cluster_destroy(cluster)
        if client:
            self._library.rd_kafka_destroy(client)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise MockKafkaError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def _listening_descriptor(port: int, not_this: int) -> int:
    """The descriptor in this process that listens on `port`."""
    for entry in Path("/proc/self/fd").iterdir():
        descriptor = int(entry.name)
        try:
            if descriptor == not_this or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as candidate:
                listening = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if candidate.family == socket.AF_INET and listening and candidate.getsockname()[1] == port:
                    return descriptor
        except OSError:
            continue  # closed meanwhile: the directory's own descriptor, for one
    raise MockKafkaError(f"no listening socket on port {port} in this process")


def _library() -> Any:  # Any: ctypes' loaded library
    """The librdkafka of confluent-kafka's wheel, with the signatures used here."""
    spec = find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise MockKafkaError("confluent-kafka is not installed")
    package = Path(spec.origin).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    if not found:
        raise MockKafkaError(f"no librdkafka beside {package}: confluent-kafka must be installed from its wheel")
    library = ctypes.CDLL(str(found[0]))
    handle, text = ctypes.c_void_p, ctypes.c_char_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "rd_kafka_conf_new": (handle, []),
        "rd_kafka_conf_set": (ctypes.c_int, [handle, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (handle, [ctypes.c_int, handle, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [handle]),
        "rd_kafka_err2str": (text, [ctypes.c_int]),
        "rd_kafka_mock_cluster_new": (handle, [handle, ctypes.c_int]),
        "rd_kafka_mock_cluster_destroy": (None, [handle]),
        "rd_kafka_mock_cluster_bootstraps": (text, [handle]),
        "rd_kafka_mock_topic_create": (ctypes.c_int, [handle, text, ctypes.c_int, ctypes.c_int]),
        "rd_kafka_mock_broker_set_host_port": (ctypes.c_int, [handle, ctypes.c_int32, text, ctypes.c_int32]),
        "rd_kafka_mock_set_controller_id": (ctypes.c_int, [handle, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
