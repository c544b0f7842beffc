"""Two Compose trees → one, by Compose's own rules.  Pure.

Mappings merge, lists append, all else is replaced; `command`, `entrypoint`, `healthcheck.test` and extensions (`x-...`)
are replaced whole, the items of `ports`, `volumes`, `secrets`, `configs`, `devices` and others that are the same.
`!reset` takes an entry away, `!override` replaces it whole.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from gitops_mvd.config.yamltree import Node, Path, Sink, report
from gitops_mvd.manifest.network import split_port
from gitops_mvd.manifest.storage import split_volume

REPLACED_WHOLE = {("command",), ("entrypoint",), ("healthcheck", "test")}
AS_MAPPING = {("environment",), ("labels",), ("annotations",), ("sysctls",), ("deploy", "labels")}
AS_NAMES = {("networks",), ("depends_on",)}
AS_LIST = {("dns",), ("dns_search",), ("dns_opt",), ("tmpfs",), ("env_file",), ("label_file",)}
AS_LINES = {("extra_hosts",)}
TOP_LABELS = {("networks", "labels"), ("volumes", "labels")}
POOLS = ("networks", "ipam", "config")
_DEPENDENCY = {"condition": "service_started", "required": True}  # what Compose makes of a name alone


def merge(base: Node, over: Node, sink: Sink, path: Path = ()) -> Node:
    """`base` with `over` merged on top; values keep the file and line of their own, mappings those of `base`."""
    key = path[2:] if path[:1] == ("services",) else ()
    if over.tag == "!override" or key in REPLACED_WHOLE or _extension(path):
        return _untagged(over)
    if over.value is None and not over.tag:
        return base
    if key in AS_MAPPING or (path[:1] + path[2:]) in TOP_LABELS:
        return _pairs(_mapping(base), _mapping(over), sink, path)
    if key in AS_LINES:
        base, over = _lines(base), _lines(over)
    elif key in AS_NAMES:
        base, over = _names(base, key), _names(over, key)
    elif key in AS_LIST:
        base, over = _list(base), _list(over)
    match base.value, over.value:
        case dict() as old, dict() as new:
            if key == ("logging",) and _differ(old.get("driver"), new.get("driver")):
                return over
            return _untagged(base)._replace(value=_entries(old, new, sink, path))
        case list() as old, list() as new if (path[:1] + path[2:]) == POOLS:
            return over._replace(value=_pools(old, new, sink, path))
        case list() as old, list() as new:
            return over._replace(value=_items(old, new, ITEM_IDENTITY.get(key, _content)))
        case (dict() | list(), _) | (_, dict() | list()) if (
            key[:1] != ("ulimits",) and base.value is not None and over.value is not None
        ):
            report(sink, path, over.file, over.line, f"has a different type than in {base.file}:{base.line}")
            return base
    return _untagged(over)


def clean(node: Node) -> Node:
    """A tree without the entries that were only there to be `!reset`."""
    match node.value:
        case dict() as entries:
            kept = {name: clean(child) for name, child in entries.items() if child.tag != "!reset"}
            return _untagged(node._replace(value=kept))
        case list() as items:
            return _untagged(node._replace(value=[clean(item) for item in items if item.tag != "!reset"]))
    return _untagged(node)


def _entries(old: dict[str, Node], new: dict[str, Node], sink: Sink, path: Path) -> dict[str, Node]:
    entries = dict(old)
    for name, node in new.items():
        if node.tag == "!reset":
            entries.pop(name, None)
        else:
            entries[name] = merge(old[name], node, sink, (*path, name)) if name in old else node
    return entries


def _pairs(base: Node, over: Node, sink: Sink, path: Path) -> Node:
    """Two mappings of texts, in which a name without a value is over one with a value."""
    match base.value, over.value:
        case dict() as old, dict() as new:
            entries = {**old, **new}
            kept = {name: _untagged(node) for name, node in entries.items() if node.tag != "!reset"}
            return _untagged(base)._replace(value=kept)
    if base.value is not None:
        report(sink, path, over.file, over.line, f"has a different type than in {base.file}:{base.line}")
    return _untagged(over) if base.value is None else base


def _items(old: list[Node], new: list[Node], identity: Callable[[Node], object]) -> list[Node]:
    items = {identity(node): node for node in old}
    for node in new:
        items[identity(node)] = node
    return list(items.values())


def _pools(old: Sequence[Node], new: Sequence[Node], sink: Sink, path: Path) -> list[Node]:
    """The address pools of an override, each over that of the same subnet; Compose leaves out the others."""
    if len(old) > 1 and new:
        message = f"cannot be merged with the pools of {old[0].file}:{old[0].line}: write all, behind `!override`"
        report(sink, path, new[0].file, new[0].line, message)
    known = {_subnet(node): node for node in old}
    return [merge(known[_subnet(node)], node, sink, (*path, 0)) if _subnet(node) in known else node for node in new]


def _subnet(node: Node) -> object:
    return _content(node.value["subnet"]) if isinstance(node.value, dict) and "subnet" in node.value else None


def _untagged(node: Node) -> Node:
    return node._replace(tag="") if node.tag == "!override" else node


def _extension(path: Path) -> bool:
    return bool(path) and str(path[-1]).startswith("x-")


def _differ(old: Node | None, new: Node | None) -> bool:
    return old is not None and new is not None and old.value != new.value


def _mapping(node: Node) -> Node:
    """`[KEY=value]` as `{KEY: value}`."""
    if not isinstance(node.value, list):
        return node
    entries: dict[str, Node] = {}
    for index, item in enumerate(node.value):
        if isinstance(item.value, str):
            name, equals, value = item.value.partition("=")
            entries[name] = item._replace(value=value if equals else None, text="", item=index)
    return node._replace(value=entries)


def _lines(node: Node) -> Node:
    """`{host: address}` as `[host=address]`, in the order that Compose makes of it."""
    if not isinstance(node.value, dict):
        return node
    lines = [
        item._replace(value=f"{name}={item.value}") if isinstance(item.value, str) else item
        for name, child in node.value.items()
        for item in (child.value if isinstance(child.value, list) else [child])
    ]
    return node._replace(value=sorted(lines, key=lambda line: str(line.value)))


def _names(node: Node, key: Path) -> Node:
    """`[name]` as `{name: }`."""
    if not isinstance(node.value, list):
        return node
    named: dict[str, Node] = {}
    for index, item in enumerate(node.value):
        if isinstance(item.value, str):
            options = {name: item._replace(value=it) for name, it in _DEPENDENCY.items()}
            value = options if key == ("depends_on",) else None
            named[item.value] = item._replace(value=value, item=index)
    return node._replace(value=named)


def _list(node: Node) -> Node:
    return node._replace(value=[node]) if isinstance(node.value, str) else node


def _content(node: Node) -> object:
    """A node's value without its place."""
    match node.value:
        case dict() as entries:
            return tuple((name, _content(child)) for name, child in entries.items())
        case list() as items:
            return tuple(_content(item) for item in items)
    return node.value


def _part(node: Node, name: str) -> str:
    """An entry of a mapping as text, "" if there is none."""
    return str(node.value[name].value) if isinstance(node.value, dict) and name in node.value else ""


def _port(node: Node) -> object:
    if isinstance(node.value, dict):
        host_ip, published, target = (_part(node, name) for name in ("host_ip", "published", "target"))
        protocol = _part(node, "protocol") or "tcp"
    else:
        host_ip, published, target, protocol = split_port(str(node.value))
    return "" if host_ip == "0.0.0.0" else host_ip, published, target, protocol


def _volume(node: Node) -> object:
    if isinstance(node.value, dict):
        return posixpath.normpath(_part(node, "target")) if "target" in node.value else _content(node)
    return posixpath.normpath(split_volume(str(node.value))[1])


def _device(node: Node) -> object:
    if isinstance(node.value, dict):
        return _part(node, "target") or _content(node)
    source, _, rest = str(node.value).partition(":")
    return rest.partition(":")[0] or source


def _env_file(node: Node) -> object:
    return _part(node, "path") if isinstance(node.value, dict) else node.value


def _mounted(folder: str) -> Callable[[Node], object]:
    """What is the same config or secret: a target as written, or where one without it is mounted."""

    def identity(node: Node) -> object:
        if isinstance(node.value, dict):
            return _part(node, "target") or f"{folder}/{_part(node, 'source')}"
        return f"{folder}/{node.value}"

    return identity


ITEM_IDENTITY: dict[Path, Callable[[Node], object]] = {
    ("ports",): _port,
    ("volumes",): _volume,
    ("secrets",): _mounted("/run/secrets"),
    ("configs",): _mounted(""),
    ("devices",): _device,
    ("env_file",): _env_file,
    ("expose",): lambda node: str(node.value),
    ("tmpfs",): lambda node: str(node.value).partition("=")[0],
}
