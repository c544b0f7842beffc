"""What is read again, what is not, and what one app's mistakes mean for the others."""

import pytest

from gitops_mvd.errors import ManifestError
from gitops_mvd.manifest import Cache, load, read_fleet, validate
from gitops_mvd.model import HostFacts
from tests.unit.memory_tree import MemoryTree

WEB = "services: {web: {image: nginx}}\n"
HOST = HostFacts("web1")


def test_a_broken_app_does_not_touch_another() -> None:
    tree = MemoryTree({"apps/good/compose.yaml": WEB, "apps/bad/compose.yaml": "services: {web: {imag: nginx}}"})
    apps, broken = load(tree, HOST)
    assert [app.name for app in apps] == ["good"]
    assert [problem.key for problem in broken["bad"]] == ["services.web", "services.web.imag"]


def test_an_app_that_did_not_change_is_not_read_again() -> None:
    files = {
        "apps/a/compose.yaml": "services: {web: {image: nginx, env_file: ../shared/env}}",
        "apps/b/compose.yaml": WEB,
        "apps/shared/env": "A=1\n",
    }
    cache: Cache = {}
    before = load(MemoryTree(files), HOST, cache)

    same = MemoryTree(files)
    assert load(same, HOST, cache) == before
    assert same.reads == []

    changed = MemoryTree({**files, "apps/shared/env": "A=2\n"})
    apps, _ = load(changed, HOST, cache)
    assert apps[0].services[0].environment == {"A": "2"}
    assert "apps/b/compose.yaml" not in changed.reads


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("apps/a/.env", "TAG=2"),
        ("apps/a/compose.region-uk.yaml", "services: {web: {image: other}}"),
        ("apps/a/maybe.env", "A=1"),
        ("apps/shared/maybe.env", "A=1"),
    ],
)
def test_a_file_that_appears_is_a_change(path: str, text: str) -> None:
    facts = HostFacts("web1", {"region": "uk"})
    files = {
        "apps/a/compose.yaml": """
            services:
              web:
                image: nginx:${TAG:-1}
                env_file: [{path: maybe.env, required: false}, {path: ../shared/maybe.env, required: false}]
        """
    }
    cache: Cache = {}
    before, _ = load(MemoryTree(files), facts, cache)
    after, _ = load(MemoryTree({**files, path: text}), facts, cache)
    assert before[0] != after[0]


def test_a_fact_that_changes_is_a_change() -> None:
    tree = MemoryTree({"apps/a/compose.yaml": "services: {web: {image: 'nginx:${TAG}'}}"})
    cache: Cache = {}
    load(tree, HostFacts("web1", variables={"TAG": "1"}), cache)
    apps, _ = load(tree, HostFacts("web1", variables={"TAG": "2"}), cache)
    assert apps[0].services[0].image == "nginx:2"


def test_a_broken_app_stays_broken_from_the_cache() -> None:
    tree = MemoryTree({"apps/a/compose.yaml": "services: []"})
    cache: Cache = {}
    assert load(tree, HOST, cache) == load(tree, HOST, cache)


def test_an_app_without_a_service_for_the_host_is_left_out() -> None:
    tree = MemoryTree(
        {
            "apps/a/compose.yaml": """
                services:
                  web: {image: nginx, deploy: {placement: {constraints: [node.hostname == other]}}}
            """
        }
    )
    assert load(tree, HOST) == ((), {})


def test_a_mistake_in_a_service_of_another_host_does_not_break_the_app_here_but_fails_validation() -> None:
    tree = MemoryTree(
        {
            "fleet.yaml": "hosts: {web1: , web2: }",
            "apps/a/compose.yaml": """
                services:
                  here: {image: nginx}
                  there: {image: nginx, restart: never, deploy: {placement: {constraints: [node.hostname == web2]}}}
                  nowhere: {image: nginx, restart: never, deploy: {placement: {constraints: [node.hostname == web3]}}}
            """,
        }
    )
    apps, broken = load(tree, HOST)
    assert [service.name for service in apps[0].services] == ["here"]
    assert not broken
    assert load(tree, HostFacts("web2"))[1].keys() == {"a"}
    assert [problem.key for problem in validate(tree)] == [
        "services.there.restart",
        "services.nowhere.deploy.placement.constraints[0]",
        "services.nowhere.restart",
    ]


def test_an_app_that_nobody_can_read_is_broken_everywhere() -> None:
    tree = MemoryTree({"apps/a/compose.yaml": "services: {web: {image: nginx"})
    assert load(tree, HOST)[1].keys() == {"a"}


def test_a_host_that_the_fleet_does_not_know_is_an_error() -> None:
    fleet = read_fleet(MemoryTree({"fleet.yaml": "hosts: {web1: {labels: {role: web}}}"}))
    assert fleet.host("web1") == HostFacts("web1", {"role": "web"})
    with pytest.raises(ManifestError, match=r"fleet\.yaml:1: hosts: has no host web2"):
        fleet.host("web2")


def test_without_a_fleet_every_host_is_one_without_labels() -> None:
    assert read_fleet(MemoryTree({})).host("anything") == HostFacts("anything")


def test_a_broken_fleet_tells_every_mistake() -> None:
    with pytest.raises(ManifestError) as caught:
        read_fleet(MemoryTree({"fleet.yaml": "hosts: {a: {labels: []}, b: 5}\nextra: 1"}))
    assert [problem.key for problem in caught.value.problems] == ["hosts.a.labels", "hosts.b", "extra"]


def test_the_default_network_is_made_only_where_it_joins_services() -> None:
    alone, _ = load(MemoryTree({"apps/a/compose.yaml": WEB}), HOST)
    assert "networks" not in alone[0].services[0].run
    together, _ = load(MemoryTree({"apps/a/compose.yaml": "services: {a: {image: a}, b: {image: b}}"}), HOST)
    assert all(list(service.run["networks"]) == list(together[0].networks) for service in together[0].services)


def test_a_changed_network_is_another_network() -> None:
    def name(driver: str) -> str:
        text = f"services: {{a: {{image: a, networks: [n]}}}}\nnetworks: {{n: {{driver: {driver}}}}}"
        apps, _ = load(MemoryTree({"apps/a/compose.yaml": text}), HOST)
        return next(iter(apps[0].networks))

    assert name("bridge") == name("bridge") != name("macvlan")


def test_secrets_are_not_in_any_message() -> None:
    secret = "hunter2"
    tree = MemoryTree(
        {
            "fleet.yaml": f'hosts: {{web1: {{variables: {{SECRET: "{secret}\\n{secret}"}}}}}}',
            "apps/a/compose.yaml": """
                services: {web: {image: nginx, env_file: env, environment: ["A=$SECRET", SECRET], labels: ["$SECRET$"]}}
            """,
            "apps/a/env": f"A={secret}${{\nB='{secret}\n{secret}\n{secret} x=1\nC=${{{secret}-\nD=${{A:?$SECRET}}\n",
        }
    )
    problems = validate(tree)
    assert len(problems) >= 6
    assert not [problem for problem in problems if secret in str(problem)]


def test_a_variable_that_only_another_host_has_is_not_missed_here() -> None:
    tree = MemoryTree(
        {
            "fleet.yaml": "hosts: {web1: , uk1: {variables: {UK: 1}, labels: {region: uk}}}",
            "apps/a/compose.yaml": """
                services:
                  everywhere: {image: nginx}
                  uk:
                    extends: {file: base.yaml, service: base}
                    env_file: uk.env
                    secrets: [uk]
                    volumes: ["uk:/uk"]
                    deploy: {placement: {constraints: [node.labels.region == uk]}}
                secrets: {uk: {environment: UK}}
                volumes: {uk: {name: "data-$UK"}}
            """,
            "apps/a/base.yaml": "services: {base: {image: 'nginx:$UK'}, other: {image: 'nginx:$NOBODY_HAS_THIS'}}",
            "apps/a/uk.env": "A=$UK\n",
        }
    )
    assert validate(tree) == []
    assert [[service.name for service in app.services] for app in load(tree, HOST)[0]] == [["everywhere"]]


@pytest.mark.parametrize("path", ["fleet.yaml", "apps/a/compose.yaml", "apps/a/compose.region-uk.yaml", "kong/a.yaml"])
def test_a_link_is_a_mistake_and_never_followed(path: str) -> None:
    class WithALink(MemoryTree):
        def read(self, name: str) -> bytes:
            if name == path:
                raise FileNotFoundError(name)
            return super().read(name)

    tree = WithALink({"fleet.yaml": "hosts: {uk1: {labels: {region: uk}}}", "apps/a/compose.yaml": WEB, path: "{}"})
    assert [(problem.file, problem.message) for problem in validate(tree)] == [(path, "is no regular file")]


def test_an_app_does_not_include_without_end() -> None:
    files = {f"apps/a/{n}.yaml": f"include: [{n + 1}.yaml, {n + 1}.yaml]\nservices: {{}}" for n in range(30)}
    tree = MemoryTree({"apps/a/compose.yaml": "include: [0.yaml]\nservices: {}", "apps/a/30.yaml": WEB, **files})
    assert any("more than 50 files" in problem.message for problem in validate(tree))
