"""The docker command of this host, as units run it."""

from __future__ import annotations

import shutil
import subprocess

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.docker.answers import verdict

WITHIN_SECONDS = 60.0  # for one call
# What it says if there is nothing to do, as after a crash in the middle.
DONE_ALREADY = ("is already in use by container", "already exists in network", "is not connected to")
# What it says if the engine did not answer: at all, to the end, or in its latest words.
NO_ANSWER = ("Cannot connect to the Docker daemon", "error during connect", "failed to connect to the docker API")


class DockerCommand:
    """The docker command at `path`, by default the first in $PATH."""

    def __init__(self, path: str = "") -> None:
        self.path = path or shutil.which("docker") or "/usr/bin/docker"

    def run(self, *words: str) -> None:
        """Run it; that there is nothing to do is fine.  Raises Unavailable or StepFailed."""
        command = (self.path, *words)
        try:
            ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WITHIN_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"docker {words[0]} did not end within {WITHIN_SECONDS:g} s") from error
        except OSError as error:
            raise Unavailable(f"cannot run {self.path}: {error.strerror}", "install the docker command") from error
        message = ran.stderr.decode(errors="replace").strip()
        if ran.returncode and not any(text in message for text in DONE_ALREADY):
            status = 500 if any(text in message for text in NO_ANSWER) else 400
            raise verdict(status, message, f"run docker {' '.join(words[:2])}")
