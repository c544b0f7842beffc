"""Units on a real systemd and Docker: adopted, stopped for good, kept or made anew, and jobs that end."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gitops_mvd.core.errors import NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import LOST, RUNNING, STAGED, App, Change, Instance, Resource, Service, Update
from gitops_mvd.core.specs import Unnamed, service_of
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.docker.client import Engine
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.kinds import Tools
from gitops_mvd.kinds.config import Configs
from gitops_mvd.kinds.container import Containers
from gitops_mvd.kinds.network import Networks
from gitops_mvd.kinds.unit import LOST_AFTER_SECONDS, Units
from gitops_mvd.secrets.store import Secrets
from gitops_mvd.systemd.client import Systemd
from gitops_mvd.systemd.unit import STARTED_FOLDER

pytestmark = pytest.mark.server


def shell(command: str) -> str:
    done = subprocess.run(["sh", "-euc", command], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def wait_for(true: Callable[[], object], within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


class Server:
    """One app of one service, without a gateway."""

    def __init__(self, tools: Tools, image: str) -> None:
        self.tools = tools
        self.image = image
        self.made: list[Service] = []
        self.one_by_one = threading.Lock()
        self.systemd = tools.systemd
        self.units = Units(tools)
        self.networks = Networks(tools.engine)
        self.containers = Containers(tools)
        self.configs = Configs(tools.files, tools.secrets)

    def service(self, *command: str, **run: object) -> Service:
        """A service of its own, so that its journal is empty."""
        run = {"init": True, "stop_grace_period": 2.0, "labels": {"test.of": str(time.time_ns())}, **run}
        return Service("web", self.image, {"command": list(command) or ["sleep", "1000"], **run})

    def wanted(self, *services: Service, named: bool = True) -> list[Resource]:
        """The units to be; what they need is there."""
        app = App("units", services)
        self.configs.apply([Change(None, resource) for resource in self.configs.wanted(app)])
        with self.one_by_one:  # an app has one thread, and so has its network
            self.networks.apply([Change(None, resource) for resource in self.networks.wanted(app)])
        containers = list(self.containers.wanted(app))
        if not named:
            containers = [dataclasses.replace(it, payload=Unnamed(service_of(it))) for it in containers]
        self.containers.apply([Change(None, resource) for resource in containers])
        return list(self.units.wanted(app))

    def unmake(self) -> None:
        """Nothing of the app is left."""
        self.units.apply([Change(unit, None) for unit in self.observed()])
        self.containers.apply([Change(it, None) for it in self.containers.observe() if it.app == "units"])
        self.networks.apply([Change(it, None) for it in self.networks.observe() if it.app == "units"])

    def make(self, *services: Service) -> list[Resource]:
        self.made.extend(services)
        wanted = self.wanted(*services)
        self.units.apply([Change(None, resource) for resource in wanted])
        return wanted

    def started(self, service: Service) -> Instance:
        [wanted] = self.make(service)
        wait_for(lambda: self.instance(wanted).state not in {"", "created"})
        return self.instance(wanted)

    def instance(self, of: Resource | Instance) -> Instance:
        return self.tools.engine.instance(of.name) or Instance("")

    def observed(self) -> list[Resource]:
        return sorted((r for r in self.units.observe() if r.app == "units"), key=lambda r: r.name)

    def state(self) -> str:
        [unit] = self.observed()
        return str(unit.spec["state"])


@pytest.fixture
def server() -> Iterator[Server]:
    engine = Engine()
    image = engine.pin(Service("web", os.environ["MVD_IMAGE"])).image
    engine.pull(image)
    server = Server(
        Tools("units", engine, Systemd(), None, Interruptible(), files=Path("/etc/gitops-mvd/units")), image
    )
    yield server
    server.unmake()
    server.configs.apply([Change(config, None) for config in server.configs.observe()])
    assert server.observed() == []
    engine.close()


def pid(unit: str) -> int:
    return int(shell(f"systemctl show --property MainPID --value {unit}"))


def sub_state(server: Server, of: Resource | Instance) -> str:
    found = server.systemd.units(f"{of.name}.service").get(f"{of.name}.service")
    return found.sub if found else "dead"


def test_a_container_that_runs_is_followed_by_systemd_and_by_no_process_of_ours(server: Server) -> None:
    there = server.started(server.service())
    assert Path(f"/proc/{pid(there.name)}/comm").read_text().strip() == "containerd-shim"
    assert "docker" not in shell("ps -eo comm= | sort -u").splitlines()


@pytest.mark.parametrize("what", ["restart docker", "restart containerd", "daemon-reexec"])
def test_a_restart_of_what_carries_it_touches_neither_container_nor_unit(server: Server, what: str) -> None:
    there = server.started(server.service())
    seen = f"systemctl show --property MainPID,InvocationID,NRestarts,ActiveState {there.name}"
    before = shell(seen)
    shell(f"systemctl {what}")
    wait_for(lambda: shell("docker version --format {{.Server.Version}} || true"))
    assert server.instance(there) == there
    assert shell(seen) == before
    assert "ActiveState=active" in before


def test_where_containerd_keeps_its_tasks_elsewhere_a_container_is_followed_all_the_same(server: Server) -> None:
    there = server.started(server.service())
    text = Path(f"/etc/systemd/system/{there.name}.service")
    text.write_text(text.read_text().replace("/run/containerd/", "/run/elsewhere/"))
    shell(f"systemctl daemon-reload; systemctl restart {there.name}")
    assert Path(f"/proc/{pid(there.name)}/comm").read_text().strip() == "containerd-shim"
    assert sub_state(server, there) == "running"


def test_a_container_that_was_restarted_by_hand_is_followed_and_not_stopped_again(server: Server) -> None:
    there = server.started(server.service(restart="always"))
    old = pid(there.name)
    shell(f"docker restart --time 1 {there.name}")
    again = server.instance(there)
    wait_for(lambda: sub_state(server, there) == "running" and pid(there.name) not in (0, old))
    assert server.instance(there) == again


def test_a_container_that_took_the_place_of_the_one_that_its_unit_names_is_started(server: Server) -> None:
    service = server.service(restart="always")
    there = server.started(service)
    shell(f"systemctl stop {there.name}; docker rm {there.name}")
    server.wanted(service)
    shell(f"systemctl start {there.name}")
    assert server.instance(there).state == "running"
    assert Path(f"/proc/{pid(there.name)}/comm").read_text().strip() == "containerd-shim"


def test_what_was_just_started_is_followed_without_asking_the_engine_once_more(server: Server) -> None:
    spy, asked = Path("/usr/local/sbin/docker"), Path("/tmp/asked-of-docker")
    spy.write_text(f'#!/bin/sh\necho "$*" >>{asked}\nexec /usr/bin/docker "$@"\n')
    spy.chmod(0o755)
    asked.touch()
    try:
        there = server.started(server.service(restart="always"))
        assert Path(f"/proc/{pid(there.name)}/comm").read_text().strip() == "containerd-shim"
        assert asked.read_text() == ""
        shell(f"systemctl restart {there.name}")
        assert f"start {there.id}" in asked.read_text().splitlines()
        assert list(Path(STARTED_FOLDER).iterdir()) == []
    finally:
        spy.unlink()
        asked.unlink()


STARTED_BY_NOBODY = """
mkdir /tmp/left
docker export NAME | tar -x -C /tmp/left
systemctl stop docker.socket docker
as_docker="--cpu-shares=0 --runc-root /run/docker/runtime-runc"
ctr --namespace moby run --detach $as_docker --rootfs /tmp/left ID /bin/sleep 1000 </dev/null
"""
FORGOTTEN_BY_CONTAINERD = """
systemctl stop containerd
rm -r /run/containerd/io.containerd.runtime.v2.task/moby/ID
systemctl start containerd
ctr --namespace moby containers rm ID
"""


@contextmanager
def left(server: Server, *then: str) -> Iterator[Instance]:
    """An instance that is stopped, and what a start that its engine knows nothing of has left, with what came then."""
    there = server.started(server.service(restart="always"))
    script = "".join([STARTED_BY_NOBODY, *then, "systemctl start docker"])
    try:
        shell(f"systemctl stop {there.name}")
        shell(script.replace("ID", there.id).replace("NAME", there.name))
        yield there
    finally:
        shell("rm -rf /tmp/left; systemctl start docker")


@contextmanager
def without_live_restore() -> Iterator[None]:
    """While the block lasts, Docker takes all containers along, and looks for none when it comes back."""
    file = Path("/etc/docker/daemon.json")
    before = file.read_text()
    file.write_text(json.dumps({**json.loads(before), "live-restore": False}))
    shell("systemctl reload docker")
    try:
        yield
    finally:
        file.write_text(before)
        shell("systemctl start docker; systemctl reload docker")


def test_what_an_earlier_start_has_left_does_not_keep_a_container_from_its_start(server: Server) -> None:
    """As a containerd that is killed amid a start leaves it: a shim and a process that the engine knows nothing of."""
    with left(server, FORGOTTEN_BY_CONTAINERD) as there:
        pattern = f"'^\\S*containerd-shim.*{there.id}'"
        shim = int(shell(f"pgrep --full {pattern}"))
        shell(f"systemctl start --no-block {there.name}")
        wait_for(lambda: sub_state(server, there) == "running" and server.instance(there).state == "running")
        assert pid(there.name) == int(shell(f"ps -o ppid= -p {server.instance(there).pid}"))
        assert shell(f"pgrep --full --count {pattern}") == "1"
        assert shell(f"readlink /proc/{shim}/exe || echo gone") == "gone"


def test_a_container_that_runs_on_none_of_its_networks_is_started_anew(server: Server) -> None:
    """As Docker 26 leaves it that goes down amid a start, if the container is started again while containerd has it."""
    with without_live_restore(), left(server) as there:
        shell(f"systemctl start --no-block {there.name}")

        well_since = 0.0

        def stays_well() -> bool:
            """For longer than it takes to see that it is not: as it comes and goes, it looks well for a moment."""
            nonlocal well_since
            [unit] = server.observed()
            if unit.spec["state"] == LOST:
                [wanted] = server.units.wanted(App("units", (server.made[-1],)))
                server.units.apply([Change(unit, wanted)])
            now = server.instance(there)
            is_well = unit.spec["state"] == RUNNING and now.state == "running" and now.ip
            well_since = (well_since or time.monotonic()) if is_well else 0.0
            return bool(is_well) and time.monotonic() - well_since > LOST_AFTER_SECONDS + 2

        wait_for(stays_well, within=90)
        assert pid(there.name) == int(shell(f"ps -o ppid= -p {server.instance(there).pid}"))


@pytest.mark.parametrize("restart", ["always", "on-failure", "on-failure:3"])
def test_what_was_stopped_by_hand_has_not_failed_with_whatever_it_ended(server: Server, restart: str) -> None:
    there = server.started(server.service("sh", "-c", "trap 'exit 3' TERM; sleep 1000 & wait", restart=restart))
    shell(f"systemctl stop {there.name}")
    assert server.instance(there).exit_code == 3
    assert sub_state(server, there) == "dead"


def test_a_container_with_another_logging_driver_outlives_its_client(server: Server) -> None:
    before = server.started(server.service(logging={"driver": "json-file", "options": {}}))
    old = pid(before.name)
    assert Path(f"/proc/{old}/comm").read_text().strip() == "docker"
    os.kill(old, 9)
    wait_for(lambda: pid(before.name) not in {0, old})
    assert server.instance(before) == before


WRITES = "echo $(date +%N) >> /data/log; echo x >> /layer; wc -l < /data/log; wc -l < /layer; sleep 1000"


def said(server: Server, of: Resource | Instance) -> list[str]:
    return server.systemd.journal(f"{of.name}.service", 20)


@pytest.mark.parametrize("end", ["docker kill {0}", "systemctl restart {0}", "systemctl kill --signal=KILL {0}"])
def test_layer_and_anonymous_volumes_outlive_crash_and_restart(server: Server, end: str) -> None:
    data = [{"type": "volume", "source": "", "target": "/data", "read_only": False}]
    there = server.started(server.service("sh", "-c", WRITES, volumes=data, restart="always"))
    wait_for(lambda: len(said(server, there)) == 1)  # 1 and 1: equal lines are told once
    shell(end.format(there.name))
    wait_for(lambda: server.instance(there).started not in {there.started, ""})
    wait_for(lambda: said(server, there)[-1:] == ["2"])
    assert server.instance(there).state == "running"


def volumes() -> set[str]:
    return set(shell("docker volume ls --quiet").split())


def test_anonymous_volumes_go_over_to_a_successor_that_starts_after_the_stop(server: Server) -> None:
    data = [{"type": "volume", "source": "", "target": "/data", "read_only": False}]
    stop_first = Update(order="stop-first")
    before = volumes()
    old = dataclasses.replace(server.service("sh", "-c", WRITES, volumes=data), update=stop_first)
    there = server.started(old)
    wait_for(lambda: said(server, there))
    [volume] = volumes() - before
    new = dataclasses.replace(server.service("sh", "-c", WRITES, volumes=data), update=stop_first)
    [wanted] = server.wanted(new)
    assert server.instance(there).state == "running", "its successor is made beside it"
    [old_unit] = [unit for unit in server.observed() if unit.name == there.name]
    server.units.apply([Change(old_unit, None)])
    server.units.apply([Change(None, wanted)])
    wait_for(lambda: said(server, wanted))
    assert said(server, wanted)[0] == "2", "it has the data, and a layer of its own"
    [gone] = [it for it in server.containers.observe() if it.name == there.name]
    server.containers.apply([Change(gone, None)])
    assert volumes() - before == {volume}
    third = dataclasses.replace(server.service(), update=Update(order="start-first"))
    [other] = server.wanted(third)
    [last] = [it for it in server.containers.observe() if it.name == wanted.name]
    server.units.apply([Change(unit, None) for unit in server.observed()])
    server.containers.apply([Change(last, None)])
    assert volumes() == before, "nobody has it any more, and its service goes on without"
    assert other.name in {it.name for it in server.containers.observe()}


def test_what_a_service_leaves_behind_that_is_removed_is_kept(server: Server) -> None:
    data = [{"type": "volume", "source": "", "target": "/data", "read_only": False}]
    before = volumes()
    server.started(server.service(volumes=data))
    [volume] = volumes() - before
    server.unmake()
    assert volumes() - before == {volume}
    shell(f"docker volume rm {volume}")


def test_a_container_that_somebody_else_made_is_neither_started_nor_removed(server: Server) -> None:
    there = server.started(server.service())
    shell(f"systemctl stop {there.name}; docker rm {there.name}; docker create --name {there.name} {server.image} true")
    theirs = shell(f"docker inspect --format '{{{{.Id}}}}' {there.name}")
    assert "failed" in shell(f"systemctl start {there.name} 2>&1 || echo failed")
    wait_for(lambda: any("is missing: the next pass of gitops-mvd" in line for line in said(server, there)))
    with pytest.raises(StepFailed, match=f"did not make has the name {there.name}"):
        server.make(service_of_instance(server, there))
    assert shell(f"docker inspect --format '{{{{.Id}}}} {{{{.State.Status}}}}' {there.name}") == f"{theirs} created"
    shell(f"docker rm {there.name}")


def service_of_instance(server: Server, there: Instance) -> Service:
    [service] = [service for service in server.made if service.instances("units")[0] == there.name]
    return service


def test_the_shell_form_and_the_exec_form_of_a_health_check_are_what_they_say(server: Server) -> None:
    for test in (["CMD", "/bin/busybox", "true"], ["CMD-SHELL", "true && true"]):
        there = server.started(server.service(healthcheck={"test": test, "interval": 0.2}))
        wait_for(lambda there=there: server.instance(there).health == "healthy")
        assert (
            json.loads(shell(f"docker inspect --format '{{{{json .Config.Healthcheck.Test}}}}' {there.name}")) == test
        )


def test_values_of_several_lines_are_what_they_were(server: Server) -> None:
    service = dataclasses.replace(server.service("sh", "-c", 'echo "$KEY"; sleep 100'), environment={"KEY": "a\nb\n"})
    there = server.started(service)
    wait_for(lambda: [line for line in said(server, there) if line] == ["a", "b"])


def test_a_start_that_the_engine_refuses_is_a_failed_start_with_its_cause(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = [{"host_ip": "127.0.0.1", "published": str(port), "target": 80, "protocol": "tcp"}]
        [wanted] = server.wanted(server.service(ports=ports))
        with pytest.raises(StepFailed, match=r"^web: did not start: .*(port is already allocated|address already)"):
            server.units.apply([Change(None, wanted)])


def test_a_staged_instance_is_found_by_the_name_of_its_service_only_once_it_got_it(server: Server) -> None:
    networks = {"mvd-units-inner": {"aliases": ["web", "www"]}, "mvd-units-outer": {"aliases": ["web"]}}
    for network in networks:
        shell(f"docker network create {network}")
    try:
        service = server.service(networks=networks)
        [wanted] = server.wanted(service, named=False)
        staged = wanted.with_spec(state=STAGED)
        for _ in range(2):  # a change that is made twice is made once
            server.units.apply([Change(None, staged)])
            assert server.observed() == [staged]
        wait_for(lambda: server.instance(wanted).state == "running")
        before = server.instance(wanted)
        assert names(wanted) == set()
        for network in (*networks, ""):  # where that was begun, and did not come to its end
            if network:
                shell(f"docker network disconnect {network} {wanted.name}")
                assert server.state() == STAGED
            server.units.apply([Change(staged, wanted)])
            assert server.observed() == [wanted]
        assert names(wanted) == {"web", "www"}
        assert server.instance(wanted).started == before.started
        shell(f"docker kill {wanted.name}")
        wait_for(lambda: server.instance(wanted).started not in {before.started, ""})
        assert server.observed() == [wanted], "what comes back has its names"
        assert names(wanted) == {"web", "www"}
    finally:
        server.unmake()
        for network in networks:
            shell(f"docker network rm {network}")


def test_a_network_that_somebody_else_joined_it_to_is_no_matter(server: Server) -> None:
    for network in ("mvd-units-inner", "mvd-by-hand"):
        shell(f"docker network create {network}")
    try:
        [wanted] = server.make(server.service(networks={"mvd-units-inner": {"aliases": ["web"]}}))
        wait_for(lambda: server.instance(wanted).state == "running")
        shell(f"docker network disconnect mvd-units-inner {wanted.name}")
        shell(f"docker network connect --alias web mvd-units-inner {wanted.name}")
        shell(f"docker network connect mvd-by-hand {wanted.name}")
        assert server.observed() == [wanted]
    finally:
        server.unmake()
        for network in ("mvd-units-inner", "mvd-by-hand"):
            shell(f"docker network rm {network}")


def test_who_loses_its_names_keeps_its_address_and_its_connections(server: Server) -> None:
    server.tools.engine.create_network("mvd-units-kept", {}, {})
    networks = {"mvd-units-kept": {"aliases": ["web"]}}
    try:
        talk = "read line; sleep 2; echo got $line; read line; echo got $line"
        service = server.service("nc", "-ll", "-p", "7799", "-e", "sh", "-c", talk, networks=networks)
        [wanted] = server.make(service)
        wait_for(lambda: server.instance(wanted).state == "running")
        time.sleep(0.5)  # until it listens
        before = server.instance(wanted)
        with socket.create_connection((before.ip, 7799), timeout=10) as line:
            line.sendall(b"one\n")
            server.units.apply([Change(wanted, wanted.with_spec(state=STAGED))])
            assert server.observed() == [wanted.with_spec(state=STAGED)]
            assert names(wanted) == set()
            assert line.recv(100) == b"got one\n"
            line.sendall(b"two\n")
            assert line.recv(100) == b"got two\n"
        assert server.instance(wanted) == before
        server.units.apply([Change(wanted.with_spec(state=STAGED), wanted)])
        assert names(wanted) == {"web"}
        assert server.observed() == [wanted]
        shell(f"systemctl restart {wanted.name}")
        assert addresses(wanted) == {""}, "at its next start, another one may have its address"
        assert names(wanted) == {"web"}
        assert server.observed() == [wanted]
    finally:
        server.unmake()
        server.tools.engine.remove_network("mvd-units-kept")


def addresses(of: Resource) -> set[str]:
    """The addresses that were asked for, "" for any."""
    told = json.loads(shell(f"docker inspect --format '{{{{json .NetworkSettings.Networks}}}}' {of.name}"))
    return {(endpoint["IPAMConfig"] or {}).get("IPv4Address", "") for endpoint in told.values()}


def names(of: Resource) -> set[str]:
    """The names that others on its networks find it by, beside its own and its id."""
    told = json.loads(shell(f"docker inspect --format '{{{{json .NetworkSettings.Networks}}}}' {of.name}"))
    return {
        name
        for endpoint in told.values()
        for name in endpoint["Aliases"] or ()
        if not re.fullmatch("[0-9a-f]{12}", name)
    }


def test_a_container_that_was_killed_comes_back_and_one_that_was_removed_is_waited_for(server: Server) -> None:
    service = server.service(restart="always")
    first = server.started(service)
    shell(f"docker kill {first.name}")
    wait_for(lambda: server.instance(first).started not in {first.started, ""})
    shell(f"docker rm -f {first.name}")
    wait_for(lambda: sub_state(server, first) == "failed")
    told = f"container {first.name} is missing: the next pass of gitops-mvd makes it"
    wait_for(lambda: told in said(server, first))
    assert server.state() == "stopped"
    server.make(service)
    wait_for(lambda: server.instance(first).state == "running")
    assert server.state() == "running"


def test_how_a_container_ended_is_known_when_it_is_gone(server: Server) -> None:
    [wanted] = server.make(server.service("sh", "-c", "sleep 1; exit 7"))
    assert server.tools.engine.exit_code(wanted.name, 60) is None
    wait_for(lambda: server.tools.engine.exit_code(wanted.name, 60) == 7)
    server.unmake()
    assert server.tools.engine.instance(wanted.name) is None
    assert server.tools.engine.exit_code(wanted.name, 60) is not None


def test_a_server_that_is_as_usual_was_not_disrupted_since_its_docker_was_started(server: Server) -> None:
    disruptions = Disruptions(server.tools.engine, server.systemd)
    assert disruptions.since(time.monotonic()) == ""
    assert disruptions.since_unix(time.time()) == ""
    assert disruptions.since_unix(0.0) == "docker.service became active a moment ago"


def test_the_phase_of_a_unit_is_told_by_the_monotonic_clock(server: Server) -> None:
    phase = server.systemd.phase("docker.service")
    assert phase
    assert phase.active == "active"
    assert 0 < phase.changed < time.monotonic()
    server.systemd.reload()
    assert server.systemd.phase("docker.service") == phase
    assert server.systemd.phase("no-such-unit.service") is None


def test_a_start_that_systemd_refuses_because_something_goes_down_is_no_failure(server: Server) -> None:
    """A shutdown is one of these: its jobs cannot be undone."""
    going = "test-going-down.service"
    text = "[Unit]\nConflicts=test-wanted.service\n[Service]\nType=oneshot\nExecStart=sleep 60\n"
    Path(f"/run/systemd/system/{going}").write_text(text)
    Path("/run/systemd/system/test-wanted.service").write_text("[Service]\nExecStart=sleep 60\n")
    try:
        server.systemd.reload()
        shell(f"systemctl start --no-block --job-mode=replace-irreversibly {going}")
        with pytest.raises(Unavailable, match=r"test-wanted\.service: canceled"):
            server.systemd.start(["test-wanted.service"])
    finally:
        shell(f"systemctl stop --job-mode=fail {going} || systemctl kill {going}")
        Path(f"/run/systemd/system/{going}").unlink()
        Path("/run/systemd/system/test-wanted.service").unlink()
        server.systemd.reload()


def test_a_unit_that_is_stopped_at_once_is_stopped_at_once(server: Server) -> None:
    service = server.service(stop_grace_period=60.0)
    began = time.monotonic()
    for _ in range(3):
        wanted = server.make(service)
        server.units.apply([Change(unit, None) for unit in wanted])
        assert server.observed() == []
    assert time.monotonic() - began < 60, "one grace period"


def test_a_container_that_lost_its_unit_is_followed_by_a_new_one(server: Server) -> None:
    service = server.service()
    there = server.started(service)
    unit = f"{there.name}.service"
    shell(f"rm /etc/systemd/system/{unit}; systemctl daemon-reload")
    server.make(service)
    assert server.state() == "running"
    assert server.instance(there) == there


def test_an_edited_unit_is_put_right_and_its_container_goes_on(server: Server) -> None:
    service = server.service()
    there = server.started(service)
    path = Path(f"/etc/systemd/system/{there.name}.service")
    text = path.read_text()
    path.write_text(text.replace("TimeoutStartSec=300", "TimeoutStartSec=301"))
    server.make(service)
    assert path.read_text() == text
    assert server.instance(there) == there


def test_a_job_runs_once_and_what_is_left_of_it_tells_how_it_went(server: Server) -> None:
    done = server.started(server.service("sh", "-c", "echo migrated", restart="no"))
    wait_for(lambda: server.instance(done).state == "exited")
    assert server.instance(done).exit_code == 0
    assert server.state() == "running", "it is as it should be"
    assert server.systemd.journal(f"{done.name}.service", 5) == ["migrated"]
    assert not Path(f"/etc/systemd/system/multi-user.target.wants/{done.name}.service").is_symlink()


def test_a_job_that_failed_is_not_run_again(server: Server) -> None:
    failed = server.started(server.service("sh", "-c", "echo no; exit 3", restart="no"))
    wait_for(lambda: server.systemd.units(f"{failed.name}.service")[f"{failed.name}.service"].active == "failed")
    assert (server.instance(failed).state, server.instance(failed).exit_code) == ("exited", 3)
    assert server.state() == "running"


def test_the_tries_of_a_failing_service_are_counted(server: Server) -> None:
    # each line another one, as equal ones are told once
    service = server.service("sh", "-c", "echo try at $(date +%s%N); exit 3", restart="on-failure:1")
    failed = server.started(service)
    wait_for(lambda: sub_state(server, failed) == "failed")
    wait_for(lambda: len(said(server, failed)) == 2)
    assert server.state() == "running", "it gave up, which is not drift"
    server.make(service)
    wait_for(lambda: len(said(server, failed)) == 4)


def test_restarts_by_hand_do_not_use_up_the_tries(server: Server) -> None:
    there = server.started(server.service(restart="on-failure:1"))
    for _ in range(4):
        shell(f"systemctl restart {there.name}")
    assert sub_state(server, there) == "running"


def test_what_ended_with_code_0_has_done_its_work_and_is_left_alone(server: Server) -> None:
    done = server.started(server.service("sh", "-c", "echo seeded"))
    wait_for(lambda: server.instance(done).state == "exited")
    wait_for(lambda: sub_state(server, done) == "dead")
    assert server.state() == "running", "it is as it should be"


def test_what_may_end_and_was_stopped_by_hand_is_not_done(server: Server) -> None:
    there = server.started(server.service("sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done", init=False))
    shell(f"systemctl stop {there.name}")
    assert (server.instance(there).state, server.instance(there).exit_code) == ("exited", 0)
    assert server.state() == "stopped"


def test_what_fails_is_started_again(server: Server) -> None:
    failed = server.started(server.service("sh", "-c", "sleep 0.2; exit 3"))
    wait_for(lambda: server.instance(failed).started not in {failed.started, ""})


def test_what_the_engine_can_not_take_is_refused_and_nothing_is_made(server: Server) -> None:
    for value, why in (("a\0b", "has a NUL character"), ("\udcff", "is not valid UTF-8")):
        with pytest.raises(StepFailed, match=why):
            server.make(server.service(value))
    with pytest.raises(StepFailed, match="No such image"):
        server.make(dataclasses.replace(server.service(), image="sha256:" + "0" * 64))
    assert server.observed() == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ExecStart=/usr/bin/no-such-docker", "is not executable"),
        ('ExecStart=:/usr/bin/docker "', "Unbalanced quoting"),
        ("ExecStart=/usr/bin/docker\nFoo=1", "Unknown key"),
        ("ExecStart=/usr/bin/docker\nRestartSec=soon", "Failed to parse"),
    ],
)
def test_any_word_of_systemd_about_a_unit_is_told(server: Server, tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "mvd-good.service").write_text("[Service]\nExecStart=/usr/bin/docker\n")
    assert server.systemd.verify([tmp_path / "mvd-good.service"]) == ""
    (tmp_path / "mvd-bad.service").write_text(f"[Service]\n{line}\n")
    assert said in server.systemd.verify([tmp_path / "mvd-good.service", tmp_path / "mvd-bad.service"])


def test_several_apps_are_changed_side_by_side(server: Server) -> None:
    services = [dataclasses.replace(server.service(), name=f"web{n}", replicas=3) for n in range(4)]
    errors: list[BaseException] = []

    def bring(service: Service) -> None:
        try:
            server.make(service)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=bring, args=(service,)) for service in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [unit.spec["state"] for unit in server.observed()] == ["running"] * 12
    wait_for(lambda: [there.state for there in server.tools.engine.instances().values()].count("running") >= 12)


def test_reloads_that_are_asked_for_at_once_are_shared(server: Server) -> None:
    def reloads() -> int:
        return int(shell("journalctl --sync; journalctl --boot _PID=1 --output=cat | grep -c ^Reloading"))

    server.systemd.reload()
    before, together = reloads(), threading.Barrier(10)

    def reload() -> None:
        together.wait()
        server.systemd.reload()

    threads = [threading.Thread(target=reload) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= reloads() - before < 5


def test_a_full_disk_changes_nothing(server: Server, tmp_path: Path) -> None:
    shell(f"mount -t tmpfs -o size=16k none {tmp_path}")
    try:
        units = Units(dataclasses.replace(server.tools, units=tmp_path))
        [wanted] = units.wanted(App("units", (server.service("x" * 20_000),)))
        with pytest.raises(NotNow, match=r"No space left on device \(the disk is full"):
            units.apply([Change(None, wanted)])
        configs = Configs(tmp_path / "files", Secrets(tmp_path / "secrets"))
        big = dataclasses.replace(server.service(), environment={"BIG": "x" * 30_000})
        with pytest.raises(NotNow, match=r"No space left on device \(the disk is full"):
            configs.apply([Change(None, resource) for resource in configs.wanted(App("units", (big,)))])
        assert list(tmp_path.rglob("*")) == [tmp_path / "files"]
    finally:
        shell(f"umount {tmp_path}")


def test_without_a_bus_systemd_is_unavailable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/no-such-bus")
    for ask in (lambda: server.systemd.units("*"), server.systemd.reload, lambda: server.systemd.start(["a.service"])):
        with pytest.raises(Unavailable, match=r"systemd cannot be asked .* D-Bus does not answer"):
            ask()


def test_a_unit_that_is_not_there_is_stopped_and_disabled_but_can_not_be_started(server: Server) -> None:
    server.systemd.disable(["mvd-no-such.service"])
    assert server.systemd.stop(["mvd-no-such.service"], within=5) == {"mvd-no-such.service": "done"}
    with pytest.raises(StepFailed, match=r"could not start mvd-no-such\.service: .* not found"):
        server.systemd.start(["mvd-no-such.service"])
