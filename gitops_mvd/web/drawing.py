"""An app as a drawing: gateway, routes, services, instances, from left to right.  Pure.

It says nothing that the lists beside it do not say; whoever does not see it misses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from gitops_mvd.api.views import AppView, InstanceView, RouteView, ServiceView
from gitops_mvd.core.model import Health
from gitops_mvd.web.shown import kind

NODE_HEIGHT, ROW, TOP = 46, 58, 8
COLUMNS = {"gateway": (4, 104), "route": (168, 240), "service": (468, 200), "instance": (728, 248)}  # left and width
WIDTH = 980
LETTER = 7.1  # of a bold text, in the same unit
SMALL_LETTER = 6.3
MOST_ROWS = 60


@dataclass(frozen=True, slots=True)
class _Node:
    column: str
    middle: float
    title: str
    below: str = ""
    state: str = ""

    @property
    def left(self) -> int:
        return COLUMNS[self.column][0]

    @property
    def right(self) -> int:
        return self.left + COLUMNS[self.column][1]


def draw(app: AppView) -> Markup:
    """The drawing of an app as SVG; "" for one without services, or with more than can be drawn."""
    heights = [max(1, len(it.instances), len(it.routes)) for it in app.services]
    if not heights or sum(heights) > MOST_ROWS:
        return Markup("")
    parts: list[str] = []
    routes: list[_Node] = []
    states: list[str] = []
    first = 0
    for service, height in zip(app.services, heights, strict=True):
        of_service = _service_node(service, _middle(first, height))
        instances = [
            _instance_node(it, app.name, y)
            for it, y in zip(service.instances, _spread(first, height, len(service.instances)), strict=True)
        ]
        for route, y in zip(service.routes, _spread(first, height, len(service.routes)), strict=True):
            node = _route_node(route, y)
            routes.append(node)
            states.append(of_service.state)
            parts.append(_edge(node, of_service, of_service.state))
        parts += [_edge(of_service, it, it.state) for it in instances]
        parts += [_drawn(it) for it in (of_service, *instances)]
        first += height
    parts += [_drawn(it) for it in routes]
    if routes:
        middle = sum(it.middle for it in routes) / len(routes)
        gateway = _Node("gateway", middle, "Kong", "gateway")
        parts += [_edge(gateway, it, state) for it, state in zip(routes, states, strict=True)]
        parts.append(_drawn(gateway))
    left = 0 if routes else COLUMNS["service"][0] - 4
    height = TOP * 2 + first * ROW - (ROW - NODE_HEIGHT)
    return Markup(
        f'<svg class="drawing" viewBox="{left} 0 {WIDTH - left} {height}" width="{WIDTH - left}" height="{height}" '
        f'role="img" aria-labelledby="drawing-title drawing-text">'
        f'<title id="drawing-title">How {escape(app.name)} is reached</title>'
        f'<desc id="drawing-text">{escape(told(app))}</desc>{"".join(parts)}</svg>'
    )


def told(app: AppView) -> str:
    """The same in words."""
    return " ".join(_told(service) for service in app.services)


def _told(service: ServiceView) -> str:
    ways = ", ".join(match for route in service.routes for match in route.matches)
    by = f"Kong leads {ways} to {service.name}. " if ways else ""
    of = ", ".join(f"{it.name} is {it.health}" for it in service.instances) or "no instance"
    return f"{by}{service.name}: {_ready(service)}; {of}."


def _spread(first: int, height: int, number: int) -> Iterable[float]:
    """The middles of so many nodes in the block of a service."""
    return [_middle(first, height) + ROW * (it - (number - 1) / 2) for it in range(number)]


def _middle(first: int, height: int) -> float:
    return TOP + NODE_HEIGHT / 2 + ROW * (first + (height - 1) / 2)


def _service_node(service: ServiceView, middle: float) -> _Node:
    health = service.health if not _is_left(service.instances) else str(Health.PROGRESSING)
    return _Node("service", middle, service.name, _ready(service), health)


def _ready(service: ServiceView) -> str:
    """`1 of 2 ready`, or when it runs if it does not all the time."""
    return f"{service.ready} of {service.wanted} ready" if service.wanted else service.schedule or "a job"


def _is_left(instances: Sequence[InstanceView]) -> bool:
    """Is it between two versions?"""
    return any(it.health == Health.PROGRESSING for it in instances)


def _instance_node(instance: InstanceView, app: str, middle: float) -> _Node:
    more = instance.ports[0] if instance.ports else instance.state
    return _Node("instance", middle, instance.name.removeprefix(f"mvd-{app}-"), more, instance.health)


def _route_node(route: RouteView, middle: float) -> _Node:
    matches = ", ".join(route.matches) or route.name
    return _Node("route", middle, matches, ", ".join(route.plugins) or "no plugins")


def _drawn(node: _Node) -> str:
    left, width = COLUMNS[node.column]
    top = node.middle - NODE_HEIGHT / 2
    room = width - (44 if node.state else 24)
    x = left + (34 if node.state else 12)
    sign = f'<use href="#sign-{kind(node.state)}" x="{left + 10}" y="{node.middle - 8:g}" width="16" height="16"/>'
    return (
        f'<g class="node {node.column} {kind(node.state) if node.state else ""}"><title>{escape(node.title)}'
        f"{f': {escape(node.state)}' if node.state else ''}{f', {escape(node.below)}' if node.below else ''}</title>"
        f'<rect x="{left}" y="{top:g}" width="{width}" height="{NODE_HEIGHT}" rx="7"/>{sign if node.state else ""}'
        f'<text x="{x}" y="{node.middle - 3:g}" class="name">{escape(_cut(node.title, room / LETTER))}</text>'
        f'<text x="{x}" y="{node.middle + 14:g}">{escape(_cut(node.below, room / SMALL_LETTER))}</text></g>'
    )


def _edge(start: _Node, end: _Node, state: str) -> str:
    half = (end.left - start.right) / 2
    return (
        f'<path class="edge {kind(state)}" d="M{start.right} {start.middle:g}C{start.right + half:g} {start.middle:g} '
        f'{end.left - half:g} {end.middle:g} {end.left} {end.middle:g}"/>'
    )


def _cut(text: str, most: float) -> str:
    return text if len(text) <= most else f"{text[: int(most) - 1]}…"
