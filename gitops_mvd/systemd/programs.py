"""The programs that systemd comes with: journalctl and systemd-analyze, and what they print."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence

from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.text import cause

PROGRAM_WITHIN_SECONDS = 30.0
OUTSIDE_WITHIN_SECONDS = 5.0
ENGINE = "dockerd"  # the program that writes what containers print
MISSING = "container {} is missing: the next pass of gitops-mvd makes it"  # what a unit says of its own


def plain(printed_lines: Iterable[str], container: str) -> list[str]:
    """The lines that a container printed: without those of the docker command, and without repetitions."""
    name = re.escape(container)
    chatter = re.compile(
        rf"[0-9a-f]{{64}}|{name}|Error( response from daemon)?: No such container: ({name}|[0-9a-f]{{64}})"
        r"|.*: Conflict\. The container name .*"
        r"|Error response from daemon: ([Yy]ou )?cannot remove .* force remove"
        r"|.* msg=\"error waiting for container: .*|Error: failed to start containers: .*"
        r"|WARNING: (Error (loading|parsing) config file: |The requested image's platform |Your kernel does not ).*"
    )
    lines = [cause(line) for line in printed_lines if not chatter.fullmatch(line)]
    return [line for line, before in zip(lines, [None, *lines], strict=False) if line != before]


def written_by(unit: str) -> tuple[str, ...]:
    """What journalctl finds the output of a unit's container by: written by the engine, or by what the unit runs.

    systemd puts the name of the container into what it says itself of such a unit, since version 254.
    """
    return f"CONTAINER_NAME={unit.removesuffix('.service')}", f"_COMM={ENGINE}", "+", f"_SYSTEMD_UNIT={unit}"


def identifiers_of(name: str, *, or_to_come: bool = False) -> list[str]:
    """What the output of `app` or `app/service` is found by in the journal: `app/service`, and no other program's name.

    Raises MvdError if there is none, unless it may be `or_to_come`.
    """
    known = printed("journalctl", "--quiet", "--field=SYSLOG_IDENTIFIER").splitlines()
    theirs = [it for it in known if it.count("/") == 1 and f"{it}/".startswith(f"{name}/")]
    if not theirs and (not or_to_come or name.count("/") > 1):
        raise MvdError(f"no output of {name} in the journal", "Apps of this server: mvd status")
    return theirs or [name if "/" in name else f"{name}/"]


def printed(*argv: str) -> str:
    """All that a program prints."""
    return decoded(run_program(argv, PROGRAM_WITHIN_SECONDS, stderr=subprocess.STDOUT).stdout)


def run_program(argv: Sequence[str], within: float, stderr: int) -> subprocess.CompletedProcess[bytes]:
    """A program that ran to its end.  Raises Unavailable if it did not end in time or is missing."""
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, timeout=within, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{argv[0]} did not end within {within:g} s") from error
    except OSError as error:
        raise Unavailable(f"cannot run {argv[0]}: {error.strerror}") from error


def outside(*argv: str) -> str:
    """What a program prints that systemd runs on the host as it is, and not in the sandbox of this process.

    The sandbox has a /dev and a /tmp of its own, and no right to see whose a socket is.  "" if it could not be run.
    """
    limit = f"--property=RuntimeMaxSec={OUTSIDE_WITHIN_SECONDS:g}"
    words = ("systemd-run", "--wait", "--pipe", "--collect", "--quiet", limit, *argv)
    try:
        done = run_program(words, 2 * OUTSIDE_WITHIN_SECONDS, stderr=subprocess.DEVNULL)
    except Unavailable:
        return ""
    return decoded(done.stdout) if done.returncode == 0 else ""


def decoded(output: bytes) -> str:
    return output.decode(errors="replace")
