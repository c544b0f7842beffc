"""The files of one app, read for one host.  Pure."""

from __future__ import annotations

import graphlib
import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

from gitops_mvd.config.tables import Place, did_you_mean
from gitops_mvd.config.yamltree import Found, Path, Sink, mistakes, report
from gitops_mvd.core.compose import Logging
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.exposed import INSTEAD, exposed, secrets_by_name
from gitops_mvd.core.model import App, HostFacts, Problem, Service
from gitops_mvd.core.ports import Tree
from gitops_mvd.core.text import plain_line
from gitops_mvd.manifest.app_files import COMPOSE, MAIN, compose_files, main_file, remarks
from gitops_mvd.manifest.asked import YES, Asked, ByAnswers
from gitops_mvd.manifest.budget import MOST_PORTS, NOTHING, Amount, Budgeted, refuse_many
from gitops_mvd.manifest.claims import Claim, Register, of_ports, of_routes, of_whole_service
from gitops_mvd.manifest.compose import read_placement, read_service
from gitops_mvd.manifest.composition import SECTIONS, Composition, Parsed, variables_of
from gitops_mvd.manifest.elsewhere import is_small
from gitops_mvd.manifest.extensions import read_x_mvd_of_app
from gitops_mvd.manifest.interpolate import Variables
from gitops_mvd.manifest.joins import Draft, Drafts, joined
from gitops_mvd.manifest.kong_entities import GATEWAY_APP, read_gateway
from gitops_mvd.manifest.logs import with_default
from gitops_mvd.manifest.names import misnamed
from gitops_mvd.manifest.placement import Placed
from gitops_mvd.manifest.project import APPS, read_project
from gitops_mvd.manifest.service import COMPLETED_CHECK, assemble, published
from gitops_mvd.manifest.shared import Alias, aliases, between_apps, in_app, used_by
from gitops_mvd.manifest.stand_ins import not_a_file, not_a_folder
from gitops_mvd.manifest.swarm import on_swarm
from gitops_mvd.manifest.values import ServiceKeys, replicas, restart, schedule

T = TypeVar("T")

COMPLETES = "service_completed_successfully"
_APP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SERVICE_NAME = re.compile(r"[a-zA-Z0-9._-]+")
LONGEST_NAME = 63  # of an app, and of a service
_MAIN_LIKE = re.compile(r"(docker-)?compose\.ya?ml", re.IGNORECASE)


def is_app_name(name: str) -> bool:
    """Can an app have that name?"""
    return not misnamed(name, _APP_NAME, "", LONGEST_NAME)


@dataclass(frozen=True)
class Reading:
    """An app as its files describe it for one host.

    `found` is every mistake in them and every note; `elsewhere` has the services that do not run on this host, and
    what only they use, as paths of two parts.  `runs` is false if all of it is elsewhere.  `claims` is what its
    services here want for themselves; `constraints` has those of every service.  `routed` says whether the gateway
    leads to any of its services, `routed_here` to one of this host.  `aliases` are names on networks that other
    apps may be on, too.  `cost` is how much was read for it.
    """

    app: App
    found: tuple[Found, ...] = ()
    elsewhere: frozenset[Path] = frozenset()
    runs: bool = True
    claims: tuple[Claim, ...] = ()
    constraints: Mapping[str, Placed] = field(default_factory=dict)
    routed: bool = False
    routed_here: bool = False
    aliases: tuple[Alias, ...] = ()
    cost: Amount = NOTHING

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """The mistakes that matter on this host."""
        return tuple(sorted({it.problem for it in mistakes(self.found) if self.concerns(it)}))

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What is done otherwise than somebody might expect, as far as it matters on this host."""
        return tuple(sorted({it.problem for it in self.found if it.note and self.concerns(it)}))

    def concerns(self, found: Found) -> bool:
        return self.runs and found.path[:2] not in self.elsewhere


def read_app(tree: Tree, name: str, asked: Asked, parsed: Parsed, elsewhere_too: bool = True) -> Reading:
    """One app for one host; `parsed` holds what was parsed of this tree already.

    Without `elsewhere_too`, an app that does not run on this host is not read to its end, nor are its mistakes found.
    What it is follows from the files and from what was `asked` of the host's facts, and from nothing else.
    """
    sink: Sink = []
    budgeted = Budgeted(tree)
    try:
        reading = _read_files(budgeted, name, asked, parsed, sink, elsewhere_too)
        budgeted.count(f"{APPS}/{name}", _made(reading.app))
    except ManifestError as error:  # the Tree's own: there is too much to be read
        for problem in error.problems:
            report(sink, (), problem.file, problem.line, problem.message)
        reading = Reading(App(plain_line(name)), tuple(sink))
    return replace(reading, cost=budgeted.read_so_far)


def read_for_all(tree: Tree, name: str, hosts: Iterable[HostFacts], parsed: Parsed) -> list[Reading]:
    """The app as each host reads it: one and the same reading for hosts that differ in nothing that it asks for."""
    known: ByAnswers[Reading] = ByAnswers()
    readings = []
    for facts in hosts:
        reading = known.find(facts)
        if reading is None:
            asked = Asked(facts)
            reading = read_app(tree, name, asked, parsed)
            known.add(asked.answers, reading)
        readings.append(reading)
    return readings


def _made(app: App) -> Amount:
    """What an app has on this host."""
    values = sum(len(service.environment) + len(service.run.get("ports", ())) for service in app.services)
    return Amount(instances=sum(service.replicas for service in app.services), values=values)


def _read_files(tree: Budgeted, name: str, asked: Asked, parsed: Parsed, sink: Sink, elsewhere_too: bool) -> Reading:
    folder = f"{APPS}/{name}"
    files = compose_files(tree, name)
    if name == GATEWAY_APP and not files:
        gateway, routes = read_gateway(tree, sink)
        return Reading(gateway, tuple(sink), claims=tuple(of_routes(GATEWAY_APP, routes)))
    if name == GATEWAY_APP:
        why = "is the name of the app made from kong/"
    elif why := misnamed(name, _APP_NAME, "a-z, 0-9, `_` and `-`", LONGEST_NAME):
        why = f"is not a valid app name ({why})"
    if why:
        report(sink, (), posixpath.join(folder, *files[:1]), 1, f"the folder '{plain_line(name)}' {why}: rename it")
        return Reading(App(plain_line(name)), tuple(sink))
    if not files:
        file = next((name for name in MAIN if tree.oid(f"{folder}/{name}")), "")
        why = not_a_file(tree, f"{folder}/{file}") if file else not_a_folder(tree, folder)
        report(sink, (), folder, 1, why or f"{folder} is gone")
        return Reading(App(name), tuple(sink))
    main = main_file(files)
    if not main:
        meant = next((file for file in files if _MAIN_LIKE.fullmatch(file)), files[0])
        report(sink, (), f"{folder}/{meant}", 1, f"there is no {COMPOSE} beside it: rename the file to {COMPOSE}")
        return Reading(App(name), tuple(sink))
    for file, why in remarks(tree, name, files):
        report(sink, (), f"{folder}/{file}", 1, why, note=True)
    overrides = sorted(file for file in files if file not in MAIN and asked(("override", file)) == YES)
    for one, other in pairwise(overrides):
        if one.rpartition(".")[0] == other.rpartition(".")[0]:
            report(sink, (), f"{folder}/{other}", 1, f"is an override by the same name as {one}: remove one")
    variables = variables_of(tree, name, folder, asked, sink)
    paths = [f"{folder}/{file}" for file in (main, *overrides)]
    node = Composition(tree, sink, parsed).load(paths, variables)
    if node is None:
        return Reading(App(name), tuple(sink))
    top = Place(node, (), sink)
    return (not elsewhere_too and _elsewhere(tree, name, asked, variables, top)) or _read(
        tree, name, asked, variables, top
    )


def _elsewhere(tree: Budgeted, name: str, asked: Asked, variables: Variables, top: Place) -> Reading | None:
    """The reading of an app if all of its services run elsewhere, and it is small: without their mistakes."""
    top = Place(top.node, (), [])
    sections = {key: at for key, at in top.entries().items() if key in SECTIONS and not at.empty}
    places = (sections["services"].attempt(Place.entries) if "services" in sections else None) or {}
    services = [place.attempt(read_placement) for place in places.values()]
    if not services or any(values is None or _active(values, asked, variables) for values in services):
        return None
    before = tree.read_so_far
    if not is_small(places.values(), tree, variables):
        tree.read_so_far = before
        return None
    read_project(name, tree, variables, sections)  # whose files count, too
    return Reading(App(name), runs=False, routed=any(place.has("x-kong") for place in places.values()))


def _read(tree: Tree, name: str, asked: Asked, variables: Variables, top: Place) -> Reading:
    entries = {key: at for key, at in top.entries().items() if not at.empty}
    if "name" in entries and entries["name"].node.value != name:
        entries["name"].report(f"must be {name}, as the folder is; it may be left out")
    if "services" not in entries:
        top.report("has no `services`")
    sections = {section: entries[section] for section in SECTIONS if section in entries}
    of_app = (entries["x-mvd"].attempt(read_x_mvd_of_app) if "x-mvd" in entries else None) or {}
    project = read_project(name, tree, variables, sections)
    places = (sections["services"].attempt(Place.entries) if "services" in sections else None) or {}
    drafts: dict[str, Draft] = {}
    ports = 0
    for service, place in places.items():
        if why := misnamed(service, _SERVICE_NAME, "letters, digits, `.`, `_` and `-`", LONGEST_NAME):
            place.report(f"is not a valid service name: {why}")
        values = place.attempt(read_service)
        if values is not None:
            drafts[service] = Draft(place, values)
            ports += len(values.get("ports", ()))
            refuse_many(place, ports, MOST_PORTS, "ports")
    here = {service: draft for service, draft in drafts.items() if _active(draft.values, asked, variables)}
    beside = joined(drafts, here, project)
    services = [assemble(place, values, project, beside[service]) for service, (place, values) in drafts.items()]
    if services and asked(("swarm",)) == YES:
        declared = dict(project.volumes.values())
        services = [on_swarm(*drafts[service.name], service, asked, declared) for service in services]
    if default := asked.logging():
        services = [_logged(service, default) for service in services]
    _check_exposed(drafts, services)
    _check_dependencies(drafts, here)
    running = [_without_absent(service, here) for service in services if service.name in here]
    awaited = {name for service in running for name, condition in service.depends_on.items() if condition == COMPLETES}
    running = [
        replace(service, check=COMPLETED_CHECK) if service.name in awaited and not service.is_job else service
        for service in running
    ]
    used = used_by(here, project)
    app = App(
        name,
        tuple(running),
        networks=_by_real_name(project.networks, used.networks),
        volumes=_by_real_name(project.volumes, used.volumes),
        suspend=of_app.get("suspend"),
    )
    claims = [claim for service in app.services for claim in _claims(name, service, here[service.name])]
    claims += in_app(app, here, project, used, sections)
    _check_claims(claims)
    elsewhere = {path for service in drafts.keys() - here.keys() for path in _uses(service, drafts[service].values)}
    elsewhere -= {path for service, draft in here.items() for path in _uses(service, draft.values)}
    runs = bool(here) or not drafts or len(drafts) < len(places)
    routed = {service for service, draft in drafts.items() if draft.place.has("x-kong")}
    reading = Reading(
        app,
        tuple(top.sink),
        frozenset(elsewhere),
        runs,
        (*claims, *between_apps(app, here, project, sections)),
        {service: _constraints(draft.values) for service, draft in drafts.items()},
        routed=bool(routed),
        routed_here=not routed.isdisjoint(here),
        aliases=tuple(aliases(app, here, project, sections)),
    )
    return replace(reading, app=replace(app, notes=reading.notes))


def _constraints(values: ServiceKeys) -> Placed:
    return values.get("deploy", {}).get("placement", {}).get("constraints", [])


def _active(values: ServiceKeys, asked: Asked, variables: Mapping[str, str]) -> bool:
    """Does this host run it: is it placed here, switched on, and more than none?"""
    profiles = set(values.get("profiles", ()))
    chosen = {word.strip() for word in variables.get("COMPOSE_PROFILES", "").split(",")}
    switched_on = not profiles or "*" in chosen or bool(profiles & chosen)
    return switched_on and replicas(values) > 0 and all(it.holds(asked) for _, it in _constraints(values))


def _uses(service: str, values: ServiceKeys) -> set[Path]:
    """Where the file speaks of a service, and of what it uses."""
    paths: set[Path] = {("services", service)}
    paths |= {("configs", it.get("source", "")) for _, it in values.get("configs", ())}
    paths |= {("secrets", it.get("source", "")) for _, it in values.get("secrets", ())}
    paths |= {("volumes", it["source"]) for _, it in values.get("volumes", ())}
    return paths | {("networks", network) for network in values.get("networks", ("default",))}


def _logged(service: Service, default: Logging) -> Service:
    """The service with what its host has for those that name no other logging driver."""
    run = service.run.copy()
    own = run.pop("logging", None)
    if logging := with_default(own, default):
        run["logging"] = logging
    return replace(service, run=run)


def _without_absent(service: Service, here: Drafts) -> Service:
    """A service without the optional dependencies that are not on this host."""
    kept = {name: condition for name, condition in service.depends_on.items() if name in here}
    return replace(service, depends_on=kept)


def _by_real_name(declared: Mapping[str, tuple[str, T]], used: Collection[str]) -> dict[str, T]:
    return {real: options for name, (real, options) in declared.items() if name in used}


def _check_exposed(drafts: Drafts, services: Iterable[Service]) -> None:
    """No secret of the app may be where everybody on the host can read it."""
    found = {service.name: service for service in services}
    secrets = secrets_by_name(found.values())
    for name, service in found.items():
        for key, secret in exposed(service, secrets):
            place = drafts[name].place
            at = place.entries()[key] if place.has(key) else place
            at.report(f"has the value of {secret} in it, {INSTEAD}")


def _check_dependencies(drafts: Drafts, here: Drafts) -> None:
    graph: dict[str, list[str]] = {}
    for service, draft in drafts.items():
        wanted = draft.values.get("depends_on", {})
        graph[service] = [other for other in wanted if other in drafts]
        for other, (at, condition, required) in wanted.items():
            if other not in drafts:
                hint = did_you_mean(other, drafts) or ", and apps do not wait for each other"
                at.report(f"there is no service {other} in this app{hint}")
            elif condition != "service_started" and schedule(drafts[other].values):
                at.report(f"{other} runs on a schedule, which nothing can wait for: remove the condition")
            elif service in here and other not in here and required:
                at.report(
                    f"{other} does not run on this host: place both on one, or set `required: false`", by_host=True
                )
            elif condition == COMPLETES and restart(drafts[other].values).startswith(("always", "unless")):
                at.report(f'{other} never completes, because it is always restarted: give it `restart: "no"`')
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
        drafts[circle[0]].place.report(f"depends on itself: {' → '.join(circle)}")


def _claims(app: str, service: Service, draft: Draft) -> Iterator[Claim]:
    owner, values = f"{app}.{service.name}", draft.values
    yield from of_ports(owner, published(values))
    yield from of_whole_service(app, service, draft.place)
    yield from of_routes(owner, values["x-kong"]["routes"] if "x-kong" in values else ())


def _check_claims(claims: Iterable[Claim]) -> None:
    """No two services of one host may want the same port or route of it."""
    register = Register()
    for claim in claims:
        for _, other in register.rivals([claim]):
            claim.at.report(claim.against(other), by_host=True)
        register.take([claim])
