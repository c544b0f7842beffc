"""What both read of an app, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gitops_mvd.config.yamltree import mistakes
from gitops_mvd.core.model import HostFacts, Problem
from gitops_mvd.manifest.asked import Asked as AskedFacts
from gitops_mvd.manifest.reading import read_app
from tests.oracle.client import Asked
from tests.oracle.normal import Form, of_app
from tests.unit.memory_tree import MemoryTree


class Ours(NamedTuple):
    """What gitops-mvd reads of an app: its form, or the mistakes; and the notes."""

    form: Form
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def ours(asked: Asked, strict: bool = False) -> Ours:
    """What gitops-mvd reads, on a host with the labels of the overrides; unset variables are empty unless `strict`."""
    names = [path.rpartition("/")[2].removesuffix(".yaml").split(".")[1:] for path in asked.compose[1:]]
    labels = {label: value for label, value in (name[0].split("-", 1) for name in names)}
    variables = {"COMPOSE_PROFILES": "*", **asked.variables}
    facts = HostFacts("here", labels, variables, frozenset() if strict else frozenset({asked.name}))
    reading = read_app(MemoryTree(asked.files), asked.name, AskedFacts(facts), {})
    problems = tuple(sorted({it.problem for it in mistakes(reading.found)}))
    notes = tuple(it.problem for it in reading.found if it.note)
    return Ours(of_app(reading.app, asked) if not problems else {}, problems, notes)


def differences(theirs: Form, read: Ours) -> Iterator[tuple[str, Any, Any]]:
    """The values that differ, each with its path, compose-go's and ours."""
    for name, mine in read.form["services"].items():
        yield from _between(f"services.{name}", _on_host(theirs.get("services", {}).get(name, {}), read), mine)
    for section in ("networks", "volumes"):
        for name, mine in read.form[section].items():
            yield from _between(f"{section}.{name}", theirs.get(section, {}).get(name, {}), mine)


def _on_host(service: Form, read: Ours) -> Form:
    """A service without its dependencies on those that do not run on this host."""
    kept = {name: it for name, it in service.get("depends_on", {}).items() if name in read.form["services"]}
    rest = {key: it for key, it in service.items() if key != "depends_on"}
    return {**rest, "depends_on": kept} if kept else rest


def _between(path: str, theirs: Form, mine: Form) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(theirs.keys() | mine.keys()):
        if theirs.get(key) != mine.get(key):
            yield f"{path}.{key}", theirs.get(key), mine.get(key)
