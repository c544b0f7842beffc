"""The tables of Kong's entities and plugins: what a record may hold, and what it holds when nothing is said."""

from __future__ import annotations

import copy
import functools
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import md5
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.lab.kong_standin.faults import schema_violation
from tests.lab.kong_standin.rules import Record, Spec, cross_check, violations


@dataclass(frozen=True)
class Kind:
    """One kind of entity: its table, and the words by which the Admin API knows it."""

    name: str
    fields: dict[str, Spec]
    key: str = ""
    unique: tuple[str, ...] = ()
    api: str = ""
    nested: str = ""
    checks: tuple[Spec, ...] = ()
    variants: Mapping[str, Any] = field(default_factory=dict)
    ttl: bool = False
    top: bool = True

    def references(self) -> dict[str, str]:
        """Foreign field → the kind that it points to."""
        return {name: spec["reference"] for name, spec in self.fields.items() if spec["type"] == "foreign"}


def _table(name: str) -> dict[str, Any]:
    text = files("tests.lab.kong_standin").joinpath(name).read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    del table["_shared"]
    return table


def _kind(name: str, table: Mapping[str, Any]) -> Kind:
    more: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    words: dict[str, Any] = {"name": name, "api": name, "nested": more.get("api", name)}
    return Kind(**{**words, **more})


KINDS: dict[str, Kind] = {name: _kind(name, table) for name, table in _table("entities.yaml").items()}
PLUGINS: dict[str, Any] = _table("plugins.yaml")
HTTP_PROTOCOLS = ["grpc", "grpcs", "http", "https"]


def complete(kind: Kind, given: Mapping[str, Any]) -> Record:
    """A whole record from what was given: defaults filled in, everything checked; raises Fault with every violation."""
    record = _spell_out(kind, given)
    if kind.name == "plugins" and isinstance(record.get("name"), str) and record["name"] not in PLUGINS:
        sentence = f"plugin '{record['name']}' not enabled; add it to the 'plugins' configuration property"
        raise schema_violation({"name": sentence})
    fields, checks = _fields_of(kind, record)
    whole = _fill(fields, record)
    errors = violations(fields, whole)
    for check in checks:
        cross_check(check, whole, errors)
    if errors:
        raise schema_violation(errors)
    if kind.name == "plugins":
        _mirror_flat_names(whole)
    return {name: whole[name] for name in sorted(whole, key=_place)}


@functools.cache
def _place(name: str) -> str:
    """Kong's fields come in the order of a Lua table, which is none."""
    return md5(name.encode()).hexdigest()


def shown(kind: Kind, plugin: str = "") -> Record:
    """The schema itself, as GET /schemas shows it."""
    if plugin:
        table = PLUGINS[plugin]
        protocols = table.get("protocols", HTTP_PROTOCOLS)
        element = {"type": "string", "required": True, "one_of": protocols, "len_min": 1}
        fields: list[Record] = [
            {scope: {"type": "foreign", "reference": f"{scope}s", "eq": None}} for scope in table.get("not_for", ())
        ]
        fields.append({"protocols": {"type": "set", "required": True, "default": protocols, "elements": element}})
        config = _shown_fields(table["config"] or {})
        fields.append({"config": {"type": "record", "required": True, "fields": config}})
        return {"fields": fields, "entity_checks": list(table.get("checks", ()))}
    return {"fields": _shown_fields(kind.fields), "entity_checks": list(kind.checks)}


def _shown_fields(fields: Mapping[str, Spec]) -> list[Record]:
    return [{name: _shown_spec(spec)} for name, spec in fields.items()]


def _shown_spec(spec: Spec) -> Record:
    known = {key: value for key, value in spec.items() if key not in ("check", "apart")}
    if "fields" in known:
        known["fields"] = _shown_fields(known["fields"])
    if "elements" in known:
        known["elements"] = _shown_spec(known["elements"])
    return known


def _spell_out(kind: Kind, given: Mapping[str, Any]) -> Record:
    """Short forms written out: a service's `url`, an upstream's `hash_on`, and flat names in a plugin's config."""
    record = dict(given)
    if kind.name == "services" and isinstance(url := record.pop("url", None), str):
        parts = urlsplit(url)
        scheme = parts.scheme or "http"
        port = parts.port or (443 if scheme == "https" else 80)
        record |= {"protocol": scheme, "host": parts.hostname, "port": port, "path": parts.path or None}
    if kind.name == "upstreams":
        if record.get("algorithm") in ("least-connections", "latency"):
            record["hash_on"] = "none"
        elif record.get("hash_on", "none") not in ("none", None):
            record["algorithm"] = "consistent-hashing"
    config = record.get("config")
    flat = _flat_of(record)
    if flat and isinstance(config, dict):
        inner = dict(config.get(flat) or {})
        names = {f"{flat}_{name}": name for name in _config_fields(record)[flat]["fields"]}
        inner |= {names[key]: value for key, value in config.items() if key in names and names[key] not in inner}
        record["config"] = {key: value for key, value in config.items() if key not in names} | {flat: inner}
    return record


def _mirror_flat_names(record: Record) -> None:
    config, flat = record["config"], _flat_of(record)
    if flat:
        config |= {f"{flat}_{name}": value for name, value in config[flat].items()}


def _flat_of(record: Mapping[str, Any]) -> str:
    return str(PLUGINS.get(record.get("name", ""), {}).get("flat", ""))


def _config_fields(record: Mapping[str, Any]) -> dict[str, Spec]:
    fields: dict[str, Spec] = PLUGINS[record["name"]]["config"]
    return fields


def _fields_of(kind: Kind, record: Mapping[str, Any]) -> tuple[dict[str, Spec], list[Spec]]:
    """The fields and checks that hold for this record: a plugin's by its name, a route's by its protocols."""
    fields, checks = dict(kind.fields), list(kind.checks)
    if kind.name == "plugins" and isinstance(record.get("name"), str):
        table = PLUGINS[record["name"]]
        if table["config"] is None:
            fields["config"] = {"type": "map", "keys": {"type": "string"}, "values": {"type": "any"}, "default": {}}
        else:
            fields["config"] = {"type": "record", "required": True, "fields": table["config"]}
        protocols = table.get("protocols", HTTP_PROTOCOLS)
        fields["protocols"] = {**fields["protocols"], "default": protocols}
        for scope in table.get("not_for", ()):
            fields[scope] = {**fields[scope], "eq": None}
        checks += table.get("checks", ())
    for name, variants in kind.variants.items():
        chosen = record.get(name) or fields[name]["default"]
        for variant in variants:
            if isinstance(chosen, list) and chosen[0] in variant["when"]:
                fields |= {other: {**fields[other], **spec} for other, spec in variant["fields"].items()}
                checks += variant["checks"]
    return fields, checks


def _fill(fields: Mapping[str, Spec], given: Mapping[str, Any]) -> Record:
    """Every field of the table, and whatever else was given."""
    return {**given, **{name: _filled(spec, given.get(name)) for name, spec in fields.items()}}


def _filled(spec: Spec, value: Any) -> Any:
    if value is None:
        value = copy.deepcopy(spec.get("default"))
    if value is None and spec.get("auto") and not spec.get("timestamp"):
        return str(uuid.uuid4()) if spec.get("uuid") else secrets.token_urlsafe(24)
    if spec["type"] == "record" and "fields" in spec:
        if value is None and spec.get("required", True):
            value = {}
        return _fill(spec["fields"], value) if isinstance(value, dict) else value
    if spec["type"] == "set" and isinstance(value, list):
        value = [each for position, each in enumerate(value) if each not in value[:position]]
    if spec["type"] == "map" and isinstance(value, dict) and spec["values"]["type"] == "record":
        return {key: _filled(spec["values"], each) for key, each in value.items()}
    if isinstance(value, list) and spec.get("elements", {}).get("type") == "record":
        return [_filled(spec["elements"], each) for each in value]
    return value
