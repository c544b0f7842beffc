"""What `mvd doctor` says of the machine, its forge and its gateway: on a server of which every edge is played."""

from __future__ import annotations

import json
import os
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gitops_mvd import forges
from gitops_mvd.cli import machine
from tests.contract import pems, test_cli
from tests.contract.terminal import REFUSES
from tests.contract.test_cli import Newcomer
from tests.lab.forge import Forge

newcomer = test_cli.newcomer
TOKEN = "t0ken-of-the-lab"


def lines(newcomer: Newcomer, *checks: str) -> list[str]:
    """What the doctor finds of these checks, `verdict check: message [hint]`."""
    newcomer.repository.commit({"README.md": f"{time.monotonic_ns()}\n"})
    said = newcomer.terminal.mvd("doctor", "--json")
    found = json.loads(said.out)
    assert said.code == int(any(one["verdict"] == "fail" for one in found))
    mine = [one for one in found if one["what"] in checks]
    return [f"{one['verdict']} {one['what']}: {one['told']} [{one['hint']}]".removesuffix(" []") for one in mine]


# ---- programs and the network ----------------------------------------------------------------------------------------


def test_what_is_not_installed_is_named_with_the_command_that_gets_it(
    newcomer: Newcomer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "few").mkdir()
    for program in ("git", "prlimit", "env"):
        [found] = [path for path in (Path("/usr/bin", program), Path("/bin", program)) if path.exists()][:1]
        (tmp_path / "few" / program).symlink_to(found)
    newcomer.repository.commit({"fleet.yaml": "hosts: {srv1: {}}\n"})
    monkeypatch.setenv("PATH", f"{tmp_path}/few")
    monkeypatch.setattr(machine, "SBIN", str(tmp_path / "few"))
    said = newcomer.terminal.mvd("doctor")
    assert said.code == 1
    for program, package in (("docker", "docker.io"), ("iptables", "iptables")):
        told = f"fail  programs       {program} is not installed\n{'':<20} apt-get install {package}\n"
        assert told in said.out
    assert "git is not installed" not in said.out


def test_a_docker_that_writes_nftables_by_itself_needs_no_iptables(newcomer: Newcomer, tmp_path: Path) -> None:
    newcomer.engine["/info"] = {**newcomer.engine["/info"], "FirewallBackend": {"Driver": "nftables"}}
    (tmp_path / "daemon.json").write_text('{"firewall-backend": "nftables"}')
    assert lines(newcomer, "programs", "firewall") == [
        "ok programs: docker, git, prlimit",
        "ok firewall: Docker's rules are those of nftables",
    ]


def test_where_docker_lays_no_rules_its_userland_proxy_has_to_stay(newcomer: Newcomer, tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text('{"iptables": false}')
    [firewall] = lines(newcomer, "firewall", "userland-proxy")
    assert firewall.startswith('warn firewall: Docker lays no rules ("iptables": false): published ports are those of')
    assert 'Leave "userland-proxy" on' in firewall


def test_a_server_without_ipv6(newcomer: Newcomer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "IPV6", tmp_path / "if_inet6")
    none = ["ok ipv6: none on this server: ports are published on IPv4 alone"]
    assert lines(newcomer, "ipv6") == none
    (tmp_path / "if_inet6").write_text("")
    assert lines(newcomer, "ipv6") == none
    (tmp_path / "if_inet6").write_text("00000000000000000000000000000001 01 80 10 80       lo\n")
    assert lines(newcomer, "ipv6") == []


def test_an_engine_with_user_namespaces_cannot_show_containers_what_is_mounted(newcomer: Newcomer) -> None:
    newcomer.engine["/info"] = {**newcomer.engine["/info"], "SecurityOptions": ["name=seccomp", "name=userns"]}
    [userns] = lines(newcomer, "userns-remap")
    assert userns.startswith("warn userns-remap: on: files, secrets and folders that are mounted belong to users whom")


def test_a_web_proxy_is_shown_without_its_login_and_compared_with_that_of_docker(
    newcomer: Newcomer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines(newcomer, "web proxy") == []
    for login in ("http://me:geheim", "http://me:ge@heim", "me:geheim"):
        monkeypatch.setenv("https_proxy", f"{login}@proxy.acme.example:3128")
        own, of_docker = lines(newcomer, "web proxy")
        assert own == "ok web proxy: Git and the forge are asked through http://proxy.acme.example:3128, but not *"
    assert of_docker.startswith("warn web proxy: Docker has none, so it asks registries directly")
    newcomer.engine["/info"] = {**newcomer.engine["/info"], "HttpsProxy": "http://proxy.acme.example:3128"}
    assert lines(newcomer, "web proxy") == [own]


# ---- a Swarm ---------------------------------------------------------------------------------------------------------


def node(name: str, state: str = "ready", **manager: object) -> dict[str, object]:
    more = {"ManagerStatus": {"Addr": "10.0.0.1:2377", **manager}} if manager else {}
    return {"ID": name, "Description": {"Hostname": name}, "Status": {"State": state, "Addr": "10.0.0.1"}, **more}


def test_a_manager_of_a_swarm_says_who_leads_and_what_is_gone(newcomer: Newcomer) -> None:
    newcomer.terminal.set(swarm="prod", host=None)
    newcomer.repository.commit({"fleet.yaml": "hosts: {prod: {swarm: true}}\n"})
    swarm = {"LocalNodeState": "active", "ControlAvailable": True, "NodeID": "one"}
    newcomer.engine["/info"] = {**newcomer.engine["/info"], "Swarm": swarm}
    newcomer.engine["/nodes"] = [node("one", Leader=True), node("two", Leader=False), node("three", "down")]
    assert lines(newcomer, "swarm", "fleet.yaml") == [
        "ok swarm: 3 nodes, 2 managers, led by this server, whose daemon acts",
        "warn swarm: the node three is not there [What it ran is made elsewhere: docker node ls]",
        "warn swarm: of 2 managers none may be lost: the Swarm could not be changed any more "
        "[Have 3: docker node promote NODE]",
        "ok fleet.yaml: prod: no labels",
    ]
    newcomer.engine["/info"] = {**newcomer.engine["/info"], "Swarm": {**swarm, "NodeID": "two"}}
    assert lines(newcomer, "swarm")[0] == "ok swarm: 3 nodes, 2 managers, led by one, whose daemon acts"
    newcomer.engine["/info"] = {**newcomer.engine["/info"], "Swarm": {"LocalNodeState": "inactive"}}
    [no_manager] = lines(newcomer, "swarm")
    assert no_manager.startswith("fail swarm: this Docker is no manager of a Swarm [Make it one: docker swarm init")


def test_a_host_that_only_its_settings_call_a_swarm_is_told_what_the_fleet_lacks(newcomer: Newcomer) -> None:
    newcomer.terminal.set(swarm="prod", host=None)
    newcomer.repository.commit({"fleet.yaml": "hosts:\n  prod: {}\n"})
    [fleet] = lines(newcomer, "fleet.yaml")
    assert "hosts.prod: is a Swarm by its settings: have `swarm: true`" in fleet


# ---- secrets and disks -----------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of this machine may enter, as /etc/gitops-mvd."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_secret_that_everybody_can_read(newcomer: Newcomer, open_folder: Path) -> None:
    token, kept = open_folder / "token", open_folder / "secrets/db"
    kept.parent.mkdir(0o755)
    for file in (token, kept):
        file.write_text("a secret\n")
        file.chmod(0o644)
    newcomer.terminal.set(credentials={"token_file": str(token)}, secrets=str(kept.parent))
    assert lines(newcomer, "secrets") == [
        f"warn secrets: {file} can be read by every user of this server [chmod o= {file}]" for file in (kept, token)
    ]
    token.chmod(0o640)
    kept.parent.chmod(0o700)
    assert lines(newcomer, "secrets") == ["ok secrets: 2 files, closed to other users"]


GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "files", "said"),
    [
        (9 * GIB, 10_000, ["ok 9.0 GiB free at /opt"]),
        (9 * GIB, None, ["ok 9.0 GiB free at /opt"]),
        (GIB, 10_000, ["warn 1.0 GiB free at /opt"]),
        (0, 10_000, ["fail 0.0 GiB free at /opt"]),
        (9 * GIB, 0, ["ok 9.0 GiB free at /opt", "fail only 0 more files can be made at /opt"]),
    ],
)
def test_a_disk_without_room_is_told_before_it_is_full(free: int, files: int | None, said: Sequence[str]) -> None:
    found = list(machine.room_at("/opt", free, files))
    assert [f"{one.verdict} {one.message}" for one in found] == said
    assert all(bool(one.hint) is (one.verdict != "ok") for one in found)


def test_the_disks_of_state_and_installation_are_looked_at(newcomer: Newcomer, tmp_path: Path) -> None:
    told = " ".join(lines(newcomer, "disk"))
    assert str(tmp_path / "state") in told
    assert sys.prefix in told


# ---- the clock -------------------------------------------------------------------------------------------------------


@contextmanager
def another_time(seconds: float, *, tls: bool = False) -> Iterator[str]:
    """A web server whose clock is that many seconds ahead; with TLS, nobody trusts its certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(int(timestamp or time.time() + seconds))

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server, tempfile.TemporaryDirectory() as folder:
        if tls:
            both = Path(folder, "both.pem")
            both.write_text(f"{pems.KEY}\n{pems.CERTIFICATE}\n")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(both)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (0, "ok clock: as that of 127.0.0.1"),
        (-630, "warn clock: 10 minutes ahead of that of 127.0.0.1 [Set it: timedatectl set-ntp true"),
        (
            366 * 86400,
            "fail clock: 366 days behind that of 127.0.0.1: certificates seem to have expired, or not to be valid yet",
        ),
    ],
)
def test_the_clock_is_compared_with_that_of_the_forge(newcomer: Newcomer, ahead: float, said: str, tls: bool) -> None:
    with another_time(ahead + 1, tls=tls) as url:
        newcomer.terminal.set(forge={"kind": "gitea", "repository": "acme/config", "base_url": url})
        [clock] = lines(newcomer, "clock")
    assert clock.startswith(said)


def test_a_clock_that_nobody_can_compare_is_not_judged(newcomer: Newcomer) -> None:
    newcomer.terminal.set(forge={"kind": "gitea", "repository": "acme/config", "base_url": f"http://{REFUSES}"})
    assert lines(newcomer, "clock") == []


# ---- the forge and the gateway ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", forges.kinds())
def test_the_token_is_tried_without_a_trace(newcomer: Newcomer, tmp_path: Path, kind: str) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with Forge(tmp_path / "forge", token=TOKEN) as forge:
        repository = forge.create("acme/config")
        name = "lab/acme/config" if kind == "azure-devops" else "acme/config"
        dialect = forge.dialects["gitea" if kind == "forgejo" else kind.replace("_", "-")]
        base = {"kind": kind, "base_url": f"{forge.url}{dialect.BASE}", "token_file": f"{tmp_path}/token"}
        newcomer.terminal.set(forge={**base, "repository": name})
        assert lines(newcomer, "token") == [
            f"ok token: may post statuses to {name}, tried with a commit that does not exist"
        ]
        assert repository.statuses("0" * 40) == []
        newcomer.terminal.set(forge={**base, "repository": name.replace("config", "absent")})
        [refused] = lines(newcomer, "token")
        assert "does not let this token" in refused
        newcomer.terminal.set(forge={**base, "repository": name})
        (tmp_path / "token").write_text("revoked\n")
        [revoked] = lines(newcomer, "token")
        assert revoked.startswith("fail token: ")
        assert "refused the token" in revoked


def test_deployments_are_tried_without_a_trace_too(newcomer: Newcomer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with Forge(tmp_path / "forge", token=TOKEN) as forge:
        repository = forge.create("acme/config")
        at = {"base_url": f"{forge.url}/api/v3", "repository": "acme/config", "token_file": f"{tmp_path}/token"}
        newcomer.terminal.set(forge={"kind": "github", "environment": "{host}", **at})
        [token] = lines(newcomer, "token")
        assert token.startswith("ok token: may post statuses to acme/config")
        assert "POST" in {asked.method for asked in forge.asked if asked.path.endswith("/deployments")}
        assert repository.deployments == []


def test_a_kong_that_is_not_there_is_offered_as_an_app(newcomer: Newcomer) -> None:
    newcomer.terminal.set(kong={"admin": f"http://{REFUSES}", "proxy": f"http://{REFUSES}"})
    admin, proxy = lines(newcomer, "kong", "kong proxy")
    assert admin.startswith("fail kong: ")
    assert "To have one as an app: mvd init NEW --kong app, and copy its apps/kong" in admin
    assert proxy.startswith(f"fail kong proxy: nothing answers at http://{REFUSES}: connection refused [Compare")


def test_the_port_at_which_requests_come_in_is_tried(newcomer: Newcomer) -> None:
    with another_time(0) as url:
        newcomer.terminal.set(kong={"admin": f"http://{REFUSES}", "proxy": url})
        assert lines(newcomer, "kong proxy") == [f"ok kong proxy: listens at {url}"]
