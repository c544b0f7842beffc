"""The policy of a host, and what its rules have to know of the host.  Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass

from gitops_mvd.core.addresses import leads_here

LEVELS = ("privileged", "baseline", "restricted")
ADMIN_PORTS = frozenset({8001, 8444})  # of Kong's Admin API, unless its settings name others

PRIVATE = (  # whoever mounts one of these has the host, or the data of every app
    "/etc/gitops-mvd",
    "/var/lib/gitops-mvd",
    "/run/gitops-mvd",
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/podman",
    "/var/lib/docker",
    "/var/lib/containerd",
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What apps may do that reaches out of their containers; `trusted` apps may do anything.

    `level` is one of LEVELS.  `mounts` are host folders; `ports`, each a first and a last one, may be published on
    other addresses than the loopback ones; `volume_drivers` may have any option; `sysctls` are names beyond the safe
    ones, `subnets` networks in CIDR notation.  `registries` are those of images, if any are named; `shared` are names
    of volumes and networks that are not the app's own, `secrets` of secrets, and `plugins` of Kong's plugins.
    """

    level: str = "baseline"
    trusted: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    volume_drivers: tuple[str, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    sysctls: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    """What the rules have to know of a host; by default, what holds on every host.

    `admin` is the host and the port of Kong's Admin API, "" and 0 if it is not reached over TCP.  `is_own` says whether
    an address or a name is one of this machine.  `private` are paths that are never mounted, and `real_path` is where
    a path leads to, past all links.
    """

    admin: tuple[str, int] = ("", 0)
    is_own: Callable[[str], bool] = lambda host: False
    private: tuple[str, ...] = PRIVATE
    real_path: Callable[[str], str] = lambda path: path

    @property
    def admin_ports(self) -> frozenset[int]:
        """The ports of this machine where Kong's Admin API is, or may be."""
        host, port = self.admin
        return ADMIN_PORTS | {port} if leads_here(host) or self.is_own(host) else ADMIN_PORTS


def plain_path(path: str) -> str:
    """An absolute path without `..`, `.`, and double slashes; `/var/run` is `/run` on every host with systemd."""
    path = "/" + posixpath.normpath(f"/{path}").lstrip("/")
    return path.removeprefix("/var") if f"{path}/".startswith("/var/run/") else path
