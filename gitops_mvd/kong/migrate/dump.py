"""What a Kong has and is not ours, as files for a config repository.  Pure.

The reader of `kong/*.yaml` itself has the last word: what it does not take is left out and told, and so the result is
always one that `mvd validate` passes.  Secrets become references, unless they are wanted in clear.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from gitops_mvd.config.tables import Key, Place
from gitops_mvd.config.yamltree import Found, Sink, parse, resolve
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import Json
from gitops_mvd.kong.entities import OWNED, REFERENCES, TYPES, Entity
from gitops_mvd.kong.schema import Fields, Schemas, fields_of
from gitops_mvd.manifest.extensions import X_KONG, read_x_kong
from gitops_mvd.manifest.kong_entities import FOLDER, read_gateway

Document = dict[str, list[dict[str, Any]]]

FILES: Mapping[str, Sequence[str]] = {
    "consumers": ("consumers", "consumer_groups"),
    "certificates": ("certificates", "ca_certificates", "vaults", "key_sets", "keys"),
    "services": ("services", "routes"),
    "upstreams": ("upstreams",),
    "plugins": ("plugins",),
}
# The types that stand inside another one, by the reference that says in which.
INSIDE: Mapping[str, Sequence[str]] = {
    "snis": ("certificate",),
    "keys": ("set",),
    "targets": ("upstream",),
    "routes": ("service",),
    "plugins": ("route", "service", "consumer"),
    **{
        type: ("consumer",)
        for type in (
            "keyauth_credentials",
            "basicauth_credentials",
            "hmacauth_credentials",
            "jwt_secrets",
            "oauth2_credentials",
            "acls",
        )
    },
}
WITH_IDS = ("certificates", "ca_certificates")  # they have no name to refer to them by
SECRETS: Mapping[str, Sequence[str]] = {
    "keyauth_credentials": ("key",),
    "hmacauth_credentials": ("secret",),
    "jwt_secrets": ("secret",),
    "oauth2_credentials": ("client_secret",),
    "certificates": ("key", "key_alt"),
    "keys": ("jwk",),
}
DERIVED: Mapping[str, Sequence[str]] = {"certificates": ("snis",), "ca_certificates": ("cert_digest",)}
FIRST = ("name", "kid", "username", "custom_id", "prefix", "protocol", "host", "port", "path", "target", "key", "group")
LAST = (*INSIDE, "tags", "plugins")

_SECRET_NAME = re.compile(
    r"passw|secret|token|api_?key|private_key|credential|access_key|authorization|[_-]key$|^key$|^cookie$",
    re.IGNORECASE,
)
_SECRET_HEADER = re.compile(r"(?P<name>[A-Za-z0-9_-]+)\s*:\s*(?P<value>.+)", re.DOTALL)
_LOGIN_IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]+@", re.IGNORECASE)
_REFERENCE = re.compile(r"\{(?:vault|file)://[^{}]*\}")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Dump:
    """`files` has the text of each file, by its path in the repository; `secrets` what the references stand for.

    `told` has a line for everything that was not carried over.
    """

    files: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    told: list[str] = field(default_factory=list)


def dump_all(there: Iterable[Entity], schemas: Schemas, *, clear: bool = False, file: str = "") -> Dump:
    """All that is not ours, as `kong/*.yaml`, or as the one `file` of that folder; with secrets in `clear`."""
    making = _Making(there, schemas, clear)
    document = {type: making.items(type) for type in TYPES}
    names = {file: TYPES} if file else {f"{name}.yaml": types for name, types in FILES.items()}
    files = {name: {type: document[type] for type in types if document[type]} for name, types in names.items()}
    told = defaultdict(list, making.told)
    _prune(files, told)
    lines = [line for types in names.values() for type in types for line in told.get(type, ())]
    result = Dump(told=[*lines, *told.get("", ())])
    for name, types in names.items():
        if files[name]:
            notes = [line for type in types for line in told.get(type, ())]
            result.files[f"{FOLDER}/{name}"] = _text(files[name], notes)
    written = "".join(result.files.values())
    result.secrets = {name: text for name, text in making.secrets.items() if f"{{file://{name}}}" in written}
    return result


def x_kong(there: Sequence[Entity], schemas: Schemas, name: str, *, clear: bool = False) -> Dump:
    """One of Kong's services as the `x-kong` of the Compose service that is to be behind it.  Raises StepFailed."""
    found = next((entity for entity in there if entity.type == "services" and name in (entity.id, _name(entity))), None)
    if not found:
        names = sorted(filter(None, (_name(entity) for entity in there if entity.type == "services")))
        raise StepFailed(f"Kong has no service {name}", f"it has {', '.join(names) or 'none'}")
    making = _Making(there, schemas, clear)
    service = making.item(found)
    host, port = service.pop("host", ""), service.pop("port", 80)
    service.pop("name", None)
    written: dict[str, Any] = {"port": port}
    notes = [f"Kong finds it at {host}:{port}: write the port in the container into `port`"]
    upstream = next((entity for entity in there if entity.type == "upstreams" and _name(entity) == host), None)
    if upstream:
        item = making.item(upstream)
        targets = [target["target"] for target in item.pop("targets", [])]
        notes = [f"Kong finds it at {', '.join(targets) or 'no target'}: write the port in the container into `port`"]
        ports = {int(port) for _, _, port in (target.rpartition(":") for target in targets) if port.isdigit()}
        written["port"] = ports.pop() if len(ports) == 1 else port
        written["upstream"] = {key: value for key, value in item.items() if key != "name"}
    for key in ("protocol", "routes", "plugins"):
        written[key] = service.pop(key, None)
    written["service"] = service
    written = {key: value for key, value in _short(written).items() if value not in (None, {}, [])}
    told = [line for type, lines in making.told.items() for line in lines if type]
    told += _prune_x_kong(written)
    text = _yaml({"x-kong": written})
    head = "".join(f"# {line}\n" for line in (*notes, *told))
    secrets = {name: text_ for name, text_ in making.secrets.items() if f"{{file://{name}}}" in text}
    return Dump({"": head + text}, secrets, told)


def _short(written: dict[str, Any]) -> dict[str, Any]:
    """The short forms, where the reader knows them and they say the same."""
    routes, plugins = written.get("routes") or [], list(written.get("plugins") or [])
    auth = [plugin for plugin in plugins if plugin.keys() == {"name"} and plugin["name"].endswith("-auth")]
    if auth and isinstance(X_KONG.get("auth"), Key):
        names = [plugin["name"] for plugin in auth]
        written = {"auth": names[0] if len(names) == 1 else names, **written}
        written["plugins"] = [plugin for plugin in plugins if plugin not in auth]
    route = {key: value for key, value in routes[0].items() if key != "name"} if len(routes) == 1 else {}
    if route and all(isinstance(X_KONG.get(key), Key) for key in route if key != "plugins") and "plugins" not in route:
        return {"port": written["port"], **route, **{k: v for k, v in written.items() if k not in ("port", "routes")}}
    return written


class _Making:
    """From Kong's entities to what a person would have written, with what can not be written told on the way."""

    def __init__(self, there: Iterable[Entity], schemas: Schemas, clear: bool) -> None:
        self._schemas = schemas
        self._clear = clear
        self.told: dict[str, list[str]] = defaultdict(list)  # by the type at the top
        self.secrets: dict[str, str] = {}
        self._by_id = {(entity.type, entity.id): entity for entity in there}
        self._children: dict[tuple[str, str], list[Entity]] = defaultdict(list)
        self._tops: dict[str, list[Entity]] = defaultdict(list)
        for entity in self._by_id.values():
            if OWNED not in entity.tags:
                self._put_in_place(entity)

    def _put_in_place(self, entity: Entity) -> None:
        if entity.type not in TYPES:
            self.told[""].append(f"{entity.type} {_named(entity)}: is nothing that a repository can have")
            return
        held = [key for key in REFERENCES if _reference(entity, key)]
        parents = [key for key in INSIDE.get(entity.type, ()) if key in held]
        if entity.type == "plugins" and {"service", "route"} <= set(held):
            parents = []  # Kong takes both for one scope, which nesting can not say
        if not parents:
            self._tops[entity.type].append(entity)
            return
        type = REFERENCES[parents[0]]
        id = _reference(entity, parents[0])
        parent = self._by_id.get((type, id))
        if parent and OWNED in parent.tags:
            where = "x-kong" if type in ("services", "routes", "upstreams") else f"{FOLDER}/"
            self.told[""].append(f"{entity}: hangs on our {parent}; what it says belongs into that one's {where}")
        else:
            self._children[type, id].append(entity)

    def items(self, type: str) -> list[dict[str, Any]]:
        return [self.item(entity) for entity in sorted(self._tops[type], key=_order)]

    def item(self, entity: Entity, within: str = "", top: str = "") -> dict[str, Any]:
        top = top or entity.type
        fields = {key: value for key, value in entity.fields.items() if key not in DERIVED.get(entity.type, ())}
        name = "-".join(filter(None, (within, _named(entity))))
        item = self._schemas.lean(entity.type, fields)
        item |= self._references(entity, item, "" if not within else INSIDE[entity.type][0], top)
        if entity.type in WITH_IDS:
            item["id"] = entity.id
        for key in SECRETS.get(entity.type, ()):
            if isinstance(item.get(key), str):
                item[key] = self._secret(item[key], f"{name}-{key}" if entity.type != "keyauth_credentials" else name)
        if isinstance(item.get("pem"), Mapping):
            item["pem"] = self._config(item["pem"], {}, name)
        if isinstance(item.get("config"), Mapping):
            specs = self._schemas.of(entity.type, str(item.get("name") or "")).get("config", {})
            item["config"] = self._config(item["config"], fields_of(specs), name)
            self._name_consumer(item["config"])
        children = self._children[entity.type, entity.id]
        for child in sorted(children, key=lambda child: (TYPES.index(child.type), _order(child))):
            if why := _not_to_be_told(child):
                self.told[top].append(f"{_named(entity)}'s {child.type} {_named(child)}: {why}")
            else:
                item.setdefault(child.type, []).append(self.item(child, name, top))
        return _in_order(item)

    def _references(self, entity: Entity, item: MutableMapping[str, Any], parent: str, top: str) -> dict[str, Any]:
        """References by name; that to the entity in which it stands says nothing."""
        inside = next((key for key in INSIDE.get(entity.type, ()) if _reference(entity, key)), "") if parent else ""
        told: dict[str, Any] = {}
        for key in REFERENCES.keys() & item.keys():
            del item[key]
            id = _reference(entity, key)
            if not id or key == inside:
                continue
            other = self._by_id.get((REFERENCES[key], id))
            if other and OWNED in other.tags:
                self.told[top].append(f"{entity}: is for our {other}, which {FOLDER}/ does not have")
            told[key] = id if REFERENCES[key] in WITH_IDS or not other else _name(other) or id
        return told

    def _name_consumer(self, config: MutableMapping[str, Any]) -> None:
        """Whoever is `anonymous` may be known by name; ids are another Kong's business."""
        other = self._by_id.get(("consumers", str(config.get("anonymous"))))
        if other and other.fields.get("username"):
            config["anonymous"] = other.fields["username"]

    def _config(self, value: Any, specs: Fields, name: str, key: str = "", secret: bool = False) -> Any:
        match value:
            case Mapping():
                return {
                    word: self._config(below, _deeper(specs, word), name, word, _is_secret(specs, word) or secret)
                    for word, below in value.items()
                }
            case list():
                return [self._config(item, specs, name, key, secret) for item in value]
            case str() if secret or _LOGIN_IN_URL.match(value):
                return self._secret(value, f"{name}-{key}")
            case str() if (header := _SECRET_HEADER.fullmatch(value)) and _SECRET_NAME.search(header["name"]):
                word = header["name"]
                return f"{word}:{self._secret(header['value'], f'{name}-{word}')}"
        return value

    def _secret(self, text: str, name: str) -> str:
        if self._clear or not text or _REFERENCE.fullmatch(text):
            return text
        name = _UNFIT.sub("-", f"kong-{name}").strip("-.")[:180]
        unique, number = name, 2
        while self.secrets.get(unique, text) != text:
            unique, number = f"{name}-{number}", number + 1
        self.secrets[unique] = text
        return f"{{file://{unique}}}"


def _not_to_be_told(entity: Entity) -> str:
    """Why nobody can say this of a credential; "" where it can be said."""
    if entity.type == "basicauth_credentials":
        return "Kong only has the hash of the password; write it here yourself, or leave it in Kong as it is"
    if entity.fields.get("hash_secret"):
        return "Kong only has the hash of its client_secret; leave it in Kong as it is"
    if entity.fields.get("ttl"):
        return "runs out by itself, and the repository would put it back for ever"
    return ""


def _deeper(specs: Fields, key: str) -> Fields:
    spec = specs.get(key, {})
    element = spec.get("elements")
    return fields_of(spec) or (fields_of(element) if isinstance(element, Mapping) else {})


def _is_secret(specs: Fields, key: str) -> bool:
    return bool(specs.get(key, {}).get("encrypted")) or _SECRET_NAME.search(key) is not None


def _reference(entity: Entity, key: str) -> str:
    value = entity.fields.get(key)
    return str(value["id"]) if isinstance(value, Mapping) and value.get("id") else ""


def _name(entity: Entity) -> str:
    return str(entity.fields.get("name") or entity.fields.get("username") or entity.fields.get("custom_id") or "")


def _named(entity: Entity) -> str:
    """A word for it that is no secret."""
    words = {"acls": "group", "vaults": "prefix", "targets": "target", "jwt_secrets": "key"}
    if entity.type == "keyauth_credentials":
        return "key"
    return str(entity.fields.get(words.get(entity.type, "")) or _name(entity) or entity.id)


def _order(entity: Entity) -> tuple[str, ...]:
    return (_named(entity), *(str(entity.fields.get(key) or "") for key in ("paths", "hosts", "key")), entity.id)


def _in_order(item: Json) -> dict[str, Any]:
    def place(key: str) -> tuple[int, int, str]:
        first = FIRST.index(key) if key in FIRST else len(FIRST)
        return (key in LAST, first, "" if key in LAST else key)

    return {key: item[key] for key in sorted(item, key=place)}


# ---- what the reader takes -------------------------------------------------------------------------------------------


class _Files:
    """A repository of nothing but these files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read(self, path: str) -> bytes:
        return self._files[path.removeprefix(f"{FOLDER}/")]

    def names(self, folder: str) -> Sequence[str]:
        return sorted(self._files) if folder == FOLDER else ()

    def oid(self, path: str) -> str:
        return path


def _prune(files: Mapping[str, Document], told: MutableMapping[str, list[str]]) -> None:
    """Leave out what the reader does not take, and tell it.  Raises StepFailed for what can not be left out."""
    while True:
        sink: Sink = []
        read_gateway(_Files({name: _text(document, ()).encode() for name, document in files.items() if document}), sink)
        if not sink:
            return
        for found in sorted(sink, key=lambda found: _position(found), reverse=True):
            file = found.problem.file.removeprefix(f"{FOLDER}/")
            if not found.path:
                raise StepFailed(f"what Kong has makes no file: {found.problem}")
            line = f"{_where(files[file], found.path)}: {found.problem.message}"
            if _cut(files[file], found.path):
                told[str(found.path[0])].insert(0, f"left out: {line}")


def _prune_x_kong(written: dict[str, Any]) -> list[str]:
    told: list[str] = []
    while True:
        sink: Sink = []
        node = parse("x-kong", _yaml(written).encode(), sink)
        if node:
            Place(node, (), sink).attempt(read_x_kong)
        if not any(found.path for found in sink):
            return [*told, *(str(found.problem.message) for found in sink)]
        for found in sorted(sink, key=lambda found: _position(found), reverse=True):
            line = f"left out: {_where(written, found.path)}: {found.problem.message}"
            if found.path and _cut(written, found.path):
                told.insert(0, line)


def _position(found: Found) -> tuple[str, list[tuple[bool, int, str]]]:
    return (
        found.problem.file,
        [(isinstance(part, str), part if isinstance(part, int) else 0, str(part)) for part in found.path],
    )


def _where(document: Any, path: Sequence[str | int]) -> str:
    """Where in a document, by the names of the entities on the way."""
    words: list[str] = []
    for part in path:
        below = _below(document, part)
        if isinstance(part, str):
            words.append(part)
        elif isinstance(below, Mapping):
            names = (below.get(key) for key in ("name", "username", "custom_id", "prefix", "target", "group", "id"))
            words.append(str(next(filter(None, names), part + 1)))
        else:
            words.append(str(part + 1))
        document = below
    return " ".join(words)


def _below(value: Any, part: str | int) -> Any:
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def _cut(document: Any, path: Sequence[str | int]) -> bool:
    """Take away what is at a path; False where it is gone."""
    for part in path[:-1]:
        document = _below(document, part)
    if _below(document, path[-1]) is None and not (isinstance(document, dict) and path[-1] in document):
        return False
    del document[path[-1]]
    return True


# ---- YAML ------------------------------------------------------------------------------------------------------------


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Short lists in one line, long texts as blocks, and quotes around what would be read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else '"' if not isinstance(resolve(text), str) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


def _represent_list(dumper: Any, items: Sequence[Any]) -> Any:
    plain = all(isinstance(item, str | int | float) and len(str(item)) < 40 and "\n" not in str(item) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)


def _yaml(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _text(document: Document, notes: Sequence[str]) -> str:
    head = "".join(f"# {line}\n" for line in notes)
    parts = [_yaml({type: items}) for type, items in document.items() if items]
    return "\n".join([f'{head}_format_version: "3.0"\n', *parts])
