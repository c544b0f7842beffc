"""The git command: away from the machine's own settings, with a deadline, and only by the one protocol of the URL.

Secrets reach it through the environment, never the command line.
"""

from __future__ import annotations

import logging
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.redact import redact
from gitops_mvd.git.address import COMPLAINTS, LOGIN, REFUSED, SSH
from gitops_mvd.git.child import Limits, finish, start_git
from gitops_mvd.git.objects import Objects

log = logging.getLogger(__name__)

Load = Callable[[bytes, str, str], bytes]

PATIENCE = 10  # one that is patient waits that many times longer
MEMORY = {False: 256 << 20, True: 512 << 20}  # bytes for a question, and for a patient one, which handles packs

# Large files are never held in memory, and packing goes by `Mirror.pack` alone.
FRUGAL = {
    "core.bigFileThreshold": "4m",
    "core.packedGitWindowSize": "16m",
    "core.packedGitLimit": "64m",
    "core.deltaBaseCacheLimit": "16m",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "pack.windowMemory": "64m",
}

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Command:
    """Runs git for the config repository at `url`, and in its mirrors on this disk.

    `token` is called for every request, and `renew` with a token that was refused: it returns whether there is another
    one now.  `timeout` is the seconds that a command may take.  Raises MvdError for a user name that cannot be sent.
    """

    url: str
    protocol: str
    token: Callable[[], str] = field(repr=False)
    renew: Callable[[str], bool] = field(repr=False)
    username: str
    ssh_key: Path | None
    known_hosts: Path | None
    ca_file: str
    timeout: float

    def __post_init__(self) -> None:
        if not _is_line(self.username):
            raise MvdError("the user name of the repository must be a single line")

    @property
    def where(self) -> str:
        """The URL as it may be shown: a login in it is refused."""
        return self.url

    def refs(self, pattern: str) -> dict[str, str]:
        """What the server has at the refs of that name: ref -> id.  An annotated tag also has `^{}`, for its commit."""
        lines = self.say("ls-remote", "--", self.url, pattern, login=True).splitlines()
        return {ref: oid for oid, _, ref in (line.partition("\t") for line in lines)}

    def say(self, *words: str, login: bool = False, patient: bool = False) -> str:
        """What git says to a command that must succeed.  Raises Unavailable with what its complaint means."""
        status, out, complaint = self(*words, login=login, patient=patient)
        if status == 0:
            return out
        for pattern, (sentence, hint) in COMPLAINTS.items():
            if re.search(pattern, complaint):
                raise Unavailable(f"{self.where} {sentence}", hint)
        last = complaint.strip().rpartition("\n")[2]
        raise Unavailable(f"cannot read {self.where}: {last or f'git ended with {status}'}")

    def __call__(
        self,
        *words: str,
        login: bool = False,
        patient: bool = False,
        settings: Mapping[str, str] = NOTHING,
        environment: Mapping[str, str] = NOTHING,
        is_awaited: Callable[[], bool] = lambda: False,
    ) -> tuple[int, str, str]:
        """The exit status of a git command, what it printed, and what it complained about, without the token.

        Only one that asks the server gets the `login`: the mirror is read without anybody's leave.  A `patient` one may
        take ten times as long, and is given up once `is_awaited`.
        """
        limits = Limits(self.timeout * (PATIENCE if patient else 1), MEMORY[patient])
        token = self.token() if login else ""
        ran = self._run(token, words, limits, settings, environment, is_awaited)
        if token and ran[0] and re.search(REFUSED, ran[2]) and self.renew(token):
            ran = self._run(self.token(), words, limits, settings, environment, is_awaited)
        return ran

    def reader(self, place: Path) -> Objects:
        """Reads objects of a repository on this disk: see `Objects`."""
        words = [f"--git-dir={place}", "cat-file", "--batch"]
        return Objects(words, self._environment(), Limits(self.timeout, MEMORY[False]))

    def _run(
        self,
        token: str,
        words: Sequence[str],
        limits: Limits,
        settings: Mapping[str, str],
        environment: Mapping[str, str],
        is_awaited: Callable[[], bool],
    ) -> tuple[int, str, str]:
        if not _is_line(token):
            raise Unavailable("the token of the repository must be a single line", "check the file it is in")
        log.debug("running git words=%s", words)
        started = start_git(words, self._environment(token, settings) | dict(environment), limits)
        assert started.proc
        status, output, complaint = finish(started.proc, limits, is_awaited)
        return status, os.fsdecode(output).removesuffix("\n"), redact(complaint, [token])

    def _environment(self, token: str = "", more: Mapping[str, str] = NOTHING) -> dict[str, str]:
        """What git is told behind its command line: nothing of the machine's or the user's own settings."""
        origin = urllib.parse.urlsplit(self.url)
        settings = {
            "credential.helper": "",
            "core.hooksPath": os.devnull,
            "core.fsmonitor": "false",
            **FRUGAL,
            "fetch.recurseSubmodules": "false",
            "http.lowSpeedLimit": "100",
            "http.lowSpeedTime": str(max(1, int(self.timeout))),
            **more,
        }
        if self.ca_file:
            settings["http.sslCAInfo"] = self.ca_file
        if token and self.protocol in ("https", "http"):
            settings[f"credential.{origin.scheme}://{origin.netloc}.helper"] = LOGIN
        environment = {
            "HOME": "/nonexistent",
            "GIT_DIR": "/nonexistent",  # not the repository that somebody happens to stand in
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_PARAMETERS": "",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "",
            "SSH_ASKPASS": "",
            "GIT_ALLOW_PROTOCOL": self.protocol,
            "GIT_SSH_COMMAND": SSH,
            "GIT_SSH_VARIANT": "ssh",
            "MVD_USERNAME": self.username,
            "MVD_TOKEN": token,
            "MVD_SSH_KEY": str(self.ssh_key or ""),
            "MVD_KNOWN_HOSTS": str(self.known_hosts or ""),
            "MVD_SECONDS": str(max(1, int(self.timeout))),
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        for n, (key, value) in enumerate(settings.items()):
            environment |= {f"GIT_CONFIG_KEY_{n}": key, f"GIT_CONFIG_VALUE_{n}": value}
        return environment


def _is_line(text: str) -> bool:
    return not set(text) & set("\r\n\0")
