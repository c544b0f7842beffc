"""Run a program with a deadline; if it fails, its output is the error."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """How a program ended: its exit code and its two outputs."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str


class CommandFailed(Exception):
    """A program ended with another code than 0, is not installed, or did not end in time."""

    def __init__(self, argv: tuple[str, ...], why: str) -> None:
        super().__init__(f"{' '.join(argv)}: {why}")
        self.why = why


def run(
    *argv: str,
    input: str | bytes = b"",
    timeout: float = 60,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Result:
    """Run `argv` and wait `timeout` seconds for its end.

    Raises CommandFailed; with `check=False` not for the exit code, which is then the caller's to read.
    """
    stdin = input.encode() if isinstance(input, str) else input
    try:
        ended = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout, env=env, check=False)
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(argv, f"did not end within {timeout:g} s") from error
    except OSError as error:
        raise CommandFailed(argv, error.strerror or str(error)) from error
    result = Result(argv, ended.returncode, _text(ended.stdout), _text(ended.stderr))
    if check and result.code:
        raise CommandFailed(argv, f"exit code {result.code}\n{result.out}{result.err}".rstrip())
    return result


def _text(output: bytes) -> str:
    return output.decode(errors="replace")
