"""Large manifests: sizes at which a look at every pair of their parts would not end."""

from gitops_mvd.core.model import App, HostFacts, Problem
from gitops_mvd.manifest import load
from gitops_mvd.manifest.asked import Asked
from gitops_mvd.manifest.reading import read_app
from tests.unit.memory_tree import MemoryTree

HOST = HostFacts("web1")


def read(text: str) -> App:
    apps, broken = load(MemoryTree({"apps/a/compose.yaml": text}), HOST)
    assert not broken
    return apps[0]


def mistakes(*texts: str) -> list[Problem]:
    _, broken = load(MemoryTree({f"apps/a{n}/compose.yaml": text for n, text in enumerate(texts)}), HOST)
    return [problem for problems in broken.values() for problem in problems]


def test_every_port_of_the_host_is_read() -> None:
    app = read('services: {web: {image: nginx, ports: ["1-65535:1-65535", "80:80"]}}')
    assert len(app.services[0].run["ports"]) == 65535


def test_many_links_are_read() -> None:
    links = [f"[{', '.join(f'hub:x{n}y{m}' for m in range(25))}]" for n in range(2500)]
    spokes = "".join(f"  s{n}: {{image: a, links: {names}}}\n" for n, names in enumerate(links))
    app = read(f"services:\n  hub: {{image: a}}\n{spokes}")
    (endpoint,) = app.services[0].run["networks"].values()
    assert len(endpoint["aliases"]) == 1 + 2500 * 25


def test_many_variables_that_are_not_set_are_each_noted_once() -> None:
    names = [f"N{n}" for n in range(50_000)]
    env = "".join(f"A=${name}\nA=${name}\n" for name in names)
    tree = MemoryTree({"apps/a/compose.yaml": "services: {web: {image: nginx}}", "apps/a/.env": env})
    reading = read_app(tree, "a", Asked(HostFacts("web1", unset_is_empty=frozenset({"a"}))), {})
    assert [problem.message.split()[2] for problem in reading.notes] == sorted(names, key=lambda name: int(name[1:]))


def test_many_networks_are_read() -> None:
    names = [f"n{n}" for n in range(8000)]
    declared = ", ".join(f"{name}: {{name: {name}}}" for name in names)
    app = read(
        f"services: {{web: {{image: a, container_name: front, networks: [{', '.join(names)}]}}}}\n"
        f"networks: {{{declared}}}\n"
    )
    assert len(app.networks) == 8000


def test_many_subnets_are_read() -> None:
    pools = ", ".join(f"{{subnet: 10.{n // 256}.{n % 256}.0/24}}" for n in range(24_000))
    text = f"services: {{web: {{image: a, networks: [x]}}}}\nnetworks: {{x: {{ipam: {{config: [{pools}]}}}}}}"
    wide = (
        "services: {web: {image: a, networks: [y]}}\nnetworks: {y: {ipam: {config: [{subnet: 10.0.0.0/8, "
        "ip_range: 10.255.0.0/16}]}}}"
    )
    assert mistakes(text, wide) == []


def test_one_subnet_is_told_to_clash_with_ten_others_at_most() -> None:
    pools = ", ".join(f"{{subnet: 10.{n // 256}.{n % 256}.0/24}}" for n in range(5000))
    text = f"services: {{web: {{image: a, networks: [x]}}}}\nnetworks: {{x: {{ipam: {{config: [{pools}]}}}}}}"
    wide = "services: {web: {image: a, networks: [y]}}\nnetworks: {y: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}"
    assert len(mistakes(text, wide)) == 10
