"""A program that prints a secret: the way to whatever store has a command of its own."""

from __future__ import annotations

import os
import time

from gitops_mvd.config.settings.secrets import CommandProvider
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.secrets.program import run
from gitops_mvd.secrets.providers import LARGEST_BYTES


class Command:
    def __init__(self, options: CommandProvider) -> None:
        self._options = options

    def stamp(self, path: str) -> object:
        return time.monotonic() // self._options.interval

    def read(self, path: str) -> bytes:
        program, *words = self._options.run
        given = [program, *(word.replace("{path}", path) for word in words)]
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        status, content = run(given, environment, self._options.within, LARGEST_BYTES)
        if status != 0:
            raise Unavailable(f"{program} ended with {status} when it was asked for the secret {path}")
        if not content.strip():
            raise StepFailed(f"{program} has no secret {path}", "put it where that program finds it")
        return content


def connect(options: CommandProvider) -> Command:
    return Command(options)
