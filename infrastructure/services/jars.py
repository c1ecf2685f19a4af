"""The jars of Apache Kafka: fetched once by Maven, checked against a lock file at each use.

They lie in $XDG_CACHE_HOME/pipeline-orchestrator/kafka-<version> (default ~/.cache), shared by all clones of the
project. Java 17 and Maven come from the system; where they are missing, `infrastructure/scripts/setup.sh services`
installs them or names the command.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from config.paths import PROJECT_ROOT
from infrastructure.services.errors import ServicesError

_HERE = Path(__file__).resolve().parent
POM = _HERE / "pom.xml"
LOCK_FILE = _HERE / "jars.sha256"
SETUP = PROJECT_ROOT / "infrastructure" / "scripts" / "setup.sh"
KAFKA_VERSION = "4.3.1"  # pom.xml names the same; a test compares them
JAVA_AT_LEAST = 17
MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
MAVEN_TIMEOUT_S = 600


def cache_dir() -> Path:
    """Where the checked jars lie."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "pipeline-orchestrator" / f"kafka-{KAFKA_VERSION}"


def locked_sums(text: str) -> dict[str, str]:
    """Jar name -> SHA-256, from the lock file's text (the format of sha256sum)."""
    return {name: digest for digest, name in (line.split() for line in text.splitlines() if line.strip())}


def differences(directory: Path, sums: dict[str, str]) -> list[str]:
    """What keeps `directory` from being the locked set: one sentence per missing, changed or foreign jar."""
    found = {path.name: path for path in directory.glob("*.jar")}
    wrong = [f"{name} is missing" for name in sorted(sums.keys() - found.keys())]
    wrong += [f"{name} is not in {LOCK_FILE.name}" for name in sorted(found.keys() - sums.keys())]
    for name in sorted(sums.keys() & found.keys()):
        with found[name].open("rb") as jar:
            if hashlib.file_digest(jar, "sha256").hexdigest() != sums[name]:
                wrong.append(f"{name} has another SHA-256 than {LOCK_FILE.name} says")
    return wrong


def kafka_jars(say: Callable[[str], None] = lambda _: None) -> Path:
    """The directory of the checked jars; fetches them where they are missing.

    Raises ServicesError when Maven cannot be had, cannot fetch, or brings other bytes than the lock file names.
    """
    sums = locked_sums(LOCK_FILE.read_text(encoding="utf-8"))
    target = cache_dir()
    if not differences(target, sums):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(target.parent / "jars.lock"):
        if not differences(target, sums):  # somebody else fetched them meanwhile
            return target
        say(f"fetching Apache Kafka {KAFKA_VERSION} with Maven ({len(sums)} jars)")
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=target.parent) as fetched:
            lib = Path(fetched) / "lib"
            _fetch(lib)
            wrong = differences(lib, sums)
            if wrong:
                raise ServicesError(
                    f"cannot use the jars that Maven fetched: {'; '.join(wrong[:3])}",
                    f"compare the mirror in ~/.m2/settings.xml with {LOCK_FILE}",
                )
            shutil.rmtree(target, ignore_errors=True)
            lib.rename(target)
    return target


def java(say: Callable[[str], None] = lambda _: None) -> str:
    """Path of a Java that runs Kafka. Installs one where it can; raises ServicesError naming the command otherwise."""
    found = _suitable_java()
    if found is None:
        _set_up(say)
        found = _suitable_java()
    if found is None:
        raise ServicesError(
            f"cannot find Java {JAVA_AT_LEAST} or newer", "sudo apt-get install -y openjdk-17-jre-headless"
        )
    return found


def _suitable_java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    candidates = ([f"{home}/bin/java"] if home else []) + ["java"]
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is None:
            continue
        shown = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
        version = re.search(r'version "(\d+)', shown)
        if version and int(version[1]) >= JAVA_AT_LEAST:
            return path
    return None


def _fetch(lib: Path) -> None:
    if shutil.which("mvn") is None:
        _set_up(lambda _: None)
    if shutil.which("mvn") is None:
        raise ServicesError("cannot fetch Apache Kafka: Maven is missing", "sudo apt-get install -y maven")
    command = [
        "mvn", "-q", "-B", "-f", str(POM), f"{MAVEN_PLUGIN}:copy-dependencies",
        f"-DoutputDirectory={lib}", "-DincludeScope=runtime",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_S, check=False)
    if done.returncode != 0:
        last = next((line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line), "no message")
        raise ServicesError(f"cannot fetch Apache Kafka with Maven: {last}", f"mvn -B -f {POM} dependency:resolve")


def _set_up(say: Callable[[str], None]) -> None:
    say("installing what a real Kafka needs")
    done = subprocess.run([str(SETUP), "services"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        advice = [line.removeprefix("Try: ") for line in lines if line.startswith("Try: ")]
        problem = next((line.removeprefix("✗ ") for line in lines if line.startswith("✗ ")), "setup.sh failed")
        raise ServicesError(f"cannot start Kafka: {problem}", advice[0] if advice else f"{SETUP} services")


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: list[str]) -> int:
    """`python -m infrastructure.services.jars [lock]`: fetch and check the jars, or write the lock file anew."""

    def say(text: str) -> None:
        sys.stderr.write(text + "\n")

    try:
        if argv == ["lock"]:
            with tempfile.TemporaryDirectory() as fetched:
                _fetch(Path(fetched))
                jars = sorted(Path(fetched).glob("*.jar"), key=lambda path: path.name)
                lines = [f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in jars]
            LOCK_FILE.write_text("".join(lines), encoding="utf-8")
            return 0
        java(say)
        kafka_jars(say)
    except ServicesError as error:
        say(f"✗ {error.message}\n  Try: {error.next_step}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
