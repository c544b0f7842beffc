"""Whatever lies in the folder of a project: one clear sentence, nothing half written, and no more read than needed."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from gitops_mvd.core.errors import MvdError
from gitops_mvd.imports.disk import Disk, write_app
from gitops_mvd.imports.draft import Brought
from gitops_mvd.imports.source import Look
from tests.unit.importing import Importing, problems, report, text, write

COMPOSE = "services: {web: {image: a, volumes: ['./etc:/etc/nginx:ro', './data:/data']}}\n"


class WatchedDisk(Disk):
    """A disk that notes what is read, and lets `locked` be read by nobody."""

    def __init__(self, locked: str = "") -> None:
        super().__init__()
        self.locked = locked
        self.reads: list[str] = []

    def look(self, path: str) -> Look:
        found = super().look(path)
        return Look(found.kind, found.real, found.size, why="permission denied") if path == self.locked else found

    def read(self, path: str) -> bytes:
        self.reads.append(path)
        return super().read(path)

    def names(self, folder: str, most: int) -> Sequence[str]:
        self.reads.append(folder)
        return super().names(folder, most)


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    return Importing(tmp_path)


# ---- the Compose file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"just text", "is not a Compose file"),
        (b"- a\n- b\n", "is not a Compose file"),
        (b"a: [b\n", "is not valid YAML"),
        (b"services: {web: {image: a}}\n---\nservices: {}\n", "a second YAML document"),
        (b"services:\n  web: *nothing\n", "unknown alias"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00", "is not valid YAML"),
        (b"a: " + b"x" * (1 << 20), "is larger than 1 MiB"),
        (b"<<<<<<< ours\nservices: {}\n", "left over from a merge conflict"),
    ],
)
def test_a_file_that_is_no_compose_file_is_one_mistake(importing: Importing, content: bytes, message: str) -> None:
    found = importing.plan({"compose.yaml": content})
    (problem,) = problems(found)
    assert problem.startswith("compose.yaml:")
    assert message in problem
    assert not found.complete


def test_what_compose_itself_refuses_is_told_all_at_once(importing: Importing) -> None:
    found = importing.plan("services:\n  a: {image: 5x!, ports: nope}\n  b: []\nnetworks: [x]\n")
    lines = [problem.partition(": ")[0] for problem in problems(found)]
    assert lines == ["compose.yaml:2", "compose.yaml:2", "compose.yaml:3", "compose.yaml:4"]


@pytest.mark.parametrize(
    "file",
    [
        "services:\n",
        "services: 5\n",
        "services: {a: }\n",
        "services: {a: {environment: x, volumes: y, secrets: z, build: 1, env_file: {}}}\n",
        "services: {a: {volumes: [[], {}, 5, ''], environment: [[], {}, 5], secrets: [[], {}], env_file: [[], {}]}}\n",
        "services: {a: {extends: {}, healthcheck: x, deploy: [], ports: {}}}\ninclude: [{}, [], 5]\n",
        "services: {a: {extends: a, image: x}}\n",
        "services: &s {a: {image: x, depends_on: *s}}\n",
        "secrets: [a]\nconfigs: 5\nvolumes: []\nnetworks: x\nservices: {a: {image: x, secrets: [a], configs: [b]}}\n",
        "include: [compose.yaml]\nservices: {a: {image: x}}\n",
        "services: {a: {image: x, env_file: ''}}\n",
        "name: []\nservices: {a: {image: x}}\n",
        "services: {a: {image: x, environment: {? [b] : c}}}\n",
        "services: {a: {image: x, volumes: ['${A:-']}}\n",
        "services: {a: {image: x, command: [sh, -c, {}], healthcheck: {test: [CMD, []]}}}\n",
    ],
)
def test_a_strange_file_is_refused_by_its_lines(importing: Importing, file: str) -> None:
    found = importing.plan(file)
    assert problems(found) or found.questions
    assert not found.complete


@pytest.mark.parametrize("kind", ["missing", "pipe", "socket", "device", "loop", "link"])
def test_a_compose_file_that_is_no_file_is_never_opened(importing: Importing, kind: str) -> None:
    path = write(importing.project, {}) / "compose.yaml"
    made = {
        "pipe": lambda: os.mkfifo(path),
        "socket": lambda: os.mknod(path, stat.S_IFSOCK | 0o600),
        "device": lambda: path.symlink_to("/dev/zero"),
        "loop": lambda: path.symlink_to(path),
        "link": lambda: path.symlink_to("/nowhere"),
    }
    if kind != "missing":
        made[kind]()
    with pytest.raises(MvdError) as raised:
        importing.plan(path=str(path))
    assert str(path) in str(raised.value)
    found = importing.plan() if kind in ("pipe", "socket", "device") else None
    assert found is None or problems(found)


def test_a_folder_without_a_compose_file_says_what_it_looked_for(importing: Importing) -> None:
    write(importing.project, {"a.txt": ""})
    with pytest.raises(MvdError, match=r"none of compose\.yaml, compose\.yml"):
        importing.plan()
    write(importing.project, {"docker-compose.prod.yml": COMPOSE})
    with pytest.raises(MvdError, match=r"name one of docker-compose\.prod\.yml"):
        importing.plan()


def test_an_env_file_that_is_missing_names_its_example(importing: Importing) -> None:
    found = importing.plan(
        {"compose.yaml": "services: {web: {image: a, env_file: [.env, b.env]}}", ".env.example": "A=1\n"}
    )
    assert problems(found) == [
        "compose.yaml:1: services.web.env_file: there is no file .env: copy .env.example to it first, and set the "
        "values",
        "compose.yaml:1: services.web.env_file: there is no file b.env",
    ]


# ---- what is mounted -------------------------------------------------------------------------------------------------


def test_data_is_neither_read_nor_listed(importing: Importing) -> None:
    write(importing.project, {"etc/nginx.conf": "events {}"})
    data = write(importing.project / "data", {})
    with (data / "huge").open("wb") as file:
        file.truncate(10 << 30)
    importing.source = disk = WatchedDisk()
    found = importing.plan(COMPOSE)
    assert found.complete
    assert not [path for path in disk.reads if "/data" in path]
    assert [it.folder for it in found.data] == ["data"]


def test_configuration_that_is_large_stays_on_the_host_unread(importing: Importing) -> None:
    with (write(importing.project / "etc", {}) / "huge").open("wb") as file:
        file.truncate(10 << 30)
    importing.source = disk = WatchedDisk()
    found = importing.plan(COMPOSE)
    assert found.complete
    assert not [path for path in disk.reads if path.endswith("huge")]
    assert "/srv/mvd/shop/etc, for web (compose.yaml:1): it is more than 1 MiB" in report(found)


def test_a_folder_of_many_files_stays_on_the_host(importing: Importing) -> None:
    folder = write(importing.project / "etc", {})
    for number in range(400):
        (folder / f"{number}").touch()
    assert "it has more than 300 files" in report(importing.plan(COMPOSE))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", "etc/x is a named pipe"),
        ("socket", "etc/x is a socket"),
        ("link out", "etc/x is a link that leads out of it"),
        ("link to the root", "etc/x is a link that leads out of it"),
        ("link to itself", "etc/x is not readable"),
        ("link above", "etc/x is a link to a folder that it is in"),
        ("link to nothing", "etc/x is a link to nothing"),
        ("name", "has a name that is not UTF-8"),
        ("deep", "folders more than"),
        ("pointer", "is a pointer of Git LFS"),
    ],
)
def test_what_is_no_plain_file_keeps_its_folder_on_the_host(importing: Importing, kind: str, message: str) -> None:
    folder = write(importing.project / "etc", {"a.conf": "a"})
    path = folder / "x"
    made = {
        "pipe": lambda: os.mkfifo(path),
        "socket": lambda: os.mknod(path, stat.S_IFSOCK | 0o600),
        "link out": lambda: path.symlink_to("/etc/hostname"),
        "link to the root": lambda: path.symlink_to("/"),
        "link to itself": lambda: path.symlink_to("x"),
        "link above": lambda: path.symlink_to("../etc"),
        "link to nothing": lambda: path.symlink_to("nothing"),
        "name": lambda: Path(os.fsdecode(os.fsencode(folder) + b"/\xff.conf")).touch(),
        "deep": lambda: write(folder, {"/".join("d" * 30) + "/f": ""}),
        "pointer": lambda: write(folder, {"x": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"}),
    }
    made[kind]()
    found = importing.written(COMPOSE)
    assert [*found.files] == ["compose.yaml"]
    assert message in report(found)


def test_a_link_inside_the_project_comes_along_as_a_file(importing: Importing) -> None:
    write(importing.project, {"available/a.conf": "a", "etc/b.conf": "b"})
    (importing.project / "etc" / "a.conf").symlink_to("../available/a.conf")
    found = importing.written(COMPOSE)
    assert text(found, "etc/a.conf") == "a"
    assert not (importing.repository / "apps/shop/etc/a.conf").is_symlink()


def test_a_data_folder_that_is_a_link_to_the_root_is_refused(importing: Importing) -> None:
    write(importing.project, {}).joinpath("data").symlink_to("/")
    (problem,) = problems(importing.plan(COMPOSE))
    assert problem == "compose.yaml:1: services.web.volumes: data is a link to /: mount the folder that is meant"


def test_a_data_folder_that_is_a_link_to_a_disk_is_mounted_from_there(importing: Importing, tmp_path: Path) -> None:
    disk = write(tmp_path / "mnt" / "disk", {"x": ""})
    write(importing.project, {}).joinpath("data").symlink_to(disk)
    found = importing.written(COMPOSE)
    assert f"'{disk}:/data'" in text(found)
    assert f"{disk} is a path of the server" in report(found)


def test_a_file_that_nobody_may_read_stays_on_the_host(importing: Importing) -> None:
    write(importing.project, {"etc/nginx.conf": "events {}"})
    importing.source = WatchedDisk(locked=str(importing.project / "etc" / "nginx.conf"))
    assert "cannot read etc/nginx.conf: permission denied" in report(importing.written(COMPOSE))


def test_a_compose_or_env_file_that_nobody_may_read_is_a_mistake(importing: Importing) -> None:
    write(importing.project, {"web.env": "A=1", "compose.yaml": "services: {web: {image: a, env_file: web.env}}"})
    importing.source = WatchedDisk(locked=str(importing.project / "web.env"))
    assert problems(importing.plan()) == [
        "compose.yaml:1: services.web.env_file: cannot read web.env: permission denied"
    ]
    importing.source = WatchedDisk(locked=str(importing.project / "compose.yaml"))
    with pytest.raises(MvdError, match="permission denied"):
        importing.plan(path=str(importing.project / "compose.yaml"))


# ---- writing ---------------------------------------------------------------------------------------------------------

FILES = {"compose.yaml": Brought(b"a"), "conf/b": Brought(b"b"), "run.sh": Brought(b"c", executable=True)}


def test_a_folder_is_written_whole(tmp_path: Path) -> None:
    write_app(tmp_path / "apps" / "shop", FILES)
    assert sorted(os.listdir(tmp_path / "apps")) == ["shop"]
    assert (tmp_path / "apps/shop/conf/b").read_bytes() == b"b"
    assert (tmp_path / "apps/shop").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("there", ["folder", "file", "link"])
def test_nothing_is_ever_overwritten(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "apps" / "shop"
    folder.parent.mkdir()
    if there == "folder":
        folder.mkdir()
    elif there == "file":
        folder.touch()
    else:
        folder.symlink_to(tmp_path)
    with pytest.raises(MvdError, match="exists already"):
        write_app(folder, FILES)
    assert os.listdir(tmp_path / "apps") == ["shop"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(MvdError, match="Nothing was written"):
        write_app(tmp_path / "apps" / "shop", {**FILES, "x" * 300: Brought(b"")})
    assert os.listdir(tmp_path) == []
    (tmp_path / "apps").touch()
    with pytest.raises(MvdError, match="cannot write"):
        write_app(tmp_path / "apps" / "shop", FILES)
    assert os.listdir(tmp_path) == ["apps"]
