"""The custom resources of the Gateway API and of Kong's controller, as the Go modules have them that define them.

`published/crds.json` of the unit tests has their schemas as they are there, without descriptions and rules in CEL.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MODULES = Path(__file__).parent / "crds"
RECORDED = Path(__file__).parents[2] / "unit" / "published" / "crds.json"
FOLDERS = {
    "sigs.k8s.io/gateway-api": "config/crd/standard",
    "github.com/kong/kubernetes-configuration": "config/crd/ingress-controller",
}
KINDS = ("HTTPRoute", "GRPCRoute", "KongPlugin", "KongClusterPlugin", "KongConsumer", "KongUpstreamPolicy", "KongVault")
DOWNLOAD_SECONDS = 300
_LEFT_OUT = {"description", "x-kubernetes-validations", "default"}


def definitions() -> Iterator[dict[str, Any]]:
    """Each CustomResourceDefinition, as its module has it.  `go` checks the modules by go.sum."""
    found = subprocess.run(
        ["go", "mod", "download", "-json", *FOLDERS],
        cwd=MODULES,
        check=True,
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_SECONDS,
    )
    decoder, text = json.JSONDecoder(), found.stdout
    while text.strip():
        module, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        for file in sorted((Path(module["Dir"]) / FOLDERS[module["Path"]]).glob("*.yaml")):
            document = yaml.safe_load(file.read_text("utf-8"))
            if document.get("kind") == "CustomResourceDefinition" and document["spec"]["names"]["kind"] in KINDS:
                yield document


def recorded() -> str:
    """The schemas of all of them, by kind and version, as JSON."""
    schemas = {
        f"{definition['spec']['group']}/{version['name']}/{definition['spec']['names']['kind']}": _strict(
            version["schema"]["openAPIV3Schema"]
        )
        for definition in definitions()
        for version in definition["spec"]["versions"]
        if version["storage"]
    }
    return json.dumps(dict(sorted(schemas.items())), indent=1, sort_keys=True) + "\n"


def _strict(schema: Any, key: str = "") -> Any:
    """The schema, without what is for readers or in CEL; a field that it does not know is a mistake."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if key == "properties":
        return {name: _strict(inner) for name, inner in schema.items() if name != "status"}
    made = {name: _strict(inner, name) for name, inner in schema.items() if name not in _LEFT_OUT}
    if "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made
