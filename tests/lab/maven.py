"""Jars of Maven Central, for the real servers of the lab that are written in Java.

tests/lab/jars/NAME.txt lists every jar that NAME needs, each with its SHA-256: nothing else is taken, and it takes
neither Maven nor a resolver.  `python -m tests.lab.maven NAME`, with Maven, renews a list from its roots, which are the
lines that begin with `#: `.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.lab import wheels
from tests.lab.command import run
from tests.lab.engine import LabUnavailable, Say

CENTRAL = "https://repo1.maven.org/maven2"
LISTS = Path(__file__).parent / "jars"
KAFKA = LISTS / "kafka.txt"
OPENSEARCH = LISTS / "opensearch.txt"
ROOT = "#: "
SECONDS = 300.0  # for all jars of a list
ANSWER_SECONDS = (10.0, 30.0)  # to connect, and between two pieces
AT_ONCE = 8
PIECE = 1 << 16  # bytes


@dataclass(frozen=True)
class Jar:
    """A jar of Maven Central and the SHA-256 that it must have, in hex."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"


def classpath(file: Path, say: Say, central: str = CENTRAL) -> str:
    """What `java -cp` takes for all jars of a list, such as KAFKA; they are fetched once for each content of it.

    Raises LabUnavailable if Maven Central does not answer in time, or if a jar is not the one in the list.
    """
    listed = tuple(_read(file))

    def fetch(folder: Path) -> None:
        say(f"fetching the jars of {file.stem} ({len(listed)}) from {central}")
        deadline = time.monotonic() + SECONDS
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for jar, content in zip(listed, pool.map(lambda jar: _get(jar, central, deadline), listed), strict=True):
                if (found := hashlib.sha256(content).hexdigest()) != jar.sha256:
                    raise LabUnavailable(
                        f"{central}/{jar.path} has the SHA-256 {found}, and {file.name} wants {jar.sha256}"
                    )
                (folder / jar.name).write_bytes(content)

    return f"{wheels.cached(file.stem, (jar.sha256 for jar in listed), fetch)}/*"


def renew(file: Path) -> None:
    """Write a list anew, with what Maven resolves its roots to.  Raises CommandFailed, LabUnavailable."""
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    roots = [line.removeprefix(ROOT).split(":") for line in head if line.startswith(ROOT)]
    with tempfile.TemporaryDirectory() as work:
        project = Path(work) / "pom.xml"
        project.write_text(_project(roots))
        resolve = ("dependency:list", "-DincludeScope=runtime", f"-DoutputFile={work}/list")
        run("mvn", "-q", "-B", "-f", str(project), *resolve, timeout=SECONDS)
        words = (Path(work) / "list").read_text().split()
    found = sorted(word.split(":") for word in words if ":jar:" in word)
    deadline = time.monotonic() + SECONDS
    lines = []
    for group, artifact, _jar, version, _scope in found:
        jar = Jar(group, artifact, version, "")
        sha256 = hashlib.sha256(_get(jar, CENTRAL, deadline)).hexdigest()
        lines.append(f"{group}:{artifact}:{version} {sha256}")
    file.write_text("\n".join([*head, *lines, ""]))


def _read(file: Path) -> Iterator[Jar]:
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            group, artifact, version, sha256 = line.replace(" ", ":").split(":")
            yield Jar(group, artifact, version, sha256)


def _get(jar: Jar, central: str, deadline: float) -> bytes:
    content = bytearray()
    try:
        with requests.get(f"{central}/{jar.path}", stream=True, timeout=ANSWER_SECONDS) as answer:
            answer.raise_for_status()
            for piece in answer.iter_content(PIECE):
                content += piece
                if time.monotonic() > deadline:
                    raise LabUnavailable(f"{central} did not send all jars within {SECONDS:g} s")
    except requests.RequestException as error:
        why = "no answer" if error.response is None else f"HTTP {error.response.status_code}"
        raise LabUnavailable(f"cannot fetch {jar.path} from Maven Central ({central}): {why}") from error
    return bytes(content)


def _project(roots: list[list[str]]) -> str:
    wanted = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        for group, artifact, version in roots
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>lab</groupId><artifactId>lab</artifactId><version>1</version>"
        f"<dependencies>{wanted}</dependencies></project>"
    )


if __name__ == "__main__":
    renew(LISTS / f"{sys.argv[1]}.txt")
