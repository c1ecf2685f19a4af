"""One Apache Kafka node in KRaft mode on loopback: its files, its format, its command.

The settings that differ from Kafka's defaults are of three sorts: one node (all factors 1), a durable log (flush
each second, arrival time as timestamp because retention counts it), and a quick return after a kill (short sessions
and elections: a killed broker serves again after 4 s instead of 13).
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from infrastructure.services.errors import ServicesError

HEAP_MB = 512
FORMAT_TIMEOUT_S = 60

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers={host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{advertised_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.segment.bytes=67108864
log.flush.interval.ms=1000
log.message.timestamp.type=LogAppendTime
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
controller.quorum.election.timeout.ms=300
controller.quorum.fetch.timeout.ms=1000
log.recovery.threads.per.data.dir=2
"""

_LOGGING = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {log}
appender.file.filePattern = {log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{yyyy-MM-dd'T'HH:mm:ss.SSS}}{{UTC}}Z %p %c{{1}} %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 16MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


@dataclass(frozen=True, slots=True)
class KafkaNode:
    """A node that lives in `directory`; `jars` and `java` come from jars.py.

    `advertised_port`: where clients are told to connect, of a proxy before it; 0 = its own.
    """

    directory: Path
    host: str
    port: int
    controller_port: int
    jars: Path
    java: str
    advertised_port: int = 0

    @property
    def data(self) -> Path:
        """The log directory; whoever removes it makes another cluster with other topic ids."""
        return self.directory / "data"

    def prepare(self) -> None:
        """Write the node's files and format its log directory where that was not done. Raises ServicesError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        values = {
            "host": self.host,
            "port": self.port,
            "advertised_port": self.advertised_port or self.port,
            "controller_port": self.controller_port,
            "data": self.data,
        }
        properties = self.directory / "server.properties"
        properties.write_text(_PROPERTIES.format(**values), encoding="utf-8")
        logging = self.directory / "log4j2.properties"
        logging.write_text(_LOGGING.format(log=self.directory / "kafka.log"), encoding="utf-8")
        if (self.data / "meta.properties").exists():
            return
        command = [
            *self._java("-Xmx256m", "-XX:TieredStopAtLevel=1"),
            "kafka.tools.StorageTool", "format", "--standalone", "--ignore-formatted",
            "-t", new_cluster_id(), "-c", str(properties),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise ServicesError(f"cannot format {self.data} for Kafka: {said[-1] if said else 'no message'}")

    def command(self) -> list[str]:
        """The broker's argv."""
        heap = f"{HEAP_MB}m"
        flags = (f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20")
        return [*self._java(*flags), "kafka.Kafka", str(self.directory / "server.properties")]

    def _java(self, *flags: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile=file:{self.directory / 'log4j2.properties'}"
        return [self.java, *flags, logging, "-cp", f"{self.jars}/*"]


def new_cluster_id() -> str:
    """22 characters of URL-safe base64 over 16 random bytes, as Kafka writes cluster ids.

    Never with a leading dash (like Kafka's own generator): its command line would take it for an option.
    """
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
        if not text.startswith("-"):
            return text
