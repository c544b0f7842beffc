"""What is read again, what is not, and what one app's mistakes mean for the others."""

from collections.abc import Sequence

import pytest

from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import HostFacts, Problem
from gitops_mvd.manifest import Cache, load, read_fleet, validate
from tests.unit.memory_tree import MemoryTree

WEB = "services: {web: {image: nginx}}\n"
HOST = HostFacts("web1")


def test_a_broken_app_does_not_touch_another() -> None:
    tree = MemoryTree({"apps/good/compose.yaml": WEB, "apps/bad/compose.yaml": "services: {web: {imag: nginx}}"})
    apps, broken = load(tree, HOST)
    assert [app.name for app in apps] == ["good"]
    assert [problem.key for problem in broken["bad"]] == ["services.web", "services.web.imag"]


@pytest.mark.parametrize("path", ["apps/bad/compose.yaml", "apps/bad/.env", "apps/bad/env", "apps/bad/base.yaml"])
def test_a_file_that_is_too_large_breaks_its_own_app_alone(path: str) -> None:
    class Refusing(MemoryTree):
        def read(self, asked: str) -> bytes:
            if asked == path:
                raise ManifestError([Problem(path, 1, "", "is too large")])
            return super().read(asked)

    bad = "services: {web: {image: nginx, env_file: env, extends: {file: base.yaml, service: web}}}"
    files = {"apps/bad/compose.yaml": bad, "apps/bad/.env": "", "apps/bad/env": "", "apps/bad/base.yaml": WEB}
    apps, broken = load(Refusing({"apps/good/compose.yaml": WEB, **files}), HOST)
    assert [app.name for app in apps] == ["good"]
    assert Problem(path, 1, "", "is too large") in broken["bad"]


def test_a_folder_that_is_mounted_counts_once_and_is_read_once() -> None:
    listed: list[str] = []

    class Listing(MemoryTree):
        def names(self, folder: str) -> Sequence[str]:
            listed.append(folder)
            if folder == "apps/a/site":
                return [f"{n:04}" for n in range(9000)]
            return super().names(folder)

        def read(self, path: str) -> bytes:
            return b"" if path.startswith("apps/a/site/") else super().read(path)

    mounted = "services: {one: &it {image: n, volumes: ['./site:/x:ro', './site:/y:ro']}, two: *it}"
    apps, broken = load(Listing({"apps/a/compose.yaml": mounted, "apps/a/site/0000": ""}), HOST)
    assert not broken
    assert [len(file.files) for service in apps[0].services for file in service.files] == [9000] * 4
    assert listed.count("apps/a/site") == 1


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
            "apps/a/env": f"A={secret}${{\n{secret} x=1\nC=${{{secret}-\nD=${{A:?$SECRET}}\n"
            f"E='{secret}' {secret}\nF= # {secret}\nG={'x' * (1 << 17)}{secret}\nB='{secret}\n{secret}\n",
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
    files = {"fleet.yaml": "hosts: {uk1: {labels: {region: uk}}}", "apps/a/compose.yaml": WEB, path: "{}"}
    [problem] = validate(MemoryTree(files, links=[path]))
    assert problem.file == path
    assert problem.message.startswith(f"{path} is a symbolic link, which is not followed")


def test_an_app_does_not_include_without_end() -> None:
    files = {f"apps/a/{n}.yaml": f"include: [{n + 1}.yaml, {n + 1}.yaml]\nservices: {{}}" for n in range(30)}
    tree = MemoryTree({"apps/a/compose.yaml": "include: [0.yaml]\nservices: {}", "apps/a/30.yaml": WEB, **files})
    assert any("more than 50 files" in problem.message for problem in validate(tree))


def routed(path: str, more: str = "") -> str:
    return f"services: {{web: {{image: nginx, x-kong: {{port: 80, routes: [{{paths: [{path}]}}]}}{more}}}}}"


def test_of_two_apps_that_want_the_same_route_the_later_one_is_broken_and_frees_all_that_it_has() -> None:
    tree = MemoryTree(
        {
            "apps/a/compose.yaml": routed("/same"),
            "apps/b/compose.yaml": routed("/same, /other", ", ports: ['8080:80']"),
            "apps/c/compose.yaml": routed("/other", ", ports: ['8080:80']"),
        }
    )
    cache: Cache = {}
    for _ in range(2):
        apps, broken = load(tree, HOST, cache)
        assert [app.name for app in apps] == ["a", "c"]
        assert [str(problem) for problem in broken["b"]] == [
            "apps/b/compose.yaml:1: services.web.x-kong.routes[0]: the route /same is used by a.web too, "
            "in apps/a/compose.yaml:1: give one of them another path, host or method"
        ]


def test_an_app_gives_way_to_a_route_of_the_gateway_whatever_its_name() -> None:
    gateway = "services: [{name: old, host: old.local, routes: [{paths: [/same]}]}]"
    tree = MemoryTree({"apps/a/compose.yaml": routed("/same"), "kong/a.yaml": gateway})
    apps, broken = load(tree, HOST)
    assert [app.name for app in apps] == ["gateway"]
    assert apps[0].kong_entities == {
        "services": [{"name": "old", "host": "old.local", "routes": [{"paths": ["/same"]}]}]
    }
    assert broken.keys() == {"a"}


def test_two_entries_of_one_name_can_be_of_two_hosts() -> None:
    on = "deploy: {placement: {constraints: [node.hostname == web%d]}}"
    text = f"""
        services:
          here: {{image: a, networks: [p], volumes: ["v:/v"], {on % 1}}}
          there: {{image: a, networks: [q], volumes: ["w:/w"], {on % 2}}}
        networks: {{p: {{name: y, internal: true}}, q: {{name: y}}}}
        volumes: {{v: {{name: z, labels: {{o: x}}}}, w: {{name: z}}}}
    """
    tree = MemoryTree({"apps/a/compose.yaml": text})
    (here,), (there,) = load(tree, HOST)[0], load(tree, HostFacts("web2"))[0]
    assert (here.networks, here.volumes) == ({"y": {"internal": True}}, {"z": {"labels": {"o": "x"}}})
    assert (there.networks, there.volumes) == ({"y": {}}, {"z": {}})


def test_a_broken_app_claims_nothing() -> None:
    tree = MemoryTree({"apps/a/compose.yaml": routed("/same", ", imag: x"), "apps/b/compose.yaml": routed("/same")})
    apps, broken = load(tree, HOST)
    assert ([app.name for app in apps], [*broken]) == (["b"], ["a"])


@pytest.mark.parametrize(
    ("ports", "clash"),
    [
        (("8080:80", "8080:81"), True),
        (("127.0.0.1:8080:80", "8080:80"), True),
        (("0.0.0.0:8080:80", "127.0.0.1:8080:80"), True),
        (("127.0.0.1:8080:80", "10.0.0.1:8080:80"), False),
        (("8080:80/udp", "8080:80"), False),
        (("80", "80"), False),
        (("8080-8090:80", "8080:80"), False),
    ],
)
def test_a_port_of_the_host_has_one_owner_at_each_address(ports: tuple[str, str], clash: bool) -> None:
    files = {
        f"apps/{name}/compose.yaml": f"services: {{web: {{image: nginx, ports: ['{port}']}}}}"
        for name, port in zip("ab", ports, strict=True)
    }
    assert ("b" in load(MemoryTree(files), HOST)[1]) == clash
    assert bool(validate(MemoryTree(files))) == clash


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("paths: [/a]", "paths: [/a], strip_path: false", True),
        ("paths: [/a], hosts: [A.org]", "paths: [/b, /a], hosts: [a.org, b.org]", True),
        ("paths: [/a], headers: {X-V: ['2', '1']}", "paths: [/a], headers: {x-v: ['1', '2']}", True),
        ("hosts: [a.org]", "hosts: [a.org], protocols: [https]", True),
        ("paths: [/a]", "paths: [/a/]", False),
        ("paths: [/a]", "paths: [/a], hosts: [a.org]", False),
        ("paths: [/a], methods: [GET]", "paths: [/a], methods: [POST]", False),
        ("paths: [/a]", "paths: [/a], protocols: [grpc]", False),
        ("paths: ['~/a'], regex_priority: 1", "paths: ['~/a'], regex_priority: 2", False),
    ],
)
def test_two_routes_are_the_same_if_a_request_could_be_for_either(one: str, other: str, clash: bool) -> None:
    files = {
        f"apps/{name}/compose.yaml": f"services: {{web: {{image: nginx, x-kong: {{port: 1, routes: [{{{route}}}]}}}}}}"
        for name, route in (("a", one), ("b", other))
    }
    assert ("b" in load(MemoryTree(files), HOST)[1]) == clash


def test_a_route_with_very_many_combinations_is_soon_read() -> None:
    hosts = ", ".join(f"h{n}.org" for n in range(2000))
    route = f"[{{paths: [{', '.join(f'/p{n}' for n in range(2000))}], hosts: [{hosts}]}}]"
    text = f"services: {{web: {{image: nginx, x-kong: {{port: 1, routes: {route}}}}}}}"
    _, broken = load(MemoryTree({"apps/a/compose.yaml": text, "apps/b/compose.yaml": text}), HOST)
    assert [problem.message.partition(" is used by ")[0] for problem in broken["b"]] == ["the route"]


def names_on(host: str, files: dict[str, str]) -> list[str]:
    apps, broken = load(MemoryTree({"kong/a.yaml": "consumers: [{username: nhs}]", **files}), HostFacts(host))
    return sorted([*(app.name for app in apps), *broken])


def test_the_gateway_is_where_it_leads_to_something() -> None:
    here = ", deploy: {placement: {constraints: [node.hostname == web1]}}"
    files = {"apps/a/compose.yaml": routed("/a", here), "apps/b/compose.yaml": WEB}
    assert names_on("web1", files) == ["a", "b", "gateway"]
    assert names_on("db1", files) == ["b"]
    assert names_on("db1", {"apps/b/compose.yaml": WEB}) == ["b", "gateway"]
    assert names_on("db1", {**files, "kong/b.yaml": "nonsense: []"}) == ["b"]


def test_the_gateway_does_not_go_because_an_app_is_broken() -> None:
    elsewhere = routed("/a", ", deploy: {placement: {constraints: [node.hostname == other]}}")
    broken = WEB.replace("image: nginx", "image: nginx, x-kogn: {port: 80, routes: [{paths: [/]}]}")
    files = {"apps/a/compose.yaml": elsewhere, "apps/b/compose.yaml": broken}
    assert names_on("web1", files) == ["b", "gateway"]


def test_the_facts_of_no_host_are_missed_while_the_fleet_is_broken() -> None:
    app = "services: {web: {image: 'nginx:$TAG', environment: [REGION], depends_on: [db]}, db: {image: $DB}}"
    tree = MemoryTree({"fleet.yaml": "hosts: {web1: {variable: {}}}", "apps/a/compose.yaml": app})
    assert [problem.file for problem in validate(tree)] == ["fleet.yaml"]


def test_a_folder_is_no_stray_if_an_app_of_any_host_uses_it() -> None:
    files = {
        "fleet.yaml": "hosts: {uk1: {labels: {region: uk}}, rw1: }",
        "apps/a/compose.yaml": WEB,
        "apps/a/compose.region-uk.yaml": "services: {web: {volumes: ['../shared:/etc/shared:ro']}}",
        "apps/shared/x/file": "1",
        "apps/README.md": "",
    }
    assert validate(MemoryTree(files)) == []
    del files["apps/a/compose.region-uk.yaml"]
    assert [problem.file for problem in validate(MemoryTree(files))] == ["apps/shared"]


def test_a_folder_counts_once_for_all_apps_together() -> None:
    more = {f"apps/a{app}/{n:04}": "" for app in range(10) for n in range(6000)}
    apps, broken = load(
        MemoryTree({**more, **{f"apps/a{app}/compose.yaml": "services: {web: {image: nginx}}" for app in range(10)}}),
        HOST,
    )
    assert (len(apps), broken) == (10, {})
