"""The networks and volumes of an engine: listed, created and removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from docker.errors import APIError, NotFound

from gitops_mvd.core import compose
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App
from gitops_mvd.docker.answers import APP, chosen, network, strings
from gitops_mvd.docker.connection import Connection
from gitops_mvd.docker.shape import checked, each_checked
from gitops_mvd.docker.types import ListedNetwork, ListedVolume


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

    def remove_network(self, name: str) -> None:
        with self.asking(f"remove network {name}") as api, suppress(NotFound):
            api.remove_network(name)
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

    def unlabelled(self, app: App) -> frozenset[str]:
        """The networks and volumes of `app` that are here under their names, and that gitops-mvd has not made."""
        found: set[str] = set()
        for wanted, existing in ((app.networks, self.networks), (app.volumes, self.volumes)):
            own = {name for name, options in wanted.items() if not options.get("external")}
            found |= {
                it["Name"]
                for it in (existing() if own else ())
                if it["Name"] in own and APP not in (it["Labels"] or {})
            }
        return frozenset(found)

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
