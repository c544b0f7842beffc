"""Whatever a Kong holds, ours and others', it is brought to what is wanted, and what is not ours is left as it was."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.model import App, Change, Resource, Service
from gitops_mvd.core.plan import Side, make_plan
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.admin import PATHS
from gitops_mvd.kong.client import Kong
from tests.fakes import ROLES
from tests.lab.kong_standin import StandIn

HOST = "web-1"
OURS = "managed-by:gitops-mvd"
THEIRS = "-0000-4000-8000-"  # in the id of everything that others have
Entities = dict[str, list[dict[str, Any]]]

# In the order in which they refer to each other.
TYPES = (
    "consumers",
    "keyauth_credentials",
    "basicauth_credentials",
    "hmacauth_credentials",
    "jwt_secrets",
    "oauth2_credentials",
    "acls",
    "ca_certificates",
    "certificates",
    "snis",
    "key_sets",
    "keys",
    "vaults",
    "upstreams",
    "targets",
    "services",
    "routes",
    "plugins",
)


@dataclass
class World:
    """A stand-in in this process, and the Admin API as an operator has it."""

    gateway: StandIn
    mode: str
    session: requests.Session

    def ask(self, method: str, path: str, body: object = None, **params: str | int) -> Any:
        answer = self.session.request(method, self.gateway.admin_url + path, json=body, params=params, timeout=10)
        assert answer.status_code < 400, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else None

    def document(self) -> dict[str, Any]:
        """Every entity, flat; without a database without `updated_at`, which Kong sets anew at every post."""
        if self.mode == "off":
            found = yaml.safe_load(self.ask("GET", "/config")["config"])
            return {type: [_without_time(one) for one in found.get(type, ())] for type in TYPES}
        found = {
            type: self.ask("GET", f"/{PATHS.get(type, type)}", size=1000)["data"] for type in TYPES if type != "targets"
        }
        paths = [f"/upstreams/{upstream['id']}/targets" for upstream in found["upstreams"]]
        found["targets"] = [target for path in paths for target in self.ask("GET", path)["data"]]
        return {type: found[type] for type in TYPES}

    def theirs(self) -> str:
        """What others have, to the byte."""
        return json.dumps(
            {type: [one for one in some if THEIRS in one["id"]] for type, some in self.document().items()}
        )

    def hold(self, entities: Entities) -> None:
        """Have these, and nothing else."""
        if self.mode == "off":
            document = {"_format_version": "3.0", **{type: some for type, some in entities.items() if some}}
            self.ask("POST", "/config", {"config": json.dumps(document)})
            return
        for type in reversed(TYPES):
            if type not in ("targets", "acls") and not type.endswith(("_credentials", "_secrets")):
                for one in self.ask("GET", f"/{PATHS.get(type, type)}", size=1000)["data"]:
                    self.ask("DELETE", f"/{PATHS.get(type, type)}/{one['id']}")
        for type in TYPES:
            for one in entities.get(type, ()):
                self.add(type, one)

    def add(self, type: str, fields: dict[str, Any]) -> None:
        links = ("service", "route", "consumer", "upstream", "certificate", "set")
        body = {
            key: {"id": value} if key in links and isinstance(value, str) else value for key, value in fields.items()
        }
        within = f"/upstreams/{fields['upstream']}" if type == "targets" else ""
        self.ask("POST", f"{within}/{PATHS.get(type, type)}", body)

    def tamper(self, type: str, number: int, change: dict[str, Any] | None) -> None:
        """Change one of ours by hand or, without a change, delete it; nothing where it cannot be done."""
        document = self.document()
        some = [one for one in document[type] if OURS in (one["tags"] or ())]
        if not some:
            return
        one = some[number % len(some)]
        if self.mode == "off":
            rest = [other for other in document[type] if other["id"] != one["id"]]
            document[type] = [*rest, {**one, **change}] if change else rest
            held = {type: some for type, some in document.items() if some}
            text = json.dumps({"_format_version": "3.0", "_transform": False, **held})
            self.session.post(f"{self.gateway.admin_url}/config", json={"config": text}, timeout=10)
            return
        within = f"/upstreams/{one['upstream']['id']}" if type == "targets" else ""
        path = f"{self.gateway.admin_url}{within}/{PATHS.get(type, type)}/{one['id']}"
        self.session.request("PATCH" if change else "DELETE", path, json=change, timeout=10)


def _without_time(one: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != "updated_at"}


@pytest.fixture(scope="module", params=["off", "postgres"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        session = stack.enter_context(requests.Session())
        session.trust_env = False
        gateway = stack.enter_context(StandIn(Path(folder), database=request.param))
        yield World(gateway, request.param, session)


# ---- what others have ------------------------------------------------------------------------------------------------

number = st.integers(0, 2)
# Texts that a reader of YAML, or of a tag, could take for something else.
odd = st.sampled_from(
    [
        *(
            "on",
            "No",
            "12:30",
            "2001-01-01",
            "0x10",
            "1e3",
            "1_000",
            "0o7",
            ".5",
            "NaN",
            "true",
            "null",
            "~",
            "=",
            "<<",
        ),
        *("#x", "ü", "'", "{}", "🙂", "!x", "&a", "*a", "%", "@", "`", "|", ">", "[", "?"),
        *("- a", "a: b", " x ", "a\nb", "\u2028", "\\u0041"),
    ]
)
tags = st.none() | st.lists(
    st.sampled_from(["on", "12:30", "team:old", "ü", "a b", "host:web-1", "app:shop", "~", "null", "managed-by:hand"]),
    max_size=3,
    unique=True,
)
CERT = "-----BEGIN CERTIFICATE-----\nMIIB{}A\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
words = st.dictionaries(st.sampled_from(["x-a", "X-Y_1"]), st.lists(odd, min_size=1, max_size=2), min_size=1)

# Fields of the N-th entity of a type; of a reference, the type that it refers to.
FIELDS: dict[str, Callable[[int], dict[str, Any]]] = {
    "consumers": lambda n: {"username": st.sampled_from([f"their-{n}", f"12:3{n}"]), "custom_id": f"0x{n}"},
    "keyauth_credentials": lambda n: {"key": st.sampled_from([f"key-{n}", f"2001-01-0{n}"])},
    "basicauth_credentials": lambda n: {"username": f"login-{n}", "password": odd},
    "hmacauth_credentials": lambda n: {"username": f"hmac-{n}", "secret": odd},
    "jwt_secrets": lambda n: {"key": f"issuer-{n}", "secret": odd},
    "oauth2_credentials": lambda n: {"name": "an app", "client_id": f"client-{n}", "client_secret": odd},
    "acls": lambda n: {"group": st.sampled_from([f"group {n}", f"{n}"])},
    "ca_certificates": lambda n: {"cert": CERT.format("ABCD"[n] * 4 + "AAA")},
    "certificates": lambda n: {"cert": CERT.format("AAAAAAA"), "key": KEY},
    "snis": lambda n: {"name": f"sni-{n}.test"},
    "key_sets": lambda n: {"name": f"set-{n}"},
    "keys": lambda n: {"name": f"key-{n}", "kid": f"k{n}", "jwk": '{"kty": "oct", "kid": "k", "k": "AAAA"}'},
    "vaults": lambda n: {"prefix": f"vault-{n}", "name": "env", "description": odd, "config": {"prefix": "A_"}},
    "upstreams": lambda n: {
        "name": f"legacy-{n}",
        "slots": st.integers(10, 99),
        "host_header": st.sampled_from([None, "a.test:80"]),
        "healthchecks": {"active": {"timeout": st.sampled_from([0.1, 1, 2.5, 65535]), "headers": words}},
    },
    "targets": lambda n: {"target": f"10.0.0.{n}:80", "weight": st.integers(0, 999)},
    "services": lambda n: {
        "name": f"legacy.svc-{n}",
        "host": st.sampled_from(["10.0.0.9", "legacy-0", "mvd.shop.web"]),
        "path": st.sampled_from([None, "/v1", "/~"]),
        "retries": st.integers(0, 32767),
    },
    "routes": lambda n: {
        "name": f"legacy~r-{n}",
        "hosts": st.sampled_from([["legacy.test"], ["*.legacy.test", "legacy.test:8000"]]),
        "paths": st.lists(st.sampled_from(["/a", "/b/c", "~/r/\\d+$", "/ö"]), max_size=2, unique=True),
        "headers": st.none() | words,
        "preserve_host": st.booleans(),
    },
    "plugins": lambda n: {
        "name": st.sampled_from(["http-log", "correlation-id"]),
        "config": {},
        "enabled": st.booleans(),
    },
}
LINKS = {
    **dict.fromkeys(
        (type for type in TYPES if type.endswith(("_credentials", "_secrets")) or type == "acls"), "consumer"
    ),
    "snis": "certificate",
    "keys": "set",
    "targets": "upstream",
    "routes": "service",
    "plugins": "service",
}


@st.composite
def foreign(draw: st.DrawFn) -> Entities:
    """A few entities of every type, each behind those that it refers to."""
    found: Entities = {}
    for type in TYPES:
        link = LINKS.get(type)
        parents = found.get({"set": "key_sets"}.get(link, f"{link}s"), ()) if link else ()
        found[type] = []
        for n in range(draw(st.integers(0, 2)) if parents or not link else 0):
            fields = {key: _drawn(draw, value) for key, value in FIELDS[type](n).items()}
            one = {"id": f"{TYPES.index(type):08x}{THEIRS}{n:012x}", **fields, "tags": draw(tags)}
            if link:
                one[link] = draw(st.sampled_from(parents))["id"]
            if type == "plugins":
                one["name"] = ("http-log", "correlation-id")[n]
                one["config"] = {"http_endpoint": "http://u:p@log.test/", "headers": {"x-a": "on"}} if n == 0 else {}
            found[type].append(one)
    return found


def _drawn(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drawn(draw, below) for key, below in value.items()}
    return draw(value) if isinstance(value, st.SearchStrategy) else value


# ---- what is ours ----------------------------------------------------------------------------------------------------

one_route = st.fixed_dictionaries(
    {"paths": st.lists(st.sampled_from(["/a", "/b/c", "/ö", "~/r/\\d+$"]), min_size=1, max_size=3, unique=True)},
    optional={
        "methods": st.lists(st.sampled_from(["GET", "POST"]), min_size=1, unique=True),
        "hosts": st.lists(st.sampled_from(["a.test", "*.b.test"]), min_size=1, unique=True),
        "headers": words,
        "tags": st.lists(st.sampled_from(["gold", "on", "ü"]), unique=True),
    },
)
plugins = st.lists(
    st.sampled_from(
        [
            {"name": "key-auth", "config": {"key_names": ["k"]}},
            {"name": "rate-limiting", "config": {"minute": 5.0, "policy": "local"}},
            {"name": "response-transformer", "config": {"add": {"headers": ["X-Z: 12:30"]}}},
        ]
    ),
    max_size=2,
    unique_by=lambda plugin: plugin["name"],
)
x_kong = st.fixed_dictionaries(
    {"routes": st.lists(one_route, min_size=1, max_size=2), "plugins": plugins},
    optional={
        "service": st.fixed_dictionaries({}, optional={"retries": st.integers(0, 5), "path": st.just("/v1")}),
        "upstream": st.fixed_dictionaries({"slots": st.integers(10, 99)}),
    },
)
gateways = st.fixed_dictionaries(
    {},
    optional={
        "consumers": st.lists(
            st.fixed_dictionaries(
                {"username": st.sampled_from(["bob", "eve", "on"])},
                optional={
                    "tags": st.just(["gold"]),
                    "acls": st.just([{"group": "staff"}]),
                    "basicauth_credentials": odd.map(lambda word: [{"username": "bob", "password": word}]),
                },
            ),
            max_size=1,
        ),
        "plugins": st.just([{"name": "cors", "config": {"origins": ["*"], "max_age": 5}}]),
    },
)


def _of(services: dict[str, Any], gateway: dict[str, Any]) -> list[App]:
    made = [
        Service(name, "shop:1", kong={"port": 80, "protocol": "http", **kong})
        for name, kong in sorted(services.items())
    ]
    return [App("shop", tuple(made)), App("gateway", kong_entities=gateway)]


states = st.builds(_of, st.dictionaries(st.sampled_from(["web", "a.b"]), x_kong, max_size=2), gateways)
changes = st.one_of(
    st.tuples(st.just("routes"), number, st.sampled_from([{"paths": ["/elsewhere"]}, {"tags": ["mine"]}, None])),
    st.tuples(st.just("services"), number, st.sampled_from([{"retries": 9}, {"tags": None}, {"name": "taken-away"}])),
    st.tuples(st.just("upstreams"), number, st.sampled_from([{"slots": 11}, {"tags": []}])),
    st.tuples(st.just("targets"), number, st.sampled_from([{"weight": 7}, {"tags": None}, None])),
    st.tuples(st.just("plugins"), number, st.sampled_from([{"enabled": False}, {"tags": ["x"]}, None])),
    st.tuples(st.just("consumers"), number, st.sampled_from([{"tags": None}, {"custom_id": "9"}, None])),
    st.tuples(st.just("acls"), number, st.none()),
)


def placed(routes: Routes, app: App, port: int) -> list[Resource]:
    found = []
    for resource in routes.wanted(app):
        targets = [{**one, "address": f"127.0.0.1:{port + n}"} for n, one in enumerate(resource.spec["targets"])]
        found.append(resource.with_spec(targets=targets))
    return found


def plan(app: App, wanted: list[Resource], routes: Routes) -> list[Change]:
    found = [resource for resource in routes.observe() if resource.app == app.name]
    steps = make_plan([Side(app, list(wanted), list(found), proven=True)], ROLES)
    return [step for step in steps if isinstance(step, Change)]


def apply(world: World, apps: list[App], port: int) -> list[Resource]:
    """By a client that knows nothing yet; all that is wanted now."""
    routes = Routes(Kong(world.gateway.admin_url), HOST)
    found = []
    for app in apps:
        wanted = placed(routes, app, port)
        routes.apply(plan(app, wanted, routes))
        found += wanted
    return found


@given(
    theirs=foreign(),
    before=states,
    tampered=st.lists(changes, max_size=3),
    after=states,
    port=st.integers(20000, 20003),
)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
# What it has found: a folder kong/ that declares nothing was to be made again at every look, and a text of others that
# a reader could take for a number came back as one.  An upstream that lost its tags is new to us, but not its targets.
@example(theirs={}, before=_of({}, {}), tampered=[], after=_of({}, {"consumers": []}), port=20000)
@example(
    theirs={"vaults": [{"id": f"0000000c{THEIRS}{0:012x}", "prefix": "v0", "name": "env", "description": "1e3"}]},
    before=_of({}, {"consumers": [{"username": "bob"}]}),
    tampered=[],
    after=_of({}, {"consumers": [{"username": "eve"}]}),
    port=20000,
)
@example(
    theirs={},
    before=_of({"web": {"routes": [{"paths": ["/a"]}]}}, {}),
    tampered=[("targets", 0, {"tags": None}), ("upstreams", 0, {"tags": []})],
    after=_of({}, {}),
    port=20000,
)
def test_whatever_is_there_is_brought_to_what_is_wanted_and_no_further(
    world: World, theirs: Entities, before: list[App], tampered: list[Any], after: list[App], port: int
) -> None:
    world.hold(theirs)
    untouched = world.theirs()
    apply(world, before, 20001)
    for change in tampered:
        world.tamper(*change)
    brought(world, before, 20001)  # mended
    brought(world, after, port)
    assert world.theirs() == untouched
    brought(world, [App("shop"), App("gateway")], port)
    assert world.theirs() == untouched


def brought(world: World, apps: list[App], port: int) -> None:
    """Bring it there, see that it is there, and that a second time finds nothing to do and does nothing."""
    wanted = apply(world, apps, port)
    routes = Routes(Kong(world.gateway.admin_url), HOST)
    assert {one.name: one for one in routes.observe()} == {one.name: one for one in wanted}
    changes = world.gateway.changes
    assert [change for app in apps for change in plan(app, placed(routes, app, port), routes)] == []
    routes.apply([Change(one, one) for one in wanted])
    assert world.gateway.changes == changes
