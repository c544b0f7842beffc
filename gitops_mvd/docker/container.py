"""What is asked of one container through Docker's API: to run a command, when a file was modified, how it ended.

`session` is a client of the engine, `root` the address of its API.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import select
import signal
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import requests
import urllib3

from gitops_mvd.docker.answers import LONGEST_LINE, message, payloads, verdict
from gitops_mvd.docker.shape import checked
from gitops_mvd.docker.types import PathStat
from gitops_mvd.net.line import limit

PRINTED_BYTES = 4096  # the last ones that a command prints
EVENTS_WITHIN_SECONDS = 10.0
STATE_SECONDS = 5.0  # an engine waits 2 s for the output of a command that has ended, and tells nothing meanwhile
LARGEST_TEXT_BYTES = 1 << 20  # of a file that is read
PLAIN = {"Accept-Encoding": "identity"}
STAT = "X-Docker-Container-Path-Stat"


class Ran(NamedTuple):
    """How a command went: its exit code and the last of what it printed; None and nothing if it did not end in time.

    One that did not has been `killed`, or it goes on.
    """

    exit_code: int | None
    printed: str = ""
    killed: bool = False


def exit_code(session: requests.Session, root: str, container: str, ago: float) -> int | None:
    """The exit code of its last end in so many seconds, from the last 256 events that the engine remembers."""
    now = math.ceil(time.time())
    filters = {"type": ["container"], "container": [container], "event": ["die"]}
    span = {"since": str(int(now - ago - 1)), "until": str(now), "filters": json.dumps(filters)}
    answer = _successful(session.get(f"{root}/events", params=span, timeout=EVENTS_WITHIN_SECONDS), "list the events")
    deaths = [json.loads(line) for line in answer.text.splitlines() if line]
    return int(deaths[-1]["Actor"]["Attributes"]["exitCode"]) if deaths else None


def execute(session: requests.Session, root: str, container: str, command: Sequence[str], within: float) -> Ran:
    deadline = time.monotonic() + within
    what = f"run a command in container {container}"
    wanted = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)}
    made = _successful(session.post(f"{root}/containers/{container}/exec", json=wanted, timeout=within), what)
    of = f"{root}/exec/{made.json()['Id']}"
    printed = b""
    start = {"Detach": False, "Tty": False}
    with session.post(f"{of}/start", json=start, stream=True, timeout=within) as stream:
        for payload in payloads(_until(deadline, _successful(stream, what).raw)):
            printed = (printed + payload)[-PRINTED_BYTES:]
        while True:  # the end of its output is not always its own end
            state = _successful(session.get(f"{of}/json", timeout=within + STATE_SECONDS), what).json()
            if not state["Running"]:
                return Ran(state["ExitCode"], printed.decode("utf-8", "replace"))
            if time.monotonic() >= deadline:
                return Ran(None, killed=_kill(state["Pid"]))
            time.sleep(0.02)


def modified(session: requests.Session, root: str, container: str, path: str, within: float) -> float | None:
    for _ in range(2):  # a link is answered for itself, with its target
        found = stat(session, root, container, path, within)
        if not found or not found["linkTarget"]:
            return datetime.fromisoformat(found["mtime"]).timestamp() if found else None
        path = found["linkTarget"]
    return None


def stat(session: requests.Session, root: str, container: str, path: str, within: float) -> PathStat | None:
    url, params = f"{root}/containers/{container}/archive", {"path": path}
    answer = session.head(url, params=params, timeout=within)
    if answer.status_code == HTTPStatus.NOT_FOUND:
        return None
    if not answer.ok:  # which does not say why: an answer to HEAD has no content
        answer = session.get(url, params=params, headers=PLAIN, timeout=within, stream=True)
    with answer:
        told = _successful(answer, f"look for {path} in container {container}").headers[STAT]
    return checked(json.loads(base64.b64decode(told)), PathStat)


def text(session: requests.Session, root: str, container: str, path: str, within: float) -> str | None:
    url, params = f"{root}/containers/{container}/archive", {"path": path}
    answer = session.get(url, params=params, headers=PLAIN, timeout=within, stream=True)
    with answer, limit(within, LARGEST_TEXT_BYTES):
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        archive = io.BytesIO(_successful(answer, f"read {path} in container {container}").content)
    try:
        with tarfile.open(fileobj=archive) as tar:
            member = tar.next()
            content = tar.extractfile(member) if member and member.isfile() else None
            return content.read().decode("utf-8", "replace") if content else None
    except tarfile.TarError as error:
        raise ValueError("no archive") from error


def _successful(answer: requests.Response, what: str) -> requests.Response:
    """The answer, if it is no error.  Raises Unavailable or StepFailed."""
    if not answer.ok:
        raise verdict(answer.status_code, message(answer.text) or answer.reason, what)
    return answer


def _until(deadline: float, stream: urllib3.HTTPResponse) -> Iterator[bytes]:
    """What comes until the end of the stream, or the deadline."""
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
        received = b""
        with suppress(urllib3.exceptions.TimeoutError), limit(left, 2 * LONGEST_LINE):
            received = stream.read1()
        if not received:
            return
        yield received


def _kill(pid: int) -> bool:
    """End a process in a container, and its group.  False where that is not allowed.

    The engine may run in another process namespace, where that number is another process.  So the process must have a
    number in a namespace below that of this process, too, which no process of the host has.
    """
    try:
        numbers = re.search(r"^NSpid:(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        if not numbers or len(numbers[1].split()) < 2:
            return False
        kill = os.killpg if os.getpgid(pid) == pid else os.kill
        kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return pid > 0  # it ended by itself; 0 is none that has begun
    except OSError:
        return False
    return True
