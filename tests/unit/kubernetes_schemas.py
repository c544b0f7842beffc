"""What Kubernetes takes for a document: its published schemas, and those of the Gateway API and of Kong's controller.

Those of Kubernetes are in the package kubernetes-validate, in which a field that is not known is a mistake; the others
are in `published/crds.json`, which `make oracle` compares with the Go modules that have them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from gitops_mvd.exports.names import is_label_value, is_qualified

VERSION = "v1.36.0-local-strict"
CRDS = json.loads((Path(__file__).parent / "published" / "crds.json").read_text("utf-8"))
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
CLUSTER_WIDE = {"Namespace", "KongClusterPlugin", "KongVault"}


def mistakes(document: dict[str, Any]) -> list[str]:
    """What is wrong with a document, each with its place; what only CEL and the code of Kubernetes check is not."""
    found = [f"{error.json_path}: {error.message[:300]}" for error in _validator(document).iter_errors(document)]
    return [*found, *_of_metadata(document)]


@cache
def _definitions() -> Any:
    return Resource.from_contents(json.loads(_schema("_definitions")))


def _schema(name: str) -> str:
    return files("kubernetes_validate").joinpath("kubernetes-json-schema", VERSION, f"{name}.json").read_text("utf-8")


def _validator(document: dict[str, Any]) -> Any:
    return _validator_of(document["apiVersion"], document["kind"])


@cache
def _validator_of(version: str, kind: str) -> Any:
    if schema := CRDS.get(f"{version}/{kind}"):
        return Draft202012Validator(schema)
    group, _, number = version.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    schema = json.loads(_schema(name))
    return Draft202012Validator(schema, registry=_definitions() @ (Resource.from_contents(schema) @ Registry()))


def _of_metadata(document: dict[str, Any]) -> Iterator[str]:
    metadata = document["metadata"]
    named = _LABEL if document["kind"] not in ("Secret", "ConfigMap", "KongConsumer") else _SUBDOMAIN
    if not named.fullmatch(metadata["name"]):
        yield f"metadata.name: {metadata['name']!r}"
    if document["kind"] == "Service" and not metadata["name"][0].isalpha():
        yield f"metadata.name: {metadata['name']!r} does not begin with a letter"
    if (document["kind"] in CLUSTER_WIDE) == ("namespace" in metadata):
        yield "metadata.namespace"
    if not _LABEL.fullmatch(metadata.get("namespace", "a")):
        yield f"metadata.namespace: {metadata['namespace']!r}"
    for name, value in metadata.get("labels", {}).items():
        if not is_qualified(name) or not is_label_value(value):
            yield f"metadata.labels: {name}: {value}"
    for name, value in metadata.get("annotations", {}).items():
        if not is_qualified(name) or not isinstance(value, str):
            yield f"metadata.annotations: {name}: {value!r}"
