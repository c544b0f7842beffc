"""All that Kong's declarative format can say, in both modes: brought, in sync at the second pass, and taken away."""
# ruff: noqa: F811

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops_mvd.core.errors import NotNow, StepFailed
from gitops_mvd.core.model import App, HostFacts, Json, Service
from gitops_mvd.core.plan import Side, make_plan
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.client import Kong
from gitops_mvd.manifest import load
from gitops_mvd.secrets.store import Secrets
from tests.contract.pems import CERTIFICATE, JWK, KEY, PUBLIC_KEY
from tests.contract.test_kong_client import (  # noqa: F401
    HOST,
    Gateway,
    apply,
    by_name,
    placed,
    routes,
    service,
    tamper,
)
from tests.fakes import ROLES
from tests.lab.kong_standin.schema import PLUGINS
from tests.unit.memory_tree import MemoryTree

ID = "6f1f3b44-54ab-5c0c-8f6c-0d1f5b7a7f3e"


def is_in_sync(kong: str, routes: Routes, app: App) -> bool:
    """Is there nothing left to do, for us and for a daemon that starts anew?"""
    wanted = placed(routes, app)
    for looking in (routes, Routes(Kong(kong), HOST)):
        found = [resource for resource in looking.observe() if resource.app == app.name]
        if found != wanted or make_plan([Side(app, list(wanted), list(found), proven=True)], ROLES):
            return False
    return True


# ---- every plugin that Kong ships ------------------------------------------------------------------------------------

# What a plugin needs at the least; all the others need nothing.
NEEDED: dict[str, Json] = {
    "acl": {"allow": ["staff"]},
    "acme": {"account_email": "a@example.org", "tos_accepted": True},
    "ai-prompt-decorator": {"prompts": {"prepend": [{"role": "system", "content": "be kind"}]}},
    "ai-prompt-guard": {"deny_patterns": [".*secret.*"]},
    "ai-prompt-template": {"templates": [{"name": "a", "template": "{{a}}"}]},
    "ai-proxy": {"route_type": "llm/v1/chat", "model": {"provider": "openai", "name": "gpt-4"}},
    "ai-request-transformer": {"prompt": "a", "llm": {"route_type": "llm/v1/chat", "model": {"provider": "openai"}}},
    "ai-response-transformer": {"prompt": "a", "llm": {"route_type": "llm/v1/chat", "model": {"provider": "openai"}}},
    "azure-functions": {"appname": "a", "functionname": "b"},
    "file-log": {"path": "/tmp/a.log"},
    "http-log": {"http_endpoint": "http://log.example.org/"},
    "ip-restriction": {"allow": ["10.0.0.0/8"]},
    "ldap-auth": {"ldap_host": "ldap.example.org", "base_dn": "dc=a", "attribute": "cn"},
    "loggly": {"key": "token"},
    "oauth2": {"enable_client_credentials": True, "scopes": ["a"], "provision_key": "key"},
    "opentelemetry": {"traces_endpoint": "http://otel.example.org:4318/v1/traces"},
    "post-function": {"access": ["kong.log('a')"]},
    "pre-function": {"access": ["kong.log('a')"]},
    "proxy-cache": {"strategy": "memory"},
    "rate-limiting": {"minute": 5},
    "redirect": {"location": "https://example.org/"},
    "response-ratelimiting": {"limits": {"videos": {"minute": 5}}},
    "standard-webhooks": {"secret_v1": "secret"},
    "tcp-log": {"host": "log.example.org", "port": 514},
    "udp-log": {"host": "log.example.org", "port": 514},
}


def test_the_plugins_are_those_that_a_real_kong_ships() -> None:
    recorded = json.loads((Path(__file__).parent / "fixtures" / "kong" / "dbless.json").read_text())["exchanges"]
    (node,) = [it["response"]["body"] for it in recorded if it["name"] == "node information"]
    assert sorted(PLUGINS) == sorted(node["plugins"]["available_on_server"])


@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_a_plugin_with_its_defaults_is_in_sync_at_the_second_pass(gateway: Gateway, routes: Routes, name: str) -> None:
    plugin = {"name": name, **({"config": NEEDED[name]} if name in NEEDED else {})}
    everywhere = App("gateway", kong_entities={"plugins": [{**plugin, "instance_name": "everywhere"}]})
    apply(routes, everywhere)
    assert is_in_sync(gateway.admin, routes, everywhere)
    apply(routes, App("gateway"))
    if "service" in PLUGINS[name].get("not_for", ()):
        return
    shop = App("shop", (service(plugins=[plugin], routes=[{"paths": ["/web"], "plugins": [plugin]}]),))
    apply(routes, shop)
    assert is_in_sync(gateway.admin, routes, shop)


# ---- every entity ----------------------------------------------------------------------------------------------------


def declared_app(text: str) -> App:
    tree = MemoryTree({"kong/all.yaml": text})
    apps, broken = load(tree, HostFacts("web1"))
    assert not broken
    return apps[0]


EVERYTHING = f"""
services:
  - {{name: search, url: "https://search.internal:9243/v1", tls_verify: false, client_certificate: {ID}}}
  - {{name: nested, host: nested.example.org, routes: [{{name: nested, hosts: ["*.example.org"], methods: [GET]}}]}}
routes:
  - name: search
    service: search
    paths: [/search, "~/s/(?<id>[0-9]+)$"]
    regex_priority: 5
    plugins: [{{name: key-auth}}]
  - {{name: gone, paths: [/gone], headers: {{x-v: ["1"]}}}}
  - {{name: rpc, service: nested, protocols: [grpc, grpcs], paths: [/a.B/]}}
  - {{name: stream, service: nested, protocols: [tls, tcp], snis: [a.org], sources: [{{ip: 10.0.0.0/8}}, {{port: 9}}]}}
upstreams:
  - name: search.internal
    hash_on: header
    hash_on_header: x-user
    hash_fallback: cookie
    hash_on_cookie: sid
    slots: 100
    healthchecks:
      active: {{http_path: /up, headers: {{authorization: [token]}}, healthy: {{interval: 5, successes: 1}}}}
      passive: {{unhealthy: {{http_failures: 3}}}}
    targets: [{{target: 10.0.0.9, weight: 10, tags: [first]}}, {{target: "[::1]:80"}}, {{target: "b.org:1", weight: 0}}]
targets: [{{upstream: search.internal, target: "c.org:9200"}}]
plugins:
  - {{name: request-termination, route: gone, config: {{status_code: 410}}, enabled: false, protocols: [http]}}
  - {{name: rate-limiting, consumer: bob, service: search, config: {{minute: 5}}}}
consumers:
  - {{username: bob, custom_id: "1", tags: [gold], acls: [{{group: a}}], plugins: [{{name: request-size-limiting}}]}}
  - {{username: eve, jwt_secrets: [{{key: issuer, algorithm: HS384, secret: s}}]}}
keyauth_credentials: [{{consumer: bob, key: key-of-bob}}]
basicauth_credentials: [{{consumer: bob, username: bob, password: password-of-bob}}]
hmacauth_credentials: [{{consumer: {{username: eve}}, username: eve, secret: secret-of-eve}}]
oauth2_credentials: [{{consumer: eve, name: app, client_id: c, client_secret: s, redirect_uris: ["https://a.org/"]}}]
acls: [{{consumer: eve, group: staff}}]
certificates:
  - {{id: {ID}, cert: {json.dumps(CERTIFICATE)}, key: {json.dumps(KEY)}, snis: [{{name: a.org}}]}}
  - {{cert: "{{vault://env/cert}}", key: "{{vault://env/key}}"}}
snis: [{{name: "*.b.org", certificate: {ID}}}]
ca_certificates: [{{cert: {json.dumps(CERTIFICATE)}}}]
key_sets: [{{name: partners, keys: [{{name: first, kid: one, pem: {{public_key: {json.dumps(PUBLIC_KEY)}}}}}]}}]
keys: [{{kid: k1, set: partners, jwk: {json.dumps(JWK)}}}]
vaults: [{{name: env, prefix: my-env, config: {{prefix: SECRET_}}}}]
"""


def test_every_entity_is_brought_in_sync_and_taken_away(gateway: Gateway, routes: Routes) -> None:
    app = declared_app(EVERYTHING)
    apply(routes, app)
    assert is_in_sync(gateway.admin, routes, app)
    targets = gateway.ask("GET", "/upstreams/search.internal/targets")["data"]
    full = "[0000:0000:0000:0000:0000:0000:0000:0001]:80"
    assert {it["target"]: it["weight"] for it in targets} == {
        "10.0.0.9:8000": 10, full: 100, "b.org:1": 0, "c.org:9200": 100,
    }  # fmt: skip
    (keys,) = gateway.all("key-sets")
    assert {key["set"]["id"] for key in gateway.all("keys")} == {keys["id"]}
    apply(routes, App("gateway"))
    assert list(routes.observe()) == []
    for path in ("services", "routes", "upstreams", "consumers", "certificates", "snis", "key-sets", "keys", "vaults"):
        assert gateway.all(path) == []


def test_nothing_of_a_manifest_but_its_references_to_vaults_is_told_of_a_secret(routes: Routes) -> None:
    told = json.dumps([resource.spec for resource in apply(routes, declared_app(EVERYTHING))])
    assert "{vault://env/key}" in told
    for secret in ("PRIVATE", "key-of-bob", "password-of-bob", "secret-of-eve", "token"):
        assert secret not in told
    apply(routes, App("gateway"))


@pytest.mark.parametrize("change", [{"weight": 1}, {"tags": None}, None])
def test_a_declared_target_changed_by_hand_is_mended(gateway: Gateway, routes: Routes, change: Json | None) -> None:
    app = App("gateway", kong_entities={"upstreams": [{"name": "up", "targets": [{"target": "a.org:1", "weight": 7}]}]})
    apply(routes, app)
    if gateway.mode == "off":
        tamper(gateway, "targets", change)
    else:
        gateway.ask("PATCH" if change else "DELETE", "/upstreams/up/targets/a.org:1", json=change)
    for _ in range(5):  # one upstream's targets are read in turn
        seen = list(routes.observe())
    assert seen != placed(routes, app)
    apply(routes, app)
    assert is_in_sync(gateway.admin, routes, app)


def test_a_changed_target_takes_the_place_of_the_old_one(gateway: Gateway, routes: Routes) -> None:
    def app(target: str) -> App:
        return App("gateway", kong_entities={"upstreams": [{"name": "up", "targets": [{"target": target}]}]})

    apply(routes, app("127.0.0.1:1"))
    apply(routes, app("127.0.0.1:2"))
    assert is_in_sync(gateway.admin, routes, app("127.0.0.1:2"))
    assert [it["target"] for it in gateway.ask("GET", "/upstreams/up/targets")["data"]] == ["127.0.0.1:2"]


def test_what_the_stand_in_knows_of_an_entity_a_real_kong_has_in_its_schema() -> None:
    table = yaml.safe_load(files("tests.lab.kong_standin").joinpath("entities.yaml").read_text("utf-8"))
    assert "consumer_groups" not in table, "Kong 3.9.1's community edition has none"
    assert not {"ordering", "consumer_group"} & table["plugins"]["fields"].keys()


# ---- ids of one's own ------------------------------------------------------------------------------------------------

OTHER_ID = "6f1f3b44-54ab-5c0c-8f6c-0d1f5b7a7f3f"


def test_an_entity_has_the_id_that_it_was_given_and_others_refer_to_it_by_name(
    gateway: Gateway, routes: Routes
) -> None:
    app = declared_app(f"""
services: [{{id: {ID}, name: legacy, url: "http://127.0.0.1:9"}}]
routes: [{{name: r, service: legacy, paths: [/r]}}, {{name: s, service: {ID}, paths: [/s]}}]
consumers: [{{id: {OTHER_ID}, username: bob}}]
acls: [{{consumer: bob, group: staff}}]
plugins: [{{name: cors, service: {{name: legacy}}}}]
""")
    apply(routes, app)
    assert is_in_sync(gateway.admin, routes, app)
    assert [one["id"] for one in gateway.all("services")] == [ID]
    assert [one["service"]["id"] for one in gateway.all("routes")] == [ID, ID]
    assert [one["id"] for one in gateway.all("consumers")] == [OTHER_ID]
    assert [one["consumer"]["id"] for one in gateway.all("acls")] == [OTHER_ID]
    assert [one["service"]["id"] for one in gateway.all("plugins")] == [ID]


def test_an_id_that_somebody_else_has_in_kong_is_never_taken(gateway: Gateway, routes: Routes) -> None:
    theirs = {"consumers": [{"id": ID, "username": "theirs"}], "services": [{"id": ID, "name": "theirs", "host": "h"}]}
    if gateway.mode == "off":
        gateway.load(theirs)
    else:
        for type, (entity,) in theirs.items():
            gateway.ask("POST", f"/{type}", json=entity)
    for ours in (f"consumers: [{{id: {ID}, username: ours}}]", f"services: [{{id: {ID}, name: ours, host: h}}]"):
        with pytest.raises(NotNow, match=f"has the id {ID}, which the .* theirs in Kong has already"):
            apply(routes, declared_app(ours))
    assert [one["username"] for one in gateway.all("consumers")] == ["theirs"]
    assert [one["name"] for one in gateway.all("services")] == ["theirs"]


def test_the_id_of_an_entity_is_never_changed_in_a_database(gateway: Gateway, routes: Routes) -> None:
    apply(routes, declared_app(f"consumers: [{{id: {ID}, username: bob}}]"))
    changed = declared_app(f"consumers: [{{id: {OTHER_ID}, username: bob}}]")
    if gateway.mode == "off":
        apply(routes, changed)
        assert is_in_sync(gateway.admin, routes, changed)
        return
    with pytest.raises(StepFailed, match=f"consumer bob has the id {ID} in Kong, which cannot be changed") as refused:
        apply(routes, changed)
    assert refused.value.hint == f"write `id: {ID}`, or remove it with one commit and add it with another"
    assert [one["id"] for one in gateway.all("consumers")] == [ID]


# ---- secret files ----------------------------------------------------------------------------------------------------

REFERRING = App(
    "gateway",
    kong_entities={
        "consumers": [{"username": "bob", "keyauth_credentials": [{"key": "{file://key-of-bob}"}]}],
        "plugins": [{"name": "http-log", "config": {"http_endpoint": "https://:{file://token}@log.example.org/"}}],
    },
)


def write(folder: Path, **secrets: str) -> Secrets:
    for name, text in secrets.items():
        path = folder / name.replace("_", "-")
        path.write_text(text)
        path.chmod(0o600)
    return Secrets(folder)


def test_a_secret_file_is_filled_in_on_the_host_and_told_by_digest(gateway: Gateway, tmp_path: Path) -> None:
    secrets = write(tmp_path, key_of_bob="s3cret-key\n", token="s3cret-token")
    routes = Routes(Kong(gateway.admin), HOST, secrets=secrets)
    wanted = apply(routes, REFERRING)
    assert list(routes.observe()) == wanted
    assert [it["key"] for it in gateway.all("key-auths")] == ["s3cret-key"]
    assert gateway.all("plugins")[0]["config"]["http_endpoint"] == "https://:s3cret-token@log.example.org/"
    assert "s3cret" not in json.dumps([it.spec for it in wanted]) + repr(wanted) + json.dumps(REFERRING.to_json())


def test_a_changed_secret_is_taken_up_after_the_next_look(gateway: Gateway, tmp_path: Path) -> None:
    secrets = write(tmp_path, key_of_bob="first", token="t")
    routes = Routes(Kong(gateway.admin), HOST, secrets=secrets)
    before = apply(routes, REFERRING)
    write(tmp_path, key_of_bob="second-key")
    assert placed(routes, REFERRING) == before, "one look is one truth"
    secrets.refresh()
    assert placed(routes, REFERRING) != list(routes.observe())
    apply(routes, REFERRING)
    assert [it["key"] for it in gateway.all("key-auths")] == ["second-key"]


def test_a_service_may_refer_to_a_secret_too(gateway: Gateway, tmp_path: Path) -> None:
    routes = Routes(Kong(gateway.admin), HOST, secrets=write(tmp_path, token="s3cret"))
    plugin = {"name": "request-transformer", "config": {"add": {"headers": ["authorization: Bearer {file://token}"]}}}
    app = App("shop", (service(plugins=[plugin]),))
    assert apply(routes, app) == list(routes.observe())
    assert gateway.all("plugins")[0]["config"]["add"]["headers"] == ["authorization: Bearer s3cret"]


def test_two_consumers_with_one_key_are_told_before_anything_is_written(gateway: Gateway, tmp_path: Path) -> None:
    routes = Routes(Kong(gateway.admin), HOST, secrets=write(tmp_path, a="same", b="same"))
    consumers: list[Any] = [
        {"username": "bob", "keyauth_credentials": [{"key": "{file://a}"}]},
        {"username": "eve", "keyauth_credentials": [{"key": "{file://b}"}]},
    ]
    with pytest.raises(StepFailed, match="the consumers bob and eve have the same keyauth_credential") as refused:
        apply(routes, App("gateway", kong_entities={"consumers": consumers}))
    assert "same\n" not in str(refused.value)
    assert gateway.all("consumers") == []


def test_what_has_no_reference_costs_no_file(tmp_path: Path) -> None:
    routes = Routes(None, HOST, secrets=Secrets(tmp_path / "not-there"))
    app = App("shop", (Service("web", "shop:1", kong=service().kong),))
    assert [route.name for route in routes.wanted(app)] == ["shop.web"]
