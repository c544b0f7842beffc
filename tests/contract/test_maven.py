"""The lab takes from Maven Central only what its lists name, byte for byte."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest

from tests.lab import maven
from tests.lab.engine import LabUnavailable

CONTENT = b"PK: a jar"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def central(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Maven Central with one jar, of which a list `toy` wants CONTENT."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "toy.txt").write_text(f"# A toy.\n#: org.toy:toy:1.0\norg.toy:toy:1.0 {_sha256(CONTENT)}\n")
    jar = tmp_path / "served" / "org" / "toy" / "toy" / "1.0" / "toy-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(CONTENT)
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_jars_are_fetched_once_and_said_to_be_fetched(central: str, tmp_path: Path) -> None:
    said: list[str] = []

    path = maven.classpath(tmp_path / "toy.txt", said.append, central)
    again = maven.classpath(tmp_path / "toy.txt", said.append, central)

    assert (Path(path).parent / "toy-1.0.jar").read_bytes() == CONTENT
    assert again == path
    assert said == [f"fetching the jars of toy (1) from {central}"]


def test_a_jar_that_is_not_the_listed_one_is_refused(central: str, tmp_path: Path) -> None:
    (tmp_path / "served/org/toy/toy/1.0/toy-1.0.jar").write_bytes(b"something else")

    with pytest.raises(LabUnavailable, match=f"toy-1.0.jar has the SHA-256 {_sha256(b'something else')}"):
        maven.classpath(tmp_path / "toy.txt", print, central)

    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_a_jar_that_is_missing_is_named(central: str, tmp_path: Path) -> None:
    (tmp_path / "served/org/toy/toy/1.0/toy-1.0.jar").unlink()

    with pytest.raises(LabUnavailable, match=r"cannot fetch org/toy/toy/1.0/toy-1.0.jar from Maven Central .*HTTP 404"):
        maven.classpath(tmp_path / "toy.txt", print, central)


def test_a_maven_central_that_is_not_reached_is_one_clear_error(central: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"

    with pytest.raises(LabUnavailable, match=f"from Maven Central \\({nobody}\\): no answer"):
        maven.classpath(tmp_path / "toy.txt", print, nobody)


@pytest.mark.parametrize("file", [maven.KAFKA, maven.OPENSEARCH], ids=lambda file: file.stem)
def test_each_jar_of_a_list_has_a_name_of_its_own_and_its_roots_are_in_it(file: Path) -> None:
    lines = file.read_text().splitlines()
    roots = {line.removeprefix(maven.ROOT) for line in lines if line.startswith(maven.ROOT)}
    listed = dict(line.split() for line in lines if not line.startswith("#"))

    names = [":".join(one.split(":")[1:]) for one in listed]
    assert roots
    assert roots <= listed.keys()
    assert len(set(names)) == len(names)
    assert {len(sha256) for sha256 in listed.values()} == {64}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
