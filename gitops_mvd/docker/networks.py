"""The networks and volumes of an engine: listed, created and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress

from docker.errors import APIError, NotFound

from gitops_mvd.core import compose
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App
from gitops_mvd.docker.answers import APP, chosen, network, strings
from gitops_mvd.docker.connection import Connection
from gitops_mvd.docker.shape import checked, each_checked
from gitops_mvd.docker.types import ListedNetwork, ListedVolume

Existing = tuple[str, str]  # the kind, `network` or `volume`, and the name


class NetworkApi(Connection):
    """`/networks` and `/volumes`."""

    def networks(self) -> Sequence[ListedNetwork]:
        """All networks of the engine, as `GET /networks` has them."""
        return self.cached("network", lambda api: each_checked(api.networks(), ListedNetwork))

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

    def remove_network(self, id: str, name: str) -> None:
        with self.asking(f"remove network {name}") as api, suppress(NotFound):
            api.remove_network(id)
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

    def existing(self, app: App) -> Set[Existing]:
        """The networks and volumes of `app` that are here under their names."""
        networks = {it["Name"] for it in self.networks()} & set(_own(app.all_networks))
        volumes = {it["Name"] for it in self.volumes()} & set(_own(app.volumes))
        return {("network", name) for name in networks} | {("volume", name) for name in volumes}

    def made_elsewhere(self, app: App) -> Mapping[Existing, str]:
        """The networks and volumes of `app` that are here under their names and were made by others, with these.

        That is another app or, if gitops-mvd has not made them, "".  A network of another app is not among them, as it
        goes with that app, nor a name that exists twice, if one of the two is the app's own.
        """
        found: dict[Existing, str] = {}
        for name in _own(app.all_networks):
            owners = {_owner(it) for it in self.networks() if it["Name"] == name}
            if "" in owners and app.name not in owners:
                found["network", name] = ""
        for name in _own(app.volumes):
            owners = {_owner(it) for it in self.volumes() if it["Name"] == name}
            if owners and app.name not in owners:
                found["volume", name] = max(owners)
        return found

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


def _own(declared: Mapping[str, compose.Network] | Mapping[str, compose.Volume]) -> list[str]:
    """The names of those that are not `external`."""
    return [name for name, options in declared.items() if not options.get("external")]


def _owner(found: ListedNetwork | ListedVolume) -> str:
    """The app for which gitops-mvd made it, "" if it did not."""
    return (found["Labels"] or {}).get(APP, "")
