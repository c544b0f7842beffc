"""`mvd uninstall` on a server that serves: with its apps, and without them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.stories import DAEMON, Story, eventually, routed
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

THEIRS = {"name": "theirs", "url": "http://127.0.0.1:9"}


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server with two apps, one of them with a volume and a folder, and a service in Kong that is not managed."""
    repository = lab.forge.create("acme/uninstall")
    repository.commit({"README.md": "A server to be left\n"}, "Begin")
    server = lab.server("uninstall")
    story = Story.set_up(lab, server, repository, mode="postgres")
    story.kong("/services", "POST", THEIRS)
    image = lab.registry.push("shop", "1", service.web("shop", "1"))
    data = {"volumes": ["data:/data", "./files:/files"]}
    story.deploy("shop", {"services": {"web": routed(image, "/shop", **data)}, "volumes": {"data": {}}})
    story.deploy("news", {"services": {"web": routed(image, "/news")}})
    yield story
    server.destroy()


def daemon_is(story: Story) -> list[str]:
    """Is it active, and enabled?"""
    return [
        story.server.exec("systemctl", word, DAEMON, check=False).out.strip() for word in ("is-active", "is-enabled")
    ]


def test_nothing_is_changed_before_it_was_asked(story: Story) -> None:
    before = story.containers()
    said = story.server.exec("mvd", "uninstall", input="n\n", check=False)
    assert said.code == 1
    assert "removes  2 apps: news, shop, with units, containers, networks, images and routes\n" in said.out
    assert "stays    volume shop_data\n" in said.out
    assert "stays    folder /srv/mvd/shop/files\n" in said.out
    assert "nothing was changed" in said.err
    assert story.containers() == before
    assert daemon_is(story) == ["active", "enabled"]


def test_the_daemon_leaves_and_its_apps_stay(story: Story) -> None:
    before = story.containers()
    with story.never_failing("/shop", "shop 1"):
        story.run("mvd", "uninstall", "--keep-apps", "--yes")
        assert daemon_is(story)[0] == "inactive"
        assert story.server.exec("ls", f"/etc/systemd/system/{DAEMON}", check=False).code != 0
        story.run("mvd", "install")
        story.look_again()
    assert story.containers() == before
    assert story.mvd("plan").code == 0


def test_the_daemon_leaves_with_its_apps_and_only_data_stays(story: Story) -> None:
    story.run("mvd", "uninstall", "--yes")
    assert daemon_is(story)[0] == "inactive"
    label = ("--filter", "label=io.gitops-mvd.app")
    assert story.run("docker", "ps", "--all", "--quiet", *label) == ""
    assert story.run("docker", "network", "ls", "--quiet", *label) == ""
    assert story.images("*") == []
    assert story.run("find", "/etc/systemd/system", "-name", "*mvd*") == ""
    assert story.run("systemctl", "list-units", "--all", "--no-legend", "mvd-*") == ""
    assert [it["name"] for it in story.kong("/services")["data"]] == ["theirs"]
    assert story.kong("/routes")["data"] == story.kong("/upstreams")["data"] == []
    assert story.run("docker", "volume", "ls", "--quiet", *label) == "shop_data\n"
    assert story.run("ls", "/srv/mvd/shop") == "files\n"
    assert story.server.exec("ls", "/var/lib/gitops-mvd", "/etc/gitops-mvd/files", check=False).out == ""
    assert story.run("ls", SETTINGS)


def test_what_was_left_is_taken_up_again(story: Story) -> None:
    story.run("mvd", "install")
    eventually("the app of before", lambda: story.ask("/shop").text == "shop 1\n")
    assert story.run("docker", "volume", "ls", "--quiet") == "shop_data\n"
