"""What the apps of a host share, by its name on the host: networks, volumes, subnets, addresses and aliases.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gitops_mvd.config.tables import Place
from gitops_mvd.core.model import App
from gitops_mvd.manifest.claims import Claim, of_address, of_container_name, of_name, of_subnets
from gitops_mvd.manifest.joins import Drafts, networks_of
from gitops_mvd.manifest.project import Project

ADDRESSES = ("ipv4_address", "ipv6_address")


class Alias(NamedTuple):
    """A name of a service on a network that other apps may be on, too; `owner` is `<app>.<service>`."""

    network: str
    name: str
    owner: str
    at: Place


def in_app(app: App, here: Drafts, project: Project, sections: Mapping[str, Place]) -> Iterator[Claim]:
    """The subnets and fixed addresses of an app, which no two of its own networks and services can share, either."""
    for real, at in _declared(project.networks, sections.get("networks")):
        if real in app.networks:
            yield from of_subnets(app.name, real, app.networks[real], at)
    for service, draft in here.items():
        for name, (at, options) in draft.values.get("networks", {}).items():
            real = project.networks[name][0] if name in project.networks else name
            for key in ADDRESSES:
                if key in options:
                    yield of_address(f"{app.name}.{service}", real, str(options.get(key)), at.entries()[key])


def between_apps(app: App, here: Drafts, project: Project, sections: Mapping[str, Place]) -> Iterator[Claim]:
    """The names on the host that an app wants for itself."""
    for real, at in _declared(project.networks, sections.get("networks")):
        if real in app.networks and at.has("name") and not app.networks[real].get("external"):
            yield of_name(app.name, "network", real, at)
    for real, at in _declared(project.volumes, sections.get("volumes")):
        if real in app.volumes and not app.volumes[real].get("external"):
            yield of_name(app.name, "volume", real, at)
    for service, draft in here.items():
        if name := draft.values.get("container_name"):
            at = draft.place.entries()["container_name"]
            for network in networks_of(draft.place, draft.values, project):
                if (real := _if_shared(network, project, sections)) != "":
                    yield of_container_name(f"{app.name}.{service}", real, name, at)


def aliases(app: App, here: Drafts, project: Project, sections: Mapping[str, Place]) -> Iterator[Alias]:
    """The names of its services on networks that several apps may be on."""
    services = {service.name: service for service in app.services}
    for service, draft in here.items():
        for network, (at, _) in networks_of(draft.place, draft.values, project).items():
            if (real := _if_shared(network, project, sections)) != "":
                for name in services[service].run.get("networks", {}).get(real, {}).get("aliases", ()):
                    yield Alias(real, name, f"{app.name}.{service}", at)


def _declared(known: Mapping[str, tuple[str, object]], section: Place | None) -> Iterator[tuple[str, Place]]:
    """The networks, or volumes, that a file declares, by their real names."""
    entries = section.attempt(Place.entries) if section else None
    for name, at in (entries or {}).items():
        if name in known:
            yield known[name][0], at


def _if_shared(name: str, project: Project, sections: Mapping[str, Place]) -> str:
    """The real name of a network if other apps may be on it: if it exists already, or the file names it; else ""."""
    if name not in project.networks:
        return ""
    real, options = project.networks[name]
    entries = sections["networks"].attempt(Place.entries) if "networks" in sections else None
    has_name = bool(entries) and name in (entries or {}) and (entries or {})[name].has("name")
    return real if options.get("external") or has_name else ""
