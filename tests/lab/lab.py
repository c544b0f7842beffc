"""The lab: disposable servers, a registry and a forge on one network of their own.

with Lab.open(say=print) as lab:
    server = lab.server("h1")
    server.install(lab.wheel)
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.lab import engine as engines
from tests.lab import images, wheels
from tests.lab.claim import Claim, abandoned, claim, nobody_left, turn
from tests.lab.engine import PRIVATE, Engine, LabUnavailable, Say
from tests.lab.forge import Forge
from tests.lab.images import Release
from tests.lab.opensearch import OpenSearch
from tests.lab.package import Builder
from tests.lab.registry import Registry
from tests.lab.server import Server

if TYPE_CHECKING:
    from tests.lab.kafka import Kafka

LABEL = "io.gitops-mvd.lab"
LOGIN = ("lab", "open-sesame")


class Lab:
    """An open lab.  Close it, or nothing of it is removed before the next lab of this checkout opens."""

    def __init__(self, engine: Engine, claimed: Claim, release: Release, image: str, say: Say) -> None:
        self.engine = engine
        self.name = claimed.name
        self.release = release
        self.image = image
        self._claim = claimed
        self._say = say
        self._kept = False
        self._open = contextlib.ExitStack()

    @classmethod
    def open(cls, say: Say) -> Lab:
        """A lab with its network and the image of its servers, and nothing running.

        `say` is called with what takes long.  Raises LabUnavailable if this machine cannot run one.
        """
        with turn():
            claimed = claim()
            try:
                release = images.release()
                engine = engines.find(say)
                _remove(engine, claimed.name)
                lab = cls(engine, claimed, release, images.server(engine, release, say), say)
            except BaseException:
                claimed.release()
                raise
        try:
            lab._lay_network()
        except BaseException:
            lab.close()
            raise
        return lab

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def server(
        self, name: str, disks: Mapping[str, str] = MappingProxyType({}), release: Release | None = None
    ) -> Server:
        """A new server, booted, of the lab's release or another one.

        `disks` are small ones at some of its folders, each with the options of a tmpfs.
        """
        image = images.server(self.engine, release, self._say) if release else self.image
        server = Server(self.engine, self.name, name, self._say)
        server.create(image, *self._label, disks=disks)
        server.wait_until_running()
        return server

    @property
    def limiting(self) -> Release:
        """What a server runs whose containers have limits, and are measured: the lab's own release, if that can be.

        Of version 2 of cgroups, an engine that uses version 1 has left no controllers.
        """
        return images.release("debian12") if self.engine.info("CgroupVersion") == "1" else self.release

    @property
    def wheel(self) -> Path:
        """The project as it is in this checkout, for `Server.install`."""
        return wheels.project()

    @property
    def builder(self) -> Builder:
        """What builds the Debian package for servers of this lab."""
        return Builder(self.engine, self.image, self._say)

    @functools.cached_property
    def registry(self) -> Registry:
        """The registry without a login."""
        return self._registry(Registry(self.engine, self.name, images.REGISTRIES[0]))

    @functools.cached_property
    def private_registry(self) -> Registry:
        """The registry with a login; `private_registry.login` is the user and the password."""
        return self._registry(Registry(self.engine, self.name, images.REGISTRIES[1], LOGIN))

    @functools.cached_property
    def forge(self) -> Forge:
        """The Git server.  It runs in this process, and listens where the servers and this machine reach it.

        Raises LabUnavailable if a firewall keeps the servers away from this machine.
        """
        self._let_in()
        folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-forge-"))
        self._open.callback(self._leave_forge, folder)
        return self._open.enter_context(Forge(folder, self.address))

    @functools.cached_property
    def kafka(self) -> Kafka:
        """Kafka, where the servers and this machine reach it.  It is not kept.

        Raises LabUnavailable if Maven Central cannot be reached, or if there is no Java.
        """
        from tests.lab.kafka import Kafka  # and its client: half of what the lab takes to be imported

        self._let_in()
        return self._open.enter_context(Kafka(self.address, self._say))

    @functools.cached_property
    def opensearch(self) -> OpenSearch:
        """OpenSearch, with the API of Elasticsearch, where the servers and this machine reach it.  It is not kept.

        Raises LabUnavailable if Maven Central cannot be reached, or if there is no Java.
        """
        self._let_in()
        return self._open.enter_context(OpenSearch(self.address, self._say))

    @functools.cached_property
    def address(self) -> str:
        """This machine's own address on the lab's network: the servers' default gateway."""
        field = "{{(index .IPAM.Config 0).Gateway}}"
        return self.engine.docker("network", "inspect", "--format", field, self.name).out.strip()

    def keep(self) -> None:
        """From now on `close` leaves what runs in containers; `python -m tests.lab down` removes it."""
        self._kept = True

    def close(self) -> None:
        """Remove everything, and stop the engine if it is the lab's own and no other lab uses it."""
        self._open.close()
        if not self._kept:
            _remove(self.engine, self.name)
        with turn():
            self._claim.release(self._kept)
            if self.engine == PRIVATE and nobody_left():
                engines.stop_private()

    def _leave_forge(self, folder: Path) -> None:
        """The forge goes with this process; in a kept lab another one takes its place, for as long as it is kept."""
        if not self._kept:
            shutil.rmtree(folder)
            return
        port = str(urlsplit(self.forge.url).port)
        words = (
            sys.executable,
            "-m",
            "tests.lab",
            "forge",
            str(folder),
            self.address,
            port,
            str(self._claim.path),
        )
        quiet = subprocess.DEVNULL
        subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)

    def _lay_network(self) -> None:
        self.engine.docker("network", "create", *self._label, self.name)
        try:
            with socket.socket() as probe:
                probe.bind((self.address, 0))
        except OSError as error:
            raise LabUnavailable(
                f"the Docker engine is on another machine or in a virtual one ({self.address} is not ours): "
                "the lab needs a Docker engine on this very Linux"
            ) from error

    def _let_in(self) -> None:
        """See that a container on the lab's network reaches a port of this machine."""
        with socket.create_server((self.address, 0)) as listening:
            # As the first process of a container, the `timeout` of coreutils 9.10 runs nothing.
            knock = f"timeout 5 bash -c '</dev/tcp/{self.address}/{listening.getsockname()[1]}'; exit $?"
            run = ("run", "--rm", "--network", self.name, *self._label, self.image)
            if self.engine.docker(*run, "bash", "-c", knock, check=False).code:
                raise LabUnavailable(
                    f"a firewall of this machine keeps the lab's servers from reaching it at {self.address}: "
                    f"let in what comes from Docker's networks"
                )

    def _registry(self, registry: Registry) -> Registry:
        registry.create(self.image, *self._label)
        self._open.callback(registry.close)
        return registry

    @property
    def _label(self) -> tuple[str, str]:
        return ("--label", f"{LABEL}={self.name}")


def down(say: Say) -> None:
    """Remove every lab of this checkout that was kept or left by a crash."""
    with turn():
        left = abandoned()
        for engine in (engines.OWN, PRIVATE):
            if not engine.silence():
                for lab in left:
                    _remove(engine, lab.name)
        for lab in left:
            lab.release()
        if nobody_left():
            engines.stop_private()
    say("no lab of this checkout is left")


def _remove(engine: Engine, lab: str) -> None:
    mine = ("--all", "--quiet", "--filter", f"label={LABEL}={lab}")
    containers = engine.docker("ps", *mine).out.split()
    if containers:
        engine.docker("rm", "--force", "--volumes", *containers, timeout=120)
    networks = engine.docker("network", "ls", *mine[1:]).out.split()
    if networks:
        engine.docker("network", "rm", *networks)
