"""What the services of one app are to each other: links, shared namespaces, and names on their networks.  Pure.

What follows from them for another service is kept as `Beside`, so that each service can then be made by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gitops_mvd.config.tables import Place, did_you_mean
from gitops_mvd.core.joins import OF_SERVICE, shared
from gitops_mvd.core.model import default_network
from gitops_mvd.manifest.project import Project
from gitops_mvd.manifest.values import AttachmentKeys, ServiceKeys, replicas, schedule

_STARTED = "service_started"


class Draft(NamedTuple):
    """A service whose keys have been read, each for itself."""

    place: Place
    values: ServiceKeys


Drafts = Mapping[str, Draft]


@dataclass(frozen=True)
class Beside:
    """What other services make of a service.

    `names` are what links to it call it, by the network's name in the file.  `joined_by` is one that shares a namespace
    of it, "" if none does.
    """

    names: Mapping[str, Collection[str]] = field(default_factory=dict)
    joined_by: str = ""


def networks_of(place: Place, values: ServiceKeys, project: Project) -> dict[str, tuple[Place, AttachmentKeys]]:
    """The networks that a service joins, by their names in the file.

    It is on the network `default` if it names none.  That is left out if nobody declares it and no other service can be
    on it: then it follows by itself (`Service.endpoints`).
    """
    if "network_mode" in values:
        return {}
    if joined := values.get("networks"):
        return dict(joined)
    is_plain = project.networks["default"] == (default_network(project.app), {})
    has_names = "container_name" in values
    if is_plain and not has_names and ("networks" in place.entries() or not project.default_network):
        return {}
    return {"default": (place, {})}


def joined(drafts: Drafts, here: Drafts, project: Project) -> Mapping[str, Beside]:
    """What follows for each service from the others.  Mistakes are reported; dependencies are added to the drafts."""
    names = _links(drafts, project)
    joined_by: dict[str, str] = {}
    for service, draft in drafts.items():
        for key, other in shared(draft.values):
            at = draft.place.entries()[key]
            if why := _cannot_join(service, key, other, drafts):
                at.report(why)
            elif service in here and other not in here:
                at.report(f"{other} does not run on this host: place both on one", by_host=True)
            else:
                joined_by.setdefault(other, service)
                _depend(draft.values, other, at)
    _check_container_names(here)
    return {service: Beside(names[service], joined_by.get(service, "")) for service in drafts}


def _cannot_join(service: str, key: str, other: str, drafts: Drafts) -> str:
    """Why a service cannot share a namespace of another one; "" if it can."""
    if other == service:
        return "is the service itself: remove it"
    if other not in drafts:
        return f"there is no service {other} in this app{did_you_mean(other, drafts)}"
    values = drafts[other].values
    theirs = str(values.get(key, ""))
    if theirs.startswith((OF_SERVICE, "container:")):
        return f"{other} shares that of {theirs.partition(':')[2]} itself: join that one"
    if schedule(values):
        return f"{other} runs on a schedule, and is not there between two runs"
    if replicas(values) > 1:
        return f"{other} has several instances, and only one can be joined: give it one replica"
    if key == "ipc" and theirs not in ("shareable", "host"):
        return f"the IPC namespace of {other} is private: write `ipc: shareable` there"
    return ""


def _depend(values: ServiceKeys, other: str, at: Place) -> None:
    """Let a service start after another one."""
    known = values.get("depends_on", {})
    values["depends_on"] = {other: (at, _STARTED, True), **known}


class _Owners:
    """Whose a name is on a network.  Of several services two are kept: one of them is not the one that is asked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], list[str]] = {}

    def add(self, network: str, name: str, service: str) -> None:
        known = self._known.setdefault((network, name), [])
        if len(known) < 2 and service not in known:
            known.append(service)

    def rival(self, networks: Iterable[str], name: str, service: str) -> str:
        """Another service that has that name on one of these networks; "" if none has."""
        owners = (owner for network in networks for owner in self._known.get((network, name), ()))
        return next((owner for owner in owners if owner != service), "")


def _links(drafts: Drafts, project: Project) -> Mapping[str, Mapping[str, Collection[str]]]:
    """Service -> network -> the names that links give to the service there."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    joins = {name: networks_of(draft.place, draft.values, project) for name, draft in drafts.items()}
    owners = _Owners()
    for service, networks in joins.items():
        for network, (_, options) in networks.items():
            for name in (service, *options.get("aliases", ()), drafts[service].values.get("container_name", "")):
                owners.add(network, name, service)
    for service, draft in drafts.items():
        if draft.values.get("network_mode", "bridge") != "bridge":  # which cannot be used with links
            continue
        for at, (other, alias) in draft.values.get("links", ()):
            if other not in drafts:
                at.report(f"there is no service {other} in this app{did_you_mean(other, drafts)}")
                continue
            both = [network for network in joins[service] if network in joins[other]]
            if not both:
                at.report(f"{service} and {other} are on no network together: give them one, or remove the link")
                continue
            if rival := owners.rival(both, alias, other):
                at.report(f"{alias} is a name of {rival} on a network that they share: choose another")
                continue
            for network in both if alias != other else ():
                found[other][network].append(alias)
                owners.add(network, alias, other)
            _depend(draft.values, other, at)
    return found


def _check_container_names(here: Drafts) -> None:
    """No two services of one host may have the same `container_name`, as with Compose."""
    taken: dict[str, str] = {}
    for service, draft in here.items():
        if name := draft.values.get("container_name"):
            if name in taken:
                at = draft.place.entries()["container_name"]
                at.report(f"is the name of {taken[name]} too: choose another", by_host=True)
            taken.setdefault(name, service)
