"""`lists` of `fleet.yaml`: what a balancer in front of several servers has of them, as Git has it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import App
from gitops_mvd.manifest import load, read_fleet, review
from tests.unit.memory_tree import MemoryTree

SERVERS = {"constraints": ["node.labels.role == web"], "each": "server ${HOSTNAME} ${ADDRESS}:8000 check"}
BALANCER = {
    "services": {
        "haproxy": {
            "image": "haproxy:3.2",
            "configs": [{"source": "haproxy", "target": "/etc/haproxy.cfg"}],
            "deploy": {"placement": {"constraints": ["node.labels.role == edge"]}},
        }
    },
    "configs": {"haproxy": {"content": "backend web\n  ${WEB_SERVERS}\n"}},
}


def fleet(lists: Any = None, **web: Any) -> dict[str, Any]:
    """A fleet with a balancer, `edge`, and web servers by name: each an address, or the keys of a host."""
    hosts = {
        name: {"labels": {"role": "web"}, "variables": {"ADDRESS": it}} if isinstance(it, str) else it
        for name, it in web.items()
    }
    return {"hosts": {"edge": {"labels": {"role": "edge"}}, **hosts}, "lists": lists or {"WEB_SERVERS": SERVERS}}


def tree_of(fleet: Any, compose: Any = BALANCER) -> MemoryTree:
    return MemoryTree(
        {
            "fleet.yaml": yaml.safe_dump(fleet, sort_keys=False),
            "apps/balancer/compose.yaml": yaml.safe_dump(compose, sort_keys=False),
        }
    )


def balancer(fleet: Any) -> App:
    tree = tree_of(fleet)
    [app], broken = load(tree, read_fleet(tree).host("edge"))
    assert not broken
    return app


def config(fleet: Any) -> str:
    [file] = balancer(fleet).services[0].files
    return file.files[""]


def test_a_config_has_a_line_for_each_host_that_the_constraints_allow_in_the_order_of_the_fleet() -> None:
    two = fleet(web_2="10.1.0.12", web_1="10.1.0.11", db={"labels": {"role": "db"}})
    assert config(two) == ("backend web\n  server web_2 10.1.0.12:8000 check\nserver web_1 10.1.0.11:8000 check\n")


def test_a_host_that_is_added_drained_or_removed_makes_another_version_and_other_changes_of_the_fleet_do_not() -> None:
    lists = {"WEB_SERVERS": SERVERS}
    addresses = {"web_1": "10.1.0.11", "web_2": "10.1.0.12"}
    before = balancer(fleet(lists, **addresses)).services[0]
    other = balancer(fleet(lists, **addresses, db={"labels": {"role": "db"}})).services[0]
    assert other.digest == before.digest

    away = {"labels": {"role": "web"}, "variables": {"ADDRESS": "10.1.0.12"}, "drain": True}
    drained, removed, added = (
        balancer(fleet(lists, **others)).services[0]
        for others in (
            {**addresses, "web_2": away},
            {"web_1": "10.1.0.11"},
            {**addresses, "web_3": "10.1.0.13"},
        )
    )
    assert drained.digest == removed.digest
    assert len({before.digest, drained.digest, added.digest}) == 3


def test_every_host_may_be_in_a_list_and_a_text_may_have_several_lines() -> None:
    everybody = {"WEB_SERVERS": {"each": "# ${HOSTNAME}\nserver ${HOSTNAME} ${ADDRESS:-10.1.0.1}\n"}}
    assert config(fleet(everybody, web="10.1.0.11")) == (
        "backend web\n  # edge\nserver edge 10.1.0.1\n# web\nserver web 10.1.0.11\n"
    )


def test_an_app_whose_list_has_no_host_any_more_is_held_and_the_review_says_why() -> None:
    alone = tree_of(
        fleet(
            web={"labels": {"role": "web"}, "drain": True},
            lists={
                "WEB_SERVERS": {
                    "constraints": ["node.labels.role == web"],
                    "each": "server ${HOSTNAME}",
                }
            },
        )
    )
    apps, broken = load(alone, read_fleet(alone).host("edge"))
    assert ([app.name for app in apps], [*broken]) == ([], ["balancer"])
    told = [str(problem) for problem in review(alone).problems]
    assert "lists.WEB_SERVERS: has no host that is not drained: web" in told[0]
    assert any("the variable WEB_SERVERS is not set" in it for it in told[1:])


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        (
            {"web-servers": SERVERS},
            "lists.web-servers: is the name of a variable: letters, digits and _, such as web_servers",
        ),
        ({"WEB": {"constraints": []}}, "lists.WEB: has no `each`"),
        ({"WEB": {**SERVERS, "each": "server ${IP}"}}, "lists.WEB.each: for web: the variable IP is not set"),
        ({"ADDRESS": SERVERS}, "lists.ADDRESS: is a variable of web, too: give one of them another name"),
        ({"WEB": {**SERVERS, "constraint": []}}, "lists.WEB.constraint: unknown key, did you mean `constraints`?"),
        ({"WEB": {**SERVERS, "each": "${HOSTNAME"}}, "lists.WEB.each: for web: has a `${` without its `}`"),
    ],
)
def test_a_mistake_in_a_list_is_told_with_its_line(lists: Any, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_fleet(tree_of(fleet(lists, web="10.1.0.11")))
    [problem] = caught.value.problems
    assert problem.file == "fleet.yaml"
    assert problem.line > 1
    assert told in str(problem)


def test_a_constraint_that_names_a_label_of_no_host_is_told_with_what_it_may_mean() -> None:
    tree = tree_of(fleet({"WEB_SERVERS": SERVERS | {"constraints": ["node.labels.rol == web"]}}, web="10.1.0.11"))
    told = [str(problem) for problem in review(tree).problems]
    assert "has no host of fleet.yaml: none has the label rol, did you mean `role`?" in told[0]


def test_a_list_is_not_longer_than_a_text_may_be() -> None:
    many = {f"web{n}": "10.1.0.1" for n in range(20)}
    with pytest.raises(ManifestError, match="is longer than 1 MiB for all hosts together"):
        read_fleet(tree_of(fleet({"WEB": {"each": "x" * 100_000}}, **many)))
