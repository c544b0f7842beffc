"""`x-kong.routes` → HTTPRoute and GRPCRoute of the Gateway API, for Kong's ingress controller.  Pure.

What the Gateway API has no word for is an annotation of that controller.  Kong compares the beginning of a path by
characters, the Gateway API by whole parts: `/chat` also leads `/chatbot` there, and does not here.
Source: `subtranslator/httproute.go` and `kongstate/route.go` of Kong/kubernetes-ingress-controller 3.5.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitops_mvd.core.xkong import Declaration
from gitops_mvd.exports.names import label, namespace
from gitops_mvd.exports.plugins import Attached, annotations_of, tags
from gitops_mvd.exports.remarks import Body, lost, without_empty
from gitops_mvd.exports.source import Source

KONG = "konghq.com/"
GATEWAY_API = "gateway.networking.k8s.io/v1"
MOST_MATCHES, MOST_RULES, MOST_IN_ALL, MOST_HOSTS, MOST_HEADERS = 64, 16, 128, 16, 16
LONGEST_PATH, LONGEST_HEADER = 1024, 4096
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
_HOST = re.compile(r"(?=.{1,253}\Z)(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ALIAS = re.compile(r"(\*\.)?([a-zA-Z0-9]+(-[a-zA-Z0-9]+)*)(\.[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*)*(\.\*)?")
_SNI = re.compile(r"[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*(\.[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*)*")
_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+")
_NO_PATH = re.compile(r"//|/\.(/|\Z)|/\.\.(/|\Z)|%2[fF]|#")
_WORD = "[A-Za-z_][A-Za-z0-9_]*"
_GRPC_PATH = re.compile(rf"/({_WORD}(?:\.{_WORD})*)(?:/({_WORD})?)?")
_GRPC = {"grpc", "grpcs"}
_STREAMS = {"tcp", "tls", "udp", "tls_passthrough"}
# Fields of Kong's route, and the annotation by which the controller sets them.
_ANNOTATIONS = {
    "https_redirect_status_code": "https-redirect-status-code",
    "regex_priority": "regex-priority",
    "path_handling": "path-handling",
    "request_buffering": "request-buffering",
    "response_buffering": "response-buffering",
}


@dataclass(frozen=True, slots=True)
class Gateway:
    """The Gateway that routes belong to."""

    namespace: str
    name: str


KONG_GATEWAY = Gateway("kong", "kong")  # as Kong's own charts call it


@dataclass(frozen=True, slots=True)
class Backend:
    """The Service that a route leads to, its port, and its share if there are several."""

    name: str
    port: int
    weight: int | None = None


def route(
    source: Source, name: str, declared: Declaration, backends: Sequence[Backend], plugins: Attached, gateway: Gateway
) -> Body:
    """The document of one route of Kong; it has nothing but remarks if the Gateway API has no such route."""
    protocols = {*declared.get("protocols", ())}
    if protocols & _STREAMS:
        why = "TCPRoute and UDPRoute are not in the standard channel of the Gateway API: publish a port"
        return lost(f"x-kong: the route for {', '.join(sorted(protocols))}", why)
    if "expression" in declared:
        return lost("x-kong: the route by an expression", "write its matches as paths, hosts, methods and headers")
    is_grpc = bool(protocols & _GRPC)
    remarks, hosts, aliases = _hosts(declared.get("hosts", ()))
    annotations: Body = {**({f"{KONG}host-aliases": ",".join(aliases)} if aliases else {})}
    if "protocols" in declared and protocols not in (_GRPC, {"grpc"}):
        annotations[f"{KONG}protocols"] = ",".join(declared["protocols"])
    if not is_grpc:
        annotations[f"{KONG}strip-path"] = str(declared.get("strip_path", True)).lower()
    annotations[f"{KONG}preserve-host"] = str(declared.get("preserve_host", False)).lower()
    for key, annotation in _ANNOTATIONS.items():
        if key in declared:
            annotations[KONG + annotation] = str(declared[key]).lower()
    snis = [sni for sni in declared.get("snis", ()) if _SNI.fullmatch(sni)]
    if missed := [sni for sni in declared.get("snis", ()) if sni not in snis]:
        remarks |= lost(f"x-kong: snis {', '.join(missed)}", "no controller takes such a name")
    if snis:
        annotations[f"{KONG}snis"] = ",".join(snis)
    annotations |= annotations_of(plugins) | tags(declared)
    said, rules = _grpc_rules(declared) if is_grpc else _http_rules(declared, annotations)
    remarks |= said
    metadata: Body = {"name": name, "namespace": namespace(source.name)}
    metadata["labels"] = {"app.kubernetes.io/part-of": label(source.name)}
    metadata["annotations"] = annotations
    references = [
        without_empty({"name": backend.name, "port": backend.port, "weight": backend.weight}) for backend in backends
    ]
    parent = without_empty({"name": gateway.name, "namespace": gateway.namespace})
    spec: Body = {"parentRefs": [parent], "hostnames": hosts}
    spec["rules"] = [without_empty({"matches": matches, "backendRefs": references}) for matches in rules or [[]]]
    kind = "GRPCRoute" if is_grpc else "HTTPRoute"
    return {"apiVersion": GATEWAY_API, "kind": kind, "metadata": metadata} | remarks | {"spec": without_empty(spec)}


def _hosts(declared: Sequence[str]) -> tuple[Body, list[str], list[str]]:
    """Remarks, the hosts that the Gateway API takes, and those that only Kong takes."""
    names = list(dict.fromkeys(host.lower() for host in declared))
    hosts = [name for name in names if _HOST.fullmatch(name) and not re.fullmatch(r"[0-9.]+", name)][:MOST_HOSTS]
    aliases = [name for name in names if name not in hosts and _ALIAS.fullmatch(name)]
    missed = [name for name in names if name not in hosts and name not in aliases]
    found = lost(f"x-kong: hosts {', '.join(missed)}", "a host here has no port, and is no address of IPv6")
    return (found if missed else {}), hosts, aliases


# ---- HTTP ------------------------------------------------------------------------------------------------------------


def _http_rules(declared: Declaration, annotations: Body) -> tuple[Body, list[list[Body]]]:
    """Remarks, and the matches of each rule: every path with every method and every value of a header."""
    remarks: Body = {}
    methods = declared.get("methods", [])
    if not _METHODS.issuperset(methods):
        annotations[f"{KONG}methods"] = ",".join(methods)
        methods = []
    paths = [_http_path(path) for path in declared.get("paths", ())]
    if any(path is None for path in paths):
        remarks |= lost("x-kong: a path", f"a path has {LONGEST_PATH} characters at most here")
    headers, said = _headers(declared.get("headers", {}))
    ways = itertools.product([path for path in paths if path] or [{}], methods or [""], headers)
    matches = [without_empty({"path": path, "headers": list(some), "method": one}) for path, one, some in ways]
    if len(matches) > MOST_IN_ALL:
        remarks |= lost(f"x-kong: {len(matches) - MOST_IN_ALL} matches", f"a route has {MOST_IN_ALL}: split it")
        matches = matches[:MOST_IN_ALL]
    matches = [match for match in matches if match]
    rules = [matches[at : at + MOST_MATCHES] for at in range(0, len(matches), MOST_MATCHES)]
    return remarks | said, rules


def _http_path(path: str) -> Body | None:
    if path.startswith("~"):
        kind, value = "RegularExpression", path[1:]
    elif _PATH.fullmatch(path) and not _NO_PATH.search(path):
        kind, value = "PathPrefix", path
    else:
        kind, value = "RegularExpression", re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", path)
    return {"type": kind, "value": value} if len(value) <= LONGEST_PATH else None


def _headers(declared: Mapping[str, Sequence[str]]) -> tuple[list[tuple[Body, ...]], Body]:
    """Each way in which all headers match at once, and remarks."""
    remarks: Body = {}
    each: list[list[Body]] = []
    for name, values in sorted(declared.items()):
        taken = [value for value in values if 0 < len(value) <= LONGEST_HEADER and "{file://" not in value]
        if len(taken) < len(values) or not values or len(each) >= MOST_HEADERS:
            remarks |= lost(f"x-kong: headers {name}", "a value here is a text that is not empty, and no secret")
        if taken and len(each) < MOST_HEADERS:
            each.append([_header(name, value) for value in dict.fromkeys(taken)])
    return [*itertools.islice(itertools.product(*each), MOST_IN_ALL + 1)], remarks


def _header(name: str, value: str) -> Body:
    if value.startswith("~*") and len(value) > 2:
        return {"name": name, "type": "RegularExpression", "value": value[2:]}
    return {"name": name, "value": value}


# ---- gRPC ------------------------------------------------------------------------------------------------------------


def _grpc_rules(declared: Declaration) -> tuple[Body, list[list[Body]]]:
    remarks: Body = {}
    methods: list[Any] = []
    for path in declared.get("paths", ()):
        method = _grpc_method(path)
        if method is None:
            remarks |= lost(f"x-kong: the path {path}", "a route of gRPC is for a service, or for a method of one")
        else:
            methods.append(method)
    headers, said = _headers(declared.get("headers", {}))
    ways = itertools.product(methods or [None], headers)
    matches = [without_empty({"method": method, "headers": list(some)}) for method, some in ways]
    if len(matches) > MOST_IN_ALL:
        remarks |= lost(f"x-kong: {len(matches) - MOST_IN_ALL} matches", f"a route has {MOST_IN_ALL}: split it")
        matches = matches[:MOST_IN_ALL]
    if any(method == {} for method in methods) and not said and not declared.get("headers"):
        matches = []  # one path is that of all
    matches = [match for match in matches if match]
    return remarks | said, [matches[at : at + MOST_MATCHES] for at in range(0, len(matches), MOST_MATCHES)]


def _grpc_method(path: str) -> Body | None:
    """The service and the method of a path, `{}` for all of them; None if it is not one of gRPC."""
    if path == "/":
        return {}
    if len(path) > LONGEST_PATH:
        return None
    if path.startswith("~/"):
        service, slash, method = path[2:].partition("/")
        whole = not slash or "/" in method or not service
        return None if whole else without_empty({"type": "RegularExpression", "service": service, "method": method})
    found = _GRPC_PATH.fullmatch(path)
    return without_empty({"service": found[1], "method": found[2]}) if found else None


def names_of(service: str, routes: Sequence[Declaration]) -> Iterator[str]:
    """The name of each route of a service: that of the service, if there is one route without a name."""
    for number, one in enumerate(routes, 1):
        own = one.get("name") or ("" if len(routes) == 1 else str(number))
        yield label(f"{service}-{own}" if own else service)
