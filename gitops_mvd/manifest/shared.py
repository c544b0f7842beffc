"""What the apps of a host share, by its name on the host: networks, volumes, subnets, addresses and aliases.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, TypeVar

from gitops_mvd.config.tables import Place
from gitops_mvd.core.compose import Network, Volume
from gitops_mvd.core.model import App
from gitops_mvd.manifest.claims import Claim, of_address, of_container_name, of_entry, of_name, of_subnets
from gitops_mvd.manifest.joins import Drafts, networks_of
from gitops_mvd.manifest.project import Project

Options = TypeVar("Options", Network, Volume)

ADDRESSES = ("ipv4_address", "ipv6_address")


class Used(NamedTuple):
    """The networks and volumes that the services of a host use, by their names in the file."""

    networks: frozenset[str]
    volumes: frozenset[str]


def used_by(here: Drafts, project: Project) -> Used:
    drafts = here.values()
    return Used(
        frozenset(name for draft in drafts for name in networks_of(draft.place, draft.values, project)),
        frozenset(
            it["source"] for draft in drafts for _, it in draft.values.get("volumes", ()) if it["type"] == "volume"
        ),
    )


class Alias(NamedTuple):
    """A name of a service on a network that other apps may be on, too; `owner` is `<app>.<service>`."""

    network: str
    name: str
    owner: str
    at: Place


def in_app(app: App, here: Drafts, project: Project, used: Used, sections: Mapping[str, Place]) -> Iterator[Claim]:
    """What no two of an app's own networks, volumes and services can share: real names, subnets, fixed addresses."""
    yield from _entries(app.name, "network", project.networks, used.networks, sections.get("networks"))
    yield from _entries(app.name, "volume", project.volumes, used.volumes, sections.get("volumes"))
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
    reals = _shared_names(project, sections)
    networks = dict(_declared(project.networks, sections.get("networks")))
    for real, network in app.all_networks.items():
        if not network.get("external"):
            at = networks.get(real) or next(iter(here.values())).place
            yield of_name(app.name, "network", real, at, derived=real not in networks or not at.has("name"))
    for real, at in _declared(project.volumes, sections.get("volumes")):
        if real in app.volumes and not app.volumes[real].get("external"):
            yield of_name(app.name, "volume", real, at, derived=not at.has("name"))
    for service, draft in here.items():
        if name := draft.values.get("container_name"):
            at = draft.place.entries()["container_name"]
            for joined in networks_of(draft.place, draft.values, project):
                if joined in reals:
                    yield of_container_name(f"{app.name}.{service}", reals[joined], name, at)


def aliases(app: App, here: Drafts, project: Project, sections: Mapping[str, Place]) -> Iterator[Alias]:
    """The names of its services on networks that several apps may be on."""
    services = {service.name: service for service in app.services}
    reals = _shared_names(project, sections)
    for service, draft in here.items():
        for network, (at, _) in networks_of(draft.place, draft.values, project).items():
            if network in reals:
                real = reals[network]
                for name in services[service].run.get("networks", {}).get(real, {}).get("aliases", ()):
                    yield Alias(real, name, f"{app.name}.{service}", at)


def _declared(known: Mapping[str, tuple[str, object]], section: Place | None) -> Iterator[tuple[str, Place]]:
    """The networks, or volumes, that a file declares, by their real names."""
    entries = section.attempt(Place.entries) if section else None
    for name, at in (entries or {}).items():
        if name in known:
            yield known[name][0], at


def _entries(
    app: str,
    kind: str,
    known: Mapping[str, tuple[str, Options]],
    used: Collection[str],
    section: Place | None,
) -> Iterator[Claim]:
    """The entries that are used, of names on the host that the app makes; what exists already may be named twice."""
    made = {known[name][0] for name in used if name in known and not known[name][1].get("external")}
    entries = section.attempt(Place.entries) if section else None
    for name, at in (entries or {}).items():
        if name in used and name in known and known[name][0] in made:
            yield of_entry(app, kind, name, known[name][0], at)


def _shared_names(project: Project, sections: Mapping[str, Place]) -> dict[str, str]:
    """By their names in the file, the real names of the networks that other apps may be on.

    Those are the networks that exist already, and those whose real name the file has.
    """
    entries = sections["networks"].attempt(Place.entries) if "networks" in sections else None
    named = {name for name, at in (entries or {}).items() if at.has("name")}
    return {name: real for name, (real, it) in project.networks.items() if name in named or it.get("external")}
