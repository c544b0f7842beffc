"""Pull requests as they would be once merged, over real git: nothing is run, and the mirror knows nothing of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import PullRequest
from gitops_mvd.git.branch import Source
from tests.lab.forge import Forge, Repository
from tests.lab.repository import ENVIRONMENT, git

WEB, CHAT = "apps/web/compose.yaml", "apps/chat/compose.yaml"


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Repository]:
    with Forge(tmp_path / "forge") as forge:
        repository = forge.create("acme/config")
        repository.commit({WEB: "services: {}\n", CHAT: "services: {}\n", "fleet.yaml": "hosts: {}\n"}, "Begin")
        yield repository


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "state" / "mirror"


@pytest.fixture
def source(config: Repository, mirror: Path) -> Source:
    return Source(str(config.path), "main", mirror, timeout=20)


def propose(config: Repository, number: int, files: Mapping[str, str], onto: str = "main") -> PullRequest:
    """A pull request with these files changed, as GitHub keeps it in the repository itself."""
    index = {"GIT_INDEX_FILE": str(config.path / "index.of.test")}

    def run(*words: str, said: str = "") -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=config.path,
            env=ENVIRONMENT | index,
            input=said,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    run("read-tree", onto)
    for path, text in files.items():
        oid = run("hash-object", "-w", "--stdin", said=text)
        run("update-index", "--add", "--cacheinfo", f"100644,{oid},{path}")
    commit = run("commit-tree", run("write-tree"), "-p", config.resolve(onto), "-m", f"Propose {number}")
    ref = f"refs/pull/{number}/head"
    git("update-ref", ref, commit, at=config.path)
    return PullRequest(number, commit, ref)


def grow(config: Repository, count: int) -> None:
    tip, tree = config.resolve("main"), git("rev-parse", "main^{tree}", at=config.path)
    for n in range(count):
        tip = git("commit-tree", tree, "-p", tip, "-m", f"Commit {n}", at=config.path)
    git("update-ref", "refs/heads/main", tip, at=config.path)


def kept(mirror: Path) -> list[str]:
    place = mirror.with_name("mirror.proposals")
    return git("for-each-ref", "--format=%(refname)", "refs/mvd/proposals", at=place).split()


def test_a_pull_request_is_read_as_if_it_was_merged(config: Repository, source: Source) -> None:
    pull_request = propose(config, 7, {WEB: "services: {web: {}}\n", "apps/new/compose.yaml": "# new\n"})
    config.commit({CHAT: "services: {chat: {}}\n"}, "Meanwhile")
    onto = source.fetch()
    tree = source.merged(pull_request, onto)
    assert tree.read(WEB) == b"services: {web: {}}\n"
    assert tree.read(CHAT) == b"services: {chat: {}}\n"
    assert list(tree.names("apps")) == ["chat/", "new/", "web/"]
    assert tree.oid("apps/chat") == source.tree(onto).oid("apps/chat")  # what it leaves alone is known to be the same
    assert tree.oid("apps/web") != source.tree(onto).oid("apps/web")


def test_a_pull_request_on_top_of_the_branch_is_read_as_it_is(config: Repository, source: Source) -> None:
    onto = source.fetch()
    pull_request = propose(config, 1, {WEB: "# changed\n"})
    tree = source.merged(pull_request, onto)
    assert tree.root.hex() == git("rev-parse", f"{pull_request.commit}^{{tree}}", at=config.path)


def test_a_pull_request_that_is_merged_already_changes_nothing(config: Repository, source: Source) -> None:
    old = config.resolve("main")
    git("update-ref", "refs/pull/1/head", old, at=config.path)
    config.commit({WEB: "# on\n"}, "On")
    onto = source.fetch()
    assert source.merged(PullRequest(1, old, "refs/pull/1/head"), onto).oid("") == source.tree(onto).oid("")


def test_a_conflict_names_the_first_file_and_how_many_more(config: Repository, source: Source) -> None:
    one, two = propose(config, 1, {WEB: "# mine\n"}), propose(config, 2, {WEB: "# mine\n", CHAT: "# mine\n"})
    config.commit({WEB: "# ours\n", CHAT: "# ours\n"}, "Meanwhile")
    onto = source.fetch()
    with pytest.raises(StepFailed, match=rf"^conflicts with main in {WEB} \(merge main into it"):
        source.merged(one, onto)
    with pytest.raises(StepFailed, match=rf"^conflicts with main in {CHAT} and 1 more \("):
        source.merged(two, onto)


def test_a_pull_request_from_a_fork_that_can_not_be_reached_says_so(source: Source) -> None:
    with pytest.raises(StepFailed, match="#3 lies in a fork"):
        source.merged(PullRequest(3, "1" * 40, "", is_fork=True), source.fetch())


def test_a_pull_request_that_has_moved_on_is_looked_at_again(config: Repository, source: Source) -> None:
    onto, old = source.fetch(), propose(config, 1, {WEB: "# one\n"})
    new = propose(config, 1, {WEB: "# two\n"})
    with pytest.raises(Unavailable, match=f"#1 has moved on from {old.commit[:7]}"):
        source.merged(old, onto)
    assert source.merged(new, onto).read(WEB) == b"# two\n"
    git("update-ref", "-d", new.ref, at=config.path)
    assert source.merged(new, onto).read(WEB) == b"# two\n"  # it is here, so nobody is asked
    with pytest.raises(Unavailable, match="has not got any more"):
        source.merged(PullRequest(1, old.commit.translate(str.maketrans("01", "10")), new.ref), onto)


@pytest.mark.parametrize(
    ("commit", "ref"),
    [
        ("1" * 40, "--upload-pack=touch /tmp/owned"),
        ("1" * 40, "refs/heads/x:refs/mvd/fetched"),
        ("1" * 40, "+refs/heads/*"),
        ("1" * 40, "refs/../x"),
        ("--output=/tmp/owned", "refs/pull/1/head"),
        ("main", "refs/pull/1/head"),
    ],
)
def test_what_git_would_read_otherwise_is_refused(commit: str, ref: str, source: Source) -> None:
    with pytest.raises(StepFailed, match="is not the"):
        source.merged(PullRequest(1, commit, ref), source.fetch())


def test_history_is_fetched_until_it_is_known_where_they_parted(config: Repository, source: Source) -> None:
    source.fetch()
    pull_request = propose(config, 1, {WEB: "# mine\n"})
    grow(config, 60)
    config.commit({CHAT: "# ours\n"}, "Meanwhile")
    onto = source.fetch()
    tree = source.merged(pull_request, onto)
    assert (tree.read(WEB), tree.read(CHAT)) == (b"# mine\n", b"# ours\n")


def test_one_that_parted_too_long_ago_is_read_as_it_is(config: Repository, source: Source, mirror: Path) -> None:
    pull_request = propose(config, 1, {WEB: "# mine\n"})
    lines = [f"commit refs/heads/main\ncommitter x <x@x> {n} +0000\ndata 1\nx" for n in range(1100)]
    lines[0] += f"\nfrom {config.resolve('main')}"
    subprocess.run(
        ["git", "fast-import", "--quiet"],
        cwd=config.path,
        env=ENVIRONMENT,
        input="\n".join(lines) + "\n",
        text=True,
        check=True,
    )
    config.commit({CHAT: "# ours\n"}, "Meanwhile")
    tree = source.merged(pull_request, source.fetch())
    assert (tree.read(WEB), tree.read(CHAT)) == (b"# mine\n", b"services: {}\n")


def test_an_old_git_reads_the_pull_request_as_it_is(
    config: Repository, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_request = propose(config, 1, {WEB: "# mine\n"})
    config.commit({CHAT: "# ours\n"}, "Meanwhile")
    onto = source.fetch()
    (tmp_path / "bin").mkdir()
    old = tmp_path / "bin" / "git"
    old.write_text(
        f'#!/bin/sh\n[ "$1" = version ] && echo git version 2.34.1 && exit\nexec {shutil.which("git")} "$@"\n'
    )
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:/usr/bin:/bin")
    tree = source.merged(pull_request, onto)
    assert (tree.read(WEB), tree.read(CHAT)) == (b"# mine\n", b"services: {}\n")


def test_nothing_of_a_pull_request_is_run(
    config: Repository, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap, owned = tmp_path / "trap.sh", tmp_path / "owned"
    trap.write_text(f"#!/bin/sh\ntouch {owned}\nexit 1\n")
    trap.chmod(0o755)
    (tmp_path / "home").mkdir()
    settings = "".join(
        f'[{kind} "trap"]\n' + "".join(f"\t{key} = {trap} %A\n" for key in keys)
        for kind, keys in {"merge": ["driver"], "filter": ["clean", "smudge", "process"], "diff": ["textconv"]}.items()
    )
    hooks = f"[core]\n\thooksPath = {tmp_path}\n\tfsmonitor = {trap}\n[merge]\n\trenormalize = true\n"
    (tmp_path / "home" / ".gitconfig").write_text(settings + hooks)
    for hook in ("reference-transaction", "post-merge", "post-checkout"):
        (tmp_path / hook).symlink_to(trap)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    attributes = {".gitattributes": "* merge=trap filter=trap diff=trap text=auto\n", ".gitconfig": settings}
    config.commit({**attributes, WEB: "a\nb\nc\nd\ne\n"}, "Trap")
    pull_request = propose(
        config, 1, {**attributes, WEB: "a\nb\nc\nd\nE\n", ".gitmodules": '[submodule "x"]\n\turl = ext::x\n'}
    )
    config.commit({WEB: "A\nb\nc\nd\ne\n"}, "Meanwhile")
    tree = source.merged(pull_request, source.fetch())
    assert tree.read(WEB) == b"A\nb\nc\nd\nE\n"
    assert not owned.exists()


def test_the_mirror_knows_nothing_of_pull_requests(config: Repository, source: Source, mirror: Path) -> None:
    known = source.fetch()
    grow(config, 45)  # more than a pull request's first fetch brings, so that it could cut this history off
    tip = source.fetch()
    before = {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()}
    assert len(source.since(known, tip)) == 45
    source.merged(propose(config, 1, {WEB: "# mine\n"}), tip)
    assert {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()} == before
    assert len(source.since(known, tip)) == 45
    grow(config, 2)
    again = Source(str(config.path), "main", mirror, timeout=20)
    later = again.fetch()
    assert len(again.since(tip, later)) == 2
    assert again.merged(propose(config, 2, {CHAT: "# mine\n"}), later).read(CHAT) == b"# mine\n"
    git("fsck", "--strict", at=mirror)


def test_pull_requests_that_are_closed_are_let_go_of(config: Repository, source: Source, mirror: Path) -> None:
    source.keep_pull_requests([1])
    onto = source.fetch()
    for number in (1, 2, 13):
        source.merged(propose(config, number, {WEB: f"# {number}\n"}), onto)
    source.keep_pull_requests([1, 3])
    assert kept(mirror) == ["refs/mvd/proposals/1"]
    source.keep_pull_requests([])
    assert kept(mirror) == []


@pytest.mark.parametrize("damage", ["objects", "HEAD", "config", "all"])
def test_what_is_damaged_is_begun_anew(damage: str, config: Repository, source: Source, mirror: Path) -> None:
    onto, pull_request = source.fetch(), propose(config, 1, {WEB: "# mine\n"})
    source.merged(pull_request, onto)
    place = mirror.with_name("mirror.proposals")
    if damage == "objects":
        for path in [*place.glob("objects/??/*"), *place.glob("objects/pack/*")]:
            path.unlink()
    elif damage == "all":
        shutil.rmtree(place)
        place.write_text("no folder")
    else:
        (place / damage).write_text("[[[")
    fresh = Source(str(config.path), "main", mirror, timeout=20)
    assert fresh.merged(pull_request, onto).read(WEB) == b"# mine\n"
    for _ in range(3):
        try:
            assert source.merged(pull_request, onto).read(WEB) == b"# mine\n"
        except Unavailable:  # it learns of the damage by running into it
            continue
        break
    else:
        pytest.fail("it is never begun anew")


def test_a_pull_request_of_which_nothing_was_seen_yet_can_be_asked_for_while_the_server_is_down(tmp_path: Path) -> None:
    with Forge(tmp_path / "forge", token=None) as forge:
        config = forge.create("acme/config")
        config.commit({WEB: "services: {}\n"}, "Begin")
        source = Source(config.clone_url, "main", tmp_path / "state" / "mirror", timeout=20)
        onto, pull_request = source.fetch(), propose(config, 1, {WEB: "# mine\n"})
        forge.down = True
        with pytest.raises(Unavailable, match="does not answer"):
            source.merged(pull_request, onto)
        forge.down = False
        assert source.merged(pull_request, onto).read(WEB) == b"# mine\n"
