"""What Kong's own settings cost a deploy, as `GET /` shows them.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.entities import Fields


def costs(node: Fields, *, counts_requests: bool) -> Iterator[str]:
    """A sentence for each setting that a deploy waits for; `counts_requests` if Kong tells idle from busy."""
    found = node.get("configuration")
    settings: Mapping[str, JsonValue] = found if isinstance(found, Mapping) else {}
    idle = _seconds(settings, "upstream_keepalive_idle_timeout")
    if idle and settings.get("upstream_keepalive_pool_size") != 0:
        kept = f"upstream_keepalive_idle_timeout {idle:g} s: Kong keeps idle connections to instances for so long"
        if counts_requests:
            yield f"{kept}, which costs nothing: Kong counts its open requests, and an old instance stops at the last"
        else:
            yield f"{kept}, and nobody can tell them from busy ones here: an old instance gets its stop_grace_period"
    if settings.get("database") == "off":
        yield "no database: a change is used at once"
        return
    workers = _seconds(settings, "worker_state_update_frequency")
    if settings.get("worker_consistency") == "strict":
        yield "worker_consistency strict: a changed route is used at once, and requests wait while it is built in"
    elif workers:
        yield (
            f"worker_consistency eventual, worker_state_update_frequency {workers:g} s: a new or changed route takes "
            "up to that long; other targets of a route, as in most deploys, take none of it"
        )
    if nodes := _seconds(settings, "db_update_frequency"):
        yield f"db_update_frequency {nodes:g} s: other nodes of this Kong have a change after up to that long"


def _seconds(settings: Mapping[str, JsonValue], name: str) -> float:
    value = settings.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
