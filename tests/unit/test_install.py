"""The units of the daemon and of the page, as they are made for one server."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops_mvd.cli.install import unit_text
from gitops_mvd.cli.packaged import drop_in_text


@pytest.mark.parametrize(
    ("settings", "paths"),
    [
        ("repository: /srv/config\n", "/etc/systemd/system"),
        ("repository: /srv/config\nkong: {boot_file: /etc/kong/kong.yaml}\n", '/etc/systemd/system "-/etc/kong"'),
        ("repository: /srv/config\nkong: {boot_file: '/a b/50%/k.json'}\n", '/etc/systemd/system "-/a b/50%%"'),
        ("repository: /srv/config\nfolders: /data/mvd\n", '/etc/systemd/system "-/data/mvd"'),
        ("repository: /srv/config\nfolders: /srv/apps\n", "/etc/systemd/system"),
        ("repositroy: misspelt\n", "/etc/systemd/system"),
    ],
)
def test_the_unit_may_write_where_the_settings_have_it_write(tmp_path: Path, settings: str, paths: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(settings)
    text = unit_text(config, "gitops-mvd.service", "run")
    assert f"ReadWritePaths={paths}\n" in text
    assert f"--config {config} run\n" in text


def test_the_unit_of_the_page_runs_it_without_root_and_without_docker(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("repository: /srv/config\n")
    text = unit_text(tmp_path / "config.yaml", "gitops-mvd-web.service", "web")
    assert f"--config {tmp_path}/config.yaml web\n" in text
    assert "DynamicUser=yes\n" in text
    assert "SupplementaryGroups=mvd mvd-act\n" in text
    assert "CapabilityBoundingSet=\n" in text
    assert "ReadWritePaths" not in text
    assert "docker" not in text.lower()


def test_the_unit_of_the_package_stays_as_it_is_but_for_what_the_settings_need() -> None:
    assert drop_in_text("", []) == ""
    assert drop_in_text(
        "/opt/gitops-mvd/bin/mvd --config /a.yaml run", ['"-/data/apps"', '"-/etc/kong"']
    ).splitlines() == [
        "# Written by `mvd install`.",
        "[Service]",
        "ExecStart=",
        "ExecStart=/opt/gitops-mvd/bin/mvd --config /a.yaml run",
        'ReadWritePaths="-/data/apps" "-/etc/kong"',
    ]
