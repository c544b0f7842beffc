"""The unmanaged entities of a Kong as files for a config repository.  Pure.

What the reader of `kong/*.yaml` does not accept is left out, with a note, so that the result always passes
`mvd validate`.  Secrets become references, unless they are wanted in clear.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gitops_mvd.config.tables import Key
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import JsonValue
from gitops_mvd.core.secret_words import URL_LOGIN
from gitops_mvd.kong.entities import MANAGED_TAG, REFERENCES, TYPES, Entity
from gitops_mvd.kong.migrate.accepted import Document, Item, prune_files, prune_x_kong
from gitops_mvd.kong.migrate.yaml_text import as_yaml, comments, document_text
from gitops_mvd.kong.schema import Schemas, Specs, fields_of
from gitops_mvd.manifest.extensions import X_KONG
from gitops_mvd.manifest.kong_entities import FOLDER

FILES: Mapping[str, Sequence[str]] = {
    "consumers": ("consumers", "consumer_groups"),
    "certificates": ("certificates", "ca_certificates", "vaults", "key_sets", "keys"),
    "services": ("services", "routes"),
    "upstreams": ("upstreams",),
    "plugins": ("plugins",),
}
# The types that are nested in another one, by the reference that names it.
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
WITH_IDS = ("certificates", "ca_certificates")  # without a name to refer to them by
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
_REFERENCE = re.compile(r"\{(?:vault|file)://[^{}]*\}")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass
class Dump:
    """`files` has the text of each file, by its path in the repository; `secrets` the content of each reference.

    `notes` has a line for everything that was not carried over.
    """

    files: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)


def dump_all(there: Iterable[Entity], schemas: Schemas, *, clear: bool = False, file: str = "") -> Dump:
    """All unmanaged entities as `kong/*.yaml`, or as the one `file` of that folder; with secrets in `clear`."""
    items = _Items(there, schemas, clear)
    document = {type: items.of_type(type) for type in TYPES}
    types_of = {file: TYPES} if file else {f"{name}.yaml": types for name, types in FILES.items()}
    files: dict[str, Document] = {
        name: {type: document[type] for type in types if document[type]} for name, types in types_of.items()
    }
    notes = defaultdict(list, items.notes)
    prune_files(files, notes)
    notes_of = {name: [line for type in types for line in notes.get(type, ())] for name, types in types_of.items()}
    texts = {f"{FOLDER}/{name}": document_text(files[name], notes_of[name]) for name in files if files[name]}
    lines = [line for some in notes_of.values() for line in some]
    return Dump(texts, items.secrets_in("".join(texts.values())), [*lines, *notes.get("", ())])


def x_kong(there: Sequence[Entity], schemas: Schemas, name: str, *, clear: bool = False) -> Dump:
    """One of Kong's services as the `x-kong` of the Compose service that is to be behind it.  Raises StepFailed."""
    found = next((entity for entity in there if entity.type == "services" and name in (entity.id, _name(entity))), None)
    if not found:
        names = sorted(filter(None, (_name(entity) for entity in there if entity.type == "services")))
        raise StepFailed(f"Kong has no service {name}", f"it has {', '.join(names) or 'none'}")
    items = _Items(there, schemas, clear)
    service = items.item(found)
    host, port = service.pop("host", ""), service.pop("port", 80)
    service.pop("name", None)
    written: Item = {"port": port}
    places = f"{host}:{port}"
    upstream = next((entity for entity in there if entity.type == "upstreams" and _name(entity) == host), None)
    if upstream:
        item = items.item(upstream)
        targets = [str(target["target"]) for target in _mappings(item.pop("targets", None))]
        places = ", ".join(targets) or "no target"
        ports = {int(port) for _, _, port in (target.rpartition(":") for target in targets) if port.isdigit()}
        written["port"] = ports.pop() if len(ports) == 1 else port
        written["upstream"] = {key: value for key, value in item.items() if key != "name"}
    for key in ("protocol", "routes", "plugins"):
        written[key] = service.pop(key, None)
    written["service"] = service
    written = {key: value for key, value in _short(written).items() if value not in (None, {}, [])}
    notes = [line for type, lines in items.notes.items() for line in lines if type]
    notes += prune_x_kong(written)
    text = as_yaml({"x-kong": written})
    head = f"Kong finds it at {places}: write the port in the container into `port`"
    return Dump({"": comments([head, *notes]) + text}, items.secrets_in(text), notes)


def _short(written: Item) -> Item:
    """The short forms, if the reader knows them and they mean the same."""
    routes, plugins = _mappings(written.get("routes")), _mappings(written.get("plugins"))
    auth = [plugin for plugin in plugins if plugin.keys() == {"name"} and str(plugin["name"]).endswith("-auth")]
    if auth and isinstance(X_KONG.get("auth"), Key):
        names = [plugin["name"] for plugin in auth]
        written = {"auth": names[0] if len(names) == 1 else names, **written}
        written["plugins"] = [plugin for plugin in plugins if plugin not in auth]
    route = {key: value for key, value in routes[0].items() if key != "name"} if len(routes) == 1 else {}
    if route and all(isinstance(X_KONG.get(key), Key) for key in route if key != "plugins") and "plugins" not in route:
        return {"port": written["port"], **route, **{k: v for k, v in written.items() if k not in ("port", "routes")}}
    return written


class _Items:
    """Kong's entities as a person would have written them.

    `notes` has a line for what cannot be written, by the type at the top of a file.
    """

    def __init__(self, there: Iterable[Entity], schemas: Schemas, clear: bool) -> None:
        self._schemas = schemas
        self._clear = clear
        self.notes: dict[str, list[str]] = defaultdict(list)
        self._secrets: dict[str, str] = {}
        self._by_id = {entity.key: entity for entity in there}
        self._children: dict[tuple[str, str], list[Entity]] = defaultdict(list)
        self._tops: dict[str, list[Entity]] = defaultdict(list)
        for entity in self._by_id.values():
            if MANAGED_TAG not in entity.tags:
                self._put_in_place(entity)

    def _put_in_place(self, entity: Entity) -> None:
        if entity.type not in TYPES:
            self.notes[""].append(f"{entity.type} {_named(entity)}: a repository cannot have this type")
            return
        references = [key for key in REFERENCES if entity.reference(key)]
        parents = [key for key in INSIDE.get(entity.type, ()) if key in references]
        if entity.type == "plugins" and {"service", "route"} <= set(references):
            parents = []  # Kong takes both for one scope, which nesting cannot express
        if not parents:
            self._tops[entity.type].append(entity)
            return
        type, id = REFERENCES[parents[0]], entity.reference(parents[0])
        parent = self._by_id.get((type, id))
        if parent and MANAGED_TAG in parent.tags:
            where = "x-kong" if type in ("services", "routes", "upstreams") else f"{FOLDER}/"
            self.notes[""].append(f"{entity}: belongs to the managed {parent}; declare it in the {where} of that")
        else:
            self._children[type, id].append(entity)

    def of_type(self, type: str) -> list[Item]:
        return [self.item(entity) for entity in sorted(self._tops[type], key=_order)]

    def secrets_in(self, text: str) -> dict[str, str]:
        """The contents of the references in that text."""
        return {name: secret for name, secret in self._secrets.items() if f"{{file://{name}}}" in text}

    def item(self, entity: Entity, within: str = "", top: str = "") -> Item:
        top = top or entity.type
        fields = {key: value for key, value in entity.fields.items() if key not in DERIVED.get(entity.type, ())}
        name = "-".join(filter(None, (within, _named(entity))))
        item = self._schemas.without_defaults(entity.type, fields)
        references = self._references(entity, REFERENCES.keys() & item.keys(), bool(within), top)
        item = {key: value for key, value in item.items() if key not in REFERENCES} | references
        if entity.type in WITH_IDS:
            item["id"] = entity.id
        for key in SECRETS.get(entity.type, ()):
            if isinstance(text := item.get(key), str):
                item[key] = self._secret(text, f"{name}-{key}" if entity.type != "keyauth_credentials" else name)
        if isinstance(pem := item.get("pem"), Mapping):
            item["pem"] = self._config(pem, {}, name)
        if isinstance(config := item.get("config"), Mapping):
            specs = self._schemas.of(entity.type, str(item.get("name") or "")).get("config", {})
            item["config"] = self._config(self._with_consumer_name(config), fields_of(specs), name)
        nested: dict[str, list[Item]] = defaultdict(list)
        children = self._children[entity.key]
        for child in sorted(children, key=lambda child: (TYPES.index(child.type), _order(child))):
            if why := _why_not(child):
                self.notes[top].append(f"{_named(entity)}'s {child.type} {_named(child)}: {why}")
            else:
                nested[child.type].append(self.item(child, name, top))
        return _in_order({**item, **nested})

    def _references(self, entity: Entity, keys: Iterable[str], is_nested: bool, top: str) -> Item:
        """References by name, but for the one to the entity in which it is nested."""
        inside = next((key for key in INSIDE.get(entity.type, ()) if entity.reference(key)), "") if is_nested else ""
        references: Item = {}
        for key in keys:
            id = entity.reference(key)
            if not id or key == inside:
                continue
            other = self._by_id.get((REFERENCES[key], id))
            if other and MANAGED_TAG in other.tags:
                self.notes[top].append(f"{entity}: refers to the managed {other}, which {FOLDER}/ does not have")
            references[key] = id if REFERENCES[key] in WITH_IDS or not other else _name(other) or id
        return references

    def _with_consumer_name(self, config: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """A plugin's config with the name of its `anonymous` consumer, which has another id in another Kong."""
        other = self._by_id.get(("consumers", str(config.get("anonymous"))))
        return {**config, "anonymous": other.fields["username"]} if other and other.fields.get("username") else config

    def _config(self, value: JsonValue, specs: Specs, name: str, key: str = "", secret: bool = False) -> JsonValue:
        match value:
            case Mapping():
                return {
                    word: self._config(below, _deeper(specs, word), name, word, _is_secret(specs, word) or secret)
                    for word, below in value.items()
                }
            case list():
                return [self._config(item, specs, name, key, secret) for item in value]
            case str() if secret or URL_LOGIN.match(value):
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
        while self._secrets.get(unique, text) != text:
            unique, number = f"{name}-{number}", number + 1
        self._secrets[unique] = text
        return f"{{file://{unique}}}"


def _why_not(entity: Entity) -> str:
    """Why a credential cannot be written; "" if it can."""
    if entity.type == "basicauth_credentials":
        return "Kong only has the hash of the password; write it here yourself, or leave it in Kong as it is"
    if entity.fields.get("hash_secret"):
        return "Kong only has the hash of its client_secret; leave it in Kong as it is"
    if entity.fields.get("ttl"):
        return "expires by itself, and the repository would restore it for ever"
    return ""


def _deeper(specs: Specs, key: str) -> Specs:
    spec = specs.get(key, {})
    element = spec.get("elements")
    return fields_of(spec) or (fields_of(element) if isinstance(element, Mapping) else {})


def _is_secret(specs: Specs, key: str) -> bool:
    return bool(specs.get(key, {}).get("encrypted")) or _SECRET_NAME.search(key) is not None


def _mappings(value: JsonValue) -> list[Mapping[str, JsonValue]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


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


def _in_order(item: Item) -> Item:
    def place(key: str) -> tuple[bool, int, str]:
        first = FIRST.index(key) if key in FIRST else len(FIRST)
        return (key in LAST, first, "" if key in LAST else key)

    return {key: item[key] for key in sorted(item, key=place)}
