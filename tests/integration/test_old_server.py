"""A server of Debian 12, with Docker 20.10 and systemd 252: a deploy, one that fails, and a reboot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.stories import Story, manifest, routed
from tests.lab import images, service
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    release = images.release("debian12")
    if release == lab.release:
        pytest.skip("all of the lab's servers are of Debian 12")
    repository = lab.forge.create("acme/old")
    repository.commit({"README.md": "An old server\n"}, "Begin")
    server = lab.server("old", release=release)
    yield Story.set_up(lab, server, repository)
    server.destroy()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"healthcheck": {"test": ["CMD", "true"], "interval": "5s", "start_period": "10s", "start_interval": "1s"}},
            "web: `healthcheck.start_interval` needs Docker 25.0 or newer, and this is Docker 20.10",
        ),
        ({"cpuset": "900"}, "Requested CPUs are not available"),
    ],
    ids=["a start_interval", "a processor that is missing"],
)
def test_what_it_cannot_do_is_red_at_once_and_the_old_version_goes_on(
    lab: Lab, story: Story, more: dict[str, Any], told: str
) -> None:
    image = lab.registry.push("able", "1", service.web("able", "1"))
    story.deploy("able", {"services": {"web": routed(image, "/able")}})
    before = story.containers("able")
    commit = story.merge(manifest("able", {"services": {"web": routed(image, "/able", **more)}}), "Ask too much")
    assert told in story.ends(commit, "failure")
    assert story.containers("able") == before
    story.ends(story.revert(commit), "success")


def test_a_deploy_an_update_a_bad_version_and_a_reboot(lab: Lab, story: Story) -> None:
    first, second = (lab.registry.push("old", version, service.web("old", version)) for version in ("1", "2"))
    limits = {"deploy": {"resources": {"limits": {"memory": "64M", "cpus": "0.5"}}}}
    story.deploy("web", {"services": {"web": routed(first, "/web", **limits)}})
    with story.never_failing("/web", "old 1", "old 2"):
        story.deploy("web", {"services": {"web": routed(second, "/web", **limits)}})
    story.answers("/web", "old 2")
    bad = {"services": {"web": routed(second, "/web", command=["no-such-program"], **limits)}}
    assert "no-such-program" in story.ends(story.merge(manifest("web", bad), "A bad version"), "failure")
    story.answers("/web", "old 2")
    [container] = story.containers("web")
    limited = story.run("docker", "inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}", container)
    assert limited.split() == [str(64 << 20), "500000000"]
    story.server.reboot()
    story.answers("/web", "old 2")
    assert "ok    engine         Docker Engine, reached by /usr/bin/docker\n" in story.mvd("doctor").out
