"""Kong's own schemas, and the entities without the defaults that Kong fills in by them.  Pure but for the requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.entities import NOT_COMPARED, Fields

Spec: TypeAlias = Mapping[str, JsonValue]  # what a schema says of one field
Specs: TypeAlias = Mapping[str, Spec]  # by the name of the field

# For a Kong that shows no schema of a type.
DEFAULTS: Mapping[str, Fields] = {
    "services": {
        "protocol": "http",
        "port": 80,
        "retries": 5,
        "connect_timeout": 60000,
        "write_timeout": 60000,
        "read_timeout": 60000,
        "enabled": True,
    },
    "routes": {
        "protocols": ["http", "https"],
        "https_redirect_status_code": 426,
        "strip_path": True,
        "preserve_host": False,
        "request_buffering": True,
        "response_buffering": True,
        "regex_priority": 0,
        "path_handling": "v0",
    },
    "plugins": {"enabled": True, "protocols": ["grpc", "grpcs", "http", "https"]},
    "targets": {"weight": 100},
    "jwt_secrets": {"algorithm": "HS256"},
    "oauth2_credentials": {"client_type": "confidential", "hash_secret": False},
    "upstreams": {
        "algorithm": "round-robin",
        "hash_on": "none",
        "hash_fallback": "none",
        "hash_on_cookie_path": "/",
        "slots": 10000,
        "use_srv_name": False,
    },
}


class Schemas:
    """The schemas of one Kong, each fetched once; `fetch` takes a type, or `plugins/NAME`."""

    def __init__(self, fetch: Callable[[str], Fields]) -> None:
        self._fetch = fetch
        self._known: dict[str, Specs] = {}

    def without_defaults(self, type: str, fields: Fields) -> dict[str, JsonValue]:
        """An entity without what Kong fills in, and without its id and its times."""
        specs = self.of(type, str(fields.get("name") or ""))
        shown = {key: value for key, value in fields.items() if key not in NOT_COMPARED - {"tags"}}
        return _without_defaults(specs, shown, is_entity=True)

    def of(self, type: str, plugin: str = "") -> Specs:
        """What the schema of a type says of each field, or of each field of that plugin."""
        specs: Specs = self._schema(type) or {
            name: {"default": value} for name, value in DEFAULTS.get(type, {}).items()
        }
        if type == "plugins" and plugin:
            own = self._schema(f"plugins/{plugin}")
            specs = {**specs, **{name: own[name] for name in ("config", "protocols") if name in own}}
        return specs

    def _schema(self, path: str) -> Specs:
        if path not in self._known:
            self._known[path] = fields_of(self._fetch(path))
        return self._known[path]


def fields_of(spec: Spec) -> Specs:
    """The fields of a record: Kong shows them as a list of mappings of one entry each."""
    items = spec.get("fields")
    mappings = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return {name: spec for item in mappings for name, spec in item.items() if isinstance(spec, Mapping)}


def _without_defaults(specs: Specs, value: Fields, *, is_entity: bool = False) -> dict[str, JsonValue]:
    lean: dict[str, JsonValue] = {}
    for key, below in value.items():
        spec = specs.get(key)
        if spec is None:
            # Kong shows deprecated short forms beside the fields that replace them, and rejects all else.
            if (is_entity or not specs) and below is not None:
                lean[key] = below
            continue
        needed = _unless_default(spec, below)
        if needed is not None or (below is None and spec.get("default") is not None and not is_entity):
            lean[key] = needed
    return lean


def _unless_default(spec: Spec, value: JsonValue) -> JsonValue:
    """What has to be declared for a field to get this value; None if nothing has to."""
    inner = fields_of(spec)
    if isinstance(value, Mapping) and spec.get("type") == "record" and inner:
        return _without_defaults(inner, value) or None
    default = spec.get("default")
    if value is None or (value in ({}, []) and default in (None, {}, [])) or _is_default(spec, value, default):
        return None
    element = spec.get("elements")
    if isinstance(value, list) and isinstance(element, Mapping) and element.get("type") == "record":
        within = fields_of(element)
        return [_without_defaults(within, item) if isinstance(item, Mapping) and within else item for item in value]
    return value


def _is_default(spec: Spec, value: JsonValue, default: JsonValue) -> bool:
    if spec.get("type") == "set" and isinstance(value, list) and isinstance(default, list):
        return sorted(map(str, value)) == sorted(map(str, default))
    return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)
