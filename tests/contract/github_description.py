"""What GitHub says itself of the requests that we send: its OpenAPI description, as @octokit/openapi publishes it.

`ACCEPT=1 pytest tests/contract/test_github.py` distils the fixture anew from that package, by `npm pack`.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.lab.forge import Asked

FIXTURE = Path(__file__).parent / "fixtures" / "github-openapi.json"
PACKAGE = "@octokit/openapi"
PARTS = ("api.github.com", "ghes-3.17")  # GitHub itself, and an Enterprise server that is still about
OPERATIONS = {
    ("post", "/repos/{owner}/{repo}/statuses/{sha}"),
    ("get", "/repos/{owner}/{repo}/commits/{ref}"),
    ("get", "/repos/{owner}/{repo}/commits/{ref}/status"),
    ("get", "/repos/{owner}/{repo}/pulls"),
    ("get", "/repos/{owner}/{repo}/issues/{issue_number}/comments"),
    ("post", "/repos/{owner}/{repo}/issues/{issue_number}/comments"),
    ("patch", "/repos/{owner}/{repo}/issues/comments/{comment_id}"),
    ("get", "/repos/{owner}/{repo}/deployments"),
    ("post", "/repos/{owner}/{repo}/deployments"),
    ("get", "/repos/{owner}/{repo}/deployments/{deployment_id}/statuses"),
    ("post", "/repos/{owner}/{repo}/deployments/{deployment_id}/statuses"),
    ("get", "/repos/{owner}/{repo}/installation"),
    ("post", "/app/installations/{installation_id}/access_tokens"),
}
OF_ALL = {301, 304, 307, 401, 403, 404, 422, 429}  # what any operation may answer is described for all of them together
BASE = "/api/v3"  # of an Enterprise server


def described() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FIXTURE.read_text())
    return content


def complaints(asked: Iterable[Asked], part: str) -> list[str]:
    """What of these requests and their answers is not as it is described."""
    operations = described()["parts"][part]
    return [f"{one.method} {one.path}: {what}" for one in asked for what in _complaints(one, operations)]


def operation_of(asked: Asked) -> str:
    """Which one a request is of, "" for none."""
    for name in described()["parts"][PARTS[0]]:
        if _match(asked, name):
            return str(name)
    return ""


def _complaints(asked: Asked, operations: Mapping[str, Any]) -> Iterable[str]:
    name = next((name for name in operations if _match(asked, name)), None)
    found = _match(asked, name) if name else None
    if not name or not found:
        yield "there is no such operation"
        return
    wanted = operations[name]
    given = {("path", key): urllib.parse.unquote(value) for key, value in found.groupdict().items()}
    query = urllib.parse.urlsplit(asked.path).query
    given |= {("query", key): value for key, value in urllib.parse.parse_qsl(query, keep_blank_values=True)}
    parameters = {(one["in"], one["name"]): one for one in wanted["parameters"]}
    for key, value in given.items():
        if key not in parameters:
            yield f"there is no {key[0]} parameter {key[1]}"
        else:
            yield from _invalid(_typed(value, parameters[key]["schema"]), parameters[key]["schema"])
    yield from (f"needs {key[1]}" for key, one in parameters.items() if one.get("required") and key not in given)
    if asked.body and "body" not in wanted:
        yield "has a body"
    elif asked.body:
        yield from _invalid(json.loads(asked.body), wanted["body"])
    elif wanted.get("needs_body"):
        yield "has no body"
    if asked.status < 500 and asked.status not in {*wanted["answers"], *OF_ALL}:
        yield f"is never answered with {asked.status}"


def _match(asked: Asked, name: str) -> re.Match[str] | None:
    method, _, path = name.partition(" ")
    pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)
    return (
        re.fullmatch(pattern, urllib.parse.urlsplit(asked.path).path.removeprefix(BASE))
        if (asked.method == method.upper())
        else None
    )


def _typed(value: str, schema: Mapping[str, Any]) -> Any:
    return int(value) if schema.get("type") == "integer" and value.isdecimal() else value


def _invalid(value: Any, schema: Mapping[str, Any]) -> Iterable[str]:
    from jsonschema import Draft202012Validator  # which a lab server lacks, where others of these tests run

    for error in Draft202012Validator(schema).iter_errors(value):
        yield f"{error.json_path}: {error.message}"


# ---- the fixture -----------------------------------------------------------------------------------------------------


def distil(folder: Path) -> None:
    """Write the fixture: only the operations that we use, and of these only what a request can be held against."""
    packed = subprocess.run(
        ["npm", "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True, timeout=300, check=True
    )
    with tarfile.open(folder / packed.stdout.split()[-1]) as package:
        about = json.load(_member(package, "package.json"))
        licence = _member(package, "LICENSE").read().decode()
        parts = {part: _operations(json.load(_member(package, f"generated/{part}.json"))) for part in PARTS}
    content = {"package": PACKAGE, "version": about["version"], "licence": licence, "parts": parts}
    FIXTURE.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def _member(package: tarfile.TarFile, name: str) -> io.BufferedReader:
    member = package.extractfile(f"package/{name}")
    assert member
    return member  # type: ignore[return-value]  # it is one


def _operations(document: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for method, path in OPERATIONS:
        described = _resolve(document["paths"][path][method], document)
        operation = {
            "parameters": [
                {key: one[key] for key in ("name", "in", "required", "schema") if key in one}
                for one in described["parameters"]
            ],
            "answers": sorted(int(code) for code in described["responses"] if code.isdecimal()),
        }
        if "requestBody" in described:
            operation["body"] = described["requestBody"]["content"]["application/json"]["schema"]
            operation["needs_body"] = bool(described["requestBody"].get("required"))
        found[f"{method} {path}"] = operation
    return found


def _resolve(value: Any, document: Mapping[str, Any], names: bool = False) -> Any:
    """With what is referred to in place, without prose, and as JSON Schema has it; a key that is not told is not taken.

    `names` is set for a mapping whose keys are names and no words of the description.
    """
    if isinstance(value, list):
        return [_resolve(one, document) for one in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        target: Any = document
        for word in value["$ref"].removeprefix("#/").split("/"):
            target = target[word]
        return _resolve(target, document)
    if names:
        return {key: _resolve(one, document) for key, one in value.items()}
    read = {
        key: {code: {} for code in one} if key == "responses" else _resolve(one, document, key == "properties")
        for key, one in value.items()
        if key not in ("description", "example", "examples", "default", "title", "nullable", "externalDocs")
    }
    if value.get("nullable") and "type" in read:
        read["type"] = [read["type"], "null"]
    if "properties" in read:
        read.setdefault("additionalProperties", False)
    return read
