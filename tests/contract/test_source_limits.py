"""Git servers and repositories without an end: what git may use for them is limited, and so is what is held of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.git import command
from gitops_mvd.git.branch import Source
from gitops_mvd.git.child import Limits, finish, run, start_git
from tests.contract.test_hostile_repositories import MIB, Objects

Say = Callable[[bytes], None]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nConnection: close\r\n\r\n"


def line(text: bytes) -> bytes:
    return b"%04x" % (len(text) + 4) + text


def endless_refs(say: Say) -> None:
    say(HEAD + line(b"# service=git-upload-pack\n") + b"0000" + line(b"1" * 40 + b" HEAD\0multi_ack\n"))
    for n in itertools.count():
        say(b"".join(line(b"%040x refs/heads/%09d%04d\n" % (n + 1, n, i)) for i in range(1000)))


def drip(say: Say) -> None:
    for byte in itertools.cycle(HEAD):
        say(bytes([byte]))
        time.sleep(0.05)


def a_page(say: Say) -> None:
    say(HEAD.replace(b"x-git-upload-pack-advertisement", b"html") + b"<html>\n<body>Sign in</body>\n</html>\n")


def an_endless_page(say: Say) -> None:
    say(HEAD)
    while True:
        say(b"<p>Sign in</p>" * 10_000)


@contextlib.contextmanager
def serving(answer: Callable[[Say], None]) -> Iterator[str]:
    """A server that answers every request in that way for as long as the client listens: its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                answer(connection.sendall)

        def serve() -> None:
            with contextlib.suppress(OSError):  # as when it is shut down
                while True:
                    threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/x.git"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (endless_refs, "answers without an end|sends more than this server can take|did not answer in time"),
        (drip, "did not answer in time"),
        (a_page, "answered, but is no Git server"),
        (an_endless_page, "answered, but is no Git server|did not answer in time|sends more than this server can take"),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_a_server_without_an_end_is_left_in_time(answer: Callable[[Say], None], said: str, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with serving(answer) as url, pytest.raises(Unavailable, match=said):
            Source(url, "main", tmp_path / "mirror", timeout=4).fetch()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 40 * MIB


def test_git_gets_no_more_memory_than_it_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "MEMORY", {False: 64 * MIB, True: 64 * MIB})
    with (
        serving(endless_refs) as url,
        pytest.raises(Unavailable, match="sends more than this server can take"),
    ):
        Source(url, "main", tmp_path / "mirror", timeout=60).fetch()


PYTHON = [sys.executable, "-c"]
ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.mark.parametrize(
    ("program", "limits", "said"),
    [
        ("while True: print('x' * 65536)", Limits(30, output=MIB), "printed more than 1 MiB"),
        ("import time; time.sleep(60)", Limits(0.5), "did not complete in 0.5 s"),
        ("import os, time; os.close(1); os.close(2); time.sleep(60)", Limits(0.5), "did not complete in 0.5 s"),
        ("x = 'x' * (1 << 30)", Limits(30, memory=256 * MIB), "MemoryError"),
        ("open('large', 'wb').write(bytes(2 << 20))", Limits(30, file=MIB), "File too large"),
    ],
)
def test_a_program_is_held_to_its_limits(
    program: str, limits: Limits, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run([*PYTHON, program], ENVIRONMENT, limits)
    assert ended.status != 0
    assert said in ended.complaint
    assert len(ended.output) < 2 * MIB


def test_a_program_is_ended_with_its_children(tmp_path: Path) -> None:
    program = f"import os, time; open('{tmp_path}/pid', 'w').write(str(os.fork() or os.getpid())); time.sleep(60)"
    assert run([*PYTHON, program], ENVIRONMENT, Limits(1.0)).status < 0
    child = int((tmp_path / "pid").read_text())
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_a_program_whose_child_holds_its_output_is_not_waited_for() -> None:
    program = "import os, time; os.fork() or time.sleep(60); print('done')"
    assert run([*PYTHON, program], ENVIRONMENT, Limits(30.0)).output == b"done\n"


def test_a_program_is_given_up_for_other_work() -> None:
    asked = iter([False, True])
    ended = run([*PYTHON, "import time; time.sleep(60)"], ENVIRONMENT, Limits(30), lambda: next(asked))
    assert (ended.status != 0, ended.complaint) == (True, "was put off, as there is other work")


# ---- repositories ----------------------------------------------------------------------------------------------------


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path / "config.git")


@pytest.fixture
def source(objects: Objects, tmp_path: Path) -> Source:
    return Source(str(objects.place), "main", tmp_path / "mirror")


def test_of_a_commit_message_without_an_end_only_the_subject_is_held(objects: Objects, source: Source) -> None:
    objects.commit(message=b"Subject\n\n" + b"0123456789abcdef\n" * (2 * MIB))
    tracemalloc.start()
    try:
        revision = source.fetch()
        names = source.tree(revision).names("apps")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (revision.subject, list(names)) == ("Subject", ["good/"])
    assert most < 10 * MIB


def test_a_commit_message_in_any_encoding_is_followed(objects: Objects, source: Source) -> None:
    message = "Grüße".encode("utf-16")
    body = f"tree {objects.git('rev-parse', objects.commit() + '^{tree}')}\n".encode()
    body += b"author x <x> 1 +0000\ncommitter x <x> 1 +0000\nencoding UTF-16\n\n" + message + b"\xff\xfe\x1b[2J"
    made = objects.git("hash-object", "-w", "-t", "commit", "--literally", "--stdin", data=body)
    objects.git("update-ref", "refs/heads/main", made)
    revision = source.fetch()
    assert revision.commit == made
    assert revision.subject.isprintable()


def test_ten_thousand_commits_in_between_are_not_all_looked_at(objects: Objects, source: Source) -> None:
    objects.commit()
    known = source.fetch()
    tree = objects.git("rev-parse", "main^{tree}")
    lines = [f"commit refs/heads/main\ncommitter x <x@x> {n} +0000\ndata 1\nx" for n in range(10_000)]
    lines[0] += f"\nfrom {known.commit}\nM 040000 {tree} "
    objects.git("fast-import", "--quiet", data=("\n".join(lines) + "\n").encode())
    started = time.process_time()
    with pytest.raises(Unavailable, match="does not build on it"):
        source.fetch()
    allowing = Source(str(objects.place), "main", source.mirror, allow_rewind=True)
    tip = allowing.fetch()
    assert len(allowing.since(known, tip)) <= 100
    assert time.process_time() - started < 20


def test_a_file_that_unpacks_to_300_mib_is_no_more_than_one_app(objects: Objects, source: Source) -> None:
    """A blob of 300 MiB that travels as a few kilobytes."""
    objects.git("config", "core.bigFileThreshold", "1m")  # the server is not the one that is tested
    process = subprocess.Popen(
        ["git", "-C", str(objects.place), "hash-object", "-w", "--stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    for _ in range(300):
        process.stdin.write(bytes(MIB))
    bomb = process.communicate()[0].decode().strip()
    objects.commit((b"40000", b"bomb", objects.tree((b"100644", b"compose.yaml", bomb))))
    tree = source.tree(source.fetch())
    with pytest.raises(MvdError, match="a file of the repository may have 4 MiB"):
        tree.read("apps/bomb/compose.yaml")
    assert tree.read("apps/good/compose.yaml")


def test_git_has_no_settings_of_whoever_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_SSL_NO_VERIFY", "GIT_OBJECT_DIRECTORY", "GIT_TRACE_CURL"):
        monkeypatch.setenv(name, "/x")
    started = start_git(["-c", "alias.e=!env", "e"], {"GIT_CONFIG_NOSYSTEM": "1"}, Limits(5))
    assert started.proc
    printed = finish(started.proc, Limits(5)).output.decode().splitlines()
    assert "GIT_CONFIG_NOSYSTEM=1" in printed
    assert [it for it in printed if it.endswith("=/x")] == []
