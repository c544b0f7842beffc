"""What a newcomer types to begin a config repository, and what is then in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from gitops_mvd import forges
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.manifest import load, read_fleet
from tests.contract.terminal import Said, Terminal, git, on_a_terminal

EXAMPLE = Path(__file__).parents[2] / "example-repo"
PACKAGE = "git+https://git.acme.example/platform/gitops-mvd@v0.1.0"
SCHEMAS = {  # that the forges publish, as check-jsonschema carries them
    "github": "vendor.github-workflows",
    "gitea": "vendor.github-workflows",
    "forgejo": "vendor.github-workflows",
    "gitlab": "vendor.gitlab-ci",
    "bitbucket-cloud": "vendor.bitbucket-pipelines",
    "azure-devops": "vendor.azure-pipelines",
}


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    """A terminal on a laptop: no server far and wide."""
    return Terminal(capsys, tmp_path / "no-settings.yaml")


def begun(terminal: Terminal, folder: Path, *words: str) -> list[str]:
    """Begin a repository; the files that it has, all of which pass `mvd validate`."""
    said = terminal.mvd("init", str(folder), "--yes", *words)
    assert (said.code, said.err) == (0, "")
    checked = terminal.mvd("validate", str(folder))
    assert (checked.code, checked.out) == (0, ""), checked
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert all(f"wrote {folder / path}\n" in said.out for path in found)
    return [path for path in found if not path.startswith(".schemas/")]


def test_without_a_word_there_is_an_app_that_needs_neither_kong_nor_forge(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    assert begun(terminal, folder, "--host", "web-1") == ["apps/hello/compose.yaml", "fleet.yaml", "renovate.json"]
    tree = FolderTree(folder)
    [facts] = read_fleet(tree).hosts.values()
    [app], broken = load(tree, facts)
    assert (facts.name, app.name, broken) == ("web-1", "hello", {})
    assert yaml.safe_load((folder / "apps/hello/compose.yaml").read_text())["services"]["web"] == {
        "image": "nginx:1.28-alpine",
        "ports": ["8080:80"],
        "x-mvd": {"health": {"http": "/", "port": 80}},
    }


@pytest.mark.parametrize("kind", forges.kinds())
def test_every_forge_that_has_a_ci_lets_it_validate(terminal: Terminal, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "config"
    if not (pipeline := forges.known()[kind].pipelines.get(kind)):
        said = terminal.mvd("init", str(folder), "--yes", "--forge", kind)
        assert said.out.endswith(f"{kind} has no CI of its own: let yours run `mvd validate` for each pull request.\n")
        return
    assert {pipeline.path, "requirements.txt"} <= set(begun(terminal, folder, "--forge", kind, "--package", PACKAGE))
    text = (folder / pipeline.path).read_text()
    assert "pip install -r requirements.txt" in text
    assert "mvd validate\n" in text
    assert (folder / "requirements.txt").read_text().endswith(f"\ngitops-mvd @ {PACKAGE}\n")
    checked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[kind], str(folder / pipeline.path)]
    assert subprocess.run(checked, check=False, capture_output=True, text=True).returncode == 0


def test_renovate_takes_what_is_written_for_it(terminal: Terminal, tmp_path: Path) -> None:
    begun(terminal, tmp_path / "config")
    file = str(tmp_path / "config/renovate.json")
    checked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.renovate", file]
    assert subprocess.run(checked, check=False, capture_output=True, text=True).returncode == 0


def test_an_editor_finds_the_schema_of_every_file(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    begun(terminal, folder, "--kong", "app")
    files = [folder / "fleet.yaml", *folder.glob("apps/*/compose.yaml")]
    assert len(files) == 3
    for file in files:
        [named] = re.findall(r"\A# yaml-language-server: \$schema=(\S+)\n", file.read_text())
        assert (file.parent / named).resolve().is_relative_to(folder / ".schemas")
        assert terminal.mvd("schema", Path(named).stem).out == (file.parent / named).read_text()


def test_with_a_kong_the_app_has_a_route(terminal: Terminal, tmp_path: Path) -> None:
    assert "apps/kong/compose.yaml" not in begun(terminal, tmp_path / "config", "--kong", "present")
    web = yaml.safe_load((tmp_path / "config/apps/hello/compose.yaml").read_text())["services"]["web"]
    assert web["x-kong"] == {"port": 80, "routes": [{"paths": ["/hello"]}]}
    assert "ports" not in web


def test_kong_as_an_app_is_that_of_the_example_and_keeps_its_admin_api_to_itself(
    terminal: Terminal, tmp_path: Path
) -> None:
    assert "apps/kong/compose.yaml" in begun(terminal, tmp_path / "config", "--kong", "app")
    written, example = (
        yaml.safe_load((folder / "apps/kong/compose.yaml").read_text())["services"]["kong"]
        for folder in (tmp_path / "config", EXAMPLE)
    )
    del example["deploy"]["placement"]  # of a fleet with roles
    listen = example["environment"]["KONG_PROXY_LISTEN"]
    example["environment"]["KONG_PROXY_LISTEN"] = listen.removesuffix(", 0.0.0.0:9080 http2")  # for gRPC
    assert written == example
    assert written["environment"]["KONG_ADMIN_LISTEN"] == "127.0.0.1:8001"
    assert written["environment"]["KONG_DATABASE"] == "off"


def test_what_is_said_of_the_app_is_in_its_file_whatever_it_has_in_it(terminal: Terminal, tmp_path: Path) -> None:
    begun(terminal, tmp_path / "config", "--health", "/up?a={1},2", "--port", "3000", "--host", "on", "--host", "b")
    web = yaml.safe_load((tmp_path / "config/apps/hello/compose.yaml").read_text())["services"]["web"]
    assert web["x-mvd"]["health"] == {"http": "/up?a={1},2", "port": 3000}
    assert read_fleet(FolderTree(tmp_path / "config")).hosts.keys() == {"on", "b"}


@pytest.mark.parametrize("name", ["fleet.yaml", "apps/hello/compose.yaml", ".schemas/kong.json"])
def test_no_file_is_overwritten(terminal: Terminal, tmp_path: Path, name: str) -> None:
    file = tmp_path / "config" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    said = terminal.mvd("init", str(tmp_path / "config"), "--yes")
    what = f"mvd: {file} exists already, and nothing is overwritten\n     choose another folder\n"
    assert said == Said(1, "", what)
    assert [path for path in (tmp_path / "config").rglob("*") if path.is_file()] == [file]


def test_what_is_no_image_is_refused_before_anything_is_written(terminal: Terminal, tmp_path: Path) -> None:
    said = terminal.mvd("init", str(tmp_path / "config"), "--yes", "--image", "Not An Image")
    assert said.code == 1
    assert said.err.startswith("apps/hello/compose.yaml:4: services.web.image: ")
    assert not (tmp_path / "config").exists()


def test_where_nothing_can_be_written_nothing_is_left(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/.schemas").write_text("a file")
    said = terminal.mvd("init", str(tmp_path / "config"), "--yes")
    assert said.code == 1
    assert said.err.endswith("Nothing was written\n")
    assert os.listdir(tmp_path / "config") == [".schemas"]


def test_the_address_of_the_clone_tells_the_forge_and_what_to_type_next(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    git("init", "--quiet", str(folder))
    git("-C", str(folder), "remote", "add", "origin", "https://me:geheim@gitlab.com/acme/config.git")
    said = terminal.mvd("init", str(folder), "--yes", "--host", "web-1", "--package", PACKAGE)
    assert (said.code, said.err) == (0, "")
    assert (folder / ".gitlab-ci.yml").exists()
    words = "--repository https://gitlab.com/acme/config.git --host web-1 --token-file /etc/gitops-mvd/token"
    assert f"  mvd install {words}\n" in said.out
    assert "curl http://web-1:8080/\n" in said.out
    assert "geheim" not in said.out


def test_a_forge_of_ones_own_is_named_where_the_server_is_installed(terminal: Terminal, tmp_path: Path) -> None:
    words = ("--forge", "forgejo", "--package", PACKAGE, "--host", "web-1", "--kong", "app")
    said = terminal.mvd("init", str(tmp_path / "config"), "--yes", *words)
    token = "--token-file /etc/gitops-mvd/token"
    assert f"  mvd install --repository URL --host web-1 {token} --forge forgejo --kong\n" in said.out
    assert "curl http://web-1:8000/hello\n" in said.out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--package", PACKAGE), "--package is for the CI of a forge, and --forge none has none\n"),
        (("--forge", "bitbucket-dc", "--package", PACKAGE), "and --forge bitbucket-dc has none\n"),
        (("--forge", "github", "--package", "gitops-mvd"), "gitops-mvd is not an address that pip gets from another"),
        (("--kong", "app", "--app", "kong"), "the first app cannot be called kong"),
    ],
)
def test_no_flag_is_ignored(terminal: Terminal, tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    said = terminal.mvd("init", str(tmp_path / "config"), "--yes", *words)
    assert said.code == 1
    assert why in said.err
    assert not (tmp_path / "config").exists()


def test_without_a_terminal_the_flag_that_asks_nothing_is_named(terminal: Terminal, tmp_path: Path) -> None:
    mvd = [sys.executable, "-m", "gitops_mvd", "init", str(tmp_path / "config")]
    ended = subprocess.run(mvd, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("mvd: there is no terminal to ask at\n     --yes takes the defaults")


def test_a_person_at_a_terminal_is_asked(tmp_path: Path) -> None:
    answers = f"gitea\n{PACKAGE}\nweb-1\nghcr.io/acme/shop:1\n3000\npresent\n"
    shown = on_a_terminal("init", "config", at=tmp_path, typed=answers)
    for question in ("Forge (", "CI installs gitops-mvd from", "Name of the server", "Image of", "Port", "Kong"):
        assert question in shown
    web = yaml.safe_load((tmp_path / "config/apps/hello/compose.yaml").read_text())["services"]["web"]
    assert (web["image"], web["x-kong"]["port"]) == ("ghcr.io/acme/shop:1", 3000)
    assert (tmp_path / "config/.gitea/workflows/validate.yaml").exists()
    assert "web-1" in (tmp_path / "config/fleet.yaml").read_text()


@pytest.mark.parametrize(
    ("origin", "package"),
    [
        (
            '{"url": "https://dl.acme.example/gitops_mvd-1-py3-none-any.whl", "archive_info": {}}',
            "https://dl.acme.example/gitops_mvd-1-py3-none-any.whl",
        ),
        (
            '{"url": "https://me:geheim@git.acme.example/mvd", "vcs_info": {"vcs": "git", "commit_id": "1a2b"}}',
            "git+https://git.acme.example/mvd@1a2b",
        ),
        ('{"url": "file:///opt/wheels/gitops_mvd.whl", "archive_info": {}}', ""),
        ("", ""),
    ],
)
def test_ci_gets_the_package_from_where_this_one_has_come(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str, package: str
) -> None:
    site = tmp_path / "site"
    (site / "gitops_mvd-0.1.0.dist-info").mkdir(parents=True)
    (site / "gitops_mvd-0.1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: gitops-mvd\nVersion: 0.1.0\n"
    )
    if origin:
        (site / "gitops_mvd-0.1.0.dist-info/direct_url.json").write_text(origin)
    monkeypatch.syspath_prepend(str(site))
    assert metadata.distribution("gitops-mvd").read_text("direct_url.json") == (origin or None)
    said = terminal.mvd("init", str(tmp_path / "config"), "--yes", "--forge", "github")
    if package:
        assert (said.code, said.err) == (0, "")
        assert f"gitops-mvd @ {package}\n" in (tmp_path / "config/requirements.txt").read_text()
    else:
        assert said.code == 1
        assert "nobody has said where CI gets gitops-mvd, which is not on PyPI\n     --package git+https://" in said.err
