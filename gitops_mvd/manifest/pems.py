"""Certificates and private keys of `kong/*.yaml` that are none.  Pure.

Kong itself finds them before anything is written; a repository is checked without it.  No text of a key is ever told.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from gitops_mvd.config.tables import Place
from gitops_mvd.config.yamltree import Sink, parse
from gitops_mvd.core.model import Problem
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.kong_entities import FOLDER

CERTIFICATE, PRIVATE_KEY = "CERTIFICATE", "PRIVATE KEY"
_FIELDS = {
    "certificates": {"cert": CERTIFICATE, "cert_alt": CERTIFICATE, "key": PRIVATE_KEY, "key_alt": PRIVATE_KEY},
    "ca_certificates": {"cert": CERTIFICATE},
}
_DASHES = "-----"
_BEGIN = re.compile(rf"{_DASHES}BEGIN ([A-Z0-9 ]{{1,40}})(?={_DASHES})")
_END = re.compile(rf"{_DASHES}END ([A-Z0-9 ]{{1,40}})(?={_DASHES})")
_REFERENCES = ("{file://", "{vault://")


def check_pems(tree: Tree) -> Iterator[Problem]:
    """The fields of the gateway's files that should be PEM, and are not."""
    for name in tree.names(FOLDER):
        if not name.endswith((".yaml", ".yml")):
            continue
        sink: Sink = []  # what else is wrong is told by the reader of these files
        try:
            node = parse(f"{FOLDER}/{name}", tree.read(f"{FOLDER}/{name}"), sink)
        except FileNotFoundError:
            continue
        for place, wanted in _places(Place(node, (), sink)) if node else ():
            if isinstance(place.node.value, str) and (why := not_pem(place.node.value, wanted)):
                yield Problem(place.node.file, place.node.line, place.key, why)


def _places(top: Place) -> Iterator[tuple[Place, str]]:
    sections = top.attempt(Place.entries) or {}
    for kind in _FIELDS.keys() & sections.keys():
        for item in sections[kind].attempt(Place.items) or ():
            for name, at in (item.attempt(Place.entries) or {}).items():
                if name in _FIELDS[kind]:
                    yield at, _FIELDS[kind][name]


def not_pem(text: str, wanted: str) -> str:
    """What is wrong with a text that should be a certificate or a private key; "" if nothing can be told."""
    if any(reference in text for reference in _REFERENCES):
        return ""
    found = _first_block(text)
    if not found:
        return f"is no PEM: it must have the lines -----BEGIN {wanted}----- and -----END {wanted}-----"
    label, body = found
    if label.startswith("ENCRYPTED") or "ENCRYPTED" in body:
        return "is encrypted, and Kong has nobody to ask for the passphrase: decrypt it, or use {file://NAME}"
    if not label.endswith(wanted):
        return f"is a {label.lower()}, and should be a {wanted.lower()}"
    return "" if _is_der(body) else f"is no {wanted.lower()}: what stands between its lines is damaged"


def _first_block(text: str) -> tuple[str, str] | None:
    """The label of the first block that has both of its lines, and what stands between them."""
    last_end = {found[1]: found.start() for found in _END.finditer(text)}
    for found in _BEGIN.finditer(text):
        start = found.end() + len(_DASHES)
        if last_end.get(found[1], -1) >= start:
            return found[1], text[start : text.index(f"{_DASHES}END {found[1]}{_DASHES}", start)].strip()
    return None


def _is_der(body: str) -> bool:
    """Does that, in base64, begin as a sequence in DER does?"""
    try:
        return base64.b64decode("".join(body.split()), validate=True)[:1] == b"\x30"
    except binascii.Error:
        return False
