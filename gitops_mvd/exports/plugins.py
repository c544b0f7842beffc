"""Kong's plugins, services and upstreams → KongPlugin, KongUpstreamPolicy and annotations.  Pure.

Secrets of a plugin are filled in by the controller, from Secrets.  Source: the CRDs of Kong/kubernetes-configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gitops_mvd.core.secret_words import PLAIN_ANSWER, secret_name
from gitops_mvd.core.secrets import BEGINS
from gitops_mvd.core.xkong import Declaration
from gitops_mvd.exports.environment import secret_object, where
from gitops_mvd.exports.names import label, namespace
from gitops_mvd.exports.remarks import Body, Remark, lost, needs, without_empty
from gitops_mvd.exports.source import Source

CONFIGURATION = "configuration.konghq.com/v1"
KONG = "konghq.com/"
CLASS = {"kubernetes.io/ingress.class": "kong"}
JSON = "json"  # the key in a Secret with its value as JSON, which is what the controller reads
PROTOCOLS = ("http", "https", "grpc", "grpcs", "tcp", "tls", "udp")
Attached = Sequence[str]
"""The names of the plugins of a service or a route."""

# Fields of Kong's service, and the annotation of a Service by which the controller sets them.
_OF_SERVICE = ("path", "connect_timeout", "write_timeout", "read_timeout", "retries", "tls_verify", "tls_verify_depth")
_NO_ANNOTATION = {
    "client_certificate": "put the certificate into a Secret, and name that in konghq.com/client-cert",
    "ca_certificates": "put them into Secrets, and name these in konghq.com/ca-certificates-secrets",
}
_HASHED = {"header": "header", "cookie": "cookie", "query_arg": "queryArg", "uri_capture": "uriCapture"}
_HASHED_AS_SUCH = ("ip", "consumer", "path", "none")


# ---- plugins ---------------------------------------------------------------------------------------------------------


def plugin(source: Source, name: str, declared: Declaration, secrets: Mapping[str, set[str]]) -> Body:
    """The KongPlugin of that name."""
    metadata: Body = {"name": name, "namespace": namespace(source.name)}
    metadata["labels"] = {"app.kubernetes.io/part-of": label(source.name)}
    metadata["annotations"] = tags(declared)
    return _plugin("KongPlugin", without_empty(metadata), declared, secrets, {})


def cluster_plugin(source: Source, name: str, declared: Declaration, secrets: Mapping[str, set[str]]) -> Body:
    """The KongClusterPlugin of that name, which is for every request."""
    labels = {"global": "true", "app.kubernetes.io/part-of": label(source.name)}
    metadata: Body = {"name": name, "labels": labels, "annotations": CLASS | tags(declared)}
    return _plugin("KongClusterPlugin", metadata, declared, secrets, {"namespace": namespace(source.name)})


def _plugin(kind: str, metadata: Body, declared: Declaration, secrets: Mapping[str, set[str]], beside: Body) -> Body:
    body: Body = {"apiVersion": CONFIGURATION, "kind": kind, "metadata": metadata}
    values = {value for some in secrets.values() for value in some}
    config, patches = without_secrets(declared.get("config") or {}, values, f"{metadata['name']}-config", beside)
    body |= {key: None for key in patches if isinstance(key, Remark)}
    body |= {"plugin": declared["name"], "instance_name": declared.get("instance_name")}
    if declared.get("enabled") is False:
        body["disabled"] = True
    protocols = declared.get("protocols", [])
    if missed := [one for one in protocols if one not in PROTOCOLS]:
        body |= lost(f"protocols {', '.join(missed)}", "the controller does not take it")
    body["protocols"] = [one for one in protocols if one in PROTOCOLS]
    body["config"] = config
    body["configPatches"] = patches.get("patches", [])
    return without_empty(body)


def without_secrets(config: Declaration, values: set[str], secret: str, beside: Body) -> tuple[Declaration, Body]:
    """The configuration without what is secret in it, and how the controller fills that in."""
    found: list[Body] = []
    remarks: Body = {}

    def kept(value: Any, path: str, name: str, inside_list: bool) -> Any:
        """The value without secrets, None if it is one."""
        nonlocal remarks
        if isinstance(value, Mapping):
            inner = {key: kept(it, f"{path}/{_pointer(key)}", key, inside_list) for key, it in value.items()}
            return {key: it for key, it in inner.items() if it is not None or value[key] is None}
        if isinstance(value, list):
            items = [kept(it, path, name, True) for it in value]
            return [it for it, was in zip(items, value, strict=True) if it is not None or was is None]
        if not isinstance(value, str) or not _is_secret(name, value, values):
            return value
        reference = value.removeprefix(BEGINS).removesuffix("}") if BEGINS in value else ""
        whole = value == f"{BEGINS}{reference}}}" and "{" not in reference
        if inside_list or (BEGINS in value and not whole):
            remarks |= lost(f"config{path.replace('/', '.')}", "a secret in a list, or in a text, cannot be filled in")
            return None
        object_name, key = (secret_object(reference), JSON) if whole else (label(secret), label(path.strip("/")))
        told = where(reference) if whole else f"the value of config{path.replace('/', '.')} in the repository"
        remarks |= needs(object_name, key, told, quoted=True)
        pointer = {"secretKeyRef": {"name": object_name, "key": key, **beside}}
        found.append({"path": path, "valueFrom": pointer})
        return None

    made = kept(config, "", "", False)
    return made, remarks | {"patches": found}


def _is_secret(name: str, value: str, values: set[str]) -> bool:
    named = bool(secret_name(name)) and not PLAIN_ANSWER.fullmatch(value) and not value.startswith("{vault://")
    return BEGINS in value or (named and bool(value)) or any(one in value for one in values)


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def plugin_names(owner: str, declared: Sequence[Declaration]) -> list[str]:
    """The name of each plugin of an owner, no two the same."""
    names: list[str] = []
    for one in declared:
        name = label(f"{owner}-{one['name']}")
        names.append(name if name not in names else label(f"{owner}-{one['name']}-{len(names)}"))
    return names


def for_all(declared: Sequence[Declaration]) -> tuple[list[Declaration], Body]:
    """The plugins that are for every caller, and remarks for those that are for one."""
    some = [one for one in declared if one.get("consumer")]
    remarks: Body = {}
    for one in some:
        named = one["consumer"] if isinstance(one["consumer"], str) else next(iter(one["consumer"].values()))
        why = "write a KongPlugin, and name it at the route and at the KongConsumer"
        remarks |= lost(f"x-kong: the plugin {one['name']} for the consumer {named}", why)
    return [one for one in declared if one not in some], remarks


def annotations_of(plugins: Attached) -> Body:
    return {f"{KONG}plugins": ",".join(plugins)} if plugins else {}


def tags(declared: Mapping[str, Any]) -> Body:
    return {f"{KONG}tags": ",".join(declared["tags"])} if declared.get("tags") else {}


# ---- Kong's service and upstream -------------------------------------------------------------------------------------


def service_annotations(fields: Mapping[str, Any], protocol: str, policy: str, host_header: str) -> Body:
    """The annotations of a Service, and remarks, for what Kong's service and upstream say."""
    found: Body = {}
    if protocol != "http":
        found[f"{KONG}protocol"] = protocol
    for key in _OF_SERVICE:
        if key in fields:
            found[KONG + key.replace("_", "-")] = str(fields[key]).lower() if key != "path" else fields[key]
    for key, why in _NO_ANNOTATION.items():
        if fields.get(key):
            found |= lost(f"x-kong.service.{key}", why)
    if policy:
        found[f"{KONG}upstream-policy"] = policy
    if host_header:
        found[f"{KONG}host-header"] = host_header
    return found | tags(fields)


def upstream_policy(source: Source, name: str, upstream: Mapping[str, Any]) -> Body:
    """The KongUpstreamPolicy of that name; empty if the upstream says nothing that one has."""
    spec: Body = {"algorithm": upstream.get("algorithm"), "slots": upstream.get("slots")}
    remarks: Body = {}
    if (on := upstream.get("hash_on", "none")) != "none":
        spec["algorithm"] = "consistent-hashing"
        spec["hashOn"] = _hash(on, upstream, "hash_on")
        if on == "cookie":
            spec["hashOn"]["cookiePath"] = upstream.get("hash_on_cookie_path", "/")
    if (fallback := upstream.get("hash_fallback", "none")) != "none":
        if fallback == "cookie":
            remarks |= lost("x-kong.upstream.hash_fallback: cookie", "a policy takes a cookie as the first choice only")
        else:
            spec["hashOnFallback"] = _hash(fallback, upstream, "hash_fallback")
    said, checks = _healthchecks(upstream.get("healthchecks") or {})
    remarks |= said
    spec["healthchecks"] = checks
    for key in ("client_certificate", "use_srv_name"):
        if upstream.get(key):
            remarks |= lost(f"x-kong.upstream.{key}", "a policy has no word for it")
    spec = without_empty(spec)
    if not spec and not remarks:
        return {}
    metadata: Body = {"name": name, "namespace": namespace(source.name)}
    metadata["labels"] = {"app.kubernetes.io/part-of": label(source.name)}
    head: Body = {"apiVersion": "configuration.konghq.com/v1beta1", "kind": "KongUpstreamPolicy", "metadata": metadata}
    return head | remarks | {"spec": spec}


def _hash(what: str, upstream: Mapping[str, Any], key: str) -> Body:
    if what in _HASHED_AS_SUCH:
        return {"input": what}
    return {_HASHED[what]: upstream[f"{key}_{what}"]}


def _healthchecks(declared: Mapping[str, Any]) -> tuple[Body, Body]:
    remarks: Body = {}
    found: Body = {}
    for kind in ("active", "passive"):
        checks = dict(declared.get(kind) or {})
        body: Body = {}
        for key, value in checks.items():
            if key in ("healthy", "unhealthy"):
                body[key] = {_camel(name): _numbers(it) for name, it in value.items()}
                if any(isinstance(it, float) and it != int(it) for it in value.values()):
                    remarks |= lost(f"x-kong.upstream.healthchecks.{kind}.{key}", "only whole numbers are taken")
            elif isinstance(value, float):
                body[_camel(key)] = _numbers(value)
                if value != int(value):
                    remarks |= lost(f"x-kong.upstream.healthchecks.{kind}.{key}", "only whole numbers are taken")
            elif key == "headers" and any(BEGINS in text for some in value.values() for text in some):
                remarks |= lost(f"x-kong.upstream.healthchecks.{kind}.headers", "a secret cannot be filled in here")
            else:
                body[_camel(key)] = value
        statuses = [it for one in ("healthy", "unhealthy") for it in body.get(one, {}).get("httpStatuses", [])]
        if any(status > 599 for status in statuses):
            remarks |= lost(f"x-kong.upstream.healthchecks.{kind}: statuses above 599", "they are not taken")
            for one in ("healthy", "unhealthy"):
                if "httpStatuses" in body.get(one, {}):
                    body[one]["httpStatuses"] = [it for it in body[one]["httpStatuses"] if it <= 599]
        if body:
            found[kind] = without_empty(body)
    if "threshold" in declared:
        found["threshold"] = _numbers(declared["threshold"])
    return remarks, found


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _numbers(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


def documents_of(
    source: Source, owner: str, declared: Sequence[Declaration], secrets: Mapping[str, set[str]]
) -> Iterator[tuple[str, Body]]:
    """The plugins of an owner that are for every caller, by name."""
    kept, _ = for_all(declared)
    for name, one in zip(plugin_names(owner, kept), kept, strict=True):
        yield name, plugin(source, name, one, secrets)
