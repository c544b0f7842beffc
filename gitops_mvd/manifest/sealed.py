"""Files of the repository that are encrypted with SOPS: only the host of a service looks inside, nobody here.  Pure.

An encrypted env file still shows the names of its variables, so that each is a secret by a name of its own.
"""

from __future__ import annotations

import json
import re

from gitops_mvd.config.tables import Place
from gitops_mvd.config.yamltree import parse
from gitops_mvd.core.secrets import SOPS, SOPS_RAW, reference

NOT_HERE = (
    "is encrypted with SOPS, which is decrypted only for env files, secrets, configs and mounted files of a service: "
    "move what is secret there"
)
_FORMATS = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".env": "dotenv", ".ini": "ini"}
_VALUE = re.compile(rb"ENC\[AES256_GCM,data:")
_METADATA = re.compile(rb"\bsops(?:_|\"?:|\])")
_STATEMENT = re.compile(r"^([^#=\n][^=\n]*)=", re.MULTILINE)
_HOSTED = ("kms", "gcp_kms", "azure_kv", "hc_vault", "hckms")  # keys that some service on a network has
_UNREADABLE = "?"
_HOSTED_LINE = re.compile(rf"^\s*(?:sops_)?(?:key_groups__list_\d+__map_)?({'|'.join(_HOSTED)})__", re.MULTILINE)


def is_sealed(content: bytes) -> bool:
    """Is that file encrypted with SOPS?"""
    return _VALUE.search(content) is not None and _METADATA.search(content) is not None


def format_of(path: str, text: str) -> str:
    """The format in which SOPS has encrypted a file: by its suffix as SOPS does, else by how it looks."""
    suffix = path[path.rfind(".") :] if "." in path.rpartition("/")[2] else ""
    if known := _FORMATS.get(suffix):
        return known
    if text.lstrip().startswith("{"):
        return "binary" if _is_binary(text) else "json"
    if re.search(r"^sops_version=", text, re.MULTILINE):
        return "dotenv"
    return "ini" if re.search(r"^\[sops\]\s*$", text, re.MULTILINE) else "yaml"


def _is_binary(text: str) -> bool:
    try:
        return set(json.loads(text)) == {"data", "sops"}
    except (ValueError, RecursionError):
        return False


def foreign_key(path: str, text: str) -> str:
    """Why an encrypted file has keys other than of age and PGP, as the end of a sentence; "" if it has none.

    The repository names the address of such a service: a host that asked there would tell it who it is.
    """
    match format_of(path, text):
        case "dotenv" | "ini":
            name = found[1] if (found := _HOSTED_LINE.search(text)) else ""
        case _:
            name = _hosted_in(text)
    if name == _UNREADABLE:
        return "has metadata that cannot be read"
    return f"has a key of {name}, and only keys of age and PGP are used here" if name else ""


def _hosted_in(text: str) -> str:
    root = parse("", text.encode("utf-8", "surrogateescape"), [])
    top = root.value.get("sops") if root and isinstance(root.value, dict) else None
    if top is None or not isinstance(top.value, dict):
        return _UNREADABLE
    groups = top.value.get("key_groups")
    every = [top, *(groups.value if groups and isinstance(groups.value, list) else ())]
    for at in every:
        for name in _HOSTED if isinstance(at.value, dict) else ():
            if name in at.value and at.value[name].value:
                return name
    return ""


def sealed_name(place: Place, path: str) -> str:
    """The name of the secret that is all of an encrypted file, which is noted."""
    if set(path) & set("{}\n"):
        place.fail(f"{path!r} is encrypted, and has a brace or a line break in its name: rename it")
    place.note(f"{path} is encrypted with SOPS: what is in it is only seen on a host that has a key of it")
    return f"{SOPS}:{path}"


def sealed_environment(place: Place, path: str, text: str, raw: bool) -> dict[str, str]:
    """The variables of an encrypted env file, each a reference to what is in it."""
    if format_of(path, text) != "dotenv":
        place.fail(
            f"{path} is encrypted with SOPS as {format_of(path, text)}, which hides the names of its variables: "
            "`sops encrypt --input-type dotenv --output-type dotenv`"
        )
    sealed_name(place, path)
    provider = SOPS_RAW if raw else SOPS
    names = [name.strip().removeprefix("export ").strip() for name in _STATEMENT.findall(text)]
    return {name: reference(f"{provider}:{path}#{name}") for name in names if not name.startswith("sops_")}
