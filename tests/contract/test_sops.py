"""Files that are encrypted with SOPS, by the stand-in and, where it is on the machine, by the real one."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, HostFacts
from gitops_mvd.manifest import load, validate
from gitops_mvd.secrets import sops
from gitops_mvd.secrets.sops import Sops
from gitops_mvd.secrets.store import Secrets
from tests.unit.memory_tree import MemoryTree
from tests.unit.test_host import Kind, machine

FIXTURES = Path(__file__).parent / "fixtures" / "sops"
PASSWORD = "hunter22-in-sops"
REAL = shutil.which("sops")


@pytest.fixture(params=["recorded", pytest.param("real", marks=pytest.mark.skipif(not REAL, reason="no sops here"))])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = FIXTURES if request.param == "recorded" else Path(REAL or "").parent
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "etc/sops/age/keys.txt"
    path.parent.mkdir(parents=True)
    shutil.copy(FIXTURES / "keys.txt", path)
    return path


def the_sops(folder: Path) -> Sops:
    return Sops(folder / "sops/age/keys.txt", folder / "sops/gnupg")


def text(name: str) -> str:
    return (FIXTURES / name).read_text()


def opened(tmp_path: Path, name: str, path: str = "", at: str = "") -> bytes:
    path = path or f"apps/shop/{name}"
    return the_sops(tmp_path / "etc").content(f"{path}{at}", {path: text(name)})


@pytest.mark.usefixtures("program", "key")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("app.yaml", f"password: {PASSWORD}\nlist:\n    - 1\n    - two\n".encode()),
        ("app.json", f'{{\n\t"password": "{PASSWORD}",\n\t"n": 1\n}}'.encode()),
        ("app.ini", f"[db]\npassword = {PASSWORD}\n".encode()),
        ("key.bin", b"\0\x01" + PASSWORD.encode() + b"\xff\n"),
    ],
)
def test_a_file_of_every_format_is_decrypted(tmp_path: Path, name: str, content: bytes) -> None:
    assert opened(tmp_path, name).strip() == content.strip()


@pytest.mark.usefixtures("program", "key")
def test_each_variable_of_an_env_file_is_a_secret_of_its_own_and_read_as_compose_reads_it(tmp_path: Path) -> None:
    wanted = {
        "DB": PASSWORD,
        "URL": f"postgres://app:{PASSWORD}@db/app",
        "QUOTED": "two words # and no comment",
        "EMPTY": "",
        "MODE_unencrypted": "open",
    }
    assert {name: opened(tmp_path, "environment", at=f"#{name}").decode() for name in wanted} == wanted
    raw = the_sops(tmp_path / "etc").content("env#URL", {"env": text("environment")}, raw=True)
    assert raw == b"postgres://app:${DB}@db/app"


@pytest.mark.usefixtures("program", "key")
def test_what_cannot_be_decrypted_is_told_in_a_sentence_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        StepFailed, match=r"other.env is encrypted.*no key of this host decrypts it.*age1gvmwv4y0"
    ) as no_key:
        opened(tmp_path, "other.env", at="#DB")
    assert "install -D -m 600 /dev/stdin" in str(no_key.value)
    with pytest.raises(StepFailed, match="was changed by hand since it was encrypted"):
        opened(tmp_path, "changed.env", at="#DB")


def test_without_a_key_or_sops_the_sentence_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(FIXTURES))
    with pytest.raises(StepFailed, match=r"this host has no key.*etc/sops/age/keys\.txt.*age15xg3zjpf2v"):
        opened(tmp_path, "environment", at="#DB")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StepFailed, match=r"this host has no sops.*https://github\.com/getsops/sops/releases"):
        opened(tmp_path, "environment", at="#DB")


@pytest.mark.usefixtures("program")
def test_a_key_that_comes_later_is_found(tmp_path: Path) -> None:
    known, sealed = the_sops(tmp_path / "etc"), {"env": text("environment")}
    with pytest.raises(StepFailed, match="this host has no key"):
        known.content("env#DB", sealed)
    (tmp_path / "etc/sops/age").mkdir(parents=True)
    shutil.copy(FIXTURES / "keys.txt", tmp_path / "etc/sops/age/keys.txt")
    assert known.content("env#DB", sealed).decode() == PASSWORD


HOSTED = {
    "a.yaml": "a: ENC[AES256_GCM,data:x]\nsops: {hc_vault: [{vault_address: 'http://169.254.169.254'}], mac: x}\n",
    "b.yaml": "a: ENC[AES256_GCM,data:x]\nsops: {key_groups: [{'kms': [{arn: a}]}], mac: x}\n",
    "c.json": '{"a": "ENC[AES256_GCM,data:x]", "sops": {"gcp\\u005fkms": [{"resource_id": "x"}]}}',
    "d.env": "A=ENC[AES256_GCM,data:x]\nsops_azure_kv__list_0__map_vault_url=http://x\n",
    "e.ini": "[s]\na = ENC[AES256_GCM,data:x]\n[sops]\nhc_vault__list_0__map_vault_address = http://x\n",
    "f.yaml": "a: ENC[AES256_GCM,data:x]\nsops: [1]\n",
    "key": '{"data": "ENC[AES256_GCM,data:x]", "sops": {"kms": [{"arn": "x"}]}}',
}


@pytest.mark.parametrize("path", HOSTED)
def test_nobody_is_asked_whom_the_repository_names(tmp_path: Path, key: Path, path: str) -> None:
    with pytest.raises(StepFailed, match=r"only keys of age and PGP are used here|metadata that cannot be read"):
        the_sops(key.parents[2]).content(path, {path: HOSTED[path]})


def program_of(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "bin/sops"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")


def test_sops_is_asked_once_for_a_file_and_gets_nothing_of_the_daemon_s_environment(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "of-the-daemon")
    program_of(tmp_path, f"env >> {tmp_path}/env; cat >> {tmp_path}/given; echo DB=x", monkeypatch)
    known, sealed = the_sops(key.parents[2]), {"a/env": text("environment")}
    for _ in range(3):
        assert known.content("a/env#DB", sealed) == b"x"
    told = (tmp_path / "env").read_text().splitlines()
    assert (tmp_path / "given").read_text() == sealed["a/env"], "once, and by stdin alone"
    assert f"SOPS_AGE_KEY_FILE={key}" in told
    assert not [line for line in told if "of-the-daemon" in line]
    assert not [path for path in tmp_path.glob("[!b]*") if path.is_file() and "DB=x" in path.read_text("latin-1")[-6:]]


def test_a_sops_that_hangs_is_ended(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sops, "WITHIN_SECONDS", 0.3)
    program_of(tmp_path, f"echo run >> {tmp_path}/runs; sleep 1000 & echo $! > {tmp_path}/child; wait", monkeypatch)
    known = the_sops(key.parents[2])
    for name in ("app.ini", "app.yaml", "app.json"):
        with pytest.raises(Unavailable, match=r"sops did not end within 0\.3 s"):
            known.content(name, {name: text(name)})
    assert (tmp_path / "runs").read_text().count("run") == 1, "it is not tried for every file"
    child = int((tmp_path / "child").read_text())
    waited = threading.Event()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        waited.wait(0.05)
    else:
        pytest.fail("what sops had started goes on")


def test_a_sops_that_prints_without_end_is_ended(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program_of(tmp_path, "cat /dev/zero", monkeypatch)
    with pytest.raises(Unavailable, match="more than 4 MiB"):
        the_sops(key.parents[2]).content("env", {"env": text("app.ini")})


# ---- an app that has some --------------------------------------------------------------------------------------------

COMPOSE = """
services:
  web:
    image: shop:1
    env_file: [environment, more.env]
    environment: {OWN: "${HOST}"}
    secrets: [key]
    configs: [app]
    volumes: ["./conf:/etc/shop:ro"]
secrets: {key: {file: key.bin}}
configs: {app: {file: app.yaml}}
"""


def tree() -> MemoryTree:
    files = {f"apps/shop/{name}": (FIXTURES / name).read_bytes() for name in ("environment", "key.bin", "app.yaml")}
    conf = {"apps/shop/conf/app.ini": text("app.ini"), "apps/shop/conf/plain": "plain"}
    more = {"apps/shop/more.env": "READS=${DB}/more\n", "apps/shop/.env": "HOST=h\n"}
    return MemoryTree({"apps/shop/compose.yaml": COMPOSE, **files, **conf, **more})


def shop() -> App:
    [app] = load(tree(), HostFacts("h1"))[0]
    return app


def test_a_laptop_without_a_key_reads_the_app_and_notes_what_it_cannot_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert validate(tree()) == []
    [web] = shop().services
    assert [name for name in web.environment if not name.startswith("sops")] == [
        *("DB", "URL", "QUOTED", "EMPTY", "MODE_unencrypted", "READS", "OWN")
    ]
    assert len([note for note in shop().notes if "is encrypted with SOPS" in note.message]) == 4


@pytest.mark.usefixtures("program")
def test_an_app_gets_all_that_is_encrypted_and_its_version_has_none_of_it(tmp_path: Path, key: Path) -> None:
    store = Secrets(tmp_path / "etc/secrets")
    host = machine(Kind("image"), secrets=store)
    app = host.pin(shop())
    [web] = app.services
    assert web.sealed == {}
    assert PASSWORD not in repr(app.to_json())
    content = {name: store.content(name, digest) for name, digest in web.secrets.items()}
    assert content["sops:apps/shop/environment#DB"] == PASSWORD.encode()
    files = {file.target: {path: content[name] for path, name in file.secrets.items()} for file in web.files}
    assert files["/run/secrets/key"] == {"": b"\0\x01" + PASSWORD.encode() + b"\xff\n"}
    assert PASSWORD.encode() in files["/app"][""]
    assert PASSWORD.encode() in files["/etc/shop"]["app.ini"]
    assert any(PASSWORD in value for value in store.values(web.secrets)), "so that no message has any of it"


@pytest.mark.usefixtures("program")
def test_without_a_key_the_app_waits_and_others_go_on(tmp_path: Path) -> None:
    host = machine(Kind("image"), secrets=Secrets(tmp_path / "etc/secrets"))
    with pytest.raises(StepFailed, match=r"apps/shop/.* is encrypted with SOPS, and this host has no key"):
        host.pin(shop())
    assert host.pin(App("other"))


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"env": "key.bin"}, "is encrypted with SOPS as binary, which hides the names of its variables"),
        ({".env": "environment"}, "which is decrypted only for"),
        ({"compose.yaml": "app.yaml"}, "which is decrypted only for"),
        ({"labels": "environment"}, "labels can be read by everybody"),
    ],
)
def test_where_nothing_is_decrypted_an_encrypted_file_is_refused(files: dict[str, str], why: str) -> None:
    uses = {"env": "env_file: env", "labels": "label_file: labels"}
    keys = ", ".join(uses[name] for name in files if name in uses)
    compose = f"services: {{web: {{image: a, {keys}}}}}"
    given = {f"apps/shop/{name}": text(of) for name, of in files.items()}
    problems = validate(MemoryTree({"apps/shop/compose.yaml": compose, **given}))
    assert [it for it in problems if why in it.message], problems


@pytest.mark.skipif(not (REAL and shutil.which("gpg")), reason="no sops or no gpg here")
def test_a_key_of_pgp_opens_what_is_for_it(tmp_path: Path) -> None:
    home = tmp_path / "etc/sops/gnupg"
    home.mkdir(parents=True, mode=0o700)
    environment = {**os.environ, "GNUPGHOME": str(home)}

    def run(*words: str, given: bytes = b"") -> str:
        return subprocess.run(
            words, input=given, env=environment, capture_output=True, check=True, timeout=60
        ).stdout.decode()

    try:
        run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", "mvd test", "default", "default", "never")
        listed = run("gpg", "--list-keys", "--with-colons").splitlines()
        fingerprint = next(line.split(":")[9] for line in listed if line.startswith("fpr"))
        dotenv = ("--input-type", "dotenv", "--output-type", "dotenv")
        sealed = run("sops", "--encrypt", "--pgp", fingerprint, *dotenv, "/dev/stdin", given=b"DB=of-pgp\n")
        assert the_sops(tmp_path / "etc").content("env#DB", {"env": sealed}) == b"of-pgp"
    finally:
        run("gpgconf", "--kill", "all")
