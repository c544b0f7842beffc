"""Services that share a namespace → one pod: its containers, what they share, and where it runs.  Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence

from gitops_mvd.core.compose import Run
from gitops_mvd.core.joins import shared
from gitops_mvd.core.model import Service
from gitops_mvd.exports.container import container, grace
from gitops_mvd.exports.names import is_label_value, is_qualified, labels, network_name
from gitops_mvd.exports.remarks import Body, Remark, lost, without_empty
from gitops_mvd.exports.service import container_ports
from gitops_mvd.exports.source import Exported, Source
from gitops_mvd.exports.storage import mounted
from gitops_mvd.manifest.placement import Constraint

_LABELS = "node.labels."
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_HOST_ALIAS = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DNS_OPTION = re.compile(r"[a-z0-9-]+(:[a-z0-9]+)?")
_FIXED = {"ipv4_address", "ipv6_address", "link_local_ips", "mac_address", "driver_opts", "priority", "gw_priority"}
_OF_IPC = ("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")
MOST_SEARCHES = 32
MOST_ID = 2**31 - 1


def joined_to(source: Source) -> dict[str, str]:
    """Each service that shares the network, IPC or PID namespace of another one, and in whose pod it is."""
    parents = {it.name: [other for _, other in shared(it.service.run)] for it in source.services}
    found: dict[str, str] = {}
    for name in parents:
        seen = [name]
        while (others := parents.get(seen[-1])) and others[0] in parents and others[0] not in seen:
            seen.append(others[0])
        ends = [it.name for it in source.services if it.service.is_job or it.service.schedule]
        if seen[-1] != name and name not in ends and seen[-1] not in ends:
            found[name] = seen[-1]
    return found


def template(source: Source, one: Exported, secrets: Mapping[str, set[str]], restart: str) -> Body:
    """The pod of a service, with the containers of those that share a namespace of it."""
    joined = joined_to(source)
    members = [one, *(it for it in source.services if joined.get(it.name) == one.name)]
    metadata: Body = {"labels": labels(source.name, one.name)}
    annotations, remarks = _annotations([it.service for it in members])
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": remarks | metadata, "spec": _spec(source, members, secrets, restart)}


def _spec(source: Source, members: Sequence[Exported], secrets: Mapping[str, set[str]], restart: str) -> Body:
    one, *others = members
    spec: Body = {}
    volumes: dict[str, Body] = {}
    containers: list[Body] = []
    spec |= _shared(one.service)
    for member in others:
        spec |= _of_member(member.service)
    if spec.get("hostPID"):
        spec.pop("shareProcessNamespace", None)
    is_first = not spec.get("hostPID") and not spec.get("shareProcessNamespace")
    for member in members:
        mounts = mounted(source, member.service, secrets)
        volumes |= mounts.volumes
        containers.append(container(member.service, mounts, secrets, container_ports(member.service), is_first))
    spec |= _names(source, one.service)
    spec |= _waits(source, members)
    spec["securityContext"] = _security(one.service)
    spec |= {key: spec["securityContext"].pop(key) for key in [*spec["securityContext"]] if isinstance(key, Remark)}
    spec |= placement(one.constraints, one.service)
    spec["restartPolicy"] = restart if restart != "Always" else None
    spec["terminationGracePeriodSeconds"] = max(grace(member.service) for member in members)
    spec["containers"] = containers
    spec["volumes"] = [{"name": name, **volume} for name, volume in volumes.items()]
    return without_empty(spec)


def _annotations(services: Sequence[Service]) -> tuple[Body, Body]:
    """The labels and annotations of containers: a label of Kubernetes may not have such values."""
    found: Body = {}
    remarks: Body = {}
    for service in services:
        for key in ("labels", "annotations"):
            for name, value in sorted(service.run.get(key, {}).items()):  # type: ignore[attr-defined]
                if is_qualified(name):
                    found[name] = value
                else:
                    remarks |= lost(f"{key}: {name}", "an annotation cannot have that name")
    return found, remarks


def _shared(service: Service) -> Body:
    run, spec = service.run, Body()
    mode = run.get("network_mode", "")
    if mode == "host":
        why = "only what runs on the same node is found at 127.0.0.1, and a port has one pod a node"
        spec |= lost("network_mode: host", why) | {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    elif mode == "none":
        spec |= lost("network_mode: none", "forbid its traffic with a NetworkPolicy")
    elif mode.startswith("container:"):
        spec |= lost(f"network_mode: {mode}", "put both into one pod")
    for key, other in shared(run):
        spec |= lost(f"{key}: service:{other}", "it has a pod of its own here, and shares none")
    for key, field in (("ipc", "hostIPC"), ("pid", "hostPID")):
        value = str(run.get(key, ""))
        if value == "host":
            spec[field] = True
        elif value.startswith("container:"):
            spec |= lost(f"{key}: {value}", "put both into one pod")
    if run.get("init"):
        spec["shareProcessNamespace"] = True  # the pause process reaps what others leave behind
    return spec


def _of_member(service: Service) -> Body:
    """What a service that shares a pod needs of all of it."""
    spec: Body = {}
    if any(key == "pid" for key, _ in shared(service.run)):
        spec["shareProcessNamespace"] = True
    for key in ("extra_hosts", "hostname", "sysctls", "group_add", "dns_search", "dns_opt"):
        if service.run.get(key):
            spec |= lost(f"{service.name}: {key}", "it would be for all containers of the pod")
    return spec


def _names(source: Source, service: Service) -> Body:
    run, spec = service.run, Body()
    if hostname := run.get("hostname"):
        name = hostname.lower()
        if "." in name or not _HOST_ALIAS.fullmatch(name) or len(name) > 63:
            spec |= lost(f"hostname: {hostname}", "a pod's name is one word of letters, digits and dashes")
        else:
            spec["hostname"] = name
    for network, endpoint in service.endpoints(source.name).items():
        if fixed := sorted(endpoint.keys() & _FIXED):
            what = f"networks.{network_name(source.name, network)}: {', '.join(fixed)}"
            spec |= lost(what, "the network of the cluster gives addresses")
    aliases: dict[str, list[str]] = {}
    for line in run.get("extra_hosts", ()):
        name, address = _host_and_address(line)
        if not _is_ip(address) or not _HOST_ALIAS.fullmatch(name.lower()):
            why = "a pod does not find its node's services by a name: use that of their Service"
            spec |= lost(f"extra_hosts: {name}", why)
        else:
            aliases.setdefault(address, []).append(name.lower())
    if run.get("network_mode") == "host" and aliases:
        aliases = {}
        spec |= lost("extra_hosts", "with the network of the node its names are known, and no others")
    spec["hostAliases"] = [{"ip": address, "hostnames": names} for address, names in aliases.items()]
    searches = [it for it in run.get("dns_search", ()) if _HOST_ALIAS.fullmatch(it.rstrip("."))][:MOST_SEARCHES]
    options = [it for it in run.get("dns_opt", ()) if _DNS_OPTION.fullmatch(it)]
    for key, kept in (("dns_search", searches), ("dns_opt", options)):
        if missed := [it for it in run.get(key, ()) if it not in kept]:  # type: ignore[attr-defined]
            spec |= lost(f"{key}: {' '.join(missed)}", "it is not taken here")
    made = [_dns_option(it) for it in options]
    spec["dnsConfig"] = without_empty({"searches": searches, "options": made})
    return spec


def _dns_option(option: str) -> Body:
    name, colon, value = option.partition(":")
    return {"name": name, "value": value} if colon else {"name": name}


def _host_and_address(line: str) -> tuple[str, str]:
    name, _, address = line.partition("=") if "=" in line else line.partition(":")
    return name, address.strip("[]")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _waits(source: Source, members: Sequence[Exported]) -> Body:
    """What is waited for before a start has no counterpart: pods start at once, and again until they work."""
    inside = {member.name for member in members}
    waits = {
        other: condition
        for member in members
        for other, condition in sorted(member.service.depends_on.items())
        if other not in inside
    }
    words = {"service_healthy": "is healthy", "service_completed_successfully": "has completed"}
    found: Body = {}
    for other, condition in waits.items():
        if condition in words:
            why = (
                "it starts at once here, and again for as long as it ends: wait for it in the image, or apply it first"
            )
            found |= lost(f"depends_on: until {other} {words[condition]}", why)
    return found


def _security(service: Service) -> Body:
    """`securityContext` of the pod: groups and kernel parameters."""
    run, context = service.run, Body()
    groups = [int(it) for it in run.get("group_add", ()) if it.isascii() and it.isdecimal() and int(it) <= MOST_ID]
    if missed := [it for it in run.get("group_add", ()) if not (it.isascii() and it.isdecimal())]:
        context |= lost(f"group_add: {' '.join(missed)}", "only numbers are taken here: see /etc/group of the image")
    context["supplementalGroups"] = groups
    said, known = _sysctls(run)
    context |= said
    context["sysctls"] = [{"name": name, "value": value} for name, value in known.items()]
    return without_empty(context)


def _sysctls(run: Run) -> tuple[Body, dict[str, str]]:
    """The kernel parameters of the pod, and remarks on those that would be its node's."""
    known: dict[str, str] = {}
    remarks: Body = {}
    for name, value in sorted(run.get("sysctls", {}).items()):
        if run.get("network_mode") == "host" or (run.get("ipc") == "host" and name.startswith(_OF_IPC)):
            remarks |= lost(f"sysctls: {name}", "it would be the node's own, which the pod shares")
        elif _SYSCTL.fullmatch(name):
            known[name] = value
        else:
            remarks |= lost(f"sysctls: {name}", "a kernel parameter cannot have that name here")
    return remarks, known


def placement(constraints: Sequence[Constraint], service: Service) -> Body:
    """`nodeSelector` for labels that must be, `affinity` for what must not; nodes need the labels of `fleet.yaml`."""
    wanted: dict[str, str] = {}
    unwanted: dict[str, list[str]] = {}
    remarks: Body = {}
    for it in constraints:
        name = "kubernetes.io/hostname" if it.subject == "node.hostname" else it.subject.removeprefix(_LABELS)
        if not is_qualified(name) or not is_label_value(it.value):
            remarks |= lost(f"{it.subject} {'==' if it.equal else '!='} {it.value}", "a node cannot have such a label")
        elif not it.equal:
            unwanted.setdefault(name, []).append(it.value)
        elif wanted.setdefault(name, it.value) != it.value:
            remarks |= lost(f"{it.subject} == {it.value}", f"it is to be {wanted[name]}, too")
    if platform := service.run.get("platform"):
        remarks |= _platform(platform, wanted)
    expressions = [{"key": key, "operator": "NotIn", "values": values} for key, values in unwanted.items()]
    body: Body = dict(remarks)
    body["nodeSelector"] = wanted
    if expressions:
        terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
        body["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return body


def _platform(written: str, wanted: dict[str, str]) -> Body:
    system, _, rest = written.lower().partition("/")
    machine, _, variant = rest.partition("/")
    if not rest:
        system, machine = ("linux", "") if system == "linux" else ("", system)
    machine = _ARCHITECTURES.get(machine, machine)
    if (variant and variant != "v8") or not is_label_value(machine) or not is_label_value(system):
        return lost(f"platform: {written}", "a node tells its architecture, and no variant of it")
    wanted |= without_empty({"kubernetes.io/os": system, "kubernetes.io/arch": machine})
    return {}
