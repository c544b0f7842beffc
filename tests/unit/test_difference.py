"""What a person changed, in short phrases."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from gitops_mvd.config.tables import Ignored
from gitops_mvd.core.difference import Difference, differences, differences_from_found
from gitops_mvd.core.model import App, Resource, Service, digest
from gitops_mvd.manifest import load
from tests.fakes import ROLES, wanted
from tests.unit.test_compose_keys import CASES, HOST, ON_SWARM, Beside, made, tree

OLD, NEW = (f"sha256:{digest(it)}" for it in ("old", "new"))


def app(**services: Any) -> App:
    """An app as it is read from a Compose file, and pinned."""
    [one] = load(tree({"services": services}), HOST)[0]
    return one


def texts(before: App, after: App, **more: Any) -> list[str]:
    return [f"{it.service}: {it.text}" if it.service else it.text for it in differences(before, after, **more)]


def changed(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The phrases about a service with these keys."""
    return [
        it.removeprefix("web: ")
        for it in texts(app(web={"image": "nginx:1.28", **was}), app(web={"image": "nginx:1.28", **now}))
    ]


def pinned(image: str, tag: str) -> App:
    return App("demo", (Service("web", image, tag=tag),))


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ({}, {"image": "nginx:1.29"}, ["image nginx:1.28 → 1.29"]),
        ({}, {"image": "registry.local:5000/nginx:1.28"}, ["image nginx:1.28 → registry.local:5000/nginx:1.28"]),
        (
            {"environment": {"A": "1", "B": "1"}},
            {"environment": {"A": "2", "C": "1"}},
            ["env A changed", "env B removed", "env C added"],
        ),
        ({"deploy": {"replicas": 5}}, {"deploy": {"replicas": 3}}, ["replicas 5 → 3"]),
        ({"ports": ["8080:80"]}, {"ports": ["8081:80"]}, ["port 8080 → 8081"]),
        ({"ports": ["8080:80"]}, {"ports": ["8080:81"]}, ["port 8080:80 → 8080:81"]),
        ({}, {"ports": ["53:53/udp"]}, ["port 53/udp added"]),
        ({"mem_limit": "512m"}, {"mem_limit": "1g"}, ["memory 512M → 1G"]),
        ({}, {"mem_limit": "1g"}, ["memory 1G added"]),
        ({"command": "a"}, {"command": "a --password hunter2hunter2"}, ["command changed"]),
        ({"labels": {"a": "1"}}, {"labels": {"a": "2"}}, ["label a changed"]),
        ({"stop_grace_period": "10s"}, {"stop_grace_period": "1m"}, ["stop_grace_period 10 s → 60 s"]),
        ({"init": True}, {"init": False}, ["init true → false"]),
        ({"cap_add": ["A"]}, {"cap_add": ["B"]}, ["cap_add A removed", "cap_add B added"]),
        ({"user": "1"}, {"user": "2"}, ["user 1 → 2"]),
        (
            {"x-mvd": {"health": {"tcp": 80}}},
            {"x-mvd": {"health": {"http": "/health", "port": 80}}},
            ["health tcp → http"],
        ),
        (
            {"x-mvd": {"health": {"tcp": 80}}},
            {"x-mvd": {"health": {"tcp": 81, "within": "90s"}}},
            ["health within 60 s → 90 s", "health changed (port)"],
        ),
    ],
)
def test_a_key_has_its_phrase(was: dict[str, Any], now: dict[str, Any], told: list[str]) -> None:
    assert changed(was, now) == told


def kong(**keys: Any) -> dict[str, Any]:
    return {"x-kong": {"port": 80, "routes": [{"paths": ["/shop"]}], **keys}}


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ({}, {"auth": "key-auth"}, ["plugin key-auth added"]),
        ({}, {"routes": [{"paths": ["/shop"]}, {"paths": ["/store"]}]}, ["route /store added"]),
        ({}, {"routes": [{"paths": ["/shop", "/store"]}]}, ["route /shop → /shop, /store"]),
        ({}, {"routes": [{"paths": ["/shop"], "strip_path": False}]}, ["route /shop changed (strip_path)"]),
        (
            {},
            {"routes": [{"paths": ["/shop"], "plugins": [{"name": "cors"}]}]},
            ["route /shop: plugin cors added"],
        ),
        (
            {"plugins": [{"name": "rate-limiting", "config": {"minute": 5}}]},
            {"plugins": [{"name": "rate-limiting", "config": {"minute": 6}}]},
            ["plugin rate-limiting changed (config.minute)"],
        ),
        ({}, {"port": 81}, ["Kong port 80 → 81"]),
        ({}, {"service": {"retries": 1}}, ["Kong service changed (retries)"]),
    ],
)
def test_what_leads_to_a_service_has_its_phrase(was: dict[str, Any], now: dict[str, Any], told: list[str]) -> None:
    assert changed(kong(**was), kong(**now)) == told


def test_a_route_that_comes_and_goes_is_named() -> None:
    assert changed({}, kong()) == ["route /shop added", "Kong service added", "update order stop-first → start-first"]


def test_a_credential_has_no_value_in_what_is_told() -> None:
    was, now = (
        App("gateway", kong_entities={"consumers": [{"username": "ann", "keyauth_credentials": [{"key": key}]}]})
        for key in ("hunter2hunter2", "hunter3hunter3")
    )
    told = texts(was, now)
    assert told == ["consumer ann: keyauth credential changed (key)"]


def test_what_was_built_again_under_its_tag_is_told_by_its_digest() -> None:
    assert texts(pinned(f"a/web@{OLD}", "a/web:1.0"), pinned(f"a/web@{NEW}", "a/web:1.0")) == [
        f"web: image a/web:1.0, rebuilt: sha256 {digest('old')[:6]}… → {digest('new')[:6]}…"
    ]


def test_a_new_tag_of_the_same_content_says_so() -> None:
    told = texts(pinned(f"a/web@{OLD}", "a/web:1.0"), pinned(f"a/web@{OLD}", "a/web:1.1"))
    assert told == ["web: image a/web:1.0 → 1.1 (the same content)"]


def test_secrets_of_this_host_and_files_are_named() -> None:
    def version(secret: str, text: str) -> App:
        base = app(web={"image": "nginx", "configs": ["c"], "secrets": ["s"]})
        [web] = base.services
        files = tuple(dataclasses.replace(it, files={"": f"{text}hunter2"}) for it in web.files)
        return dataclasses.replace(base, services=(dataclasses.replace(web, files=files, secrets={"db": secret}),))

    def app(**services: Any) -> App:
        top = {"services": services, "configs": {"c": {"content": "c"}}, "secrets": {"s": {"file": "text"}}}
        [one] = load(tree(top), HOST)[0]
        return one

    assert texts(version("1", "a"), version("2", "b")) == [
        "web: file c changed",
        "web: secret s changed",
        "web: secret db changed on this host",
    ]


def stored(mounts: list[str], **volumes: Any) -> App:
    top = {"services": {"web": {"image": "nginx", "volumes": mounts}}, "volumes": {"data": None, "more": None}}
    [one] = load(tree({**top, "volumes": {**top["volumes"], **volumes}}), HOST)[0]
    return one


def test_data_that_a_service_begins_without_is_told() -> None:
    data, more = stored(["data:/data"]), stored(["more:/data"])
    assert texts(stored([]), data) == ["web: volume data at /data added"]
    assert texts(data, more) == ["web: at /data volume data → volume more", "web: /data begins empty"]
    there = texts(data, more, volumes={"demo_more"})
    assert there == ["web: at /data volume data → volume more"], "it is there already, and may have data"
    assert "web: /data begins empty" in texts(stored(["./a:/data"]), data)
    assert texts(data, stored(["data:/data:ro"])) == ["web: volume data at /data changed (read_only)"]


def test_services_that_come_and_go_are_told_with_what_they_are() -> None:
    one = app(web={"image": "nginx:1.28"})
    two = app(web={"image": "nginx:1.28"}, cache={"image": "redis:7", "ports": ["6379:6379"]})
    assert texts(one, two) == [
        "web: network default shared with other services now",
        "service cache added (redis:7, port 6379)",
    ]
    assert texts(two, one) == ["web: network default for itself now", "service cache removed"]
    assert texts(App("demo"), one) == ["service web added (nginx:1.28)"]


def test_versions_that_nobody_remembers_are_compared_by_what_was_found() -> None:
    before, after = (
        app(a={"image": "a:1"}, b={"image": "b:1"}, c={"image": "c:1"}),
        app(a={"image": "a:1"}, b={"image": "b:2"}, d={"image": "d:1"}),
    )
    found = wanted(before)
    assert differences_from_found(found, before, ROLES) == ()
    assert [(it.service, it.text) for it in differences_from_found(found, after, ROLES)] == [
        ("b", "changed; what it was before is not known here"),
        ("", "service d added (d:1)"),
        ("", "service c removed"),
    ]
    assert [it.text for it in differences_from_found([Resource("image", "x", "demo")], one_service(), ROLES)] == [
        "service web added (nginx)"
    ]


def one_service() -> App:
    return app(web={"image": "nginx"})


# ---- no key is silent ------------------------------------------------------------------------------------------------


def apps(where: str, key: str) -> tuple[App, App] | None:
    """Two apps that differ in this key of that table; None if it makes no other app, or none that can be read.

    A suspension makes none: that is told as long as it lasts, and not as a difference to the version that ran before.
    """
    case = CASES[where]
    value, others = case.values[key] if isinstance(case.values[key], Beside) else (case.values[key], {})
    given = {name: beside for name, beside in {**case.valid, **others}.items() if beside is not None}
    without, having = case.place(given), case.place({**given, key: value})
    if not isinstance(made(without), str):  # as a probe that would be none
        without = case.place(case.valid)
    is_same = made(without) == made(having) and (where, key) not in ON_SWARM
    if is_same or not (isinstance(made(without), str) and isinstance(made(having), str)):
        return None
    host = dataclasses.replace(HOST, swarm=(where, key) in ON_SWARM)
    [before], [after] = load(tree(without), host)[0], load(tree(having), host)[0]
    return (before, after) if before.suspend == after.suspend else None


PAIRS = {
    f"{where}-{key}": pair
    for where, case in CASES.items()
    for key in case.values
    if not isinstance(case.table[key], Ignored)
    if (pair := apps(where, key))
}


@pytest.mark.parametrize("key", PAIRS)
def test_no_changed_key_of_a_compose_file_is_silent(key: str) -> None:
    before, after = PAIRS[key]
    for pair in ((before, after), (after, before)):
        assert differences(*pair)
        assert all(it.text and "\n" not in it.text for it in differences(*pair))


SOURCES = {f"{it}-{key}" for it in ("configs", "secrets") for key in ("file", "environment", "content", "external")}


def test_every_key_that_makes_another_app_is_tried() -> None:
    """Without a source there is no config; a missing name, a network without IPv4 and the like are mistakes."""
    every = {f"{where}-{key}" for where, case in CASES.items() for key in case.values}
    ignored = {f"{w}-{k}" for w, case in CASES.items() for k in case.values if isinstance(case.table[k], Ignored)}
    others = {"compose.yaml-name", "depends_on-required", "depends_on-restart", "networks-enable_ipv4"}
    others |= {"compose.yaml-x-mvd", "x-mvd of an app-suspend", "suspend-why", "suspend-stop"}
    assert every - ignored - PAIRS.keys() <= SOURCES | others


SERVICE = Service("web", "nginx").to_json()
ANY: dict[str, Any] = {
    "owner": "shop",
    "secrets": {"a": "1"},
    "kong": {"port": 80, "protocol": "http", "routes": []},
    "swarm": {"replicas": 2, "everywhere": False, "probed": 0},
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Service) if field.name != "sealed"])
def test_no_field_of_a_service_is_silent(field: str) -> None:
    """`sealed` alone is not of a version: what is encrypted in the repository is told as the secret that it is."""
    other = {**SERVICE, **ANY}[field]
    match other:
        case str():
            other += "x"
        case int():
            other += 1
        case dict() if field not in ANY:
            other = {**other, **{key: f"{other[key]}x" if isinstance(other[key], str) else 7 for key in other}}
            other = {**other, "x": "y"} if field in ("environment", "depends_on", "run") else other
        case list() | tuple():
            other = [{"target": "/c", "files": {"": "c"}, "mode": 292, "uid": 0, "gid": 0}]
    before, after = (App("demo", (Service.from_json(it),)) for it in (SERVICE, {**SERVICE, field: other}))
    assert before != after
    assert differences(before, after)
    assert json.dumps([dataclasses.asdict(it) for it in differences(after, before)]) != "[]"


def test_a_key_that_nobody_knows_yet_is_told_by_its_name() -> None:
    before, after = (App("demo", (Service("web", "nginx", {"later": value}),)) for value in ("a", "b"))  # type: ignore[arg-type]
    assert differences(before, after) == (Difference("web", "~", "later changed"),)


def test_any_two_versions_differ_in_words_if_and_only_if_they_differ() -> None:
    every = list({app.version: app for pair in PAIRS.values() for app in pair}.values())
    for step in (1, 7, 31):
        for before, after in zip(every, every[step:], strict=False):
            assert differences(before, after)
    assert not any(differences(app, App.from_json(json.loads(json.dumps(app.to_json())))) for app in every)
