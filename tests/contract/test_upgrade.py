"""A server that an older version of ours has set up: the code of today reads all of it, and has nothing to change.

What is compared with lies in fixtures/upgrade/, whose README says how and from which version it was recorded.  It is
never recorded anew: what differs from it would restart, rename or lose something on the servers there are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import yaml
from click.testing import CliRunner

from gitops_mvd.cli.main import mvd
from gitops_mvd.config.settings import read as read_settings
from gitops_mvd.core.errors import RevisionRefused
from gitops_mvd.core.model import App, Change, Gate, HostFacts, Resource, Service
from gitops_mvd.core.specs import WithContainer
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.preview import preview
from gitops_mvd.daemon.wiring import Wired, wire
from gitops_mvd.kinds import discover
from gitops_mvd.kinds.config import layout
from gitops_mvd.kinds.image import PULLED, keeper
from gitops_mvd.kinds.timer import render as timer_text
from gitops_mvd.manifest import load, read_fleet
from gitops_mvd.secrets.store import Secrets
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.suspension import Suspension, Suspensions, suspended
from tests.contract import recorded
from tests.contract.kong_documents import PATHS
from tests.lab.kong_standin import StandIn
from tests.unit.memory_tree import MemoryTree

RECORDED = Path(__file__).parent / "fixtures" / "upgrade"
REPOSITORIES = sorted(RECORDED.glob("repositories/*.yaml"))

PORT, ADDRESS, FOLDER = 20007, "127.0.0.1", "/etc/gitops-mvd/files"


# ---- what follows from a config repository ---------------------------------------------------------------------------


@pytest.mark.parametrize("repository", REPOSITORIES, ids=lambda path: path.stem)
def test_all_that_follows_from_a_repository_is_what_it_was(repository: Path, tmp_path: Path) -> None:
    recorded = json.loads((RECORDED / "computed" / f"{repository.stem}.json").read_text())
    assert computed(repository, tmp_path) == without_texts(recorded)


def without_texts(value: Any) -> Any:
    """What was recorded, but for the texts of units, whose shape is another one today: those are written anew."""
    if isinstance(value, dict):
        return {name: without_texts(it) for name, it in value.items() if name not in ("unit", "staged")}
    return value


def computed(repository: Path, folder: Path) -> dict[str, Any]:
    """Host -> app -> digests, names, texts and entities, all as JSON has them."""
    tree = tree_of(repository)
    write_secrets(folder, repository.read_text())
    told = {}
    for facts in read_fleet(tree).hosts.values() or [HostFacts("web1")]:
        apps, broken = load(tree, facts)
        assert not broken
        told[facts.name] = {app.name: told_of(facts.name, app, folder) for app in apps}
    return as_json(told)


def tree_of(repository: Path) -> MemoryTree:
    """The repository in a file: each of its files behind a line `#--- path`, the first one without such a line."""
    first, *rest = re.split(r"^#--- ", repository.read_text(), flags=re.MULTILINE)
    parted = (part.partition("\n") for part in rest)
    main = {"apps/demo/compose.yaml": first} if first.strip() else {}
    return MemoryTree({**main, **{path.strip(): text for path, _, text in parted}})


def write_secrets(folder: Path, text: str) -> None:
    """A file for every secret that the text refers to."""
    for name in set(re.findall(r"\{file://([^}]+)\}", text)):
        (folder / name).write_text(f"the secret {name}\n")
        (folder / name).chmod(0o600)


def told_of(host: str, app: App, secrets: Path) -> dict[str, Any]:
    wanted = list(resources(host, app, secrets, None))
    of_kind = {name: [it for it in wanted if it.kind == name] for name in ("network", "volume", "timer")}
    return {
        "version": app.version,
        "services": {service.name: told_of_service(app, service) for service in app.services},
        "images": {service.image: f"{PULLED}{keeper(app.name, service.image)}" for service in app.services},
        "networks": {
            it.name: it.spec["digest"] for it in of_kind["network"] if not isinstance(it.payload, WithContainer)
        },
        "volumes": {volume.name: volume.spec["digest"] for volume in of_kind["volume"]},
        "timers": {timer.name: timer_text(timer).splitlines() for timer in of_kind["timer"]},
        "routes": entities(wanted),
        "shared routes": entities(resources(host, app, secrets, "lab")),
    }


def told_of_service(app: App, service: Service) -> dict[str, Any]:
    entries = layout(app.name, service).items()
    names = service.instances(app.name)
    return {
        "digest": service.digest,
        "instances": names,
        "files": {path: [entry.content.decode(), oct(entry.mode), entry.uid, entry.gid] for path, entry in entries},
    }


def entities(wanted: Iterable[Resource]) -> dict[str, Any]:
    """All that Kong is to have, by the name of the route, but for where the instances are."""
    return {it.name: [[entity.type, entity.fields] for entity in it.payload] for it in wanted if it.kind == "route"}


def resources(host: str, app: App, secrets: Path, shared: str | None) -> Iterator[Resource]:
    tools: Any = SimpleNamespace(
        host=host,
        engine=SimpleNamespace(container_root=lambda: (0, 0)),
        systemd=None,
        kong=SimpleNamespace(shared=shared) if shared else None,
        clock=None,
        files=Path(FOLDER),
        folders=Path("/srv/mvd"),
        units=Path("/etc/systemd/system"),
        address=ADDRESS,
        secrets=Secrets(secrets),
    )
    for kind in discover(tools).values():
        yield from kind.wanted(app)


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


# ---- a server as it was ----------------------------------------------------------------------------------------------

SERVER = RECORDED / "server"
MODES = ("off", "postgres", "shared", "adopted")  # of the gateway
FOLLOWED = "/etc/gitops-mvd/files/followed"
ENV = "/etc/gitops-mvd/files/mvd-chatbot-web-c5170706/env"
MOUNTED = "/etc/gitops-mvd/files/mvd-database-db-1d11191c/files/2/file"
UNITS = "/etc/systemd/system"
UNIT = f"{UNITS}/mvd-chatbot-web-c5170706.service"
TIMER = f"{UNITS}/mvd-jobs-nightly-5cd78d30.timer"

KEPT = ("condemned", "ran", "job", "proposal")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the files belong to root")
# sdnotify leaves its socket to the garbage collector
runs_the_daemon = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def of_server(name: str) -> Any:
    return json.loads((SERVER / name).read_text())


@dataclass
class Server:
    """The recorded server, laid out below `root` and played at its edges; `mode` is that of its gateway.

    A test may change what it had of `docker`, `systemd`, `files` and `kong` when it was recorded, before it runs.
    """

    root: Path
    mode: str = "off"
    docker: Any = field(default_factory=lambda: of_server("docker.json"))
    systemd: Any = field(default_factory=lambda: of_server("systemd.json"))
    files: Any = field(default_factory=lambda: of_server("files.json"))
    played: recorded.Played = field(default_factory=recorded.Played)
    kong: Any = None

    def __post_init__(self) -> None:
        self.kong = self.kong or of_server(f"kong-{self.mode}.json")

    @property
    def history(self) -> Path:
        return self.root / "var/lib/gitops-mvd/history.db"

    @property
    def settings(self) -> Path:
        return self.root / "etc/gitops-mvd/config.yaml"

    @contextlib.contextmanager
    def running(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wired]:
        """Everything answers; gives today's wiring of it."""
        with contextlib.ExitStack() as parts:
            recorded.lay_out(self.files, self.root)
            restore(self.history)
            self._watch_programs(monkeypatch)
            database = "off" if self.mode == "off" else "postgres"
            self.gateway = parts.enter_context(StandIn(self.root / "kong", database, say=lambda text: None))
            fill(self.gateway.admin_url, self.kong)
            engine = parts.enter_context(recorded.docker(self.docker, self.played))
            forge = parts.enter_context(recorded.http(lambda method, target, body: (503, {"message": "down"})))
            bus = parts.enter_context(recorded.systemd(self.systemd, self.played))
            monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
            monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
            monkeypatch.setenv("NO_PROXY", "*")
            self._settle_in(engine, forge)
            read = read_settings(str(self.settings), self.settings.read_bytes())
            wired = wire(read, self.settings, self.root / "etc/systemd/system")
            parts.callback(wired.close)
            yield wired

    def _settle_in(self, engine: str, forge: str) -> None:
        """The settings as they were, but for where everything is now."""
        repository = import_repository(self.root / "repository.git")
        told = yaml.safe_load(self.settings.read_text())
        told |= {"repository": f"file://{repository}", "docker": {"url": engine}}
        told |= {name: str(self.root / f"etc/gitops-mvd/{name}") for name in ("files", "secrets")}
        told |= {"state": str(self.history.parent)}
        told["credentials"] = {}
        told["kong"] = {"admin": self.gateway.admin_url, "proxy": self.gateway.proxy_url}
        if self.mode == "shared":
            told["kong"] |= {"shared": "lab", "address": "10.0.0.1"}
        token = str(self.root / "etc/gitops-mvd/token")
        told["forge"] |= {"base_url": forge, "repository": "acme/config", "token_file": token}
        self.settings.write_text(yaml.safe_dump(told))
        follow(self.root / "etc/gitops-mvd/files/followed", told["repository"])

    def _watch_programs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No program is run here but git, and whoever wants to run one is heard of."""
        programs, git = self.root / "bin", shutil.which("git")
        programs.mkdir()
        (programs / "git").symlink_to(str(git))
        self._calls = self.root / "calls"
        for name in ("docker", "systemctl", "systemd-analyze", "journalctl"):
            (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {self._calls}; exit 1\n')
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.defpath}")

    def calls(self) -> list[str]:
        """The programs that were run."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def look(self) -> dict[str, Any]:
        """Everything that a pass could change, as it is now."""
        tables = dump(self.history)
        return {
            "files": recorded.files_below(self.root / "etc"),
            "kong": everything(self.gateway.admin_url),
            "what is kept": {table: tables[table] for table in KEPT},
            "good": [row[:2] for row in tables["good"]],  # and not where what they are made of is kept
            "statuses": [row[:6] for row in tables["status"]],  # not how often it was tried to post them
        }


def restore(path: Path) -> None:
    """The history as it was."""
    path.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript((SERVER / "history.sql").read_text())


def dump(path: Path) -> dict[str, list[Any]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {table: database.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables}


def import_repository(path: Path) -> Path:
    """The repository as it was, with the same commits."""
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", path], check=True)
    with (SERVER / "repository.fast-export").open("rb") as exported:
        subprocess.run(["git", "fast-import", "--quiet"], cwd=path, stdin=exported, check=True)
    return path


def follow(file: Path, repository: str) -> None:
    """The file `followed` is bound to the address of the repository, which is another one here."""
    name = hashlib.sha256(f"{repository} main".encode()).hexdigest()[:16]
    file.write_text(f"{name} {file.read_text().split()[1]}\n")


def fill(admin: str, recorded: Mapping[str, Any]) -> None:
    """Put all of it into an empty gateway: a document, or entities by their type."""
    if "_format_version" in recorded:
        requests.post(f"{admin}/config", json={"config": json.dumps(recorded)}, timeout=10).raise_for_status()
        return
    for type in (*PATHS, "targets"):
        for it in recorded.get(type, ()):
            path = f"upstreams/{it['upstream']['id']}/targets" if type == "targets" else PATHS[type]
            method, where = ("POST", path) if type == "targets" else ("PUT", f"{path}/{it['id']}")
            requests.request(method, f"{admin}/{where}", json=it, timeout=10).raise_for_status()


def everything(admin: str) -> dict[str, list[Any]]:
    """All that a gateway has, by type."""

    def all_of(path: str) -> list[Any]:
        answer = requests.get(f"{admin}/{path}?size=1000", timeout=10)
        answer.raise_for_status()
        return sorted(answer.json()["data"], key=lambda it: str(it["id"]))

    found = {type: all_of(path) for type, path in PATHS.items()}
    found["targets"] = [it for upstream in found["upstreams"] for it in all_of(f"upstreams/{upstream['id']}/targets")]
    return {type: them for type, them in found.items() if them}


@needs_root
@runs_the_daemon
@pytest.mark.parametrize("mode", MODES)
def test_a_pass_over_a_server_of_an_older_version_only_writes_its_units_anew(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path, mode)
    with server.running(monkeypatch) as wired:
        before, changes = server.look(), server.gateway.changes
        [first, second] = [Daemon(wired).once(), Daemon(wired).once()]
        assert first
        assert second
        kinds = {step.resource.kind for it in first.outcomes for step in it.did if isinstance(step, Change)}
        assert kinds == {"unit", "container"}
        assert not any(isinstance(step, Gate) for it in first.outcomes for step in it.did), "nothing is to be proven"
        assert {it.app: list(it.did) for it in second.outcomes if it.did} == {}
        for report in (first, second):
            told = {it.app: [it.sync, it.health, it.operation] for it in report.outcomes}
            assert told == of_server("outcomes.json")
        after = server.look()
        rewritten = {path for path, seen in after["files"].items() if seen != before["files"].get(path)}
        assert rewritten == {path for path in before["files"] if is_unit(path) and not is_left_alone(path)}
        assert {**after, "files": {}} == {**before, "files": {}}
        assert server.gateway.changes == changes
        for path in rewritten:
            text = (server.root / "etc" / path).read_text()
            assert "docker rm" not in text
            assert 'exec docker start --attach "$id"' in text, "the container that it has is the one to follow"
    waits = "create mvd-jobs-nightly-5cd78d30"  # for its next run: until now, each run made a container of its own
    assert set(server.played.ordered) == {"Reload", waits}, "nothing is started"
    assert server.played.refused == []
    assert server.played.unknown == []
    assert {call.split()[0] for call in server.calls()} <= {"systemd-analyze"}


def is_unit(path: str) -> bool:
    return "/mvd-" in path and path.endswith(".service") and ".wants" not in path


def is_left_alone(path: str) -> bool:
    """A job that is done never starts again, and of a paused app nothing is touched."""
    return "mvd-jobs-migrate" in path or "mvd-paused" in path


# ---- what it remembers -----------------------------------------------------------------------------------------------


@needs_root
def test_the_history_of_an_older_version_tells_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(tmp_path).running(monkeypatch) as wired:
        assert remembered(wired) == of_server("history.json")


@needs_root
def test_what_was_done_is_told_to_programs_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path)
    with server.running(monkeypatch):
        asked = CliRunner().invoke(mvd, ["--config", str(server.settings), "history", "--json", "-n", "1000"])
    assert json.loads(asked.stdout) == of_server("mvd-history.json")


def remembered(wired: Wired) -> Any:
    """All that is asked of the history, with the answers."""
    history, apps = wired.history, asked_for(wired)
    late = 2e9  # by then, all that waits is due
    return as_json(
        {
            "last good": {app.name: version(history.last_good(app.name)) for app in apps},
            "before": {app.name: version(history.good_before(app)) for app in apps},
            "condemned": {app.name: (it.why, it.action) for app in apps if (it := history.failure_of(app))},
            "recalled": {app.name: history.reverted_to(app, "0" * 40) for app in apps},
            "finished": [name for app in apps for name in instances(app) if history.is_job_done(name)],
            "revisions": {name: it.commit for name, it in sorted(history.revisions().items())},
            "subjects": {name: it.commit for name, it in sorted(history.subjects().items())},
            "events": [[it.commit, it.app, it.sync, it.health, it.operation, it.why] for it in history.events(1000)],
            "report": [[it.app, it.sync, it.health, it.operation, it.why] for it in report_of(history)],
            "due": [[it.commit, it.tries, it.status.context, it.status.description] for it in history.due(late)],
            "deliveries": sorted([*key, times] for key, times in history.deliveries().items()),
            "proposal": [getattr(history.pull_request_plan(1), name) for name in ("at", "comment", "digest")],
        }
    )


def asked_for(wired: Wired) -> list[App]:
    """The apps as the last commit has them, with their images pinned."""
    revision = wired.source.fetch()
    tree = wired.source.tree(revision)
    return [wired.host.pin(app) for app in load(tree, read_fleet(tree).host(wired.host.name))[0]]


def report_of(history: SqliteHistory) -> Any:
    report = history.last_report()
    assert report
    return report.outcomes


def version(app: App | None) -> str:
    return app.version if app else ""


def instances(app: App) -> list[str]:
    return [name for service in app.services for name in service.instances(app.name)]


@needs_root
@runs_the_daemon
def test_a_server_that_was_suspended_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path)
    server.files["/etc/gitops-mvd/suspended"] = a_file("for the weekend\n")
    server.files.pop(ENV)  # there would be something to do
    with server.running(monkeypatch) as wired:
        before = server.look()
        assert suspended(server.settings) == Suspensions(Suspension(why="for the weekend"))
        assert Daemon(wired).once() is None
        assert server.look() == before
    assert server.played.refused == []


@needs_root
def test_a_branch_that_went_back_behind_what_was_followed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path)
    elsewhere = of_server("history.json")["proposal"][0].split()[0]
    server.files[FOLLOWED] = a_file(f"{'0' * 16} {elsewhere}\n")
    with server.running(monkeypatch) as wired, pytest.raises(RevisionRefused):
        wired.source.fetch()


@needs_root
def test_the_mirror_tells_the_last_revision_where_nobody_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path)
    with server.running(monkeypatch) as wired:
        repository = server.root / "repository.git"
        name, commit = (server.root / FOLLOWED.lstrip("/")).read_text().split()
        mirror = server.history.parent / "mirror"
        subprocess.run(["git", "init", "--quiet", "--bare", mirror], check=True)
        subprocess.run(["git", "fetch", "--quiet", repository, f"main:refs/mvd/{name}"], cwd=mirror, check=True)
        shutil.rmtree(repository)
        last = wired.source.last()
        assert last
        assert last.commit == commit


# ---- a gateway of several hosts, and one that others had filled before -----------------------------------------------


@needs_root
@pytest.mark.parametrize("who", ["web-2", "nobody"])
def test_what_differs_in_a_shared_gateway_is_left_where_another_host_has_said_it(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path, "shared")
    in_kong("/chatbot", "/chatbox")(server)
    [said] = [tag for tag in upstream(server, "mvd.chatbot.web")["tags"] if tag.startswith("said:")]
    other = f"said:1795979999 {'f' * 40} {who} 0123456789ab" if who != "nobody" else "team:ai"
    in_kong(said, other)(server)
    with server.running(monkeypatch) as wired:
        assert would_change(wired, "route") == ([] if who == "web-2" else ["chatbot"])


def upstream(server: Server, name: str) -> Any:
    [found] = [it for it in server.kong["upstreams"] if it["name"] == name]
    return found


# ---- the test of the test --------------------------------------------------------------------------------------------


def a_file(text: str) -> Mapping[str, Any]:
    return {"text": text, "mode": "0o644", "uid": 0, "gid": 0}


def in_file(path: str, was: str, to: str) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        text = server.files[path]["text"]
        assert was in text
        server.files[path]["text"] = text.replace(was, to, 1)

    return change


def in_list(path: str, was: str, to: str) -> Callable[[Server], None]:
    """One text in one of Docker's lists."""

    def change(server: Server) -> None:
        text = json.dumps(server.docker[path])
        assert was in text
        server.docker[path] = json.loads(text.replace(was, to, 1))

    return change


def in_kong(was: str, to: str) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        text = json.dumps(server.kong)
        assert was in text
        server.kong = json.loads(text.replace(was, to, 1))

    return change


def without_link(server: Server) -> None:
    server.files.pop(f"{UNITS}/multi-user.target.wants/{Path(UNIT).name}")


def stopped(server: Server) -> None:
    for unit in server.systemd["units"]:
        if unit[0] == Path(UNIT).name:
            unit[3:5] = ["inactive", "dead"]


DIFFERENCES: Mapping[str, Callable[[Server], None]] = {
    "a line of a unit": in_file(UNIT, "TimeoutStartSec=300", "TimeoutStartSec=301"),
    "a line of a timer": in_file(TIMER, "AccuracySec=1s", "AccuracySec=2s"),
    "a variable": in_file(ENV, "MODEL=large", "MODEL=small"),
    "a mounted file": in_file(MOUNTED, "server {}", "server { }"),
    "the mode of a mounted file": lambda server: server.files[MOUNTED].update(mode="0o444"),
    "a link for the boot": without_link,
    "a unit that does not run": stopped,
    "the label of a network": in_list("/networks", '"io.gitops-mvd.digest": "0', '"io.gitops-mvd.digest": "1'),
    "the label of a volume": in_list("/volumes", '"io.gitops-mvd.digest": "b2', '"io.gitops-mvd.digest": "b3'),
    "the tag of an image": in_list("/images/json", "gitops-mvd.local/app:chatbot.", "gitops-mvd.local/app:chatbot.0"),
    "a path of a route": in_kong("/chatbot", "/chatbox"),
    "a tag of an entity": in_kong("app:chatbot", "app:chatbox"),
}


@needs_root
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_server_that_differs_in_one_thing_would_be_changed(
    difference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path)
    DIFFERENCES[difference](server)
    with server.running(monkeypatch) as wired:
        assert would_change(wired, *KINDS)


@needs_root
@pytest.mark.parametrize("mode", MODES)
def test_one_that_differs_in_nothing_would_not(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(tmp_path, mode).running(monkeypatch) as wired:
        assert would_change(wired, *KINDS) == []


KINDS = ("image", "network", "volume", "config", "unit", "timer", "route")


def would_change(wired: Wired, *kinds: str) -> list[str]:
    """The apps that `mvd plan` has something to do for, of those kinds; but for the texts of their units."""
    plans = {app.name: [step for step in app.plan if isinstance(step, Change)] for app in preview(wired).apps}
    return [name for name, plan in plans.items() if any(step.resource.kind in kinds for step in plan if not text(step))]


def text(step: Change) -> bool:
    """Is it only the text of a unit that an older version wrote?"""
    nightly = step.resource.name == "mvd-jobs-nightly-5cd78d30"  # which gets a container
    return step.resource.kind == "unit" and bool(step.was) and (nightly or step.was.spec["state"] == "outdated")
