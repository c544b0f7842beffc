"""Two apps whose joined names are the same have networks and instances of their own."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from gitops_mvd.core.model import App, HostFacts
from gitops_mvd.kong.declare import service_name
from gitops_mvd.manifest import Cache, load, validate
from tests.unit.memory_tree import MemoryTree

REDIS = "services: {%s: {image: redis}}"
ON_A_NETWORK = "services: {web: {image: nginx, networks: [%s]}}\nnetworks: {%s: }"


def apps(files: dict[str, str], cache: Cache | None = None) -> dict[str, App]:
    tree = MemoryTree({f"apps/{name}/compose.yaml": text for name, text in files.items()})
    assert validate(tree) == []
    found, broken = load(tree, HostFacts("h1"), cache)
    assert not broken
    return {app.name: app for app in found}


def instances(files: dict[str, str]) -> list[str]:
    return [name for app in apps(files).values() for it in app.services for name in it.instances(app.name)]


def test_two_services_with_one_joined_name_and_content_have_names_of_their_own() -> None:
    files = {"a": REDIS % "b-c", "a-b": REDIS % "c"}
    assert len(set(instances(files))) == 2
    assert instances({"a": files["a"]})[0] in instances(files)  # the first one keeps its name


def test_two_tags_may_be_one_image() -> None:
    other = REDIS.replace("redis", "redis:8")
    assert len({name[:-8] for name in instances({"a": REDIS % "b-c", "a-b": other % "c"})}) == 1
    assert apps({"a": REDIS % "b-c", "a-b": other % "c"})["a-b"].services[0].owner == "a-b"


def test_what_differs_anyway_keeps_its_name() -> None:
    files = {"a": REDIS % "b-c", "a-b": "services: {c: {image: redis, environment: {A: 1}}}"}
    assert set(instances(files)) == {*instances({"a": files["a"]}), *instances({"a-b": files["a-b"]})}


def test_three_of_them_are_three() -> None:
    assert len(set(instances({"a": REDIS % "b-c-d", "a-b": REDIS % "c-d", "a-b-c": REDIS % "d"}))) == 3


def test_two_networks_with_one_joined_name_are_two() -> None:
    found = apps({"shop": ON_A_NETWORK % ("eu-back", "eu-back"), "shop-eu": ON_A_NETWORK % ("back", "back")})
    [one], [other] = found["shop"].networks, found["shop-eu"].networks
    assert one == "mvd-shop-eu-back-44136fa3"
    assert other.startswith("mvd-shop-eu-back-")
    assert one != other
    assert list(found["shop-eu"].services[0].run["networks"]) == [other]
    assert found["shop-eu"].services[0].run["networks"][other] == {"aliases": ["web"]}


def test_the_default_network_of_an_app_with_one_service_is_one_of_them() -> None:
    found = apps({"shop": ON_A_NETWORK % ("eu-default", "eu-default"), "shop-eu": REDIS % "web"})
    [one], [other] = found["shop"].networks, found["shop-eu"].all_networks
    assert one != other
    assert list(found["shop-eu"].services[0].endpoints("shop-eu")) == [other]


def test_a_name_that_the_file_gives_stays() -> None:
    name = "mvd-shop-eu-back-44136fa3"
    text = f"services: {{web: {{image: nginx, networks: [n]}}}}\nnetworks: {{n: {{external: true, name: {name}}}}}"
    found = apps({"shop": ON_A_NETWORK % ("eu-back", "eu-back"), "shop-eu": text})
    assert list(found["shop-eu"].networks) == [name]


def test_the_names_are_the_same_at_every_pass_and_after_they_were_stored() -> None:
    files = {"a": REDIS % "b-c", "a-b": REDIS % "c"}
    cache: Cache = {}
    first, second = apps(files, cache), apps(files, cache)
    assert first == second
    assert first["a"] is second["a"]
    stored = App.from_json(json.loads(json.dumps(first["a-b"].to_json())))
    assert stored == first["a-b"]
    assert stored.services[0].digest == first["a-b"].services[0].digest
    assert "owner" not in first["a"].to_json()["services"][0]


ON_A_VOLUME = "services: {web: {image: nginx, volumes: ['d:/d']}}\nvolumes: {d: %s}"


def refused(files: dict[str, str]) -> list[str]:
    _, broken = load(MemoryTree({f"apps/{name}/compose.yaml": text for name, text in files.items()}), HostFacts("h1"))
    return list(broken)


def test_an_app_that_writes_the_name_of_a_volume_gives_way_to_the_app_whose_volume_is_called_so() -> None:
    assert refused({"a": ON_A_VOLUME % "{name: b_d}", "b": ON_A_VOLUME % ""}) == ["a"]
    assert refused({"a": ON_A_VOLUME % "{name: a_b_d}", "a_b": ON_A_VOLUME % ""}) == ["a"]
    assert refused({"a": ON_A_VOLUME % "", "b": ON_A_VOLUME % "{name: a_d}"}) == ["b"]


def test_of_two_apps_whose_volumes_would_be_called_the_same_the_first_keeps_its_own() -> None:
    longer = "services: {web: {image: nginx, volumes: ['b_d:/d']}}\nvolumes: {b_d: }"
    assert refused({"a": longer, "a_b": ON_A_VOLUME % ""}) == ["a_b"]


def test_an_app_that_writes_the_name_of_a_network_gives_way_to_the_app_whose_network_is_called_so() -> None:
    named = ON_A_NETWORK % ("n", "n: {name: mvd-b-default-44136fa3}, m")
    assert refused({"a": named, "b": REDIS % "web"}) == ["a"]
    assert refused({"c": named, "b": REDIS % "web"}) == ["c"]
    broken = "services: {web: {image: nginx, networks: [n]}}\nnetworks: {n: }\nwrong: key"
    assert refused({"a": ON_A_NETWORK % ("n", "n: {name: mvd-b-n-44136fa3}, m"), "b": broken}) == ["b"]


PARTS = st.lists(st.sampled_from(["a", "b", "default"]), min_size=1, max_size=3)
JOINED = st.builds(lambda parts, by: by.join(parts), PARTS, st.sampled_from(["-", "_"]))
SERVICES = st.lists(JOINED, min_size=1, max_size=3, unique=True)


def crowded(app: str, services: list[str]) -> str:
    """Services of one content, each with a network, a volume and a route of its own, and one on the default network."""
    runs = "image: redis, networks: [%s], volumes: ['%s:/d'], deploy: {replicas: 2}"
    kong = f"x-kong: {{port: 80, routes: [{{paths: [/{app}/%s]}}]}}"
    lines = [f"  {name}: {{{runs % (name, name)}, {kong % name}}}" for name in services]
    names = ", ".join(f"{name}: " for name in services)
    return "\n".join(["services:", *lines, "  web: {image: redis}", f"networks: {{{names}}}", f"volumes: {{{names}}}"])


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(JOINED, SERVICES, min_size=2, max_size=4))
def test_no_two_apps_of_a_host_have_a_name_in_common(named: dict[str, list[str]]) -> None:
    """Those of units, timers, containers, files, networks, volumes and upstreams; of a clash, one is told."""
    tree = MemoryTree({f"apps/{app}/compose.yaml": crowded(app, services) for app, services in named.items()})
    found, broken = load(tree, HostFacts("h1"))
    assert {app.name for app in found} | broken.keys() == named.keys()
    told = [str(problem) for problems in broken.values() for problem in problems]
    assert all("the volume " in problem for problem in told), told
    owners: dict[tuple[str, str], str] = {}
    for app in found:
        names = [
            *(("instance", name) for it in app.services for name in it.instances(app.name)),
            *(("network", name) for name in app.all_networks),
            *(("volume", name) for name in app.volumes),
            *(("upstream", service_name((app.name, it.name))) for it in app.services),
            *(("journal", f"{app.name}/{it.name}") for it in app.services),
        ]
        assert len(set(names)) == len(names)
        for name in names:
            assert owners.setdefault(name, app.name) == app.name, name
        for it in app.services:
            assert it.endpoints(app.name).keys() <= app.all_networks.keys()
