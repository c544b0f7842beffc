"""The templates, the files that go with them, and the addresses that are written into them."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gitops_mvd.web import shown
from gitops_mvd.web.pages import Page

HERE = Path(__file__).parent
WHOLE, PART = "base.html", "fragment.html"  # a page, and what of it changes
SPANS = {"": 0, "1 hour": 3600, "4 hours": 14400, "1 day": 86400, "1 week": 604800}
WORDS = (
    *("ago", "cause", "clock", "image_parts", "kind", "lasted", "outcome", "seconds", "short", "since", "span"),
    *("step_class", "without_digest", "SIGNS"),
)
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Templates:
    """Draws pages.  `prefix` is the path that a proxy has in front of all addresses, "" without one."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._static = {file.name: file.read_bytes() for file in (HERE / "static").iterdir()}
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals.update({name: getattr(shown, name) for name in WORDS})
        self._templates.globals.update(static=self._static_path, at=self.at, version=version("gitops-mvd"), spans=SPANS)

    def draw(self, page: Page, layout: str, **values: Any) -> str:
        """The HTML of a page; `layout` is WHOLE or PART."""
        return self._templates.get_template(page.template).render(page=page, layout=layout, **values, **page.values)

    def at(self, path: str, base: str = "") -> str:
        """The address of a page, as a browser needs it; `base` is the path of the pages of its server."""
        return f"{self._prefix}{base}{path}"

    def _static_path(self, name: str) -> str:
        return self.at(f"/static/{name}?{hashlib.sha256(self._static[name]).hexdigest()[:12]}")

    async def file(self, request: Request) -> Response:
        """Script, style or sign; its address changes with its content, so a browser may keep it."""
        name = request.path_params["name"]
        if name not in self._static:
            return PlainTextResponse("there is no such file", 404)
        headers = {"cache-control": "public, max-age=31536000, immutable"}
        return Response(self._static[name], media_type=TYPES[Path(name).suffix], headers=headers)
