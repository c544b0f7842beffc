"""A request as a question of the local API: its endpoint, and its parameters in their types.  Pure.

The daemon, the page that hands its API on, and the stand-in of the tests judge a request here alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitops_mvd.api.endpoints import ENDPOINTS, Endpoint, Parameter
from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.redact import told_line


class Wrong(MvdError):
    """A question that cannot be answered as it was asked; `status` is that of HTTP."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status


def find_endpoint(method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
    """The endpoint of a path, and the parameters that the path names.  Raises Wrong."""
    found = [(it, named) for it in ENDPOINTS if (named := _named(it.path, path)) is not None]
    if not found:
        raise Wrong(404, f"there is no {told_line(path, 100)}", "GET /v1/openapi.json tells what there is")
    endpoint, named = found[0]
    if method != endpoint.method and (method != "HEAD" or endpoint.method != "GET" or endpoint.is_stream):
        raise Wrong(405, f"{endpoint.path} takes {endpoint.method}")
    return endpoint, named


def read_parameters(endpoint: Endpoint, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, in the types of the endpoint, with its defaults.  Raises Wrong."""
    known = {parameter.name: parameter for parameter in endpoint.parameters}
    if unknown := sorted(given.keys() - known.keys()):
        raise Wrong(
            400, f"{endpoint.path} has no {told_line(unknown[0], 100)}", f"It has: {', '.join(known) or 'nothing'}"
        )
    return {
        name: _value(parameter, given[name]) if name in given else _default(parameter)
        for name, parameter in known.items()
    }


def _named(pattern: str, path: str) -> dict[str, str] | None:
    """The named parts of a path by a pattern such as `/v1/operations/{id}`; None if it is another path."""
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    named = {}
    for part, value in zip(wanted, given, strict=True):
        if part.startswith("{"):
            named[part.strip("{}")] = value
        elif part != value:
            return None
    return named


def _default(parameter: Parameter) -> str | int | float | bool:
    if parameter.default is None:
        raise Wrong(400, f"{parameter.name} is missing")
    return parameter.default


def _value(parameter: Parameter, given: object) -> str | int | float | bool:
    kind = parameter.kind
    wrong = Wrong(400, f"{parameter.name}: not what it should be ({kind.__name__}): {told_line(str(given), 100)}")
    if kind is str:
        if not isinstance(given, str):
            raise wrong
        return given
    if kind is bool:
        if str(given).lower() not in ("true", "false", "1", "0"):
            raise wrong
        return str(given).lower() in ("true", "1")
    try:
        number = int(str(given)) if kind is int else float(str(given))
    except ValueError:
        raise wrong from None
    if not 0 <= number < 2**53 or (parameter.most and number > parameter.most):
        limit = f" and at most {parameter.most:g}" if parameter.most else ""
        raise Wrong(400, f"{parameter.name}: must be at least 0{limit}")
    return number
