"""What a newcomer types to bring a Compose project over, and reads there, also after a mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gitops_mvd.cli.validate import validate
from tests.contract.terminal import Terminal, on_a_terminal

COMPOSE = """\
# the shop
services:
  web:
    build: .
    environment:
      API_TOKEN: abc-123-geheim   # from the provider
      REGION: ${REGION}
    ports: ["8080:80"]
    volumes: [./uploads:/uploads]
"""
IMPORTED = """\
# the shop
services:
  web:
    image: ghcr.io/acme/shop:1
    environment:
      API_TOKEN:   # from the provider
      REGION: ${REGION}
    ports: ["8080:80"]
    volumes: [./uploads:/uploads]
"""


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal in a new config repository, with a project beside it and no server far and wide."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "docker-compose.yml").write_text(COMPOSE)
    (tmp_path / "shop" / "uploads").mkdir()
    (tmp_path / "config" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "config")
    return Terminal(capsys, tmp_path / "no-settings.yaml")


ANSWERS = ("--image", "web=ghcr.io/acme/shop:1", "--set", "REGION=eu")


def test_a_project_becomes_an_app_that_is_valid(terminal: Terminal, tmp_path: Path) -> None:
    said = terminal.mvd("import", "../shop", *ANSWERS)
    assert (said.code, said.err) == (0, "")
    assert (tmp_path / "config/apps/shop/compose.yaml").read_text() == IMPORTED
    assert (tmp_path / "config/apps/shop/.env").read_text() == "REGION=eu\n"
    assert sorted(os.listdir(tmp_path / "config/apps")) == ["shop"]
    for line in (
        f"apps/shop: 1 service, from {tmp_path}/shop/docker-compose.yml",
        "  docker-compose.yml:6: services.web.environment.API_TOKEN: API_TOKEN, without its value",
        "      → its name has TOKEN; a secret does not belong in Git",
        "  API_TOKEN, of web: its value is in docker-compose.yml:6",
        f"      mkdir -p /srv/mvd/shop/uploads && cp -a {tmp_path}/shop/uploads/. /srv/mvd/shop/uploads/",
        "  docker-compose.yml:8: services.web.ports: web has the host's port 8080",
    ):
        assert f"{line}\n" in said.out
    assert "geheim" not in said.out
    assert terminal.mvd(validate.name or "").code == 0


def test_questions_come_with_the_command_that_answers_them(terminal: Terminal, tmp_path: Path) -> None:
    said = terminal.mvd("import", "../shop")
    assert said.code == 1
    assert said.out == ""
    assert said.err.splitlines() == [
        "docker-compose.yml:4: services.web.build: which image does web run? A server builds none; so far it is built "
        "from the folder of the project",
        "docker-compose.yml:7: services.web.environment.REGION: which value has REGION? It is not set, so `docker "
        "compose` warns and makes it empty, as --unset-empty does",
        "2 questions: nothing was written.",
        f"Answer with: mvd import {tmp_path}/shop --image web=IMAGE --set REGION=VALUE",
    ]
    assert os.listdir(tmp_path / "config") == [".git"]


def test_the_report_for_programs(terminal: Terminal, tmp_path: Path) -> None:
    refused = terminal.mvd("import", "../shop", "--json")
    assert refused.code == 1
    told = json.loads(refused.out)
    assert not told["written"]
    assert [(it["kind"], it["name"], it["places"][0]["line"]) for it in told["questions"]] == [
        ("image", "web", 4),
        ("variable", "REGION", 7),
    ]
    assert told["command"].endswith("--image web=IMAGE --set REGION=VALUE")
    said = terminal.mvd("import", "../shop", *ANSWERS, "--json")
    assert said.code == 0
    told = json.loads(said.out)
    assert told["written"]
    assert told["folder"] == "apps/shop"
    assert {"file": "compose.yaml", "from": "docker-compose.yml"} in told["files"]
    assert [(it["name"], it["variable"], it["value_in"]) for it in told["secrets"]] == [
        ("API_TOKEN", "API_TOKEN", "docker-compose.yml:6")
    ]
    assert told["data"][0]["path"] == "/srv/mvd/shop/uploads"
    assert all(it["why"] for it in told["changes"])
    assert "geheim" not in refused.out + said.out


def test_an_app_that_is_there_is_left_alone(terminal: Terminal, tmp_path: Path) -> None:
    terminal.mvd("import", "../shop", *ANSWERS)
    before = (tmp_path / "config/apps/shop/compose.yaml").stat()
    said = terminal.mvd("import", "../shop", *ANSWERS)
    assert said.code == 1
    assert said.err.startswith("mvd: apps/shop exists already: an import never overwrites\n")
    assert (tmp_path / "config/apps/shop/compose.yaml").stat() == before
    assert terminal.mvd("import", "../shop", *ANSWERS, "--app", "shop2", "--unset-empty").code == 1  # its port is taken


def test_mistakes_are_told_with_their_lines(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "shop" / "docker-compose.yml").write_text("services:\n  web:\n    imagee: a\n    prots: [80]\n")
    said = terminal.mvd("import", "../shop")
    assert said.code == 1
    assert said.err.splitlines()[-1] == "3 problems: nothing was written."
    assert "docker-compose.yml:3: services.web.imagee: unknown key, did you mean `image`?" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["../nowhere"], "there is no "),
        (["../shop", "--app", "No Name"], "'No Name' is not a name of an app"),
        (["../shop", "--image", "web"], "write --image NAME=VALUE"),
        (["../shop", "--into", "../shop"], "is not a config repository"),
        (["../shop", "--set", "API_KEY=abc"], "--set API_KEY would write a secret into Git"),
        (["/dev/null"], "it is a device"),
        (["../shop", "--image", "nope=a"], "there is no service nope"),
    ],
)
def test_a_mistake_of_the_operator_is_one_clear_sentence(terminal: Terminal, words: list[str], message: str) -> None:
    said = terminal.mvd("import", *words)
    assert said.code == 1
    assert message in said.err


def test_names_from_outside_cannot_write_to_the_terminal(terminal: Terminal, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\x1b[2Jb\xff"))
    folder.mkdir()
    (folder / "compose.yaml").write_text("services: {web: {image: a, volumes: [./d:/d]}}")
    (folder / "d").mkdir()
    for words in (["--app", "x"], ["--app", "y", "--json"], ["--app", "No Name"]):
        said = terminal.mvd("import", str(folder), *words)
        assert "\x1b" not in said.out + said.err
        assert said.code == (1 if "No Name" in words else 0)


def test_a_person_at_a_terminal_is_asked(terminal: Terminal, tmp_path: Path) -> None:
    shown = on_a_terminal("import", "../shop", at=tmp_path / "config", typed="ghcr.io/acme/shop:1\neu\n")
    assert "the image of web" in shown
    assert "the value of REGION" in shown
    assert (tmp_path / "config/apps/shop/compose.yaml").read_text() == IMPORTED


def test_a_project_with_a_folder_named_apps_is_no_config_repository(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "shop" / "apps").mkdir()
    said = terminal.mvd("import", "../shop", "--into", "../shop", *ANSWERS)
    assert (said.code, said.out) == (1, "")
    assert "is not a config repository: it has no fleet.yaml" in said.err
    assert os.listdir(tmp_path / "shop" / "apps") == []
