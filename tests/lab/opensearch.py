"""OpenSearch, for what speaks the API of Elasticsearch: one real node, from its jars and a page of Java.

requests.get(f"{lab.opensearch.url}/logs-*/_search", timeout=5)
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

import requests

from tests.lab import java, maven
from tests.lab.engine import Say
from tests.lab.java import Java

MEGABYTES = 300  # of heap; with the rest it takes about 400 MB
ANSWER_SECONDS = 5.0


class OpenSearch:
    """A node without TLS and logins, at `url`, for those who reach `address`.  Its data goes with it."""

    def __init__(self, address: str, say: Say) -> None:
        self._address = address
        self._say = say
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://{self._address}:{self._port}"

    def start(self) -> None:
        """Start it, with what it had before `stop`, and wait until it answers.  Raises LabUnavailable."""
        java.install(self._say)
        classpath = maven.classpath(maven.OPENSEARCH, self._say)
        if not self._port:
            self._folder = Path(tempfile.mkdtemp(prefix="opensearch-"))
            self._port = java.free_port(self._address)
        settings = {
            "path.home": str(self._folder),
            "node.name": "lab",
            "discovery.type": "single-node",
            "network.host": self._address,
            "http.port": str(self._port),
            "http.type": "netty4",
            "transport.port": "0",
            "transport.type": "netty4",
        }
        words = (f"{key}={value}" for key, value in settings.items())
        program = str(maven.LISTS / "OpenSearch.java")
        self._java = Java(("-cp", classpath, program, *words), self._folder / "opensearch.log", MEGABYTES)
        self._java.wait_until(self._answers)

    def stop(self) -> None:
        """Stop it; what it has stays for the next `start`."""
        self._java.stop()

    def close(self) -> None:
        """Stop it for good, and remove what it has."""
        self.stop()
        shutil.rmtree(self._folder)

    def __enter__(self) -> OpenSearch:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self) -> bool:
        try:
            health = f"{self.url}/_cluster/health?wait_for_status=yellow&timeout=2s"
            return requests.get(health, timeout=ANSWER_SECONDS).ok
        except requests.RequestException:
            return False
