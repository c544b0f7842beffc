"""How a service is found: a Service by each of its names, and one for the ports that it publishes.  Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gitops_mvd.core.model import Service
from gitops_mvd.exports.names import label, labels, namespace, service_label
from gitops_mvd.exports.remarks import Body, lost, remark
from gitops_mvd.exports.source import Exported, Source

MOST_PORTS = 100  # of a range that is spelled out
PROTOCOLS = ("tcp", "udp", "sctp")
_ASKED = ("http", "tcp", "grpc")


class Opened(NamedTuple):
    """A port of a container; `published` is that of the host, 0 for none."""

    target: int
    protocol: str
    published: int = 0


def opened(service: Service) -> list[Opened]:
    """The ports that are known of its container: routed, published, exposed, or asked by its probe; each once."""
    found: dict[tuple[int, str], Opened] = {}
    if service.kong:
        found[service.kong["port"], "tcp"] = Opened(service.kong["port"], "tcp")
    for target, protocol in (*_published_ports(service), *_exposed(service)):
        found.setdefault((target, protocol), Opened(target, protocol))
    port = service.check.spec.get("port")
    if service.check.probe in _ASKED and isinstance(port, int):
        found.setdefault((port, "tcp"), Opened(port, "tcp"))
    return [one for one in found.values() if one.protocol in PROTOCOLS and 0 < one.target < 1 << 16]


def _published_ports(service: Service) -> Iterator[tuple[int, str]]:
    for port in service.run.get("ports", ()):
        yield port["target"], port["protocol"]


def _exposed(service: Service) -> Iterator[tuple[int, str]]:
    for written in service.run.get("expose", ()):
        numbers, _, protocol = str(written).partition("/")
        first, _, last = numbers.partition("-")
        span = range(int(first), int(last or first) + 1)
        for port in span[:MOST_PORTS]:
            yield port, protocol or "tcp"


def container_ports(service: Service) -> list[Body]:
    """`ports` of its container, which only tell what there is."""
    return [{"containerPort": one.target, "protocol": one.protocol.upper()} for one in opened(service)]


# ---- Services --------------------------------------------------------------------------------------------------------


def services(source: Source, one: Exported, annotations: Body, joined: Sequence[Exported], own: bool) -> Iterator[Body]:
    """The Services of a workload; `joined` are in its pod, and `own`: it needs one by its name."""
    members = [one, *joined]
    ports = _unique([port for member in members for port in opened(member.service)])
    published, remarks = _published([member.service for member in members])
    names = found_as(source, members)
    if own or ports or len(names) > 1 or _outside(source, one) or _is_asked(source, one):
        for number, name in enumerate(names):
            said = {} if number else _foreign(source, one) | ({} if published else remarks)
            yield _service(source, one, name, ports, {} if number else annotations, said)
    if published:
        name = label(f"{service_label(one.name)}-published")
        spec: Body = {"type": "LoadBalancer", "selector": labels(source.name, one.name), "ports": published}
        yield (
            {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(source, one, name)} | remarks | {"spec": spec}
        )


def _metadata(source: Source, one: Exported, name: str) -> Body:
    return {"name": name, "namespace": namespace(source.name), "labels": labels(source.name, one.name)}


def found_as(source: Source, members: Sequence[Exported]) -> list[str]:
    """The name of the first one, as Kubernetes takes it, and all others by which a pod with these services is found."""
    own = [it.name for it in members if it.service.endpoints(source.name)]
    others = {alias for member in members for alias in _aliases(source, member)} - {*own}
    usable = sorted(alias for alias in others if service_label(alias) == alias)
    taken = {service_label(it.name) for it in source.services}
    names = [members[0].name, *own]
    return list(dict.fromkeys([*map(service_label, names), *(alias for alias in usable if alias not in taken)]))


def _aliases(source: Source, one: Exported) -> set[str]:
    return {it for endpoint in one.service.endpoints(source.name).values() for it in endpoint.get("aliases", ())}


def _foreign(source: Source, one: Exported) -> Body:
    """What of its names is not carried over."""
    found: Body = {}
    if service_label(one.name) != one.name:
        found |= lost(f"the name {one.name}", f"it is {service_label(one.name)} here: change who asks for it")
    for alias in sorted(_aliases(source, one) - {one.name}):
        if service_label(alias) != alias:
            found |= lost(f"the alias {alias}", "a Service cannot have that name")
    for network in _outside(source, one):
        name = f"{service_label(one.name)}.{namespace(source.name)}"
        found |= lost(f"the network {network}", f"other apps find it as {name}")
    return found


def _outside(source: Source, one: Exported) -> list[str]:
    """The networks that it shares with other apps."""
    joined = one.service.endpoints(source.name)
    return sorted(real for real, options in source.networks.items() if options.get("external") and real in joined)


def _service(source: Source, one: Exported, name: str, ports: list[Opened], annotations: Body, remarks: Body) -> Body:
    metadata = _metadata(source, one, name)
    metadata |= {key: value for key, value in annotations.items() if not isinstance(key, str)}
    if words := {key: value for key, value in annotations.items() if isinstance(key, str)}:
        metadata["annotations"] = words
    spec: Body = {"selector": labels(source.name, one.name)}
    if ports:
        spec["ports"] = [_port(one.target, one.target, one.protocol) for one in ports]
    else:
        spec |= remark("Its ports are not known from the manifest: without an address of its own, all are reached")
        spec["clusterIP"] = "None"
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata} | remarks | {"spec": spec}


def _port(number: int, target: int, protocol: str) -> Body:
    return {"name": f"{protocol}-{number}", "port": number, "targetPort": target, "protocol": protocol.upper()}


def _is_asked(source: Source, one: Exported) -> bool:
    """Does another service of the app wait for it, or have its name in what it is given?"""
    name = re.compile(rf"(?<![\w.-]){re.escape(one.name)}(?![\w-])")
    if one.service.is_job or one.service.schedule:
        return False
    for other in source.services:
        if other.name == one.name:
            continue
        service = other.service
        texts = [*service.environment.values(), *service.run.get("command", ()), *service.run.get("entrypoint", ())]
        texts += [text for file in service.files for text in file.files.values()]
        if one.name in service.depends_on or any(name.search(text) for text in texts):
            return True
    return False


def _published(members: Sequence[Service]) -> tuple[list[Body], Body]:
    """The ports of the host, as those of a load balancer, and what is not carried over of them."""
    found: dict[tuple[int, str], Body] = {}
    remarks: Body = {}
    for port in (port for service in members for port in service.run.get("ports", ())):
        target, protocol, address = port["target"], port["protocol"], port["host_ip"]
        shown = f"ports: {address + ':' if address else ''}{port['published']}:{target}/{protocol}"
        number = port["published"] or str(target)
        if _is_loopback(address):
            remarks |= lost(shown, "reach it by `kubectl port-forward`; only pods of the cluster do otherwise")
        elif not number.isdecimal() or protocol not in PROTOCOLS:
            remarks |= lost(shown, "choose one port")
        else:
            if address not in ("", "0.0.0.0", "::"):
                remarks |= lost(shown, f"the load balancer has another address than {address}")
            found.setdefault((int(number), protocol), _port(int(number), target, protocol))
    return [*found.values()], remarks


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _unique(ports: Sequence[Opened]) -> list[Opened]:
    found: Mapping[tuple[int, str], Opened] = {(port.target, port.protocol): port for port in ports}
    return [*found.values()]
