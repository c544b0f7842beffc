"""The lab itself: its servers are real ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import requests

from tests.lab import service
from tests.lab.command import CommandFailed
from tests.lab.lab import Lab
from tests.lab.server import Server

pytestmark = pytest.mark.lab

T = TypeVar("T")


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[Server]:
    """A server of our own, to reboot and unplug."""
    machine = lab.server("machine")
    yield machine
    machine.destroy()


@pytest.fixture
def web(lab: Lab, machine: Server) -> Iterator[str]:
    """A container on the machine, started by Docker at boot, that serves on port 80; gives its image."""
    image = lab.registry.push("lab/web", "1.0", service.web("web", "1.0"))
    command = ("docker", "run", "--detach", "--init", "--restart=always", "--name=web", "--publish=80:7799")
    machine.exec(*command, image)
    yield image
    machine.exec("docker", "rm", "--force", "web")


def test_systemd_is_running_and_no_unit_has_failed(machine: Server) -> None:
    assert machine.exec("systemctl", "is-system-running").out == "running\n"
    assert machine.exec("systemctl", "--failed", "--no-legend").out == ""
    assert machine.exec("cat", "/proc/1/comm").out == "systemd\n"


def test_a_container_of_an_image_from_the_registry_serves_on_the_server_s_address(machine: Server, web: str) -> None:
    assert eventually(lambda: get(machine, "/")) == "web 1.0\n"
    assert eventually(lambda: get(machine, "/health")) == "ok 1.0\n"


def test_a_reboot_brings_back_the_engine_and_its_containers(machine: Server, web: str) -> None:
    machine.exec("touch", "/run/gone-by-reboot", "/var/stays")
    machine.reboot()
    assert machine.exec("ls", "/run/gone-by-reboot", check=False).code != 0
    assert machine.exec("ls", "/var/stays").code == 0
    assert eventually(lambda: get(machine, "/health")) == "ok 1.0\n"


def test_an_unplugged_server_is_not_reached_until_it_is_plugged_in(machine: Server, web: str) -> None:
    machine.disconnect()
    assert machine.ip == ""
    machine.connect()
    assert eventually(lambda: get(machine, "/health")) == "ok 1.0\n"


def test_servers_know_each_other_by_name(lab: Lab, machine: Server) -> None:
    other = lab.server("other")
    try:
        assert machine.exec("getent", "hosts", "other").out.split()[0] == other.ip
    finally:
        other.destroy()


def test_a_put_file_has_its_content_its_mode_and_its_folders(machine: Server) -> None:
    machine.put("/srv/a/b/secret", "line\n\x00ümlaut", mode=0o600)
    assert machine.exec("cat", "/srv/a/b/secret").out == "line\n\x00ümlaut"
    assert machine.exec("stat", "--format", "%a %U", "/srv/a/b/secret").out == "600 root\n"


def test_a_failing_command_says_what_it_said(machine: Server) -> None:
    with pytest.raises(CommandFailed, match="exit code 3\nout\nerr"):
        machine.exec("sh", "-c", "echo out; echo err >&2; exit 3")
    assert machine.exec("false", check=False).code == 1


def test_a_moved_tag_has_another_digest_and_the_same_image_the_same(lab: Lab) -> None:
    lab.registry.push("lab/moving", "latest", service.web("moving", "1"))
    first = lab.registry.digest("lab/moving", "latest")
    lab.registry.push("lab/moving", "latest", service.web("moving", "2"))
    second = lab.registry.digest("lab/moving", "latest")
    lab.registry.push("lab/moving", "latest", service.web("moving", "1"))
    assert first != second
    assert lab.registry.digest("lab/moving", "latest") == first


def test_the_private_registry_serves_only_who_is_logged_in(lab: Lab, machine: Server) -> None:
    registry = lab.private_registry
    image = registry.push("lab/secret", "1", service.web("secret", "1"))
    with pytest.raises(CommandFailed, match="no basic auth credentials"):
        machine.exec("docker", "pull", image)
    assert registry.login
    user, password = registry.login
    machine.exec("docker", "login", registry.address, "--username", user, "--password-stdin", input=password)
    machine.exec("docker", "pull", image)


def test_a_stopped_registry_comes_back_with_its_images(lab: Lab, machine: Server) -> None:
    image = lab.registry.push("lab/kept", "1", service.web("kept", "1"))
    lab.registry.stop()
    try:
        with pytest.raises(CommandFailed):
            machine.exec("docker", "pull", image)
    finally:
        lab.registry.start()
    machine.exec("docker", "pull", image)


def test_a_sick_image_runs_and_answers_500(lab: Lab, machine: Server) -> None:
    image = lab.registry.push("lab/sick", "1", service.sick("sick", "1"))
    machine.exec("docker", "run", "--detach", "--init", "--name=sick", "--publish=81:7799", image)
    try:
        answer = eventually(lambda: requests.get(f"http://{machine.ip}:81/health", timeout=2))
        assert (answer.status_code, answer.text) == (500, "sick 1 is sick\n")
    finally:
        machine.exec("docker", "rm", "--force", "sick")


def test_a_crashing_image_says_why_and_exits(lab: Lab, machine: Server) -> None:
    image = lab.registry.push("lab/crashing", "1", service.crashing("crashing", "1"))
    with pytest.raises(CommandFailed, match=r"exit code 1\n(?s:.*)crashing 1: cannot read its model"):
        machine.exec("docker", "run", "--rm", image)


def test_a_talker_runs_on_the_python_of_its_server(lab: Lab, server: Server) -> None:
    image = lab.registry.push("lab/talker", "1", service.talker("talker", "1"))
    volumes = [f"--volume={volume}" for volume in service.TALKER_VOLUMES]
    server.exec("docker", "run", "--detach", "--init", "--name=talker", "--publish=81:7799", *volumes, image)
    try:
        assert eventually(lambda: get(server, ":81/")) == "talker 1\n"
        assert get(server, ":81/stream?seconds=0.3") == "talker 1\ntalker 1\nend\n"
    finally:
        server.exec("docker", "rm", "--force", "talker")


def test_the_forge_is_reached_from_the_server_and_from_here(lab: Lab, machine: Server) -> None:
    status = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}")
    assert requests.get(f"{lab.forge.url}/api/v3/", timeout=5).status_code < 500
    assert int(machine.exec(*status, f"{lab.forge.url}/api/v3/").out) < 500


def test_the_project_is_installed_with_all_it_needs(server: Server) -> None:
    server.exec("/opt/gitops-mvd/bin/pip", "check")
    assert "lab" in server.exec("/opt/gitops-mvd/bin/python", "-c", "import tests.lab.lab as m; print(m)").out


def test_the_gateway_keeps_its_admin_api_to_itself_and_proxies_for_all(lab: Lab) -> None:
    server = lab.server("gateway")
    try:
        server.install(lab.wheel)
        assert "Kong 3." in server.start_gateway("off")
        about = json.loads(server.exec("curl", "-fsS", "http://127.0.0.1:8001/").out)
        assert about["configuration"]["database"] == "off"
        assert eventually(lambda: requests.get(f"http://{server.ip}:8000/nowhere", timeout=2)).status_code == 404
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{server.ip}:8001/", timeout=2)
    finally:
        server.destroy()


def test_two_labs_stand_side_by_side_and_closing_one_leaves_the_other(lab: Lab, machine: Server) -> None:
    with Lab.open(print) as second:
        assert second.name != lab.name
        assert second.server("machine").ip != machine.ip
        name = second.name
    mine = lab.engine.docker("ps", "--all", "--format", "{{.Names}}").out.split()
    assert machine.container in mine
    assert not [container for container in mine if container.startswith(name)]


def get(server: Server, path: str) -> str:
    answer = requests.get(f"http://{server.ip}{path}", timeout=2)
    answer.raise_for_status()
    return answer.text


def eventually(ask: Callable[[], T], within: float = 10) -> T:
    """What `ask` gives, once it no longer fails."""
    deadline = time.monotonic() + within
    while True:
        try:
            return ask()
        except requests.RequestException:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)
