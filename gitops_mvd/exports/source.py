"""The config repository → the apps as they are exported: read as every host reads them, and put together.  Pure.

An app may have services on several hosts, and each host may read a service otherwise.  A cluster has one of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gitops_mvd.config.tables import did_you_mean
from gitops_mvd.core.compose import Network, Tasks, Volume
from gitops_mvd.core.errors import ManifestError, MvdError
from gitops_mvd.core.model import App, HostFacts, Problem, Service
from gitops_mvd.core.ports import Tree
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.xkong import Declaration
from gitops_mvd.manifest.composition import Parsed
from gitops_mvd.manifest.fleet import FILE, read_fleet
from gitops_mvd.manifest.load import Recording, app_names
from gitops_mvd.manifest.placement import Constraint
from gitops_mvd.manifest.reading import Reading, read_for_all


@dataclass(frozen=True, slots=True)
class Exported:
    """A service to be exported: `hosts` run it just so, and `others` run it as well, but read it otherwise.

    What a Swarm runs has the replicas that it has there in all, `swarm` says what else it has.
    """

    service: Service
    constraints: tuple[Constraint, ...] = ()
    hosts: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    swarm: Tasks | None = None

    @property
    def name(self) -> str:
        return self.service.name


@dataclass(frozen=True, slots=True)
class Source:
    """An app to be exported.  `kong_entities` is what only the folder `kong/` has."""

    name: str
    services: tuple[Exported, ...] = ()
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    networks: Mapping[str, Network] = field(default_factory=dict)
    kong_entities: Mapping[str, Sequence[Declaration]] = field(default_factory=dict, repr=False)
    suspend: Suspension | None = None


def read(tree: Tree, wanted: str = "", host: str = "") -> list[Source]:
    """The apps of the repository, or the one that is `wanted`, as all hosts or one of them have them.

    Raises ManifestError with every mistake that is in the way, and MvdError for an app or host that there is not.
    """
    fleet = read_fleet(tree)
    if host and not fleet.open and host not in fleet.hosts:
        known = ", ".join(sorted(fleet.hosts))
        raise MvdError(f"{FILE} has no host {host}{did_you_mean(host, fleet.hosts)}", f"Hosts: {known or 'none'}")
    hosts = [fleet.host(host)] if host else [*fleet.hosts.values()] or [HostFacts("localhost")]
    names = app_names(tree)
    if not names:
        raise MvdError("there is no app here", "Run this in a config repository, or name it: --from FOLDER")
    if wanted and wanted not in names:
        raise MvdError(
            f"the repository has no app {wanted}{did_you_mean(wanted, names)}", f"Apps: {', '.join(names) or 'none'}"
        )
    recording, parsed = Recording(tree), Parsed()
    sources: list[Source] = []
    problems: set[Problem] = set()
    for name in sorted([wanted] if wanted else names):
        readings = read_for_all(recording, name, hosts, parsed)
        problems.update(problem for reading in readings for problem in reading.problems)
        sources.append(put_together(name, [(facts.name, it) for facts, it in zip(hosts, readings, strict=True)]))
    if problems:
        raise ManifestError(sorted(problems))
    found = [source for source in sources if source.services or source.kong_entities]
    if wanted and not found:
        raise MvdError(
            f"{host or 'no host'} runs {'no' if host else 'a'} service of {wanted}",
            "Constraints and profiles say where it runs",
        )
    return found


def put_together(name: str, readings: Sequence[tuple[str, Reading]]) -> Source:
    """The app with every service that runs somewhere, each as the first host has it that runs it."""
    apps = [reading.app for _, reading in readings]
    services: dict[str, Exported] = {}
    for host, reading in readings:
        for service in reading.app.services:
            known = services.get(service.name)
            if not known:
                constraints = tuple(it for _, it in reading.constraints.get(service.name, ()))
                services[service.name] = Exported(service, constraints, (host,))
            elif service == known.service:
                services[service.name] = Exported(known.service, known.constraints, (*known.hosts, host), known.others)
            else:
                services[service.name] = Exported(known.service, known.constraints, known.hosts, (*known.others, host))
    return Source(
        name,
        tuple(map(of_swarm, services.values())),
        {real: options for app in apps for real, options in app.volumes.items()},
        {real: options for app in apps for real, options in app.networks.items()},
        _entities(apps),
        next((app.suspend for app in apps if app.suspend), None),
    )


def of_swarm(one: Exported) -> Exported:
    """The service as it is exported, if it is for a Swarm."""
    if not (tasks := one.service.swarm):
        return one
    return replace(one, service=replace(one.service, replicas=tasks["replicas"], swarm=None), swarm=tasks)


def _entities(apps: Sequence[App]) -> Mapping[str, Sequence[Declaration]]:
    return next((app.kong_entities for app in apps if app.kong_entities), {})
