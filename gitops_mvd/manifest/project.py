"""The top level of a Compose file, as the services see it: networks, volumes, configs and secrets by name.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from gitops_mvd.config.tables import Place, Reader, Table, fields
from gitops_mvd.core.compose import Network, Volume
from gitops_mvd.core.model import digest
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.composition import inside, read_file
from gitops_mvd.manifest.interpolate import Variables
from gitops_mvd.manifest.network import read_network
from gitops_mvd.manifest.storage import CONFIG, SECRET, read_volume
from gitops_mvd.manifest.values import NetworkKeys, VolumeKeys

Options = TypeVar("Options", NetworkKeys, VolumeKeys)

APPS = "apps"  # the folder of the repository with a folder for each app
RESOURCE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Project:
    """What the services of an app share.

    `networks` and `volumes` map the name in the file to the real name on the host and the options; `configs` and
    `secrets` map it to the content.  `default_network`: do services that name no network join the one called `default`?
    """

    app: str
    tree: Tree
    variables: Variables
    networks: Mapping[str, tuple[str, Network]]
    volumes: Mapping[str, tuple[str, Volume]]
    configs: Mapping[str, str]
    secrets: Mapping[str, str]
    default_network: bool


def read_project(app: str, tree: Tree, variables: Variables, sections: Mapping[str, Place]) -> Project:
    """The top level in normal form; mistakes are reported, and a wrong entry stays as a name for services."""
    networks = {
        name: _named(app, name, options, f"mvd-{app}-{name}-{digest(options)[:8]}")
        for name, options in _section(sections, "networks", read_network).items()
    }
    for name, (real, _) in networks.items():
        if real in ("bridge", "host", "none"):
            sections["networks"].entries()[name].report(f"is the engine's own network {real}: use `network_mode`")
    several = "services" in sections and len(sections["services"].attempt(Place.entries) or ()) > 1
    default_network = several or bool(networks)
    networks.setdefault("default", (f"mvd-{app}-default-{digest({})[:8]}", {}))
    volumes = {
        name: _named(app, name, options, f"{app}_{name}")
        for name, options in _section(sections, "volumes", read_volume).items()
    }
    configs, secrets = (
        {name: at.attempt(_content, table, tree, variables) or "" for name, at in _entries(sections, section)}
        for section, table in (("configs", CONFIG), ("secrets", SECRET))
    )
    return Project(app, tree, variables, networks, volumes, configs, secrets, default_network)


def _entries(sections: Mapping[str, Place], section: str) -> list[tuple[str, Place]]:
    entries = sections[section].attempt(Place.entries) if section in sections else None
    for name, at in (entries or {}).items():
        if not RESOURCE_NAME.fullmatch(name):
            at.report("is not a valid name: use letters, digits, `_`, `.` and `-`")
    return list((entries or {}).items())


def _section(sections: Mapping[str, Place], section: str, read: Reader[Options]) -> dict[str, Options]:
    """The options of each network, or each volume, by its name in the file."""
    found: dict[str, Options] = {}
    for name, at in _entries(sections, section):
        options = None if at.empty else at.attempt(read)
        found[name] = options or {}
        if options and options.get("external") and options.keys() - {"external", "name"}:
            at.report("is external: remove all keys but `external` and `name`")
        if options and not RESOURCE_NAME.fullmatch(options.get("name", "x")):
            at.report(f"has the invalid name {options['name']!r}: use letters, digits, `_`, `.` and `-`")
    return found


def _named(app: str, name: str, options: Options, real: str) -> tuple[str, Options]:
    """The real name of a network or volume, and its other options."""
    if options.get("external"):
        return options.get("name", name), {"external": True}
    rest = options.copy()
    rest.pop("name", None)
    rest.pop("external", None)
    return options.get("name", real), rest


def _content(place: Place, table: Table, tree: Tree, variables: Mapping[str, str]) -> str:
    values: Mapping[str, str] = fields(place, table)
    sources = [name for name in ("file", "environment", "content") if name in values]
    if len(sources) != 1:
        refused = {"external", "file", "environment", "content"} & place.entries().keys()
        if not refused or sources:
            place.report("must have one of `file`, `environment`" + (", `content`" if "content" in table else ""))
        return ""
    if sources == ["environment"]:
        name = values["environment"]
        if name not in variables:
            place.fail(f"the variable {name} is not set: give it a value in fleet.yaml or .env", by_host=True)
        return variables[name]
    if sources == ["content"]:
        return values["content"]
    at = place.entries()["file"]
    return read_file(at, tree, inside(at, values["file"])).decode("utf-8", "surrogateescape")
