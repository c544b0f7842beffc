"""The probes that look at more than a port, on a real systemd and Docker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest

from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import ProbeTools, discover
from tests.contract import test_units as units
from tests.contract.test_units import Server, shell, wait_for

pytestmark = pytest.mark.server

server = units.server
NOT_YET = Health.PROGRESSING
WELL = (Health.HEALTHY, "")
FOREVER = "while :; do sleep 1; done"


class Prober:
    """Runs a shell script in a container, and asks probes about it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.probes = discover(ProbeTools(server.tools.engine, server.systemd))

    def run(self, script: str = FOREVER, **run: Any) -> Instance:
        return self.server.started(self.server.service("sh", "-c", script, **run))

    def ask(self, probe: str, at: Instance, **spec: Any) -> tuple[Health, str]:
        return self.probes[probe](self.server.tools.engine.instance(at.name) or at, spec)

    def becomes(self, said: tuple[Health, str], probe: str, at: Instance, **spec: Any) -> None:
        wait_for(lambda: self.ask(probe, at, **spec) == said)


@pytest.fixture
def prober(server: Server) -> Prober:
    return Prober(server)


def volume(name: str, target: str) -> dict[str, Any]:
    return {"type": "volume", "source": name, "target": target, "read_only": False}


def processes(of: Instance) -> list[str]:
    """The commands of what runs in a container."""
    return shell(f"docker exec {of.name} ps -o args").splitlines()


# ---- exec ------------------------------------------------------------------------------------------------------------


def test_exec_judges_by_the_exit_code_and_tells_the_last_line(prober: Prober) -> None:
    at = prober.run()
    assert prober.ask("exec", at, command=["true"]) == WELL
    said = prober.ask("exec", at, command=["sh", "-c", "echo one >&2; echo two >&2; exit 3"])
    assert said == (NOT_YET, "exec ends with code 3: two")
    health, why = prober.ask("exec", at, command=["no-such-program"])
    assert health is NOT_YET
    assert "no-such-program" in why


def test_exec_lets_nothing_pile_up(prober: Prober) -> None:
    at = prober.run(user="65534")
    began = time.monotonic()
    for script in ("echo waiting; sleep 999; true", "exec sleep 999", "sleep 999 & sleep 999 & wait"):
        said = prober.ask("exec", at, command=["sh", "-c", script], timeout=0.5)
        assert said == (NOT_YET, "exec does not end within 0.5 s, and was killed")
    assert time.monotonic() - began < 3
    wait_for(lambda: not any("999" in line for line in processes(at)), 2)
    assert prober.ask("exec", at, command=["true"]) == WELL


def test_exec_takes_a_command_that_has_ended_for_ended(prober: Prober) -> None:
    """Though one that it left behind still holds its output."""
    at = prober.run()
    assert prober.ask("exec", at, command=["sh", "-c", "sleep 5 &"], timeout=0.5) == WELL


def test_exec_drowns_in_no_output(prober: Prober) -> None:
    at = prober.run()
    assert prober.ask("exec", at, command=["sh", "-c", "seq 1 300000; exit 1"], timeout=10) == (
        NOT_YET,
        "exec ends with code 1: 300000",
    )
    assert prober.ask("exec", at, command=["yes"], timeout=0.5) == (
        NOT_YET,
        "exec does not end within 0.5 s, and was killed",
    )


def test_exec_in_a_paused_container_is_not_yet(prober: Prober) -> None:
    at = prober.run()
    shell(f"docker pause {at.name}")
    try:
        health, why = prober.ask("exec", at, command=["true"])
    finally:
        shell(f"docker unpause {at.name}")
    assert health is NOT_YET
    assert "paused" in why


# ---- heartbeat -------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_seen_in_the_container_and_on_a_volume(prober: Prober) -> None:
    beats = "while :; do touch /alive /data/alive /mem/alive; sleep 0.2; done"
    at = prober.run(
        beats, volumes=[{"type": "volume", "source": "", "target": "/data", "read_only": False}], tmpfs=["/mem"]
    )
    for path in ("/alive", "/data/alive", "/proc/../alive"):
        prober.becomes(WELL, "heartbeat", at, path=path, every=5.0)
    shell(f"docker exec {at.name} test -f /mem/alive")
    assert prober.ask("heartbeat", at, path="/mem/alive", every=5.0) == (NOT_YET, "there is no /mem/alive yet")
    assert prober.ask("heartbeat", at, path="/no/such?path=/alive", every=5.0)[0] is NOT_YET


def test_a_heartbeat_that_stops_is_seen(prober: Prober) -> None:
    at = prober.run(f"touch /alive; {FOREVER}")
    prober.becomes(WELL, "heartbeat", at, path="/alive", every=2.0)
    wait_for(lambda: prober.ask("heartbeat", at, path="/alive", every=2.0)[0] is NOT_YET, 4)
    assert prober.ask("heartbeat", at, path="/alive", every=1.0)[1].startswith("/alive was last modified ")


def test_a_heartbeat_through_a_link_is_that_of_the_file(prober: Prober) -> None:
    at = prober.run(f"busybox ln -s /alive /link; sleep 2; touch /alive; {FOREVER}")
    assert prober.ask("heartbeat", at, path="/link", every=5.0) == (NOT_YET, "there is no /link yet")
    prober.becomes(WELL, "heartbeat", at, path="/link", every=1.0)


# ---- log -------------------------------------------------------------------------------------------------------------


def test_a_line_of_the_log_is_found_by_a_regular_expression(prober: Prober) -> None:
    at = prober.run(f"echo --help; echo 'Worker 7 is ready'; {FOREVER}")
    for pattern in ("Worker [0-9]+ is ready$", "^--help$", "(?<=is )ready"):
        prober.becomes(WELL, "log", at, pattern=pattern)
    for pattern in ("worker", "nothing", "--output=json", "*"):
        assert prober.ask("log", at, pattern=pattern)[0] is not Health.HEALTHY
    health, why = prober.ask("log", at, pattern="(?<=i*)s")
    assert health is Health.UNKNOWN
    assert re.fullmatch("journalctl cannot search the journal for the pattern: .*lookbehind assertion is not .*", why)


def test_what_an_instance_prints_first_counts(prober: Prober) -> None:
    for _ in range(3):
        at = prober.run(f"echo ready; {FOREVER}")
        prober.becomes(WELL, "log", at, pattern="ready")


def test_a_line_counts_until_the_next_start(prober: Prober) -> None:
    at = prober.run(
        f"test -f /data/once || echo ready; touch /data/once; {FOREVER}",
        volumes=[volume("once", "/data")],
    )
    try:
        prober.becomes(WELL, "log", at, pattern="ready")
        shell(f"docker kill {at.name}")
        wait_for(lambda: prober.server.instance(at).started not in {at.started, ""})
        assert prober.ask("log", at, pattern="ready") == (NOT_YET, "no line of its log matches since its start")
    finally:
        prober.server.unmake()
        shell("docker volume rm once")


def test_what_its_unit_says_does_not_count(prober: Prober) -> None:
    at = prober.run()
    shell(f"docker rm -f {at.name}")
    wait_for(lambda: "is missing" in shell(f"journalctl --output=cat _SYSTEMD_UNIT={at.name}.service || true"))
    assert prober.ask("log", at, pattern="is missing|.") == (NOT_YET, "no line of its log matches since its start")


def test_a_log_that_falls_silent_is_seen(prober: Prober) -> None:
    at = prober.run(f"echo polled; sleep 4; echo polled; {FOREVER}")
    every = {"pattern": "polled", "every": 2.0}
    prober.becomes(WELL, "log", at, **every)
    prober.becomes((NOT_YET, "no line of its log matches in the last 2 s"), "log", at, **every)
    prober.becomes(WELL, "log", at, **every)


# ---- systemd and docker ----------------------------------------------------------------------------------------------


def test_systemd_says_how_the_unit_is(prober: Prober) -> None:
    at = prober.run(f"echo up; {FOREVER}")
    assert prober.ask("systemd", at) == WELL
    shell(f"docker kill {at.name}")
    prober.becomes((NOT_YET, "its unit is activating (auto-restart)"), "systemd", at)
    prober.becomes(WELL, "systemd", at)
    prober.becomes(WELL, "log", at, pattern="up")  # what has only begun does not hear that it should stop
    shell(f"systemctl stop {at.name}")
    assert prober.probes["systemd"](at, {}) == (NOT_YET, "its unit is inactive (dead)")


def test_a_unit_that_has_failed_says_no_for_good(prober: Prober) -> None:
    at = prober.run("exit 3", restart="no")
    prober.becomes((Health.DEGRADED, "its unit has failed"), "systemd", at)


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (["CMD", "true"], WELL),
        (["CMD", "false"], (Health.DEGRADED, "its healthcheck says unhealthy")),
        (["NONE"], (Health.UNKNOWN, "it has no healthcheck, neither in the image nor in the manifest")),
    ],
)
def test_docker_says_what_the_healthcheck_says(prober: Prober, test: list[str], said: tuple[Health, str]) -> None:
    check = {"disable": True} if test == ["NONE"] else {"test": test, "interval": 1.0, "retries": 1}
    at = prober.run(healthcheck=check)
    prober.becomes(said, "docker", at)


# ---- what is asked over the network ----------------------------------------------------------------------------------


def test_a_port_is_asked_in_the_container_itself(prober: Prober) -> None:
    service = prober.server.service()
    del service.run["command"]  # the image's own is a web server
    at = prober.server.started(service)
    prober.becomes(WELL, "tcp", at, port=7799)
    assert prober.ask("http", at, path="/health", port=7799, body="^ok 1$", header={"content-length": "^5$"}) == WELL
    assert prober.ask("http", at, path="/health", port=7799, body="^ok 2$")[0] is NOT_YET
    assert prober.ask("tcp", at, port=7798) == (NOT_YET, "nothing listens on port 7798")
    assert prober.ask("grpc", at, port=7799, service="")[1].startswith("grpc gets an answer on port 7799 that is not")


# ---- kafka -----------------------------------------------------------------------------------------------------------


def test_brokers_are_found_by_the_names_that_a_container_knows(prober: Prober) -> None:
    engine = prober.server.tools.engine
    at, on_host = prober.run(), prober.run(network_mode="host")
    shell("docker network create mvd-beside")
    alias = "--network mvd-beside --network-alias Kafka --name beside"
    shell(f"docker run --detach {alias} {os.environ['MVD_IMAGE']} sleep 1000")
    try:
        assert "kafka" not in engine.addresses(at.name, 5.0)
        shell(f"docker network connect mvd-beside {at.name}")
        field = '{{(index .NetworkSettings.Networks "mvd-beside").IPAddress}}'
        address = shell(f"docker inspect --format '{field}' beside").strip()
        known = engine.addresses(at.name, 5.0)
        assert known["kafka"] == known["beside"] == address != ""
        assert known["localhost"] in shell(f"docker exec {at.name} hostname -i").split()
        shares = prober.run(network_mode=f"container:{at.name}")
        assert engine.addresses(shares.name, 5.0) == known
    finally:
        shell("docker rm --force beside")
        shell(f"docker network disconnect mvd-beside {at.name} || true")
        shell("docker network rm mvd-beside")
    assert engine.addresses(on_host.name, 5.0) == {"localhost": "127.0.0.1"}
    assert engine.addresses(prober.run(network_mode="none").name, 5.0) == {}
    assert engine.addresses("no-such-container", 5.0) == {}


def test_a_login_is_read_from_the_environment_of_a_container(prober: Prober) -> None:
    service = replace(prober.server.service("sleep", "1000"), environment={"KAFKA_PASSWORD": "a=b\nc", "EMPTY": ""})
    at = prober.server.started(service)
    found = prober.server.tools.engine.environment(at.name, 5.0)
    assert (found["KAFKA_PASSWORD"], found["EMPTY"]) == ("a=b\nc", "")


# ---- as the daemon ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["0", "65534"])
def test_the_daemon_has_the_rights_that_its_probes_need(prober: Prober, user: str) -> None:
    """It is confined by its unit, and so is what asks here."""
    at = prober.run(f"echo ready; touch /tmp/alive; {FOREVER}", user=user)
    asks = {
        "exec": {"command": ["sleep", "999"], "timeout": 0.5},
        "heartbeat": {"path": "/tmp/alive", "every": 60.0},
        "log": {"pattern": "ready"},
        "systemd": {},
        "kafka": {
            "consumer": {"topic": "orders", "group": "workers", "lag": 1, "bootstrap_servers": ["localhost:1"]},
            "timeout": 10.0,
        },
    }
    program = (
        "import json, sys; from gitops_mvd import probes; from gitops_mvd.docker.client import Engine; "
        "from gitops_mvd.systemd.client import Systemd; e = Engine(); "
        "ask = probes.discover(probes.ProbeTools(e, Systemd())); "
        "[print(*ask[name](e.instance(sys.argv[1]), spec)) for name, spec in json.loads(sys.argv[2]).items()]"
    )
    unit = resources.files("gitops_mvd").joinpath("gitops-mvd.service").read_text()
    rights = re.findall(
        r"^((?:NoNew|Capab|Ambient|Protect|Private|Restrict|Lock|SystemCall)\w+=.*)$", unit, re.MULTILINE
    )
    confined = ["systemd-run", "--quiet", "--wait", "--pipe", *(f"--property={right}" for right in rights)]
    confined += [f"--setenv=PYTHONPATH={os.pathsep.join(sys.path)}", sys.executable, "-c", program]
    done = subprocess.run([*confined, at.name, json.dumps(asks)], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "Progressing exec does not end within 0.5 s, and was killed",
        *["Healthy "] * 3,
        "Unknown kafka: no broker answers at localhost:1",
    ], done.stderr
    assert len(rights) > 20
