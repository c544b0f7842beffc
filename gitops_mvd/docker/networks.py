"""The networks and volumes of an engine: listed, created and removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from typing import Any

from docker import APIClient
from docker.errors import APIError, NotFound

from gitops_mvd.core import compose
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App
from gitops_mvd.docker.answers import APP, chosen, network, strings
from gitops_mvd.docker.connection import Connection
from gitops_mvd.docker.shape import checked, each_checked
from gitops_mvd.docker.types import ListedNetwork, ListedVolume

ACTIVE_ENDPOINTS = "has active endpoints"  # the engine's words
Existing = tuple[str, str]  # the kind, `network` or `volume`, and the name


class NetworkApi(Connection):
    """`/networks` and `/volumes`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._known_makers: dict[str, tuple[object, Mapping[str, Set[str]]]] = {}

    def networks(self) -> Sequence[ListedNetwork]:
        """All networks of the engine, as `GET /networks` has them."""
        return self.cached("network", lambda api: each_checked(api.networks(), ListedNetwork))

    def network(self, name: str) -> ListedNetwork | None:
        """A network with the containers that run on it; None if there is none of that name."""
        with self.asking(f"inspect network {name}") as api, suppress(NotFound):
            return checked(api.inspect_network(name), ListedNetwork)
        return None

    def volumes(self) -> Sequence[ListedVolume]:
        """All volumes of the engine, as `GET /volumes` has them."""
        return self.cached("volume", lambda api: each_checked(api.volumes()["Volumes"], ListedVolume))

    def create_network(self, name: str, options: compose.Network, labels: Mapping[str, str]) -> None:
        """Make a network by the options that Compose has for it.

        Where these name no subnet, the engine chooses one, and the network is made again by that: only where the subnet
        was given, containers may be given an address, and so keep theirs when they join anew.
        """
        how = {**network(options), "labels": {**strings(options.get("labels")), **labels}}
        how["check_duplicate"] = True  # engines before 25 make a second network of that name
        with self.asking(f"create network {name}") as api:
            made = api.create_network(name, **how)
            if subnets := chosen(options, checked(api.inspect_network(made["Id"]), ListedNetwork)):
                api.remove_network(made["Id"])
                try:
                    api.create_network(name, **{**how, "ipam": {"Driver": "default", "Config": subnets}})
                except APIError:  # another network was quicker to take it
                    api.create_network(name, **how)
        self.forget("network")

    def remove_network(self, network: str) -> None:
        """Remove a network, by its id if there may be several of its name."""
        with self.asking(f"remove network {network}") as api, suppress(NotFound):
            try:
                api.remove_network(network)
            except APIError as error:
                if ACTIVE_ENDPOINTS not in str(error.explanation):
                    raise
                _drop_stale_endpoints(api, network)
                api.remove_network(network)
        self.forget("network")

    def create_volume(self, name: str, options: compose.Volume, labels: Mapping[str, str]) -> None:
        """Make a volume by the options that Compose has for it."""
        with self.asking(f"create volume {name}") as api:
            api.create_volume(
                name,
                driver=options.get("driver"),
                driver_opts=strings(options.get("driver_opts")),
                labels={**strings(options.get("labels")), **labels},
            )
        self.forget("volume")

    def remove_volume(self, name: str) -> None:
        """Remove a volume, and the data in it."""
        with self.asking(f"remove volume {name}") as api, suppress(NotFound):
            api.remove_volume(name)
        self.forget("volume")

    def remove_unused_volume(self, name: str) -> None:
        """Remove a volume, and the data in it, unless a container has it."""
        with suppress(StepFailed):
            self.remove_volume(name)

    def existing(self, app: App) -> Mapping[Existing, Set[str]]:
        """The networks and volumes of `app` that are here under their names, with the apps they were made for.

        "" is among these for one that gitops-mvd did not make; a network may be there several times.
        """
        wanted = {"network": _own(app.all_networks), "volume": _own(app.volumes)}
        makers = {kind: self._makers(kind) for kind, names in wanted.items() if names}
        return {
            (kind, name): makers[kind][name] for kind, names in wanted.items() for name in names if name in makers[kind]
        }

    def _makers(self, kind: str) -> Mapping[str, Set[str]]:
        """The apps for which each network or volume was made, computed once for a listing."""
        listing: Sequence[ListedNetwork | ListedVolume] = self.volumes() if kind == "volume" else self.networks()
        known = self._known_makers.get(kind)
        if not known or known[0] is not listing:
            makers: defaultdict[str, set[str]] = defaultdict(set)
            for it in listing:
                makers[it["Name"]].add((it["Labels"] or {}).get(APP, ""))
            known = self._known_makers[kind] = listing, makers
        return known[1]

    def require_externals(self, app: App) -> None:
        """Raise StepFailed for the first `external: true` network or volume of `app` that nobody has made."""
        for kind, wanted, existing in (
            ("network", app.networks, self.networks),
            ("volume", app.volumes, self.volumes),
        ):
            external = {name for name, options in wanted.items() if options.get("external")}
            if missing := sorted(external - {found["Name"] for found in existing()} if external else ()):
                hint = f"docker {kind} create {missing[0]}"
                raise StepFailed(f"external {kind} {missing[0]} does not exist", hint)


def _drop_stale_endpoints(api: APIClient, network: str) -> None:
    """Take containers off a network that are gone: an engine whose containerd was killed may go on to count them."""
    there = {container["Id"] for container in api.containers(all=True)}
    for id, endpoint in (api.inspect_network(network)["Containers"] or {}).items():
        if id not in there:
            api.disconnect_container_from_network(endpoint["Name"], network, force=True)


def _own(declared: Mapping[str, compose.Network] | Mapping[str, compose.Volume]) -> list[str]:
    """The names of those that are not `external`."""
    return [name for name, options in declared.items() if not options.get("external")]
