"""The servers that the page shows: this one, or several, each by ssh, by https, or at a socket of this server."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import ssl
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from gitops_mvd.api.client import Api, Refused
from gitops_mvd.api.endpoints import ACTING_SOCKET, SOCKET, Endpoint
from gitops_mvd.api.views import HostView, OperationView
from gitops_mvd.config.settings.web import HostSettings
from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.text import plain_line
from gitops_mvd.web import shown
from gitops_mvd.web.host import Host
from gitops_mvd.web.pages import Page, commit_of
from gitops_mvd.web.signal import Signal

log = logging.getLogger(__name__)
T = TypeVar("T")

PAUSE = Backoff(1.0, 60.0)
STEADY_SECONDS = 30.0  # after which a connection counts as one that worked
FIRST_ANSWER_SECONDS = 2.0  # that the front page waits for a server
OF_ONE_COMMIT = 5
SSH = (
    *("ssh", "-N", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3", "-o", "StreamLocalBindUnlink=yes"),
    *("-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "PermitLocalCommand=no", "-a", "-x"),
)


class Tunnel:
    """An `ssh` that leads to the sockets of another server; it is started again whenever it ends."""

    def __init__(self, name: str, settings: HostSettings, folder: Path) -> None:
        self.reads, self.acts = folder / f"{name}.api", folder / f"{name}.act"
        self._name = name
        self._settings = settings
        self._child: asyncio.subprocess.Process | None = None
        self._said = ""  # by the `ssh` of now
        self._last = "ssh is not connected yet"  # why the one before it ended

    @property
    def trouble(self) -> str:
        """Why nothing gets through, as far as `ssh` knows; "" if it is connected and has said nothing."""
        is_up = self._child is not None and self._child.returncode is None and self.reads.exists()
        return self._said if is_up else self._said or self._last

    @property
    def command(self) -> tuple[str, ...]:
        url = urlsplit(self._settings.address)
        key, hosts = self._settings.ssh_key, self._settings.known_hosts
        return (
            *SSH,
            *(("-o", "IdentitiesOnly=yes", "-i", key) if key else ()),
            *(("-o", f"UserKnownHostsFile={hosts}", "-o", "StrictHostKeyChecking=yes") if hosts else ()),
            *(("-p", str(url.port)) if url.port else ()),
            *("-L", f"{self.reads}:{SOCKET}", "-L", f"{self.acts}:{ACTING_SOCKET}"),
            *("--", f"{url.username}@{url.hostname}" if url.username else str(url.hostname)),
        )

    async def keep(self) -> None:
        """Connect, and connect again, later and later while it does not work."""
        failures = 0
        while True:
            began = time.monotonic()
            await self._connect()
            failures = 0 if time.monotonic() - began > STEADY_SECONDS else failures + 1
            await asyncio.sleep(PAUSE.pause(max(0, failures - 1)))

    async def _connect(self) -> None:
        try:
            child = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            self._last = f"cannot run ssh: {error.strerror}"
            return
        self._child, self._said = child, ""
        try:
            assert child.stderr
            with suppress(ValueError):  # a line that is too long
                while line := await child.stderr.readline():
                    said = plain_line(line.decode("utf-8", "replace").strip(), 200)
                    self._said = f"ssh: {said.removeprefix('ssh: ')}"
            code = await child.wait()
            self._last = self._said or f"ssh ended with {code}"
            log.warning("%s: %s", self._name, self._last)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


class Remote(Api):
    """The API of another server, handed on by the page there."""

    def __init__(self, address: str, token_file: str) -> None:
        super().__init__()
        self._url = urlsplit(address)
        self._token_file = token_file

    def _connected(self, endpoint: Endpoint, within: float) -> AbstractContextManager[http.client.HTTPConnection]:
        return self._dialled(within)

    @contextmanager
    def _dialled(self, within: float) -> Iterator[http.client.HTTPConnection]:
        token = ""
        if self._token_file:
            try:
                token = Path(self._token_file).read_text().strip()
            except OSError as error:
                raise Unavailable(f"cannot read {self._token_file}: {error.strerror}") from error
        connection = _dial(self._url.scheme, self._url.netloc, self._url.path, token, within)
        where = f"{self._url.scheme}://{self._url.netloc}"
        try:
            yield connection
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(f"{where} has a certificate that is not trusted: {error.verify_message}") from error
        except TimeoutError as error:
            raise Unavailable(f"{where} did not answer within {within:g} s") from error
        except OSError as error:
            raise Unavailable(f"{where} does not answer: {error.strerror or error}") from error
        except http.client.HTTPException as error:
            raise Unavailable(f"{where} answered with something unexpected") from error
        finally:
            connection.close()


def _dial(scheme: str, netloc: str, path: str, token: str, within: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection

    class Prefixed(kind):  # type: ignore[misc, valid-type]
        """Asks below the path of the page, and with its token."""

        def request(self, method: str, url: str, body: Any = None, headers: Any = None, **more: Any) -> None:
            login = {"Authorization": f"Bearer {token}"} if token else {}
            super().request(method, f"{path}{url}", body, {**(headers or {}), **login}, **more)

    connection: http.client.HTTPConnection = Prefixed(netloc, timeout=within)
    return connection


class Fleet:
    """The servers.  `changed` rings when one of them has."""

    def __init__(self, named: Mapping[str, HostSettings], here: str = "", api: Api | None = None) -> None:
        """`here` is the name of this server, the only one if none is named."""
        self.changed = Signal()
        self.is_one = not named
        self._tunnels: list[Tunnel] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if any(it.address.startswith("ssh://") for it in named.values()):
            self._folder = tempfile.TemporaryDirectory(prefix="mvd-", dir=os.environ.get("RUNTIME_DIRECTORY"))
        self.hosts = (
            [Host(here, api or Api(), also=self.changed)]
            if self.is_one
            else [self._host(name, settings) for name, settings in named.items()]
        )

    def _host(self, name: str, settings: HostSettings) -> Host:
        base, url = f"/hosts/{name}", urlsplit(settings.address)
        if url.scheme == "unix":
            acting = str(Path(url.path).with_name(Path(ACTING_SOCKET).name))
            return Host(name, Api(url.path, acting), base, self.changed)
        if url.scheme == "ssh":
            assert self._folder
            tunnel = Tunnel(name, settings, Path(self._folder.name))
            self._tunnels.append(tunnel)
            host = Host(name, Api(str(tunnel.reads), str(tunnel.acts)), base, self.changed)
            host.why_silent = lambda: tunnel.trouble
            return host
        return Host(name, Remote(settings.address, settings.token_file), base, self.changed)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(tunnel.keep()) for tunnel in self._tunnels]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._folder:
            self._folder.cleanup()

    def look(self) -> None:
        for host in self.hosts:
            host.look()

    async def page(self) -> Page:
        """All servers side by side; of one that does not answer, what is known."""
        found = await asyncio.gather(*(_soon(host, "status", HostView) for host in self.hosts))
        rows = [
            {"host": host, "status": status, "silence": host.silence, "why": why}
            for host, (status, why) in zip(self.hosts, found, strict=True)
        ]
        silent = sum(1 for host in self.hosts if host.silence)
        worst = max((status.health for status, _ in found if status), key=shown.rank, default="Unknown")
        told = {
            host.name: {"status": status, "silent_since": host.silence.since if host.silence else 0.0, "why": why}
            for host, (status, why) in zip(self.hosts, found, strict=True)
        }
        tells = f"{len(self.hosts)} servers, the worst is {worst}, {silent} silent"
        mood = "silent" if silent else worst
        return Page("hosts.html", "Servers", told, {"status": None, "rows": rows}, mood=mood, tells=tells)

    async def commit_page(self, named: str) -> Page:
        """How one commit came out on each server.  Raises NotThere."""
        commit = commit_of(named, {"All servers": "/"})
        asked = {"commit": commit, "limit": OF_ONE_COMMIT}
        found = await asyncio.gather(
            *(_soon(host, "operations", tuple[OperationView, ...], **asked) for host in self.hosts)
        )
        rows = [
            {"host": host, "operations": operations, "why": why}
            for host, (operations, why) in zip(self.hosts, found, strict=True)
        ]
        values = {"status": None, "rows": rows, "commit": commit}
        return Page("everywhere.html", f"Deploy {commit[:7]}", None, values, is_live=False)


async def _soon(host: Host, name: str, of: type[T], **asked: Any) -> tuple[T | None, str]:
    """The answer of a server, and why it is none of now, if so: then it is the last one, None if there was none."""
    why = ""
    try:
        async with asyncio.timeout(FIRST_ANSWER_SECONDS):
            await host.ask(name, of, **asked)
    except TimeoutError:
        why = f"no answer within {FIRST_ANSWER_SECONDS:g} s"
    except (Unavailable, Refused) as error:
        why = error.message
    return host.last(name, of, **asked), host.silence.why if host.silence else why
