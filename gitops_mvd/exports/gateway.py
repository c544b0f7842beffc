"""What only `kong/*.yaml` has → documents for Kong's controller: callers, plugins for all, hosts elsewhere.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from gitops_mvd.core.secrets import BEGINS, names_in
from gitops_mvd.core.xkong import Declaration
from gitops_mvd.exports import plugins
from gitops_mvd.exports.environment import where
from gitops_mvd.exports.names import PART_OF, label, namespace, service_label
from gitops_mvd.exports.plugins import CLASS, CONFIGURATION
from gitops_mvd.exports.remarks import Body, lost, needs, without_empty
from gitops_mvd.exports.routes import Backend, Gateway, route
from gitops_mvd.exports.source import Source

# The credentials of a consumer, and what the controller calls each.
CREDENTIALS = {
    "keyauth_credentials": "key-auth",
    "basicauth_credentials": "basic-auth",
    "hmacauth_credentials": "hmac-auth",
    "jwt_secrets": "jwt",
    "oauth2_credentials": "oauth2",
}
_NOT_A_VALUE = {"consumer", "tags", "id", "ttl", "created_at", "updated_at", "_comment", "_ignore", "hash_secret"}
CREDENTIAL_LABEL = "konghq.com/credential"
_DEFAULT_WEIGHT = 100
_TLS = {"https", "tls", "grpcs"}
INSTEAD = {
    "certificates": "put each into a Secret of type kubernetes.io/tls, and name that at a listener of the Gateway",
    "snis": "they are those of a listener of the Gateway",
    "ca_certificates": "put each into a Secret with the label konghq.com/ca-cert",
    "key_sets": "write a KongCustomEntity",
    "keys": "write a KongCustomEntity",
    "consumer_groups": "write a KongConsumerGroup",
    "targets": "put them below their upstream",
}
_HERE = {"consumers", "plugins", "services", "routes", "upstreams", "vaults", "acls", *CREDENTIALS}


class _Target(NamedTuple):
    host: str
    port: int
    weight: int


def gateway_documents(source: Source, gateway: Gateway) -> Iterator[Body]:
    """Documents; what has only remarks belongs to no document."""
    entities = source.kong_entities
    for kind in sorted(entities.keys() - _HERE):
        if entities[kind] and not kind.startswith("_"):
            yield lost(f"kong/: {kind}", INSTEAD.get(kind, "the controller has no such document"))
    every = entities.get("plugins", [])
    yield from _global_plugins(source, [one for one in every if not _scopes(one)])
    for one in every:
        if len(_scopes(one)) > 1:
            why = "write a KongPlugin, and name it at all of them"
            yield lost(f"kong/: the plugin {one['name']} for {' and '.join(_scopes(one))}", why)
    yield from _consumers(source, [one for one in every if _scopes(one) == ["consumer"]])
    yield from _services(source, [one for one in every if _scopes(one) in (["service"], ["route"])], gateway)
    for vault in entities.get("vaults", []):
        yield _vault(source, vault)


def _scopes(plugin: Declaration) -> list[str]:
    return [key for key in ("service", "route", "consumer") if plugin.get(key)]


def _named(reference: Any) -> str:
    """The name in a reference, which may be a mapping."""
    return str(next(iter(reference.values()), "")) if isinstance(reference, Mapping) else str(reference or "")


def _global_plugins(source: Source, declared: Sequence[Declaration]) -> Iterator[Body]:
    for name, one in zip(plugins.plugin_names(label(source.name), declared), declared, strict=True):
        yield plugins.cluster_plugin(source, name, one, {})


# ---- callers ---------------------------------------------------------------------------------------------------------


def _consumers(source: Source, apart: Sequence[Declaration]) -> Iterator[Body]:
    known: set[str] = set()
    for consumer in source.kong_entities.get("consumers", []):
        called = str(consumer.get("username") or consumer.get("custom_id"))
        known |= {called}
        mine = {kind: [*consumer.get(kind, []), *_of_consumer(source, kind, called)] for kind in (*CREDENTIALS, "acls")}
        own = [*consumer.get("plugins", []), *(one for one in apart if _named(one["consumer"]) == called)]
        yield from _consumer(source, consumer, called, mine, own)
    for one in apart:
        if _named(one["consumer"]) not in known:
            why = "there is no such consumer in kong/"
            yield lost(f"kong/: the plugin {one['name']} for the consumer {_named(one['consumer'])}", why)


def _of_consumer(source: Source, kind: str, called: str) -> list[Declaration]:
    return [one for one in source.kong_entities.get(kind, []) if _named(one.get("consumer")) == called]


def _consumer(
    source: Source,
    consumer: Declaration,
    called: str,
    credentials: Mapping[str, Sequence[Declaration]],
    own: Sequence[Declaration],
) -> Iterator[Body]:
    name = label(called)
    secrets: list[str] = []
    wanted: Body = {}
    for kind, word in CREDENTIALS.items():
        for number, credential in enumerate(credentials[kind], 1):
            secrets.append(label(f"{name}-{word}" if number == 1 else f"{name}-{word}-{number}"))
            for key, value in sorted(credential.items()):
                if key not in _NOT_A_VALUE:
                    told = f"the {key} of {called} in kong/*.yaml"
                    if isinstance(value, str) and BEGINS in value:
                        told = " and ".join(map(where, names_in(value)))
                    wanted |= needs(secrets[-1], key, told, {CREDENTIAL_LABEL: word})
    names = plugins.plugin_names(name, own)
    for plugin_name, one in zip(names, own, strict=True):
        yield plugins.plugin(source, plugin_name, {**one, "consumer": None}, {})
    for number, acl in enumerate(credentials["acls"], 1):
        secrets.append(label(f"{name}-acl" if number == 1 else f"{name}-acl-{number}"))
        metadata: Body = {"name": secrets[-1], "namespace": namespace(source.name)}
        metadata["labels"] = {CREDENTIAL_LABEL: "acl", PART_OF: label(source.name)}
        yield {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"group": acl["group"]}}
    metadata = {"name": name, "namespace": namespace(source.name), "labels": {PART_OF: label(source.name)}}
    metadata["annotations"] = CLASS | plugins.annotations_of(names) | plugins.tags(consumer)
    body: Body = {"apiVersion": CONFIGURATION, "kind": "KongConsumer", "metadata": metadata}
    body |= wanted | {"username": consumer.get("username"), "custom_id": consumer.get("custom_id")}
    yield without_empty(body | {"credentials": secrets})


# ---- hosts that are elsewhere ----------------------------------------------------------------------------------------


def _services(source: Source, apart: Sequence[Declaration], gateway: Gateway) -> Iterator[Body]:
    upstreams = {one["name"].lower(): one for one in source.kong_entities.get("upstreams", [])}
    loose = source.kong_entities.get("routes", [])
    known: set[str] = set()
    for number, service in enumerate(source.kong_entities.get("services", []), 1):
        name = str(service.get("name") or f"service-{number}")
        known.add(name)
        routes = [*service.get("routes", []), *(one for one in loose if _named(one.get("service")) == name)]
        own = [*service.get("plugins", []), *(one for one in apart if _named(one.get("service")) == name)]
        yield from _service(source, service, name, upstreams, own)
        if service.get("enabled") is not False:
            backends = [backend for backend, _ in _backends(name, _targets(service, upstreams))]
            yield from _routes(source, name, routes, apart, backends, gateway)
    for one in loose:
        if _named(one.get("service")) not in known:
            why = "a route here leads to a Service"
            yield lost(f"kong/: the route {one.get('name', '')} without a service of kong/".replace("  ", " "), why)


def _service(
    source: Source, service: Declaration, name: str, upstreams: Mapping[str, Declaration], own: Sequence[Declaration]
) -> Iterator[Body]:
    if service.get("enabled") is False:
        yield lost(f"kong/: the service {name}", "it is switched off, and nothing is written for it")
        return
    protocol, host, _, path = _address(service)
    upstream = upstreams.get(host, {})
    policy = plugins.upstream_policy(source, label(name), {key: it for key, it in upstream.items() if key != "targets"})
    has_policy = bool(policy.get("spec"))
    kept, remarks = plugins.for_all(own)
    for _, body in plugins.documents_of(source, f"{label(name)}-service", own, {}):
        yield body
    if has_policy:
        yield policy
    else:
        remarks |= {key: None for key in policy if not isinstance(key, str)}
    fields = {**service, "path": path} if path and path != "/" else service
    said = plugins.service_annotations(
        fields, protocol, label(name) if has_policy else "", upstream.get("host_header", "")
    )
    said |= remarks | plugins.annotations_of(plugins.plugin_names(f"{label(name)}-service", kept))
    for backend, target in _backends(name, _targets(service, upstreams)):
        yield from _elsewhere(source, backend, target, said)
        said = {key: it for key, it in said.items() if isinstance(key, str)}


def _elsewhere(source: Source, backend: Backend, target: _Target, said: Body) -> Iterator[Body]:
    """The Service of a host that is not of the cluster, and the addresses of one that has no name."""
    metadata: Body = {"name": backend.name, "namespace": namespace(source.name)}
    metadata["labels"] = {PART_OF: label(source.name)}
    metadata["annotations"] = {key: it for key, it in said.items() if isinstance(key, str)}
    head: Body = {"apiVersion": "v1", "kind": "Service", "metadata": without_empty(metadata)}
    head |= {key: None for key in said if not isinstance(key, str)}
    port = {"name": f"tcp-{target.port}", "port": target.port, "protocol": "TCP"}
    if (version := _version(target.host)) is None:
        yield head | {"spec": {"type": "ExternalName", "externalName": target.host, "ports": [port]}}
        return
    found = ipaddress.ip_address(target.host)
    if found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast:
        yield (
            head
            | lost(f"kong/: {target.host}", "a pod does not reach that address of a server")
            | {"spec": {"ports": [port]}}
        )
        return
    yield head | {"spec": {"ports": [port]}}
    slice_labels = {PART_OF: label(source.name), "kubernetes.io/service-name": backend.name}
    metadata = {"name": backend.name, "namespace": namespace(source.name), "labels": slice_labels}
    address = str(found)  # without needless zeros, or it is refused
    addresses: Body = {"addressType": f"IPv{version}", "endpoints": [{"addresses": [address]}], "ports": [port]}
    yield {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata} | addresses


def _version(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def _backends(name: str, targets: Sequence[_Target]) -> list[tuple[Backend, _Target]]:
    several = len(targets) > 1
    return [
        (
            Backend(
                service_label(f"{label(name)}-{number}" if several else label(name)),
                target.port,
                target.weight if several else None,
            ),
            target,
        )
        for number, target in enumerate(targets, 1)
    ]


def _address(service: Declaration) -> tuple[str, str, int, str]:
    """Protocol, host, port and path of a service, which may be written as one URL."""
    if url := service.get("url"):
        parts = urlsplit(url)
        protocol = parts.scheme
        return protocol, parts.hostname or "", parts.port or (443 if protocol in _TLS else 80), parts.path
    protocol = service.get("protocol", "http")
    return protocol, service.get("host", "").lower(), service.get("port", 80), service.get("path", "")


def _targets(service: Declaration, upstreams: Mapping[str, Declaration]) -> list[_Target]:
    _, host, port, _ = _address(service)
    if host not in upstreams:
        return [_Target(host, port, _DEFAULT_WEIGHT)]
    return [_target(one) for one in upstreams[host].get("targets", [])]


def _target(declared: Declaration) -> _Target:
    host, _, port = str(declared["target"]).rpartition(":")
    return _Target(host.strip("[]").lower(), int(port), declared.get("weight", _DEFAULT_WEIGHT))


def _routes(
    source: Source,
    service: str,
    declared: Sequence[Declaration],
    apart: Iterable[Declaration],
    backends: Sequence[Backend],
    gateway: Gateway,
) -> Iterator[Body]:
    apart = [*apart]
    for number, one in enumerate(declared, 1):
        name = label(one.get("name") or f"{service}-{number}")
        own = [*one.get("plugins", []), *(it for it in apart if _named(it.get("route")) == one.get("name", "-"))]
        kept, remarks = plugins.for_all(own)
        body = route(source, name, one, backends, plugins.plugin_names(f"{name}-route", kept), gateway)
        if "kind" in body:
            for _, plugin in plugins.documents_of(source, f"{name}-route", own, {}):
                yield plugin
        yield remarks | body if "kind" not in body else body | remarks


def _vault(source: Source, declared: Declaration) -> Body:
    config, patches = plugins.without_secrets(declared.get("config") or {}, set(), "vault", {})
    name = label(f"{source.name}-{declared['prefix']}")
    metadata = {"name": name, "labels": {PART_OF: label(source.name)}, "annotations": dict(CLASS)}
    body: Body = {"apiVersion": "configuration.konghq.com/v1alpha1", "kind": "KongVault", "metadata": metadata}
    for patch in patches["patches"]:
        body |= lost(f"config{patch['path'].replace('/', '.')}", "a KongVault has no secrets of its own")
    spec = {"backend": declared["name"], "prefix": declared["prefix"], "description": declared.get("description")}
    return body | {"spec": without_empty({**spec, "config": config, "tags": declared.get("tags")})}
