"""Routes in a Kong, in both of its modes: the laws of a Kind, over HTTP, against a stand-in or a real one."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.errors import NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Health, Json, Resource, Service
from gitops_mvd.core.plan import Side, make_plan
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.admin import PATHS, Admin
from gitops_mvd.kong.client import Entity, Kong
from gitops_mvd.kong.database import RESCAN_EVERY
from tests.contract.gateway import Gateway
from tests.fakes import ROLES

HOST = "web-1"


class Wire(http.server.ThreadingHTTPServer):
    """A wire to a gateway's Admin API that counts the calls, and fails those that `fails` picks with a 500.

    `retells` may tell the client something else than was answered.
    When it `hangs_up`, connections that were promised to be kept are closed after each answer.
    `breaks` says how a call is broken off: it `hangs`, and after it was carried out it `hangs up` or `trickles`.
    It is so many seconds `later` than by the gateway's clock.
    """

    daemon_threads = True

    def __init__(self, gateway: Gateway) -> None:
        self.calls: list[str] = []
        self.fails: Callable[[str], bool] = lambda call: False
        self.retells: Callable[[bytes], bytes] = lambda content: content
        self.hangs_up = False
        self.failure = b"{}"
        self.breaks: Callable[[str], str] = lambda call: ""
        self.later = 0.0
        wire = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet

            def carry(self) -> None:
                call = f"{self.command} {self.path}"
                wire.calls.append(call)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content, trouble = 500, wire.failure, wire.breaks(call)
                if not wire.fails(call) and trouble != "hangs":
                    headers = {"Content-Type": "application/json"}
                    answer = gateway.session.request(
                        self.command, gateway.admin + self.path, data=body, headers=headers, timeout=10
                    )
                    status, content = answer.status_code, wire.retells(answer.content)
                if trouble in {"hangs", "hangs up"}:
                    time.sleep(0.3 if trouble == "hangs" else 0)
                    self.close_connection = True
                    return
                self.send_response(status)
                if status not in {204, 304}:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if trouble == "trickles":
                    self.wfile.flush()
                    time.sleep(0.8)
                self.wfile.write(content)
                self.close_connection = self.close_connection or wire.hangs_up

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + wire.later)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = carry

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def wire(gateway: Gateway) -> Iterator[Wire]:
    with Wire(gateway) as wire:
        yield wire
        wire.shutdown()


@pytest.fixture
def routes(gateway: Gateway) -> Routes:
    return Routes(Kong(gateway.admin, gateway.proxy), HOST)


def service(name: str = "web", **kong: Any) -> Service:
    return Service(name, "shop:1", kong={"port": 80, "protocol": "http", "routes": [{"paths": [f"/{name}"]}], **kong})


def placed(routes: Routes, app: App, port: int = 20000) -> list[Resource]:
    """What is wanted, with the addresses that the planner would give."""
    placed = []
    for resource in routes.wanted(app):
        targets = [{**t, "address": f"127.0.0.1:{port + n}"} for n, t in enumerate(resource.spec["targets"])]
        placed.append(resource.with_spec(targets=targets))
    return placed


def apply(routes: Routes, app: App, port: int = 20000) -> list[Resource]:
    """Plan and apply; what was wanted."""
    wanted = placed(routes, app, port)
    routes.apply(changes(routes, app, wanted))
    return wanted


def prepare(routes: Routes, app: App) -> None:
    """Plan, and ask whether it is possible."""
    routes.prepare(changes(routes, app, placed(routes, app, 20000)))


def changes(routes: Routes, app: App, wanted: list[Resource]) -> list[Change]:
    found = [resource for resource in routes.observe() if resource.app == app.name]
    return [step for step in make_plan([Side(app, wanted, found, proven=True)], ROLES) if isinstance(step, Change)]


def by_name(resources: Any) -> dict[str, Resource]:
    return {resource.name: resource for resource in resources}


FOREIGN = {
    "services": [{"name": "legacy", "host": "10.0.0.9", "tags": ["team:old"], "path": "/v1"}],
    "upstreams": [{"name": "2001-01-01", "tags": ["12:30", "on"]}],
    "consumers": [{"username": "yes", "custom_id": "0x10"}],
}


def make_foreign(gateway: Gateway) -> None:
    if gateway.mode == "off":
        return gateway.load(FOREIGN)
    for type, entities in FOREIGN.items():
        for entity in entities:
            gateway.ask("POST", f"/{type}", json=entity)
    return None


def foreign(gateway: Gateway) -> dict[str, list[dict[str, Any]]]:
    """All that has no tag of ours; Kong without a database sets `updated_at` anew on everything at every post."""
    return {
        type: [
            {key: value for key, value in entity.items() if key != "updated_at"}
            for entity in gateway.all(type)
            if "managed-by:gitops-mvd" not in (entity["tags"] or [])
        ]
        for type in ("services", "routes", "upstreams", "plugins", "consumers")
    }


# ---- the laws of a kind ----------------------------------------------------------------------------------------------


def test_what_was_applied_is_what_is_observed(routes: Routes) -> None:
    app = App("shop", (service(plugins=[{"name": "rate-limiting", "config": {"minute": 5, "policy": "local"}}]),))
    assert by_name(apply(routes, app)) == by_name(routes.observe())


def test_applying_twice_is_applying_once(gateway: Gateway, routes: Routes) -> None:
    change = Change(None, placed(routes, App("shop", (service(),)))[0])
    routes.apply([change])
    there = gateway.all("routes")
    routes.apply([change])
    assert gateway.all("routes") == there


def test_after_a_delete_nothing_is_left(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", (service(upstream={"slots": 100}, plugins=[{"name": "key-auth"}]), service("api")))
    apply(routes, app)
    apply(routes, App("shop", (service("api"),)))
    assert [entity["name"] for entity in gateway.all("services")] == ["mvd.shop.api"]
    apply(routes, App("shop"))
    assert list(routes.observe()) == []
    for type in ("services", "routes", "plugins", "upstreams"):
        assert gateway.all(type) == []


def test_what_is_not_ours_is_never_seen_and_stays_as_it_was(gateway: Gateway, routes: Routes) -> None:
    make_foreign(gateway)
    before = foreign(gateway)
    assert sum(map(len, before.values())) == 3
    assert list(routes.observe()) == []
    apply(routes, App("shop", (service(),)))
    assert foreign(gateway) == before
    apply(routes, App("shop"))
    assert foreign(gateway) == before


def test_another_host_s_entities_are_not_ours(gateway: Gateway, routes: Routes) -> None:
    apply(Routes(Kong(gateway.admin), "web-2"), App("other", (service(routes=[{"paths": ["/other"]}]),)))
    assert list(routes.observe()) == []
    apply(routes, App("shop", (service(),)))
    assert [entity["name"] for entity in gateway.all("services") if "host:web-2" in entity["tags"]] == ["mvd.other.web"]


def test_a_second_plan_is_empty_whatever_kong_fills_in(routes: Routes) -> None:
    plugins = [
        {"name": "request-transformer", "config": {"add": {"headers": ["X-B: 2", "X-A: 1"]}}},
        {"name": "cors", "config": {"max_age": 3600.0, "origins": ["*"]}, "protocols": ["https", "http"]},
    ]
    kong = {
        "service": {"read_timeout": 5000, "path": None},
        "routes": [
            {"name": "main", "paths": ["/b", "/a"], "headers": {"x-v_1": ["2", "1"]}, "methods": ["PUT", "GET"]}
        ],
        "plugins": plugins,
        "upstream": {"healthchecks": {"active": {"healthy": {"interval": 5, "http_statuses": [302, 200]}}}},
    }
    app = App("shop", (service(**kong),))
    wanted = apply(routes, app)
    found = list(routes.observe())
    assert found == wanted
    assert not make_plan([Side(app, list(wanted), list(found), proven=True)], ROLES)


# ---- tampering -------------------------------------------------------------------------------------------------------


def tamper(gateway: Gateway, type: str, change: Json | None) -> None:
    """Change, or without a change delete, the one entity of a type by hand."""
    if gateway.mode == "postgres":
        (entity,) = gateway.all(type)
        gateway.ask("PATCH" if change else "DELETE", f"/{type}/{entity['id']}", json=change)
    else:
        document = gateway.config()
        document[type] = [{**document[type][0], **change}] if change else []
        gateway.load({**document, "_transform": False})


@pytest.mark.parametrize(
    ("type", "change"),
    [
        ("routes", {"paths": ["/elsewhere"]}),
        ("routes", None),
        ("routes", {"name": "mine"}),
        ("services", {"read_timeout": 1}),
        ("plugins", {"enabled": False}),
        ("plugins", {"config": {"minute": 6, "policy": "local"}}),
        ("plugins", None),
        ("upstreams", {"slots": 10}),
    ],
)
def test_tampering_is_seen_and_mended(gateway: Gateway, routes: Routes, type: str, change: Json | None) -> None:
    plugin = {"name": "rate-limiting", "enabled": True, "config": {"minute": 5, "policy": "local"}}
    app = App("shop", (service(service={"read_timeout": 9}, upstream={"slots": 100}, plugins=[plugin]),))
    wanted = apply(routes, app)
    tamper(gateway, type, change)
    assert list(routes.observe()) != wanted
    apply(routes, app)
    assert list(routes.observe()) == wanted


def test_a_default_changed_by_hand_is_no_difference(gateway: Gateway, routes: Routes) -> None:
    wanted = apply(routes, App("shop", (service(),)))
    tamper(gateway, "services", {"retries": 1})
    assert list(routes.observe()) == wanted


def test_a_target_changed_by_hand_is_seen_and_mended(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", (service(),))
    wanted = apply(routes, app)
    assert list(routes.observe()) == wanted
    if gateway.mode == "off":
        document = gateway.config()
        document["targets"][0]["weight"] = 0
        gateway.load({**document, "_transform": False})
    else:
        path = "/upstreams/mvd.shop.web/targets/127.0.0.1:20000"
        gateway.ask("PATCH", path, json={"weight": 0})
    looks = [found.spec["targets"][0] for _ in range(RESCAN_EVERY) for found in routes.observe()]
    assert ("127.0.0.1:20000", 0) in [(target["address"], target.get("weight")) for target in looks]
    apply(routes, app)
    assert list(routes.observe()) == wanted


def test_a_target_deleted_by_hand_is_seen_among_many(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", tuple(service(f"s{n}") for n in range(5)))
    wanted = by_name(apply(routes, app))
    assert by_name(routes.observe()) == wanted
    if gateway.mode == "off":
        document = gateway.config()
        document["targets"] = document["targets"][:-1]
        gateway.load({**document, "_transform": False})
    else:
        gateway.ask("DELETE", "/upstreams/mvd.shop.s3/targets/127.0.0.1:20000")
    assert by_name(routes.observe()) != wanted
    apply(routes, app)
    assert by_name(routes.observe()) == wanted


def test_a_target_that_lost_its_tags_is_mended_and_one_of_somebody_else_stays(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", (service(),))
    wanted = apply(routes, app)
    if gateway.mode == "off":
        document = gateway.config()
        (ours,) = document["targets"]
        theirs = {"target": "10.0.0.9:80", "upstream": ours["upstream"], "tags": ["canary"]}
        gateway.load({**document, "targets": [{**ours, "tags": None}, theirs], "_transform": False})
    else:
        path = "/upstreams/mvd.shop.web/targets"
        gateway.ask("PATCH", f"{path}/127.0.0.1:20000", json={"tags": None})
        gateway.ask("POST", path, json={"target": "10.0.0.9:80", "tags": ["canary"]})
    assert list(routes.observe()) != wanted
    apply(routes, app)
    assert list(routes.observe()) == wanted
    targets = gateway.ask("GET", "/upstreams/mvd.shop.web/targets")["data"]
    assert sorted(target["target"] for target in targets) == ["10.0.0.9:80", "127.0.0.1:20000"]


def test_a_kong_that_lost_everything_is_filled_again(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", (service(),))
    apply(routes, app)
    gateway.clear()
    assert list(routes.observe()) == []
    wanted = apply(routes, app)
    assert list(routes.observe()) == wanted


# ---- the gateway's own entities --------------------------------------------------------------------------------------

GATEWAY = App(
    "gateway",
    kong_entities={
        "consumers": [
            {
                "username": "bob",
                "tags": ["gold"],
                "keyauth_credentials": [{"key": "key-of-bob"}],
                "acls": [{"group": "internal"}],
                "plugins": [{"name": "rate-limiting", "config": {"minute": 7, "policy": "local"}}],
            },
            {"username": "eve", "jwt_secrets": [{"key": "issuer-of-eve", "secret": "secret-of-eve"}]},
        ],
        "plugins": [{"name": "http-log", "config": {"http_endpoint": "http://log:token-of-log@127.0.0.1/"}}],
    },
)
SECRETS = ("key-of-bob", "issuer-of-eve", "secret-of-eve", "token-of-log")


def test_consumers_credentials_and_global_plugins_are_one_resource(gateway: Gateway, routes: Routes) -> None:
    wanted = apply(routes, GATEWAY)
    assert list(routes.observe()) == wanted
    assert [entity["key"] for entity in gateway.all("key-auths")] == ["key-of-bob"]
    apply(routes, App("gateway"))
    assert list(routes.observe()) == []
    assert gateway.all("consumers") == gateway.all("key-auths") == gateway.all("plugins") == []


def test_a_password_is_hashed_once_and_compared_by_its_hash(gateway: Gateway, routes: Routes) -> None:
    login = {"username": "bob-login", "password": "password-of-bob"}
    wanted = apply(
        routes, App("gateway", kong_entities={"consumers": [{"username": "bob", "basicauth_credentials": [login]}]})
    )
    assert "password-of-bob" not in repr(wanted)
    (basic,) = gateway.all("basic-auths")
    salted = "password-of-bob" + basic["consumer"]["id"]
    assert basic["password"] == hashlib.sha1(salted.encode()).hexdigest()
    assert list(routes.observe()) == wanted


def test_a_renamed_consumer_keeps_its_key(gateway: Gateway, routes: Routes) -> None:
    def app(name: str) -> App:
        return App(
            "gateway", kong_entities={"consumers": [{"username": name, "keyauth_credentials": [{"key": "the-key"}]}]}
        )

    apply(routes, app("bob"))
    wanted = apply(routes, app("rob"))
    assert list(routes.observe()) == wanted
    (consumer,), (key,) = gateway.all("consumers"), gateway.all("key-auths")
    assert (consumer["username"], key["consumer"]["id"]) == ("rob", consumer["id"])


def test_a_changed_credential_is_seen(gateway: Gateway, routes: Routes) -> None:
    apply(routes, GATEWAY)
    tamper(gateway, "jwt_secrets" if gateway.mode == "off" else "jwts", {"secret": "another"})
    (found,) = routes.observe()
    assert found != placed(routes, GATEWAY)[0]


def test_no_secret_is_in_a_spec_or_told(routes: Routes) -> None:
    for resource in (*apply(routes, GATEWAY), *routes.observe()):
        told = repr(resource) + json.dumps(resource.spec) + str(resource.payload)
        assert not [secret for secret in SECRETS if secret in told]


def test_a_refusal_does_not_echo_a_secret(routes: Routes) -> None:
    plugin = {"name": "http-log", "config": {"http_endpoint": "no-url-but-a-secret", "method": "s3cret"}}
    with pytest.raises(StepFailed, match=r"plugin http-log: .*config\.http_endpoint") as refused:
        apply(routes, App("gateway", kong_entities={"plugins": [plugin]}))
    assert "secret" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


# ---- refusals and clashes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kong", "sentence"),
    [
        ({"plugins": [{"name": "no-such"}]}, "Kong rejects plugin no-such: name: plugin 'no-such' not enabled"),
        ({"routes": [{"paths": ["no-slash"]}]}, "Kong rejects route mvd.shop.web.1: paths.*: should start with: /"),
        ({"routes": [{}]}, "Kong rejects route mvd.shop.web.1: must set one of 'methods', 'hosts'"),
        ({"service": {"colour": "red"}}, "Kong rejects service mvd.shop.web: colour: unknown field"),
    ],
)
def test_what_kong_refuses_is_named_before_anything_is_written(
    gateway: Gateway, routes: Routes, kong: Json, sentence: str
) -> None:
    for step in (prepare, apply):
        with pytest.raises(StepFailed, match=sentence):
            step(routes, App("shop", (service("fine"), service(**kong))))
        assert gateway.all("services") == gateway.all("upstreams") == []


def test_a_clash_names_what_is_there_and_touches_nothing(gateway: Gateway, routes: Routes) -> None:
    theirs = {"name": "mvd.shop.web", "host": "10.0.0.9", "tags": ["team:old"]}
    if gateway.mode == "off":
        gateway.load({"services": [theirs]})
    else:
        gateway.ask("POST", "/services", json=theirs)
    before = foreign(gateway)
    for step in (prepare, apply):
        with pytest.raises(
            NotNow,
            match=f"service mvd.shop.web .* not managed by .*: {gateway.all('services')[0]['id']}, .*team:old",
        ):
            step(routes, App("shop", (service(),)))
        assert foreign(gateway) == before
        assert gateway.all("upstreams") == []


def add_foreign(gateway: Gateway, **document: list[dict[str, Any]]) -> None:
    if gateway.mode == "off":
        return gateway.load(document)
    for type, entities in document.items():
        for entity in entities:
            gateway.ask("POST", f"/{PATHS.get(type, type)}", json=entity)
    return None


@pytest.mark.parametrize(
    ("theirs", "sentence"),
    [
        ({"paths": ["/old", "/web"]}, "the route /web of shop.web is also matched by the route legacy in Kong"),
        (
            {"paths": ["/web"], "protocols": ["https"]},
            "the route /web of shop.web is also matched by the route legacy in Kong",
        ),
        ({"paths": ["/web"], "tags": ["managed-by:gitops-mvd", "host:web-2"]}, "which is managed by the host web-2"),
        ({"paths": ["/web"], "methods": ["GET"]}, ""),
        ({"paths": ["/web"], "hosts": ["a.test"]}, ""),
        ({"paths": ["/web"], "headers": {"x-a": ["1"]}}, ""),
        ({"paths": ["/web/"]}, ""),
    ],
)
def test_a_route_that_matches_the_requests_of_an_unmanaged_one_is_refused(
    gateway: Gateway, routes: Routes, theirs: Json, sentence: str
) -> None:
    add_foreign(gateway, services=[{"name": "old", "host": "10.0.0.9"}])
    behind = gateway.all("services")[0]["id"]
    route = {"name": "legacy", "service": behind if gateway.mode == "off" else {"id": behind}, **theirs}
    add_foreign(gateway, **({"services": gateway.all("services")} if gateway.mode == "off" else {}), routes=[route])
    before = gateway.all("routes")
    if not sentence:
        apply(routes, App("shop", (service(),)))
        return
    for step in (prepare, apply):
        with pytest.raises(NotNow, match=sentence):
            step(routes, App("shop", (service(),)))
        assert gateway.all("routes") == before
        assert gateway.all("upstreams") == []


def test_a_route_is_compared_in_all_that_it_matches(gateway: Gateway, routes: Routes) -> None:
    match = {"hosts": ["A.test"], "paths": ["/a"], "methods": ["GET"], "headers": {"X-V": ["2", "1"]}}
    add_foreign(gateway, routes=[{**match, "hosts": ["a.TEST"], "headers": {"x-v": ["1", "2"]}, "regex_priority": 7}])
    (legacy,) = gateway.all("routes")
    with pytest.raises(StepFailed, match=f"route GET a.test/a of shop.web is also matched by the route {legacy['id']}"):
        apply(routes, App("shop", (service(routes=[match]),)))


def test_a_route_that_stays_is_not_compared(gateway: Gateway, wire: Wire) -> None:
    """It was there first; and what is asked of Kong at every look stays as little as it was."""
    routes = Routes(Kong(wire.url), HOST)
    app = App("shop", (service(),))
    (wanted,) = apply(routes, app)
    rival = {"name": "legacy", "paths": ["/web"]}
    if gateway.mode == "off":
        gateway.load({**gateway.config(), "routes": [*gateway.config()["routes"], rival], "_transform": False})
    else:
        gateway.ask("POST", "/routes", json=rival)
    wire.calls.clear()
    routes.apply([Change(None, wanted.with_spec(targets=[{"instance": "next", "address": "127.0.0.1:20001"}]))])
    assert [call for call in wire.calls if call.startswith("GET /routes") and "tags=" not in call] == []
    with pytest.raises(StepFailed, match="legacy"):
        apply(routes, App("shop", (service(routes=[{"paths": ["/web", "/more"]}]),)))


SECRET_KEY = "key-of-somebody-else"
CONSUMER = {"username": "their-bob", "custom_id": "7"}


@pytest.mark.parametrize(
    ("ours", "sentence"),
    [
        ({"username": "their-bob"}, "consumer their-bob is already in Kong and not managed by gitops-mvd"),
        (
            {"username": "bob", "custom_id": "7"},
            "consumer bob has the custom_id of consumer their-bob, which is in Kong",
        ),
        (
            {"username": "bob", "keyauth_credentials": [{"key": SECRET_KEY}]},
            "keyauth_credential .* has the key of keyauth_credential .*, which is in Kong and not managed",
        ),
    ],
)
def test_what_kong_lets_exist_only_once_is_told_before_anything_is_written(
    gateway: Gateway, routes: Routes, ours: Json, sentence: str
) -> None:
    if gateway.mode == "off":
        add_foreign(gateway, consumers=[{**CONSUMER, "keyauth_credentials": [{"key": SECRET_KEY}]}])
    else:
        add_foreign(gateway, consumers=[CONSUMER])
        gateway.ask("POST", "/consumers/their-bob/key-auth", json={"key": SECRET_KEY})
    before = gateway.all("consumers")
    with pytest.raises(StepFailed, match=sentence) as refused:
        apply(routes, App("gateway", kong_entities={"consumers": [{"username": "fine"}, ours]}))
    assert SECRET_KEY not in str(refused.value)
    assert gateway.all("consumers") == before


def test_a_consumer_under_a_new_name_keeps_its_custom_id(gateway: Gateway, routes: Routes) -> None:
    def app(name: str) -> App:
        consumer = {"username": name, "custom_id": "7", "keyauth_credentials": [{"key": "the-key"}]}
        return App("gateway", kong_entities={"consumers": [consumer]})

    apply(routes, app("bob"))
    wanted = apply(routes, app("rob"))
    assert list(routes.observe()) == wanted
    assert [(one["username"], one["custom_id"]) for one in gateway.all("consumers")] == [("rob", "7")]
    assert [one["key"] for one in gateway.all("key-auths")] == ["the-key"]


def test_many_new_ones_are_checked_in_few_calls(gateway: Gateway, wire: Wire) -> None:
    routes = Routes(Kong(wire.url), HOST)
    assert list(routes.observe()) == []
    wire.calls.clear()
    routes.apply(
        [Change(None, route) for route in placed(routes, App("shop", tuple(service(f"s{n}") for n in range(20))))]
    )
    asked = [call for call in wire.calls if call.startswith("GET")]
    assert len(asked) <= (1 if gateway.mode == "off" else 7), asked
    assert gateway.mode == "postgres" or sum(call.startswith("POST") for call in wire.calls) == 1


def test_apps_that_come_at_once_are_posted_together_and_a_refused_one_holds_up_no_other(
    gateway: Gateway, wire: Wire
) -> None:
    routes = Routes(Kong(wire.url), HOST)
    apps = [App(f"shop{n}", (service(routes=[{"paths": [f"/{n}" if n != 3 else "no-slash"]}]),)) for n in range(8)]
    failures: dict[str, str] = {}

    def settle(app: App) -> None:
        try:
            routes.apply([Change(None, route) for route in placed(routes, app)])
        except StepFailed as failure:
            failures[app.name] = str(failure)

    threads = [threading.Thread(target=settle, args=(app,)) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert list(failures) == ["shop3"]
    assert "route mvd.shop3.web.1: paths: should start with: /" in failures["shop3"]
    assert {one["name"] for one in gateway.all("services")} == {f"mvd.shop{n}.web" for n in range(8) if n != 3}
    assert {one.name for one in routes.observe()} == {f"shop{n}.web" for n in range(8) if n != 3}


def test_many_apps_take_few_posts(gateway: Gateway, wire: Wire) -> None:
    if gateway.mode == "postgres":
        return
    routes = Routes(Kong(wire.url), HOST)
    apps = [App(f"shop{n}", (service(routes=[{"paths": [f"/{n}"]}]),)) for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda app: routes.apply([Change(None, route) for route in placed(routes, app)]), apps))
    assert len(list(routes.observe())) == len(apps)
    assert sum(call.startswith("POST") for call in wire.calls) <= 32


def test_apps_that_come_at_once_share_what_is_read_of_a_database(gateway: Gateway, wire: Wire) -> None:
    if gateway.mode == "off":
        return
    routes = Routes(Kong(wire.url), HOST)
    assert list(routes.observe()) == []
    wire.calls.clear()
    apps = [App(f"shop{n}", (service(routes=[{"paths": [f"/{n}"]}]),)) for n in range(32)]
    with ThreadPoolExecutor(len(apps)) as pool:
        list(pool.map(lambda app: routes.apply([Change(None, route) for route in placed(routes, app)]), apps))
    lists = sum(call.startswith("GET /services?") for call in wire.calls)
    assert lists <= len(apps) // 2, lists
    assert len(list(routes.observe())) == len(apps)


def test_what_does_not_refer_to_each_other_is_written_side_by_side(gateway: Gateway, wire: Wire) -> None:
    if gateway.mode == "off":
        return
    together, order = threading.Barrier(3), []

    def met(call: str) -> str:
        method, _, path = call.partition(" ")
        if method in ("PUT", "DELETE") or path.endswith("/targets"):
            order.append(f"{method} {path.split('/')[1]}{' targets' if 'targets' in path else ''}")
            together.wait(20)  # which raises if the other two are not asked for at the same time
        return ""

    wire.breaks = met
    routes = Routes(Kong(wire.url), HOST)
    apply(routes, App("shop", tuple(service(name) for name in ("a", "b", "c"))))
    apply(routes, App("shop"))
    written = ("PUT upstreams", "POST upstreams targets", "PUT services", "PUT routes")
    removed = ("DELETE routes", "DELETE services", "DELETE upstreams targets", "DELETE upstreams")
    assert order == [call for call in (*written, *removed) for _ in range(3)]


def test_of_what_is_written_side_by_side_one_failure_ends_the_rest(gateway: Gateway, wire: Wire) -> None:
    app = App("shop", tuple(service(f"s{n}") for n in range(50)))
    routes = Routes(Kong(wire.url), HOST)
    wire.fails = lambda call: call.startswith(("PUT /services", "POST /config"))
    with pytest.raises(Unavailable, match="answers HTTP 500 to"):
        apply(routes, app)
    assert sum(call.startswith("PUT /services") for call in wire.calls) < 50
    assert not any(call.startswith("PUT /routes") for call in wire.calls)
    wire.fails = lambda call: False
    wanted = apply(routes, app)
    assert by_name(routes.observe()) == by_name(wanted)


@pytest.mark.parametrize("order", [("bob", "rob"), ("rob", "bob")])
def test_a_value_that_passes_from_one_to_another_needs_no_order(
    gateway: Gateway, routes: Routes, order: tuple[str, str]
) -> None:
    def app(custom_id_of: str) -> App:
        consumers = [{"username": name, "custom_id": "7" if name == custom_id_of else name} for name in order]
        return App("gateway", kong_entities={"consumers": consumers})

    apply(routes, app("bob"))
    wanted = apply(routes, app("rob"))
    assert list(routes.observe()) == wanted
    assert {one["username"]: one["custom_id"] for one in gateway.all("consumers")} == {"bob": "bob", "rob": "7"}


def test_what_was_found_possible_is_not_checked_again(gateway: Gateway, wire: Wire) -> None:
    routes, app = Routes(Kong(wire.url), HOST), App("shop", (service(plugins=[{"name": "cors"}]),))
    prepare(routes, app)
    checked = [call for call in wire.calls if "validate" in call]
    assert sorted(checked) == ["POST /schemas/plugins/validate", "POST /schemas/routes/validate"]
    apply(routes, app)
    assert [call for call in wire.calls if "validate" in call] == checked
    assert len(gateway.all("routes")) == 1


def test_only_what_is_changed_is_checked_and_written(gateway: Gateway, wire: Wire) -> None:
    routes = Routes(Kong(wire.url), HOST)
    plugin = {"name": "rate-limiting", "config": {"minute": 5, "policy": "local"}}
    more = [service(f"s{n}") for n in range(5)]
    apply(routes, App("shop", (service(plugins=[plugin]), *more)))
    wire.calls.clear()
    changed = {**plugin, "config": {"minute": 6, "policy": "local"}}
    apply(routes, App("shop", (service(plugins=[changed]), *more)))
    told = [call.partition("?")[0] for call in wire.calls if not call.startswith("GET")]
    (plugin_there,) = gateway.all("plugins")
    one_by_one = ["POST /schemas/plugins/validate", f"PUT /plugins/{plugin_there['id']}"]
    assert told == (["POST /config"] if gateway.mode == "off" else one_by_one)


def test_an_entity_of_ours_that_lost_its_tags_is_mended(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", (service(),))
    wanted = apply(routes, app)
    tamper(gateway, "services", {"tags": ["mine"]})
    assert list(routes.observe()) != wanted
    apply(routes, app)
    assert list(routes.observe()) == wanted


# ---- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("plugins", "calls"), [([], 4), ([{"name": "key-auth"}], 5)])
def test_a_look_that_finds_nothing_new_takes_few_calls(
    gateway: Gateway, wire: Wire, plugins: list[Json], calls: int
) -> None:
    routes = Routes(Kong(wire.url), HOST)
    apply(routes, App("shop", tuple(service(f"s{n}", plugins=plugins) for n in range(5))))
    list(routes.observe())
    wire.calls.clear()
    for _ in range(RESCAN_EVERY):
        assert len(list(routes.observe())) == 5
    one_turn = 1
    assert len(wire.calls) == (RESCAN_EVERY if gateway.mode == "off" else RESCAN_EVERY * calls + one_turn), wire.calls
    assert all(call.startswith("GET ") for call in wire.calls)


def test_what_stays_the_same_is_not_made_anew(gateway: Gateway, routes: Routes) -> None:
    kong = Kong(gateway.admin)
    apply(routes, App("shop", (service(), service("api"))))
    before = kong.observe(HOST)
    assert kong.observe(HOST) is before
    apply(routes, App("shop", (service(), service("api", service={"retries": 1}))))
    after = kong.observe(HOST)
    assert after is kong.observe(HOST) is not before
    assert sum(entity not in before for entity in after) == 1 or gateway.mode == "off"


def test_what_was_just_posted_need_not_be_read(gateway: Gateway, wire: Wire) -> None:
    routes = Routes(Kong(wire.url), HOST)
    wanted = apply(routes, App("shop", (service(),)))
    wire.calls.clear()
    assert list(routes.observe()) == wanted
    assert gateway.mode == "postgres" or wire.calls == ["GET /status"]


def test_pages_are_followed(gateway: Gateway) -> None:
    routes = Routes(Kong(gateway.admin, page_size=2), HOST)
    app = App("shop", tuple(service(f"s{n}") for n in range(5)))
    wanted = by_name(apply(routes, app))
    assert by_name(routes.observe()) == wanted
    assert by_name(Routes(Kong(gateway.admin, page_size=2), HOST).observe()) == wanted


def test_wherever_kong_fails_the_route_serves_and_the_next_pass_does_the_rest(
    gateway: Gateway, wire: Wire, behind: int
) -> None:
    old = App("shop", (service(plugins=[{"name": "cors"}]),))
    changed = {**service(upstream={"slots": 99}).kong, "plugins": [{"name": "cors", "enabled": False}]}  # type: ignore[dict-item]
    new = App("shop", (Service("web", "shop:2", kong=changed),))
    for calls in itertools.count():
        apply(Routes(Kong(gateway.admin), HOST), old, behind)
        gateway.await_route("/web")
        routes = Routes(Kong(wire.url), HOST)
        left = iter(range(calls))
        wire.fails = lambda call, left=left: not call.startswith("GET") and next(left, None) is None
        try:
            apply(routes, new, behind)
            break
        except Unavailable:
            assert gateway.statuses("/web") == {200}
        wire.fails = lambda call: False
        wanted = apply(routes, new, behind)
        assert list(routes.observe()) == wanted
    assert calls == 1 if gateway.mode == "off" else calls > 3


@pytest.mark.parametrize("trouble", ["hangs", "hangs up", "trickles"])
def test_wherever_kong_breaks_off_the_route_serves_and_the_next_pass_does_the_rest(
    gateway: Gateway, wire: Wire, behind: int, trouble: str
) -> None:
    """At each call in turn, those that only read among them; what was asked may have been done or not."""
    old, new = App("shop", (service(),)), App("shop", (service(upstream={"slots": 99}, plugins=[{"name": "cors"}]),))
    for calls in itertools.count():
        apply(Routes(Kong(gateway.admin), HOST), old, behind)
        gateway.await_route("/web")
        routes = Routes(Kong(wire.url, timeout=0.5), HOST)
        left = iter(range(calls))
        broken: list[str] = []  # the first, and from then on all

        def breaks(call: str, left: Any = left, broken: list[str] = broken) -> str:
            if broken or next(left, None) is None:
                broken.append(call)
            return trouble if broken else ""

        wire.breaks = breaks
        told = ""
        try:
            apply(routes, new, behind)
        except Unavailable as error:
            told = str(error)
        wire.breaks = lambda call: ""
        if not told:
            break
        assert re.search(r"does not answer within 0\.5 s|closes the connection", told), (
            told
        )  # a document is waited for much longer
        assert gateway.statuses("/web") == {200}
        wanted = apply(routes, new, behind)
        assert list(routes.observe()) == wanted
    assert calls > 4


def test_a_database_that_is_read_only_is_waited_for(gateway: Gateway, wire: Wire, behind: int) -> None:
    """Kong answers so whatever its database complains about, and tells the cause to its log alone."""
    old, new = App("shop", (service(plugins=[{"name": "cors"}]),)), App("shop", (service(upstream={"slots": 99}),))
    apply(Routes(Kong(gateway.admin), HOST), old, behind)
    gateway.await_route("/web")
    routes = Routes(Kong(wire.url), HOST)
    wire.failure = b'{"message":"An unexpected error occurred"}'
    wire.fails = lambda call: not call.startswith("GET") and "/schemas/" not in call
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"HTTP 500 to .*: An unexpected error occurred .Kong's own log says why"):
            apply(routes, new, behind)
        assert gateway.statuses("/web") == {200}
    wire.fails = lambda call: False
    wanted = apply(routes, new, behind)
    assert list(routes.observe()) == wanted


def test_a_kong_that_comes_back_empty_half_way_is_filled_by_the_next_pass(
    gateway: Gateway, wire: Wire, behind: int
) -> None:
    app = App("shop", (service(), service("api", plugins=[{"name": "cors"}])))
    for calls in range(1, 9):
        gateway.clear()
        routes = Routes(Kong(wire.url), HOST)
        left = iter(range(calls))

        def loses(call: str, left: Any = left) -> bool:
            if call.startswith("GET") or next(left, None) is not None:
                return False
            gateway.clear()
            wire.fails = lambda call: False
            return True

        wire.fails = loses
        with contextlib.suppress(Unavailable, StepFailed):
            apply(routes, app, behind)
        wire.fails = lambda call: False
        wanted = apply(routes, app, behind)
        assert by_name(routes.observe()) == by_name(wanted)
    gateway.await_route("/web")


BAD = {
    "a plugin that is not there": {"plugins": [{"name": "no-such"}]},
    "a config that its schema refuses": {"plugins": [{"name": "rate-limiting", "config": {"minute": "often"}}]},
    "a plugin twice": {"plugins": [{"name": "cors"}, {"name": "cors"}]},
    "a route without anything to match": {"routes": [{"protocols": ["http"]}]},
    "a path that begins with nothing": {"routes": [{"paths": ["shop"]}]},
}


@pytest.mark.parametrize("kong", BAD.values(), ids=BAD)
def test_what_kong_refuses_leaves_the_old_route_serving_and_its_cause_is_one_sentence(
    gateway: Gateway, routes: Routes, behind: int, kong: Json
) -> None:
    wanted = apply(routes, App("shop", (service(),)), behind)
    gateway.await_route("/web")
    with pytest.raises(StepFailed) as refused:
        apply(routes, App("shop", (service(**kong),)), behind)
    told = str(refused.value)
    assert re.search(r"(plugin (no-such|rate-limiting|cors)|route mvd\.shop\.web\.1)\b", told), told
    assert "\n" not in told
    assert len(told) < 300
    assert list(routes.observe()) == wanted
    assert gateway.statuses("/web") == {200}


def test_a_name_that_does_not_resolve_is_a_fault_of_its_own_route_alone(
    gateway: Gateway, routes: Routes, behind: int
) -> None:
    apply(routes, App("shop", (service(),)), behind)
    nowhere = {"name": "nowhere", "host": "no-such-host.invalid", "routes": [{"name": "n", "paths": ["/nowhere"]}]}
    app = App("gateway", kong_entities={"services": [{**nowhere, "retries": 0, "connect_timeout": 500}]})
    wanted = apply(routes, app)
    assert by_name(routes.observe())["gateway"] == wanted[0]
    gateway.await_route("/nowhere", {502, 503})
    assert gateway.statuses("/web") == {200}


def test_a_kept_connection_that_kong_closed_is_made_anew(gateway: Gateway, wire: Wire) -> None:
    routes = Routes(Kong(wire.url), HOST)
    wire.hangs_up = True
    wanted = apply(routes, App("shop", (service(),)))
    assert list(routes.observe()) == wanted


def test_a_kong_that_hangs_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kong = Kong(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
        with pytest.raises(Unavailable, match=r"does not answer within 0\.3 s"):
            kong.observe(HOST)


def test_what_is_declared_twice_is_refused(gateway: Gateway, routes: Routes) -> None:
    key = {"keyauth_credentials": [{"key": "shared-key"}]}
    with pytest.raises(StepFailed, match="the consumers bob and eve have the same keyauth_credential"):
        apply(
            routes,
            App("gateway", kong_entities={"consumers": [{"username": "bob", **key}, {"username": "eve", **key}]}),
        )
    assert gateway.all("consumers") == []


def test_a_kong_that_is_down_is_unavailable_and_not_empty() -> None:
    routes = Routes(Kong("http://127.0.0.1:1", "http://127.0.0.1:1"), HOST)
    with pytest.raises(Unavailable, match="cannot be reached"):
        list(routes.observe())
    (route,) = routes.wanted(App("shop", (service(),)))
    assert Kong("http://127.0.0.1:1", "http://127.0.0.1:1").answers(route)[0] is Health.UNKNOWN


def test_a_kong_that_came_back_in_the_other_mode_is_asked_again(gateway: Gateway, wire: Wire, routes: Routes) -> None:
    kong = Kong(wire.url)
    assert kong.observe(HOST) == []
    wire.fails = lambda call: True
    with pytest.raises(Unavailable):
        kong.observe(HOST)
    wire.fails = lambda call: False
    wire.calls.clear()
    kong.observe(HOST)
    assert wire.calls[0] == "GET /"


# ---- switching and asking --------------------------------------------------------------------------------------------


class App200(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def behind() -> Iterator[int]:
    """The port of an app that answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), App200) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def eventually(ask: Callable[[], tuple[Health, str]], health: Health, within: float = 10.0) -> str:
    end = time.monotonic() + within
    while (answer := ask())[0] is not health:
        assert time.monotonic() < end, answer
        time.sleep(0.05)
    return answer[1]


def test_a_route_is_proven_by_a_request_through_each_worker(gateway: Gateway, behind: int) -> None:
    gateway.await_route("/web", {404})
    kong = Kong(gateway.admin, gateway.proxy)
    (route,) = placed(Routes(kong, HOST), App("shop", (service(),)), behind)
    health, why, _ = kong.answers(route)
    assert (health, why) == (Health.PROGRESSING, "Kong has no route for GET /web yet")
    Routes(kong, HOST).apply([Change(None, route)])
    assert kong.answers(route)[0] is Health.PROGRESSING, "its workers take a while"
    eventually(lambda: kong.answers(route)[:2], Health.HEALTHY)
    assert gateway.statuses("/web") == {200}, "each worker was asked"


def test_a_kong_that_does_not_tell_its_workers_is_given_the_time_that_they_take(
    gateway: Gateway, wire: Wire, behind: int
) -> None:
    wire.retells = lambda content: content.replace(b'"workers"', b'"others"')
    kong = Kong(wire.url, gateway.proxy)
    (route,) = apply(Routes(kong, HOST), App("shop", (service(),)), behind)
    eventually(lambda: kong.answers(route)[:2], Health.HEALTHY)
    assert gateway.statuses("/web") == {200}


def test_a_switch_counts_once_kong_uses_it(gateway: Gateway, behind: int) -> None:
    kong = Kong(gateway.admin, gateway.proxy)
    routes = Routes(kong, HOST)
    apply(Routes(Kong(gateway.admin), HOST), App("shop", (service(),)), 1)
    gateway.await_route("/web", {502})
    (route,) = apply(routes, App("shop", (service(),)), behind)
    eventually(lambda: kong.answers(route)[:2], Health.HEALTHY)
    assert gateway.statuses("/web") == {200}, "each worker uses it"
    assert kong.answers(route)[2], "an instance was asked"


def test_other_nodes_are_given_the_time_to_poll_a_database(gateway: Gateway, wire: Wire, behind: int) -> None:
    wire.retells = lambda content: content.replace(b'"db_update_frequency":5', b'"db_update_frequency":1')
    kong = Kong(wire.url, gateway.proxy)
    (route,) = apply(Routes(kong, HOST), App("shop", (service(),)), behind)
    written = time.monotonic()
    assert kong.everywhere(route)[0] is Health.PROGRESSING
    eventually(lambda: kong.everywhere(route), Health.HEALTHY, within=5)
    assert time.monotonic() - written > {"off": 0.05, "postgres": 1.0}[gateway.mode]


def test_an_auth_plugin_proves_the_route(gateway: Gateway, routes: Routes, behind: int) -> None:
    gateway.await_route("/web", {404})
    kong = Kong(gateway.admin, gateway.proxy)
    app = App("shop", (service(plugins=[{"name": "key-auth"}]),))
    (route,) = apply(routes, app, behind)
    eventually(lambda: kong.answers(route)[:2], Health.HEALTHY)
    assert not kong.answers(route)[2], "no instance was asked"


def test_a_route_to_nothing_is_not_healthy(gateway: Gateway, routes: Routes) -> None:
    kong = Kong(gateway.admin, gateway.proxy)
    (route,) = apply(routes, App("shop", (service(),)), port=1)
    gateway.await_route("/web", {502})
    health, why, _ = kong.answers(route)
    assert health is Health.PROGRESSING
    assert "502" in why


def test_a_route_that_no_request_can_prove_is_looked_up(gateway: Gateway, routes: Routes) -> None:
    kong = Kong(gateway.admin, gateway.proxy)
    app = App("shop", (service(service={}, routes=[{"paths": ["/pay"], "methods": ["POST"]}]),))
    (route,) = placed(routes, app)
    assert kong.answers(route)[0] is Health.PROGRESSING
    apply(routes, app)
    assert kong.answers(route)[0] is Health.HEALTHY


def test_a_route_that_no_request_gets_through_is_switched_without_waiting_for_a_balancer(
    gateway: Gateway, behind: int
) -> None:
    """Behind an auth plugin, nothing is balanced before the first request of a client who may ask."""
    kong = Kong(gateway.admin, gateway.proxy)
    routes, app = Routes(kong, HOST), App("shop", (service(plugins=[{"name": "key-auth"}]),))
    for port in (behind, behind + 1, behind + 2):  # of each replica in turn
        (route,) = apply(routes, app, port)  # raises Unavailable, if it waited in vain
        eventually(lambda route=route: kong.answers(route)[:2], Health.HEALTHY)


def test_a_target_that_a_worker_does_not_balance_over_yet_is_waited_for(
    gateway: Gateway, wire: Wire, routes: Routes, behind: int
) -> None:
    if gateway.mode == "off":
        pytest.skip("a Kong without a database takes all targets with one document")
    apply(routes, App("shop", (service(),)), behind)
    gateway.await_route("/web")  # so each worker has a balancer
    wire.retells = lambda content: content.replace(b'"HEALTHCHECKS_OFF"', b'"DNS_ERROR"')
    with pytest.raises(Unavailable, match=rf"does not use the target 127\.0\.0\.1:{behind + 1} within 5 s"):
        apply(Routes(Kong(wire.url), HOST), App("shop", (service(),)), behind + 1)
    assert gateway.statuses("/web") <= {200, 502}, "the old target is still there"


class Silent(http.server.BaseHTTPRequestHandler):
    """An app that answers once it is told to, and keeps its connections."""

    protocol_version = "HTTP/1.1"
    asked, may_answer = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        self.asked.set()
        self.may_answer.wait(20)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_kong_tells_whether_a_request_is_open(gateway: Gateway, routes: Routes) -> None:
    kong = Kong(gateway.admin, gateway.proxy)
    kong.observe(HOST)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as app, ThreadPoolExecutor() as pool:
        threading.Thread(target=app.serve_forever, args=(0.05,), daemon=True).start()
        apply(routes, App("shop", (service(),)), app.server_port)
        Silent.may_answer.set()
        gateway.await_route("/web")
        assert kong.was_idle(), "although it keeps connections to the app"
        Silent.may_answer.clear()
        Silent.asked.clear()
        answer = pool.submit(requests.get, f"{gateway.proxy}/web", timeout=20)
        assert Silent.asked.wait(10)
        assert not kong.was_idle(), "the app was asked, and has sent nothing yet"
        Silent.may_answer.set()
        assert answer.result().status_code == 200
        assert kong.was_idle()
        app.shutdown()


@pytest.mark.parametrize(
    ("told", "instead"),
    [
        (b'"workers"', b'"others"'),
        (b'"stream_listen":["off"]', b'"stream_listen":["0.0.0.0:9000"]'),
        (b'"version":"3', b'"version":"2'),
        (b'"database":', b'"legacy_worker_events":true, "database":'),
        (b'"connections_writing":', b'"connections_written":'),
    ],
)
def test_a_kong_that_does_not_count_all_of_its_requests_is_never_taken_for_idle(
    gateway: Gateway, wire: Wire, told: bytes, instead: bytes
) -> None:
    wire.retells = lambda content: content.replace(told, instead)
    kong = Kong(wire.url, gateway.proxy)
    kong.observe(HOST)
    assert not kong.was_idle()


def test_switching_targets_loses_no_request(gateway: Gateway, routes: Routes, behind: int) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), App200) as second:
        threading.Thread(target=second.serve_forever, args=(0.05,), daemon=True).start()
        first, other = service(), Service("web", "shop:2", kong=service().kong)
        apply(routes, App("shop", (first,)), behind)
        gateway.await_route("/web")
        statuses: list[int] = []
        done = threading.Event()

        def ask() -> None:
            with requests.Session() as session:
                while not done.is_set():
                    statuses.append(session.get(f"{gateway.proxy}/web", timeout=5).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        for version, port in [(other, second.server_port), (first, behind)] * 5:
            apply(routes, App("shop", (version,)), port)
            enough, end = len(statuses) + 3, time.monotonic() + 5
            while len(statuses) < enough and time.monotonic() < end:
                time.sleep(0.005)
        done.set()
        asking.join()
        second.shutdown()
    assert len(statuses) >= 30
    assert set(statuses) == {200}


# ---- any state to any state ------------------------------------------------------------------------------------------

names = st.sampled_from(["web", "api", "a.b", "x_y"])
one_route = st.fixed_dictionaries(
    {
        "paths": st.lists(
            st.sampled_from(["/a", "/b/c", "/ö", "/a%2F c", "~/r/\\d+$"]), min_size=1, max_size=3, unique=True
        )
    },
    optional={
        "methods": st.lists(st.sampled_from(["GET", "POST", "PUT"]), min_size=1, unique=True),
        "hosts": st.lists(st.sampled_from(["a.test", "*.b.test"]), min_size=1, unique=True),
        "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.just(["1", "0"]), min_size=1),
        "strip_path": st.booleans(),
        "regex_priority": st.integers(0, 9),
        "tags": st.lists(st.sampled_from(["gold", "team:a b", "ü"]), unique=True),
    },
)
plugin = st.sampled_from(
    [
        {"name": "key-auth", "config": {"key_names": ["k", "apikey"]}},
        {"name": "rate-limiting", "config": {"minute": 5, "policy": "local"}},
        {"name": "response-transformer", "config": {"add": {"headers": ["X-Y: yes", "X-Z: 12:30"]}}},
    ]
)
plugins = st.lists(plugin, max_size=2, unique_by=lambda plugin: plugin["name"])
one_service = st.fixed_dictionaries(
    {"routes": st.lists(st.builds(lambda r, p: {**r, "plugins": p}, one_route, plugins), min_size=1, max_size=2)},
    optional={
        "plugins": plugins,
        "service": st.fixed_dictionaries({}, optional={"retries": st.integers(0, 5), "path": st.just("/v1")}),
        "upstream": st.fixed_dictionaries(
            {}, optional={"slots": st.integers(10, 99), "algorithm": st.just("round-robin")}
        ),
    },
)
apps = st.builds(
    lambda services: App("shop", tuple(service(name, **kong) for name, kong in services.items())),
    st.dictionaries(names, one_service, max_size=3),
)


@given(history=st.lists(apps, min_size=1, max_size=3), port=st.integers(20000, 20100))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_state_is_brought_to_any_other(gateway: Gateway, history: list[App], port: int) -> None:
    gateway.clear()
    make_foreign(gateway)
    before = foreign(gateway)
    routes = Routes(Kong(gateway.admin), HOST)
    for app in history:
        wanted = apply(routes, app, port)
        for looking in (routes, Routes(Kong(gateway.admin), HOST)):
            found = list(looking.observe())
            assert by_name(found) == by_name(wanted)
            assert not make_plan([Side(app, list(wanted), list(found), proven=True)], ROLES)
        assert foreign(gateway) == before


# ---- what a real Kong answered ---------------------------------------------------------------------------------------


class Recording(http.server.ThreadingHTTPServer):
    """Answers with exchanges that were recorded from a real Kong, and keeps what it got."""

    daemon_threads = True

    def __init__(self, mode: str, *names: str) -> None:
        exchanges = json.loads((Path(__file__).parent / "fixtures" / "kong" / f"{mode}.json").read_text())["exchanges"]
        picked = [exchange for exchange in exchanges if exchange["name"] in names]
        assert len(picked) == len(names)
        answers = {(e["request"]["method"], e["request"]["path"]): e["response"] for e in picked}
        self.got: list[Any] = []
        recording = self

        class Handler(http.server.BaseHTTPRequestHandler):
            wbufsize = -1

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                recording.got.append(json.loads(body or b"null"))
                path = self.path.partition("?")[0]
                response = answers.get((self.command, path), {"status": 200, "body": {}})
                content = json.dumps(response["body"]).encode()
                self.send_response(response["status"])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def test_the_document_of_a_real_kong_is_posted_back_as_it_was_with_ours_in_it() -> None:
    with Recording("dbless", "node information", "status after config", "get config") as kong:
        Routes(Kong(kong.url), HOST).apply(
            [Change(None, placed(Routes(None, HOST), App("shop", (service("api"),)))[0])]
        )
        posted = json.loads(kong.got[-1]["config"])
        kong.shutdown()
    exchanges = json.loads((Path(__file__).parent / "fixtures/kong/dbless.json").read_text())["exchanges"]
    (recorded,) = [e["response"]["body"]["config"] for e in exchanges if e["name"] == "get config"]
    for type, entities in yaml.safe_load(recorded).items():
        assert type in {"_format_version", "_transform"} or posted[type][: len(entities)] == entities
    assert [entity["name"] for entity in posted["services"]] == ["mvd.shop.web", "mvd.shop.api"]
    assert posted["_transform"] is False


@pytest.mark.parametrize(
    ("mode", "exchange", "call", "sentence"),
    [
        ("postgres", "plugin with bad config", "/routes/mvd.shop.web/plugins", "config.minute: expected a number"),
        (
            "postgres",
            "route without match criteria",
            "/services/mvd.shop.web/routes",
            "must set one of 'methods', 'hosts'",
        ),
        (
            "postgres",
            "service with bad field",
            "/services",
            "colour: unknown field; name: invalid value|name: .*; colour:",
        ),
        ("postgres", "validate route by schema", "/schemas/routes/validate", "paths: should start with: /"),
        ("postgres", "config in db mode", "/config", "only available when Kong is configured to not use a database"),
        ("dbless", "bad config: unknown field", "/config", r"services\[0\].colour: unknown field"),
        ("dbless", "bad config: duplicate names", "/config", r"services\[1\]: uniqueness violation: 'services' entity"),
        ("dbless", "target health put", "/upstreams/mvd.shop.web/targets/127.0.0.1:8805/unhealthy", "no healthchecker"),
    ],
)
def test_a_refusal_of_a_real_kong_becomes_one_sentence(mode: str, exchange: str, call: str, sentence: str) -> None:
    with Recording(mode, exchange) as kong:
        entity = Entity("services", {"id": "1", "name": "web"})
        method = "PUT" if call.endswith("unhealthy") else "POST"
        with pytest.raises(StepFailed, match=f"Kong rejects service web: .*({sentence})"):
            Admin(kong.url).write(method, call, entity, entity.fields)
        kong.shutdown()


class Replay(http.server.ThreadingHTTPServer):
    """Says what a real Kong said, exchange by exchange, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.script: list[dict[str, Any]] = []  # exchanges to come
        self.asked: list[str] = []
        replay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                response, asked = replay.script.pop(0)["response"], f"{self.command} {self.path.partition('?')[0]}"
                replay.asked.append(asked)
                content = b"" if response["body"] is None else json.dumps(response["body"]).encode()
                self.send_response(response["status"])
                if response["status"] not in {204, 304}:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


def understood(admin: Admin, request: Json) -> object:
    """What the client makes of the answer to a request, by the call of its own that asks so."""
    method, path, body = request["method"], request["path"], request.get("body") or {}
    entity = Entity(path.removeprefix("/schemas").split("/")[1], {"id": "1", **body})
    match method, path:
        case "GET", "/config":
            return admin.document()
        case "GET", _ if path in {"/", "/status"} or re.fullmatch(r"/(services|schemas/plugins)/\S+", path):
            return admin.get(path)
        case "GET", _:
            return admin.pages(path, params=request.get("params"))
        case "POST", "/config":
            return admin.load(body.get("config", ""), [])
        case "POST", _ if path.endswith("/validate"):
            return admin.check(entity)
        case "DELETE", _:
            return admin.delete(path)
    return admin.write(method, path, entity, body)


@pytest.mark.parametrize("mode", ["dbless", "postgres"])
def test_every_recorded_answer_of_a_real_kong_is_understood(mode: str) -> None:
    exchanges = json.loads((Path(__file__).parent / "fixtures/kong" / f"{mode}.json").read_text())["exchanges"]
    with Replay() as kong:
        admin = Admin(f"http://127.0.0.1:{kong.server_port}")
        for exchange in exchanges:
            name, request, response = (exchange[key] for key in ("name", "request", "response"))
            kong.script, kong.asked = [exchange], []
            writes = request["method"] in {"PUT", "PATCH"} or (
                request["method"] == "POST" and request["path"] != "/config" and "/validate" not in request["path"]
            )
            if response["status"] == 200 and isinstance(response["body"], dict) and response["body"].get("next"):
                continue  # the page that follows is another exchange: the next test has both
            if response["status"] in {400, 405}:
                with pytest.raises(StepFailed, match=r"^Kong rejects ") as refused:
                    understood(admin, request)
                assert "HTTP 4" not in str(refused.value), f"{name}: Kong has said why"
            elif response["status"] in {404, 409} and writes:
                assert understood(admin, request) is False, name
            else:
                made = understood(admin, request)
                if writes:
                    assert made is True, name
                elif isinstance(made, list):
                    assert [entry for page in made for entry in page.entries] == response["body"]["data"], name
                elif request["method"] == "GET" or (request["path"] == "/config" and response["status"] != 304):
                    assert made == response["body"], name
                else:
                    assert made is None, name
            assert kong.asked == [f"{request['method']} {request['path']}"], name
        kong.shutdown()


def test_the_pages_of_a_real_kong_are_followed_to_their_end() -> None:
    """Its next page comes without the size that was asked for."""
    exchanges = json.loads((Path(__file__).parent / "fixtures/kong/postgres.json").read_text())["exchanges"]
    first, second = (e for e in exchanges if e["name"] in ("list by one tag, page of 2", "next page"))
    with Replay() as kong:
        kong.script = [first, second]
        entries = list(Admin(f"http://127.0.0.1:{kong.server_port}").entries("/services"))
        kong.shutdown()
    assert entries == [*first["response"]["body"]["data"], *second["response"]["body"]["data"]]


def test_what_a_real_kong_holds_is_looked_at_as_it_is() -> None:
    """Its document, with defaults and times and in its own YAML, and the hash that it tells."""
    names = ("node information", "status after config", "get config")
    with Recording("dbless", *names) as kong:
        client = Kong(kong.url)
        assert client.observe(HOST) == [], "it has no tag `app:`, and so is not managed"
        assert client.observe(HOST) is client.observe(HOST)
        kong.shutdown()
