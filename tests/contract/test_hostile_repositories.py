"""Repositories made to hurt, out of real Git objects: one app is refused in one sentence, and no other one minds."""

from __future__ import annotations

import os
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from gitops_mvd.cli.main import main
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import Health, HostFacts, Operation, Outcome, Problem, Report, Revision, Sync
from gitops_mvd.git.branch import Source
from gitops_mvd.manifest import Cache, load, read_fleet
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.status.changes import commit_changes

Entry = tuple[bytes, bytes, str]  # mode, name, object id

FILE, FOLDER = b"100644", b"40000"
GOOD = b"services: {web: {image: nginx}}\n"
WHO = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
MIB = 1 << 20


class Objects:
    """A bare repository, written object by object."""

    def __init__(self, place: Path) -> None:
        self.place = place
        subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", place], check=True)

    def git(self, *words: str, data: bytes = b"") -> str:
        command = ["git", "-C", str(self.place), *words]
        return (
            subprocess.run(command, input=data, capture_output=True, check=True, env=os.environ | WHO)
            .stdout.decode()
            .strip()
        )

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", data=content)

    def tree(self, *entries: Entry) -> str:
        body = b"".join(
            mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in sorted(entries, key=lambda e: e[1])
        )
        return self.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", data=body)

    def app(self, text: bytes = GOOD, *more: Entry) -> str:
        return self.tree((FILE, b"compose.yaml", self.blob(text)), *more)

    def commit(
        self, *apps: Entry, message: bytes = b"m", parent: str = "", ref: str = "refs/heads/main", good: str = ""
    ) -> str:
        """Commit an app that is good, and these."""
        root = self.tree((FOLDER, b"apps", self.tree((FOLDER, b"good", good or self.app()), *apps)))
        made = self.git("commit-tree", root, *(["-p", parent] if parent else []), data=message)
        self.git("update-ref", ref, made)
        return made


def wide_and_deep(objects: Objects) -> str:
    """Eleven trees that name ten billion files."""
    folder = objects.tree(*((FILE, b"%d" % i, objects.blob(b"")) for i in range(10)))
    for _ in range(9):
        folder = objects.tree(*((FOLDER, b"%d" % i, folder) for i in range(10)))
    mount = b"services: {web: {image: n, volumes: ['./d:/x:ro']}}\n"
    return objects.app(mount, (FOLDER, b"d", folder))


def one_blob_mounted_often(objects: Objects) -> str:
    large = objects.blob(b"x" * (MIB // 2 + 10))
    mount = b"services: {web: {image: n, volumes: ['./d:/x:ro']}}\n"
    return objects.app(mount, (FOLDER, b"d", objects.tree(*((FILE, b"%03d" % i, large) for i in range(100)))))


def one_blob_as_many_secrets(objects: Objects) -> str:
    large, names = objects.blob(b"x" * (2 * MIB)), [f"s{i}" for i in range(60)]
    granted, defined = ", ".join(names), ", ".join(f"{name}: {{file: {name}}}" for name in names)
    text = f"services: {{web: {{image: n, secrets: [{granted}]}}}}\nsecrets: {{{defined}}}\n"
    return objects.app(text.encode(), *((FILE, name.encode(), large) for name in names))


def many_files_at_its_top(objects: Objects) -> str:
    empty = objects.blob(b"")
    return objects.app(GOOD, *((FILE, b"%05d" % i, empty) for i in range(20_000)))


def one_folder_of_empty_files_mounted_often(objects: Objects) -> str:
    empty = objects.blob(b"")
    mounts = ", ".join(f"'./d:/x{i}:ro'" for i in range(500))
    text = f"services: {{web: {{image: n, volumes: [{mounts}]}}}}\n"
    return objects.app(text.encode(), (FOLDER, b"d", objects.tree(*((FILE, b"%04d" % i, empty) for i in range(9000)))))


def many_ports(objects: Objects) -> str:
    services = b"".join(b"  s%d: {image: n, ports: ['1000-60000:1000-60000']}\n" % i for i in range(100))
    return objects.app(b"services:\n" + services)


def many_variables(objects: Objects) -> str:
    services = b"".join(b"  s%d: {image: n, env_file: e}\n" % i for i in range(10))
    variables = objects.blob(b"".join(b"A%d=\n" % i for i in range(80_000)))
    return objects.app(b"services:\n" + services, (FILE, b"e", variables))


def many_instances(objects: Objects) -> str:
    services = b"".join(b"  s%d: {image: n, scale: 1000}\n" % i for i in range(6))
    return objects.app(b"services:\n" + services)


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path / "config.git")


@pytest.fixture
def source(objects: Objects, tmp_path: Path) -> Source:
    return Source(str(objects.place), "main", tmp_path / "mirror")


def read(source: Source) -> tuple[set[str], dict[str, tuple[Problem, ...]]]:
    apps, broken = load(source.tree(source.fetch()), HostFacts("h"))
    return {app.name for app in apps}, dict(broken)


@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        (wide_and_deep, "the app reads more than 10,000 names of the repository"),
        (one_blob_mounted_often, "is more than 1 MiB"),
        (one_blob_as_many_secrets, "the app reads more than 8 MiB of the repository"),
        (one_folder_of_empty_files_mounted_often, "the app reads more than 100,000 times in the repository"),
        (many_files_at_its_top, "the app reads more than 10,000 names of the repository"),
        (many_ports, "the app has more than 65,536 ports"),
        (many_variables, "the app has more than 100,000 variables in env files"),
        (many_instances, "the app has more than 5,000 instances on this host"),
    ],
)
def test_an_app_that_reads_too_much_is_refused(
    objects: Objects, source: Source, hostile: Callable[[Objects], str], said: str
) -> None:
    objects.commit((FOLDER, b"bomb", hostile(objects)))
    source.fetch()
    tracemalloc.start()
    try:
        apps, broken = read(source)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert apps == {"good"}
    assert [str(problem).count(said) for problem in broken["bomb"]] == [1]
    assert most < 60 * MIB


def test_a_folder_that_is_too_large_to_be_read_is_the_mistake_of_its_app(objects: Objects, source: Source) -> None:
    empty = objects.blob(b"")
    objects.commit((FOLDER, b"bomb", objects.app(GOOD, *((FILE, b"%05d" % i, empty) for i in range(40_000)))))
    apps, broken = read(source)
    assert apps == {"good"}
    assert "a folder of the repository may have 1 MiB" in str(broken["bomb"])


def test_a_link_is_not_taken_for_a_file_with_the_same_content(objects: Objects, source: Source) -> None:
    target = objects.blob(b"compose.yaml")
    text = b"services: {web: {image: n, secrets: [a, b]}}\nsecrets: {a: {file: a}, b: {file: b}}\n"
    objects.commit((FOLDER, b"linked", objects.app(text, (FILE, b"a", target), (b"120000", b"b", target))))
    _, broken = read(source)
    assert [problem.key for problem in broken["linked"]] == ["secrets.b.file"]


def test_folders_in_folders_without_an_end_are_refused(objects: Objects, source: Source) -> None:
    folder = objects.tree((FILE, b"f", objects.blob(b"")))
    for _ in range(200):
        folder = objects.tree((FOLDER, b"d", folder))
    mount = b"services: {web: {image: n, volumes: ['./%s:/x:ro']}}\n" % b"/".join([b"d"] * 200)
    objects.commit((FOLDER, b"bomb", objects.app(mount, (FOLDER, b"d", folder))))
    apps, broken = read(source)
    assert apps == {"good"}
    assert "lies more than 64 folders deep" in str(broken["bomb"])


def test_all_apps_together_are_no_more_than_one_server_reads(objects: Objects, source: Source) -> None:
    large = objects.blob(b"x" * MIB)
    text = f"services: {{web: {{image: n, secrets: [{', '.join(f's{i}' for i in range(7))}]}}}}\nsecrets:\n"
    text += "".join(f"  s{i}: {{file: s{i}}}\n" for i in range(7))
    app = objects.app(text.encode(), *((FILE, b"s%d" % i, large) for i in range(7)))
    objects.commit(*((FOLDER, b"a%d" % i, app) for i in range(4)))
    cache: Cache = {}
    tip = source.fetch()
    apps, broken = load(source.tree(tip), HostFacts("h"), cache)
    assert (len(apps), broken) == (5, {})
    objects.commit(*((FOLDER, b"a%d" % i, app) for i in range(5)), parent=tip.commit)
    tip = source.fetch()
    for known in (cache, {}):  # whatever was read before, the answer is the same
        with pytest.raises(ManifestError, match="all apps together read more than 32 MiB of the repository"):
            load(source.tree(tip), HostFacts("h"), known)
    revert = objects.commit(parent=tip.commit)
    assert source.fetch().commit == revert
    assert read(source) == ({"good"}, {})


def test_a_repository_has_no_more_apps_than_one_server_reads(objects: Objects, source: Source) -> None:
    app = objects.app()
    objects.commit(*((FOLDER, b"a%d" % i, app) for i in range(2_001)))
    with pytest.raises(ManifestError, match="has 2,002 apps: a repository may have 2,000"):
        read(source)


def test_mvd_validate_tells_of_too_many_apps_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(2_001):
        (tmp_path / "apps" / f"a{i}").mkdir(parents=True)
        (tmp_path / "apps" / f"a{i}" / "compose.yaml").write_bytes(GOOD)
    with pytest.raises(SystemExit, match="1"):
        main(["validate", str(tmp_path)])
    assert capsys.readouterr().out.startswith("apps:1: has 2,001 apps")


def test_the_defaults_of_a_fleet_are_counted_for_each_host(objects: Objects, source: Source) -> None:
    labels = b", ".join(b"l%d: x" % i for i in range(5_000))
    hosts = b"".join(b"  h%d: {}\n" % i for i in range(100))
    fleet = objects.blob(b"defaults: {labels: {%s}}\nhosts:\n%s" % (labels, hosts))
    root = objects.tree((FILE, b"fleet.yaml", fleet), (FOLDER, b"apps", objects.tree((FOLDER, b"good", objects.app()))))
    objects.git("update-ref", "refs/heads/main", objects.git("commit-tree", root, "-m", "Grow"))
    with pytest.raises(ManifestError, match="more than 100,000 labels, variables and options"):
        read_fleet(source.tree(source.fetch()))


def test_an_app_whose_name_is_no_text_is_refused_and_recorded(objects: Objects, source: Source, tmp_path: Path) -> None:
    objects.commit((FOLDER, b"\xff\xfe", objects.app()))
    apps, broken = read(source)
    assert apps == {"good"}
    [name] = broken
    assert name == r"\xff\xfe"
    assert r"apps/\xff\xfe/compose.yaml:1:" in str(broken[name][0])

    history = SqliteHistory(tmp_path / "state" / "history.db")
    outcome = Outcome(name, Sync.OUT_OF_SYNC, Health.MISSING, Operation.FAILED, why=str(broken[name][0]))
    report = Report("h", source.fetch(), (outcome,))
    history.record_report(report)
    history.save_report(report, 0.0)
    assert any(event.app == name for event in history.events(10))


def test_mvd_validate_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "apps" / os.fsdecode(b"\xff\x1b[31m")
    folder.mkdir(parents=True)
    (folder / "compose.yaml").write_bytes(GOOD)
    with pytest.raises(SystemExit, match="1"):
        main(["validate", str(tmp_path)])
    said = "".join(capsys.readouterr())
    assert r"\xff\x1b[31m" in said
    assert "\x1b[31m" not in said.replace(r"\x1b[31m", "")


def test_a_revert_helps_whatever_lies_between(
    objects: Objects, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = objects.commit()
    known = source.fetch()
    hostile = objects.commit((FOLDER, b"bomb", objects.app()), parent=first)
    objects.commit(parent=hostile)
    tip = source.fetch()
    tree = Source.tree

    def die_of_one(self: Source, revision: Revision) -> object:
        if revision.commit == hostile:
            raise RuntimeError("something that nobody thought of")
        return tree(self, revision)

    monkeypatch.setattr(Source, "tree", die_of_one)
    changes = commit_changes(source, "h", {}, known, tip)
    assert [(change.revision.commit, change.changed) for change in changes] == [(hostile, None), (tip.commit, None)]


def test_the_subject_of_a_commit_is_one_plain_line(objects: Objects, source: Source) -> None:
    objects.commit(message=b"\x1b[2J\xff " + b"x" * 5 * MIB)
    subject = source.fetch().subject
    assert subject.startswith(r"\x1b[2J")
    assert subject.isprintable()
    assert len(subject) == 2_000
