"""JSON Schemas of all that people write, for editors and for checks without mvd.  Pure.

They are made of the tables that the readers use, so an editor shows the sentences of the manual, and completes and
refuses what `mvd validate` does.  What depends on several keys or files at once, only `mvd validate` tells.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gitops_mvd.config.readers import FILLED, either
from gitops_mvd.config.settings import SETTINGS_SECTION
from gitops_mvd.config.tables import Schema, Table, mapping_schema, or_empty
from gitops_mvd.manifest import extensions
from gitops_mvd.manifest.blank import with_blanks
from gitops_mvd.manifest.compose import SERVICE
from gitops_mvd.manifest.composition import INCLUDE, TOP
from gitops_mvd.manifest.fleet import FLEET
from gitops_mvd.manifest.kong_entities import GATEWAY
from gitops_mvd.manifest.network import NETWORK
from gitops_mvd.manifest.storage import CONFIG, SECRET, VOLUME

_DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest that yaml-language-server knows all of
_SOURCE = (
    "The second paragraph of a description is from the Compose Specification, "
    "https://github.com/compose-spec/compose-spec, Apache License 2.0."
)
_VARIABLE = r"\$"


def schema(name: str) -> Schema:
    """The JSON Schema `name`, one of SCHEMA_NAMES."""
    title, make = _SCHEMAS[name]
    return {"$schema": _DRAFT, "title": title, **make()}


def merged(ours: Schema, published: Schema) -> Schema:
    """The schema `ours` with the descriptions of a `published` one behind its own.

    Raises ValueError for a key of the published schema that ours neither supports nor refuses: `services.build.x`.
    """
    return {"$comment": _SOURCE, **_merged(ours, [published], published, "")}


def _compose() -> Schema:
    """A Compose file: the tables of its sections in the place of its top level's "anything"."""
    top = mapping_schema(TOP)
    sections = {
        "services": or_empty(mapping_schema(SERVICE)),
        "networks": or_empty(mapping_schema(NETWORK)),
        "volumes": or_empty(mapping_schema(VOLUME)),
        "configs": or_empty(mapping_schema(CONFIG)),
        "secrets": or_empty(mapping_schema(SECRET)),
    }
    shapes = {name: {"type": ["object", "null"], "additionalProperties": each} for name, each in sections.items()}
    shapes["include"] = {"type": ["array", "null"], "items": either(FILLED, mapping_schema(INCLUDE, ("path",)))}
    shapes["x-mvd"] = or_empty(extensions.read_x_mvd_of_app.schema)
    for name, shape in shapes.items():
        top["properties"][name] = {**top["properties"][name], **shape}
    found: Schema = _with_variables(with_blanks(top))
    return found


def _of(table: Table, *required: str) -> Callable[[], Schema]:
    return lambda: mapping_schema(table, required)


_SCHEMAS: Mapping[str, tuple[str, Callable[[], Schema]]] = {
    "config": ("The settings of a server: /etc/gitops-mvd/config.yaml", lambda: SETTINGS_SECTION.schema),
    "fleet": ("The hosts: fleet.yaml", _of(FLEET, "hosts")),
    "compose": ("An app: apps/<app>/compose.yaml", _compose),
    "kong": ("Entities of Kong: kong/*.yaml", _of(GATEWAY)),
    "x-mvd": ("x-mvd of a service in a compose.yaml", lambda: _with_variables(extensions.read_x_mvd.schema)),
    "x-kong": ("x-kong of a service in a compose.yaml", lambda: _with_variables(extensions.read_x_kong.schema)),
}
SCHEMA_NAMES = tuple(_SCHEMAS)


def _with_variables(value: Any) -> Any:
    """The schema of what `value` describes with `$VARIABLE` in any string."""
    match value:
        case {"enum": list(choices), **rest}:
            return {**_with_variables(rest), "anyOf": [{"enum": choices}, {"type": "string", "pattern": _VARIABLE}]}
        case {"pattern": str() as pattern, **rest}:
            return {**_with_variables(rest), "pattern": f"{pattern}|{_VARIABLE}"}
        case dict():
            return {name: _with_variables(below) for name, below in value.items()}
        case list():
            return [_with_variables(below) for below in value]
    return value


def _merged(ours: Schema, theirs: Sequence[Schema], published: Schema, path: str) -> Schema:
    """`ours` and what `theirs`, parts of `published`, say of the same value, which is at `path`."""
    theirs = [part for node in theirs for part in _parts(node, published)]
    found = dict(ours)
    if "properties" in ours:
        known: dict[str, list[Schema]] = {}
        for part in theirs:
            for name, node in part.get("properties", {}).items():
                known.setdefault(name, []).append(node)
        if unknown := known.keys() - ours["properties"].keys():
            raise ValueError(f"neither supported nor refused: {', '.join(path + name for name in sorted(unknown))}")
        found["properties"] = {
            name: _merged(
                _described(below, known.get(name, ()), published), known.get(name, ()), published, f"{path}{name}."
            )
            for name, below in ours["properties"].items()
        }
    for word, inner in (("items", ("items",)), ("additionalProperties", ("additionalProperties", "patternProperties"))):
        if isinstance(ours.get(word), Mapping):
            nodes = [node for part in theirs for name in inner for node in _inner(name, part.get(name))]
            found[word] = _merged(ours[word], nodes, published, path)
    if "anyOf" in ours:
        found["anyOf"] = [_merged(choice, theirs, published, path) for choice in ours["anyOf"]]
    return found


def _inner(word: str, value: object) -> Iterable[Schema]:
    """The schemas of the inner values of a mapping or list."""
    if isinstance(value, dict):
        return value.values() if word == "patternProperties" else [value]
    return []


def _parts(node: Schema, published: Schema) -> Iterator[Schema]:
    """A part of the published schema, its references and alternatives followed."""
    yield node
    if "$ref" in node:
        _, *names = node["$ref"].split("/")
        yield from _parts(functools.reduce(operator.getitem, names, published), published)
    for word in ("oneOf", "anyOf", "allOf"):
        for choice in node.get(word, ()):
            yield from _parts(choice, published)


def _described(ours: Schema, theirs: Iterable[Schema], published: Schema) -> Schema:
    """`ours` with the first description of `theirs` behind its own."""
    texts = (part["description"] for node in theirs for part in _parts(node, published) if "description" in part)
    told = [text for text in (ours.get("description"), next(texts, "")) if text]
    return {**ours, "description": "\n\n".join(told)} if told else ours
