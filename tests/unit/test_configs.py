"""What a service reads: written, seen, and seen when somebody changed it."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from gitops_mvd.core.model import App, Change, File, Service
from gitops_mvd.kinds.config import Configs, layout, refusal
from gitops_mvd.secrets.store import Secrets

ENVIRONMENT = {"PLAIN": "x", "discovery.type": "single-node", "QUOTED": '"a" # b', "SPACED": "  y  ", "EMPTY": ""}
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the files belong to root")


@pytest.fixture
def engine() -> SimpleNamespace:
    return SimpleNamespace(container_root=lambda: (0, 0))


@pytest.fixture
def configs(tmp_path: Path, engine: SimpleNamespace) -> Configs:
    return Configs(tmp_path / "files", Secrets(tmp_path / "secrets"), lambda: engine.container_root())


def app(**service: object) -> App:
    return App("shop", (Service("web", "sha256:0", **{"environment": ENVIRONMENT, **service}),))


def make(configs: Configs, app: App) -> None:
    configs.apply([Change(None, resource) for resource in configs.wanted(app)])


def test_the_environment_is_written_as_the_client_reads_it():
    [service] = app().services
    assert layout("shop", service)["env"].content.decode() == (
        '# {"app": "shop", "service": "web"}\n'
        'EMPTY=\nPLAIN=x\nQUOTED="a" # b\nSPACED=  y  \ndiscovery.type=single-node\n'
    )


def test_what_is_applied_is_observed_and_read_only_once(configs):
    shop = app(files=(File("/etc/a", {"": "text \udcff"}), File("/etc/d", {"x/y": "1", "z": "2"}, mode=0o400)))
    make(configs, shop)
    assert list(configs.observe()) == list(configs.wanted(shop))
    first, again = configs.observe(), configs.observe()
    assert all(one is other for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("run", [{}, {"userns_mode": "host"}], ids=["remapped", "not remapped"])
def test_files_belong_to_whom_the_users_of_the_container_are(configs, engine, tmp_path, run):
    shop = app(run=run, files=(File("/run/secrets/key", {"": "text"}, mode=0o400, uid=5, gid=6),))

    def owners() -> set[tuple[int, int]]:
        return {(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.rglob("*") if path.is_file()}

    make(configs, shop)
    assert owners() == {(0, 0), (5, 6)}
    engine.container_root = lambda: (100000, 200000)  # Docker was restarted with another setting
    if not run:
        assert list(configs.observe()) != list(configs.wanted(shop))
        make(configs, shop)
        assert owners() == {(100000, 200000), (100005, 200006)}
    assert list(configs.observe()) == list(configs.wanted(shop))


@pytest.mark.parametrize(
    "tamper",
    [
        lambda folder: (folder / "env").write_text((folder / "env").read_text() + "MORE=1\n"),
        lambda folder: (folder / "env").unlink(),
        lambda folder: (folder / "env").chmod(0o644),
        lambda folder: os.chown(folder / "files/0/file", 65534, 0),
        lambda folder: (folder / "files/0/file").write_text("rewritten"),
        lambda folder: (folder / "files/0/more").write_text("added"),
        lambda folder: (folder / "env").write_bytes(b"\xff\xfe"),
    ],
)
def test_tampering_is_seen_and_mended(configs, tmp_path, tamper):
    shop = app(files=(File("/etc/a", {"": "text"}),))
    make(configs, shop)
    [wanted] = configs.wanted(shop)
    tamper(tmp_path / "files" / wanted.name)
    assert wanted not in configs.observe()
    make(configs, shop)
    assert list(configs.observe()) == [wanted]


def test_what_is_deleted_is_gone_and_what_is_not_ours_is_not_seen(configs, tmp_path):
    make(configs, app())
    (tmp_path / "files/mvd-by-hand").mkdir()
    (tmp_path / "files/mvd-file").write_text("")
    (tmp_path / "files/other").mkdir()
    configs.apply([Change(resource, None) for resource in configs.wanted(app())])
    assert configs.observe() == []
    assert sorted(os.listdir(tmp_path / "files")) == ["mvd-by-hand", "mvd-file", "other"]


def test_the_commit_that_is_written_down_beside_is_left_alone(configs, tmp_path):
    make(configs, app())
    followed = tmp_path / "files" / "followed"
    followed.write_text("0123456789abcdef " + "1" * 40)
    assert [resource.app for resource in configs.observe()] == ["shop"]
    configs.apply([Change(resource, None) for resource in configs.observe()])
    assert list((tmp_path / "files").iterdir()) == [followed]


@pytest.mark.parametrize("value", ["a\nb", "a\r", "x" * 60_000])
def test_what_an_env_file_can_not_hold_is_left_to_the_container_and_named(value):
    [service] = app(environment={"KEY": value, "OTHER": "1"}).services
    text = layout("shop", service)["env"].content.decode()
    assert text.splitlines()[1:] == ["# 'KEY' is more than a line of such a file can hold", "OTHER=1"]


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x"])
def test_a_file_can_not_lead_out_of_its_folder(path):
    assert "leads out of its folder" in refusal(Service("web", "i", files=(File("/etc/d", {path: "x"}),)))
