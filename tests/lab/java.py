"""A server in Java, in a process of this machine: what of it runs in the lab has no package in Debian."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab.command import CommandFailed, run
from tests.lab.engine import LabUnavailable, Say, install_packages

OLDEST = 17
PACKAGE = "default-jdk-headless"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
LOG_LINES = 8  # of a server that did not start


class Java:
    """One run of `java`, with its output in `log`.  It ends with the thread that started it, at the latest."""

    def __init__(self, words: Sequence[str], log: Path, megabytes: int) -> None:
        """`words` follow `java` and its own options; `megabytes` are for the heap."""
        self.log = log
        options = (f"-Xmx{megabytes}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", "java", *options, *words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, answers: Callable[[], bool]) -> None:
        """Wait until `answers()`; raises LabUnavailable with the end of the log if that never comes."""
        deadline = time.monotonic() + START_SECONDS
        while not answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
                raise LabUnavailable(f"a server in Java does not start, see {self.log}:\n{tail}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it in good order; after STOP_SECONDS it is killed."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait(STOP_SECONDS)


def install(say: Say) -> None:
    """See that `java` is one that runs the lab's servers.  Raises LabUnavailable."""
    if _version() < OLDEST:
        install_packages(say, PACKAGE)
    if (version := _version()) < OLDEST:
        raise LabUnavailable(f"java is of version {version}: please install Java {OLDEST} or newer, with its compiler")


def free_port(address: str) -> int:
    """A port of `address` that nobody listens at now."""
    with contextlib.closing(socket.create_server((address, 0))) as listening:
        port: int = listening.getsockname()[1]
    return port


def _version() -> int:
    """The major version of the compiler on the path; 0 if there is none.  A single-file program needs it."""
    try:
        said = run("javac", "-version", timeout=10)
    except CommandFailed:
        return 0
    found = re.search(r"javac (\d+)", said.out + said.err)
    return int(found[1]) if found else 0
