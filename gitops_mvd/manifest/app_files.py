"""The Compose files in the folder of an app: the one that is read, its overrides, and those for laptops.  Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from gitops_mvd.config.tables import did_you_mean
from gitops_mvd.core.model import HostFacts
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.asked import override_names
from gitops_mvd.manifest.project import APPS

COMPOSE = "compose.yaml"
MAIN = (COMPOSE, "compose.yml", "docker-compose.yml", "docker-compose.yaml")  # the first one counts, as with Compose
LAPTOP = tuple(f"{name}.override.{suffix}" for name in ("compose", "docker-compose") for suffix in ("yml", "yaml"))
_COMPOSE_LIKE = re.compile(r"(docker-)?compose(\..*)?\.ya?ml", re.IGNORECASE)


def is_compose_file(name: str) -> bool:
    """Is that the name of a Compose file, or like one?"""
    return _COMPOSE_LIKE.fullmatch(name) is not None


def compose_files(tree: Tree, app: str) -> list[str]:
    """The files of an app's folder that are, or look like, Compose files."""
    return [file for file in tree.names(f"{APPS}/{app}") if is_compose_file(file)]


def main_file(files: Collection[str]) -> str:
    """The file of an app that is read first, "" if there is none."""
    return next((name for name in MAIN if name in files), "")


def remarks(tree: Tree, app: str, files: Collection[str]) -> Iterator[tuple[str, str]]:
    """The files that `docker compose` reads, or that say the same twice, each with a word on it."""
    main = main_file(files)
    for file in sorted(files):
        if file in LAPTOP:
            yield file, "is not read on a server: it is for `docker compose` on a laptop"
        elif file in MAIN and file != main and _same(tree, f"{APPS}/{app}/{file}", f"{APPS}/{app}/{main}"):
            yield file, f"is not read, because {main} is beside it, with the same content: remove one"


def unread(tree: Tree, app: str, files: Collection[str], hosts: Iterable[HostFacts]) -> Iterator[tuple[str, str]]:
    """The files that are read by no host, each with what is wrong with it."""
    main = main_file(files)
    known = {name for facts in hosts for name in override_names(facts)}
    told = {file for file, _ in remarks(tree, app, files)}
    for file in sorted(files):
        if file == main or file in known or file in told:
            continue
        if file in MAIN:
            yield file, f"is not read, because {main} is beside it: remove one"
        else:
            hint = did_you_mean(file, sorted(known))
            yield file, f"no host reads it: an override is named compose.<label>-<value>.yaml{hint}"


def _same(tree: Tree, one: str, other: str) -> bool:
    try:
        return tree.read(one) == tree.read(other)
    except FileNotFoundError:  # one of them is a link
        return False
