"""The plugins that the stand-in enforces; the others are stored, returned, and inert."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from aiohttp import web
from multidict import CIMultiDict

from tests.lab.kong_standin.routing import Match, View
from tests.lab.kong_standin.rules import Record
from tests.lab.kong_standin.schema import PLUGINS
from tests.lab.kong_standin.store import Store, hash_password

PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "month": 2_592_000, "year": 31_536_000}
UNITS = {"bytes": 1, "kilobytes": 2**10, "megabytes": 2**20}


class Reply(Exception):
    """The gateway answers by itself, without asking the service."""

    def __init__(self, status: int, message: str | None, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message or "")
        self.status = status
        self.message = message
        self.headers = list(headers)
        self.body: bytes | None = None


@dataclass
class Exchange:
    """One request on its way: what the policies read, and what they change before it goes on."""

    request: web.BaseRequest
    view: View
    match: Match
    usage: dict[tuple[str, ...], int]
    headers: CIMultiDict[str]
    query: str
    id: str
    consumer: Record | None = None
    credential: Record | None = None
    answer_headers: list[tuple[str, str]] = field(default_factory=list)

    @property
    def client(self) -> str:
        return self.request.remote or "127.0.0.1"

    @property
    def store(self) -> Store:
        return self.view.store

    def arguments(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query, keep_blank_values=True)

    def is_preflight(self) -> bool:
        headers = self.request.headers
        asks = "Origin" in headers and "Access-Control-Request-Method" in headers
        return self.request.method == "OPTIONS" and asks

    def authenticate(self, credential: Record, identifier: str) -> None:
        """The consumer is known from here on, and told to the service."""
        self.credential = credential
        self.consumer = self.store.get("consumers", credential["consumer"]["id"])
        self.headers["X-Consumer-ID"] = self.consumer["id"]
        for header, name in (("X-Consumer-Username", "username"), ("X-Consumer-Custom-ID", "custom_id")):
            if self.consumer[name]:
                self.headers[header] = self.consumer[name]
        self.headers["X-Credential-Identifier"] = identifier


def correlation_id(exchange: Exchange, config: Record) -> None:
    name = config["header_name"]
    exchange.headers.setdefault(name, str(uuid.uuid4()))
    if config["echo_downstream"]:
        exchange.answer_headers.append((name, exchange.headers[name]))


def cors(exchange: Exchange, config: Record) -> None:
    if not exchange.is_preflight() or config["preflight_continue"]:
        return
    asked = exchange.request.headers
    headers = [("Access-Control-Allow-Methods", ",".join(config["methods"]))]
    allowed = ",".join(config["headers"] or ()) or asked.get("Access-Control-Request-Headers", "")
    if allowed:
        headers.append(("Access-Control-Allow-Headers", allowed))
    if config["max_age"] is not None:
        headers.append(("Access-Control-Max-Age", str(config["max_age"])))
    raise Reply(200, None, headers)


def cors_answer(exchange: Exchange, config: Record, headers: CIMultiDict[str]) -> None:
    origins, origin = config["origins"] or ["*"], exchange.request.headers.get("Origin", "")
    if "*" in origins:
        allowed = origin if config["credentials"] and origin else "*"
    elif len(origins) == 1 and re.fullmatch(r"[A-Za-z0-9.:/-]+", origins[0]):
        allowed = origins[0]
    else:
        allowed = origin if any(re.fullmatch(pattern, origin) for pattern in origins) else ""
    headers.popall("Access-Control-Allow-Origin", None)
    if allowed:
        headers["Access-Control-Allow-Origin"] = allowed
        if config["credentials"] and allowed != "*":
            headers["Access-Control-Allow-Credentials"] = "true"
    if allowed != "*":
        headers.add("Vary", "Origin")
    if config["exposed_headers"] and not exchange.is_preflight():
        headers["Access-Control-Expose-Headers"] = ",".join(config["exposed_headers"])


def key_auth(exchange: Exchange, config: Record) -> None:
    if exchange.request.method == "OPTIONS" and not config["run_on_preflight"]:
        return
    refusal = [("WWW-Authenticate", f'Key realm="{config["realm"]}"' if config["realm"] else "Key")]
    keys: list[str] = []
    for name in config["key_names"]:
        if config["key_in_header"]:
            keys = exchange.request.headers.getall(name, [])
        if not keys and config["key_in_query"]:
            keys = [value for key, value in exchange.arguments() if key == name]
        if keys:
            break
    if len(keys) > 1:
        raise Reply(401, "Duplicate API key found", refusal)
    credential = exchange.store.by("keyauth_credentials", key=keys[0]) if keys and keys[0] else None
    if credential:
        if config["hide_credentials"]:
            exchange.headers.popall(name, None)
            exchange.query = urlencode([pair for pair in exchange.arguments() if pair[0] != name])
        exchange.authenticate(credential, credential["id"])
    elif not _admit_anonymous(exchange, config):
        raise Reply(401, "Unauthorized" if keys and keys[0] else "No API key found in request", refusal)


def basic_auth(exchange: Exchange, config: Record) -> None:
    refusal = [("WWW-Authenticate", f'Basic realm="{config["realm"]}"')]
    scheme, _, given = exchange.request.headers.get("Authorization", "").partition(" ")
    username, password = "", ""
    if scheme.lower() == "basic":
        try:
            username, _, password = base64.b64decode(given).decode().partition(":")
        except ValueError:
            username = ""
    credential = exchange.store.by("basicauth_credentials", username=username) if username else None
    if credential and credential["password"] == hash_password(password, credential["consumer"]["id"]):
        if config["hide_credentials"]:
            exchange.headers.popall("Authorization", None)
        exchange.authenticate(credential, credential["username"])
    elif not _admit_anonymous(exchange, config):
        raise Reply(401, "Unauthorized", refusal)


def _admit_anonymous(exchange: Exchange, config: Record) -> bool:
    """Another method authenticated the request already, or there is a consumer for whoever did not."""
    if config["anonymous"] and exchange.consumer is None:
        exchange.consumer = exchange.store.find("consumers", config["anonymous"])
        exchange.headers["X-Anonymous-Consumer"] = "true"
    return bool(config["anonymous"]) and exchange.consumer is not None


def ip_restriction(exchange: Exchange, config: Record) -> None:
    client = ipaddress.ip_address(exchange.client)

    def listed(ranges: list[str] | None) -> bool:
        return any(client in ipaddress.ip_network(each, strict=False) for each in ranges or ())

    if listed(config["deny"]) or (config["allow"] and not listed(config["allow"])):
        status = int(config["status"] or 403)
        raise Reply(status, config["message"] or f"IP address not allowed: {exchange.client}")


def request_size_limiting(exchange: Exchange, config: Record) -> None:
    length = exchange.request.content_length
    if length is None and exchange.request.body_exists and config["require_content_length"]:
        raise Reply(411, "A valid Content-Length header is required")
    if (length or 0) > config["allowed_payload_size"] * UNITS[config["size_unit"]]:
        raise Reply(413, "Request size limit exceeded")


def acl(exchange: Exchange, config: Record) -> None:
    if exchange.consumer is None:
        raise Reply(401, "Unauthorized")
    owner = {"id": exchange.consumer["id"]}
    groups = {entry["group"] for entry in exchange.store.all("acls") if entry["consumer"] == owner}
    allowed = groups & set(config["allow"] or ()) if config["allow"] else not groups & set(config["deny"])
    if not allowed:
        raise Reply(403, "You cannot consume this service")
    if not config["hide_groups_header"] and groups:
        exchange.headers["X-Consumer-Groups"] = ", ".join(sorted(groups))


def rate_limiting(exchange: Exchange, config: Record) -> None:
    now = int(time.time())
    scope = (exchange.match.route["id"], config["limit_by"], _identifier(exchange, config))
    strictest: tuple[int, int, int] | None = None
    headers: list[tuple[str, str]] = []
    windows: list[tuple[str, ...]] = []
    exceeded = False
    for period, seconds in PERIODS.items():
        limit = config[period]
        if limit is None:
            continue
        window: tuple[str, ...] = (*scope, period, str(now // seconds))
        windows.append(window)
        remaining = int(limit) - exchange.usage.get(window, 0)
        exceeded = exceeded or remaining <= 0
        remaining = max(0, remaining - 1)
        title = period.capitalize()
        headers += [(f"X-RateLimit-Limit-{title}", f"{limit}"), (f"X-RateLimit-Remaining-{title}", f"{remaining}")]
        if strictest is None or remaining <= strictest[1]:
            strictest = (limit, remaining, seconds - now % seconds)
    if strictest:
        names = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
        headers += [(name, str(value)) for name, value in zip(names, strictest, strict=True)]
    if config["hide_client_headers"]:
        headers = []
    exchange.answer_headers += headers
    if exceeded:
        if headers and strictest:
            exchange.answer_headers.append(("Retry-After", str(strictest[2])))
        raise Reply(int(config["error_code"]), config["error_message"])
    for counted in windows:
        exchange.usage[counted] = exchange.usage.get(counted, 0) + 1


def _identifier(exchange: Exchange, config: Record) -> str:
    """Who is counted; the client's address where nothing better is known."""
    service = exchange.match.service
    known = {
        "consumer": exchange.consumer["id"] if exchange.consumer else None,
        "credential": exchange.credential["id"] if exchange.credential else None,
        "service": service["id"] if service else None,
        "header": exchange.request.headers.get(config["header_name"] or ""),
        "path": config["path"] if exchange.request.path == config["path"] else None,
    }
    return known.get(config["limit_by"]) or exchange.client


def request_transformer(exchange: Exchange, config: Record) -> None:
    _transform(exchange.headers, {step: config[step]["headers"] for step in STEPS})
    changes = {step: config[step]["querystring"] for step in STEPS}
    if any(changes.values()):
        arguments = CIMultiDict(exchange.arguments())
        _transform(arguments, changes)
        exchange.query = urlencode(list(arguments.items()))


def response_transformer(exchange: Exchange, config: Record, headers: CIMultiDict[str]) -> None:
    _transform(headers, {step: config[step]["headers"] for step in STEPS})


STEPS = ("remove", "rename", "replace", "add", "append")


def _transform(fields: CIMultiDict[str], changes: dict[str, list[str]]) -> None:
    """Kong's five steps over named values, in its order; all but `remove` are written `name:value`."""
    for name in changes["remove"]:
        fields.popall(name, None)
    for step in STEPS[1:]:
        for name, _, value in (entry.partition(":") for entry in changes[step]):
            if step == "rename" and name in fields:
                fields[value] = fields.pop(name)
            elif (step == "replace" and name in fields) or (step == "add" and name not in fields):
                fields[name] = value
            elif step == "append":
                fields.add(name, value)


def request_termination(exchange: Exchange, config: Record) -> None:
    trigger = config["trigger"]
    if trigger and trigger not in exchange.request.headers and trigger not in dict(exchange.arguments()):
        return
    status = config["status_code"]
    reply = Reply(status, None)
    if config["body"] is not None:
        reply.headers = [("Content-Type", config["content_type"] or "application/json; charset=utf-8")]
        reply.body = config["body"].encode()
    else:
        reply.headers = [("Content-Type", "application/json; charset=utf-8")]
        message = config["message"] or HTTPStatus(status).phrase
        reply.body = json.dumps({"message": message}).encode()
    raise reply


class Policy(NamedTuple):
    """A plugin in action: on the request, before it goes on, and on the answer's headers."""

    name: str
    access: Callable[[Exchange, Record], None] | None = None
    answer: Callable[[Exchange, Record, CIMultiDict[str]], None] | None = None


# In the order of Kong's own plugin priorities.
POLICIES = (
    Policy("correlation-id", correlation_id),
    Policy("cors", cors, cors_answer),
    Policy("key-auth", key_auth),
    Policy("basic-auth", basic_auth),
    Policy("ip-restriction", ip_restriction),
    Policy("request-size-limiting", request_size_limiting),
    Policy("acl", acl),
    Policy("rate-limiting", rate_limiting),
    Policy("request-transformer", request_transformer),
    Policy("response-transformer", None, response_transformer),
    Policy("request-termination", request_termination),
)
INERT = sorted(PLUGINS.keys() - {policy.name for policy in POLICIES} - {"udp-log"})  # which is in access_log.py


def config_of(policy: Policy, exchange: Exchange) -> dict[str, Any] | None:
    """The config by which a policy holds for this request; None where it does not."""
    match = exchange.match
    plugin = exchange.view.plugin(policy.name, route=match.route, service=match.service, consumer=exchange.consumer)
    return plugin["config"] if plugin else None
