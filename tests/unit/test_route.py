"""What was declared becomes entities, and both sides of a comparison are told in one vocabulary."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, Change, Json, JsonValue, Service
from gitops_mvd.core.route import Target
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.admin import masked
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.compare import declared_fields, is_same
from gitops_mvd.kong.declare import Declarations, declared
from gitops_mvd.kong.entities import Entity
from gitops_mvd.kong.route_proof import request_for

KONG = {
    "port": 7799,
    "protocol": "http",
    "service": {"read_timeout": 5000},
    "routes": [
        {"paths": ["/b", "/a"], "plugins": [{"name": "rate-limiting", "config": {"minute": 5, "policy": "local"}}]},
        {"name": "admin", "hosts": ["admin.example"]},
    ],
    "plugins": [{"name": "key-auth"}],
    "upstream": {"algorithm": "least-connections"},
}


def shown_by_kong(entity: Entity, **defaults: object) -> Entity:
    """As Kong shows it: with every default filled in."""
    return Entity(
        entity.type, {**defaults, "created_at": 1, "updated_at": 1, "ws_id": None, **entity.fields}, from_admin_api=True
    )


def test_a_service_becomes_upstream_service_routes_and_plugins_under_our_names() -> None:
    entities = Declarations("web-1").of_service(("chatbot", "web"), KONG)
    assert [str(entity) for entity in entities] == [
        "upstream mvd.chatbot.web",
        "service mvd.chatbot.web",
        "plugin key-auth",
        "route mvd.chatbot.web.1",
        "route mvd.chatbot.web.admin",
        "plugin rate-limiting",
    ]
    upstream, behind, key_auth, first, _, limiting = entities
    assert upstream.fields["name"] == behind.fields["host"]
    assert key_auth.fields["service"] == {"id": behind.id}
    assert first.fields["service"] == {"id": behind.id}
    assert limiting.fields["route"] == {"id": first.id}


def test_every_entity_tells_whose_it_is() -> None:
    target = Target(instance="mvd-chatbot-web-3f9c2a1b", address="127.0.0.1:20000")
    owner, declarations = ("chatbot", "web"), Declarations("web-1")
    entities = [*declarations.of_service(owner, KONG), *declarations.targets(owner, [target])]
    for entity in entities:
        assert {"managed-by:gitops-mvd", "host:web-1", "app:chatbot", "service:web"} <= set(entity.tags)
    assert "instance:mvd-chatbot-web-3f9c2a1b" in entities[-1].tags
    assert entities[-1].fields["upstream"] == {"id": entities[0].id}


def test_ids_are_stable_and_each_host_s_own() -> None:
    ids = [entity.id for entity in Declarations("web-1").of_service(("chatbot", "web"), KONG)]
    changed = {**KONG, "service": {}, "upstream": {}, "plugins": [{"name": "key-auth", "enabled": False}]}
    assert [entity.id for entity in Declarations("web-1").of_service(("chatbot", "web"), changed)] == ids
    assert not set(ids) & {entity.id for entity in Declarations("web-2").of_service(("chatbot", "web"), KONG)}


def test_only_what_was_declared_is_compared() -> None:
    for entity in Declarations("web-1").of_service(("chatbot", "web"), KONG):
        assert is_same(entity, shown_by_kong(entity, retries=5, regex_priority=0, enabled=True, slots=10000))


@pytest.mark.parametrize(
    ("declared_config", "shown_config"),
    [
        ({"minute": 5}, {"minute": 5.0, "hour": None}),
        ({"redis": {"host": "a"}}, {"redis": {"host": "a", "port": 6379}, "redis_host": "a"}),
        ({"window": 0.1}, {"window": 0.10000000000000001}),
        ({"map": {}}, {"map": []}),
        ({"rules": [{"a": 1}]}, {"rules": [{"a": 1, "b": None}]}),
        ({"absent": None}, {}),
        ({"a.b/c, d": {"%2E": [1]}}, {"a.b/c, d": {"%2E": [1], ".": 2}}),
    ],
)
def test_defaults_below_what_was_declared_are_no_difference(declared_config: Json, shown_config: Json) -> None:
    (plugin,) = declared("h", {"plugins": [{"name": "p", "config": declared_config}]}, ["app:a"])
    assert is_same(plugin, shown_by_kong(Entity("plugins", {**plugin.fields, "config": shown_config})))


@pytest.mark.parametrize(
    ("declared_config", "shown_config"),
    [
        ({"minute": 5}, {"minute": 6}),
        ({"minute": 5}, None),
        ({"names": ["a", "b"]}, {"names": ["b", "a"]}),
        ({"rules": [{"a": 1}]}, {"rules": [{"a": 1}, {"a": 2}]}),
        ({"headers": {"x": "1"}}, {"headers": {"x": "1", "y": "2"}}),
        ({"key": "one"}, {"key": "two"}),
    ],
)
def test_what_was_declared_and_is_not_there_is_a_difference(declared_config: Json, shown_config: Json | None) -> None:
    (plugin,) = declared("h", {"plugins": [{"name": "p", "config": declared_config}]}, ["app:a"])
    assert not is_same(plugin, shown_by_kong(Entity("plugins", {**plugin.fields, "config": shown_config})))


def test_the_order_of_a_set_means_nothing() -> None:
    (route,) = declared("h", {"routes": [{"name": "r", "paths": ["/b", "/a"], "methods": ["PUT", "GET"]}]}, [])
    assert declared_fields([route])["routes"][route.id]["paths"] == ["/a", "/b"]
    assert is_same(route, Entity("routes", {**route.fields, "paths": ["/a", "/b"], "methods": ["GET", "PUT"]}))


def test_tags_of_the_user_s_own_are_compared() -> None:
    (route,) = declared("h", {"routes": [{"name": "r", "paths": ["/"], "tags": ["gold", "blue"]}]}, ["app:a"])
    assert declared_fields([route])["routes"][route.id]["tags"] == ["blue", "gold"]
    assert not is_same(route, Entity("routes", {**route.fields, "tags": [*route.tags, "red"]}))


def test_many_fields_take_several_tags_that_all_fit() -> None:
    config = {f"a-rather-long-name-of-a-field-{n}": n for n in range(100)}
    (plugin,) = declared("h", {"plugins": [{"name": "p", "config": config}]}, ["app:a"])
    assert max(map(len, plugin.tags)) < 1100
    assert len(declared_fields([plugin])["plugins"][plugin.id]) == 101


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=6), below, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), json_values, max_size=4))
def test_any_config_is_the_same_as_itself_with_defaults_and_has_tags_that_kong_takes(config: Json) -> None:
    (plugin,) = declared("h", {"plugins": [{"name": "p", "config": config}]}, ["app:a"])
    assert is_same(plugin, shown_by_kong(plugin, enabled=True, instance_name=None))
    assert all(tag.isascii() and tag.isprintable() and not set(tag) & set(",/") for tag in plugin.tags)
    json.dumps(declared_fields([plugin]))


@given(st.text(min_size=5))
def test_no_text_of_a_credential_or_of_a_plugin_s_config_is_in_a_spec(secret: str) -> None:
    document = {
        "consumers": [
            {"username": "bob", "keyauth_credentials": [{"key": secret}], "jwt_secrets": [{"secret": secret}]}
        ],
        "plugins": [{"name": "p", "config": {"a": [{"b": secret}], "headers": {"Authorization": [secret]}}}],
    }
    told = declared_fields(declared("h", document, ["app:a"]))  # type: ignore[arg-type]
    texts = {str(value) for entities in told.values() for entity in entities.values() for value in entity.values()}
    assert not {text for text in texts if secret in text and not secret.isalnum()}
    assert secret not in texts


def test_a_reference_by_name_is_the_id_that_follows_from_it() -> None:
    document = {"consumers": [{"username": "bob"}], "acls": [{"consumer": "bob", "group": "internal"}]}
    bob, acl = declared("h", document, ["app:gateway"])
    assert acl.fields["consumer"] == {"id": bob.id}


@pytest.mark.parametrize("given", [{}, {"id": "5a0b2d6e-3f53-4a53-9a57-4f5a2c1d9e10"}], ids=["", "with an id"])
def test_a_consumer_is_referred_to_by_its_custom_id_unless_another_has_that_name(given: dict[str, JsonValue]) -> None:
    groups: list[JsonValue] = [{"consumer": name, "group": "internal"} for name in ("7", "rob")]
    consumers: list[JsonValue] = [
        {"username": "bob", "custom_id": "rob"},
        {"username": "rob"},
        {"username": "eve", "custom_id": "7", **given},
    ]
    _, rob, eve, *acls = declared("h", {"acls": groups, "consumers": consumers}, ["app:gateway"])
    assert [acl.fields["consumer"] for acl in acls] == [{"id": eve.id}, {"id": rob.id}]


def test_what_kong_says_becomes_one_sentence_without_the_secret() -> None:
    assert masked("key: 'k-123' is taken, k-12", {"k-123", "k"}) == "key: '***' is taken, k-12"


def test_on_a_host_without_a_kong_routes_wait_for_one() -> None:
    routes = Routes(None, "web-1")
    (route,) = routes.wanted(App("shop", (Service("web", "shop:1", kong=KONG),)))
    assert list(routes.observe()) == []
    with pytest.raises(Unavailable, match="no Kong"):
        routes.apply([Change(None, route)])


def test_a_changed_declaration_is_compiled_anew() -> None:
    routes = Routes(None, "web-1")
    (before,) = routes.wanted(App("shop", (Service("web", "shop:1", kong=KONG),)))
    (after,) = routes.wanted(App("shop", (Service("web", "shop:1", kong={**KONG, "plugins": []}),)))
    (again,) = routes.wanted(App("shop", (Service("web", "shop:1", kong=KONG),)))
    assert before == again != after


def test_a_routed_service_wants_one_route_with_a_target_for_each_instance() -> None:
    web = Service("web", "shop:1", kong=KONG, replicas=3)
    (route,) = Routes(Kong("http://127.0.0.1:1"), "web-1").wanted(App("shop", (web, Service("worker", "shop:1"))))
    assert (route.name, route.service) == ("shop.web", "web")
    assert [target["instance"] for target in route.spec["targets"]] == sorted(web.instances("shop"))


@pytest.mark.parametrize(
    ("route", "request_"),
    [
        ({"paths": ["/a"]}, ("GET", "/a", {})),
        ({"paths": ["~/a/\\d+", "/b"], "hosts": ["*.example.com"]}, ("GET", "/b", {"Host": "mvd.example.com"})),
        ({"hosts": ["a.example"], "methods": ["POST", "OPTIONS"]}, ("OPTIONS", "/", {"Host": "a.example"})),
        ({"paths": ["/"], "headers": {"x-v": ["1", "2"]}}, ("GET", "/", {"x-v": "1"})),
        ({"paths": ["/"], "methods": ["POST"]}, None),
        ({"paths": ["~/a/\\d+"]}, None),
        ({"paths": ["/"], "headers": {"x-v": ["~*1"]}}, None),
        ({"paths": ["/a.B/"], "protocols": ["grpc"]}, None),
        ({"paths": ["/größe b%2Fc"]}, ("GET", "/gr%C3%B6%C3%9Fe%20b%2Fc", {})),
    ],
)
def test_a_route_is_asked_for_by_a_request_that_matches_and_changes_nothing(
    route: Json, request_: tuple[str, str, Json] | None
) -> None:
    asked = request_for([route])
    assert asked == request_
