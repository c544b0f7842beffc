"""The balancer of the example repository before two servers: they come, leave, reboot and die, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.integration.stories import Story, eventually, manifest, routed
from tests.lab import haproxy, service
from tests.lab.lab import Lab
from tests.lab.load import Load

pytestmark = pytest.mark.lab

EXAMPLE = Path(__file__).parents[2] / "example-repo"
LIST = {
    "constraints": ["node.labels.role == web"],
    "each": "server ${HOSTNAME} ${ADDRESS}:8000",
}
SAYS_ITS_HOST = "echo web $$ME >/www/index.html; httpd -f -p 7799 -h /www & trap 'exit 0' TERM; wait $$!"
TIMES = 12  # that are asked to see who answers
BOTH = {"web web-1", "web web-2"}
AMID_SECONDS = 2.0  # for which requests go on after what was done amid them


class Edge:
    """The server that users ask, those behind it, and the repository that all of them follow."""

    def __init__(self, lab: Lab, edge: Story, web: dict[str, Story]) -> None:
        self.story = edge
        self.web = web
        self._image = haproxy.push(lab)

    def fleet(self, *drained: str, servers: tuple[str, ...] = ("web-1", "web-2")) -> dict[str, str | None]:
        """`fleet.yaml` with these servers, some of them drained."""
        hosts: dict[str, Any] = {"edge": {"labels": {"role": "edge"}}}
        for name in servers:
            variables = {"ADDRESS": self.web[name].server.ip, "ME": name}
            hosts[name] = {"labels": {"role": "web"}, "variables": variables, "drain": name in drained}
        return {"fleet.yaml": yaml.safe_dump({"lists": {"WEB_SERVERS": LIST}, "hosts": hosts}, sort_keys=False)}

    def balancer(self, old: str = "", new: str = "") -> dict[str, str | None]:
        """The app as the example repository has it, with one text in the place of another one."""
        text = (EXAMPLE / "apps/balancer/compose.yaml").read_text()
        assert old in text
        text = text.replace("image: haproxy:3.0", f"image: {self._image}")
        return {"apps/balancer/compose.yaml": text.replace(old, new) if old else text}

    def merged(self, files: dict[str, str | None], subject: str, state: str = "success") -> str:
        """Merge, and return what the balancer's server says of it in the end."""
        return self.story.ends(self.story.merge(files, subject), state)

    @property
    def url(self) -> str:
        return f"http://{self.story.server.ip}/"

    def who_answers(self) -> set[str]:
        """What new connections are answered."""
        with requests.Session() as session:
            session.trust_env = False
            ask = {"headers": {"Connection": "close"}, "timeout": 20}
            return {session.get(self.url, **ask).text.strip() for _ in range(TIMES)}  # type: ignore[arg-type]

    @contextmanager
    def losing_nothing(self) -> Iterator[None]:
        """Ask all the while, over connections that are kept and over new ones, and see that no request is lost."""
        with Load(self.url, "web", kept=1, fresh=1, patience=20) as load:
            eventually("the first answers", lambda: load.so_far()[0] > 50)
            yield
            time.sleep(AMID_SECONDS)
            told = load.finish()
        assert [it.why for it in told if it.failures] == []
        assert all(it.requests > 100 for it in told)


@pytest.fixture(scope="module")
def edge(lab: Lab) -> Iterator[Edge]:
    repository = lab.forge.create("acme/balanced")
    repository.commit({"README.md": "Balanced\n"}, "Begin")
    names = ("edge", "web-1", "web-2")
    stories = {name: Story.set_up(lab, lab.server(name), repository) for name in names}
    front = stories.pop("edge")
    yield Edge(lab, front, stories)
    for story in (front, *stories.values()):
        story.server.destroy()


@pytest.fixture(scope="module")
def serving(lab: Lab, edge: Edge) -> Edge:
    """Both servers behind the balancer; each says who it is."""
    image = lab.registry.push("balanced", "1", service.web("web", "1"))
    placed = {"placement": {"constraints": ["node.labels.role == web"]}}
    saying = {"command": ["sh", "-c", SAYS_ITS_HOST], "environment": {"ME": "${ME}"}, "deploy": placed}
    web = manifest("web", {"services": {"web": routed(image, "/", **saying)}})
    commit = edge.story.merge({**edge.fleet(), **edge.balancer(), **web}, "Have a balancer")
    for story in (edge.story, *edge.web.values()):
        story.ends(commit, "success")
    eventually("an answer of each server", lambda: edge.who_answers() == BOTH)
    return edge


def test_a_server_is_drained_rebooted_and_put_back(serving: Edge) -> None:
    edge, away = serving, serving.web["web-2"]
    with edge.losing_nothing():
        edge.merged(edge.fleet("web-2"), "Drain web-2")
        assert edge.who_answers() == {"web web-1"}
        away.server.reboot()
        away.look_again()
        edge.merged(edge.fleet(), "Put web-2 back")
        eventually("an answer of each server", lambda: edge.who_answers() == BOTH)


def test_a_server_is_removed_from_the_fleet_and_added_again(serving: Edge) -> None:
    edge = serving
    with edge.losing_nothing():
        edge.merged(edge.fleet(servers=("web-2",)), "Remove web-1")
        assert edge.who_answers() == {"web web-2"}
        edge.merged(edge.fleet(), "Add web-1")
        eventually("an answer of each server", lambda: edge.who_answers() == BOTH)


def test_a_server_is_cut_off_and_what_was_sent_to_it_is_asked_again_of_another_one(serving: Edge) -> None:
    edge, lost = serving, serving.web["web-1"]
    with edge.losing_nothing():
        lost.server.disconnect()
        eventually("that the balancer has seen it", lambda: edge.who_answers() == {"web web-2"})
        lost.server.connect()
        edge.merged(edge.fleet(), "Have web-1 where it is now")
        eventually("an answer of each server", lambda: edge.who_answers() == BOTH)


def test_a_change_of_its_configuration_loses_nothing_and_a_bad_one_goes_back(serving: Edge) -> None:
    edge = serving
    before = edge.story.containers("balancer")
    with edge.losing_nothing():
        edge.merged(edge.balancer("timeout server 15s", "timeout server 16s"), "Wait a second longer")
        after = edge.story.containers("balancer")
        assert before != after
        assert len(after) == 1
        misspelt = edge.story.merge(edge.balancer("balance leastconn", "balance leastcon"), "Misspell it")
        assert "exited with code 1" in edge.story.ends(misspelt, "failure")
        edge.story.ends(edge.story.revert(misspelt), "success")
        assert edge.story.containers("balancer") == after


def test_after_a_reboot_it_serves_though_what_it_took_over_from_is_gone(serving: Edge) -> None:
    serving.story.server.reboot()
    eventually("an answer of each server", lambda: serving.who_answers() == BOTH)
    serving.story.look_again()
