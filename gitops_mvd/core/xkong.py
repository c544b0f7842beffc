"""`x-kong` in normal form: what `Service.kong` has.  Pure."""

from __future__ import annotations

from typing import Any, TypedDict

Declaration = dict[str, Any]
"""An entity of Kong, or some of its fields, in Kong's declarative format."""


class XKong(TypedDict):
    """How Kong leads to a service; `port` is the one in the container.  Digests are made of it: no key is renamed."""

    port: int
    protocol: str
    routes: list[Declaration]
    plugins: list[Declaration]
    service: Declaration
    upstream: Declaration
