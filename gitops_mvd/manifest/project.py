"""The top level of a Compose file, as the services see it: networks, volumes, configs and secrets by name.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from gitops_mvd.config.tables import Key, Place, Reader, Table, Unsupported, fields
from gitops_mvd.core.compose import Network, Volume
from gitops_mvd.core.model import default_network, digest
from gitops_mvd.core.ports import Tree
from gitops_mvd.core.secrets import BEGINS
from gitops_mvd.core.secrets import misnamed as misnamed_secret
from gitops_mvd.manifest.composition import inside, read_content
from gitops_mvd.manifest.interpolate import Variables
from gitops_mvd.manifest.names import misnamed
from gitops_mvd.manifest.network import read_network
from gitops_mvd.manifest.references import refuse_references
from gitops_mvd.manifest.sealed import is_sealed, sealed_name
from gitops_mvd.manifest.storage import CONFIG, SECRET, read_volume
from gitops_mvd.manifest.values import NetworkKeys, VolumeKeys

Options = TypeVar("Options", NetworkKeys, VolumeKeys)

APPS = "apps"  # the folder of the repository with a folder for each app
RESOURCE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
LONGEST_NAME = 128
_SOURCES = ("file", "environment", "content", "external")  # of a config or secret
_MADE_OF = "letters, digits, `_`, `.` and `-`"


@dataclass(frozen=True)
class Content:
    """A config or secret: its `text` or, if it is a secret of the host or in an encrypted file, the name of that.

    `sealed` has the encrypted file, by its path.
    """

    text: str = field(default="", repr=False)
    secret: str = ""
    sealed: Mapping[str, str] = field(default_factory=dict, repr=False)


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
    configs: Mapping[str, Content]
    secrets: Mapping[str, Content]
    default_network: bool


def read_project(app: str, tree: Tree, variables: Variables, sections: Mapping[str, Place]) -> Project:
    """The top level in normal form; mistakes are reported, and a wrong entry stays as a name for services."""
    refuse_references({section: sections[section] for section in ("networks", "volumes") if section in sections})
    networks = {
        name: _named(app, name, options, f"mvd-{app}-{name}-{digest(options)[:8]}")
        for name, options in _section(sections, "networks", read_network).items()
    }
    for name, (real, _) in networks.items():
        if real in ("bridge", "host", "none"):
            sections["networks"].entries()[name].report(f"is the engine's own network {real}: use `network_mode`")
    several = "services" in sections and len(sections["services"].attempt(Place.entries) or ()) > 1
    joins_default = several or bool(networks)
    networks.setdefault("default", (default_network(app), {}))
    volumes = {
        name: _named(app, name, options, f"{app}_{name}")
        for name, options in _section(sections, "volumes", read_volume).items()
    }
    configs, secrets = (
        {
            name: at.attempt(_content, name, table, tree, variables) or Content()
            for name, at in _entries(sections, section)
        }
        for section, table in (("configs", CONFIG), ("secrets", SECRET))
    )
    made = cast(Mapping[str, tuple[str, Network]], networks), cast(Mapping[str, tuple[str, Volume]], volumes)
    return Project(app, tree, variables, *made, configs, secrets, joins_default)


def _entries(sections: Mapping[str, Place], section: str) -> list[tuple[str, Place]]:
    entries = sections[section].attempt(Place.entries) if section in sections else None
    for name, at in (entries or {}).items():
        if why := misnamed(name, RESOURCE_NAME, _MADE_OF, LONGEST_NAME):
            at.report(f"is not a valid name: {why}")
    return list((entries or {}).items())


def _section(sections: Mapping[str, Place], section: str, read: Reader[Options]) -> dict[str, Options]:
    """The options of each network, or each volume, by its name in the file."""
    found: dict[str, Options] = {}
    for name, at in _entries(sections, section):
        options = None if at.empty else at.attempt(read)
        found[name] = options or {}
        known = options.get("external") if options else None
        if options and known and options.keys() - {"external", "name"}:
            at.report("is external: remove all keys but `external` and `name`")
        if options and isinstance(known, str) and options.get("name", known) != known:
            at.report(f"has two names, {options['name']} and {known}: keep `name`, and write `external: true`")
        name = (options or {}).get("name") or (known if isinstance(known, str) else "x")
        if why := misnamed(name, RESOURCE_NAME, _MADE_OF, LONGEST_NAME):
            at.report(f"has the invalid name {name!r}: {why}")
    return found


def _named(app: str, name: str, options: Options, real: str) -> tuple[str, Options]:
    """The real name of a network or volume, and its other options."""
    if known := options.get("external"):
        return options.get("name") or (known if isinstance(known, str) else name), cast(Options, {"external": True})
    rest = options.copy()
    rest.pop("name", None)
    rest.pop("external", None)
    return options.get("name", real), rest


def _content(place: Place, name: str, table: Table, tree: Tree, variables: Mapping[str, str]) -> Content:
    values: Mapping[str, Any] = fields(place, table)
    sources = [source for source in _SOURCES if values.get(source) not in (None, False)]
    if len(sources) != 1:
        is_refused = any(isinstance(table.get(source), Unsupported) for source in place.entries())
        if sources or not is_refused:
            known = [f"`{source}`" for source in _SOURCES if isinstance(table.get(source), Key)]
            place.report(f"must have one of {', '.join(known)}")
        return Content()
    [source] = sources
    match source:
        case "external":
            return Content(secret=_name_of_external(place, name, values))
        case "environment":
            variable = values["environment"]
            if variable not in variables:
                place.fail(f"the variable {variable} is not set: give it a value in fleet.yaml or .env", by_host=True)
            return _plain(place.entries()[source], variables[variable])
        case "content":
            return _plain(place.entries()[source], values["content"])
    at = place.entries()["file"]
    path = inside(at, values["file"])
    data = read_content(at, tree, path)
    text = data.decode("utf-8", "surrogateescape")
    return Content(secret=sealed_name(at, path), sealed={path: text}) if is_sealed(data) else Content(text)


def _plain(place: Place, text: str) -> Content:
    """A text that is mounted as it is."""
    if BEGINS in text:
        place.report(
            "refers to a secret, which is not filled in here: mount it as a file of `secrets:` with `external: true`"
        )
    return Content(text)


def _name_of_external(place: Place, name: str, values: Mapping[str, Any]) -> str:
    """The name on the host of a secret that is not in the repository."""
    known = values["external"]
    if isinstance(known, str) and values.get("name", known) != known:
        place.report(f"has two names, {values['name']} and {known}: keep `name`, and write `external: true`")
    named = values.get("name") or (known if isinstance(known, str) else name)
    if why := misnamed_secret(named):
        place.report(f"is not a name of a secret: {why}")
    return str(named)
