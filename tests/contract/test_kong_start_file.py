"""The file that a Kong without a database starts from: written by us, and started from by the stand-in gateway."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import requests
import yaml

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, Change, Json, Resource, Service
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.start_file import as_yaml
from tests.lab.kong_standin import StandIn

HOST = "web-1"
APP = App("shop", (Service("web", "shop:1", kong={"port": 80, "protocol": "http", "routes": [{"paths": ["/web"]}]}),))
CONSUMERS = App(
    "gateway",
    kong_entities={
        "consumers": [
            {
                "username": "bob",
                "tags": ["😀 ü"],
                "basicauth_credentials": [{"username": "bob", "password": "password-of-bob"}],
            }
        ]
    },
)
THEIRS = {"services": [{"name": "legacy", "host": "10.0.0.9", "tags": ["team:old", "on", "12:30"]}]}


def placed(routes: Routes, app: App) -> list[Resource]:
    wanted = routes.wanted(app)
    return [
        r.with_spec(targets=[{**target, "address": "127.0.0.1:20000"} for target in r.spec["targets"]]) for r in wanted
    ]


def apply(kong: Kong, *apps: App) -> list[Resource]:
    routes = Routes(kong, HOST)
    wanted = [resource for app in apps for resource in placed(routes, app)]
    for resource in wanted:
        routes.apply([Change(None, resource)])
    return wanted


def post(gateway: StandIn, document: Json) -> None:
    body = {"config": json.dumps({"_format_version": "3.0", **document})}
    assert requests.post(f"{gateway.admin_url}/config", json=body, timeout=5).status_code == 201


def services(gateway: StandIn) -> set[str]:
    return {service["name"] for service in requests.get(f"{gateway.admin_url}/services", timeout=5).json()["data"]}


def hash_of(gateway: StandIn) -> str:
    return str(requests.get(f"{gateway.admin_url}/status", timeout=5).json()["configuration_hash"])


@pytest.mark.parametrize("name", ["kong.yaml", "kong.json"])
def test_a_gateway_that_starts_from_it_has_all_that_it_had(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with StandIn(tmp_path / "first") as gateway:
        post(gateway, THEIRS)
        wanted = apply(Kong(gateway.admin_url, boot_file=file), APP, CONSUMERS)
    with StandIn(tmp_path / "second", declarative=file) as gateway:
        found = {resource.name: resource for resource in Routes(Kong(gateway.admin_url), HOST).observe()}
        assert found == {resource.name: resource for resource in wanted}, "a password is not hashed twice"
        assert services(gateway) == {"mvd.shop.web", "legacy"}
        kong = Kong(gateway.admin_url, boot_file=file)
        kong.observe(HOST)
        assert kong.start_file_fault() == ""


def test_what_we_posted_has_the_same_hash_after_a_start(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    with StandIn(tmp_path / "first") as gateway:
        apply(Kong(gateway.admin_url, boot_file=file), APP)
        assert hashlib.md5(file.read_bytes()).hexdigest() == hash_of(gateway)


def test_what_somebody_else_posted_is_in_it_too_at_the_next_look(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    with StandIn(tmp_path / "first") as gateway:
        kong = Kong(gateway.admin_url, boot_file=file)
        kong.observe(HOST)
        kong.write_start_file()
        post(gateway, THEIRS)
        kong.observe(HOST)
        assert "differs from what Kong has now" in kong.start_file_fault()
        kong.write_start_file()
    with StandIn(tmp_path / "second", declarative=file) as gateway:
        assert services(gateway) == {"legacy"}


@pytest.mark.parametrize("daemon", ["the same", "another"])
def test_it_is_written_only_where_it_is_not_right(tmp_path: Path, daemon: str) -> None:
    file = tmp_path / "kong.yaml"
    with StandIn(tmp_path / "first") as gateway:
        post(gateway, THEIRS)
        kong = Kong(gateway.admin_url, boot_file=file)
        apply(kong, APP)
        right = file.read_bytes()
        for spoil in (lambda: None, lambda: file.write_text("{}"), file.unlink, lambda: None):
            os.utime(file, (1, 1))
            spoil()
            if daemon == "another":
                kong = Kong(gateway.admin_url, boot_file=file)
            kong.observe(HOST)
            is_right = file.exists() and file.read_bytes() == right
            assert (kong.start_file_fault() == "") is is_right
            kong.write_start_file()
            assert (file.stat().st_mtime == 1) is is_right
            assert kong.start_file_fault() == ""
            right = file.read_bytes()
            assert yaml.safe_load(right)["_transform"] is False


def test_a_look_alone_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    with StandIn(tmp_path / "first") as gateway:
        kong = Kong(gateway.admin_url, boot_file=file)
        list(Routes(kong, HOST).observe())
        assert kong.start_file_fault() == f"{file} is missing"
        assert not file.exists()


def test_whose_it_is_and_who_may_read_it_stays(tmp_path: Path) -> None:
    (tmp_path / "kong").mkdir()
    file = tmp_path / "kong" / "kong.yaml"
    group = 4711 if os.geteuid() == 0 else os.getegid()
    os.chown(file.parent, os.geteuid(), group)
    with StandIn(tmp_path / "first") as gateway:
        kong = Kong(gateway.admin_url, boot_file=file)
        apply(kong, APP)
        new = file.stat()
        assert (new.st_mode & 0o777, new.st_uid, new.st_gid) == (0o640, os.geteuid(), group)
        file.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(file, 4712, 4713)
        before = file.stat()
        apply(kong, CONSUMERS)
        after = file.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_where_it_can_not_be_written_the_gateway_still_follows(tmp_path: Path) -> None:
    file = tmp_path / "none" / "kong.yaml"
    with StandIn(tmp_path / "first") as gateway:
        kong = Kong(gateway.admin_url, boot_file=file)
        wanted = apply(kong, APP)
        assert list(Routes(kong, HOST).observe()) == wanted
        with pytest.raises(Unavailable, match=f"cannot write {file}: the folder {file.parent} is missing"):
            kong.write_start_file()
        file.parent.mkdir()
        file.mkdir()
        with pytest.raises(Unavailable, match=r"cannot read .*kong\.yaml: Is a directory"):
            kong.write_start_file()


def test_with_a_database_it_is_of_no_use_and_not_written(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    with StandIn(tmp_path / "first", "postgres") as gateway:
        kong = Kong(gateway.admin_url, boot_file=file)
        apply(kong, APP)
        assert "starts from no file" in kong.start_file_fault()
        with pytest.raises(Unavailable, match=r"has a database.*`kong\.boot_file`"):
            kong.write_start_file()
    assert not file.exists()


@pytest.mark.parametrize(
    "text", ["😀", "\\ud83d\\ude00", "\\", '"', "\x7f\x80\u2028\ufeff", "a\U0010ffffb\\", "\\\\😀"]
)
def test_json_is_read_as_yaml(text: str) -> None:
    assert yaml.safe_load(as_yaml(json.dumps({"tags": [text], text: 1}))) == {"tags": [text], text: 1}
