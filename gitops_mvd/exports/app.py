"""An app → all its documents: its namespace, what its pods need, its pods, and what leads to them.  Pure.

An app is a namespace: so its services are found by the names that they have in its Compose file, as on the network that
they share there, and no two apps clash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gitops_mvd.core.exposed import secrets_by_name
from gitops_mvd.core.xkong import XKong
from gitops_mvd.exports import plugins
from gitops_mvd.exports.gateway import gateway_documents
from gitops_mvd.exports.names import PART_OF, label, namespace, network_name, service_label, workload_label
from gitops_mvd.exports.pod import joined_to
from gitops_mvd.exports.remarks import Body, Needs, found, lost
from gitops_mvd.exports.routes import KONG_GATEWAY, Backend, Gateway, names_of, route
from gitops_mvd.exports.service import services
from gitops_mvd.exports.source import Exported, Source
from gitops_mvd.exports.storage import claims, config_maps
from gitops_mvd.exports.workload import is_stateful, workload

Secrets = Mapping[str, set[str]]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a cluster needs to be told, and no manifest says; without a `time_zone` it is taken for UTC."""

    gateway: Gateway = KONG_GATEWAY
    time_zone: str = ""
    size: str = "10Gi"


def documents(source: Source, choices: Choices) -> list[Body]:
    """The documents of an app, in the order in which they may be applied."""
    secrets = secrets_by_name(it.service for it in source.services)
    joined = joined_to(source)
    made: list[Body] = [*config_maps(source, secrets), *claims(source, choices.size)]
    for one in source.services:
        if one.name not in joined:
            beside = [it for it in source.services if joined.get(it.name) == one.name]
            made += _of_service(source, one, beside, secrets, choices)
    remarks = _networks(source)
    for body in gateway_documents(source, choices.gateway):
        if "kind" in body:
            made.append(body)
        else:
            remarks |= body
    if not made and not remarks:
        return []
    head: Body = {"apiVersion": "v1", "kind": "Namespace"}
    return [
        head | remarks | {"metadata": {"name": namespace(source.name), "labels": {PART_OF: label(source.name)}}},
        *made,
    ]


def _networks(source: Source) -> Body:
    """What networks keep apart or fix: on a cluster every pod reaches every other one, at an address of no choice."""
    found: Body = {}
    joined = {frozenset(it.service.endpoints(source.name)) for it in source.services} - {frozenset()}
    if len(joined) > 1:
        names = ", ".join(sorted(network_name(source.name, real) for real in frozenset().union(*joined)))
        found |= lost(f"networks {names}", "they keep services apart, and here every pod is reached: NetworkPolicy")
    for real, options in source.networks.items():
        name = network_name(source.name, real)
        if options.get("internal"):
            found |= lost(f"networks.{name}.internal", "forbid what leaves the namespace with a NetworkPolicy")
        for key in ("driver", "driver_opts", "ipam", "enable_ipv6"):
            if options.get(key) and options.get(key) != "bridge":
                found |= lost(f"networks.{name}.{key}", "a pod is on the network of the cluster")
    return found


def wanted_secrets(source: Source, made: Sequence[Body]) -> dict[tuple[str, str], list[Needs]]:
    """What must be in each Secret that the documents of an app refer to, by its namespace and name."""
    every: dict[tuple[str, str], dict[str, Needs]] = {}
    for it in found([*made], Needs):
        every.setdefault((namespace(source.name), it.name), {})[it.key] = it
    return {name: [*keys.values()] for name, keys in sorted(every.items())}


def _of_service(
    source: Source, one: Exported, beside: Sequence[Exported], secrets: Secrets, choices: Choices
) -> Iterator[Body]:
    annotations: Body = {}
    routes: list[Body] = []
    for member in (one, *beside):
        if member.service.kong:
            said, before, after = _behind_kong(source, one, member, secrets, choices)
            annotations |= said
            yield from before
            routes += after
    yield from services(source, one, annotations, beside, own=is_stateful(one.service))
    yield workload(source, one, secrets, choices.time_zone)
    yield from routes


def _behind_kong(
    source: Source, one: Exported, member: Exported, secrets: Secrets, choices: Choices
) -> tuple[Body, list[Body], list[Body]]:
    """Annotations and remarks of the Service, documents before it, and the routes to it."""
    kong, name = member.service.kong, workload_label(member.name)
    assert kong
    if kong["service"].get("enabled") is False:
        return lost("x-kong.service.enabled: false", "nothing leads to it here: no route is written"), [], []
    kept, annotations = plugins.for_all(kong["plugins"])
    before = [body for _, body in plugins.documents_of(source, name, kong["plugins"], secrets)]
    policy = plugins.upstream_policy(source, name, kong["upstream"])
    if policy.get("spec"):
        before.append(policy)
    else:
        annotations |= {key: None for key in policy if not isinstance(key, str)}
        policy = {}
    host_header = str(kong["upstream"].get("host_header", ""))
    annotations |= plugins.service_annotations(kong["service"], kong["protocol"], name if policy else "", host_header)
    annotations |= plugins.annotations_of(plugins.plugin_names(name, kept))
    routes: list[Body] = []
    for own, body in _routes(source, one, name, kong, secrets, choices):
        before += own
        if "kind" in body:
            routes.append(body)
        else:
            annotations |= body
    return annotations, before, routes


def _routes(
    source: Source, one: Exported, name: str, kong: XKong, secrets: Secrets, choices: Choices
) -> Iterator[tuple[list[Body], Body]]:
    """Each route, and the plugins of its own."""
    backend = Backend(service_label(one.name), kong["port"])
    for own, declared in zip(names_of(name, kong["routes"]), kong["routes"], strict=True):
        of_route = declared.get("plugins", [])
        kept, remarks = plugins.for_all(of_route)
        body = route(source, own, declared, [backend], plugins.plugin_names(f"{own}-route", kept), choices.gateway)
        made = (
            [it for _, it in plugins.documents_of(source, f"{own}-route", of_route, secrets)] if "kind" in body else []
        )
        yield made, remarks | body
