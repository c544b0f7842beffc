"""The mirror of the config repository, over real git and every way to reach it."""

from __future__ import annotations

import contextlib
import gc
import getpass
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitops_mvd.core.errors import ManifestError, MvdError, RevisionRefused, Unavailable
from gitops_mvd.core.model import Revision
from gitops_mvd.core.ports import Tree
from gitops_mvd.git.branch import Source
from gitops_mvd.git.tree import FolderTree
from tests.lab.forge import Forge, Repository
from tests.lab.repository import git

TOKEN = "t0ken-of-the-lab"
FILES = {"fleet.yaml": "hosts: {}\n", "apps/web/compose.yaml": "services: {}\n", "apps/web/environment": "A=1\n"}


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge", token=TOKEN) as running:
        yield running


@pytest.fixture
def config(forge: Forge) -> Repository:
    repository = forge.create("acme/config")
    repository.commit(FILES, "Begin")
    return repository


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "state" / "mirror"


class Eager(Source):
    """A Source that always expects something new, as after a webhook."""

    def fetch(self, *, expected: bool = True) -> Revision:
        return super().fetch(expected=expected)


@pytest.fixture(params=[Source, Eager])
def local(request: pytest.FixtureRequest, config: Repository, mirror: Path) -> Source:
    """The repository as a path on this machine, which is the fastest way."""
    made: Source = request.param(str(config.path), "main", mirror, timeout=20)
    return made


def over_http(config: Repository, mirror: Path, token: str = TOKEN, timeout: float = 20) -> Source:
    return Source(config.clone_url, "main", mirror, token=lambda: token, insecure=True, timeout=timeout)


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says the same to everything: its address, and the requests that it got."""
    asked: list[bytes] = []

    def serve(server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # as when it is shut down
            while True:
                connection, _ = server.accept()
                with connection:
                    asked.append(connection.recv(65536))
                    connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/x.git", asked
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def rewind(config: Repository, to: str) -> None:
    git("update-ref", "refs/heads/main", to, at=config.path)


def readers(mirror: Path) -> list[int]:
    """The processes of git that read objects of the mirror."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = place.read_bytes().split(b"\0")
            if b"cat-file" in words and f"--git-dir={mirror}".encode() in words:
                found.append(int(place.parent.name))
    return found


# ---- the ways to reach it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        lambda config, mirror: Source(str(config.path), "main", mirror),
        lambda config, mirror: Source(config.path.as_uri(), "main", mirror),
        over_http,
    ],
    ids=["path", "file", "http"],
)
def test_the_tip_is_fetched_and_its_files_are_read(
    config: Repository, mirror: Path, source: Callable[[Repository, Path], Source]
) -> None:
    begun = source(config, mirror)
    commit = config.commit({"apps/web/environment": "A=2\n"}, "Change web\n\nAnd say why.")
    revision = begun.fetch()
    assert (revision.commit, revision.ref, revision.subject) == (commit, "main", "Change web")
    assert begun.tree(revision).read("apps/web/environment") == b"A=2\n"
    again = config.commit({"apps/web/environment": "A=3\n"}, "Again")
    assert begun.fetch().commit == again
    assert begun.tree(begun.fetch()).read("apps/web/environment") == b"A=3\n"
    assert begun.tree(revision).read("apps/web/environment") == b"A=2\n"


def test_the_first_fetch_takes_one_commit_only(config: Repository, local: Source, mirror: Path) -> None:
    for n in range(3):
        config.commit({"fleet.yaml": f"# {n}\n"}, f"Commit {n}")
    revision = local.fetch()
    assert git("rev-list", "--count", revision.commit, at=mirror) == "1"


def test_an_unchanged_branch_is_asked_for_but_not_fetched(config: Repository, mirror: Path) -> None:
    source = over_http(config, mirror)
    revision = source.fetch()
    before = {path: path.stat().st_mtime_ns for path in mirror.rglob("*")}
    assert source.fetch() == revision
    assert over_http(config, mirror).fetch() == revision
    assert {path: path.stat().st_mtime_ns for path in mirror.rglob("*")} == before


def test_a_commit_that_is_expected_is_fetched_without_asking_for_it_first(config: Repository, mirror: Path) -> None:
    source = over_http(config, mirror)
    source.fetch()
    commit = config.commit({"fleet.yaml": "# new\n"}, "New")
    config.asked.clear()
    assert source.fetch(expected=True).commit == commit
    assert len(config.asked) == 1


def test_one_git_reads_all_commits(config: Repository, local: Source, mirror: Path) -> None:
    for n in range(3):
        config.commit({"fleet.yaml": f"# {n}\n"}, f"Commit {n}")
        assert local.tree(local.fetch()).read("fleet.yaml") == f"# {n}\n".encode()
    assert len(readers(mirror)) == 1


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGSTOP])
def test_a_git_that_died_or_hangs_is_started_anew(
    config: Repository, mirror: Path, ending: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(str(config.path), "main", mirror, timeout=2)
    tree = source.tree(source.fetch())
    [reader] = readers(mirror)
    os.kill(reader, ending)
    assert tree.read("apps/web/environment") == b"A=1\n"
    commit = config.commit({"fleet.yaml": "# new\n"}, "New")
    assert source.fetch().commit == commit
    assert len(readers(mirror)) == 1
    assert not caplog.records


def test_a_mirror_that_another_process_made_anew_is_read(config: Repository, local: Source, mirror: Path) -> None:
    local.tree(local.fetch())
    commit = config.commit({"fleet.yaml": "# new\n"}, "New")
    shutil.rmtree(mirror)
    assert Source(str(config.path), "main", mirror).fetch().commit == commit
    assert local.tree(local.fetch()).read("fleet.yaml") == b"# new\n"


def test_git_ends_with_the_source(config: Repository, mirror: Path) -> None:
    source = Source(str(config.path), "main", mirror)
    revision = source.fetch()
    source.tree(revision)
    assert readers(mirror)
    source.close()
    assert not readers(mirror)
    source.tree(revision)
    assert readers(mirror)
    del source
    gc.collect()
    assert not readers(mirror)


def test_what_was_fetched_last_is_known_without_asking(config: Repository, forge: Forge, mirror: Path) -> None:
    assert over_http(config, mirror).last() is None
    revision = over_http(config, mirror).fetch()
    forge.down = True
    source = over_http(config, mirror)
    assert source.last() == revision
    assert source.tree(revision).read("fleet.yaml") == b"hosts: {}\n"


class Sshd:
    """An SSH server on a port of its own, which lets one key in."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it for its privilege separation
        self.key, self.known_hosts, host_key = folder / "deploy key", folder / "known hosts", folder / "host_key"
        for key in (self.key, host_key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=20)
        (folder / "authorized").write_text(self.key.with_suffix(".pub").read_text())
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        algorithm, public, *_ = host_key.with_suffix(".pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {algorithm} {public}\n")
        lines = (
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {host_key}",
            f"AuthorizedKeysFile {folder / 'authorized'}",
            "StrictModes no",
            "PidFile none",
            "UsePAM no",
            "PermitRootLogin prohibit-password",
            "PasswordAuthentication no",
        )
        (folder / "config").write_text("\n".join(lines) + "\n")
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")], stderr=log)

    def url(self, path: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{path}"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    server = Sshd(tmp_path / "ssh")
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
                break
            time.sleep(0.02)
        yield server
    finally:
        server.process.terminate()
        server.process.wait(10)


@pytest.mark.server
def test_a_deploy_key_opens_the_repository_over_ssh(sshd: Sshd, config: Repository, mirror: Path) -> None:
    url = sshd.url(config.path)
    source = Source(url, "main", mirror, ssh_key=sshd.key, known_hosts=sshd.known_hosts, timeout=20)
    assert source.tree(source.fetch()).read("fleet.yaml") == b"hosts: {}\n"


@pytest.mark.server
def test_a_host_key_that_is_not_known_is_refused(sshd: Sshd, config: Repository, mirror: Path, tmp_path: Path) -> None:
    nobody = tmp_path / "nobody"
    nobody.touch()
    source = Source(sshd.url(config.path), "main", mirror, ssh_key=sshd.key, known_hosts=nobody, timeout=20)
    with pytest.raises(Unavailable, match="host key that is not in known_hosts"):
        source.fetch()
    assert nobody.read_bytes() == b""


@pytest.mark.server
def test_another_deploy_key_is_refused(sshd: Sshd, config: Repository, mirror: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True, timeout=20)
    url = sshd.url(config.path)
    with pytest.raises(Unavailable, match="refused the login"):
        Source(url, "main", mirror, ssh_key=other, known_hosts=sshd.known_hosts, timeout=20).fetch()
    with pytest.raises(Unavailable, match="deploy key cannot be read"):
        Source(url, "main", mirror, ssh_key=tmp_path / "no", known_hosts=sshd.known_hosts, timeout=20).fetch()


@pytest.mark.server
def test_a_repository_that_is_not_there_is_told_over_ssh(sshd: Sshd, mirror: Path) -> None:
    url = sshd.url(Path("/nowhere.git"))
    with pytest.raises(Unavailable, match="has no such repository"):
        Source(url, "main", mirror, ssh_key=sshd.key, known_hosts=sshd.known_hosts, timeout=20).fetch()


# ---- what is refused before anything is asked ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/owned",
        "fd::17",
        "ftp://example.invalid/x",
        "--upload-pack=touch /tmp/owned",
        "-oProxyCommand=touch /tmp/owned",
        "ssh://-oProxyCommand=x/y",
        "relative/path",
        "file://server/path",
        "https://user:hunter2@example.invalid/x",
        "https://hunter2@example.invalid/x",
        "ssh://git:hunter2@example.invalid/x",
        "git://hunter2@example.invalid/x",
        "https:///x",
        "",
    ],
)
def test_an_address_that_could_do_harm_is_refused(url: str, mirror: Path) -> None:
    with pytest.raises(MvdError) as raised:
        Source(url, "main", mirror, ssh_key=mirror, known_hosts=mirror)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "branch", ["", "-x", "a..b", "a b", "a:b", "ma*n", "a/", "/a", "a.lock", "a@{1}", "a\nb", "a\0"]
)
def test_a_branch_that_git_would_read_otherwise_is_refused(branch: str, mirror: Path) -> None:
    with pytest.raises(MvdError, match="not the name of a branch"):
        Source("/srv/config.git", branch, mirror)


def test_a_token_does_not_go_over_plain_http_unasked(config: Repository, mirror: Path) -> None:
    with pytest.raises(MvdError, match="insecure"):
        Source(config.clone_url, "main", mirror, token=lambda: TOKEN)


def test_a_token_is_asked_for_whenever_the_server_is(config: Repository, forge: Forge, mirror: Path) -> None:
    asked: list[str] = []

    def token() -> str:
        asked.append(forge.token or "")
        return asked[-1]

    source = Source(config.clone_url, "main", mirror, token=token, insecure=True, timeout=20)
    source.fetch()
    forge.token = "t0ken-of-the-next-hour"
    commit = config.commit({"fleet.yaml": "# next\n"}, "Next")
    revision = source.fetch()
    assert revision.commit == commit
    assert set(asked) == {TOKEN, "t0ken-of-the-next-hour"}
    asked.clear()
    assert source.tree(revision).read("fleet.yaml") == b"# next\n"
    assert Source(config.clone_url, "main", mirror, token=token, insecure=True).last() == revision
    assert asked == []  # what is here already is read without a login


def test_a_token_of_two_lines_is_refused(config: Repository, mirror: Path) -> None:
    with pytest.raises(Unavailable, match="single line") as raised:
        over_http(config, mirror, token="se\ncret").fetch()
    assert "cret" not in str(raised.value)
    with pytest.raises(MvdError, match="single line"):
        Source(config.clone_url, "main", mirror, username="a\nb")


def test_ssh_needs_a_key_and_known_hosts(mirror: Path) -> None:
    for url in ("git@example.invalid:acme/config.git", "ssh://git@example.invalid/acme/config.git"):
        with pytest.raises(MvdError, match="known_hosts"):
            Source(url, "main", mirror, ssh_key=mirror)
        Source(url, "main", mirror, ssh_key=mirror, known_hosts=mirror)


# ---- what is told when it cannot be fetched -------------------------------------------------------------------------


def test_a_refused_login_an_absent_repository_and_a_silent_server_are_told_apart(
    config: Repository, forge: Forge, mirror: Path
) -> None:
    with pytest.raises(Unavailable, match="refused the login"):
        over_http(config, mirror, token="wr0ng").fetch()
    with pytest.raises(Unavailable, match="refused the login"):
        over_http(config, mirror, token="").fetch()
    absent = Source(f"{forge.url}/acme/absent.git", "main", mirror, token=lambda: TOKEN, insecure=True)
    with pytest.raises(Unavailable, match="has no such repository"):
        absent.fetch()
    forge.fail_next(2, 502)
    with pytest.raises(Unavailable, match="answered with an error"):
        over_http(config, mirror).fetch()
    forge.down = True
    with pytest.raises(Unavailable, match="does not answer"):
        over_http(config, mirror).fetch()
    assert not mirror.exists()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Unavailable, match="does not answer"):
        Source(f"http://127.0.0.1:{port}/x.git", "main", mirror).fetch()


def test_a_server_that_hangs_is_given_up(mirror: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = Source(f"http://127.0.0.1:{silent.getsockname()[1]}/x.git", "main", mirror, timeout=1)
        started = time.monotonic()
        with pytest.raises(Unavailable, match="did not answer in time"):
            source.fetch()
        assert time.monotonic() - started < 10


def test_a_page_of_html_is_not_taken_for_git(mirror: Path) -> None:
    page = b"<html>\n<body>\nPlease sign in\n</body>\n</html>\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(page)
    with answering(head + page) as (url, _), pytest.raises(Unavailable, match="but is no Git server"):
        Source(url, "main", mirror, timeout=20).fetch()


def test_a_deleted_branch_keeps_what_there_was(config: Repository, local: Source) -> None:
    revision = local.fetch()
    git("update-ref", "-d", "refs/heads/main", at=config.path)
    with pytest.raises(Unavailable, match="has no branch main"):
        local.fetch()
    assert local.last() == revision
    assert local.tree(revision).read("fleet.yaml") == b"hosts: {}\n"


def test_a_branch_of_a_similar_name_is_not_taken_for_it(config: Repository, mirror: Path) -> None:
    commit = config.resolve("main")
    git("update-ref", "refs/heads/refs/heads/other", commit, at=config.path)
    with pytest.raises(Unavailable, match="has no branch other"):
        Source(str(config.path), "other", mirror).fetch()


def test_the_token_is_nowhere_to_be_found(
    config: Repository, mirror: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    source = over_http(config, mirror)
    source.tree(source.fetch()).read("fleet.yaml")
    wrong = over_http(config, mirror, token="wr0ng-token")
    with pytest.raises(Unavailable) as raised:
        wrong.fetch()
    seen = [caplog.text, repr(source), repr(wrong), str(raised.value), repr(raised.value.__cause__)]
    seen += [path.read_text(errors="replace") for path in mirror.parent.rglob("*") if path.is_file()]
    assert "ls-remote" in caplog.text  # the commands are logged, so their words were seen
    assert not [text for text in seen if TOKEN in text or "wr0ng-token" in text]


def test_a_token_is_not_given_to_where_the_server_sends_us(config: Repository, mirror: Path) -> None:
    end = b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    with answering(b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n' + end) as (elsewhere, asked):
        to = f"Location: {elsewhere}/info/refs?service=git-upload-pack\r\n".encode()
        with (
            answering(b"HTTP/1.1 302 Found\r\n" + to + end) as (url, _),
            pytest.raises(Unavailable, match="refused the login"),
        ):
            Source(url, "main", mirror, token=lambda: TOKEN, insecure=True, timeout=20).fetch()
    assert asked
    assert not [request for request in asked if b"authorization" in request.lower()]


def test_nobody_elses_settings_are_heeded(
    config: Repository, forge: Forge, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = forge.create("acme/elsewhere")
    elsewhere.commit({"fleet.yaml": "# not this one\n"}, "Elsewhere")
    settings = f'[url "{elsewhere.path}"]\n\tinsteadOf = {config.path}\n'
    for place in (tmp_path / "home" / ".gitconfig", tmp_path / "home" / ".config" / "git" / "config"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(settings)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "home" / ".gitconfig"))
    standing = elsewhere.path.with_suffix(".work")
    with (standing / ".git" / "config").open("a") as file:
        file.write(settings)
    monkeypatch.chdir(standing)
    for git_dir in (None, str(standing / ".git")):  # the second, as in a hook
        if git_dir:
            monkeypatch.setenv("GIT_DIR", git_dir)
        source = Source(str(config.path), "main", mirror)
        assert source.tree(source.fetch()).read("fleet.yaml") == b"hosts: {}\n"
        shutil.rmtree(mirror)


def test_a_missing_git_is_told(local: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable, match="git is not installed"):
        local.fetch()


def test_a_mirror_that_can_not_be_written_is_told(config: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot write the mirror"):
        Source(str(config.path), "main", tmp_path / "file" / "mirror").fetch()


# ---- history ---------------------------------------------------------------------------------------------------------


def test_a_rewind_is_refused_until_it_is_allowed(config: Repository, local: Source, mirror: Path) -> None:
    old = config.resolve("main")
    revision = Source(str(config.path), "main", mirror).fetch()
    new = config.commit({"fleet.yaml": "# new\n"}, "New")
    assert local.fetch().commit == new
    rewind(config, old)
    for source in (local, local, Source(str(config.path), "main", mirror)):
        with pytest.raises(RevisionRefused, match=r"does not build on it.*git revert") as raised:
            source.fetch()
        assert raised.value.commit == old
        assert (last := source.last()) is not None
        assert last.commit == new
    assert Source(str(config.path), "main", mirror, allow_rewind=True).fetch() == revision


def test_a_force_push_of_another_history_is_refused(config: Repository, local: Source) -> None:
    local.fetch()
    tree = git("rev-parse", "main^{tree}", at=config.path)
    rewind(config, git("commit-tree", tree, "-m", "Another beginning", at=config.path))
    with pytest.raises(Unavailable, match="does not build on it"):
        local.fetch()


def test_many_commits_at_once_are_followed(config: Repository, local: Source) -> None:
    local.fetch()
    tip, tree = config.resolve("main"), git("rev-parse", "main^{tree}", at=config.path)
    for n in range(40):  # more than the first look back goes
        tip = git("commit-tree", tree, "-p", tip, "-m", f"Commit {n}", at=config.path)
    rewind(config, tip)
    assert local.fetch().commit == tip


def test_a_merge_is_followed_from_its_second_parent(config: Repository, local: Source) -> None:
    base = local.fetch().commit
    tree = git("rev-parse", "main^{tree}", at=config.path)
    side = git("commit-tree", tree, "-m", "Elsewhere", at=config.path)
    merge = git("commit-tree", tree, "-p", side, "-p", base, "-m", "Merge", at=config.path)
    rewind(config, merge)
    assert local.fetch().commit == merge


def test_another_branch_or_repository_in_the_same_place_is_no_rewind(
    config: Repository, local: Source, forge: Forge, mirror: Path
) -> None:
    local.fetch()
    other = forge.create("acme/other")
    commit = other.commit({"fleet.yaml": "# other\n"}, "Other")
    assert Source(str(other.path), "main", mirror).fetch().commit == commit


# ---- what was taken, where the mirror is lost ------------------------------------------------------------------------


@pytest.fixture
def anchor(tmp_path: Path) -> Path:
    return tmp_path / "files" / "followed"


def anchored(config: Repository, mirror: Path, anchor: Path, allow_rewind: bool = False) -> Source:
    return Source(str(config.path), "main", mirror, anchor=anchor, allow_rewind=allow_rewind, timeout=20)


def test_a_rewind_is_refused_though_the_mirror_is_lost(config: Repository, mirror: Path, anchor: Path) -> None:
    old = config.resolve("main")
    new = config.commit({"fleet.yaml": "# new\n"}, "New")
    anchored(config, mirror, anchor).fetch()
    shutil.rmtree(mirror.parent)
    rewind(config, old)
    for source in [anchored(config, mirror, anchor)] * 2:
        with pytest.raises(RevisionRefused, match=r"does not build on it.*git revert") as raised:
            source.fetch()
        assert raised.value.commit == old
        assert source.last() is None
    assert anchored(config, mirror, anchor, allow_rewind=True).fetch().commit == old
    assert anchored(config, mirror, anchor).fetch().commit == old
    rewind(config, new)
    shutil.rmtree(mirror.parent)
    assert anchored(config, mirror, anchor).fetch().commit == new


def test_a_lost_mirror_is_made_anew_from_where_the_branch_is_now(
    config: Repository, mirror: Path, anchor: Path
) -> None:
    for moved in (False, True):
        anchored(config, mirror, anchor).fetch()
        shutil.rmtree(mirror.parent)
        if moved:
            config.commit({"fleet.yaml": "# moved\n"}, "Move")
        assert anchored(config, mirror, anchor).fetch().commit == config.resolve("main")


def test_what_was_taken_is_written_down_once(config: Repository, mirror: Path, anchor: Path) -> None:
    source = anchored(config, mirror, anchor)
    source.fetch()
    assert anchor.read_text().split()[1:] == [config.resolve("main")]
    assert (anchor.stat().st_mode & 0o777, anchor.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    before = anchor.stat().st_mtime_ns, anchor.parent.stat().st_mtime_ns
    source.fetch()
    anchored(config, mirror, anchor).fetch()
    assert (anchor.stat().st_mtime_ns, anchor.parent.stat().st_mtime_ns) == before
    assert list(anchor.parent.iterdir()) == [anchor]


@pytest.mark.parametrize("garbage", [b"", b"nonsense", b"\xff\0", b"0123456789abcdef main\n", b"x" * 100_000])
def test_an_anchor_of_garbage_is_told_once_and_made_anew(
    garbage: bytes, config: Repository, mirror: Path, anchor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anchor.parent.mkdir()
    anchor.write_bytes(garbage)
    source = anchored(config, mirror, anchor)
    assert source.fetch().commit == config.resolve("main")
    assert [record.levelname for record in caplog.records if "followed" in record.message] == ["WARNING"]
    assert anchor.read_text().split()[1:] == [config.resolve("main")]


def test_an_anchor_of_another_repository_or_branch_says_nothing(
    config: Repository, forge: Forge, mirror: Path, anchor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anchored(config, mirror, anchor).fetch()
    other = forge.create("acme/other")
    commit = other.commit({"fleet.yaml": "# other\n"}, "Other")
    shutil.rmtree(mirror.parent)
    assert anchored(other, mirror, anchor).fetch().commit == commit
    assert "followed" not in caplog.text


def test_an_anchor_that_can_not_be_written_is_told_once_and_holds_up_nothing(
    config: Repository, mirror: Path, anchor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anchor.parent.write_text("no folder")
    source = anchored(config, mirror, anchor)
    for _ in range(3):
        assert source.fetch().commit == config.resolve("main")
    told = [record.message for record in caplog.records if "followed" in record.message]
    assert len(told) == len(set(told)) <= 2
    anchor.parent.unlink()
    source.fetch()
    assert anchor.read_text().split()[1:] == [config.resolve("main")]


# ---- what happened since ---------------------------------------------------------------------------------------------


def grow(config: Repository, count: int, onto: str = "main", word: str = "Commit") -> str:
    """So many commits on top of it, which nothing points at yet."""
    tip, tree = config.resolve(onto), git("rev-parse", "main^{tree}", at=config.path)
    for n in range(count):
        tip = git("commit-tree", tree, "-p", tip, "-m", f"{word} {n}", at=config.path)
    return tip


def test_the_commits_since_the_last_one_are_told_oldest_first(config: Repository, local: Source) -> None:
    known = local.fetch()
    rewind(config, grow(config, 3))
    tip = local.fetch()
    since = local.since(known, tip)
    assert [revision.subject for revision in since] == ["Commit 0", "Commit 1", "Commit 2"]
    assert since[-1] == tip
    assert local.since(since[1], tip) == (tip,)
    assert local.since(tip, tip) == ()


def test_no_more_than_a_hundred_commits_are_told(config: Repository, local: Source) -> None:
    known = local.fetch()
    rewind(config, grow(config, 105))
    told = [revision.subject for revision in local.since(known, local.fetch())]
    assert told == [f"Commit {n}" for n in range(5, 105)]


def test_what_came_by_a_merge_is_told_as_the_merge(config: Repository, local: Source) -> None:
    known = local.fetch()
    side, tree = grow(config, 3, word="Side"), git("rev-parse", "main^{tree}", at=config.path)
    ours = grow(config, 1)
    rewind(config, git("commit-tree", tree, "-p", ours, "-p", side, "-m", "Merge", at=config.path))
    assert [revision.subject for revision in local.since(known, local.fetch())] == ["Commit 0", "Merge"]


def test_a_known_commit_on_the_other_side_of_a_merge_is_not_passed(config: Repository, local: Source) -> None:
    base = config.resolve("main")
    rewind(config, grow(config, 2))
    known = local.fetch()
    side, tree = grow(config, 1, base, "Side"), git("rev-parse", "main^{tree}", at=config.path)
    rewind(config, git("commit-tree", tree, "-p", side, "-p", known.commit, "-m", "Merge", at=config.path))
    assert [revision.subject for revision in local.since(known, local.fetch())] == ["Side 0", "Merge"]


def test_where_it_can_not_be_told_the_tip_stands_alone(config: Repository, mirror: Path) -> None:
    source = Source(str(config.path), "main", mirror, allow_rewind=True, timeout=20)
    first = source.fetch()
    rewind(config, grow(config, 2))
    tip = source.fetch()
    assert len(source.since(first, tip)) == 2
    assert source.since(tip, first) == (first,)
    assert source.since(Revision("1" * 40, "main"), tip) == (tip,)
    assert source.since(first, Revision("1" * 40, "main", "Gone")) == (Revision("1" * 40, "main", "Gone"),)
    rewind(config, grow(config, 40))
    later = source.fetch()
    assert source.since(first, later) == (later,)  # 32 commits were fetched, as a rewind is allowed
    shutil.rmtree(mirror)
    assert source.since(first, later) == (later,)


# ---- damage ----------------------------------------------------------------------------------------------------------


def garble(mirror: Path) -> None:
    for path in [*mirror.glob("objects/??/*"), *mirror.glob("objects/pack/*.pack")]:
        path.chmod(0o600)
        path.write_bytes(b"\0" * path.stat().st_size)


def empty_objects(mirror: Path) -> None:
    for path in mirror.glob("objects/??/*"):
        path.chmod(0o600)
        path.write_bytes(b"")


def lose_objects(mirror: Path) -> None:
    shutil.rmtree(mirror / "objects")


def lose_head(mirror: Path) -> None:
    (mirror / "HEAD").write_text("nonsense")


def lose_refs(mirror: Path) -> None:
    shutil.rmtree(mirror / "refs")
    (mirror / "packed-refs").unlink(missing_ok=True)


def break_settings(mirror: Path) -> None:
    (mirror / "config").write_text("[[[")


def make_it_a_file(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.write_text("not a folder")


def remove(mirror: Path) -> None:
    shutil.rmtree(mirror)


def move_to_another_disk(mirror: Path) -> None:
    other = mirror.parent.parent / "disk"
    mirror.rename(other)
    mirror.symlink_to(other)
    lose_objects(other)


def lead_nowhere(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.symlink_to(mirror.parent.parent / "gone")


def leave_a_link_of_an_old_one(mirror: Path) -> None:
    lose_objects(mirror)
    mirror.with_name("mirror.old").symlink_to(mirror.parent.parent)


DAMAGES = [garble, empty_objects, lose_objects, lose_head, lose_refs, break_settings, make_it_a_file, remove]
DAMAGES += [move_to_another_disk, lead_nowhere, leave_a_link_of_an_old_one]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("moved", [False, True], ids=["still", "moved"])
def test_a_damaged_mirror_is_made_anew(
    damage: Callable[[Path], None], moved: bool, config: Repository, local: Source, mirror: Path
) -> None:
    local.fetch()
    damage(mirror)
    if moved:
        config.commit({"fleet.yaml": "# moved\n"}, "Move")
    for source in (local, Source(str(config.path), "main", mirror)):
        with contextlib.suppress(Unavailable):  # the process that saw it whole learns of the damage by reading
            source.tree(source.fetch()).read("fleet.yaml")
        revision = source.fetch()
        assert revision.commit == config.resolve("main")
        assert source.tree(revision).read("apps/web/compose.yaml") == b"services: {}\n"
    assert sorted(path.name for path in mirror.parent.iterdir()) == ["mirror", "mirror.lock"]


def test_a_damaged_mirror_is_kept_while_the_server_is_down(config: Repository, forge: Forge, mirror: Path) -> None:
    revision = over_http(config, mirror).fetch()
    (damaged := next(mirror.glob("objects/??/*"))).chmod(0o600)
    damaged.write_bytes(b"")
    forge.fail_next(20)
    with pytest.raises(Unavailable):
        over_http(config, mirror).fetch()
    assert mirror.exists()
    while forge.next_failure():
        pass
    assert over_http(config, mirror).fetch() == revision


def test_a_rewind_is_refused_by_a_mirror_that_is_made_anew_too(config: Repository, local: Source, mirror: Path) -> None:
    old = config.resolve("main")
    config.commit({"fleet.yaml": "# new\n"}, "New")
    local.fetch()
    lose_objects(mirror)
    (mirror / "objects").mkdir()
    rewind(config, old)
    with pytest.raises(Unavailable, match="does not build on it"):
        Source(str(config.path), "main", mirror).fetch()


def test_what_a_killed_git_left_behind_is_swept_away(config: Repository, local: Source, mirror: Path) -> None:
    local.fetch()
    left = [
        mirror / "shallow.lock",
        mirror / "packed-refs.lock",
        mirror / "objects" / "pack" / "tmp_pack_Ab1",
        mirror / "refs" / "mvd" / "fetched.lock",
        next(path for path in mirror.glob("refs/mvd/*") if path.name != "fetched").with_suffix(".lock"),
    ]
    for path in left:
        path.write_bytes(b"")
    (mirror.with_name("mirror.new") / "objects").mkdir(parents=True)
    commit = config.commit({"fleet.yaml": "# next\n"}, "Next")
    assert local.fetch().commit == commit
    assert not [path for path in left if path.exists()]


def test_two_processes_share_a_mirror(config: Repository, mirror: Path) -> None:
    sources = [Source(str(config.path), "main", mirror) for _ in range(3)]
    commits: list[str] = []
    threads = [threading.Thread(target=lambda s=source: commits.append(s.fetch().commit)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert commits == [config.resolve("main")] * 3


# ---- the tree --------------------------------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with everything that a repository may have in it."""
    folder = tmp_path / "work"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "apps" / "web" / "inside").symlink_to("environment")
    (folder / "apps" / "web" / "outside").symlink_to("/etc/hostname")
    (folder / "apps" / "linked").symlink_to("web")
    (folder / "apps" / "umlaut-ä").write_text("ä")
    (folder / "apps" / os.fsdecode(b"latin-\xe4")).write_text("x")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


@pytest.fixture(params=["commit", "folder"])
def tree(request: pytest.FixtureRequest, work: Path, tmp_path: Path) -> Tree:
    git("init", "--quiet", "--initial-branch=main", at=work)
    if request.param == "folder":
        return FolderTree(work)
    git("add", "--all", at=work)
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},apps/submodule", at=work)
    git("commit", "--quiet", "--message", "All", at=work)
    source = Source(str(work), "main", tmp_path / "mirror")
    return source.tree(source.fetch())


def test_a_folder_is_listed_with_its_folders_marked(tree: Tree) -> None:
    assert list(tree.names("")) == ["apps/", "fleet.yaml", "run.sh"]
    assert list(tree.names("apps/web")) == ["compose.yaml", "environment", "inside", "outside"]
    names = [name for name in tree.names("apps/") if name != "submodule"]
    assert names == sorted(["linked", os.fsdecode(b"latin-\xe4"), "umlaut-ä", "web/"])


@pytest.mark.parametrize(
    "path", ["nowhere", "fleet.yaml", "fleet.yaml/x", "apps/linked", "..", "/", "/etc", "a\0b", "a" * 300]
)
def test_what_is_no_folder_has_nothing_in_it(tree: Tree, path: str) -> None:
    assert list(tree.names(path)) == []


def test_a_file_is_read_by_its_path(tree: Tree) -> None:
    for path in ("apps/web/environment", "./apps/web/environment", "apps/linked/../web/environment"):
        assert tree.read(path) == b"A=1\n"
    assert tree.read("apps/umlaut-ä") == "ä".encode()
    assert tree.read("apps/" + os.fsdecode(b"latin-\xe4")) == b"x"


@pytest.mark.parametrize(
    "path",
    [
        *("nowhere", "apps", "", ".", "fleet.yaml/x", "apps/web/inside", "apps/web/outside", "apps/linked/environment"),
        *("../work/fleet.yaml", "/etc/hostname", "apps/../../etc/hostname", "apps/submodule", "a\0b"),
        *("a" * 300, "apps/" + "ä" * 200, "a/" * 3000),
    ],
)
def test_what_is_no_file_inside_is_not_read(tree: Tree, path: str) -> None:
    with pytest.raises(FileNotFoundError):
        tree.read(path)


def test_what_a_path_leads_to_has_a_name(tree: Tree) -> None:
    kinds = {path: tree.kind(path) for path in ("", "apps", "fleet.yaml", "apps/linked", "apps/web/outside", "nowhere")}
    assert kinds == {
        "": "folder",
        "apps": "folder",
        "fleet.yaml": "file",
        "apps/linked": "link",
        "apps/web/outside": "link",
        "nowhere": "",
    }
    assert tree.kind("../work") == tree.kind("apps/linked/environment") == tree.kind("a" * 300) == ""
    assert tree.oid("a" * 300) == tree.oid("apps/" + "a" * 300) == ""


def test_a_submodule_is_none_of_the_files_whether_it_was_fetched_or_not(work: Path, tmp_path: Path) -> None:
    module = '[submodule "lib"]\n\tpath = apps/lib\n\turl = https://git.example.org/lib\n'
    (work / ".gitmodules").write_text(module)
    (work / "apps/lib").mkdir()
    (work / "apps/lib/fetched").write_text("x")
    git("init", "--quiet", "--initial-branch=main", at=work)
    git("add", "--all", at=work)
    git("rm", "--quiet", "--cached", "-r", "apps/lib", at=work)
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},apps/lib", at=work)
    git("commit", "--quiet", "--message", "All", at=work)
    source = Source(str(work), "main", tmp_path / "mirror")
    for tree in (FolderTree(work), source.tree(source.fetch())):
        assert tree.kind("apps/lib") == "submodule"
        assert "lib" in tree.names("apps")
        assert list(tree.names("apps/lib")) == []
        assert tree.oid("apps/lib")
        with pytest.raises(FileNotFoundError):
            tree.read("apps/lib/fetched")


def test_an_id_tells_whether_anything_below_changed(tree: Tree) -> None:
    ids = [tree.oid(path) for path in ("", "apps", "apps/web", "apps/web/inside", "fleet.yaml")]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    assert tree.oid("apps/web/") == tree.oid("apps/web")
    assert tree.oid("nowhere") == tree.oid("fleet.yaml/x") == tree.oid("../work") == ""


def test_an_id_changes_with_what_is_below_and_only_then(work: Path) -> None:
    def ids() -> tuple[str, str]:
        return FolderTree(work).oid("apps"), FolderTree(work).oid("fleet.yaml")

    seen = [ids()]
    (work / "apps" / "web" / "environment").write_text("A=2\n")
    seen.append(ids())
    (work / "apps" / "web" / "environment").rename(work / "apps" / "web" / "env")
    seen.append(ids())
    (work / "apps" / "web" / "inside").unlink()
    (work / "apps" / "web" / "inside").symlink_to("env")
    seen.append(ids())
    apps, fleets = zip(*seen, strict=True)
    assert len(set(apps)) == 4
    assert len(set(fleets)) == 1


def test_a_huge_file_is_a_mistake_of_the_repository(work: Path, tmp_path: Path) -> None:
    (work / "huge").write_bytes(b"\0" * (17 * 1024**2))
    git("init", "--quiet", "--initial-branch=main", at=work)
    git("add", "--all", at=work)
    git("commit", "--quiet", "--message", "All", at=work)
    source = Source(str(work), "main", tmp_path / "mirror")
    for tree in (FolderTree(work), source.tree(source.fetch())):
        with pytest.raises(ManifestError, match=r"huge:1: .*4 MiB"):
            tree.read("huge")
        assert tree.read("fleet.yaml") == b"hosts: {}\n"


def test_a_thousand_files_are_read_in_a_breath(tmp_path: Path, forge: Forge) -> None:
    repository = forge.create("acme/large")
    repository.commit({f"apps/app-{n}/compose.yaml": f"# {n}\n" for n in range(1000)}, "Many")
    source = Source(str(repository.path), "main", tmp_path / "mirror")
    tree = source.tree(source.fetch())
    started = time.process_time()
    files = [tree.read(f"apps/{name}compose.yaml") for name in tree.names("apps")]
    assert len(set(files)) == 1000
    assert time.process_time() - started < 2


# ---- in what order ---------------------------------------------------------------------------------------------------


def test_a_commit_tells_when_it_was_made_and_what_it_builds_on(config: Repository, local: Source) -> None:
    first = local.fetch()
    rewind(config, grow(config, 3))
    tip = local.fetch()
    told = git("show", "--no-patch", "--format=%ct", "main", at=config.path)
    assert local.committed(tip) == int(told)
    assert local.builds_on(tip, first.commit)
    assert local.builds_on(tip, tip.commit)
    assert not local.builds_on(first, tip.commit)
    for unknown in ("1" * 40, "-", "--all", "main", ""):
        assert not local.builds_on(tip, unknown)
