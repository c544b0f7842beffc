"""A program that is run for us, with limits of time, memory and disk, and of what is taken of its output.

What it works on comes from outside: a Git server may list references for ever, and a few kilobytes may unpack to
terabytes.  Limits hold for its children, too, and all of them are killed at the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple

from gitops_mvd.core.errors import Unavailable

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # a missing git is an error of the first fetch, not of the import
from git import Git
from git.exc import GitCommandNotFound

MOST_COMPLAINT = 64 << 10  # bytes of stderr, the last ones
CHUNK = 64 << 10  # bytes
LOOK_SECONDS = 0.2  # between two looks at the deadline
Started = Git.AutoInterrupt
KILLED = -signal.SIGKILL


class Limits(NamedTuple):
    """What a program may use: seconds, and bytes of address space, of a file, and of stdout."""

    seconds: float
    memory: int = 512 << 20
    file: int = 2 << 30
    output: int = 16 << 20


class Ended(NamedTuple):
    """How a program ended: its exit status, negative if a signal or we ended it; its stdout, and why it failed."""

    status: int
    output: bytes
    complaint: str


def _found(program: str) -> str | None:
    """The path of a program of the system, whatever PATH this process was given."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{os.defpath}:/usr/bin")


def command(words: Sequence[str], limits: Limits) -> list[str]:
    """The command that runs `words` within the limits of memory, processor time and disk.

    Raises Unavailable if this server lacks the program that sets them.
    """
    prlimit = _found("prlimit")
    if not prlimit:
        raise Unavailable("prlimit is not installed, which limits what git may use", "apt-get install util-linux")
    wanted = {
        "as": (resource.RLIMIT_AS, limits.memory),
        "fsize": (resource.RLIMIT_FSIZE, limits.file),
        "cpu": (resource.RLIMIT_CPU, round(limits.seconds) + 1),
        "core": (resource.RLIMIT_CORE, 0),
    }
    return [prlimit, *(f"--{name}={_at_most(*limit)}" for name, limit in wanted.items()), "--", *words]


def run(
    words: Sequence[str],
    environment: Mapping[str, str],
    limits: Limits,
    is_awaited: Callable[[], bool] = lambda: False,
    given: bytes = b"",
) -> Ended:
    """Run a program to its end.  It is killed once it passes a limit, or `is_awaited` says that we have other work.

    It is `given` its stdin.  Raises Unavailable if it cannot be started.
    """
    try:
        child = _started(words, environment, limits, given)
    except OSError as error:
        raise Unavailable(f"cannot run {words[0]}: {error.strerror}") from error
    return finish(child, limits, is_awaited)


def _started(
    words: Sequence[str], environment: Mapping[str, str], limits: Limits, given: bytes
) -> subprocess.Popen[bytes]:
    with open(os.memfd_create("given"), "w+b") as stdin:  # of any length, and never on a disk
        stdin.write(given)
        stdin.seek(0)
        return subprocess.Popen(
            command(words, limits),
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )


def start_git(
    words: Sequence[str], environment: Mapping[str, str], limits: Limits, stdin: int = subprocess.DEVNULL
) -> Started:
    """Start git, which ends when nobody holds what is returned.  Raises Unavailable if it cannot be started."""
    if not shutil.which("git"):
        raise Unavailable("git is not installed", "apt-get install git")
    # GitPython hands on all variables of this process: those of git would be somebody's settings.
    others = (name for name in os.environ if re.match("GIT_(?!PYTHON_)", name) and name not in environment)
    foreign = [f"--unset={name}" for name in others]
    started = [_found("env") or "env", *foreign, "git", *words] if foreign else ["git", *words]
    try:
        return Git().execute(
            command(started, limits), stdin, as_process=True, env=dict(environment), start_new_session=True
        )
    except (GitCommandNotFound, OSError) as error:
        raise Unavailable(f"cannot run git: {error}") from error


def finish(child: subprocess.Popen[bytes], limits: Limits, is_awaited: Callable[[], bool] = lambda: False) -> Ended:
    """Let a program that leads a session go on to its end, as `run` does."""
    with child:
        try:
            output, complaint, ended_because = _gathered(child, limits, is_awaited)
        finally:
            kill(child)
    return Ended(child.returncode or (KILLED if ended_because else 0), output, ended_because or complaint)


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a program that leads a session, and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _gathered(child: subprocess.Popen[bytes], limits: Limits, is_awaited: Callable[[], bool]) -> tuple[bytes, str, str]:
    """What it prints and complains about until it ends, and why it has to be killed, "" if it ended by itself."""
    assert child.stdout
    assert child.stderr
    output, complaint = bytearray(), bytearray()
    deadline = time.monotonic() + limits.seconds
    why = ""
    with selectors.DefaultSelector() as open_ends:
        for end in (child.stdout, child.stderr):
            open_ends.register(end, selectors.EVENT_READ)
        while open_ends.get_map() and not why:
            ready = open_ends.select(LOOK_SECONDS)
            for key, _ in ready:
                pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
                chunk = os.read(pipe.fileno(), CHUNK)
                if not chunk:
                    open_ends.unregister(pipe)
                elif pipe is child.stdout:
                    output += chunk
                else:
                    complaint = (complaint + chunk)[-MOST_COMPLAINT:]
            if len(output) > limits.output:
                why = f"printed more than {limits.output >> 20} MiB"
            elif time.monotonic() > deadline:
                why = f"did not complete in {limits.seconds:g} s"
            elif is_awaited():
                why = "was put off, as there is other work"
            elif not ready and child.poll() is not None:  # somebody else holds its output open
                break
        while not why and child.poll() is None:
            if time.monotonic() > deadline:
                why = f"did not complete in {limits.seconds:g} s"
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(LOOK_SECONDS)
    return bytes(output), complaint.decode(errors="replace"), why


def _at_most(kind: int, wanted: int) -> int:
    """A limit that is not above the one we have ourselves: only few may raise one."""
    _, own = resource.getrlimit(kind)
    return wanted if own == resource.RLIM_INFINITY else min(wanted, own)
