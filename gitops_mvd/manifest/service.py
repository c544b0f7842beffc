"""One service of a Compose file → the model's Service: what its keys mean together.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from gitops_mvd.config.tables import Place
from gitops_mvd.config.yamltree import Sink, report
from gitops_mvd.core.claims import is_fixed
from gitops_mvd.core.compose import Endpoint, Port, Run
from gitops_mvd.core.model import Check, Service, Update
from gitops_mvd.core.secrets import BEGINS, mistake, names_in
from gitops_mvd.core.xkong import XKong
from gitops_mvd.manifest.canary import report_hindrances
from gitops_mvd.manifest.compose import RESERVED, RUN
from gitops_mvd.manifest.composition import inside, read_content
from gitops_mvd.manifest.dotenv import check_variable, line_of, parse_env
from gitops_mvd.manifest.health import asks_for_port, probe_and_spec, report_blindness
from gitops_mvd.manifest.interpolate import Variables
from gitops_mvd.manifest.joins import Beside, networks_of
from gitops_mvd.manifest.limits import check_limits
from gitops_mvd.manifest.mounts import read_mounts
from gitops_mvd.manifest.network import check_address
from gitops_mvd.manifest.project import Project
from gitops_mvd.manifest.references import refuse_references, secrets_in
from gitops_mvd.manifest.sealed import is_sealed, sealed_environment
from gitops_mvd.manifest.update_order import FIXED, default_order, is_anonymous
from gitops_mvd.manifest.values import DeployKeys, EnvFileKeys, ServiceKeys, replicas, restart, schedule

_OF_A_NETWORK = ("ports", "expose", "hostname", "dns", "extra_hosts", "mac_address")
_NO_LABEL = "has the variable {0}, which is no label above it: a label file knows no other variables"
SCHEDULED_CHECK = Check("scheduled")
COMPLETED_CHECK = Check("completed", within=600.0)  # what a job gets: Compose has no limit, but a deploy must end

_RESOURCES = {
    "cpus": "limits.cpus",
    "mem_limit": "limits.memory",
    "pids_limit": "limits.pids",
    "mem_reservation": "reservations.memory",
}
"""Plain keys, and the key of `deploy.resources` that means the same."""


def assemble(place: Place, values: ServiceKeys, project: Project, beside: Beside) -> Service:
    """The service in normal form, from the values of its keys; mistakes are reported at the key."""
    entries = place.entries()
    deploy: DeployKeys = values.get("deploy", {})
    run = cast(Run, {name: value for name, value in values.items() if name in RUN})
    run.update(_resources(entries, values, deploy))
    check_limits(entries, run)
    sealed: dict[str, str] = {}
    files = read_mounts(entries, values, project, run, sealed)
    environment = _environment(values, project, sealed)
    refuse_references(entries)
    _networks(place, values, project, beside, run)
    if labels := _labels(values, project):
        run["labels"] = labels
    if ports := [port for _, port in published(values)]:
        run["ports"] = ports
    kong = _kong(entries, values)
    _check_image(place)
    service = Service(
        name=str(place.path[-1]),
        image=values.get("image", ""),
        run=run,
        environment=environment,
        files=tuple(files),
        check=_check(entries, values, kong),
        kong=kong,
        schedule=_schedule(entries, values),
        replicas=replicas(values) or 1,
        depends_on={name: condition for name, (_, condition, _) in values.get("depends_on", {}).items()},
        pull_policy=values.get("pull_policy", "missing"),
        secrets=dict.fromkeys(sorted(secrets_in(environment, files)), ""),
        sealed=sealed,
    )
    order, _ = default_order(service, beside.joined_by)
    canary = values.get("x-mvd", {}).get("canary")
    service = replace(service, update=_update(entries, values, order, beside), canary=canary)
    if canary:
        report_hindrances(entries["x-mvd"].entries()["canary"], service, beside.joined_by)
        for key in {"parallelism", "delay"} & values.get("deploy", {}).get("update_config", {}).keys():
            at = entries["deploy"].entries()["update_config"].entries()[key]
            at.note("has no effect with x-mvd.canary: all new instances are made beside the old ones")
    if service.update.order == "start-first":
        for at, mount in values.get("volumes", ()):
            if is_anonymous(mount):
                why = "which no volume is mounted at: a new version begins without it, because it starts first"
                at.note(f"{service.name} keeps data in {mount['target']}, {why}")
    return service


def _check_image(place: Place) -> None:
    """An image must be named; what it is built from is not looked at.  An override may have either."""
    if place.has("build"):
        at = place.entries()["build"]
        if place.has("image"):
            at.note("is not used: build time is separate from deploy time, and `image` is what runs")
        else:
            at.report("build time is separate from deploy time: build in CI and name the `image`", by_host=True)
    elif not place.has("image") and not place.has("extends"):
        place.report("has no `image`", by_host=True)


def published(values: ServiceKeys) -> Sequence[tuple[Place, Port]]:
    """The ports that are published: on the network of the host there is nothing to publish."""
    return () if values.get("network_mode") == "host" else values.get("ports", ())


def _resources(entries: Mapping[str, Place], values: ServiceKeys, deploy: DeployKeys) -> Run:
    """The plain keys that mean the same as keys of `deploy`."""
    run: Run = {}
    resources = deploy.get("resources", {})
    limits, reservations = resources.get("limits", {}), resources.get("reservations", {})
    if "cpus" in limits:
        run["cpus"] = limits["cpus"]
    if "memory" in limits:
        run["mem_limit"] = limits["memory"]
    if "pids" in limits:
        run["pids_limit"] = limits["pids"]
    if "memory" in reservations:
        run["mem_reservation"] = reservations["memory"]
    for key, same in _RESOURCES.items():
        if key in run and values.get(key, run.get(key)) != run.get(key):
            entries[key].report(f"differs from deploy.resources.{same}: choose one")
    if devices := values.get("gpus", []) + reservations.get("devices", []):
        run["gpus"] = devices
    if "restart_policy" in deploy:
        run["restart"] = deploy["restart_policy"]
        if values.get("restart", run["restart"]) != run["restart"]:
            entries["restart"].note(f"is not used: deploy.restart_policy outranks it, which is {run['restart']} here")
    if "scale" in values and deploy.get("replicas", values["scale"]) != values["scale"]:
        entries["scale"].report("differs from deploy.replicas: choose one")
    return run


def _networks(place: Place, values: ServiceKeys, project: Project, beside: Beside, run: Run) -> None:
    if "network_mode" in values:
        _check_mode(place.entries(), values, values["network_mode"])
    if "container_name" in values:
        _note_container_name(place.entries(), values, project)
    real: dict[str, Endpoint] = {}
    for name, (at, options) in networks_of(place, values, project).items():
        if name not in project.networks:
            at.report(f"the network {name} is not declared: add it to `networks:` at the top level")
            continue
        for key in ("ipv4_address", "ipv6_address"):
            if key in options:
                check_address(at.entries()[key], project.networks[name][1])
        endpoint = options.copy()
        own = [str(place.path[-1])] if endpoint.pop("use_service_name_alias", True) else []
        more = [name for name in [values.get("container_name")] if name]
        aliases = [*own, *options.get("aliases", ()), *more, *beside.names.get(name, ())]
        real[project.networks[name][0]] = {**cast(Endpoint, endpoint), "aliases": list(dict.fromkeys(aliases))}
    if real:
        run["networks"] = real


def _check_mode(entries: Mapping[str, Place], values: ServiceKeys, mode: str) -> None:
    """Report the keys that go with a network of its own, which a service with that `network_mode` does not have."""
    if values.get("networks"):
        entries["network_mode"].report("cannot be used together with `networks`: choose one")
    kind, _, other = mode.partition(":")
    advice = (
        f"put it on {other}, whose network it shares" if kind == "service" else "the network is not its own: remove it"
    )
    for key in _OF_A_NETWORK if other else ():
        if values.get(key):
            entries[key].report(f"cannot be used with network_mode {mode}: {advice}")
    if mode == "host" and values.get("ports"):
        entries["ports"].note("has no effect with network_mode host: the ports of the container are those of the host")
    if mode == "none" and values.get("ports"):
        entries["ports"].report("cannot be published with network_mode none: the container has no network")
    if mode != "bridge" and values.get("links"):
        entries["links"].report(f"cannot be used with network_mode {mode}, with which nobody has a name: remove it")


def _note_container_name(entries: Mapping[str, Place], values: ServiceKeys, project: Project) -> None:
    at, name = entries["container_name"], values["container_name"]
    if replicas(values) > 1:
        at.report("is one name for several instances: remove it, or use one replica")
    itself = f"the container itself is named mvd-{project.app}-{at.path[-2]}-..., as each version has its own"
    if mode := values.get("network_mode"):
        at.note(f"has no effect with network_mode {mode}, with which nobody has a name; {itself}")
    else:
        at.note(f"{name} is a name on its networks; {itself}")


def _pairs_of_files(
    files: Iterable[tuple[Place, EnvFileKeys]], project: Project, variables: Variables, sealed: dict[str, str]
) -> dict[str, str]:
    """The variables of env files, a later file over an earlier one; their values may use `variables`.

    Those of an encrypted file, which goes into `sealed`, are references to what is in it.
    """
    found: dict[str, str] = {}
    known: set[str] = set()  # the names of what is in encrypted files
    for at, options in files:
        path = at.attempt(inside, options["path"]) if "path" in options else None
        if path is None or not (options.get("required", True) or project.tree.oid(path)):
            continue
        data = at.attempt(read_content, project.tree, path)
        if data is None:
            continue
        raw = options.get("format") == "raw"
        if is_sealed(data):
            sealed[path] = data.decode("utf-8", "surrogateescape")
            references = at.attempt(sealed_environment, path, sealed[path], raw) or {}
            known.update(name for value in references.values() for name in names_in(value))
            found |= references
            continue
        told: Sink = []
        pairs = parse_env(path, data, variables.over(found), told, raw)
        for name, value in pairs.items():
            if why := mistake(value, known):
                report(told, (), path, line_of(name, data), f"{name} {why}")
        found |= pairs
        at.sink.extend(it._replace(path=at.path) for it in told)
    return found


def _labels(values: ServiceKeys, project: Project) -> dict[str, str]:
    """Those of files, and over them those of the service itself."""
    found: dict[str, str] = {}
    for at, options in values.get("label_file", ()):
        known = Variables(found, project.variables.unset_is_empty, _NO_LABEL, project.variables.tally)
        more = _pairs_of_files([(at, options)], project, known, {})
        if any(BEGINS in value for value in more.values()):
            at.report("has secrets, and labels can be read by everybody on the host")
        if any(name.startswith(RESERVED) for name in more):
            at.report(f"labels that begin with {RESERVED} are reserved for gitops-mvd")
        found |= more
    return {**found, **values.get("labels", {})}


def _environment(values: ServiceKeys, project: Project, sealed: dict[str, str]) -> dict[str, str]:
    """Those of files, and over them those of the service itself; a name alone is passed on if it is set.

    A name alone that is not set is left out, even if a file has it: so it is with Compose.
    """
    own: dict[str, str] = {}
    left_out: set[str] = set()
    for at, name, value in values.get("environment", ()):
        text = project.variables.get(name) if value is None else value
        if text is None:
            left_out.add(name)
            continue
        left_out.discard(name)
        try:
            check_variable(name, text)
        except ValueError as error:
            at.report(str(error))
        if why := mistake(text) or (BEGINS in name and "has a name that refers to a secret"):
            at.report(why)
        own[name] = text
    known = project.variables.over(own)
    environment = {**_pairs_of_files(values.get("env_file", ()), project, known, sealed), **own}
    return {name: value for name, value in environment.items() if name not in left_out}


def _only_port(values: ServiceKeys) -> int | None:
    """The port in the container, if there is no doubt which."""
    targets = {port["target"] for _, port in values.get("ports", ())}
    targets = targets or {int(port.partition("/")[0]) for port in values.get("expose", ()) if "-" not in port}
    return next(iter(targets)) if len(targets) == 1 else None


def _kong(entries: Mapping[str, Place], values: ServiceKeys) -> XKong | None:
    kong = values.get("x-kong")
    if kong is None:
        return None
    place = entries["x-kong"]
    port = kong["port"] or _only_port(values)
    if port is None and not place.has("port"):
        place.report("has no `port`, and `ports` or `expose` do not have exactly one")
    if (mode := values.get("network_mode", "bridge")).startswith("service:"):
        place.report(
            f"cannot lead to a service with network_mode {mode}: put it on {mode[8:]}, whose network it shares"
        )
    elif mode != "bridge":
        place.report(
            f"cannot lead to a container with network_mode {mode}, which has no ports of its own: "
            "remove that, or write the service with its host and port into kong/*.yaml"
        )
    return {
        "port": port or 0,
        "protocol": kong["protocol"],
        "routes": [route for _, route in kong["routes"]],
        "plugins": kong["plugins"],
        "service": kong["service"],
        "upstream": kong["upstream"],
    }


def _schedule(entries: Mapping[str, Place], values: ServiceKeys) -> str:
    """When the service runs; keys that cannot be used together with `schedule` are reported."""
    when = schedule(values)
    for at, why in _against_a_schedule(entries, values) if when else ():
        at.report(f"cannot be used together with `schedule`: {why}; remove it")
    return when


def _against_a_schedule(entries: Mapping[str, Place], values: ServiceKeys) -> Iterator[tuple[Place, str]]:
    deploy = entries["deploy"].entries() if "deploy" in values else {}
    if restart(values) not in ("", "no"):
        yield (
            deploy.get("restart_policy") or entries["restart"],
            "a failed run is not repeated before the next time",
        )
    if replicas(values) > 1:
        yield deploy.get("replicas") or entries["scale"], "a timer starts one instance"
    if "x-kong" in values:
        yield entries["x-kong"], "nothing answers between two runs"
    for at, port in values.get("ports", ()):
        if is_fixed(port):
            yield at, "nothing listens on that port between two runs"
    if "health" in values["x-mvd"]:
        yield entries["x-mvd"].entries()["health"], "the result of its last run is its health"
    if "test" in values.get("healthcheck", {}):
        yield entries["healthcheck"], "the result of its last run is its health"


def _check(entries: Mapping[str, Place], values: ServiceKeys, kong: XKong | None) -> Check:
    health = values.get("x-mvd", {}).get("health")
    monitor = values.get("deploy", {}).get("update_config", {}).get("monitor", -1.0)
    test = values.get("healthcheck", {})
    if schedule(values):
        return SCHEDULED_CHECK
    # Docker may report unhealthy after so many tests; until then it is starting.
    tested = Check(
        "docker",
        within=max(60.0, test.get("interval", 30.0) * test.get("retries", 3) + 30),
        hold=max(0.0, monitor),
        start_period=test.get("start_period", 0.0),
    )
    if health is None:
        if "test" in test:
            return tested
        policy = restart(values)
        if policy == "no":
            if "ports" in values or "x-kong" in values:
                at = entries["restart"] if "restart" in values else entries["deploy"]
                at.note(
                    "makes it a job, which must end with code 0 within ten minutes: leave it out if the service stays"
                )
            return COMPLETED_CHECK
        serves = not policy and bool(kong or values.get("ports"))
        probe = "running" if serves or policy in ("always", "unless-stopped") else "not_failed"
        return Check(probe, hold=5.0 if monitor < 0 else monitor)
    place = entries["x-mvd"].entries()["health"]
    port = kong["port"] if kong else _only_port(values)
    known = port or place.has("port") or (kong and entries["x-kong"].has("port"))
    if asks_for_port(place) and not known:
        place.report("has no `port`, and it does not follow from `x-kong`, `ports` or `expose`")
    report_blindness(place, health, values)
    probe, spec = probe_and_spec(health, port or 0)
    times = {name: health[name] for name in ("within", "start_period", "interval", "successes") if name in health}
    usual = {"docker": tested, "completed": COMPLETED_CHECK}.get(probe, Check(probe, hold=tested.hold))
    return replace(usual, spec=spec, **times)


def _update(entries: Mapping[str, Place], values: ServiceKeys, default: str, beside: Beside) -> Update:
    """How it is updated; two versions side by side must not want the same port or address."""
    config = values.get("deploy", {}).get("update_config", {})
    if beside.joined_by and config.get("order") == "start-first":
        at = entries["deploy"].entries()["update_config"].entries()["order"]
        at.report(f"is not possible, because {beside.joined_by} shares a namespace of it: use stop-first")
    alone = [(at, f"the port {port['published']} of the host") for at, port in published(values) if is_fixed(port)]
    for at, options in values.get("networks", {}).values():
        alone += [(at, f"a fixed {name}") for name in FIXED if name in options]
    if "mac_address" in values:
        alone.append((entries["mac_address"], "a fixed mac_address"))
    if alone and (replicas(values) > 1 or config.get("order") == "start-first"):
        at, what = alone[0]
        at.report(
            f"takes {what}, which two instances cannot share: use one replica and `order: stop-first`, or `x-kong`"
        )
    usual = Update()
    return Update(
        order=config.get("order", default),
        failure_action=config.get("failure_action", usual.failure_action),
        parallelism=config.get("parallelism", usual.parallelism),
        delay=config.get("delay", usual.delay),
    )
