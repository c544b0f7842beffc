"""Empty strings that are as if their key was not there, as `platform: ${PLATFORM:-}` may leave one.  Pure.

These are the keys of which Compose makes nothing if they are empty, as it has texts for them that are "" by default.
An empty command, variable, label or option is a value, and an empty number, size or duration a mistake.  So is an empty
`network_mode`, with which Compose joins no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitops_mvd.config.readers import either
from gitops_mvd.config.tables import Schema
from gitops_mvd.config.yamltree import Node

Shape = Mapping[str, Any]
"""What is below a mapping or list: a Shape by key, `*` for every key or item, and None for a text that may be empty."""


def _texts(*names: str) -> Shape:
    return dict.fromkeys(names)


_LIST_OF_TEXTS: Shape = {"*": None}  # or one text

_SERVICE: Shape = {
    **_texts(
        "image", "user", "working_dir", "hostname", "domainname", "mac_address", "ipc", "pid", "uts", "userns_mode"
    ),
    **_texts("cgroup", "cgroup_parent", "runtime", "platform", "stop_signal", "cpuset", "restart"),
    **_texts("pull_policy", "container_name", "isolation"),
    "dns": _LIST_OF_TEXTS,
    "logging": _texts("driver"),
    "deploy": {
        **_texts("mode", "endpoint_mode"),
        "update_config": _texts("order", "failure_action"),
        "rollback_config": _texts("order", "failure_action"),
        "restart_policy": _texts("condition"),
        "resources": {"reservations": {"devices": {"*": _texts("driver")}}},
    },
    "gpus": {"*": _texts("driver")},
    "devices": {"*": _texts("target", "permissions")},
    "ports": {"*": _texts("published", "host_ip", "protocol", "mode", "name", "app_protocol")},
    "volumes": {
        "*": {
            **_texts("source", "consistency"),
            "bind": _texts("propagation", "selinux", "recursive"),
            "volume": _texts("subpath"),
        }
    },
    "networks": {"*": _texts("ipv4_address", "ipv6_address", "mac_address", "interface_name")},
}
SHAPE: Shape = {
    "services": {"*": _SERVICE},
    "networks": {
        "*": {
            "driver": None,
            "ipam": {"driver": None, "config": {"*": _texts("subnet", "ip_range", "gateway")}},
        }
    },
    "volumes": {"*": _texts("driver")},
}


def without_blanks(node: Node, shape: Shape | None = SHAPE) -> Node:
    """The tree with nothing in the place of each empty text that `shape` has."""
    if node.value == "":
        return node._replace(value=None) if shape is None or shape is _LIST_OF_TEXTS else node
    if shape is None:
        return node
    match node.value:
        case dict() as entries:
            found = {
                name: child
                for name, old in entries.items()
                if (name in shape or "*" in shape)
                and (child := without_blanks(old, shape[name] if name in shape else shape["*"])) is not old
            }
            return node._replace(value={**entries, **found}) if found else node
        case list() as items if shape is _LIST_OF_TEXTS:
            filled = [item for item in items if item.value != ""]
            return node._replace(value=filled if filled or not items else None)
        case list() as items if "*" in shape:
            return node._replace(value=[without_blanks(item, shape["*"]) for item in items])
    return node


def with_blanks(schema: Schema, shape: Shape | None = SHAPE) -> Schema:
    """The JSON Schema of what `schema` describes, and of the same with empty texts where `shape` has them."""
    if shape is None:
        if "minLength" in schema:
            return {name: it for name, it in schema.items() if name != "minLength"}
        told = {"description": schema["description"]} if "description" in schema else {}
        return {**told, **either({name: it for name, it in schema.items() if name not in told}, {"const": ""})}
    found = dict(schema)
    if "anyOf" in schema:
        found["anyOf"] = [with_blanks(choice, shape) for choice in schema["anyOf"]]
    if "properties" in schema:
        known = {name: shape.get(name, shape.get("*", {})) for name in schema["properties"]}
        found["properties"] = {name: with_blanks(it, known[name]) for name, it in schema["properties"].items()}
    for word in ("additionalProperties", "items"):
        if isinstance(schema.get(word), Mapping) and "*" in shape:
            found[word] = with_blanks(schema[word], shape["*"])
    return with_blanks(found, None) if shape == _LIST_OF_TEXTS else found
