"""What a service has as a secret of its host: named in Git, put in on the host, and nowhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core import plan_text
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, HostFacts, Plan, Service
from gitops_mvd.core.redact import parts_of, redact
from gitops_mvd.docker.create import Place, request
from gitops_mvd.kinds.config import Configs
from gitops_mvd.manifest import load, validate
from gitops_mvd.manifest.explain import explain
from gitops_mvd.secrets.store import Secrets
from gitops_mvd.state.history import SqliteHistory
from tests.fakes import FakeHistory
from tests.unit.memory_tree import MemoryTree
from tests.unit.test_host import Kind, machine

PASSWORD = "hunter22-and-more"
SHOP = """
services:
  web:
    image: shop:1
    environment: {DB: "postgres://app:{file://db}@db/app"}
    secrets: [tls, {source: long, target: /etc/key, uid: "7", gid: "8", mode: 0400}]
  worker: {image: shop:1, env_file: env}
  plain: {image: shop:1}
secrets: {tls: {external: true}, long: {external: true, name: shop-key}}
"""


class InMemory:
    """A provider that a test turns off and on."""

    def __init__(self, **secrets: str) -> None:
        self.secrets: dict[str, str] = secrets
        self.at = 0
        self.is_down = False
        self.asked: list[str] = []

    def stamp(self, path: str) -> object:
        return self.at

    def read(self, path: str) -> bytes:
        self.asked.append(path)
        if self.is_down:
            raise Unavailable("the store does not answer")
        if path not in self.secrets:
            raise StepFailed(f"there is no secret {path}")
        return self.secrets[path].encode()


def shop(compose: str = SHOP, **files: str) -> App:
    tree = MemoryTree({"apps/shop/compose.yaml": compose, "apps/shop/env": "TOKEN={file://token}\n", **files})
    assert validate(tree) == []
    [app] = load(tree, HostFacts("h1"))[0]
    return app


def told(compose: str, **files: str) -> list[str]:
    return [problem.message for problem in validate(MemoryTree({"apps/shop/compose.yaml": compose, **files}))]


def secrets(folder: Path, providers: Mapping[str, InMemory] | None = None, **texts: str) -> Secrets:
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, text in texts.items():
        write(folder, name.replace("_", "-"), text)
    return Secrets(folder, providers)


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).touch(mode=0o600)
    (folder / name).write_text(text)


def every(folder: Path) -> Secrets:
    return secrets(folder, db=PASSWORD + "\n", tls="cert", shop_key="key", token="t0ken-of-mine")


def services(app: App) -> dict[str, Service]:
    return {service.name: service for service in app.services}


def test_a_service_has_the_names_of_its_secrets_and_nothing_of_them() -> None:
    of = services(shop())
    assert {name: list(service.secrets) for name, service in of.items()} == {
        "web": ["db", "shop-key", "tls"],
        "worker": ["token"],
        "plain": [],
    }
    tls, key = of["web"].files
    assert (tls.target, tls.files, tls.secrets, tls.mode) == ("/run/secrets/tls", {}, {"": "tls"}, 0o444)
    assert (key.target, key.secrets, key.mode, key.uid, key.gid) == ("/etc/key", {"": "shop-key"}, 0o400, 7, 8)


@pytest.mark.parametrize(
    "keys",
    [
        "command: ['--password={file://db}']",
        "entrypoint: 'sh -c {file://db}'",
        "labels: {a: '{file://db}'}",
        "healthcheck: {test: 'curl -u me:{file://db} localhost'}",
        "x-mvd: {health: {http: '/?key={file://db}', port: 80}}",
        "sysctls: {a: '{file://db}'}",
        "hostname: '{file://db}'",
        "extra_hosts: ['{file://db}:10.0.0.1']",
        "logging: {driver: json-file, options: {tag: '{file://db}'}}",
        "configs: [c]",
        "label_file: secret.env",
        "environment: {A: '{file://../shadow}'}",
        "environment: {A: '{file://sops:apps/other/env#A}'}",
        "environment: {A: '{file://db'}",
        "env_file: open.env",
        "environment: {'{file://db}': a}",
        "environment: ['{file://db}=a']",
        "tmpfs: ['/x:{file://db}']",
        "volumes: ['{file://db}:/x']",
        "networks: {n: {aliases: ['{file://db}']}}",
        "image: '{file://db}'",
        "command: '${SECRET}'",
    ],
)
def test_a_reference_is_never_passed_on_as_its_text(keys: str) -> None:
    compose = f"services: {{web: {{image: a, {keys}}}}}\nconfigs: {{c: {{content: '{{file://db}}'}}}}\n"
    compose += "networks: {n: }\n"
    files = {
        "apps/shop/.env": "SECRET={file://db}\n",
        "apps/shop/secret.env": "A={file://db}\n",
        "apps/shop/open.env": "B=1\nA={file://db\n",
    }
    tree = MemoryTree({"apps/shop/compose.yaml": compose, **files})
    uses_config = "configs: [c]" in keys
    problems = [it for it in validate(tree) if uses_config or not it.key.startswith("configs")]
    assert problems, "it would have been passed on"


@pytest.mark.parametrize(
    "top",
    [
        "volumes: {v: {driver_opts: {type: cifs, o: 'password={file://db}'}}}",
        "volumes: {v: {labels: {a: '{file://db}'}}}",
        "networks: {n: {driver_opts: {a: '{file://db}'}}}",
        "networks: {n: {labels: {'{file://db}': a}}}",
        "secrets: {s: {environment: SECRET}}",
        "configs: {c: {environment: SECRET}}",
    ],
)
def test_nor_at_the_top_level(top: str) -> None:
    compose = f"services: {{web: {{image: a}}}}\n{top}\n"
    assert [it for it in told(compose, **{"apps/shop/.env": "SECRET={file://db}\n"}) if "refers to a secret" in it]


def test_a_secret_that_nobody_asks_for_is_forgotten(tmp_path: Path) -> None:
    store = InMemory(a="1-secret", b="2-secret")
    known = secrets(tmp_path / "s", {"mem": store})
    digests = {name: known.digest(name, {}) for name in ("mem:a", "mem:b")}
    for _ in range(20):
        known.refresh()
        known.digest("mem:a", {})
    assert [*known.values(digests)] == ["1-secret"]
    assert store.asked == ["a", "b"]
    known.require(["mem:b"])
    assert store.asked == ["a", "b", "b"]


def test_what_is_missing_is_asked_for_once_in_a_pass(tmp_path: Path) -> None:
    store = InMemory()
    known = secrets(tmp_path / "s", {"mem": store})
    for _ in range(3):
        with pytest.raises(StepFailed):
            known.read("mem:a")
    assert store.asked == ["a"]
    known.refresh()
    with pytest.raises(StepFailed):
        known.read("mem:a")
    assert store.asked == ["a", "a"]


def test_a_host_s_own_variable_may_be_a_reference_and_is_one_of_the_service() -> None:
    app = shop("services: {web: {image: a, environment: {A: '${DB}', DB: }}}", **{"apps/shop/.env": "DB={file://db}\n"})
    [web] = app.services
    assert web.environment == {"A": "{file://db}", "DB": "{file://db}"}
    assert list(web.secrets) == ["db"]


def test_an_external_secret_is_one_of_the_host_in_all_forms_of_compose() -> None:
    for written in ("{external: true, name: b}", "{external: {name: b}}", "{external: 'true', name: b}"):
        [web] = shop(f"services: {{web: {{image: a, secrets: [s]}}}}\nsecrets: {{s: {written}}}").services
        assert web.files[0].secrets == {"": "b"}
    both = "services: {web: {image: a, secrets: [s]}}\nsecrets: {s: {external: true, file: x}}"
    assert "must have one of" in told(both)[0]


def test_a_missing_secret_stops_its_app_with_the_command_that_provides_it(tmp_path: Path) -> None:
    host = machine(Kind("image"), secrets=secrets(tmp_path / "s", tls="t", shop_key="k", token="t"))
    with pytest.raises(StepFailed) as refused:
        host.pin(shop())
    assert f"install -m 600 /dev/stdin {tmp_path}/s/db" in str(refused.value)
    assert host.pin(App("other", (Service("web", "a"),)))
    write(tmp_path / "s", "db", PASSWORD)
    host.refresh()
    assert host.pin(shop())


def test_a_changed_secret_is_a_new_version_of_the_services_that_use_it(tmp_path: Path) -> None:
    store, app = every(tmp_path / "s"), shop()
    host = machine(Kind("image"), secrets=store)
    before = services(host.pin(app))
    host.refresh()
    assert services(host.pin(app)) == before
    write(tmp_path / "s", "db", "another one")
    host.refresh()
    after = services(host.pin(app))
    assert {name for name in after if after[name].digest != before[name].digest} == {"web"}
    write(tmp_path / "s", "db", PASSWORD + "\n")
    host.refresh()
    assert services(host.pin(app)) == before, "the same content is the same version"


def test_a_digest_says_nothing_without_the_key_of_the_host(tmp_path: Path) -> None:
    here, there = every(tmp_path / "here"), every(tmp_path / "there")
    assert here.digest("db", {}) == every(tmp_path / "here").digest("db", {})
    assert here.digest("db", {}) != there.digest("db", {})
    key = tmp_path / "here/.digest-key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.write_bytes(b"short")
    with pytest.raises(Unavailable, match="is not the key of 32 bytes"):
        every(tmp_path / "here").digest("db", {})


def test_nothing_that_is_stored_or_shown_has_any_of_it(tmp_path: Path) -> None:
    host = machine(Kind("image"), Kind("unit", "image"), secrets=every(tmp_path / "s"))
    app = host.pin(shop())
    history = SqliteHistory(tmp_path / "history.db")
    history.approve(app, "c" * 40)
    history.close()
    configs = Configs(tmp_path / "files", every(tmp_path / "s"))
    resources = [*configs.wanted(app)]
    shown = [
        repr(app),
        json.dumps(app.to_json()),
        repr(resources),
        json.dumps(explain(app)),
        json.dumps(plan_text.as_json(Plan(tuple(Change(None, it) for it in resources)), lambda check: "")),
        *(path.read_text("latin-1") for path in tmp_path.glob("history.db*")),
    ]
    for secret in (PASSWORD, "t0ken-of-mine"):
        assert not [text for text in shown if secret in text]
    assert App.from_json(app.to_json()) == app


def test_a_container_gets_the_environment_with_its_secrets() -> None:
    web = services(shop())["web"]
    asked = request("shop", web, Place("/f", "/srv", secrets={"db": PASSWORD}), (1, 45))
    assert asked.body["Env"] == [f"DB=postgres://app:{PASSWORD}@db/app"]
    sources = {it["Target"]: it["Source"] for it in asked.body["HostConfig"]["Mounts"]}
    assert sources == {"/run/secrets/tls": "/f/files/0/file", "/etc/key": "/f/files/1/file"}


def test_a_version_of_before_keeps_what_only_looks_like_a_reference() -> None:
    old = Service.from_json({**Service("web", "a", environment={"A": "{file://db}"}).to_json()})
    assert request("shop", old, Place("/f", "/srv"), (1, 45)).body["Env"] == ["A={file://db}"]


def test_a_value_that_no_variable_can_have_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    app = shop("services: {web: {image: a, environment: {A: '{file://db}'}}}")
    for text, why in (("a\0b", "a NUL character"), ("x" * (1 << 17), "is longer than 128 KiB")):
        host = machine(Kind("image"), secrets=secrets(tmp_path / "s", db=text))
        with pytest.raises(StepFailed, match=f"web: with its secret the variable A .*{why}"):
            host.pin(app)


def test_a_provider_that_is_down_changes_nothing(tmp_path: Path) -> None:
    store, history = InMemory(db=PASSWORD), FakeHistory()
    app = shop("services: {web: {image: a, environment: {A: '{file://mem:db}'}}}")

    def host(history: FakeHistory = history) -> Any:
        return machine(Kind("image"), secrets=secrets(tmp_path / "s", {"mem": store}), history=history)

    running = host()
    good = running.pin(app)
    history.approve(good, "c" * 40)
    store.is_down, store.at = True, 1
    running.refresh()
    assert running.pin(app) == good
    assert host().pin(app) == good, "as the history of what last worked has it, after a restart"
    with pytest.raises(Unavailable, match="the store does not answer"):
        host(FakeHistory()).pin(app)
    store.is_down, store.at, store.secrets = False, 2, {"db": "another"}
    running.refresh()
    assert running.pin(app) != good


def test_a_provider_that_is_down_is_asked_once_a_pass_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = InMemory(a="1-secret", b="2-secret")
    known = secrets(tmp_path / "s", {"mem": store})
    known.require(["mem:a", "mem:b"])
    store.is_down = True
    for store.at in (1, 2):
        store.asked.clear()
        known.refresh()
        known.require(["mem:a", "mem:b"])
        assert store.asked == ["a"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_unknown_provider_is_told_as_what_is_missing_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"a provider vault, which this host does not have.*providers\.vault"):
        secrets(tmp_path / "s").read("vault:kv/data/shop#db")


def test_what_a_container_prints_of_it_is_struck_out(tmp_path: Path) -> None:
    store = secrets(tmp_path / "s", db=f"user: app\npassword: {PASSWORD}\n")
    digests = {"db": store.digest("db", {})}
    said = f"login with {PASSWORD} failed; {PASSWORD[:8]}"
    assert "hunter" not in redact(said, parts_of(store.values(digests)))


# ---- on the disk -----------------------------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the files belong to root")


def pinned(store: Secrets, app: App) -> App:
    return machine(Kind("image"), secrets=store).pin(app)


def files_below(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@as_root
def test_the_folder_of_a_version_has_its_secrets_for_root_and_they_go_with_it(tmp_path: Path) -> None:
    store = every(tmp_path / "s")
    app = pinned(store, shop())
    configs = Configs(tmp_path / "files", store)
    wanted = list(configs.wanted(app))
    configs.apply([Change(None, it) for it in wanted])
    assert list(Configs(tmp_path / "files", every(tmp_path / "s")).observe()) == sorted(wanted, key=lambda it: it.name)
    web = tmp_path / "files" / services(app)["web"].instances("shop")[0]
    assert (web / "secrets/0").read_text() == PASSWORD + "\n"
    assert (web / "secrets/0").stat().st_mode & 0o777 == 0o600
    key = web / "files/1/file"
    assert (key.read_text(), key.stat().st_mode & 0o777, key.stat().st_uid, key.stat().st_gid) == ("key", 0o400, 7, 8)
    assert PASSWORD not in (web / "env").read_text()
    configs.apply([Change(it, None) for it in wanted])
    assert not list(files_below(tmp_path / "files"))


@as_root
@pytest.mark.parametrize("path", ["secrets/0", "files/0/file"])
def test_a_secret_that_was_changed_by_hand_is_seen_and_put_right(tmp_path: Path, path: str) -> None:
    store = every(tmp_path / "s")
    app = pinned(store, shop())
    configs = Configs(tmp_path / "files", store)
    wanted = list(configs.wanted(app))
    configs.apply([Change(None, it) for it in wanted])
    changed = tmp_path / "files" / services(app)["web"].instances("shop")[0] / path
    changed.write_text("changed")
    assert len([it for it in configs.observe() if it in wanted]) == 2
    configs.apply([Change(None, it) for it in wanted])
    assert len([it for it in configs.observe() if it in wanted]) == 3


@as_root
def test_a_version_whose_secret_is_another_by_now_waits(tmp_path: Path) -> None:
    app = pinned(every(tmp_path / "s"), shop())
    configs = Configs(tmp_path / "files", secrets(tmp_path / "s", db="another"))
    with pytest.raises(Unavailable, match=r"the secret .* has changed since"):
        configs.apply([Change(None, it) for it in configs.wanted(app)])
