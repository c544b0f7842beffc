"""What Kong fills in by itself, by its own schemas: a field that has its default says nothing.  Pure but for asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gitops_mvd.core.model import Json
from gitops_mvd.kong.entities import OUTSIDE

Fields = dict[str, dict[str, Any]]

# What goes for a Kong that shows no schema of a type.
DEFAULTS: Mapping[str, Json] = {
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
    """The schemas of one Kong, each asked for once; `ask` takes a type, or `plugins/NAME`."""

    def __init__(self, ask: Callable[[str], Json]) -> None:
        self._ask = ask
        self._known: dict[str, Fields] = {}

    def lean(self, type: str, fields: Json) -> dict[str, Any]:
        """An entity without what Kong fills in, and without its id and its times."""
        specs = self.of(type, str(fields.get("name") or ""))
        told = {key: value for key, value in fields.items() if key not in OUTSIDE - {"tags"}}
        return _lean(specs, told, whole=True)

    def of(self, type: str, plugin: str = "") -> Fields:
        specs = self._schema(type) or {name: {"default": value} for name, value in DEFAULTS.get(type, {}).items()}
        if type == "plugins" and plugin:
            own = self._schema(f"plugins/{plugin}")
            specs = {**specs, **{name: own[name] for name in ("config", "protocols") if name in own}}
        return specs

    def _schema(self, path: str) -> Fields:
        if path not in self._known:
            self._known[path] = fields_of(self._ask(path))
        return self._known[path]


def fields_of(spec: Json) -> Fields:
    """The fields of a record: Kong shows them as a list of mappings of one entry each."""
    items = spec.get("fields")
    items = items if isinstance(items, list) else []
    return {name: spec for item in items for name, spec in item.items() if isinstance(spec, dict)}


def _lean(specs: Fields, value: Json, whole: bool = False) -> dict[str, Any]:
    lean: dict[str, Any] = {}
    for key, below in value.items():
        spec = specs.get(key)
        if spec is None:
            # Kong shows the short forms of before beside the fields that they stand for, and refuses all else.
            if (whole or not specs) and below is not None:
                lean[key] = below
            continue
        said = _said(spec, below)
        if said is not None or (below is None and spec.get("default") is not None and not whole):
            lean[key] = said
    return lean


def _said(spec: Mapping[str, Any], value: Any) -> Any:
    """What has to be said for a field to get this value; None for nothing."""
    inner = fields_of(spec)
    if isinstance(value, Mapping) and spec.get("type") == "record" and inner:
        return _lean(inner, value) or None
    default = spec.get("default")
    if value is None or (value in ({}, []) and default in (None, {}, [])) or _same(spec, value, default):
        return None
    element = spec.get("elements")
    if isinstance(value, list) and isinstance(element, Mapping) and element.get("type") == "record":
        within = fields_of(element)
        return [_lean(within, item) if isinstance(item, Mapping) and within else item for item in value]
    return value


def _same(spec: Mapping[str, Any], value: Any, default: Any) -> bool:
    if spec.get("type") == "set" and isinstance(value, list) and isinstance(default, list):
        return sorted(map(str, value)) == sorted(map(str, default))
    return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)
