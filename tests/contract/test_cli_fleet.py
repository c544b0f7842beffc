"""`mvd fleet`: every host, from a laptop with a clone and a token, or from a server, by what the forge tells."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from gitops_mvd import forges
from gitops_mvd.core.model import CommitStatus, Health, Operation
from gitops_mvd.forges.api import Account
from gitops_mvd.status.fleet import MOST_COMMITS
from tests.contract.terminal import Said, Terminal, git
from tests.lab.forge import Forge, Repository

TOKEN = "t0ken-of-the-lab"
FLEET = "hosts:\n  web-1: {}\n  web-2: {labels: {role: web}}\n  db-1:\n"
GREEN, RUNNING, ROLLED_BACK = Operation.SUCCEEDED, Operation.RUNNING, Operation.ROLLED_BACK


@dataclass
class World:
    """A forge with the repository acme/config, and a laptop with a clone of it and a token."""

    forge: Forge
    config: Repository
    clone: Path
    token: Path
    terminal: Terminal

    def fleet(self, *words: str, at: str = "") -> Said:
        options = ("--repository", at or str(self.clone), "--token-file", str(self.token))
        return self.terminal.mvd("fleet", *options, "--forge", "gitea", "--insecure", *words)

    def post(
        self,
        commit: str,
        host: str,
        operation: Operation,
        words: str = "2 apps healthy",
        *,
        health: Health | None = None,
    ) -> None:
        health = health or (Health.HEALTHY if operation is GREEN else Health.UNKNOWN)
        client = forges.connect("gitea", Account("acme/config", lambda: TOKEN, self.forge.url))
        client.publish(commit, CommitStatus(f"mvd/{host}", operation, health, words, "https://mvd.example/1"))

    def commit(self, subject: str) -> str:
        return self.config.commit({"apps/hello/compose.yaml": f"# {subject}\n"}, subject)


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    with Forge(tmp_path / "forge", token=TOKEN) as forge:
        config = forge.create("acme/config")
        config.commit({"fleet.yaml": FLEET}, "Name the servers")
        helper = f"!f() {{ echo username=x-access-token; echo password={TOKEN}; }}; f"
        monkeypatch.setenv("GIT_CONFIG_COUNT", "1")  # the login of whoever sits at the laptop
        monkeypatch.setenv("GIT_CONFIG_KEY_0", "credential.helper")
        monkeypatch.setenv("GIT_CONFIG_VALUE_0", helper)
        git("clone", "--quiet", config.clone_url, str(tmp_path / "config"))
        yield World(forge, config, tmp_path / "config", token, Terminal(capsys, tmp_path / "no-settings.yaml"))


def rows(said: Said) -> dict[str, list[str]]:
    """The cells of each host."""
    _, head, *table = said.out.splitlines()
    assert head.split()[0] == "HOST"
    return {line.split()[0]: line.split() for line in table[:-1]}


def test_each_host_is_shown_with_its_newest_status(world: World) -> None:
    first = world.commit("Deploy hello")
    world.post(first, "web-1", GREEN)
    world.post(first, "db-1", GREEN)
    second = world.commit("Deploy a bad one")
    world.post(second, "web-1", ROLLED_BACK, "hello: http 503 from /health for 60 s; rolled back")
    world.post(second, "web-2", RUNNING, "waiting: wave 1 is not green yet")
    said = world.fleet()
    assert said.code == 1
    assert said.out.startswith(f"main is at {second[:7]} Deploy a bad one\n")
    found = rows(said)
    assert list(found) == ["db-1", "web-1", "web-2"]
    assert found["db-1"][1:4] == [first[:7], "Synced", "Healthy"]
    assert found["web-1"][1:4] == [second[:7], "OutOfSync", "Unknown"]
    assert found["web-2"][1:4] == [second[:7], "OutOfSync", "Progressing"]
    assert "hello: http 503 from /health for 60 s; rolled back" in said.out
    assert said.out.endswith("1 of 3 hosts green\n")


def test_a_fleet_that_is_green_ends_with_0_though_a_commit_changes_one_host_alone(world: World) -> None:
    first = world.commit("Deploy hello")
    for host in ("web-1", "web-2", "db-1"):
        world.post(first, host, GREEN)
    second = world.commit("Change web-2")
    world.post(second, "web-2", GREEN)
    world.post(second, "elsewhere", Operation.FAILED, "of no fleet of ours")
    world.post(second, "web-1/plan", Operation.FAILED, "of an app")
    said = world.fleet()
    assert (said.code, said.err) == (0, "")
    assert {host: cells[1] for host, cells in rows(said).items()} == {
        "db-1": first[:7],
        "web-1": first[:7],
        "web-2": second[:7],
    }


def test_what_is_newer_than_the_clone_is_seen_and_the_clone_stays_as_it_is(world: World) -> None:
    head = git("-C", str(world.clone), "rev-parse", "HEAD")
    newer = world.commit("Merged meanwhile")
    for host in ("web-1", "web-2", "db-1"):
        world.post(newer, host, GREEN)
    assert world.fleet().code == 0
    assert git("-C", str(world.clone), "rev-parse", "HEAD") == head
    assert git("-C", str(world.clone), "status", "--short") == ""


def test_a_host_that_has_not_posted_for_long_is_unknown_and_asked_for_a_bounded_number_of_times(world: World) -> None:
    old = world.commit("Long ago")
    world.post(old, "db-1", GREEN)
    for number in range(MOST_COMMITS):
        newest = world.commit(f"Version {number}")
    world.post(newest, "web-1", GREEN)
    world.post(newest, "web-2", GREEN)
    world.forge.asked.clear()
    said = world.fleet()
    assert said.code == 1
    assert rows(said)["db-1"][1:5] == ["-", "Unknown", "Unknown", "-"]
    assert f"no status on the last {MOST_COMMITS} commits" in said.out
    looked_at = {
        asked.path.partition("?")[0] for asked in world.forge.asked if asked.path.partition("?")[0][-6:] == "status"
    }
    assert len(looked_at) == MOST_COMMITS


def test_the_address_of_the_repository_and_a_token_will_do(world: World) -> None:
    first = world.commit("Deploy hello")
    world.post(first, "web-1", GREEN)
    world.commit("Next")
    shutil.rmtree(world.clone)
    said = world.fleet("--json", at=world.config.clone_url)
    answer = json.loads(said.out)
    assert (said.code, answer["subject"], answer["branch"]) == (1, "Next", "main")
    host = next(it for it in answer["hosts"] if it["host"] == "web-1")
    assert abs(host.pop("posted") - time.time()) < timedelta(minutes=1).total_seconds()
    assert host == {
        "host": "web-1",
        "commit": first,
        "subject": "Deploy hello",
        "wave": 0,
        "state": "green",
        "sync": "Synced",
        "health": "Healthy",
        "drained": False,
        "why": "2 apps healthy",
        "url": "https://mvd.example/1",
    }
    assert [it["host"] for it in answer["hosts"] if it["state"] == ""] == ["db-1", "web-2"]


def test_a_server_reads_its_own_settings(world: World, tmp_path: Path) -> None:
    commit = world.commit("Deploy hello")
    for host in ("web-1", "web-2", "db-1"):
        world.post(commit, host, GREEN)
    settings = {
        "repository": world.config.clone_url,
        "host": "web-1",
        "state": str(tmp_path / "state"),
        "files": str(tmp_path / "files"),
        "credentials": {"token_file": str(world.token), "insecure": True},
        "forge": {"kind": "gitea", "token_file": str(world.token)},
    }
    world.terminal.config.write_text(yaml.safe_dump(settings))
    said = world.terminal.mvd("fleet")
    assert (said.code, said.err) == (0, "")
    assert list(rows(said)) == ["db-1", "web-1", "web-2"]
    world.terminal.set(forge=None)
    said = world.terminal.mvd("fleet")
    assert (said.code, said.err.splitlines()[0]) == (1, f"mvd: no forge: {world.terminal.config} has no `forge`")


def test_without_a_fleet_file_the_hosts_are_those_that_have_posted(world: World) -> None:
    commit = world.config.commit({"fleet.yaml": None}, "One server does not need it")
    said = world.fleet()
    assert said.code == 1
    assert "no host has posted a status" in said.out
    world.post(commit, "web-9", GREEN)
    world.post(commit, "web-9/hello", GREEN)
    said = world.fleet()
    assert (said.code, list(rows(said))) == (0, ["web-9"])


def test_what_is_wrong_is_said_in_one_line(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bare = world.terminal.mvd("fleet", "--token-file", str(world.token))
    assert (bare.code, bare.err.splitlines()[0]) == (1, "mvd: . is no clone with a remote called origin")
    assert "read with a token" in world.terminal.mvd("fleet", "--repository", str(world.clone)).err
    words = ("fleet", "--repository", str(world.clone), "--token-file", str(world.token))
    assert "does not tell which forge it is" in world.terminal.mvd(*words).err
    assert "a token over http can be read on the way" in world.terminal.mvd(*words, "--forge", "gitea").err
    world.token.write_text("wr0ng")
    assert "refused the token" in world.fleet().err
    world.token.write_text(TOKEN)
    assert "no-such" in world.fleet("--branch", "no-such").err
    world.config.commit({"fleet.yaml": "hosts: [web-1]\n"}, "A mistake")
    said = world.fleet()
    assert (said.code, said.err.startswith("fleet.yaml:1")) == (1, True)
    world.forge.down = True
    assert world.fleet().err.startswith("mvd: cannot fetch main from ")


def test_a_status_of_each_kind_is_told_in_the_words_of_the_status(world: World) -> None:
    told = {
        "waiting: the registry does not answer": (RUNNING, Health.UNKNOWN, "OutOfSync", "Progressing"),
        "web-1 is suspended by anna: new disk": (Operation.SUPERSEDED, Health.SUSPENDED, "OutOfSync", "Suspended"),
        "superseded by 1a2b3c4": (Operation.SUPERSEDED, Health.UNKNOWN, "OutOfSync", "Unknown"),
        "hello: http 503 from /health": (GREEN, Health.DEGRADED, "Unknown", "Degraded"),
        "fleet.yaml:1: is empty; web-1 stays as it was before 1a2b3c4": (
            *(Operation.FAILED, Health.UNKNOWN, "OutOfSync", "Unknown"),
        ),
    }
    commit = world.commit("Deploy hello")
    for words, (operation, health, *shown) in told.items():
        world.post(commit, "web-1", operation, words, health=health)
        assert rows(world.fleet())["web-1"][2:4] == shown, words


def test_no_status_breaks_out_of_its_row(world: World) -> None:
    commit = world.commit("Deploy hello")
    status = world.config.statuses(commit)
    assert status == []
    world.post(commit, "web-1", RUNNING)
    [posted] = world.config.statuses(commit)
    world.config.post(commit, dataclasses.replace(posted, description="\x1b[2Jwell\nweb-2  Synced"))
    out = world.fleet().out
    assert "\x1b" not in out
    assert len(out.splitlines()) == 6
    assert os.linesep + "web-2  Synced" not in out


def test_each_host_is_shown_with_its_wave_once_there_are_waves(world: World) -> None:
    rollout = "rollout: {waves: [[web-1], [role=web], ['*']]}\n"
    commit = world.config.commit({"fleet.yaml": FLEET + rollout}, "Go in waves")
    world.post(commit, "web-1", GREEN)
    found = rows(world.fleet())
    assert {host: cells[1] for host, cells in found.items()} == {"web-1": "1", "web-2": "2", "db-1": "3"}
    assert found["web-1"][2:5] == [commit[:7], "Synced", "Healthy"]


# ---- drain -----------------------------------------------------------------------------------------------------------


WRITTEN = """\
# The servers, by Anna
defaults: &all
  labels: {zone: a}   # all of them
hosts:
  web-1: {}           # the first
  web-2: {labels: {role: web}}
  db-1:               # the database
  db-2: ~
  db-3:
    # with a lot of disk
    labels: {role: db}
    variables: {SIZE: "10"}
  api-1: {drain: false, labels: {role: api}}
"""


@pytest.mark.parametrize(
    ("host", "before", "after"),
    [
        ("web-1", "web-1: {}  ", "web-1: {drain: true}  "),
        ("web-2", "web-2: {labels", "web-2: {drain: true, labels"),
        ("db-1", "db-1:      ", "db-1: {drain: true}      "),
        ("db-2", "db-2: ~", "db-2: {drain: true}"),
        ("db-3", "    labels: {role: db}", "    drain: true\n    labels: {role: db}"),
        ("api-1", "drain: false, labels", "drain: true, labels"),
    ],
)
def test_a_host_is_drained_by_a_line_of_the_fleet_file_and_back_and_all_else_stays(
    world: World, host: str, before: str, after: str
) -> None:
    file = world.clone / "fleet.yaml"
    file.write_text(WRITTEN)
    said = world.terminal.mvd("fleet", "drain", host, "--repository", str(world.clone))
    assert (said.code, said.err) == (0, "")
    assert f'git commit -m "Drain {host}" fleet.yaml && git push' in said.out
    assert file.read_text() == WRITTEN.replace(before, after, 1) != WRITTEN
    assert "drained already" in world.terminal.mvd("fleet", "drain", host, "--repository", str(world.clone)).out
    assert world.terminal.mvd("fleet", "undrain", host, "--repository", str(world.clone)).code == 0
    assert file.read_text() == WRITTEN.replace(before, after.replace("drain: true", "drain: false"), 1)


def test_what_cannot_be_drained_is_said_and_nothing_is_written(world: World) -> None:
    file = world.clone / "fleet.yaml"
    for text, says in {
        FLEET: "fleet.yaml:1: hosts: has no host web-9",
        "hosts:\n  web-8: &web {labels: {a: b}}\n  web-9: *web\n": "by an alias",
        "hosts: [web-9]\n": "fleet.yaml:1",
    }.items():
        file.write_text(text)
        said = world.terminal.mvd("fleet", "drain", "web-9", "--repository", str(world.clone))
        assert (said.code, says in said.err) == (1, True), said
        assert file.read_text() == text
    file.unlink()
    assert "has no fleet.yaml" in world.terminal.mvd("fleet", "drain", "web-9", "--repository", str(world.clone)).err


def test_a_drained_host_is_shown_as_one(world: World) -> None:
    commit = world.config.commit({"fleet.yaml": "hosts: {web-1: {drain: true}, web-2: {drain: true}}\n"}, "Drain")
    world.post(commit, "web-1", GREEN)
    world.post(commit, "web-2", RUNNING, "deploying 1a2b3c4")
    said = world.fleet()
    assert rows(said)["web-1"][-1] == "drained"
    assert "drained; deploying 1a2b3c4" in said.out


def test_the_hosts_of_the_clone_are_completed(world: World) -> None:
    line = ["mvd", "fleet", "drain", "--repository", str(world.clone), "web"]
    asked = {"_MVD_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(line), "COMP_CWORD": "5"}
    mvd = [sys.executable, "-m", "gitops_mvd"]
    done = subprocess.run(mvd, env={**os.environ, **asked}, capture_output=True, text=True, timeout=60, check=False)
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == ["web-1", "web-2"]


# ---- replace ---------------------------------------------------------------------------------------------------------


SHOP = """\
services:
  db:
    image: registry.example.com/postgres:17
    volumes: [data:/var/lib/postgresql/data, ./dumps:/dumps, /mnt/tape:/tape]
    secrets: [password]
    networks: [default, office]
  web:
    image: shop:1
    environment: {KEY: "{file://shop.key}", TOKEN: "{file://vault:kv/shop#token}"}
    x-kong: {port: 80, routes: [{paths: [/shop]}]}
volumes: {data: }
networks: {office: {external: true}}
secrets:
  password: {external: true, name: shop.password}
"""


def test_what_a_new_server_must_have_is_printed_in_the_order_in_which_it_is_done(world: World) -> None:
    world.config.commit({"apps/shop/compose.yaml": SHOP}, "Sell things")
    said = world.terminal.mvd("fleet", "replace", "web-2", "--repository", str(world.clone), "--forge", "gitea")
    assert (said.code, said.err) == (0, "")
    commands = [line for line in said.out.splitlines() if line and not line.startswith("#")]
    assert [line.partition("    #")[0] for line in commands] == [
        "apt-get update && apt-get install -y docker.io git python3-venv",
        "install -D -m 600 /dev/stdin /etc/gitops-mvd/token",
        "install -D -m 600 /dev/stdin /etc/gitops-mvd/secrets/shop.key",
        "install -D -m 600 /dev/stdin /etc/gitops-mvd/secrets/shop.password",
        "systemctl enable --now docker",
        "docker volume create shop_data",
        "tar -C \"$(docker volume inspect --format '{{.Mountpoint}}' shop_data)\" -xf shop_data.tar",
        "mkdir -p /srv/mvd/shop/dumps && tar -C /srv/mvd/shop/dumps -xf shop_dumps.tar",
        "docker network create office",
        f"mvd install --repository {world.config.clone_url} --host web-2 --token-file /etc/gitops-mvd/token"
        " --insecure --forge gitea --kong",
        "mvd sync",
        "mvd status",
        "mvd adopt volume shop_data",
    ]
    for remark in ("/mnt/tape", "images of registry.example.com", "vault:kv/shop#token", "(shop/db)"):
        assert remark in said.out
    answer = json.loads(world.terminal.mvd("fleet", "replace", "web-2", "--repository", str(world.clone), "--json").out)
    assert answer["volumes"] == {"shop_data": ["shop/db"]}
    assert answer["secrets"] == {"shop.key": ["shop/web"], "shop.password": ["shop/db"]}
    assert (answer["apps"], answer["routed"]) == (["shop"], ["shop/web"])


def test_a_host_without_data_needs_little_and_one_that_is_not_there_nothing(world: World) -> None:
    words = ("--repository", str(world.clone), "--forge", "gitea")
    said = world.terminal.mvd("fleet", "replace", "db-1", *words)
    assert "with no app" in said.out
    assert "before the daemon is there: none." in said.out
    said = world.terminal.mvd("fleet", "replace", "web-9", *words)
    assert (said.code, said.err) == (
        *(1, "fleet.yaml:1: hosts: has no host web-9: add it, or correct the host's settings\n"),
    )


def test_an_app_with_mistakes_is_named_as_what_it_needs_is_not_known(world: World) -> None:
    world.config.commit({"apps/bad/compose.yaml": "services: {web: {imag: x}}\n"}, "A mistake")
    said = world.terminal.mvd("fleet", "replace", "web-1", "--repository", str(world.clone))
    assert (said.code, "# bad has mistakes" in said.out) == (1, True)
