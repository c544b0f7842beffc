"""The names by which other containers find a container on its networks: they are given, taken away and read.

A staged container is on its networks without the alias of its service, so that only another version has that.
"""

from __future__ import annotations

from collections.abc import Mapping

from gitops_mvd.core import compose
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.docker.answers import label
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.create import endpoint_body
from gitops_mvd.docker.types import ListedContainer, NetworkEndpoint

REMEMBERED = 5_000  # containers: those that are gone are forgotten
NO_ALIASES = ("default", "bridge", "host", "none")  # networks on which no container has an alias


class Aliases:
    """The aliases of managed containers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[str, ...], bool] = {}  # by container and endpoints: does it have its aliases?

    def is_staged(self, container: ListedContainer) -> bool:
        """Does it lack the alias of its service, because it was made without or has lost it?

        The listing has no aliases.  A container says by a label that it was made without; after it has joined its
        networks anew, which the listing shows by an address that was asked for, it is inspected once for each endpoint.
        """
        networks = _networks(container)
        if (first := container["HostConfig"].get("NetworkMode", "")) in networks:
            if all(endpoint["IPAMConfig"] is None for endpoint in networks.values()):
                return bool(label(container, "staged"))
        elif first in NO_ALIASES or first.startswith("container:"):
            return False
        key = (container["Id"], *sorted(endpoint["EndpointID"] for endpoint in networks.values()))
        if key not in self._known:
            aliases = self._engine.aliases(container["Id"])
            expected = label(container, "staged").split(",") if label(container, "staged") else [first]
            self._known[key] = all(label(container, "service") in aliases.get(name, ()) for name in expected)
            for oldest in list(self._known)[:-REMEMBERED]:
                del self._known[oldest]
        return not self._known[key]

    def take(self, container: ListedContainer) -> None:
        """Let it lose its aliases on all of its networks."""
        self._rejoin(container, {network: {} for network in _networks(container)})

    def give(self, container: ListedContainer, endpoints: Mapping[str, compose.Endpoint]) -> None:
        """Let it have the aliases and options that `endpoints` says, by network."""
        self._rejoin(container, endpoints)

    def _rejoin(self, container: ListedContainer, endpoints: Mapping[str, compose.Endpoint]) -> None:
        """Join the networks anew, with the same address if the network's subnet was given.

        `is_staged` looks at the first network: aliases are lost there first, and given there last.
        """
        name = container["Names"][0].lstrip("/")
        first, gets = container["HostConfig"].get("NetworkMode", ""), any(endpoints.values())
        networks = _networks(container)
        for network in sorted(endpoints, key=lambda network: (network != first) != gets):
            # Addresses are asked for even if none is: `is_staged` tells by that who has joined anew.
            endpoint = {"IPAMConfig": {}, **endpoint_body(endpoints[network])}
            address = networks[network].get("IPAddress") if network in networks else None
            self._engine.disconnect(name, network)
            try:
                if not address:
                    raise StepFailed("its address is not known any more")
                asked = {**endpoint["IPAMConfig"], "IPv4Address": address}
                self._engine.connect(name, network, {**endpoint, "IPAMConfig": asked})
            except StepFailed:
                self._engine.connect(name, network, endpoint)


def _networks(container: ListedContainer) -> dict[str, NetworkEndpoint]:
    """The networks that it is on, by name, on which containers can have aliases."""
    networks = container["NetworkSettings"]["Networks"] or {}
    return {name: endpoint for name, endpoint in networks.items() if name not in NO_ALIASES}
