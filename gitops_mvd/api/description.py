"""The local API as OpenAPI 3.1, made of its endpoints and of the types of their answers.  Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from gitops_mvd.api.endpoints import ACTING_SOCKET, ENDPOINTS, SOCKET, Endpoint, Parameter
from gitops_mvd.api.views import ErrorView

JSON, LINES = "application/json", "application/x-ndjson"
WORDS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def openapi(version: str) -> dict[str, Any]:
    """The description, with the version of gitops-mvd in it."""
    answers = [endpoint.answer for endpoint in ENDPOINTS] + [ErrorView]
    schemas, components = msgspec.json.schema_components(answers, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for endpoint, schema in zip(ENDPOINTS, schemas, strict=False):
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schema, schemas[-1])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "The local API of gitops-mvd",
            "version": version,
            "description": f"Reads are answered on the unix socket {SOCKET}, acts on {ACTING_SOCKET}, as HTTP/1.1.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(endpoint: Endpoint, answer: Any, error: Any) -> dict[str, Any]:
    form = endpoint.form or (LINES if endpoint.is_stream else JSON)
    described: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.what,
        "responses": {
            "200": {"description": _of_stream(endpoint), "content": {form: {"schema": answer}}},
            "default": {"description": "Why there is no answer.", "content": {JSON: {"schema": error}}},
        },
    }
    if endpoint.method == "GET":
        described["parameters"] = [
            {
                "name": it.name,
                "in": "path" if f"{{{it.name}}}" in endpoint.path else "query",
                "description": it.what,
                "required": it.default is None,
                "schema": _schema(it),
            }
            for it in endpoint.parameters
        ]
    else:
        properties = {it.name: {**_schema(it), "description": it.what} for it in endpoint.parameters}
        required = [it.name for it in endpoint.parameters if it.default is None]
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        described["requestBody"] = {"required": bool(required), "content": {JSON: {"schema": schema}}}
    return described


def _of_stream(endpoint: Endpoint) -> str:
    return "A line of JSON for each, and an empty line now and then." if endpoint.is_stream else "The answer."


def _schema(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": WORDS[parameter.kind]}
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.kind in (int, float):
        schema["minimum"] = 0
    if parameter.most:
        schema["maximum"] = parameter.most
    return schema
