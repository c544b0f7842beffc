"""Routes in a Kong, in both of its modes: the laws of a Kind, over HTTP, against the stand-in gateway of the lab."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mvd.errors import StepFailed, Unavailable
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong import Kong
from gitops_mvd.model import App, Change, Health, Json, Resource, Service
from gitops_mvd.plan import make_plan

HOST = "web-1"
NIL = "0" * 32


@dataclass
class Gateway:
    """A stand-in that runs, spoken to as an operator would."""

    admin: str
    proxy: str
    mode: str
    calls: list[str] = field(default_factory=list)

    def ask(self, method: str, path: str, **more: Any) -> Any:
        answer = requests.request(method, self.admin + path, timeout=10, **more)
        assert answer.status_code < 400 or method == "GET", answer.text
        return answer.json() if answer.content else None

    def config(self) -> dict[str, Any]:
        return yaml.safe_load(self.ask("GET", "/config")["config"])

    def load(self, document: Json) -> None:
        self.ask("POST", "/config", json={"config": json.dumps({"_format_version": "3.0", **document})})

    def clear(self) -> None:
        if self.mode == "off":
            return self.load({})
        for path in ("plugins", "routes", "services", "upstreams", "consumers", "certificates"):
            for entity in self.ask("GET", f"/{path}?size=1000")["data"]:
                self.ask("DELETE", f"/{path}/{entity['id']}")
        return None

    def all(self, path: str) -> list[dict[str, Any]]:
        return sorted(self.ask("GET", f"/{path}?size=1000")["data"], key=lambda entity: entity["id"])


@pytest.fixture(scope="module", params=["off", "postgres"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    prefix = tmp_path_factory.mktemp("gateway")
    options = ["--database", request.param, "--admin", "127.0.0.1:0", "--proxy", "127.0.0.1:0", "--prefix", str(prefix)]
    process = subprocess.Popen(
        [sys.executable, "-m", "gitops_mvd.lab.gateway", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("proxy"):
            break
    admin, proxy = re.findall(r"^(?:admin|proxy) (http://\S+)$", said, re.MULTILINE)
    yield Gateway(admin, proxy, request.param)
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def gateway(running: Gateway) -> Gateway:
    running.clear()
    return running


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


def bring(routes: Routes, app: App, port: int = 20000) -> list[Resource]:
    """Plan and apply; what was wanted."""
    wanted = placed(routes, app, port)
    found = [resource for resource in routes.observe() if resource.app == app.name]
    changes = [step for step in make_plan(app, wanted, found, ["route"], proven=True) if isinstance(step, Change)]
    routes.apply(changes)
    return wanted


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
    assert by_name(bring(routes, app)) == by_name(routes.observe())


def test_applying_twice_is_applying_once(gateway: Gateway, routes: Routes) -> None:
    change = Change(None, placed(routes, App("shop", (service(),)))[0])
    routes.apply([change])
    there = gateway.all("routes")
    routes.apply([change])
    assert gateway.all("routes") == there


def test_after_a_delete_nothing_is_left(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", (service(upstream={"slots": 100}, plugins=[{"name": "key-auth"}]), service("api")))
    bring(routes, app)
    bring(routes, App("shop", (service("api"),)))
    assert [entity["name"] for entity in gateway.all("services")] == ["mvd.shop.api"]
    bring(routes, App("shop"))
    assert list(routes.observe()) == []
    for type in ("services", "routes", "plugins", "upstreams"):
        assert gateway.all(type) == []


def test_what_is_not_ours_is_never_seen_and_stays_as_it_was(gateway: Gateway, routes: Routes) -> None:
    make_foreign(gateway)
    before = foreign(gateway)
    assert sum(map(len, before.values())) == 3
    assert list(routes.observe()) == []
    bring(routes, App("shop", (service(),)))
    assert foreign(gateway) == before
    bring(routes, App("shop"))
    assert foreign(gateway) == before


def test_another_host_s_entities_are_not_ours(gateway: Gateway, routes: Routes) -> None:
    bring(Routes(Kong(gateway.admin), "web-2"), App("other", (service(),)))
    assert list(routes.observe()) == []
    bring(routes, App("shop", (service(),)))
    assert [entity["name"] for entity in gateway.all("services") if "host:web-2" in entity["tags"]] == ["mvd.other.web"]


def test_a_second_plan_is_empty_whatever_kong_fills_in(routes: Routes) -> None:
    plugins = [
        {"name": "request-transformer", "config": {"add": {"headers": ["X-B: 2", "X-A: 1"]}}},
        {"name": "cors", "config": {"max_age": 3600.0, "origins": ["*"]}, "protocols": ["https", "http"]},
    ]
    kong = {
        "service": {"read_timeout": 5000, "path": None},
        "routes": [
            {"name": "main", "paths": ["/b", "/a"], "headers": {"x-v.1": ["2", "1"]}, "methods": ["PUT", "GET"]}
        ],
        "plugins": plugins,
        "upstream": {"healthchecks": {"active": {"healthy": {"interval": 5, "http_statuses": [302, 200]}}}},
    }
    app = App("shop", (service(**kong),))
    wanted = bring(routes, app)
    found = list(routes.observe())
    assert found == wanted
    assert not make_plan(app, wanted, found, ["route"], proven=True)


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
    wanted = bring(routes, app)
    tamper(gateway, type, change)
    assert list(routes.observe()) != wanted
    bring(routes, app)
    assert list(routes.observe()) == wanted


def test_a_default_changed_by_hand_is_no_difference(gateway: Gateway, routes: Routes) -> None:
    wanted = bring(routes, App("shop", (service(),)))
    tamper(gateway, "services", {"retries": 1})
    assert list(routes.observe()) == wanted


def test_a_target_changed_by_hand_is_seen_and_mended(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", (service(),))
    wanted = bring(routes, app)
    if gateway.mode == "off":
        document = gateway.config()
        document["targets"][0]["weight"] = 0
        gateway.load({**document, "_transform": False})
    else:
        path = "/upstreams/mvd.shop.web/targets/127.0.0.1:20000"
        gateway.ask("PATCH", path, json={"weight": 0})
    (found,) = routes.observe()
    assert found.spec["targets"][0]["address"] == "127.0.0.1:20000 (weight 0)"
    bring(routes, app)
    assert list(routes.observe()) == wanted


def test_a_target_deleted_by_hand_is_seen_among_many(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", tuple(service(f"s{n}") for n in range(5)))
    wanted = by_name(bring(routes, app))
    assert by_name(routes.observe()) == wanted
    if gateway.mode == "off":
        document = gateway.config()
        document["targets"] = document["targets"][:-1]
        gateway.load({**document, "_transform": False})
    else:
        gateway.ask("DELETE", "/upstreams/mvd.shop.s3/targets/127.0.0.1:20000")
    assert by_name(routes.observe()) != wanted
    bring(routes, app)
    assert by_name(routes.observe()) == wanted


def test_a_kong_that_lost_everything_is_filled_again(gateway: Gateway, routes: Routes) -> None:
    app = App("shop", (service(),))
    bring(routes, app)
    gateway.clear()
    assert list(routes.observe()) == []
    wanted = bring(routes, app)
    assert list(routes.observe()) == wanted
