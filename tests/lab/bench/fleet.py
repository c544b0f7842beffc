"""A large fleet, without a lab: what its repository costs who checks it, one host of it, and who tells of commits."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml

from gitops_mvd.core.model import Revision
from gitops_mvd.git.branch import Source
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.manifest import Cache, load, read_fleet, review
from gitops_mvd.status.changes import commit_changes
from tests.lab.bench.figure import Figure, median
from tests.lab.repository import Repository, git

APPS, ROLES, HOSTS = 1000, 10, 50
OF_AN_APP = 5  # services, in the fleet of 5,000
BURST = 300  # commits
RUNS, PUSHES = 3, 9
PARSED = "parse its YAML"
FETCHED = "a bare git fetch"
SERVICE = """\
  s{number}:
    image: registry.example/{app}:1.0
    env_file: environment
    environment: {{LEVEL: "${{LEVEL}}", URL: "https://{app}.${{DOMAIN}}/"}}
    deploy:
      placement: {{constraints: ["node.labels.role == {role}"]}}
      resources: {{limits: {{memory: 128M}}}}
    x-mvd: {{health: {{http: /health, port: 8080}}}}
    x-kong: {{port: 8080, routes: [{{paths: [/{app}/s{number}]}}]}}
"""


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="mvd-bench-") as folder:
        yield from _of_checking(Path(folder))
    with tempfile.TemporaryDirectory(prefix="mvd-bench-") as folder:
        yield from _of_one_host(Path(folder))
    with tempfile.TemporaryDirectory(prefix="mvd-bench-") as folder:
        yield from _of_commits(Path(folder))


def fleet(apps: int, of_an_app: int, hosts: int, roles: int) -> dict[str, str]:
    """The files of a repository whose hosts have so many roles, and whose apps are each for one of these."""
    listed = {
        f"host-{n}": {"labels": {"role": f"role-{n % roles}"}, "variables": {"NAME": f"host-{n}"}} for n in range(hosts)
    }
    everywhere = {"variables": {"LEVEL": "info", "DOMAIN": "example.org"}}
    files = {"fleet.yaml": yaml.safe_dump({"defaults": everywhere, "hosts": listed})}
    for n in range(apps):
        app, role = f"app-{n:04}", f"role-{n % roles}"
        texts = [SERVICE.format(app=app, role=role, number=number) for number in range(of_an_app)]
        files[f"apps/{app}/compose.yaml"] = "services:\n" + "".join(texts)
        files[f"apps/{app}/environment"] = "SETTING=a value\n"
    return files


def _of_checking(folder: Path) -> Iterator[Figure]:
    files = fleet(APPS, 1, HOSTS, ROLES)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    took = median(RUNS, lambda: _checked(folder))
    bare = median(RUNS, lambda: _parsed(files))
    yield Figure(f"mvd validate, {APPS:,} services, {HOSTS} hosts: CPU", took.cpu, "s", PARSED, bare.cpu, "about 1 s")


def _checked(folder: Path) -> None:
    assert not review(FolderTree(folder)).problems


def _parsed(files: Mapping[str, str]) -> None:
    for path, text in files.items():
        if path.endswith(".yaml"):
            yaml.load(text, yaml.CSafeLoader)


def _of_one_host(folder: Path) -> Iterator[Figure]:
    files = fleet(APPS, OF_AN_APP, APPS, APPS)
    repository = _repository(folder, files)
    source = Source(str(repository.path), "main", folder / "mirror")
    tip = source.fetch()
    cache: Cache = {}
    own = {path: text for path, text in files.items() if path.startswith("apps/app-0007/")}
    bare = median(RUNS, lambda: _parsed(own))
    what = f"a host of a fleet of {APPS * OF_AN_APP:,} services finds its {OF_AN_APP}"
    for how, known in (("with nothing remembered", None), ("at the next pass", cache)):
        _found(source, tip, cache)
        took = median(RUNS, lambda: _found(source, tip, known))  # noqa: B023
        yield Figure(f"{what}, {how}: CPU", took.cpu * 1000, "ms", "parse the YAML of these", bare.cpu * 1000)


def _found(source: Source, tip: Revision, cache: Cache | None) -> None:
    tree = source.tree(tip)
    [app], broken = load(tree, read_fleet(tree).host("host-7"), cache)
    assert len(app.services) == OF_AN_APP
    assert not broken


def _of_commits(folder: Path) -> Iterator[Figure]:
    repository = _repository(folder, fleet(APPS // ROLES, 1, 1, 1))
    source = Source(str(repository.path), "main", folder / "mirror")
    known = source.fetch()
    cache: Cache = {}
    commit_changes(source, "host-0", cache, None, known)
    alone, took = [], []
    bare = folder / "bare.git"
    git("clone", "--quiet", "--bare", str(repository.path), str(bare), at=folder)
    for n in range(PUSHES):
        repository.commit({"apps/app-0001/environment": f"SETTING={n}\n"}, f"Change {n}")
        began = time.perf_counter()
        git("fetch", "--quiet", str(repository.path), "+main:main", at=bare)
        alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        tip = source.fetch(expected=True)
        assert commit_changes(source, "host-0", cache, known, tip)
        took.append(time.perf_counter() - began)
        known = tip
    pushed, fetched = sorted(took)[PUSHES // 2], sorted(alone)[PUSHES // 2]
    yield Figure("a push is fetched, and what it changes is known", pushed * 1000, "ms", FETCHED, fetched * 1000)
    for n in range(BURST):
        repository.commit({f"apps/app-{n % (APPS // ROLES):04}/environment": f"SETTING=burst {n}\n"}, f"Burst {n}")
    spent = _cpu_of(lambda: commit_changes(source, "host-0", cache, known, source.fetch(expected=True)))
    yield Figure(f"what a burst of {BURST} commits changes is known: CPU, with git's", spent, "s", target="< 1 s")


def _cpu_of(do: Callable[[], object]) -> float:
    """Seconds of CPU that it takes here, and in the children that end meanwhile."""
    before = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    do()
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) - before


def _repository(folder: Path, files: Mapping[str, str]) -> Repository:
    repository = Repository("acme/config", folder / "config.git", (folder / "config.git").as_uri())
    git("init", "--quiet", "--bare", "--initial-branch=main", str(repository.path), at=folder)
    repository.commit(files, "Begin")
    return repository
