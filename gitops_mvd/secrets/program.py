"""Runs a program that reads or prints secrets: by pipes alone, with a deadline, and no more of it than is asked for."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from gitops_mvd.core.errors import Unavailable

PART_BYTES = 1 << 16


def run(
    words: Sequence[str], environment: Mapping[str, str], within: float, largest: int, given: bytes = b""
) -> tuple[int, bytes]:
    """The exit status of a program that is `given` this on stdin, and what it printed; its complaints are not read.

    It has exactly that environment.  Raises Unavailable if it cannot be run, does not end `within` these seconds, or
    prints more than the `largest` number of bytes; it is then ended with all that it started.
    """
    name = words[0]
    stdin = os.memfd_create("stdin")  # in memory, and whoever opens /dev/stdin reads it from its beginning
    try:
        with os.fdopen(os.dup(stdin), "wb") as file:
            file.write(given)
        os.lseek(stdin, 0, os.SEEK_SET)
        program = subprocess.Popen(
            words,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"cannot run {name}: {error.strerror}") from error
    finally:
        os.close(stdin)
    try:
        return _ended(program, name, time.monotonic() + within, within, largest)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        assert program.stdout
        program.stdout.close()


def _ended(
    program: subprocess.Popen[bytes], name: str, deadline: float, within: float, largest: int
) -> tuple[int, bytes]:
    assert program.stdout
    printed, descriptor = bytearray(), program.stdout.fileno()
    while (left := deadline - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
        part = os.read(descriptor, PART_BYTES)
        printed += part
        if len(printed) > largest:
            raise Unavailable(f"{name} printed more than {largest >> 20} MiB")
        if not part:
            with suppress(subprocess.TimeoutExpired):
                return program.wait(max(0.1, deadline - time.monotonic())), bytes(printed)
            break
    raise Unavailable(f"{name} did not end within {within:g} s")
