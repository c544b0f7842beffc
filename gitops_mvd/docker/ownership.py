"""Whose a container is, by its name and its labels: every room asks here.  Pure.

Labels alone do not make a container managed: an image that was made of a managed container (`docker commit`) hands them
on to whatever is run from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence

from gitops_mvd.docker.answers import label
from gitops_mvd.docker.types import ListedContainer

UNFINISHED = ".new"  # ends the name of a container that is not on all of its networks yet
_NUMBER = re.compile(r"(?:-[0-9]+)?(?:\.new)?")


def managed(listing: Iterable[ListedContainer]) -> dict[str, ListedContainer]:
    """The containers that gitops-mvd made, by name; one that is being removed has no name left."""
    return {name_of(it): it for it in listing if it["Names"] and _has_its_name(it)}


def renamed(listing: Iterable[ListedContainer], units: Callable[[], Collection[str]]) -> dict[str, ListedContainer]:
    """The managed containers that somebody gave another name, by the name that they should have.

    A container counts as one only if an instance has a unit, and no container of its name.  `units` is asked for the
    names of the instances that have one, and only if there may be such a container.
    """
    listing = list(listing)
    if not (others := strangers(listing)):
        return {}
    without = sorted(set(units()) - managed(listing).keys(), key=lambda name: (len(name), name))
    found: dict[str, ListedContainer] = {}
    for container in sorted(others, key=lambda it: it["Created"]):
        fitting = (name for name in without if name not in found and _is_instance(name, container))
        if name := next(fitting, ""):
            found[name] = container
    return found


def by_own_name(listing: Sequence[ListedContainer], units: Callable[[], Collection[str]]) -> dict[str, ListedContainer]:
    """The managed containers by the name that they should have, also those that somebody gave another one."""
    return {**renamed(listing, units), **managed(listing)}


def strangers(listing: Iterable[ListedContainer]) -> list[ListedContainer]:
    """The containers that have labels of gitops-mvd, and not the name that goes with them."""
    return [it for it in listing if it["Names"] and not _has_its_name(it)]


def name_of(container: ListedContainer) -> str:
    return container["Names"][0].lstrip("/")


def _has_its_name(container: ListedContainer) -> bool:
    return _is_instance(name_of(container), container)


def _is_instance(name: str, container: ListedContainer) -> bool:
    """May an instance of that name run in this container, as `Service.instances` names them?"""
    app, service, digest = (label(container, key) for key in ("app", "service", "digest"))
    first = f"mvd-{app}-{service}-{digest[:8]}"
    return bool(app and service and digest and name.startswith(first) and _NUMBER.fullmatch(name[len(first) :]))
