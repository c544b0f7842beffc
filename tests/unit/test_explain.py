"""Why an app is deployed as it is, told in sentences."""

from __future__ import annotations

from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import load
from gitops_mvd.manifest.explain import explain, notes_of
from tests.unit.memory_tree import MemoryTree

SHOP = """
services:
  web:
    image: a
    depends_on: {db: {condition: service_healthy}, migrate: {condition: service_completed_successfully}}
    deploy: {replicas: 3, update_config: {delay: 10s, monitor: 5s}}
    stop_grace_period: 30s
    x-mvd: {health: {http: /health}}
    x-kong: {port: 80, routes: [{paths: [/shop]}]}
  migrate: {image: a, restart: "no"}
  db: {image: a, volumes: ["data:/data"], healthcheck: {test: "true"}}
  port: {image: a, ports: ["53:53"], deploy: {update_config: {failure_action: pause}}}
  bind: {image: a, volumes: ["/srv:/srv"]}
  alone: {image: a, network_mode: host}
  fixed: {image: a, networks: {default: {ipv4_address: 172.30.0.2}}}
  worker: {image: a, volumes: ["/srv:/srv:ro"]}
  beside: {image: a, deploy: {update_config: {order: start-first, parallelism: 0}, replicas: 2}}
  careful:
    image: a
    deploy: {update_config: {order: stop-first, failure_action: continue}}
    x-kong: {port: 80, routes: [{paths: [/careful]}]}
volumes: {data: {}}
"""


def told() -> dict[str, dict[str, str]]:
    return of({"apps/shop/compose.yaml": SHOP})


def of(files: dict[str, str]) -> dict[str, dict[str, str]]:
    apps, broken = load(MemoryTree(files), HostFacts("h1"))
    assert broken == {}
    [app] = apps
    return explain(app)


def test_every_order_has_its_reason() -> None:
    assert {name: about["order"] for name, about in told().items()} == {
        "web": "start-first: it has a route, and nothing that two versions could not share",
        "migrate": "stop-first: it has no route, so traffic cannot be moved without a stop",
        "db": "stop-first: two versions should not write to shop_data at once",
        "port": "stop-first: two versions cannot share the port 53 of the host",
        "bind": "stop-first: two versions should not write to /srv at once",
        "alone": "stop-first: two versions cannot share the ports of the host's own network",
        "fixed": "stop-first: two versions cannot share a fixed address",
        "worker": "stop-first: it has no route, so traffic cannot be moved without a stop",
        "beside": "start-first: set in its manifest",
        "careful": "stop-first: set in its manifest",
    }


def test_all_of_a_deploy_is_told() -> None:
    assert told()["web"] == {
        "restarts": "whenever it ends",
        "starts": "after db is healthy, migrate has completed",
        "order": "start-first: it has a route, and nothing that two versions could not share",
        "instances": "3, replaced 1 at a time, each batch watched for 10s",
        "found as": "web",
        "gate": "until http /health 80 succeeds (at most 60 s, then for 5 s)",
        "switch": "in Kong; old instances get 30s to finish open requests",
        "on failure": "rollback: the whole app goes back to the version that last worked",
    }
    assert told()["migrate"]["runs"] == "once per version; not repeated on drift"
    assert told()["beside"]["instances"] == "2, replaced all at once"


def test_the_shares_of_a_canary_are_told() -> None:
    with_canary = SHOP.replace("x-mvd: {health: {http: /health}}", "x-mvd: {canary: {steps: [10, 50], for: 5m}}")
    web = of({"apps/shop/compose.yaml": with_canary})["web"]
    assert web["instances"] == "3, replaced all at once, beside the old ones"
    assert web["canary"] == (
        "a new version gets 10 %, then 50 % of the requests, for 300 s each; it goes back if "
        "2 % more of them fail than of the old version's, or take 1.5 times as long"
    )


def test_when_a_service_is_started_again_is_told() -> None:
    policies = {"a": "always", "b": "on-failure:3", "c": "", "d": '"no"'}
    services = ", ".join(f"{name}: {{image: a, restart: {policy}}}" for name, policy in policies.items())
    about = of({"apps/shop/compose.yaml": f"services: {{{services}}}"})
    assert {name: about[name].get("restarts") for name in "abcd"} == {
        "a": "whenever it ends",
        "b": "after an exit code other than 0, 3 times at most",
        "c": "after an exit code other than 0",
        "d": None,
    }


def test_what_is_mounted_of_the_app_is_told() -> None:
    files = {"apps/shop/app.conf": "x", "apps/shop/compose.yaml": "services: {web: {image: a, volumes: [%s]}}"}
    files["apps/shop/compose.yaml"] %= "'./data:/data', './uploads:/up', './app.conf:/etc/app.conf'"
    about = of(files)["web"]
    assert about["folders"] == "./data, ./uploads of the app on the host, kept like volumes"
    assert about["read-only"] == "/etc/app.conf, from the repository"


def test_data_in_an_anonymous_volume_is_handed_over() -> None:
    text = "services: {db: {image: a, volumes: [/data], x-kong: {port: 80, paths: [/a]}}}"
    why = "its data in /data goes over to a new version only once the old one has stopped"
    assert of({"apps/shop/compose.yaml": text})["db"]["order"] == f"stop-first: {why}"


def test_notes_are_told_with_their_service_or_with_the_app() -> None:
    text = "services: {web: {image: a, container_name: xx}, web-2: {image: a, build: .}}"
    files = {"apps/shop/compose.yaml": text, "apps/shop/compose.override.yaml": "services: {}"}
    [app], _ = load(MemoryTree(files), HostFacts("h1"))
    notes = notes_of(app)
    assert notes.keys() == {"web", "web-2", ""}
    assert [len(some) for some in notes.values()] == [1, 1, 1]
    assert "compose.override.yaml:1: is not read on a server" in notes[""][0]


def test_services_are_told_in_the_order_in_which_they_start() -> None:
    names = list(told())
    assert names.index("db") < names.index("web")
    assert names.index("migrate") < names.index("web")
