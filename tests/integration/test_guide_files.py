"""The files of pages that are about servers of which there is none: one server is each of theirs in turn."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from tests.integration.stories import Story, eventually, write_settings
from tests.lab.lab import Lab
from tests.lab.repository import git
from tests.lab.server import VENV
from tests.lab.service import MERGED_USR, TALKER_VOLUMES, Service, web
from tests.lab.stage import SETTINGS
from tests.pages import GUIDE, blocks

pytestmark = pytest.mark.lab

REGISTRY = "registry.example.com"
GRPC = Service((f"{VENV}/bin/python", "-m", "tests.lab.grpc_health", "50051"), links=MERGED_USR)
WITH_PYTHON = yaml.safe_dump({"services": {"grpc": {"volumes": list(TALKER_VOLUMES)}}})


@pytest.fixture(scope="module")
def visitor(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/pages")
    repository.commit({"README.md": "Pages\n"}, "Begin")
    for version in ("1.4", "1.5"):
        lab.registry.push("shop", version, web("shop", version, port=8080))
    lab.registry.push("nlp", "3.1.0", web("nlp", "3.1.0", port=8000))
    lab.registry.push("triage", "1.12.3", GRPC)
    server = lab.server("uk-web-1")
    yield Story.set_up(lab, server, repository)
    server.destroy()


def files(lab: Lab, page: str, *apps: str) -> dict[str, str | None]:
    """What the page has of these apps, and its `fleet.yaml`; its registry is that of the lab."""
    wanted = ("fleet.yaml", *(f"apps/{app}/" for app in apps))
    found = {block.place: block.text for block in blocks(GUIDE / f"{page}.md") if block.place.startswith(wanted)}
    return {place: text.replace(f"{REGISTRY}/", f"{lab.registry.address}/") for place, text in found.items()}


def become(story: Story, host: str) -> None:
    """Have the server follow the repository as another host of its fleet."""
    text = re.sub("^host: .*$", f"host: {host}", story.run("cat", SETTINGS), flags=re.MULTILINE)
    write_settings(story, text, "daemon started")


def environments(story: Story, app: str) -> list[set[str]]:
    """The variables of each running container of an app."""
    format = "{{range .Config.Env}}{{println .}}{{end}}"
    return [set(story.run("docker", "inspect", "--format", format, id).splitlines()) for id in ids(story, app)]


def ids(story: Story, app: str) -> list[str]:
    return list(story.containers(app).values())


def test_a_server_has_the_variables_the_override_and_the_version_of_its_region(lab: Lab, visitor: Story) -> None:
    visitor.ends(visitor.merge(files(lab, "regions", "shop"), "Open a shop in two regions"), "success")
    uk = environments(visitor, "shop")
    assert len(uk) == 4
    assert all(it >= {"REGION=uk", "LANGUAGES=en", "VIDEO_CONSULTATIONS=on", "VERSION=1.5"} for it in uk)

    become(visitor, "rw-web-1")
    eventually("the shop of the other region", lambda: len(ids(visitor, "shop")) == 1)
    [rw] = environments(visitor, "shop")
    assert rw >= {"REGION=rw", "LANGUAGES=rw,en,fr", "VERSION=1.4"}
    assert not any(it.startswith("VIDEO_CONSULTATIONS") for it in rw)
    become(visitor, "uk-web-1")


def test_a_grpc_service_is_asked_by_the_health_service_and_routed_and_a_model_waits_for_its_gpu(
    lab: Lab, visitor: Story
) -> None:
    merged = {**files(lab, "workloads", "nlp", "triage"), "apps/triage/compose.gpu-false.yaml": WITH_PYTHON}
    listed = git("ls-tree", "-r", "--name-only", "main", "apps/", at=visitor.repository.path).splitlines()
    gone: dict[str, str | None] = dict.fromkeys(listed)
    become(visitor, "web-1")
    visitor.merge({**gone, **merged}, "Have a model and gRPC")
    eventually("that the service is healthy", lambda: "Healthy" in visitor.mvd("status", "triage").out)
    assert "asked /grpc.health.v1.Health/Check" in visitor.mvd("logs", "triage/grpc").out
    [route] = visitor.routes("triage").values()
    assert (route["paths"], sorted(route["protocols"])) == (["/triage.v1.Triage/"], ["grpc", "grpcs"])
    assert not visitor.containers("nlp")

    become(visitor, "ai-1")
    told = "Docker has no driver for GPUs on this host"
    eventually("that the model is refused", lambda: told in visitor.mvd("status", "nlp").out)
    assert not visitor.containers("nlp")
