"""Which ports of this host, that containers are about to publish, somebody else uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from gitops_mvd.core.claims import known_ports
from gitops_mvd.core.errors import NotNow
from gitops_mvd.core.model import Service
from gitops_mvd.docker.answers import APP
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.types import ListedContainer
from gitops_mvd.net import listeners
from gitops_mvd.net.listeners import Listener

_ID = re.compile(r"[0-9a-f]{64}")


class Port(NamedTuple):
    """A port of this host for a service; `address` is "" for all.  What `may_be_shared` need not be listened on."""

    service: str
    address: str
    number: int
    protocol: str
    may_be_shared: bool = False


class Taken:
    """One look at the ports of this host.

    A managed container that has one makes room for its successor, or has lost a contest: that is not judged here.
    `outside` runs a program on the host, outside of any sandbox.
    """

    def __init__(
        self,
        engine: Engine,
        outside: Callable[..., str],
        listening: Callable[[int, str], Sequence[Listener]] = listeners.listening,
    ) -> None:
        self._engine = engine
        self._outside = outside
        self._listening = listening

    @cached_property
    def _running(self) -> Sequence[ListedContainer]:
        return self._engine.running()

    def refuse(self, ports: Iterable[Port]) -> None:
        """Raise NotNow for the first port that somebody else uses."""
        for port in ports:
            if not listeners.is_here(port.address):
                refused = NotNow(
                    f"{port.service}: this host does not have the address {port.address} of the port {port.number}",
                    "see: ip address",
                )
                refused.service = port.service
                raise refused
            if by := self._user_of(port):
                hint = "stop that, or publish another port"
                if by == UNKNOWN:
                    hint = f"see: ss -lnp 'sport = :{port.number}'"
                refused = NotNow(f"{port.service}: the port {port.number} of this host is used by {by}", hint)
                refused.service = port.service
                raise refused

    def _user_of(self, port: Port) -> str:
        """Who else uses a port, "" if nobody does for sure."""
        publishing = [it for it in self._running if _publishes(it, port)]
        if publishing:
            return next((_named(it) for it in publishing if APP not in it["Labels"]), "")
        found = self._listening(port.number, port.protocol)
        if not found:
            return ""
        command = listeners.command(port.number, port.protocol)
        named = listeners.shown(self._outside(*command).splitlines())
        in_the_way = [it for it in named or found if it.is_in_the_way(port.address)]
        if not in_the_way:
            return ""
        known = next((it for it in in_the_way if it.pid), None)
        if not known:
            shares = any(APP in it["Labels"] and it["HostConfig"].get("NetworkMode") == "host" for it in self._running)
            return "" if shares or port.may_be_shared else UNKNOWN
        container = self._container_of(known.pid)
        if container:
            return "" if APP in container["Labels"] else _named(container)
        return f"{known.program} (pid {known.pid})"

    def _container_of(self, pid: int) -> ListedContainer | None:
        try:
            ids = _ID.findall(Path(f"/proc/{pid}/cgroup").read_text())
        except OSError:
            return None
        return next((it for it in self._running if it["Id"] in ids), None)


UNKNOWN = "another process"


def ports_of(service: Service) -> Iterator[Port]:
    """The ports of the host that containers of a service listen on, as far as that is known beforehand."""
    for port in service.run.get("ports", ()):
        if port["published"].isdecimal() and port["published"] != "0":
            yield Port(service.name, port["host_ip"], int(port["published"]), port["protocol"])
    if service.run.get("network_mode") == "host":
        for number in sorted(known_ports(service)):
            yield Port(service.name, "", number, "tcp", may_be_shared=True)


def _publishes(container: ListedContainer, port: Port) -> bool:
    return any(
        it.get("PublicPort") == port.number
        and it["Type"] == port.protocol
        and Listener(it.get("IP", "0.0.0.0")).is_in_the_way(port.address)
        for it in container.get("Ports") or ()
    )


def _named(container: ListedContainer) -> str:
    return f"the container {container['Names'][0].lstrip('/')}"
