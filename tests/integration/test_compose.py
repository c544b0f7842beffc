"""The images that real stacks are made of, as small stand-ins that behave like them.

Each comes up, and keeps what it has.
What is expected is what `docker compose up` does with the same file on the same engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.integration.stories import Story, eventually, manifest
from tests.lab.lab import Lab
from tests.lab.repository import git
from tests.lab.service import PORT, Service, web

pytestmark = pytest.mark.lab

TERM = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
COUNTS = "echo x >> {0}; echo start $(wc -l < {0}); " + TERM
KEY = "-----BEGIN KEY-----\nabc=\n-----END KEY-----\n"


@dataclass(frozen=True)
class Stand:
    """A service of a real stack: its image, its Compose file, and what is seen of it.

    `says` is the first line that its container prints, `state` what becomes of it: running, healthy or exited.  What
    `keeps` prints `start N`, its N-th.
    """

    image: Service
    compose: str
    says: str = ""
    state: str = "running"
    keeps: bool = False


def shell(script: str, **more: Any) -> Service:
    return Service(("sh", "-c", script), **more)


STANDS: Mapping[str, Stand] = {
    "pid-one": Stand(
        shell(f'[ $$ = 1 ] || {{ echo "must be PID 1"; exit 100; }}; echo is PID 1; {TERM}'),
        "services: {app: {image: IMAGE, restart: unless-stopped}}",
        says="is PID 1",
    ),
    "image-volume": Stand(
        shell(COUNTS.format("/var/lib/db/log"), volumes=("/var/lib/db",)),
        "services: {db: {image: IMAGE, restart: always}}",
        says="start 1",
        keeps=True,
    ),
    "anonymous-volume": Stand(
        shell(COUNTS.format("/data/log")),
        "services: {db: {image: IMAGE, restart: always, volumes: [/data]}}",
        says="start 1",
        keeps=True,
    ),
    "layer": Stand(
        shell(COUNTS.format("/log")),
        "services: {cms: {image: IMAGE, restart: always, container_name: my-cms}}",
        says="start 1",
        keeps=True,
    ),
    "data-folder": Stand(
        shell(COUNTS.format("/data/log")),
        "services: {app: {image: IMAGE, restart: always, volumes: ['./data:/data']}}",
        says="start 1",
        keeps=True,
    ),
    "named-volume": Stand(
        shell(COUNTS.format("/data/log")),
        "{services: {db: {image: IMAGE, restart: always, volumes: ['data:/data']}}, volumes: {data: {}}}",
        says="start 1",
        keeps=True,
    ),
    "host-folder": Stand(
        shell(COUNTS.format("/data/log")),
        "services: {app: {image: IMAGE, restart: always, volumes: ['/srv/made-by-docker/x:/data']}}",
        says="start 1",
        keeps=True,
    ),
    "no-shell": Stand(
        Service(("/httpd", "-f", "-p", str(PORT), "-h", "/www"), {"/www/index.html": "hello\n"}, is_bare=True),
        "services: {viewer: {image: IMAGE, restart: always, init: true, healthcheck: {interval: 1s, retries: 3, "
        f"test: [CMD, /wget, -q, -O, /dev/null, 'http://127.0.0.1:{PORT}/index.html']}}}}}}",
        state="healthy",
    ),
    "one-shot": Stand(
        shell("echo made the bucket"),
        "services: {create-bucket: {image: IMAGE}}",
        says="made the bucket",
        state="exited",
    ),
    "key-of-several-lines": Stand(
        shell(f'[ "$(printf "%s" "$KEY" | wc -l)" = 3 ] || exit 3; echo has its key; {TERM}'),
        yaml.safe_dump({"services": {"app": {"image": "IMAGE", "restart": "always", "environment": {"KEY": KEY}}}}),
        says="has its key",
    ),
    "passed-if-set": Stand(
        shell(f'echo "${{UNSET-is unset}}"; {TERM}'),
        "services: {app: {image: IMAGE, restart: always, environment: [UNSET]}}",
        says="is unset",
    ),
    "alone": Stand(
        shell(f"nslookup app 2>&1 | grep -q 127.0.0.11 && echo has a name server; {TERM}"),
        "services: {app: {image: IMAGE, restart: always}}",
        says="has a name server",
    ),
}


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server with all of them, deployed in one commit."""
    repository = lab.forge.create("acme/compose")
    repository.commit({"README.md": "Compose files\n"}, "Begin")
    server = lab.server("compose")
    story = Story.set_up(lab, server, repository)
    files: dict[str, str | None] = {}
    for name, stand in STANDS.items():
        image = lab.registry.push(name, "1", stand.image)
        files[f"apps/{name}/compose.yaml"] = stand.compose.replace("IMAGE", image)
    files |= vpn(lab, 1)
    story.ends(story.merge(files, "Deploy the stands"), "success")
    yield story
    server.destroy()


def vpn(lab: Lab, version: int) -> dict[str, str | None]:
    """A service in the network of another one, which publishes its port."""
    gateway = lab.registry.push("vpn/gateway", str(version), shell(f"echo gateway {version}; {TERM}"))
    inner = lab.registry.push("vpn/inner", "1", web("inner", "1", port=8080))
    services = {
        "gateway": {"image": gateway, "restart": "always", "ports": ["8081:8080"]},
        "inner": {"image": inner, "restart": "always", "network_mode": "service:gateway", "depends_on": ["gateway"]},
    }
    return {"apps/vpn/compose.yaml": yaml.safe_dump({"services": services})}


def instance(story: Story, app: str) -> str:
    named = story.run("docker", "ps", "--all", "--format", "{{.Names}}", "--filter", f"label=io.gitops-mvd.app={app}")
    [name] = named.split()
    return name


def lines(story: Story, app: str) -> list[str]:
    """What its containers printed, the last boot's and all before it."""
    return printed(story, instance(story, app))


def printed(story: Story, name: str) -> list[str]:
    return story.run("journalctl", "--quiet", "--output=cat", "--no-pager", f"CONTAINER_NAME={name}").splitlines()


def state(story: Story, app: str) -> str:
    shown = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}} {{.State.ExitCode}}"
    return story.run("docker", "inspect", "--format", shown, instance(story, app)).strip()


def started(story: Story, app: str) -> str:
    return story.run("docker", "inspect", "--format", "{{.State.StartedAt}}", instance(story, app)).strip()


@pytest.mark.parametrize("app", STANDS)
def test_it_comes_up_as_with_compose(story: Story, app: str) -> None:
    stand = STANDS[app]
    wanted = {"running": "running  0", "healthy": "running healthy 0", "exited": "exited  0"}[stand.state]
    eventually(wanted, lambda: state(story, app) == wanted)
    if stand.says:
        eventually(stand.says, lambda: lines(story, app)[:1] == [stand.says])
        assert stand.says in story.mvd("logs", app).out


KEEPING = [app for app, stand in STANDS.items() if stand.keeps]


@pytest.mark.parametrize("app", KEEPING)
@pytest.mark.parametrize("what", ["docker kill {0}", "systemctl restart {0}.service", "docker restart {0}"])
def test_data_outlives_its_end(story: Story, app: str, what: str) -> None:
    before, name = len(lines(story, app)), instance(story, app)
    story.run("sh", "-c", what.format(name))
    eventually("a new start", lambda: len(lines(story, app)) > before)
    assert lines(story, app)[-1] == f"start {before + 1}"


def test_data_goes_over_to_the_next_version(lab: Lab, story: Story) -> None:
    """But for what lies in the layer, which is the version's own."""
    before = {app: len(lines(story, app)) for app in KEEPING}
    labels = {"labels": {"next": "version"}}
    files: dict[str, str | None] = {}
    for app in KEEPING:
        compose = yaml.safe_load(git("show", f"main:apps/{app}/compose.yaml", at=story.repository.path))
        for service in compose["services"].values():
            service |= labels
        files[f"apps/{app}/compose.yaml"] = yaml.safe_dump(compose)
    story.ends(story.merge(files, "Deploy the next versions"), "success")
    for app in KEEPING:
        [said] = lines(story, app)
        assert said == ("start 1" if app == "layer" else f"start {before[app] + 1}"), app


def test_who_shares_a_network_is_reached_there_and_follows_its_service(lab: Lab, story: Story) -> None:
    def reached() -> bool:
        return story.server.exec("curl", "-sS", "-m", "5", "127.0.0.1:8081/", check=False).out == "inner 1\n"

    eventually("an answer by the port of the other service", reached)
    [gateway] = [name for name in story.containers("vpn") if "gateway" in name]
    for end in (f"systemctl restart {gateway}.service", f"docker kill {gateway}"):
        story.run("sh", "-c", end)
        eventually(f"an answer after {end}", reached)
    story.ends(story.merge(vpn(lab, 2), "Deploy another gateway"), "success")
    eventually("an answer after a new version of the other service", reached)


def test_all_of_it_comes_back_with_the_server_and_without_the_daemon(story: Story) -> None:
    before = {app: len(lines(story, app)) for app in KEEPING}
    ids = story.containers()
    story.run("systemctl", "disable", "gitops-mvd")
    try:
        story.server.reboot()
        eventually("every container", lambda: story.containers().keys() == ids.keys(), within=120)
        assert story.containers() == ids, "the same ones"
        for app in KEEPING:
            eventually(f"a start of {app}", lambda app=app: len(lines(story, app)) > before[app])
    finally:
        story.run("systemctl", "enable", "--now", "gitops-mvd")
    story.look_again()
    assert story.containers() == ids


def test_an_image_that_must_be_the_first_process_is_red_with_an_init_and_says_why(lab: Lab, story: Story) -> None:
    image = lab.registry.push("pid-one", "1", STANDS["pid-one"].image)
    services = {"app": {"image": image, "restart": "always", "init": True}}
    bad = story.merge(manifest("pid-two", {"services": services}), "Ask for an init")
    assert "it last said: must be PID 1" in story.ends(bad, "failure")
    story.ends(story.revert(bad), "success")


def test_a_data_folder_that_leads_elsewhere_is_never_mounted(lab: Lab, story: Story) -> None:
    image = lab.registry.push("data-folder", "1", STANDS["data-folder"].image)
    services = {"app": {"image": image, "restart": "always", "volumes": ["./data:/data"]}}
    story.run("mkdir", "-p", "/srv/mvd/astray")
    story.run("ln", "-s", "/", "/srv/mvd/astray/data")
    bad = story.merge(manifest("astray", {"services": services}), "Follow a link")
    assert "/srv/mvd/astray/data is not a folder" in story.ends(bad, "failure")
    assert not story.containers("astray")
    story.ends(story.revert(bad), "success")


def test_an_engine_that_has_lost_everything_gets_it_all_again(story: Story) -> None:
    ids = story.containers()
    lost = "systemctl stop docker.socket docker containerd; rm -rf /var/lib/docker/* /var/lib/containerd/*"
    story.run("sh", "-c", f"{lost}; systemctl start containerd docker.socket docker")
    eventually("every container", lambda: story.containers().keys() == ids.keys(), within=180)
    assert set(story.containers().values()).isdisjoint(ids.values())
    eventually("data from a folder of the host", lambda: len(lines(story, "data-folder")) > 0)
    story.look_again()


def test_a_volume_that_a_backup_was_restored_to_is_used_as_it_is(story: Story) -> None:
    name, volume = instance(story, "named-volume"), "named-volume_data"
    with story.without_daemon():
        by_hand = f"systemctl stop {name}; docker rm {name}; docker volume rm {volume}; docker volume create {volume}"
        restore = f"for n in 1 2 3; do echo x >> $(docker volume inspect -f '{{{{.Mountpoint}}}}' {volume})/log; done"
        story.run("sh", "-c", f"{by_hand}; {restore}")
    eventually("a start with the restored data", lambda: "start 4" in printed(story, name))
    story.look_again()
    plan = story.mvd("plan")
    assert (plan.code, plan.out) == (0, "")


def test_a_service_takes_no_memory_beside_its_container(story: Story) -> None:
    clients = story.run("sh", "-c", "ps -eo args= | grep -c '[d]ocker start --attach' || true")
    assert clients.strip() == "0"
